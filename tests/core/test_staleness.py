"""While no message arrives, nothing is older than the bound allows (G3)."""

import asyncio

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon, ticks
from tests.core.wire import Wire


@pytest.mark.parametrize("kind", ["plain", "offering", "early"])
async def test_a_load_is_joined_no_longer_than_the_bound_without_proof(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock, kind: str
) -> None:
    """What it brings, or offers meanwhile, may be older than an invalidation elsewhere."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    value = function_of(cache, source, ttl=1000, grace=1000, soft_timeout=0)
    if kind != "plain":
        await value(1)
        await settled(cache)
        slot = cache._core.tiers.probe(KEY)
        assert slot is not None
        slot.soft_deadline = clock.monotonic()
    source.close()
    before = asyncio.ensure_future(value(1))
    await ticks()
    for name in ("GET", "RENEW", "PING", "INFO", "COMMIT", "INVALIDATE", "SET"):
        wire._cuts[name] = 1_000_000
    server.hang_up()
    await clock.advance(1)
    await other.invalidate(keys=[KEY])
    source.value = "new"
    await clock.advance(2.5)
    after = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()

    assert await soon(after) == "new"
    # Of two loads at once only the later one is shown; what was offered meanwhile is not loaded.
    assert await soon(before) == ("new" if kind == "plain" else "old")
    wire._cuts.clear()
    await clock.advance(3)
