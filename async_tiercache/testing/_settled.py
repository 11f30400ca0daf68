"""Wait until a cache has nothing left to do."""

from async_tiercache._cache import TierCache


async def settled(cache: TierCache) -> None:
    """Return when everything in the background has ended: stores, releases, refreshes.

    A value is given to its callers before it is on its way into L2; a test that looks at L2 or
    counts loads waits here first.
    """
    await cache._core.settle()  # noqa: SLF001 - same package
