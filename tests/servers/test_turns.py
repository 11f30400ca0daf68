"""What each operation costs in turns to Redis, counted on the wire."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from async_tiercache import TierChanged
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache._family import MANY_MISSES
from async_tiercache.backends.redis import remote
from async_tiercache.testing import FakeClock, Recorder, settled
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Origin, fetch
from tests.servers.conftest import ONE_SERVER, OpenCache
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.servers.source import POLICY, Source, name_of
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

    first, then = [["MGET"], ["SET"], ["COMMIT"], ["EVAL"]], [["MGET"], ["SET"], ["COMMIT"]]
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
    assert proxy.turns == [["MGET"], ["SET"]]
    await settled(cache)

    assert proxy.turns == [["MGET"], ["SET"], ["COMMIT"]]


async def test_an_expected_miss_is_two_turns_of_which_the_caller_waits_for_one(
    proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """Where there was nothing some times in a row, the lease is asked for with the question."""
    cache = await open_cache(proxy.url)
    for number in range(MANY_MISSES):
        await source.read(cache, f"other {number}")
    await settled(cache)
    proxy.turns.clear()

    await source.read(cache, "k")
    assert proxy.turns == [["MGET", "SET"]]
    await settled(cache)

    assert proxy.turns == [["MGET", "SET"], ["COMMIT"]]


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

    assert proxy.turns == [["MGET"]]
    assert source.loads["k"] == 1


async def test_a_response_in_l2_is_one_turn_and_one_more_to_learn_its_names(
    proxy: Proxy, open_cache: OpenCache
) -> None:
    """Which fields tell a URL's variants apart is asked once for all of them."""
    here, there = await open_cache(proxy.url), await open_cache(proxy.url)
    origin = Origin(("cache-control", "max-age=60"))
    origin.follow = lambda scope: [*origin.fields, *[("vary", "accept")] * (scope["path"] == "/v")]
    app, elsewhere = ResponseCache(origin, cache=here), ResponseCache(origin, cache=there)
    asked = [("/", "a"), ("/v", "a"), ("/v", "b"), ("/v", "c"), ("/v", "a")]
    for path, accept in asked:
        await fetch(app, ("accept", accept), path=path)
    await settled(here)

    turns: list[int] = []
    for path, accept in asked:
        proxy.turns.clear()
        assert (await fetch(elsewhere, ("accept", accept), path=path)).hit
        await settled(there)
        assert all(turn == ["MGET"] for turn in proxy.turns)
        turns.append(len(proxy.turns))

    assert turns == [1, 2, 1, 1, 0]
    assert origin.calls == 4


async def test_an_invalidation_of_many_keys_is_one_turn(
    proxy: Proxy, open_cache: OpenCache
) -> None:
    """One command for all of them."""
    cache = await open_cache(proxy.url)
    await cache.invalidate(keys=["other"])
    proxy.turns.clear()

    report = await cache.invalidate(keys=[f"k{n}" for n in range(50)])

    assert report.l2 == "done"
    assert proxy.turns == [["INVALIDATE"]]


async def test_an_invalidation_of_keys_and_tags_is_one_turn(
    proxy: Proxy, open_cache: OpenCache
) -> None:
    """One script for all of them, which tells the other servers as well."""
    cache = await open_cache(proxy.url)
    await cache.invalidate(keys=["other"])
    proxy.turns.clear()

    report = await cache.invalidate(keys=["k"], tags=["s", "t"])

    assert report.l2 == "done"
    assert proxy.turns == [["INVALIDATE"]]


async def test_a_clear_is_one_turn(proxy: Proxy, open_cache: OpenCache, source: Source) -> None:
    """Whatever there is."""
    cache = await open_cache(proxy.url)
    await asyncio.gather(*(source.read(cache, f"k{n}") for n in range(100)))
    await settled(cache)
    await cache.invalidate(keys=["other"])
    proxy.turns.clear()

    assert (await cache.clear()).l2 == "done"

    assert proxy.turns == [["INVALIDATE"]]
    assert await cache.get("k1", None) is None


async def test_a_crash_safe_change_is_two_turns_more(proxy: Proxy, open_cache: OpenCache) -> None:
    """A block before it, and its end after it."""
    cache = await open_cache(proxy.url)
    for _ in range(2):
        proxy.turns.clear()
        async with cache.invalidating(keys=["k"], tags=["s", "t"]):
            assert [turn[0] for turn in proxy.turns][:1] == ["BLOCK"]

    assert proxy.turns == [["BLOCK"], ["UNBLOCK"]]


async def test_a_miss_under_a_tag_is_three_turns(
    proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """The tag's state is asked for with the key, made with the lease, kept alive with the store."""
    cache = await open_cache(proxy.url)
    await cache.get_or_load("other", source.loader("other"), tags=["other"])
    await settled(cache)
    proxy.turns.clear()

    await cache.get_or_load("k", source.loader("k"), tags=["t"])
    assert proxy.turns == [["MGET"], ["SET", "ENSURE"]]
    await settled(cache)
    assert proxy.turns == [["MGET"], ["SET", "ENSURE"], ["PEXPIRE", "COMMIT"]]

    proxy.turns.clear()
    await cache.get_or_load("l", source.loader("l"), tags=["t"])
    await settled(cache)
    assert proxy.turns == [["MGET"], ["SET"], ["PEXPIRE", "COMMIT"]]


async def test_a_hit_in_l2_under_a_declared_tag_is_one_turn(
    proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """The tag's state is asked for with the key."""
    first = await open_cache(proxy.url)
    await first.get_or_load("k", source.loader("k"), tags=["t"])
    await settled(first)
    second = await open_cache(proxy.url)
    proxy.turns.clear()

    await second.get_or_load("k", source.loader("k"), tags=["t"])

    assert proxy.turns == [["MGET"]]
    assert source.loads["k"] == 1


async def test_a_hit_in_l2_under_a_tag_that_only_the_entry_names_is_two_turns(
    proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """The second asks for its state, which is known from then on."""
    first = await open_cache(proxy.url)
    for key in ("k", "l"):
        await first.set(key, source.truth(key), tags=["t"])
    second = await open_cache(proxy.url)
    proxy.turns.clear()

    assert await second.get("k", None) == source.truth("k")
    assert proxy.turns == [["MGET"], ["GET"]]

    proxy.turns.clear()
    assert await second.get("l", None) == source.truth("l")
    assert proxy.turns == [["MGET"]]


@ONE_SERVER
async def test_who_waits_for_another_load_is_told_of_its_end(
    redis: Server, proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """While the bus is heard five commands do, for as long as a lease is good without renewal."""
    loader, waiter = await open_cache(redis.url), await open_cache(proxy.url)
    started, end = asyncio.Event(), asyncio.Event()

    async def load() -> str:
        started.set()
        await end.wait()
        return source.truth("k")

    async def wait_for(key: str) -> None:
        """Let both read, and the load last for two renewals of its lease."""
        renewals, last = 0, 10_000

        def renewed() -> bool:
            nonlocal renewals, last
            now: int = redis.command("PTTL", name_of(key))
            renewals, last = renewals + (now > last), now
            return renewals >= 2

        started.clear()
        end.clear()
        loading = asyncio.create_task(loader.get_or_load(key, load))
        await started.wait()
        waiting = asyncio.create_task(waiter.get_or_load(key, source.loader(key)))
        await eventually(renewed, "the load has lasted for a while")
        end.set()
        assert await loading == await waiting == source.truth("k")

    await wait_for("warm")
    await eventually(lambda: proxy.bus["UNSUBSCRIBE"] == 1, "it is over")
    proxy.turns.clear()
    proxy.bus.clear()
    await wait_for("k")
    await eventually(lambda: proxy.bus["UNSUBSCRIBE"] == 1, "it is over")

    assert proxy.bus["SUBSCRIBE"] == 1
    assert [name for turn in proxy.turns for name in turn] == ["MGET", "WAIT", "MGET"]
    assert not source.loads


async def test_entering_a_cache_costs_few_turns(proxy: Proxy, open_cache: OpenCache) -> None:
    """A probe, what it advises on, and what all values rest on; the bus has one of its own."""

    async def enter() -> list[list[str]]:
        proxy.turns.clear()
        cache = await open_cache(proxy.url)
        turns = list(proxy.turns)
        await cache.aclose()
        return turns

    await enter()

    assert await enter() == [["TIME", "SET"], ["CONFIG"], ["SET", "ENSURE"]]


async def test_a_set_is_two_turns(proxy: Proxy, open_cache: OpenCache) -> None:
    """A lease in place of what was there, and the store, which the other servers are told of."""
    cache = await open_cache(proxy.url)
    await cache.set("other", "v")
    proxy.turns.clear()

    await cache.set("k", "v")

    assert proxy.turns == [["SEIZE", "ENSURE"], ["COMMIT", "INVALIDATE"]]


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

    assert proxy.turns == [["MGET"], ["SET"], ["COMMIT"]]
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
    ("count", "turns"), [(1000, [["MGET"]]), (1024, [["MGET"]]), (1025, [["MGET", "MGET"]])]
)
async def test_a_thousand_keys_asked_for_in_one_call_are_one_turn(
    proxy: Proxy, through: remote.RedisRemote, count: int, turns: list[list[str]]
) -> None:
    """And so are a few more; then it is two, of which none waits for the other."""
    proxy.turns.clear()

    assert (await through.get_many([f"k{n}" for n in range(count)])).contents == [None] * count

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
    # On a busy machine a lease may end before its value comes.
    late = cache.statistics().not_stored.get("overtaken", 0)
    assert len(redis.entries()) + late == 1000
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
        await eventually(lambda: redis.wires() == 0, "the server has hung up")

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
