"""What `explain` says of a key."""

import asyncio

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon


async def test_an_entry_has_an_age_until_it_is_softly_invalidated(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """That writes over when its load began."""
    cache: TierCache = await make_cache()
    await function_of(cache, Source())(1)
    await settled(cache)
    await clock.advance(3)

    before = await cache.explain(KEY)
    await cache.invalidate(keys=[KEY], soft=60)
    after = await cache.explain(KEY)

    assert (before.l2, before.age) == ("entry", 3)
    assert (after.l2, after.age, after.fresh_seconds) == ("entry", None, 0)


async def test_the_last_read_of_a_key_is_told(make_cache: MakeCache) -> None:
    """By the tier that answered, as long as memory could not."""
    cache, other = await make_cache(), await make_cache()
    value = function_of(cache, Source())
    for read in (value, value, function_of(other, Source())):
        await read(1)
        await settled(cache)

    here, there = await cache.explain(KEY), await other.explain(KEY)

    assert (here.last_read, here.in_l1, here.l1_why) == ("loader fresh", True, "")
    assert there.last_read == "l2 fresh"


@pytest.mark.parametrize("goes", ["invalidated", "closed"])
async def test_what_leaves_memory_while_l2_is_asked_is_told_to_be_gone(
    cache: TierCache, server: MemoryServer, goes: str
) -> None:
    """What is told of both tiers is of one moment, and nothing fails."""
    value = function_of(cache, Source())
    await value(1)
    await settled(cache)
    server.faults.hang("get_many", times=1)
    explaining = asyncio.create_task(cache.explain(KEY))
    await soon(server.faults.reached())

    going = asyncio.ensure_future(value.invalidate(1) if goes == "invalidated" else cache.aclose())
    await asyncio.sleep(0)
    server.faults.clear()
    why = await soon(explaining)
    await soon(going)

    assert (why.in_l1, why.l1_seconds, why.l1_why) == (False, None, "")


async def test_explaining_leaves_no_trace(
    cache: TierCache, server: MemoryServer, events: Recorder
) -> None:
    """What L2 holds may be of no use, and yet nothing was refused to a reader."""
    value = function_of(cache, Source())
    await server.client().set(f"test:{{{KEY}}}", b"damaged")
    before = cache.statistics()

    why = await value.explain(1)

    assert (why.l2, why.refused) == ("damaged", "frame")
    assert events.events == []
    assert cache.statistics() == before
