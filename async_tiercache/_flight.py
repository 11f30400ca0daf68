"""Single flight: one load in progress per key in this process, shared by its waiters.

A flight belongs to the first caller's context. Waiters are shielded from each other: cancelling one
touches nobody else, and the last one to go takes the load with it (or not, `on_abandon`). An
invalidation detaches a flight: its waiters still get its value, later readers start their own.
"""

import asyncio
import copy
import math
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Final, NamedTuple

from async_tiercache._entry import Entry, Tier
from async_tiercache._events import State
from async_tiercache.errors import RecursiveLoadError


class Outcome(NamedTuple):
    """What a flight ends with.

    Attributes:
        value: The value, unless there is an error.
        tier: Which tier answered.
        state: How fresh the value is.
        error: What the loader raised.
    """

    value: Any = None
    tier: Tier = "loader"
    state: State = "fresh"
    error: BaseException | None = None


ABANDONED: Final = Outcome()
"""The caller in whose life the load ran was cancelled; who still wants the value starts over."""


CURRENT: Final[ContextVar["Flight | None"]] = ContextVar("tiercache_flight", default=None)
"""The flight in whose load this runs."""


class Flight:
    """One load in progress.

    Attributes:
        home: The flights of its cache.
        key: The key's text.
        generation: The key's generation when the flight began.
        began_at: When it began, on the remote tier's clock.
        forced: Whether a stored value must not answer it (`refresh`).
        cancel_when_abandoned: Whether the last waiter's going cancels the load.
        offered: What readers may have at once while the flight goes on.
        offered_until: When that is dead, on the remote tier's clock.
        outcome: What the waiters get, once it is there.
        task: The task that runs the load, unless its first caller does.
        parent: The flight in whose load this one began.
        loading: Whether its loader runs.
        storing: Whether the loaded value is on its way into L2, which ends the flight.
        kept: The entry in L1 that is due for a refresh.
    """

    __slots__ = (
        "_pristine",
        "_traceback",
        "_waiters",
        "began_at",
        "cancel_when_abandoned",
        "forced",
        "generation",
        "home",
        "kept",
        "key",
        "loading",
        "offered",
        "offered_until",
        "outcome",
        "parent",
        "storing",
        "task",
        "waits_for",
    )

    def __init__(
        self,
        home: "Flights",
        key: str,
        *,
        generation: int,
        began_at: float,
        forced: bool,
        cancel: bool,
    ) -> None:
        self.home = home
        self.key = key
        self.generation = generation
        self.began_at = began_at
        self.forced = forced
        self.cancel_when_abandoned = cancel
        self.kept: Entry | None = None
        self.offered: Outcome | None = None
        self.offered_until = math.inf
        self.outcome: Outcome | None = None
        self.parent = CURRENT.get()
        self.loading = False
        self.storing = False
        self.task: asyncio.Task[None] | None = None
        self.waits_for: list[Flight] = []
        self._waiters: dict[asyncio.Future[Outcome], None] = {}
        self._pristine: BaseException | None = None
        self._traceback: TracebackType | None = None

    def resolve(self, outcome: Outcome) -> None:
        """Give the waiters their outcome; the first one counts."""
        if self.outcome is None:
            self.outcome = outcome
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(outcome)

    async def landed(self) -> Outcome:
        """Return the outcome; the last waiter to be cancelled may take the load with it."""
        if self.outcome is not None:
            return self.outcome
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiters[waiter] = None
        try:
            return await waiter
        finally:
            del self._waiters[waiter]

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for an outcome that is still to come."""
        return self.outcome is None and not self._waiters

    def value_of(self, outcome: Outcome) -> Any:
        """Return the outcome's value, or raise its error: the waiter's own copy of it."""
        error = outcome.error
        if error is None:
            return outcome.value
        if self._pristine is None:
            # The first waiter gets the error itself, and may write into it from here on.
            self._pristine, self._traceback = _copy_of(error), error.__traceback__
            raise error
        raise _copy_of(self._pristine).with_traceback(self._traceback)

    def loads_for(self, inner: "Flight") -> bool:
        """Return whether this flight's loader runs, for the same key as the other flight's."""
        return self.loading and self.home is inner.home and self.key == inner.key

    def leads_to(self, other: "Flight") -> bool:
        """Return whether this flight waits for the other, directly or through more."""
        return self is other or any(flight.leads_to(other) for flight in self.waits_for)


class Flights:
    """The flights of one cache, one per key."""

    __slots__ = ("_by_key",)

    def __init__(self) -> None:
        self._by_key: dict[str, Flight] = {}

    def __len__(self) -> int:
        return len(self._by_key)

    def find(self, key: str) -> Flight | None:
        """Return the flight that readers of the key join."""
        return self._by_key.get(key)

    def begin(self, flight: Flight) -> None:
        """Let readers of the flight's key join it from here on."""
        self._by_key[flight.key] = flight

    def end(self, flight: Flight) -> None:
        """Let no more readers join the flight."""
        if self._by_key.get(flight.key) is flight:
            del self._by_key[flight.key]

    def detach(self, key: str) -> None:
        """Let later readers of the key start a flight of their own."""
        self._by_key.pop(key, None)

    def forget(self) -> None:
        """Drop flights that belong to a loop that is gone."""
        self._by_key.clear()

    async def join(self, flight: Flight, *, patient: bool = False) -> Outcome:
        """Return the flight's outcome, or what it offers meanwhile.

        Args:
            flight: The flight to join.
            patient: Wait for the outcome even if something is offered, as the first caller does.

        Raises:
            RecursiveLoadError: The flight waits for the load from which this is called.
        """
        current = begin_wait(flight)
        try:
            if flight.outcome is None and flight.offered is not None and not patient:
                return flight.offered
            return await flight.landed()
        finally:
            if current is not None:
                current.waits_for.remove(flight)
            if flight.abandoned and flight.task is not None and flight.cancel_when_abandoned:
                self.end(flight)
                flight.task.cancel()


def begin_wait(flight: Flight) -> Flight | None:
    """Note that the load from which this is called waits for `flight`, and return that load.

    The caller removes `flight` from its `waits_for` when the wait is over.

    Raises:
        RecursiveLoadError: The flight waits for that load, or is for a key that is being loaded
            further out, so it would never end.
    """
    current = CURRENT.get()
    if current is None or not current.loading:
        return None
    outer: Flight | None = current
    while outer is not None and not outer.loads_for(flight):
        outer = outer.parent
    if outer is not None or flight.leads_to(current):
        raise RecursiveLoadError(
            f"The load of {current.key!r} waits for {flight.key!r}, which waits for it",
            key=flight.key,
            hint="Let the loader read the source instead of its own cached function.",
        )
    current.waits_for.append(flight)
    return current


def _copy_of(error: BaseException) -> BaseException:
    """Return a copy with the same traceback, so that waiters do not write into each other's.

    An error whose class does not allow it is shared.
    """
    try:
        twin = copy.copy(error)
    except Exception:  # noqa: BLE001 - an error class may refuse to be copied in any way
        return error
    if type(twin) is not type(error) or twin.args != error.args:
        return error
    twin.__cause__, twin.__context__ = error.__cause__, error.__context__
    twin.__suppress_context__ = error.__suppress_context__
    if hasattr(error, "__notes__"):
        twin.__notes__ = list(error.__notes__)
    return twin.with_traceback(error.__traceback__)
