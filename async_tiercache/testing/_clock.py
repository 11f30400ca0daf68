"""A clock that moves only when a test says so."""

import asyncio
import heapq
import itertools
from typing import Final

_TICKS: Final = 25  # loop ticks in which whoever was woken gets to act


class FakeClock:
    """Time and chance under control, as `abc.Clock`.

    Args:
        draw: What `random` returns, from 0 to below 1. 0.0 means no jitter and no early expiration.

    Example:
        >>> import asyncio
        >>> clock = FakeClock()
        >>> async def nap() -> float:
        ...     napping = asyncio.create_task(clock.sleep(60))
        ...     await clock.advance(60)
        ...     await napping
        ...     return clock.monotonic()
        >>> asyncio.run(nap())
        1060.0
    """

    def __init__(self, *, draw: float = 0.0) -> None:
        self.draw = draw
        self._now = 1000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._timeouts: list[tuple[float, asyncio.Timeout, asyncio.AbstractEventLoop]] = []

    def monotonic(self) -> float:
        """Return the time in seconds, 1000.0 at first."""
        return self._now

    def wall(self) -> float:
        """Return seconds since the epoch; the clock starts in the year 2023."""
        return 1_700_000_000.0 + self._now

    def random(self) -> float:
        """Return `draw`."""
        return self.draw

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been advanced by `seconds`."""
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), wake))
        await wake

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """Return a context that raises `TimeoutError` once the clock has passed `seconds`."""
        timeout = asyncio.timeout(None)
        if seconds is not None:
            loop = asyncio.get_running_loop()
            self._timeouts.append((self._now + seconds, timeout, loop))
        return timeout

    async def advance(self, seconds: float) -> None:
        """Move the clock, and let whoever it wakes act, in the order of their deadlines."""
        end = self._now + seconds
        # Whoever was only about to sleep must sleep from here, not from the end.
        await _ticks()
        while due := [when for when in self._deadlines() if when <= end]:
            self._now = max(self._now, min(due))
            self._wake()
            await _ticks()
        # Somebody else may have advanced it further meanwhile, and time never goes back.
        self._now = max(self._now, end)
        await _ticks()

    def _deadlines(self) -> list[float]:
        sleepers = [when for when, _, wake in self._sleepers if not wake.done()]
        return sleepers + [when for when, *_ in self._timeouts]

    def _wake(self) -> None:
        while self._sleepers and self._sleepers[0][0] <= self._now:
            _, _, wake = heapq.heappop(self._sleepers)
            # Who slept on a loop that was closed is woken no more.
            if not wake.done() and not wake.get_loop().is_closed():
                wake.set_result(None)
        due = [each for each in self._timeouts if each[0] <= self._now]
        self._timeouts = [each for each in self._timeouts if each[0] > self._now]
        for _, timeout, loop in due:
            # Only a timeout that is being waited in can expire; others have ended before.
            if timeout.when() is None and not timeout.expired():
                try:
                    timeout.reschedule(loop.time())
                except (RuntimeError, AssertionError):  # the latter on 3.11, if never entered
                    continue


async def _ticks() -> None:
    for _ in range(_TICKS):
        await asyncio.sleep(0)
