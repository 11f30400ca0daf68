"""A cache over a Cluster: masters that die or hang, slots that move, and who is not touched."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import pytest
import pytest_asyncio
from redis.asyncio import RedisCluster
from redis.crc import key_slot

from async_tiercache import TierCache, TierChanged
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.abc import UNREACHED, Invalidation
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.backends.redis.turns import LARGE_BYTES
from async_tiercache.errors import TierError, TierPartError
from async_tiercache.testing import Recorder, settled
from async_tiercache.testing.contracts._samples import contents
from tests.servers.conftest import OpenCache
from tests.servers.process import Server
from tests.servers.source import Source, believes, name_of
from tests.servers.topologies import ClusterGroup
from tests.servers.traffic import Traffic
from tests.servers.waiting import DEADLINE, eventually

pytestmark = pytest.mark.redis

KEYS = [f"k{number}" for number in range(30)]


@pytest_asyncio.fixture
async def remote(cluster: ClusterGroup) -> AsyncIterator[RedisRemote]:
    """Return a remote that knows every node."""
    remote = RedisRemote(cluster.url, namespace="test", clock=SYSTEM_CLOCK)
    await remote.probe()
    yield remote
    await remote.aclose()


async def trusted(cache: TierCache) -> None:
    """Return once a cache believes L2 and hears the bus."""
    await eventually(lambda: believes(cache) and cache._core.bus.alive, "the bus is heard")


def keys_of(cluster: ClusterGroup, node: Server) -> tuple[list[str], list[str]]:
    """Return the keys that a node holds, and those that others do."""
    here = [key for key in KEYS if cluster.owner(name_of(key)) is node]
    return here, [key for key in KEYS if key not in here]


@pytest.mark.parametrize("trouble", [Server.kill, Server.stop], ids=["killed", "hung"])
async def test_a_master_that_fails_is_replaced_and_the_others_go_on(
    cluster: ClusterGroup,
    open_many: OpenCache,
    events: Recorder,
    trouble: Callable[[Server], None],
) -> None:
    """Its keys are loaded meanwhile, theirs come from L2; then its replica has its keys."""
    cache = await open_many(cluster.url, l1=None, observers=[events])
    other = await open_many(cluster.url, l1=None)
    victim = cluster.masters[1]
    lost, kept = keys_of(cluster, victim)
    await trusted(cache)
    quiet = Source()
    await asyncio.gather(*(quiet.read(cache, f"quiet:{key}") for key in KEYS))
    await settled(cache)
    bystanders = [k for k in quiet.loads if cluster.owner(name_of(k)) is not victim]
    traffic = Traffic(cache, other, lost + kept)

    async with traffic.flowing():
        await traffic.more(200)
        trouble(victim)
        await asyncio.gather(*(quiet.read(cache, key) for key in bystanders))
        await asyncio.to_thread(cluster.taken_over, victim)
        await traffic.more(200)
    await eventually(lambda: cache.statistics().pending == 0, "the new master has been told")
    await eventually(lambda: other.statistics().pending == 0, "the new master has been told")

    assert {quiet.loads[key] for key in bystanders} == {1}
    assert events.of(TierChanged) == []
    await _served_from_l2(cluster, open_many, lost)


async def test_nothing_overtaken_survives_slots_that_move_under_load(
    cluster: ClusterGroup, open_many: OpenCache, events: Recorder
) -> None:
    """Key by key, so that for a while a key is here and its mark there."""
    cache = await open_many(cluster.url, l1=None, observers=[events])
    other = await open_many(cluster.url, l1=None)
    source, target, _ = cluster.masters
    moving = keys_of(cluster, source)[0][:5]
    traffic = Traffic(cache, other, moving)

    async with traffic.flowing():
        await traffic.more(100)
        for slot in {key_slot(name_of(key).encode()) for key in moving}:
            await asyncio.to_thread(cluster.migrate, slot, target)
            await traffic.more(50)
        for slot in {key_slot(name_of(key).encode()) for key in moving}:
            await asyncio.to_thread(cluster.migrate, slot, source)
        await traffic.more(100)

    assert traffic.overtaken == []
    assert traffic.queued == 0
    assert events.of(TierChanged) == []


@pytest.mark.parametrize("held", ["entry", "mark", "both", "nothing"])
async def test_everything_works_on_a_slot_that_is_half_moved(
    cluster: ClusterGroup, remote: RedisRemote, held: str
) -> None:
    """Some of a key's names have gone to the new node, others have not or do not exist."""
    lease, mark, entry = b"L" + b"a" * 16, b"L" + b"b" * 16, b"V" + bytes(5) + b"i" * 16 + b"old"
    name = name_of("k")
    source = cluster.owner(name)
    target = next(node for node in cluster.masters if node is not source)
    if held in {"entry", "both"}:
        cluster.command("SET", name, entry)
    if held in {"mark", "both"}:
        await remote.mark("k", mark, 20)
    with cluster.half_moved(key_slot(name.encode()), target):
        if held == "both":
            source.command("MIGRATE", "127.0.0.1", target.port, name, 0, 1000)

        assert await contents(remote, ["k"]) == [entry if held in {"entry", "both"} else None]
        if held in {"mark", "both"}:
            assert await remote.renew("k", mark, 20)
        if held in {"entry", "both"}:
            fences = {"fence": b"i" * 16, "mark": mark if held == "both" else None}
            assert await remote.commit("k", b"V new", 20, **cast("Any", fences))
            assert await contents(remote, ["k"]) == [b"V new"]
        assert not await remote.renew("k", lease, 20)
        await remote.invalidate(Invalidation(b"i" * 16, ("k",)))
        assert await remote.take("k", lease, 20) is None
        assert await remote.renew("k", lease, 20)
        await remote.release("k", lease)
        assert await contents(remote, ["k"]) == [None]


async def test_a_part_that_is_down_takes_only_its_own_keys_along(
    cluster: ClusterGroup, open_many: OpenCache, events: Recorder
) -> None:
    """Neither reads nor invalidations of the others notice; its own are told once it is back."""
    cache = await open_many(cluster.url, l1=None, observers=[events])
    other = await open_many(cluster.url, l1=None)
    source = Source()
    await trusted(cache)
    await asyncio.gather(*(source.read(cache, key) for key in KEYS))
    await settled(cache)
    victim = cluster.masters[0]
    lost, kept = keys_of(cluster, victim)
    cluster.replica_of(victim).kill()
    victim.kill()

    for _ in range(3):
        await asyncio.gather(*(source.read(cache, key) for key in KEYS))
    assert {source.loads[key] for key in kept} == {1}
    assert min(source.loads[key] for key in lost) > 1
    for key in KEYS:
        source.change(key)
    assert (await cache.invalidate(keys=KEYS)).l2 == "queued"
    assert cache.statistics().pending == len(lost)
    assert (await cache.invalidate(keys=kept)).l2 == "done"
    await asyncio.gather(*(source.read(other, key) for key in kept))
    assert events.of(TierChanged) == []

    cluster.repair()
    await eventually(lambda: cache.statistics().pending == 0, "the part has been told")
    await asyncio.gather(*(source.read(other, key) for key in KEYS))


async def test_what_a_part_that_is_down_would_hold_is_unreached_among_others(
    cluster: ClusterGroup, remote: RedisRemote
) -> None:
    """Asked for alone it is an error, and an invalidation names what it has not reached."""
    victim = cluster.masters[0]
    lost, kept = keys_of(cluster, victim)
    for key in KEYS:
        cluster.command("SET", name_of(key), key)
    victim.stop()

    values = [UNREACHED if key in lost else key.encode() for key in KEYS]
    assert await contents(remote, KEYS) == values
    with pytest.raises(TierPartError):
        await remote.get_many(lost[:1])
    with pytest.raises(TierPartError):
        await remote.get_many(lost)
    with pytest.raises(TierPartError) as caught:
        await remote.invalidate(Invalidation(b"i" * 16, tuple(KEYS)))
    assert set(caught.value.keys) == set(lost)
    assert await contents(remote, kept) == [None] * len(kept)
    await remote.probe()


async def test_a_cluster_of_which_nothing_answers_is_down(
    cluster: ClusterGroup, open_many: OpenCache, events: Recorder
) -> None:
    """Said once, and found again."""
    cache = await open_many(cluster.url, l1=None, observers=[events])
    source = Source()
    await asyncio.gather(*(source.read(cache, key) for key in KEYS))
    for node in cluster.nodes:
        node.stop()

    async with asyncio.timeout(DEADLINE):
        # Each node is left alone first; that all are, is known once the map has been asked for.
        while not events.of(TierChanged):
            await asyncio.gather(*(source.read(cache, key) for key in KEYS))
    assert [event.up for event in events.of(TierChanged)] == [False]
    cluster.repair()

    async with asyncio.timeout(DEADLINE):
        # Where nothing is pending, only a read finds out that it is back.
        while len(events.of(TierChanged)) < 2:
            await asyncio.gather(*(source.read(cache, key) for key in KEYS))
    assert [event.up for event in events.of(TierChanged)] == [False, True]
    await eventually(lambda: cache.statistics().pending == 0, "nothing is pending")


async def test_a_hung_node_among_those_of_the_url_delays_nobody(
    cluster: ClusterGroup, open_many: OpenCache, events: Recorder
) -> None:
    """The next one is asked."""
    cluster.nodes[0].stop()

    cache = await open_many(cluster.url, l1=None, observers=[events])

    assert events.of(TierChanged) == []
    assert "L2 up" in repr(cache)


@pytest.mark.filterwarnings("ignore:.*read_from_replicas:DeprecationWarning")
async def test_a_borrowed_client_that_may_read_from_replicas_does_not(
    cluster: ClusterGroup, open_many: OpenCache
) -> None:
    """Its connections say READONLY; ours must not, and it stays open and unused."""
    client = RedisCluster(port=cluster.nodes[0].port, host="127.0.0.1", read_from_replicas=True)
    cache = await open_many(client=client, l1=None)
    source = Source()
    await asyncio.gather(*(source.read(cache, key) for key in KEYS))

    ours = [_connections(node) for node in cluster.nodes]
    assert sum(map(len, ours)) >= 3
    assert not any("r" in flags for each in ours for flags in each)
    await cache.aclose()
    await cast("Any", client).set("still", "open")
    await client.aclose()


async def test_a_server_without_cluster_mode_is_named_as_the_reason(redis: Server) -> None:
    """It could serve, by another URL."""
    url = redis.url.replace("redis://", "redis+cluster://")
    remote = RedisRemote(url, namespace="test", clock=SYSTEM_CLOCK)

    with pytest.raises(TierError, match="Cluster mode is not enabled"):
        await remote.probe()
    with pytest.raises(TierError, match="Cluster mode is not enabled"):
        await remote.get_many(["k"])

    await remote.aclose()
    await eventually(lambda: redis.connections() == 0, "all connections are closed")


async def test_a_cluster_that_refuses_everything_while_a_part_is_down_comes_back(
    cluster: ClusterGroup, open_many: OpenCache
) -> None:
    """That is its default: `cluster-require-full-coverage yes`."""
    for node in cluster.nodes:
        node.configure(cluster_require_full_coverage="yes")
    cache = await open_many(cluster.url, l1=None)
    other = await open_many(cluster.url, l1=None)
    victim = cluster.masters[2]
    traffic = Traffic(cache, other, KEYS)

    async with traffic.flowing():
        await traffic.more(100)
        victim.kill()
        await asyncio.to_thread(cluster.taken_over, victim)
        await traffic.more(100)
    for node in cluster.nodes:
        if node.answers:
            node.configure(cluster_require_full_coverage="no")

    await eventually(lambda: cache.statistics().pending == 0, "the new master has been told")
    await eventually(lambda: other.statistics().pending == 0, "the new master has been told")
    await _served_from_l2(cluster, open_many, KEYS)


@pytest.mark.parametrize(("query", "opened"), [("&max_connections=1", 1), ("", 2)])
async def test_a_node_has_one_connection_and_one_for_what_is_large(
    cluster: ClusterGroup, query: str, opened: int
) -> None:
    """However many turns there are, unless the URL allows one only."""
    url = f"{cluster.url}?client_name=ours{query}"
    remote = RedisRemote(url, namespace="test", clock=SYSTEM_CLOCK)
    await remote.probe()
    for node in cluster.masters:
        node.stop()
    asking: list[asyncio.Task[Any]] = []
    for number in range(60):
        frame, fence = bytes(LARGE_BYTES + 1), b"L" * 17
        storing = remote.commit(f"k{number}", frame, 1.0, fence=fence)
        asking += map(asyncio.ensure_future, (remote.get_many([f"k{number}"]), storing))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    for node in cluster.nodes:
        if node.stopped:
            node.cont()
    await asyncio.gather(*asking)

    lines = [_lines(node) for node in cluster.nodes]
    assert max(sum("name=ours" in line for line in each) for each in lines) == opened
    await remote.aclose()


async def test_the_time_is_that_of_one_node(cluster: ClusterGroup, remote: RedisRemote) -> None:
    """Of slot 0's, in every process: their clocks may differ."""
    route = cast("Any", remote)._route
    keeper = route._owners[0].address
    other = next(address for address in route._nodes if address != keeper)
    before = remote.now()

    route._told(other, 1.0, 0.0)
    assert abs(remote.now() - before) < 60
    route._told(keeper, 1.0, 0.0)
    assert remote.now() < 60


async def _served_from_l2(cluster: ClusterGroup, open_many: OpenCache, keys: list[str]) -> None:
    """Let one cache load keys, and fail unless another one then has them from L2."""
    first, second = await open_many(cluster.url, l1=None), await open_many(cluster.url, l1=None)
    source = Source()
    await first.invalidate(keys=keys)
    await asyncio.gather(*(source.read(first, key) for key in keys))
    await settled(first)
    await asyncio.gather(*(source.read(second, key) for key in keys))
    assert {source.loads[key] for key in keys} == {1}


def _connections(node: Server) -> list[str]:
    """Return the flags of each client that is none of the Cluster's own, the asker aside."""
    if not node.answers:
        return []
    clients = [dict(part.split("=", 1) for part in line.split()) for line in _lines(node)]
    return [
        each["flags"]
        for each in clients
        if each["cmd"] != "client|list" and each["flags"] not in {"S", "M"}
    ]


def _lines(node: Server) -> list[str]:
    told = node.command("CLIENT", "LIST")
    return told.decode().splitlines() if isinstance(told, bytes) else str(told).splitlines()
