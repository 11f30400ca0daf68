"""The one place where a test waits for what it can only look at."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

DEADLINE: Final = 10.0
"""How long anything may take here, in seconds; only a test that fails gets there."""

_PAUSE: Final = 0.002

T = TypeVar("T")


async def eventually(condition: Callable[[], bool], what: str) -> None:
    """Return as soon as `condition` holds.

    Raises:
        AssertionError: It does not within the deadline.
    """
    try:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - another process has no Event for us
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise AssertionError(f"did not come true in {DEADLINE} s: {what}") from None


async def eventually_so(look: Callable[[], Awaitable[T]], expected: T) -> None:
    """Return as soon as looking shows what is expected, where to look takes a question.

    Raises:
        AssertionError: It does not within the deadline.
    """
    seen: list[T] = []
    try:
        async with asyncio.timeout(DEADLINE):
            while (found := await look()) != expected:
                seen[:] = [found]
                await asyncio.sleep(_PAUSE)
    except TimeoutError:
        raise AssertionError(f"was {seen}, not {expected!r}, after {DEADLINE} s") from None


def until(condition: Callable[[], bool], what: str, *, limit: float = DEADLINE) -> None:
    """Return as soon as `condition` holds, outside of a loop.

    Raises:
        AssertionError: It does not within the limit, in seconds.
    """
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"did not come true in {limit} s: {what}"
        time.sleep(_PAUSE)
