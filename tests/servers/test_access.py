"""Who may do what: the documented user, passwords that change under load, limits of connections."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.sentinel import Sentinel
from redis.credentials import CredentialProvider

from async_tiercache import TierChanged
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.abc import Invalidation
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET
from async_tiercache.errors import TierError, TierRefusedError
from async_tiercache.testing import FakeClock, Recorder, settled
from async_tiercache.testing.contracts._heard import listening
from async_tiercache.testing.contracts._samples import contents
from tests.servers.conftest import ONE_SERVER, OpenCache
from tests.servers.process import Server
from tests.servers.source import Source
from tests.servers.topologies import SERVICE, ClusterGroup, SentinelGroup
from tests.servers.traffic import Traffic
from tests.servers.waiting import eventually

pytestmark = pytest.mark.redis

PAGE = Path(__file__).parents[2] / "docs" / "concepts" / "redis.md"
KEYS = [f"k{number}" for number in range(20)]

# A wheel's tests have no pages, and no servers either.
DOCUMENTED = re.search(
    r"^ACL SETUSER shop on >secret ~shop:\* &shop:\* -@all (.+)$",
    PAGE.read_text() if PAGE.exists() else "",
    re.MULTILINE,
)
assert DOCUMENTED is not None or not PAGE.exists()
COMMANDS = [] if DOCUMENTED is None else DOCUMENTED[1].split()
CLUSTER_COMMANDS = ["+cluster|slots", "+asking"]
WATCHED = 2.0
"""How long a user that lacks a command may try, in seconds."""


def allow(server: Server, commands: list[str]) -> None:
    """Let a user of the page do these commands."""
    server.command("ACL", "SETUSER", "shop", "reset")
    server.command(
        "ACL", "SETUSER", "shop", "on", ">secret", "~shop:*", "&shop:*", "-@all", *commands
    )


async def do_everything(url: str) -> None:
    """Do all that a cache does, in database 1 where there is one."""
    remote = RedisRemote(url, namespace="shop", clock=SYSTEM_CLOCK)
    lease, mark = b"L" + b"a" * 16, b"L" + b"b" * 16
    frame = b"V" + bytes(ENTRY_ID_OFFSET - 1) + b"i" * 16
    try:
        await remote.probe()
        assert await contents(remote, ["k", "l"]) == [None, None]
        assert await remote.take("k", lease, 20) is None
        assert await remote.renew("k", lease, 20)
        assert await remote.commit("k", frame, 20, fence=lease)
        assert await remote.mark("k", mark, 20)
        assert await remote.commit("k", frame, 20, fence=b"i" * 16, mark=mark)
        assert await remote.stamp("k", b"i" * 16, 20, fence=b"i" * 16)
        assert await remote.take("k", lease, 20, instead_of=frame) is None
        await remote.release("k", lease)
        await remote.seize("k", lease, 20)
        await remote.invalidate(Invalidation(b"i" * 16, ("k", "l")))
        assert await contents(remote, ["k"]) == [None]
        await do_everything_coherent(remote)
    finally:
        await remote.aclose()


async def do_everything_coherent(remote: RedisRemote) -> None:
    """Do what tags, blocks and the bus take."""
    lease, record = b"L" + b"a" * 16, Invalidation(b"i" * 16, ("k",), ("t",))
    entry = b"VT\3" + bytes(3) + b"i" * 16 + bytes(80)
    await remote.ensure(["t"], 20)
    await remote.ensure(["t"], 40)
    await remote.secret()
    async with listening(remote, WATCHED) as heard:
        await remote.seize("k", lease, 20)
        assert await remote.await_fill("k", lease) == lease
        assert await remote.commit("k", entry, 20, fence=lease, tags=["t"])
        await heard.until(lambda: "wake" in heard.names(), WATCHED)
        await remote.invalidate(replace(record, soft=5.0))
        await remote.block(record, b"b" * 16, 20)
        await remote.unblock(record, b"b" * 16)
        await heard.until(lambda: len(heard.records()) >= 3, WATCHED)
        # What nobody waits for any more is unsubscribed from with a ping.
        await heard.proof(SYSTEM_CLOCK.monotonic(), WATCHED)
    assert [batch async for batch in remote.scan("*")] == []


@pytest.mark.parametrize("protocol", [2, 3])
async def test_the_documented_user_may_do_all_that_a_cache_does(
    redis: Server, protocol: int
) -> None:
    """In another database than 0, too."""
    allow(redis, COMMANDS)

    await do_everything(f"redis://shop:secret@127.0.0.1:{redis.port}/1?protocol={protocol}")


async def test_the_documented_user_may_do_all_in_a_cluster(cluster: ClusterGroup) -> None:
    """With what the page adds for it."""
    for text in CLUSTER_COMMANDS:
        assert text in PAGE.read_text()
    for node in cluster.nodes:
        allow(node, [*COMMANDS, *CLUSTER_COMMANDS])

    await do_everything(cluster.url.replace("://", "://shop:secret@"))


@ONE_SERVER
@pytest.mark.parametrize("left_out", COMMANDS)
async def test_the_documented_user_needs_every_command(redis: Server, left_out: str) -> None:
    """Nothing on the page is more than enough."""
    allow(redis, [command for command in COMMANDS if command != left_out])

    with contextlib.suppress(TierError, AssertionError, TimeoutError):
        await do_everything(f"redis://shop:secret@127.0.0.1:{redis.port}/1?protocol=3")

    assert f"b'{left_out[1:]}'" in repr(redis.command("ACL", "LOG"))


async def test_another_namespace_is_out_of_reach_for_the_documented_user(redis: Server) -> None:
    """The server sees to it."""
    allow(redis, COMMANDS)
    url = f"redis://shop:secret@127.0.0.1:{redis.port}/0"
    remote = RedisRemote(url, namespace="other", clock=SYSTEM_CLOCK)

    with pytest.raises(TierRefusedError):
        await remote.get_many(["k"])

    await remote.aclose()


@pytest.mark.parametrize(("database", "user"), [(99, ""), (1, "shop:secret@")])
async def test_a_database_that_may_not_be_entered_is_out_of_reach(
    redis: Server, open_cache: OpenCache, source: Source, database: int, user: str
) -> None:
    """The tier is off, and not every read makes a connection that is of no use."""
    allow(redis, [command for command in COMMANDS if command != "+select"])
    cache = await open_cache(f"redis://{user}127.0.0.1:{redis.port}/{database}")
    before = redis.command("INFO", "stats")["total_connections_received"]

    for number in range(100):
        assert await source.read(cache, f"k{number}")
    opened = redis.command("INFO", "stats")["total_connections_received"] - before

    assert cache.l2 == "down"
    assert (await cache.invalidate(keys=["k1"])).l2 == "queued"
    assert opened < 50
    await cache.aclose()


class Rotating(CredentialProvider):
    """Tells the password of the hour."""

    def __init__(self) -> None:
        self.password = "first"
        self.asked = 0

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        return "rotating", self.password

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()


class Topology:
    """Servers with a user whose password changes, and clients of them."""

    def __init__(self, servers: Callable[[], list[Server]], client: Callable[[Any], Any]) -> None:
        self.servers = servers
        self.client = client

    def tell(self, *words: str) -> None:
        """Send every server a command."""
        for server in self.servers():
            server.command(*words)


@pytest_asyncio.fixture(params=["single", "sentinels", "cluster"])
async def topology(request: pytest.FixtureRequest) -> AsyncIterator[Topology]:
    """Return each topology."""
    if request.param == "cluster":
        cluster: ClusterGroup = request.getfixturevalue("cluster")

        def of_cluster(provider: Any) -> Any:
            port = cluster.nodes[0].port
            return RedisCluster(host="127.0.0.1", port=port, credential_provider=provider)

        yield Topology(lambda: cluster.nodes, of_cluster)
        return
    if request.param == "sentinels":
        group: SentinelGroup = request.getfixturevalue("sentinels")
        hosts = [("127.0.0.1", each.port) for each in group.sentinels]

        def of_master(provider: Any) -> Any:
            return cast("Any", Sentinel)(hosts).master_for(SERVICE, credential_provider=provider)

        yield Topology(lambda: group.servers, of_master)
        return
    server = Server(request.getfixturevalue("main_program"), request.getfixturevalue("tmp_path"))
    server.start()
    yield Topology(lambda: [server], lambda p: Redis(port=server.port, credential_provider=p))
    server.kill()


async def test_a_password_that_changes_under_load_costs_nothing(
    topology: Topology, open_many: OpenCache, events: Recorder
) -> None:
    """No read fails or goes around L2, no invalidation is queued, nothing overtaken is seen."""
    provider = Rotating()
    user = ("ACL", "SETUSER", "rotating")
    topology.tell(*user, "reset", "on", ">first", "~*", "&*", "+@all")
    clients = [topology.client(provider) for _ in range(2)]
    cache = await open_many(client=clients[0], l1=None, observers=[events])
    other = await open_many(client=clients[1], l1=None, observers=[events])
    traffic = Traffic(cache, other, KEYS)

    async with traffic.flowing():
        for old, new in (("first", "second"), ("second", "third"), ("third", "fourth")):
            before = provider.asked
            await asyncio.to_thread(topology.tell, *user, f">{new}")
            provider.password = new
            await asyncio.to_thread(topology.tell, *user, f"<{old}")
            await asyncio.to_thread(topology.tell, "CLIENT", "KILL", "USER", "rotating")
            await traffic.more(500)
            assert provider.asked > before

    assert events.of(TierChanged) == []
    assert traffic.overtaken == []
    assert traffic.queued == 0
    for cache_ in (cache, other):
        await cache_.aclose()
    for client in clients:
        await client.aclose()
        pool = getattr(client, "connection_pool", None)
        for each in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
            await each.aclose()


class Silent(CredentialProvider):
    """Has lost what tells it the password."""

    def __init__(self) -> None:
        self.asked = 0

    def get_credentials(self) -> tuple[str, str]:
        self.asked += 1
        raise ValueError("the token has expired")

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()


async def test_without_a_password_l2_is_down(
    topology: Topology,
    open_many: OpenCache,
    clock: FakeClock,
    source: Source,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Whatever the provider raises: not every read asks it, and the log has a line and no more."""
    provider = Silent()
    client = topology.client(provider)
    cache = await open_many(client=client, l1=None, clock=clock)
    before = provider.asked

    for number in range(20):
        await source.read(cache, f"k{number}")

    assert cache.l2 == "down"
    assert provider.asked - before < 20
    assert not [each for each in caplog.records if each.levelname == "ERROR"]
    await cache.aclose()
    await client.aclose()
    pool = getattr(client, "connection_pool", None)
    for each in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
        await each.aclose()


@pytest.mark.parametrize(("allowed", "opened"), [(None, 8), (3, 3), (1, 1), (100, 8)])
async def test_a_cache_opens_no_more_connections_than_it_may(
    redis: Server, open_cache: OpenCache, allowed: int | None, opened: int
) -> None:
    """By the URL, or by the pool of a borrowed client; the one that listens comes on top."""
    limit = {"max_connections": allowed} if allowed else {}
    borrowed: Any = cast("Any", Redis)(port=redis.port, **limit)
    url = redis.url if allowed is None else f"{redis.url}?max_connections={allowed}"
    for options in ({"url": url}, {"client": borrowed}):
        cache = await open_cache(**options, l1=None)
        redis.stop()
        source = Source()
        reading = [
            asyncio.create_task(_later(number, source.read(cache, f"k{number}")))
            for number in range(20)
        ]
        for _ in range(60):
            await asyncio.sleep(0)
        redis.cont()
        await asyncio.gather(*reading)
        await settled(cache)

        assert redis.wires() <= opened
        assert redis.connections() - redis.wires() <= 1
        await cache.aclose()
        await eventually(lambda: redis.connections() == 0, "all connections are closed")
    await borrowed.aclose()


async def test_what_is_asked_while_connections_are_closed_opens_none(redis: Server) -> None:
    """What is on the wire has its answer."""
    remote = RedisRemote(redis.url, namespace="test", clock=SYSTEM_CLOCK)
    await remote.probe()
    before = asyncio.create_task(remote.get_many(["k"]))
    await asyncio.sleep(0)
    closing = asyncio.create_task(remote.aclose())
    await asyncio.sleep(0)

    with pytest.raises(TierError, match="was closed"):
        await remote.get_many(["l"])

    await closing
    assert (await before).contents == [None]
    await eventually(lambda: redis.connections() == 0, "all connections are closed")


async def _later(ticks: int, work: Any) -> None:
    """Begin some ticks later, so that each has a turn of its own."""
    for _ in range(2 * ticks):
        await asyncio.sleep(0)
    await work
