"""A `None` that is not kept."""

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from tests.core.source import KEY, Source, function_of


async def test_a_none_that_is_not_kept_removes_what_it_replaces(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Under `negative_ttl=0` a refresh to None must not be followed by the old value."""
    source = Source("old")
    value = function_of(cache, source, negative_ttl=0)
    await value(1)
    await settled(cache)
    await clock.advance(1)
    source.value = None

    assert await value.refresh(1) is None
    assert await value(1) is None
    await clock.advance(1)
    assert await other.get(KEY, "nothing") == "nothing"
