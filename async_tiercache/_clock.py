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

_LINUX_MONOTONIC: Final = 1
"""CLOCK_MONOTONIC, by which `time.monotonic` goes."""
_LINUX_COARSE: Final = 6
"""CLOCK_MONOTONIC_COARSE, which `time` has no name for."""
_COARSE_SECONDS: Final = 0.01


def fastest_clock(*, exact: bool) -> tuple[Callable[[int], float], int] | None:
    """Return what tells the time of `time.monotonic` faster, if there is such a thing.

    Linux has several clocks, and Python 3.13 has a short way for calls of C with one argument, and
    none for calls without.

    Args:
        exact: Else the time may be that of the kernel's last tick, some milliseconds ago, whatever
            the process does meanwhile.

    Returns:
        A function and its argument.
    """
    if sys.platform != "linux" or sys.version_info < (3, 13):
        return None
    try:
        coarse = not exact and time.clock_getres(_LINUX_COARSE) <= _COARSE_SECONDS
    except OSError:
        coarse = False
    return time.clock_gettime, _LINUX_COARSE if coarse else _LINUX_MONOTONIC
