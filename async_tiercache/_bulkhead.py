"""The bulkhead: bounds the loads that run at the same time, so that the source is not crushed."""

import asyncio
from collections.abc import Generator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from async_tiercache._flight import Flight


class Bulkhead:
    """Lets loads through, the longest waiting first.

    A load that another load waits for needs no turn: the other may hold the turn that this one
    would wait for.

    Args:
        limit: How many loads may run at the same time; `None` for any number.
    """

    __slots__ = ("_limit", "_places", "_turns")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.restart()

    def restart(self) -> None:
        """Forget the loads of a loop that is gone."""
        self._turns = self._limit or 0
        # Each is told whether it was given a turn, or may go without one.
        self._places: dict[asyncio.Future[bool], None] = {}

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._places)

    @property
    def bounded(self) -> bool:
        """Whether a load may have to wait at all."""
        return self._limit is not None

    @property
    def full(self) -> bool:
        """Whether a load that comes now has to wait."""
        return self._limit is not None and not self._turns

    async def turn(self, flights: Sequence[Flight]) -> AbstractContextManager[None]:
        """Wait for a turn; it is held for as long as the context lasts that is returned.

        Args:
            flights: What is loaded for.
        """
        places = self._places
        return self._held(places) if await self._turn(flights) else nullcontext()

    @contextmanager
    def _held(self, places: dict[asyncio.Future[bool], None]) -> Generator[None]:
        try:
            yield
        finally:
            # What a loop that is gone has left behind may end at any time.
            if places is self._places:
                self._give_back()

    async def _turn(self, flights: Sequence[Flight]) -> bool:
        """Return when the load may run, and whether it holds a turn."""
        if self._limit is None or any(flight.urgent for flight in flights):
            return False
        if self._turns:
            self._turns -= 1
            return True
        place: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._places[place] = None

        def go_without() -> None:
            if not place.done():
                place.set_result(False)

        for flight in flights:
            flight.hurry = go_without
        try:
            return await place
        except asyncio.CancelledError:
            if not place.cancelled() and place.result():
                self._give_back()
            raise
        finally:
            self._places.pop(place, None)
            for flight in flights:
                flight.hurry = None

    def _give_back(self) -> None:
        for place in self._places:
            if not place.done():
                place.set_result(True)
                return
        self._turns += 1
