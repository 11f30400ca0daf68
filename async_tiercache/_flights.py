"""The flights of one cache: which one a reader of a key joins, and how it waits.

Waiters are shielded from each other: cancelling one touches nobody else, and the last one to go
takes the load with it (or not, `on_abandon`). An invalidation detaches a flight: its waiters still
get its value, later readers start their own.
"""

import asyncio
from collections.abc import Callable, Collection, Generator, Sequence
from contextlib import contextmanager

from async_tiercache._flight import Flight, Home
from async_tiercache._inside import CURRENT, begin_wait
from async_tiercache._outcome import Outcome


class Flights(Home):
    """The flights of one cache, one per key.

    Attributes:
        by_key: The flight that readers of each key join.
        fenced: The flight that loads each key under a fence, which may be detached; the last one.
        puts: What ends with the last write of each key whose value was known when it began.
    """

    __slots__ = ("by_key", "fenced", "puts")

    def __init__(self, now: Callable[[], float]) -> None:
        super().__init__(now)
        self.by_key: dict[str, Flight] = {}
        self.fenced: dict[str, Flight] = {}
        self.puts: dict[str, asyncio.Future[None]] = {}

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
        self.detach(flight.key)
        self.by_key[flight.key] = flight
        flight.joinable = True

    def end(self, flight: Flight) -> None:
        """Let no more readers join the flight."""
        if self.by_key.get(flight.key) is flight:
            self.detach(flight.key)

    def detach(self, key: str) -> Flight | None:
        """Let later readers of the key start a flight of their own; return the last one."""
        flight = self.by_key.pop(key, None)
        if flight is not None:
            flight.joinable = False
        return flight

    def forget(self) -> None:
        """Drop flights that belong to a loop that is gone."""
        for key in self.keys():
            self.detach(key)
        self.fenced.clear()
        self.puts.clear()

    def end_fenced(self, flight: Flight) -> None:
        """Note that a flight loads no more."""
        if self.fenced.get(flight.key) is flight:
            del self.fenced[flight.key]

    @contextmanager
    def put(self, key: str) -> Generator[None]:
        """Let who finds nothing for a key wait while a value is put there."""
        ended = self.puts[key] = asyncio.get_running_loop().create_future()
        try:
            yield
        finally:
            if self.puts.get(key) is ended:
                del self.puts[key]
            ended.set_result(None)

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
