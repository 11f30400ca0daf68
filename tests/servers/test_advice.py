"""`advice` asks the real server, and is silent where it may not ask."""

import pytest

from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.testing import MemoryServer
from tests.servers.process import Server
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
