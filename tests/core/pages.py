"""Values that are made from other cached values."""

from collections.abc import Awaitable, Callable
from typing import Any

from async_tiercache import LoadContext, TierCache
from tests.core.source import Source

Read = Callable[[], Awaitable[Any]]


def page_of(cache: TierCache, read: Read, **options: Any) -> Callable[[], Awaitable[Any]]:
    """Return a cached function whose loader reads what else is cached."""

    @cache.cached("page", **options)
    async def page() -> Any:
        return await read()

    return page


def tagged_of(cache: TierCache, source: Source, *tags: str, **options: Any) -> Any:
    """Return a cached function whose loader names tags."""

    @cache.cached("value:{key}", **options)
    async def value(key: int, context: LoadContext = LoadContext()) -> Any:
        context.tags = tags
        return await source.load()

    return value
