"""A cache over what Sentinels name: masters that die, hang, or go on after they were replaced."""

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import pytest
from redis.asyncio.sentinel import Sentinel

from async_tiercache import TierChanged
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.backends.redis import RedisRemote, remote, sentinel
from async_tiercache.errors import TierError
from async_tiercache.testing import Recorder, settled
from tests.servers.conftest import OpenCache
from tests.servers.process import Server
from tests.servers.source import Source, believes, name_of
from tests.servers.topologies import SERVICE, SentinelGroup
from tests.servers.traffic import Traffic
from tests.servers.waiting import eventually

pytestmark = pytest.mark.redis

KEYS = [f"k{number}" for number in range(10)]


@pytest.mark.parametrize("trouble", [Server.kill, Server.stop], ids=["killed", "hung"])
async def test_a_master_that_fails_is_replaced(
    sentinels: SentinelGroup,
    open_many: OpenCache,
    events: Recorder,
    trouble: Callable[[Server], None],
) -> None:
    """Reads go on meanwhile; then both processes share values in the new one."""
    cache = await open_many(sentinels.url, l1=None, observers=[events])
    other = await open_many(sentinels.url, l1=None)
    before = sentinels.master
    traffic = Traffic(cache, other, KEYS)

    async with traffic.flowing():
        await traffic.more(100)
        trouble(before)
        await asyncio.to_thread(sentinels.taken_over, before)
        await traffic.more(100)
    for each in (cache, other):
        await eventually(partial(believes, each), "the new master has been told")

    ups = [event.up for event in events.of(TierChanged)]
    assert ups[0] is False
    assert ups[-1] is True
    source = Source()
    await cache.invalidate(keys=KEYS)
    await asyncio.gather(*(source.read(cache, key) for key in KEYS))
    await settled(cache)
    await asyncio.gather(*(source.read(other, key) for key in KEYS))
    assert set(source.loads.values()) == {1}
    # On a busy machine the Sentinels may have named a third one by now.
    others = [server for server in sentinels.servers if server is not before]
    assert any(server.names() >= {name_of(key) for key in KEYS} for server in others)


async def test_a_master_that_was_replaced_and_goes_on_is_left(
    sentinels: SentinelGroup, open_many: OpenCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It obeys for some ten seconds, and what it is told is lost; connections to it stand."""
    monkeypatch.setattr(sentinel, "FOLLOW_SECONDS", 0.0)
    cache = await open_many(sentinels.url, l1=None)
    source = Source()
    await source.read(cache, "k")
    await settled(cache)

    await asyncio.to_thread(sentinels.fail_over)
    source.change("k")
    report = await cache.invalidate(keys=["k"])

    assert report.l2 == "done"
    assert name_of("k") not in sentinels.master.names()


async def test_sentinels_that_are_down_do_not_take_the_master_along(
    sentinels: SentinelGroup,
    open_many: OpenCache,
    events: Recorder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The connections that there are must do."""
    monkeypatch.setattr(sentinel, "FOLLOW_SECONDS", 0.0)
    # A busy machine must not look like a server that hangs, nor silence be ended by its own limit.
    monkeypatch.setattr(sentinel, "_FOLLOW_LIMIT", 60.0)
    monkeypatch.setattr(remote, "OPERATION_LIMIT", 5.0)
    cache = await open_many(sentinels.url, l1=None, observers=[events])
    source = Source()
    await source.read(cache, "k")
    for each in sentinels.sentinels:
        each.stop()

    for _ in range(3):
        await source.read(cache, "k")

    assert source.loads["k"] == 1
    assert events.of(TierChanged) == []


async def test_a_hung_sentinel_delays_nobody(
    sentinels: SentinelGroup, open_many: OpenCache, events: Recorder
) -> None:
    """The next one is asked."""
    sentinels.sentinels[0].stop()

    await open_many(sentinels.url, l1=None, observers=[events])

    assert events.of(TierChanged) == []


async def test_sentinels_have_users_of_their_own(sentinels: SentinelGroup) -> None:
    """The URL's user is the server's."""
    for each in sentinels.sentinels:
        each.command("ACL", "SETUSER", "watcher", "on", ">secret", "+@all")

    for password, works in (("secret", True), ("wrong", False)):
        query = f"sentinel_username=watcher&sentinel_password={password}"
        tier = RedisRemote(f"{sentinels.url}?{query}", namespace="test", clock=SYSTEM_CLOCK)
        if works:
            await tier.probe()
        else:
            with pytest.raises(TierError):
                await tier.probe()
        await tier.aclose()


async def test_a_service_that_no_sentinel_knows_is_an_l2_that_is_down(
    sentinels: SentinelGroup,
) -> None:
    """The error names it."""
    url = sentinels.url.replace(f"/{SERVICE}/", "/shpo/")
    tier = RedisRemote(url, namespace="test", clock=SYSTEM_CLOCK)

    with pytest.raises(TierError, match="shpo"):
        await tier.probe()

    await tier.aclose()


async def test_a_borrowed_client_of_a_master_follows_it(
    sentinels: SentinelGroup, open_many: OpenCache
) -> None:
    """And stays open."""
    hosts = [("127.0.0.1", each.port) for each in sentinels.sentinels]
    client: Any = cast("Any", Sentinel)(hosts).master_for(SERVICE)
    cache = await open_many(client=client, l1=None)
    other = await open_many(sentinels.url, l1=None)
    before = sentinels.master
    source = Source()
    await source.read(cache, "k")

    before.kill()
    await asyncio.to_thread(sentinels.taken_over, before)
    await eventually(lambda: sentinels.master is not before, "another is master")
    source.change("k")
    await cache.invalidate(keys=["k"])
    await eventually(lambda: cache.statistics().pending == 0, "the new master has been told")
    await source.read(cache, "k")
    await settled(cache)

    await source.read(other, "k")
    await cache.aclose()
    await client.set("still", "open")
    await client.aclose()
    for each in client.connection_pool.sentinel_manager.sentinels:
        await each.aclose()
