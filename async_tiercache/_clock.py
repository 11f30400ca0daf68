"""The only module that reads a clock or draws a number; everything else is given a `Clock`."""

import asyncio
import random
import time


class SystemClock:
    """Time and chance of the real world."""

    __slots__ = ()

    # Bound once: the hit path calls it directly, without a Python frame between.
    monotonic = staticmethod(time.monotonic)
    wall = staticmethod(time.time)
    random = staticmethod(random.random)

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`."""
        await asyncio.sleep(seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """Return an async context manager that raises `TimeoutError` after `seconds`."""
        return asyncio.timeout(seconds)


SYSTEM_CLOCK = SystemClock()
