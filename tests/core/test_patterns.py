"""Keys are removed by pattern, as far as they can be found."""

import asyncio

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import Source, all_of, function_of, soon, ticks
from tests.core.wire import Wire


async def test_what_matches_is_gone_everywhere(cache: TierCache, other: TierCache) -> None:
    """And nothing else."""
    for key in ("user:1:profile", "user:22:profile", "user:1:orders"):
        await cache.set(key, key)
        assert await other.get(key) == key
    report = await other.invalidate_pattern("user:*:profile")
    await ticks()

    assert report.l2 == "done"
    for each in (cache, other):
        assert list(await each.get_many(["user:1:profile", "user:22:profile"])) == []
        assert await each.get("user:1:orders") == "user:1:orders"


async def test_redis_is_scanned_once(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Also when it takes long: nothing is to be repeated while it runs."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await cache.set("a", 1)

    def holding(_count: int) -> None:
        wire.hold("INVALIDATE")

    swept = asyncio.ensure_future(cache.invalidate_pattern("*", progress=holding))
    await ticks()
    await clock.advance(0.2)
    wire.let_pass("INVALIDATE")
    await soon(swept)
    await clock.advance(1)

    assert wire.sent.count("SCAN") == 1
    await settled(cache)


@pytest.mark.parametrize("how", ["fails", "is cancelled"])
async def test_what_was_not_scanned_is_scanned_later(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock, how: str
) -> None:
    """Until then this process reads around L2."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    await function_of(other, source)(1)
    await settled(other)
    source.value = "new"
    gate = wire.hold("SCAN")
    sweeping = asyncio.ensure_future(cache.invalidate_pattern("value:*"))
    await soon(gate.reached.wait())
    assert await soon(function_of(cache, source)(1)) == "new"
    if how == "fails":
        wire.cut("SCAN")
        wire.let_pass("SCAN")
        assert (await soon(sweeping)).l2 == "queued"
    else:
        sweeping.cancel()
        await asyncio.wait([sweeping])
        wire.let_pass("SCAN")
    assert await soon(function_of(cache, source)(1)) == "new"
    await clock.advance(1)
    await settled(cache)

    assert cache._core.ledger.pending == 0
    assert await other.get("value:1", "nothing") == "nothing"


async def test_a_load_that_began_before_is_not_kept(cache: TierCache) -> None:
    """Nor joined by who comes later."""
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await cache.invalidate_pattern("value:?")
    source.value = "new"
    after = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()

    assert await all_of(before, after) == ["new", "new"]
    await settled(cache)
    assert await soon(value(1)) == "new"
