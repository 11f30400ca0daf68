"""The only module that reads a clock or draws a number; everything else is given a `Clock`."""

import asyncio
import random
import sys
import time
from collections.abc import Callable
from typing import Final


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

_LINUX_COARSE: Final = 6
"""CLOCK_MONOTONIC_COARSE, which `time` has no name for."""
_COARSE_SECONDS: Final = 0.01


def coarse_clock() -> tuple[Callable[[int], float], int] | None:
    """Return what tells the monotonic time as of the kernel's last tick, where that pays.

    It is behind by a tick, some milliseconds, whatever the process does meanwhile. Before Python
    3.13 a call with an argument takes longer than the exact clock.

    Returns:
        A function and its argument.
    """
    if sys.platform != "linux" or sys.version_info < (3, 13):
        return None
    try:
        fine_enough = time.clock_getres(_LINUX_COARSE) <= _COARSE_SECONDS
    except OSError:
        return None
    return (time.clock_gettime, _LINUX_COARSE) if fine_enough else None
