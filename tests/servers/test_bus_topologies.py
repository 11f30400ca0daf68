"""The bus over a Cluster and over Sentinels: slots that move, and masters that change."""

from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio
from redis.crc import key_slot

from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, UNREACHED, Invalidation
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.errors import TierPartError
from async_tiercache.testing.contracts._heard import Heard, listening
from tests.servers.topologies import ClusterGroup, SentinelGroup

pytestmark = pytest.mark.redis

LIMIT = 20.0
"""How long a failover may take, in seconds."""
RECORD = Invalidation(b"r" * 16, ("k", "l", "m", "n"), ("s", "t"))
LEASE = b"L" + b"l" * 16

Connect = Callable[[str], Awaitable[RedisRemote]]


@pytest_asyncio.fixture
async def connect() -> AsyncIterator[Connect]:
    """Return what connects the remote of another process."""
    made: list[RedisRemote] = []

    async def connect(url: str) -> RedisRemote:
        remote = RedisRemote(url, namespace="test", clock=SYSTEM_CLOCK)
        made.append(remote)
        await remote.probe()
        return remote

    yield connect
    for remote in made:
        await remote.aclose()


async def trusted(heard: Heard) -> None:
    """Return once there is a proof about a moment that is still to come."""
    await heard.proof(SYSTEM_CLOCK.monotonic(), LIMIT)


# Clusters.


async def test_each_part_is_told_once(cluster: ClusterGroup, connect: Connect) -> None:
    """Although every master passes it on."""
    remote, other = await connect(cluster.url), await connect(cluster.url)
    async with listening(remote, LIMIT) as heard:
        await other.invalidate(RECORD)
        await trusted(heard)

        told = [*(each.keys + each.tags for each in heard.records())]
        assert sorted(told) == [(name,) for name in "klmnst"]
        assert {each.id for each in heard.records()} == {RECORD.id}


async def test_a_cut_of_one_master_is_a_gap(cluster: ClusterGroup, connect: Connect) -> None:
    """And trust comes back."""
    remote = await connect(cluster.url)
    async with listening(remote, LIMIT) as heard:
        heard.events.clear()
        cluster.masters[1].command("CLIENT", "KILL", "TYPE", "pubsub")

        await trusted(heard)

        assert heard.names() == ["gap"]


async def test_a_master_that_hangs_takes_all_trust_away(
    cluster: ClusterGroup, connect: Connect
) -> None:
    """Until a replica has taken over, which may hold what is older."""
    remote = await connect(cluster.url)
    async with listening(remote, LIMIT) as heard:
        heard.events.clear()
        master = cluster.masters[0]
        master.stop()
        cluster.taken_over(master)

        await trusted(heard)

        assert "replaced" in heard.names()
        assert "gap" in heard.names()


async def test_a_slot_that_moves_loses_no_message(cluster: ClusterGroup, connect: Connect) -> None:
    """Of those that are sent before, while and after it moves."""
    remote, other = await connect(cluster.url), await connect(cluster.url)
    slot = key_slot(b"test:{k}")
    source = cluster.owner("test:{k}")
    target = next(node for node in cluster.masters if node is not source)
    record = Invalidation(b"r" * 16, ("k",))
    async with listening(remote, LIMIT) as heard:
        await other.invalidate(record)
        with cluster.half_moved(slot, target):
            await other.seize("k", LEASE, 100)
            await other.invalidate(record)
            assert (await other.get_many(["k"])).contents == [None]
        cluster.migrate(slot, target)
        await other.invalidate(record)
        await trusted(heard)

        assert heard.records() == [record] * 3
    cluster.migrate(slot, source)


async def test_a_half_moved_slot_holds_up_nothing(cluster: ClusterGroup, connect: Connect) -> None:
    """Each script is run on one name at a time, if it cannot be run on all."""
    remote, other = await connect(cluster.url), await connect(cluster.url)
    slot = key_slot(b"test:{k}")
    source = cluster.owner("test:{k}")
    target = next(node for node in cluster.masters if node is not source)
    record, token = Invalidation(b"r" * 16, ("k",)), b"t" * 16
    frame = b"VT....%bold" % (b"i" * 16)
    async with listening(remote, LIMIT):
        await other.seize("k", LEASE, 100)
        with cluster.half_moved(slot, target):
            assert await remote.await_fill("k", LEASE) == LEASE
            assert await other.renew("k", LEASE, 100)
            assert await other.commit("k", frame, 100, fence=LEASE)
            assert await other.mark("k", LEASE, 100)
            assert await other.stamp("k", b"j" * 16, 100, fence=b"i" * 16, mark=LEASE)
            await other.block(record, token, 100)
            await other.block(record, token, 100, renewing=True)
            assert not await other.seize("k", LEASE, 100)
            await other.unblock(record, token)
            assert (await other.get_many(["k"])).contents == [None]


async def test_a_node_that_is_down_fails_its_own_part(
    cluster: ClusterGroup, connect: Connect
) -> None:
    """Its keys and tags are unreached, and its part of a record is named."""
    remote = await connect(cluster.url)
    names = [*(f"test:{{{key}}}" for key in "klmn"), *(f"test:{{{tag}}}:t" for tag in "st")]
    tags = [NAMESPACE, TAG_EPOCH, *(f"tag{number}" for number in range(20))]
    await remote.ensure(tags, 100)
    down = next(
        node for node in cluster.masters if node is not cluster.owner(f"test:{{{TAG_EPOCH}}}:t")
    )
    theirs = {name for name in names if cluster.owner(name) is down}
    down.stop()

    reading = await remote.get_many(RECORD.keys, tags)
    with pytest.raises(TierPartError) as raised:
        await remote.invalidate(RECORD)

    lost = [
        key for key, held in zip(RECORD.keys, reading.contents, strict=True) if held is UNREACHED
    ]
    assert {f"test:{{{key}}}" for key in lost} == {name for name in theirs if name[-1] == "}"}
    assert [state is UNREACHED for state in reading.states] == [
        cluster.owner(f"test:{{{tag}}}:t") is down for tag in tags
    ]
    failed = [f"test:{{{key}}}" for key in raised.value.keys]
    failed += [f"test:{{{tag}}}:t" for tag in raised.value.tags]
    assert set(failed) == theirs


# Sentinels.


async def test_a_failover_is_another_server(sentinels: SentinelGroup, connect: Connect) -> None:
    """The old master goes on for seconds, and proves nothing meanwhile."""
    remote = await connect(sentinels.url)
    async with listening(remote, LIMIT) as heard:
        heard.events.clear()
        sentinels.fail_over()

        await heard.until(lambda: "replaced" in heard.names(), LIMIT)
        await trusted(heard)
        assert heard.names() == ["replaced", "gap"]
        # On a busy machine one that was connected before might still tell the old master.
        other = await connect(sentinels.url)
        await other.invalidate(RECORD)
        await heard.until(lambda: heard.records() == [RECORD], LIMIT)


async def test_without_sentinels_there_is_no_trust(
    sentinels: SentinelGroup, connect: Connect
) -> None:
    """Nobody says whether the master is one still; the connection stays."""
    remote = await connect(sentinels.url)
    async with listening(remote, LIMIT) as heard:
        heard.events.clear()
        for sentinel in sentinels.sentinels:
            sentinel.stop()
        await heard.until(lambda: len(heard.proofs()) >= 0, LIMIT)
        while SYSTEM_CLOCK.monotonic() < max(heard.proofs(), default=0.0) + 0.5:
            await SYSTEM_CLOCK.sleep(0.05)

        for sentinel in sentinels.sentinels:
            sentinel.cont()
        await trusted(heard)

        assert heard.names() == []
