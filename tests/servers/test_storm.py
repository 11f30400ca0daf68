"""Callers that give up at any moment, thousands of them, over a slow wire."""

import asyncio
import random

import pytest

from async_tiercache import TierChanged
from async_tiercache.backends.redis import remote
from async_tiercache.testing import Recorder, settled
from tests.servers.conftest import OpenCache
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.servers.source import Source
from tests.servers.waiting import DEADLINE

pytestmark = pytest.mark.redis

READS, KEYS = 2000, 300


@pytest.mark.parametrize("seed", [1, 2])
async def test_cancelled_readers_touch_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
    redis: Server,
    proxy: Proxy,
    open_cache: OpenCache,
    events: Recorder,
    source: Source,
    seed: int,
) -> None:
    """Whoever stays has the value of its own key; connections are few and none is lost."""
    # A machine that is busy with other things must not look like a Redis that is down.
    monkeypatch.setattr(remote, "OPERATION_LIMIT", 2.0)
    chance = random.Random(seed)
    cache = await open_cache(proxy.url, l1=None, observers=[events])
    proxy.delay = 0.002
    connections: list[int] = []

    async def read(key: str) -> None:
        for _ in range(chance.randrange(20)):
            await asyncio.sleep(0)
        await source.read(cache, key)

    async with asyncio.timeout(3 * DEADLINE):
        readers: list[asyncio.Task[None]] = []
        for number in range(READS):
            readers.append(asyncio.create_task(read(f"k{chance.randrange(KEYS)}")))
            if number % 4 == 0:
                await asyncio.sleep(0)
            if chance.random() < 0.4:
                chance.choice(readers).cancel()
            if number % 100 == 0:
                connections.append(redis.connections())
            if number % 250 == 0:
                await cache.invalidate(keys=[f"k{chance.randrange(KEYS)}"])
        results = await asyncio.gather(*readers, return_exceptions=True)
        await settled(cache)

    errors = [each for each in results if each is not None]
    assert all(isinstance(error, asyncio.CancelledError) for error in errors)
    assert len(errors) > READS / 20
    assert events.of(TierChanged) == []
    assert max(connections) <= 10
    assert redis.connections() <= 10
    assert proxy.opened <= 10


@pytest.mark.parametrize("seed", [1, 2])
async def test_cancelled_readers_and_a_breaking_wire_give_no_wrong_value(
    redis: Server, proxy: Proxy, open_cache: OpenCache, source: Source, seed: int
) -> None:
    """The same while connections are cut, also in the middle of a reply."""
    chance = random.Random(seed)
    cache = await open_cache(proxy.url, l1=None)
    proxy.delay = 0.001

    async with asyncio.timeout(3 * DEADLINE):
        readers: list[asyncio.Task[str]] = []
        for number in range(READS):
            key = f"k{chance.randrange(KEYS)}"
            readers.append(asyncio.create_task(source.read(cache, key)))
            if number % 4 == 0:
                await asyncio.sleep(0)
            if chance.random() < 0.3:
                chance.choice(readers).cancel()
            if number % 200 == 0:
                proxy.cut()
            proxy.cut_after = chance.randrange(1, 60) if number % 500 > 450 else None
        proxy.cut_after = None
        results = await asyncio.gather(*readers, return_exceptions=True)
        await settled(cache)

    errors = [each for each in results if not isinstance(each, str)]
    assert all(isinstance(error, asyncio.CancelledError) for error in errors)
    assert redis.connections() <= 10
