"""What `explain` says of a key."""

import asyncio
from typing import Any

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


async def test_the_last_read_of_a_key_of_batches_is_told(make_cache: MakeCache) -> None:
    """Whichever came last, a batch or a call for one; of a bounded number of keys."""
    here, there = await make_cache(), await make_cache(l1=None)
    forms: list[Any] = []
    for each in (here, there):

        async def one(key: int) -> int:
            return key

        async def all_of(keys: list[int]) -> dict[int, int]:
            return {key: key for key in keys}

        single = each.cached("row:{key}")(one)
        forms.append((single, single.batch(all_of)))
    (_, fill), (single, many) = forms
    await fill([0, 1])
    await settled(here)

    async def last() -> list[str]:
        return [(await there.explain(f"row:{key}")).last_read for key in range(3)]

    await single(2)
    await many([0, 1])
    assert await last() == ["l2 fresh", "l2 fresh", "loader fresh"]

    await single.invalidate(0)
    await single(0)
    assert await last() == ["loader fresh", "l2 fresh", "loader fresh"]

    await settled(there)
    await many([0])
    assert await last() == ["l2 fresh", "l2 fresh", "loader fresh"]

    for start in range(3, 1_003, 500):
        await fill(list(range(start, start + 500)))
        await settled(here)
        await many(list(range(start, start + 500)))
    assert await last() == ["", "", ""]


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
