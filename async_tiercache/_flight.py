"""Single flight: one load in progress per key in this process, shared by its waiters.

A flight belongs to the first caller's context. Waiters are shielded from each other: cancelling one
touches nobody else, and the last one to go takes the load with it (or not, `on_abandon`). An
invalidation detaches a flight: its waiters still get its value, later readers start their own.
"""

import asyncio
import copy
import itertools
import math
from collections import Counter
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, NamedTuple

from async_tiercache._entry import Entry, Tier
from async_tiercache._events import Operation, State
from async_tiercache._ledger import Basis
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, Codec
from async_tiercache.errors import LoadCancelledError, RecursiveLoadError


class Outcome(NamedTuple):
    """What a flight ends with.

    Attributes:
        value: The value, unless there is an error.
        tier: Which tier answered.
        state: How fresh the value is.
        error: What the loader raised.
        age: How long past its time a stale value is, in seconds.
        fresh_until: Until when the value is fresh, by the remote tier's clock.
        payload: The encoded value, from which callers that share nothing get their own.
        basis: What it rests on, if that is another thing than what is being loaded.
    """

    value: Any = None
    tier: Tier = "loader"
    state: State = "fresh"
    error: BaseException | None = None
    age: float = 0.0
    fresh_until: float = math.inf
    payload: bytes | memoryview = b""
    basis: Basis | None = None

    def at(self, now: float) -> "Outcome":
        """Return an old value as old as it is by now, on the remote tier's clock."""
        if self.state == "fresh" or (self.state == "early" and now < self.fresh_until):
            return self
        return self._replace(state="stale", age=now - self.fresh_until)


_NUMBERS: Final = itertools.count()

ABANDONED: Final = Outcome()
"""The caller in whose life the load ran was cancelled; who still wants the value starts over."""


def cancelled_load(what: str) -> LoadCancelledError:
    """Return the error of a load that was ended by none of its callers."""
    return LoadCancelledError(
        f"{what} was cancelled",
        hint="The cache was closed meanwhile; else the cause says what its loader raised.",
    )


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
        self.waits_for: Counter[Flight] = Counter()
        self._keys: set[tuple[Flights, str]] = set()
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

    def rest_on(self, home: "Flights", part: Basis, outcome: Outcome) -> None:
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
        self.waits_for[flight] += 1
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


CURRENT: Final[ContextVar[Loading | None]] = ContextVar("tiercache_loading", default=None)
"""The loader in which this runs."""


RUNNING: Final[set[Loading]] = set()
"""The loaders at work in this process, of whatever cache: a hit is inside of none if there is none.

What one cache holds may be read inside of a load of another, so it is not for each cache to know.
"""


def inside() -> Loading | None:
    """Return the loader in which this runs, while it runs."""
    loading = CURRENT.get()
    return loading if loading is not None and loading.running else None


def keep_nothing() -> None:
    """Let what the load around this brings be kept nowhere: it reads what may not be committed."""
    loading = inside()
    for flight in () if loading is None else loading.flights:
        flight.basis.sound = False


def tags_rested_on() -> frozenset[str]:
    """Return what the load around this stands under by now, by what was read inside of it."""
    loading = inside()
    flights = () if loading is None else loading.flights
    texts = {tag for flight in flights for tag in flight.basis.tags}
    return frozenset(texts - {NAMESPACE, TAG_EPOCH})


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
        home: "Flights",
        *,
        codec: Codec,
        basis: Basis,
        began_at: float,
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
        self.outcome: Outcome | None = None
        self.parent = CURRENT.get()
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


class Answer(NamedTuple):
    """How a call was answered.

    Attributes:
        flight: The flight that did.
        outcome: What it ended with, or offered meanwhile.
        joined: Whether the flight was another call's.
    """

    flight: Flight
    outcome: Outcome
    joined: bool


class Flights:
    """The flights of one cache, one per key.

    Attributes:
        now: Tells the time by the remote tier's clock.
        by_key: The flight that readers of each key join.
        fenced: The flight that loads each key under a fence, which may be detached; the last one.
    """

    __slots__ = ("by_key", "fenced", "now")

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.by_key: dict[str, Flight] = {}
        self.fenced: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self.by_key)

    def keys(self) -> list[str]:
        """Return the keys that are being loaded."""
        return list(self.by_key)

    def find(self, key: str) -> Flight | None:
        """Return the flight that readers of the key join."""
        return self.by_key.get(key)

    def begin(self, flight: Flight) -> None:
        """Let readers of the flight's key join it from here on."""
        self.by_key[flight.key] = flight

    def end(self, flight: Flight) -> None:
        """Let no more readers join the flight."""
        if self.by_key.get(flight.key) is flight:
            del self.by_key[flight.key]

    def detach(self, key: str) -> Flight | None:
        """Let later readers of the key start a flight of their own; return the last one."""
        return self.by_key.pop(key, None)

    def forget(self) -> None:
        """Drop flights that belong to a loop that is gone."""
        self.by_key.clear()
        self.fenced.clear()

    def end_fenced(self, flight: Flight) -> None:
        """Note that a flight loads no more."""
        if self.fenced.get(flight.key) is flight:
            del self.fenced[flight.key]

    @contextmanager
    def behind_fence(self, flight: Flight) -> Generator[None]:
        """Let what hurries a flight hurry the one whose fence it waits for.

        That may wait for the turn of the very loader that waits for this one.
        """
        fenced = self.fenced.get(flight.key)
        if fenced is None:
            yield
            return
        flight.hurry = fenced.urge
        if flight.urgent:
            fenced.urge()
        try:
            yield
        finally:
            flight.hurry = None

    def at_once(
        self, flight: Flight, *, patient: bool = False, stale: bool = True
    ) -> Outcome | None:
        """Return what a reader gets of a flight without waiting for it.

        Args:
            flight: The flight.
            patient: Whether the reader waits as long as others do who began the flight.
            stale: Whether a stale value will do.
        """
        if flight.outcome is not None or (patient and not flight.answered):
            return flight.outcome
        offer = flight.offer(self.now())
        return None if offer is not None and offer.state == "stale" and not stale else offer

    async def join(self, flight: Flight, *, patient: bool = False, stale: bool = True) -> Outcome:
        """Return the flight's outcome, or what it offers meanwhile.

        Args:
            flight: The flight to join.
            patient: Wait even if something is offered, as the first caller does.
            stale: Whether something stale that is offered will do.

        Raises:
            RecursiveLoadError: The flight waits for the load from which this is called.
        """
        current, waiter = begin_wait(flight), None
        try:
            outcome = self.at_once(flight, patient=patient, stale=stale)
            while outcome is None:
                waiter = flight.wait()
                outcome = await waiter
                if outcome.state == "stale" and not stale and flight.outcome is None:
                    # It is offered, for want of patience; the load goes on.
                    flight.leave(waiter)
                    outcome = None
            return outcome
        finally:
            if waiter is not None:
                flight.leave(waiter)
            if current is not None:
                current.end_wait(flight)
            if flight.abandoned:
                self._let_go(flight)

    async def join_all(
        self, flights: Sequence[Flight], *, patient: Collection[Flight] = ()
    ) -> list[Outcome]:
        """Return the outcome of each flight, or what it offers meanwhile.

        Whoever waits for one of them wants them all, so none is abandoned before the last is there.

        Args:
            flights: The flights to join.
            patient: Those that are awaited even if something is offered.

        Raises:
            RecursiveLoadError: A flight waits for the load from which this is called.
        """
        begun: list[Flight] = []
        current = CURRENT.get()
        outcomes: list[Outcome | asyncio.Future[Outcome]] = []
        try:
            for flight in flights:
                current = begin_wait(flight)
                begun.append(flight)
                outcome = self.at_once(flight, patient=flight in patient)
                outcomes.append(outcome or flight.wait())
            return [each if isinstance(each, Outcome) else await each for each in outcomes]
        finally:
            for flight, each in zip(begun, outcomes, strict=False):
                if isinstance(each, asyncio.Future):
                    flight.leave(each)
            for flight in begun:
                if current is not None:
                    current.end_wait(flight)
                self._let_go(flight)

    @contextmanager
    def held(self, flights: Sequence[Flight]) -> Generator[None]:
        """Keep flights from being abandoned until somebody has joined them."""
        waits = [(flight, flight.wait()) for flight in flights if flight.outcome is None]
        try:
            yield
        finally:
            for flight, waiter in waits:
                flight.leave(waiter)
                self._let_go(flight)

    def leave(self, flight: Flight, waiter: "asyncio.Future[Outcome]") -> None:
        """End a wait for the flight; the last one may take the load with it."""
        flight.leave(waiter)
        self._let_go(flight)

    def _let_go(self, flight: Flight) -> None:
        """Cancel a load that nobody waits for any more, unless it is to be finished."""
        if flight.abandoned and flight.task is not None and flight.cancel_when_abandoned:
            self.end(flight)
            flight.task.cancel()


def begin_wait(flight: Flight) -> Loading | None:
    """Note that the loader from which this is called waits for `flight`, and return that loader.

    The caller ends the wait with `end_wait`.

    Raises:
        RecursiveLoadError: The flight waits for that loader, or is for a key that is being loaded
            further out, so it would never end.
    """
    current = CURRENT.get()
    if current is None or not current.running:
        return None
    if current.encloses(flight) or flight.leads_to(current):
        key = current.flights[0].key
        raise RecursiveLoadError(
            f"The load of {key!r} waits for {flight.key!r}, which waits for it",
            key=flight.key,
            hint="Let the loader read the source instead of its own cached function.",
        )
    current.begin_wait(flight)
    return current


def copy_of(error: BaseException) -> BaseException:
    """Return a copy with the same traceback, so that waiters do not write into each other's.

    An error whose class does not allow it is shared.
    """
    try:
        twin = copy.copy(error)
        if type(twin) is not type(error) or twin.args != error.args:
            return error
        twin.__cause__, twin.__context__ = error.__cause__, error.__context__
        twin.__suppress_context__ = error.__suppress_context__
        if hasattr(error, "__notes__"):
            twin.__notes__ = list(error.__notes__)
        return twin.with_traceback(error.__traceback__)
    except Exception:  # noqa: BLE001 - an error class may refuse to be looked at in any way
        return error
