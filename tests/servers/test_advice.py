"""`advice` asks the real server, and is silent where it may not ask."""

import pytest

from async_tiercache import Advice
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.errors import TierRefusedError
from async_tiercache.testing import MemoryServer, Recorder, settled
from tests.servers.conftest import ONE_SERVER, OpenCache
from tests.servers.process import Server
from tests.servers.source import Source
from tests.servers.topologies import ClusterGroup, SentinelGroup

pytestmark = pytest.mark.redis


async def advised(url: str) -> list[str]:
    """Return the names of what is advised."""
    remote = RedisRemote(url, namespace="shop", clock=SYSTEM_CLOCK)
    await remote.probe()
    advice = await remote.advice()
    await remote.aclose()
    return [name for name, _ in advice]


@pytest.mark.parametrize("protocol", [2, 3])
async def test_advice_follows_the_settings_of_the_server(redis: Server, protocol: int) -> None:
    """As they are, not as they are configured to be by default."""
    url = f"{redis.url}?protocol={protocol}"
    assert await advised(url) == ["redis-memory-unbounded"]

    redis.configure(maxmemory="100mb")
    assert await advised(url) == ["redis-refuses-when-full"]

    redis.configure(maxmemory_policy="volatile-ttl")
    assert await advised(url) == ["redis-evicts-leases"]

    redis.configure(maxmemory_policy="allkeys-lru")
    assert await advised(url) == []


async def test_advice_is_silent_where_config_is_forbidden(redis: Server) -> None:
    """No error, and nothing in the way."""
    redis.command("ACL", "SETUSER", "shop", "on", ">secret", "~*", "+@all", "-config")

    assert await advised(redis.url.replace("://", "://shop:secret@")) == []


async def test_advice_about_a_server_that_is_down_is_silent(redis: Server) -> None:
    """Its owner has other worries."""
    redis.kill()
    remote = RedisRemote(redis.url, namespace="shop", clock=SYSTEM_CLOCK)

    assert await remote.advice() == []

    await remote.aclose()


async def test_advice_about_a_cluster_names_each_thing_once(cluster: ClusterGroup) -> None:
    """Though every master has it."""
    assert await advised(cluster.url) == ["redis-memory-unbounded"]


async def test_advice_about_a_cluster_sees_the_one_master_that_differs(
    cluster: ClusterGroup,
) -> None:
    """All of them are asked."""
    for node in cluster.nodes:
        node.configure(maxmemory="100mb", maxmemory_policy="allkeys-lru")
    cluster.masters[1].configure(maxmemory_policy="volatile-ttl")

    assert await advised(cluster.url) == ["redis-evicts-leases"]

    for node in cluster.nodes:
        node.configure(maxmemory=0, maxmemory_policy="noeviction")


async def test_advice_about_a_master_that_sentinels_name(sentinels: SentinelGroup) -> None:
    """The master's settings count, and how it is reached."""
    assert await advised(sentinels.url) == ["redis-memory-unbounded"]


async def test_a_memory_server_needs_no_advice(server: MemoryServer) -> None:
    """It is nobody's set-up."""
    remote = RedisRemote(None, namespace="shop", clock=SYSTEM_CLOCK, client=server.client())

    assert await remote.advice() == []

    await remote.aclose()


@ONE_SERVER
async def test_a_user_who_may_not_read_is_advised_of_it(
    redis: Server, open_cache: OpenCache, events: Recorder, source: Source
) -> None:
    """The server answers, so it is not down; without a word it would be asked in vain for ever."""
    redis.command("ACL", "SETUSER", "shop", "on", ">secret", "~*", "&*", "+@all", "-mget")
    cache = await open_cache(redis.url.replace("://", "://shop:secret@"), observers=[events])
    for key in ("a", "b"):
        await source.read(cache, key)
        await settled(cache)

    advice = [each for each in events.of(Advice) if each.name == "redis-refuses"]
    assert [each.message for each in advice if "mget" in each.message] == [advice[0].message]


async def test_a_node_of_a_cluster_is_no_single_server(cluster: ClusterGroup) -> None:
    """Whatever it refuses, it is for one reason, which is named with what to do."""
    urls = [f"redis://127.0.0.1:{node.port}" for node in cluster.masters]
    remotes = [RedisRemote(url, namespace="shop", clock=SYSTEM_CLOCK) for url in urls]
    for remote in remotes:
        for keys in (["a", "b"], ["a"]):
            with pytest.raises(TierRefusedError, match=r"Cluster\nHint: Use redis\+cluster"):
                await remote.get_many(keys, ["t"])
        await remote.aclose()
