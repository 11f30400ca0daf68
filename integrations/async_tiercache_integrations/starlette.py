"""A lifespan for Starlette, and for FastAPI, in which a cache is open."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from async_tiercache import TierCache
from async_tiercache.errors import MissingExtraError

try:
    from starlette.types import Lifespan
except ImportError as error:
    raise MissingExtraError(
        "A lifespan for Starlette needs the package starlette, which is not installed",
        hint='pip install "async-tiercache[starlette]"',
    ) from error


def lifespan(cache: TierCache, around: Lifespan[Any] | None = None) -> Lifespan[Any]:
    """Return a lifespan that opens a cache before the first request, and closes it after the last.

    Args:
        cache: The cache.
        around: The application's own lifespan; it runs while the cache is open, and its state is
            the application's.

    Example:
        >>> from starlette.applications import Starlette
        >>> cache = TierCache(namespace="shop")
        >>> app = Starlette(lifespan=lifespan(cache))
    """

    @asynccontextmanager
    async def opened(app: Any) -> AsyncGenerator[Any]:
        async with cache:
            if around is None:
                yield None
            else:
                async with around(app) as state:
                    yield state

    return opened
