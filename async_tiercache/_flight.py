"""Single flight: one load in progress per key in this process, and the loader at work for it.

A flight belongs to the first caller's context. It waits for its loader, and that for the flights of
its parts, so the two refer to one another.
"""

import asyncio
import itertools
import math
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

from async_tiercache._basis import Basis
from async_tiercache._entry import Entry
from async_tiercache._events import Operation
from async_tiercache._outcome import Outcome, copy_of
from async_tiercache.abc import Codec

_NUMBERS: Final = itertools.count()


class Home:
    """The cache to which flights belong.

    Attributes:
        now: Tells the time by the remote tier's clock.
    """

    __slots__ = ("now",)

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now


class Loading:
    """A loader at work: for one flight, or for those of several ids at once.

    Attributes:
        flights: What it loads for.
        number: Grows with each flight and each loader that begins; what is taken in counts anew.
        running: Whether it still runs; its context may outlive it in tasks that it has started.
        waits_for: The flights whose outcome it awaits, and how often.
    """

    __slots__ = ("_keys", "_parents", "flights", "number", "running", "waits_for")

    def __init__(self, *flights: "Flight") -> None:
        self.flights: list[Flight] = []
        self.running = True
        self.waits_for: dict[Flight, int] = {}
        self._keys: set[tuple[Home, str]] = set()
        self._parents: set[Loading] = set()
        self.number = -1
        for flight in flights:
            self.take_in(flight)

    def take_in(self, flight: "Flight") -> None:
        """Load for a flight, too."""
        # What began before the last of them may be too old for that one.
        self.number = next(_NUMBERS)
        self.flights.append(flight)
        self._keys.add((flight.home, flight.key))
        if flight.parent is not None:
            self._parents.add(flight.parent)

    def rest_on(self, home: Home, part: Basis, outcome: Outcome) -> None:
        """Let what is loaded rest on what a read inside of the loader has got.

        Tags of another cache mean nothing here, but nothing is fresh longer than its parts: what is
        made from a stale one is so from its begin, and not kept.
        """
        for flight in self.flights:
            if flight.home is home:
                flight.basis.absorb(part)
                flight.part_tags = flight.part_tags.union(part.tags)
                flight.basis.limit(outcome.fresh_until, sound=True)
            else:
                # Another cache may go by another clock, so what counts is how long is left.
                left = min(part.fresh_until, outcome.fresh_until) - home.now()
                flight.basis.limit(flight.home.now() + left, sound=part.sound)

    def begin_wait(self, flight: "Flight") -> None:
        """Note that this loader waits for a flight, which must not wait for its turn then."""
        self.waits_for[flight] = self.waits_for.get(flight, 0) + 1
        flight.urge()

    def end_wait(self, flight: "Flight") -> None:
        """Note that one wait for a flight is over."""
        self.waits_for[flight] -= 1
        if not self.waits_for[flight]:
            del self.waits_for[flight]

    def encloses(self, inner: "Flight") -> bool:
        """Return whether this loader, or one further out, loads the key of another flight."""
        if self.running and (inner.home, inner.key) in self._keys:
            return True
        return any(parent.encloses(inner) for parent in self._parents)


class Flight:
    """One load in progress.

    Attributes:
        home: The flights of its cache.
        codec: The codec of its value.
        key: The key's text.
        basis: What its value rests on.
        part_tags: The tags of the parts that its loader has read.
        began_at: When it began, on the remote tier's clock.
        forced: Whether a stored value must not answer it (`refresh`).
        many: Whether it was begun by a batch, for which an absent id is an answer.
        cancel_when_abandoned: Whether the last waiter's going cancels the load.
        decode: Makes each waiter a value of its own, if they share nothing.
        offered: What readers may have at once while the flight goes on.
        offered_until: Until when they may, on the remote tier's clock.
        answered: Whether those who waited have that, so that nobody needs to wait for the load.
        outcome: What it has ended with, once it has.
        joinable: Whether later readers of the key join it.
        task: The task that runs the load, unless its first caller does.
        parent: The loader in which this flight began.
        number: Grows with each flight and each loader that begins.
        loading: The loader at work for it.
        operation: Its load as a tracer sees it, once that has begun.
        load_began_at: When its load had its turn, on the remote tier's clock.
        load_seconds: How long that took from then on.
        queued_seconds: How long it has waited for its turn, before it had a lease.
        proving: Tells whether tags that the loader has named may be relied upon, if it has.
        storing: Whether the loaded value is on its way into L2, which ends the flight.
        floor: When it was shown although it was overtaken, on the remote tier's clock.
        floor_before: What the floor of its key was before.
        kept: The entry in L1 that is due for a refresh.
        urgent: Whether a loader has begun to wait for it; nothing that waits for that loader must
            be waited for.
        hurry: Is called when that begins.
    """

    __slots__ = (
        "_pristine",
        "_traceback",
        "_waiters",
        "answered",
        "basis",
        "began_at",
        "cancel_when_abandoned",
        "codec",
        "decode",
        "floor",
        "floor_before",
        "forced",
        "home",
        "hurry",
        "joinable",
        "kept",
        "key",
        "load_began_at",
        "load_seconds",
        "loading",
        "many",
        "number",
        "offered",
        "offered_until",
        "operation",
        "outcome",
        "parent",
        "part_tags",
        "proving",
        "queued_seconds",
        "storing",
        "task",
        "urgent",
    )

    def __init__(
        self,
        home: Home,
        *,
        codec: Codec,
        basis: Basis,
        began_at: float,
        parent: Loading | None,
        forced: bool,
        many: bool,
        cancel: bool,
        decode: Callable[[bytes | memoryview], Any] | None,
    ) -> None:
        self.home = home
        self.codec = codec
        self.key = basis.key
        self.number = next(_NUMBERS)
        self.basis = basis
        self.part_tags: frozenset[str] = frozenset()
        self.began_at = began_at
        self.forced = forced
        self.many = many
        self.cancel_when_abandoned = cancel
        self.decode = decode
        self.kept: Entry | None = None
        self.offered: Outcome | None = None
        self.offered_until = math.inf
        self.answered = False
        self.joinable = False
        self.outcome: Outcome | None = None
        self.parent = parent
        self.loading: Loading | None = None
        self.operation: Operation | None = None
        self.load_began_at = began_at
        self.load_seconds = 0.0
        self.queued_seconds = 0.0
        self.storing = False
        self.floor = math.nan
        self.floor_before = -math.inf
        self.proving: asyncio.Task[bool] | None = None
        self.urgent = False
        self.hurry: Callable[[], object] | None = None
        self.task: asyncio.Task[None] | None = None
        self._waiters: dict[asyncio.Future[Outcome], None] = {}
        self._pristine: BaseException | None = None
        self._traceback: TracebackType | None = None

    def resolve(self, outcome: Outcome) -> None:
        """Give the waiters their outcome; the first one counts."""
        if self.outcome is None:
            self.outcome = outcome
            self._give(outcome)

    def answer(self, now: float) -> None:
        """Give the waiters what is offered, unless that is dead; the load goes on behind them."""
        offer = self.offer(now)
        if offer is not None:
            self.answered = True
            self._give(offer)

    def offer(self, now: float) -> Outcome | None:
        """Return what readers may have at once by now, on the remote tier's clock."""
        if self.offered is None or now >= self.offered_until:
            return None
        return self.offered.at(now)

    def _give(self, outcome: Outcome) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(outcome)

    def wait(self) -> "asyncio.Future[Outcome]":
        """Return a waiter's own future of the outcome; `leave` ends the wait."""
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        return waiter

    def leave(self, waiter: "asyncio.Future[Outcome]") -> None:
        """Wait no longer; the last waiter to be cancelled may take the load with it."""
        waiter.cancel()
        # Who waits for others may be cancelled by the last of them when it has the outcome already.
        self._waiters.pop(waiter, None)

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for an outcome that is still to come, and nobody was answered."""
        return self.outcome is None and not self.answered and not self._waiters

    def value_of(self, outcome: Outcome, *, joined: bool) -> Any:
        """Return the outcome's value, or raise its error: the waiter's own copy of it.

        Args:
            outcome: What the flight ended with, or offered.
            joined: Whether the waiter is another one than who began the flight.
        """
        error = outcome.error
        if error is None:
            if joined and outcome.payload and self.decode is not None:
                return self.decode(outcome.payload)
            return outcome.value
        if self._pristine is None:
            # The first waiter gets the error itself, and may write into it from here on.
            self._pristine, self._traceback = copy_of(error), error.__traceback__
            raise error
        raise copy_of(self._pristine).with_traceback(self._traceback)

    def urge(self) -> None:
        """Let the load go without a turn: the loader that waits for it holds one."""
        self.urgent = True
        if self.hurry is not None:
            self.hurry()

    @property
    def parts(self) -> "list[Flight]":
        """The flights of the same cache that its loader waits for."""
        loading = self.loading
        awaited = () if loading is None else loading.waits_for
        return [flight for flight in awaited if flight.home is self.home]

    def leads_to(self, loading: Loading) -> bool:
        """Return whether this flight waits for the loader, directly or through others."""
        seen: set[Loading] = set()
        ahead = [self.loading]
        while ahead and loading not in seen:
            mine = ahead.pop()
            if mine is not None and mine not in seen:
                seen.add(mine)
                ahead += [flight.loading for flight in mine.waits_for]
        return loading in seen
