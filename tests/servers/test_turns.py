"""What each operation costs in turns to Redis, counted on the wire."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from async_tiercache import TierChanged
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.backends.redis import remote
from async_tiercache.testing import FakeClock, Recorder, settled
from tests.servers.conftest import ONE_SERVER, OpenCache
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.servers.source import POLICY, Source
from tests.servers.waiting import DEADLINE, eventually

pytestmark = pytest.mark.redis

LIMIT = 0.6
"""Longer than the product's, so that a busy machine is not mistaken for what is tested."""


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give turns `LIMIT` seconds."""
    monkeypatch.setattr(remote, "OPERATION_LIMIT", LIMIT)


async def test_a_server_without_our_scripts_costs_one_more_turn_once(
    redis: Server, proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """After a restart or a flush of its scripts the first store sends the text."""
    cache = await open_cache(proxy.url)
    redis.command("SCRIPT", "FLUSH")
    proxy.turns.clear()

    for key in ("one", "two"):
        await source.read(cache, key)
        await settled(cache)

    first, then = [["GET"], ["SET"], ["COMMIT"], ["EVAL"]], [["GET"], ["SET"], ["COMMIT"]]
    assert proxy.turns == first + then


async def test_a_miss_is_three_turns_of_which_the_caller_waits_for_two(
    proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """Ask, take the lease, load; the store goes on behind the caller's back."""
    cache = await open_cache(proxy.url)
    await source.read(cache, "other")
    await settled(cache)
    proxy.turns.clear()

    await source.read(cache, "k")
    assert proxy.turns == [["GET"], ["SET"]]
    await settled(cache)

    assert proxy.turns == [["GET"], ["SET"], ["COMMIT"]]


async def test_a_hit_in_l1_is_no_turn(proxy: Proxy, open_cache: OpenCache, source: Source) -> None:
    """Nothing is sent, however often."""
    cache = await open_cache(proxy.url)
    await source.read(cache, "k")
    await settled(cache)
    proxy.turns.clear()

    for _ in range(100):
        await source.read(cache, "k")

    assert proxy.turns == []


async def test_a_hit_in_l2_is_one_turn(proxy: Proxy, open_cache: OpenCache, source: Source) -> None:
    """The read itself, of a value that another process has stored."""
    first = await open_cache(proxy.url)
    await source.read(first, "k")
    await settled(first)
    second = await open_cache(proxy.url)
    proxy.turns.clear()

    await source.read(second, "k")
    await settled(second)

    assert proxy.turns == [["GET"]]
    assert source.loads["k"] == 1


async def test_an_invalidation_of_many_keys_is_one_turn(
    proxy: Proxy, open_cache: OpenCache
) -> None:
    """One command for all of them."""
    cache = await open_cache(proxy.url)
    proxy.turns.clear()

    report = await cache.invalidate(keys=[f"k{n}" for n in range(50)])

    assert report.l2 == "done"
    assert proxy.turns == [["DEL"]]


async def test_a_set_is_two_turns(proxy: Proxy, open_cache: OpenCache) -> None:
    """A lease in place of what was there, and the store."""
    cache = await open_cache(proxy.url)
    await cache.set("other", "v")
    proxy.turns.clear()

    await cache.set("k", "v")

    assert proxy.turns == [["SET"], ["COMMIT"]]


async def test_a_refresh_of_a_stale_entry_is_three_turns(
    proxy: Proxy, open_cache: OpenCache, clock: FakeClock, source: Source
) -> None:
    """Ask, mark, store: no more than a miss."""
    cache = await open_cache(proxy.url, l1=None, clock=clock, policy=POLICY.replace(grace="1h"))
    await source.read(cache, "k")
    await settled(cache)
    await clock.advance(61)
    proxy.turns.clear()

    await source.read(cache, "k")
    await settled(cache)

    assert proxy.turns == [["GET"], ["SET"], ["COMMIT"]]
    assert source.loads["k"] == 2


async def test_concurrent_reads_of_l2_share_a_turn(
    proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """A hundred keys asked in one tick are one MGET."""
    first = await open_cache(proxy.url)
    keys = [f"k{n}" for n in range(100)]
    await asyncio.gather(*(source.read(first, key) for key in keys))
    await settled(first)
    second = await open_cache(proxy.url)
    proxy.turns.clear()

    await asyncio.gather(*(source.read(second, key) for key in keys))

    assert proxy.turns == [["MGET"]]


@pytest_asyncio.fixture
async def through(proxy: Proxy) -> AsyncIterator[remote.RedisRemote]:
    """Return a remote that is connected through the proxy."""
    through = remote.RedisRemote(proxy.url, namespace="test", clock=SYSTEM_CLOCK)
    await through.probe()
    yield through
    await through.aclose()


def told(proxy: Proxy) -> list[list[str]]:
    """Return the turns without what greets a new connection, in an order of no meaning."""
    return sorted(sorted(name for name in turn if name != "TIME") for turn in proxy.turns)


@pytest.mark.parametrize(
    ("count", "turns"), [(1000, [["MGET"]]), (1024, [["MGET"]]), (1025, [["GET"], ["MGET"]])]
)
async def test_a_thousand_keys_asked_for_in_one_call_are_one_turn(
    proxy: Proxy, through: remote.RedisRemote, count: int, turns: list[list[str]]
) -> None:
    """And so are a few more; then it is two."""
    proxy.turns.clear()

    assert await through.get_many([f"k{n}" for n in range(count)]) == [None] * count

    assert told(proxy) == turns


@pytest.mark.usefixtures("patience")
async def test_a_thousand_cold_keys_at_once_are_few_turns_on_few_connections(
    redis: Server, proxy: Proxy, open_cache: OpenCache, events: Recorder, source: Source
) -> None:
    """Three thousand commands go in some dozen turns, and Redis is never taken for dead."""
    cache = await open_cache(proxy.url, observers=[events])
    keys = [f"k{n}" for n in range(1000)]
    proxy.turns.clear()

    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(source.read(cache, key) for key in keys))
        await settled(cache)

    assert set(source.loads.values()) == {1}
    assert events.of(TierChanged) == []
    assert len(redis.names()) == 1000
    assert len(proxy.turns) <= 30
    assert proxy.alive <= 8


@ONE_SERVER
@pytest.mark.usefixtures("patience")
@pytest.mark.parametrize("connected", [True, False], ids=["on-the-wire", "connecting"])
async def test_a_blocked_event_loop_is_not_taken_for_a_dead_redis(
    redis: Server, open_cache: OpenCache, events: Recorder, source: Source, connected: bool
) -> None:
    """Somebody's synchronous code holds the loop for longer than a turn may take."""
    first = await open_cache(redis.url)
    await source.read(first, "k")
    await settled(first)
    cache = await open_cache(redis.url, l1=None, observers=[events])
    if not connected:
        redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await eventually(lambda: redis.connections() == 0, "the server has hung up")

    reading = asyncio.create_task(source.read(cache, "k"))
    for _ in range(4):
        await asyncio.sleep(0)
        _block(1.5 * LIMIT)
    await reading

    assert source.loads["k"] == 1
    assert events.of(TierChanged) == []


@pytest.mark.usefixtures("patience")
async def test_a_reply_that_waits_in_the_socket_at_the_deadline_is_taken(
    redis: Server, open_cache: OpenCache, events: Recorder, source: Source
) -> None:
    """The deadline is judged after the socket has been drained, also when the loop is just busy."""
    first = await open_cache(redis.url)
    await source.read(first, "k")
    await settled(first)
    cache = await open_cache(redis.url, l1=None, observers=[events])

    redis.stop()
    begun = time.monotonic()
    reading = asyncio.create_task(source.read(cache, "k"))
    for _ in range(5):
        await asyncio.sleep(0)
    redis.cont()
    # The server answers the one that it has to answer first, before it answers us.
    redis.command("PING")
    _block(begun + LIMIT + 0.02 - time.monotonic())
    await reading

    assert source.loads["k"] == 1
    assert events.of(TierChanged) == []


def _block(seconds: float) -> None:
    """Keep the event loop from running, as bad code does."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
