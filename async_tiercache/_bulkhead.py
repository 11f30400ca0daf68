"""The bulkhead: bounds the loads that run at the same time, so that the source is not crushed."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

from async_tiercache._flight import Flight


class Bulkhead:
    """Lets loads through, the longest waiting first.

    A load that another load waits for needs no turn: the other may hold the turn that this one
    would wait for.

    Args:
        limit: How many loads may run at the same time; `None` for any number.

    Attributes:
        running: How many run.
    """

    __slots__ = ("_limit", "_places", "_turns", "running")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.restart()

    def restart(self) -> None:
        """Forget the loads of a loop that is gone."""
        self._turns = self._limit or 0
        # Each is told whether it was given a turn, or may go without one.
        self._places: dict[asyncio.Future[bool], None] = {}
        self.running = 0

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return len(self._places)

    @property
    def full(self) -> bool:
        """Whether a load that comes now has to wait."""
        return self._limit is not None and not self._turns

    @asynccontextmanager
    async def turn(self, flights: Sequence[Flight]) -> AsyncGenerator[None]:
        """Wait for a turn and hold it.

        Args:
            flights: What is loaded for.
        """
        places = self._places
        held = await self._turn(flights)
        self.running += 1
        try:
            yield
        finally:
            # What a loop that is gone has left behind may end at any time.
            if places is self._places:
                self.running -= 1
                if held:
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
