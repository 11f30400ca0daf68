"""Hedging: several servers know the same; one that hangs delays nobody, and no two are burdened."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, TypeVar

from redis.exceptions import ConnectionError as RedisConnectionError

R = TypeVar("R")

HEDGE_SECONDS: Final = 0.05
"""After this long one that has not answered is joined by the next one."""


async def hedged(asks: Sequence[Callable[[], Awaitable[R]]]) -> R:
    """Return the first answer; each is asked when the one before it fails or takes its time.

    Raises:
        Exception: What one of them raised, if all did.
    """
    error: BaseException = RedisConnectionError("there is nobody to ask")
    waiting = list(asks)
    asking: set[asyncio.Future[R]] = set()
    try:
        while waiting or asking:
            if waiting:
                asking.add(asyncio.ensure_future(waiting.pop(0)()))
            done, asking = await asyncio.wait(
                asking,
                timeout=HEDGE_SECONDS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            for each in done:
                failure = each.exception()
                if failure is None:
                    return each.result()
                error = failure
    finally:
        for each in asking:
            each.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    raise error
