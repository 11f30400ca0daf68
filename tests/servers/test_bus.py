"""The bus over real servers: what is told, what it proves, and what cuts it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.abc import TAG_EPOCH, Invalidation
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.testing.contracts._heard import BOUND, Heard, listening
from tests.servers.conftest import ONE_SERVER
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.servers.waiting import DEADLINE, eventually

pytestmark = pytest.mark.redis

RECORD = Invalidation(b"r" * 16, ("k",), ("t",))
LEASE = b"L" + b"l" * 16
LAST = "test:{*}:last"

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


@pytest_asyncio.fixture
async def other(redis: Server, connect: Connect) -> RedisRemote:
    """Return the remote of a process that invalidates."""
    return await connect(redis.url)


@pytest_asyncio.fixture(params=[2, 3], ids=["resp2", "resp3"])
async def remote(redis: Server, connect: Connect, request: pytest.FixtureRequest) -> RedisRemote:
    """Return the remote of a process that listens."""
    return await connect(f"{redis.url}?protocol={request.param}")


@pytest_asyncio.fixture
async def heard(remote: RedisRemote) -> AsyncIterator[Heard]:
    """Return what is heard; the first gap is over."""
    async with listening(remote, DEADLINE) as heard:
        assert heard.names() == ["gap"]
        heard.events.clear()
        yield heard


async def trusted(heard: Heard) -> None:
    """Return once there is a proof about a moment that is still to come."""
    await heard.proof(SYSTEM_CLOCK.monotonic(), DEADLINE)


async def cut(redis: Server) -> None:
    """Close the connections of the bus; it connects again."""
    redis.command("CLIENT", "KILL", "TYPE", "pubsub")


def listeners(redis: Server) -> int:
    """Return how many connections listen."""
    return int(redis.command("PUBSUB", "NUMSUB", "test:bus")[1])


def calls(redis: Server) -> dict[str, int]:
    """Return how often each command was called."""
    stats: dict[str, Any] = redis.command("INFO", "commandstats")
    return {name.removeprefix("cmdstat_"): each["calls"] for name, each in stats.items()}


async def test_a_message_is_heard_by_all(
    heard: Heard, remote: RedisRemote, other: RedisRemote
) -> None:
    """Whoever has sent it."""
    await other.invalidate(RECORD)
    await remote.invalidate(RECORD)

    await heard.until(lambda: len(heard.records()) == 2, DEADLINE)
    assert heard.records() == [RECORD, RECORD]


async def test_thousands_of_names_are_told_in_parts(
    heard: Heard, other: RedisRemote, redis: Server
) -> None:
    """All of them, and all are changed."""
    keys = tuple(f"k{number}" for number in range(2000))
    tags = tuple(f"t{number}" for number in range(700))
    states = await other.ensure([*tags, TAG_EPOCH], 100)
    await other.seize("k1999", LEASE, 100)
    record = Invalidation(b"r" * 16, keys, tags, None, "k*")

    await other.invalidate(record)

    await heard.until(lambda: sum(len(each.keys) for each in heard.records()) == 2000, DEADLINE)
    told = heard.records()
    assert {key for each in told for key in each.keys} == set(keys)
    assert {tag for each in told for tag in each.tags} == set(tags)
    assert [each.pattern for each in told if each.pattern] == ["k*"]
    assert redis.command("EXISTS", "test:{k1999}") == 0
    now = (await other.get_many([], [*tags, TAG_EPOCH])).states
    assert all(a != b for a, b in zip(states, now, strict=True))


async def test_a_cut_without_messages_is_no_gap(
    heard: Heard, other: RedisRemote, redis: Server
) -> None:
    """However many there are."""
    await other.invalidate(RECORD)
    await trusted(heard)
    for _ in range(3):
        await cut(redis)
        await trusted(heard)

    assert heard.names() == ["apply"]


async def test_a_cut_with_a_message_is_a_gap(
    heard: Heard, other: RedisRemote, redis: Server
) -> None:
    """Said before the next proof about a moment after it."""
    await cut(redis)
    await eventually(lambda: listeners(redis) == 0, "the bus is cut")
    await other.invalidate(RECORD)
    now = SYSTEM_CLOCK.monotonic()
    await heard.proof(now, DEADLINE)

    events = [
        name for name, what in heard.events if not isinstance(what, float) or what > now + BOUND
    ]
    assert events[:2] == ["gap", "prove"]


async def test_a_server_that_restarts_is_another(heard: Heard, redis: Server) -> None:
    """Which may hold what is older."""
    redis.restart()

    await trusted(heard)

    assert heard.names() == ["replaced", "gap"]


@ONE_SERVER
async def test_a_server_that_hangs_proves_nothing(heard: Heard, redis: Server) -> None:
    """Nor does it end anything: once it goes on, so does trust."""
    redis.stop()
    stopped = SYSTEM_CLOCK.monotonic()
    await eventually(
        lambda: SYSTEM_CLOCK.monotonic() > max(heard.proofs(), default=0.0), "trust is over"
    )
    assert SYSTEM_CLOCK.monotonic() <= stopped + BOUND + 0.5

    redis.cont()

    await trusted(heard)


async def test_a_garbled_message_is_a_gap(heard: Heard, redis: Server) -> None:
    """And ends nothing."""
    redis.command("PUBLISH", "test:bus", b"\x00\xff")

    await trusted(heard)

    assert heard.names() == ["gap"]


async def test_a_last_message_that_is_evicted_is_a_gap(
    heard: Heard, other: RedisRemote, redis: Server
) -> None:
    """Of the next cut, not of the one after it."""
    await other.invalidate(RECORD)
    await trusted(heard)
    redis.command("DEL", LAST)
    for _ in range(2):
        await cut(redis)
        await trusted(heard)

    assert heard.names() == ["apply", "gap"]


async def test_a_full_server_takes_invalidations(
    heard: Heard, other: RedisRemote, redis: Server
) -> None:
    """It has to make no room for them."""
    await other.ensure(["t", TAG_EPOCH], 100)
    await other.seize("k", LEASE, 100)
    await other.invalidate(Invalidation(b"o" * 16, ("o",)))
    redis.configure(maxmemory=1, maxmemory_policy="noeviction")

    await other.invalidate(RECORD)
    await other.invalidate(Invalidation(b"s" * 16, ("k",), ("t",), 5.0))

    await heard.until(lambda: len(heard.records()) == 3, DEADLINE)
    assert redis.command("EXISTS", "test:{k}") == 0


async def test_who_may_not_ask_for_the_run_id_takes_every_cut_for_a_restart(
    heard: Heard, redis: Server
) -> None:
    """What cannot be told apart is taken for the worse."""
    redis.command("ACL", "SETUSER", "default", "-info")
    for _ in range(2):
        await cut(redis)
        await trusted(heard)

    assert heard.names() == ["replaced", "gap"] * 2


async def test_a_wake_costs_three_commands(
    heard: Heard, remote: RedisRemote, other: RedisRemote, redis: Server
) -> None:
    """To subscribe, to ask, and to unsubscribe some time later; nothing while it waits."""
    await other.seize("k", LEASE, 100)
    await remote.await_fill("warm", LEASE)
    before = calls(redis)

    assert await remote.await_fill("k", LEASE) == LEASE
    await trusted(heard)
    await other.release("k", LEASE)
    await heard.until(lambda: ("wake", "k") in heard.events, DEADLINE)
    await eventually(lambda: redis.command("PUBSUB", "NUMSUB", "test:{k}:w")[1] == 0, "it is over")

    after = calls(redis)
    asked = {name: after[name] - before.get(name, 0) for name in ("subscribe", "unsubscribe")}
    assert asked == {"subscribe": 1, "unsubscribe": 1}
    scripts = ("eval", "evalsha")
    assert sum(after.get(name, 0) - before.get(name, 0) for name in scripts) <= 4  # a release, too


async def test_many_who_wait_subscribe_together(
    heard: Heard, remote: RedisRemote, other: RedisRemote, redis: Server
) -> None:
    """With one command, and all are woken."""
    keys = [f"k{number}" for number in range(50)]
    await asyncio.gather(*(other.seize(key, LEASE, 100) for key in keys))
    before = calls(redis)["subscribe"]

    await asyncio.gather(*(remote.await_fill(key, LEASE) for key in keys))
    assert calls(redis)["subscribe"] - before == 1
    await asyncio.gather(*(other.release(key, LEASE) for key in keys))

    await heard.until(lambda: heard.names().count("wake") == 50, DEADLINE)


async def test_who_waits_is_woken_by_a_cut(
    heard: Heard, remote: RedisRemote, other: RedisRemote, redis: Server
) -> None:
    """The end of the load may have been missed; a wake of the next load is heard."""
    await other.seize("k", LEASE, 100)
    await remote.await_fill("k", LEASE)
    await cut(redis)
    await heard.until(lambda: ("wake", "k") in heard.events, DEADLINE)
    heard.events.clear()

    await eventually_waits(remote)
    await other.release("k", LEASE)

    await heard.until(lambda: ("wake", "k") in heard.events, DEADLINE)


async def eventually_waits(remote: RedisRemote) -> None:
    """Return once the bus is there for who waits."""
    async with asyncio.timeout(DEADLINE):
        while not await remote._bus.follow("k"):  # type: ignore[union-attr]  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert await remote.await_fill("k", LEASE) == LEASE


@ONE_SERVER
async def test_a_half_open_connection_proves_nothing(
    proxy: Proxy, connect: Connect, other: RedisRemote
) -> None:
    """It is given up after the bound, and what was told meanwhile is a gap."""
    remote = await connect(proxy.url)
    async with listening(remote, DEADLINE) as heard:
        opened = proxy.opened
        proxy.swallowing = True
        await other.invalidate(RECORD)
        await eventually(lambda: proxy.opened > opened, "another connection is tried")
        assert SYSTEM_CLOCK.monotonic() > max(heard.proofs())
        assert heard.records() == []
        heard.events.clear()

        proxy.swallowing = False
        proxy.cut()
        await trusted(heard)

        assert heard.names()[0] == "gap"


@pytest.fixture
def successor(program: Path, tmp_path: Path) -> Iterator[Server]:
    """Return a server that takes the place of the other one."""
    folder = tmp_path / "successor"
    folder.mkdir()
    server = Server(program, folder)
    server.start()
    yield server
    server.kill()


async def test_a_replica_proves_nothing(
    proxy: Proxy, redis: Server, successor: Server, connect: Connect
) -> None:
    """It answers pings, and what is told at the master does not come while its link is broken."""
    remote = await connect(proxy.url)
    async with listening(remote, DEADLINE) as heard:
        proxy.lead_to(successor.port)
        heard.events.clear()
        redis.command("REPLICAOF", "127.0.0.1", 1)

        await heard.until(lambda: "gap" in heard.names(), DEADLINE)
        await (await connect(successor.url)).invalidate(RECORD)

        await heard.until(lambda: RECORD in heard.records(), DEADLINE)


async def test_a_replica_without_a_successor_is_not_trusted(
    proxy: Proxy, redis: Server, connect: Connect
) -> None:
    """Nor is it asked more often than any server that is out of reach."""
    remote = await connect(proxy.url)
    async with listening(remote, DEADLINE) as heard:
        redis.command("REPLICAOF", "127.0.0.1", 1)
        opened, since = proxy.opened, SYSTEM_CLOCK.monotonic()
        await eventually(
            lambda: SYSTEM_CLOCK.monotonic() > max(heard.proofs()) + BOUND, "trust is over"
        )
        # Of pauses of 0.05, 0.1, 0.2, .. 1 s, each shortened by half at most; two kinds connect.
        assert proxy.opened - opened <= 2 * (6 + 2 * (SYSTEM_CLOCK.monotonic() - since))

        redis.command("REPLICAOF", "NO", "ONE")
        await trusted(heard)


async def test_a_server_that_knows_only_the_older_protocol_is_heard(
    program: Path, tmp_path: Path, connect: Connect
) -> None:
    """Some services do not know the newer one; writes before pings are refused there."""
    without = ("--rename-command", "HELLO", "")
    server = Server(program, tmp_path, "--bind", "127.0.0.1", "--save", "", *without)
    server.start()
    try:
        remote = await connect(f"{server.url}?protocol=2")
        async with listening(remote, DEADLINE) as heard:
            await (await connect(f"{server.url}?protocol=2")).invalidate(RECORD)
            await heard.until(lambda: RECORD in heard.records(), DEADLINE)
            await trusted(heard)
            heard.events.clear()
            await trusted(heard)
            assert heard.names() == []
    finally:
        server.kill()


async def test_a_bus_is_where_commands_go(
    proxy: Proxy, redis: Server, successor: Server, connect: Connect
) -> None:
    """One that stayed with the old server, which goes on, hears nothing of what is told now."""
    remote = await connect(proxy.url)
    async with listening(remote, DEADLINE) as heard:
        proxy.lead_to(successor.port)
        redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        heard.events.clear()
        await remote.get_many(["k"])

        await heard.until(lambda: "gap" in heard.names(), DEADLINE)
        await (await connect(successor.url)).invalidate(RECORD)

        await heard.until(lambda: RECORD in heard.records(), DEADLINE)


@ONE_SERVER
async def test_a_busy_loop_does_not_cut_the_bus(heard: Heard, redis: Server) -> None:
    """Answers that wait to be read are answers."""
    ids = redis.command("CLIENT", "LIST", "TYPE", "pubsub").split()[0]
    for _ in range(3):
        deadline = SYSTEM_CLOCK.monotonic() + 1.5 * BOUND
        while SYSTEM_CLOCK.monotonic() < deadline:
            pass
        await asyncio.sleep(0)

    await trusted(heard)

    assert heard.names() == []
    assert redis.command("CLIENT", "LIST", "TYPE", "pubsub").split()[0] == ids
