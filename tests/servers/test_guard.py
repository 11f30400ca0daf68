"""Whatever becomes of Redis, a read gives the loader's value, and trouble costs once."""

import asyncio
from typing import Any, cast

import pytest

from async_tiercache import Loaded, TierCache, TierChanged
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.policies.breaker import Breaker
from async_tiercache.testing import FakeClock, Recorder, settled
from tests.servers.conftest import ONE_SERVER, OpenCache
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.servers.source import Source, believes, name_of
from tests.servers.troubles import TROUBLES, Hung, Refused, Trouble, during
from tests.servers.waiting import DEADLINE, eventually

pytestmark = pytest.mark.redis


async def _read_all(source: Source, cache: TierCache, *keys: str) -> None:
    async with asyncio.timeout(DEADLINE):
        await asyncio.gather(*(source.read(cache, key) for key in keys))


def _is_idle(cache: TierCache) -> bool:
    """Return whether nothing runs but the recovery, which waits for the clock."""
    core = cache._core
    names = {task.get_name() for task in core.tasks._running}
    return not len(core.loads) and names <= {"tiercache-recovery"}


def _attempts(cache: TierCache, proxy: Proxy) -> tuple[int, int]:
    """Return how many connections were tried and turns sent; the bus has a pace of its own."""
    bus: Any = cast("RedisRemote", cache._core._remote)._bus
    return proxy.opened - bus.attempts, len(proxy.turns)


def _since(before: tuple[int, int], now: tuple[int, int]) -> tuple[int, int]:
    """Return how many connections and turns there were between two counts.

    A connection of the bus that is on its way is counted by the bus, and not yet by the proxy.
    """
    opened = now[0] - before[0]
    return max(0, opened - 1), now[1] - before[1]


@pytest.mark.parametrize("trouble", TROUBLES, indirect=True)
async def test_trouble_costs_one_attempt_a_period_and_heals(
    trouble: Trouble,
    redis: Server,
    proxy: Proxy,
    open_cache: OpenCache,
    clock: FakeClock,
    events: Recorder,
    source: Source,
) -> None:
    """Reads never raise and get the loader's value; only probes reach Redis; it comes back.

    The clock stands still unless the test moves it, so the breaker's periods are counted.
    """
    cache = await open_cache(proxy.url, clock=clock, observers=[events])
    await _read_all(source, cache, "before")
    await settled(cache)

    async with during(trouble, redis, proxy):
        await _read_all(source, cache, *(f"first {n}" for n in range(20)))
        await eventually(lambda: _is_idle(cache), "stores and releases have ended")
        assert [event.up for event in events.of(TierChanged)] == [False]
        assert "L2 down" in repr(cache)

        after_the_first = _attempts(cache, proxy)
        await _read_all(source, cache, *(f"open {n}" for n in range(200)))
        await eventually(lambda: _is_idle(cache), "stores and releases have ended")
        assert _since(after_the_first, _attempts(cache, proxy)) == (0, 0)

        for period in range(2):
            before = _attempts(cache, proxy)
            await clock.advance(Breaker().period)
            await _read_all(source, cache, *(f"probe {period} {n}" for n in range(50)))
            await eventually(lambda: _is_idle(cache), "stores and releases have ended")
            # A probe may find its wire closed and connect again.
            assert max(_since(before, _attempts(cache, proxy))) <= 2

    await _healed(cache, clock)
    await _read_all(source, cache, "after")
    await settled(cache)

    assert [event.up for event in events.of(TierChanged)] == [False, True]
    assert name_of("after") in redis.names()
    assert set(source.loads.values()) == {1}
    assert len(source.loads) == 1 + 20 + 200 + 2 * 50 + 1


@pytest.mark.parametrize("trouble", [Refused, Hung], indirect=True, ids=["refused", "hung"])
async def test_a_cache_recovers_by_itself(
    trouble: Trouble,
    redis: Server,
    proxy: Proxy,
    open_cache: OpenCache,
    events: Recorder,
    source: Source,
) -> None:
    """On the real clock, reads alone find out that Redis is back."""
    cache = await open_cache(redis.url, observers=[events])
    async with during(trouble, redis, proxy):
        await _read_all(source, cache, "down")
        assert [event.up for event in events.of(TierChanged)] == [False]

    async with asyncio.timeout(DEADLINE):
        number = 0
        while len(events.of(TierChanged)) < 2:
            await source.read(cache, f"cold {number}")
            number += 1
    async with asyncio.timeout(DEADLINE):
        # One that was replaced meanwhile is not believed at once.
        while name_of(f"cold {number}") not in redis.names():
            number += 1
            await source.read(cache, f"cold {number}")
            await settled(cache)

    assert [event.up for event in events.of(TierChanged)] == [False, True]


async def test_a_cache_opens_while_redis_is_down(
    redis: Server, open_cache: OpenCache, events: Recorder, source: Source
) -> None:
    """Entering is no error, and Redis is used once it is there."""
    redis.kill()
    cache = await open_cache(redis.url, observers=[events])
    await _read_all(source, cache, "down")

    redis.start()
    async with asyncio.timeout(DEADLINE):
        number = 0
        while len(events.of(TierChanged)) < 2:
            await source.read(cache, f"cold {number}")
            number += 1
    await source.read(cache, "up")
    await settled(cache)

    assert name_of("up") in redis.names()


async def test_a_full_redis_is_read_and_is_not_down(
    redis: Server, open_cache: OpenCache, events: Recorder, source: Source
) -> None:
    """Out of memory, it answers what it has; what is missing is loaded and kept in L1."""
    first = await open_cache(redis.url)
    await _read_all(source, first, "there")
    await settled(first)
    cache = await open_cache(redis.url, observers=[events])

    redis.configure(maxmemory_policy="noeviction", maxmemory=1)
    await _read_all(source, cache, "there", *(f"missing {n}" for n in range(30)))
    await _read_all(source, cache, "there", *(f"missing {n}" for n in range(30)))
    await settled(cache)
    report = await cache.invalidate(keys=["there"])

    assert set(source.loads.values()) == {1}
    assert events.of(TierChanged) == []
    assert report.l2 == "done"
    assert redis.entries() == set()


async def test_a_redis_that_fills_during_a_load_refuses_the_value_and_frees_the_lease(
    redis: Server, open_cache: OpenCache, events: Recorder
) -> None:
    """The caller has its value, L1 keeps it, nobody waits for the lease."""
    cache = await open_cache(redis.url, observers=[events])

    async def load() -> str:
        redis.configure(maxmemory_policy="noeviction", maxmemory=1)
        return "value"

    assert await cache.get_or_load("k", load) == "value"
    await settled(cache)

    assert [event.stored for event in events.of(Loaded)] == ["l1"]
    assert events.of(TierChanged) == []
    assert redis.entries() == set()
    assert await cache.get_or_load("k", load) == "value"
    assert cache.statistics().loads == 1


async def test_a_restarted_empty_redis_is_filled_anew(
    redis: Server, open_cache: OpenCache, events: Recorder, source: Source
) -> None:
    """Connections that died with the old process are replaced; it is believed after a while."""
    cache = await open_cache(redis.url, l1=None, observers=[events])
    keys = [f"k{n}" for n in range(20)]
    await _read_all(source, cache, *keys)
    await settled(cache)

    redis.restart()
    await _read_all(source, cache, *keys)
    assert set(source.loads.values()) == {2}
    await eventually(lambda: believes(cache), "the new one is believed")
    for _ in range(2):
        await _read_all(source, cache, *keys)
        await settled(cache)

    assert set(source.loads.values()) == {3}
    assert redis.entries() == {name_of(key) for key in keys}
    assert events.of(TierChanged) == []


@ONE_SERVER
@pytest.mark.parametrize("how", ["killed", "idle"])
async def test_a_connection_that_the_server_closed_is_not_noticed(
    redis: Server, open_cache: OpenCache, events: Recorder, source: Source, how: str
) -> None:
    """By CLIENT KILL or after its idle time: the next read has L2's value."""
    cache = await open_cache(redis.url, l1=None, observers=[events])
    await _read_all(source, cache, "k")
    await settled(cache)

    if how == "killed":
        redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    else:
        redis.configure(timeout=1)
    await eventually(lambda: redis.wires() == 0, "the server has hung up")
    await _read_all(source, cache, "k")

    assert source.loads["k"] == 1
    assert events.of(TierChanged) == []


async def test_connections_killed_at_any_time_cost_no_reader_its_value(
    redis: Server, open_cache: OpenCache, source: Source
) -> None:
    """CLIENT KILL strikes again and again between the ticks of concurrent reads."""
    cache = await open_cache(redis.url, l1=None)
    for wave in range(20):
        reads = [asyncio.create_task(source.read(cache, f"k{n}")) for n in range(wave, wave + 50)]
        for _ in range(wave % 7):
            await asyncio.sleep(0)
        redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*reads)
    await settled(cache)


@ONE_SERVER
async def test_a_write_whose_reply_is_lost_keeps_its_value(
    redis: Server, proxy: Proxy, open_cache: OpenCache
) -> None:
    """Its store is repeated on a new connection, and finds what it has put there itself."""
    cache = await open_cache(proxy.url)
    await cache.set("k", "old")

    async def write() -> None:
        async with cache.writing("k") as writing:
            writing.set("new")
            proxy.hold_replies()

    writing = asyncio.create_task(write())
    async with asyncio.timeout(DEADLINE):
        await proxy.held.wait()
        proxy.cut()
        proxy.release_replies()
        await writing

    assert redis.entries() == {"test:{k}"}
    assert await cache.get("k") == "new"


async def test_another_type_at_our_key_is_a_miss_and_replaced(
    redis: Server, open_cache: OpenCache, events: Recorder, source: Source
) -> None:
    """Who puts a list under our name disturbs nobody."""
    cache = await open_cache(redis.url, observers=[events])
    redis.command("RPUSH", name_of("k"), "x")

    await _read_all(source, cache, "k")
    await settled(cache)

    assert redis.command("TYPE", name_of("k")) == b"string"
    assert [event.stored for event in events.of(Loaded)] == ["l2"]
    assert events.of(TierChanged) == []


@pytest.mark.parametrize("there", ["", "x" * 65, ["x"]], ids=["empty", "long", "a list"])
async def test_what_is_no_secret_signs_nothing(
    redis: Server, open_cache: OpenCache, there: str | list[str]
) -> None:
    """Writes are told all the same, and nobody makes tokens by what he has put there himself."""
    name = "test:{*}:secret"
    redis.command(*(("SET", name, there) if isinstance(there, str) else ("RPUSH", name, *there)))
    cache = await open_cache(redis.url)

    reports = [await cache.set("k", 1), await cache.invalidate(keys=["k"], tags=["t"])]

    assert [(report.l2, report.token) for report in reports] == [("done", "")] * 2


GARBAGE = {
    "text": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "zeros": bytes(64),
    "ok": b"+OK\r\n",
    "integer": b":1\r\n",
    "boolean": b"#t\r\n",
    "double": b",1.5\r\n",
    "nothing": b"_\r\n",
    "empty-string": b"$0\r\n\r\n",
    "negative-length": b"$-5\r\n",
    "empty-array": b"*0\r\n",
    "short-array": b"*1\r\n$1\r\nx\r\n",
    "long-array": b"*9\r\n" + b":1\r\n" * 9,
    "map": b"%1\r\n+a\r\n+b\r\n",
    "error": b"-ERR nonsense\r\n",
    "unknown-error": b"-NONSENSE\r\n",
    "moved": b"-MOVED 1 127.0.0.1:1\r\n",
    "moved-nowhere": b"-MOVED\r\n",
    "no-permission": b"-NOPERM this user has no permissions\r\n",
    "misconfigured": b"-MISCONF Redis is configured to save RDB snapshots\r\n",
    "push": b">2\r\n+invalidate\r\n*0\r\n",
    "part": b"$10\r\nabc",
}
_AT_HANDSHAKES = ("text", "ok", "integer", "nothing", "empty-array", "map", "error", "part")


@ONE_SERVER
@pytest.mark.parametrize(
    ("garbage", "handshake"),
    [pytest.param(GARBAGE[name], False, id=f"{name}-reply") for name in GARBAGE]
    + [pytest.param(GARBAGE[name], True, id=f"{name}-handshake") for name in _AT_HANDSHAKES],
)
async def test_garbage_instead_of_replies_reaches_no_reader(
    redis: Server,
    proxy: Proxy,
    open_cache: OpenCache,
    clock: FakeClock,
    source: Source,
    garbage: bytes,
    handshake: bool,
) -> None:
    """One read alone and many together have the loader's value, whatever the server says."""
    cache = await open_cache(proxy.url, clock=clock, l1=None)
    await _read_all(source, cache, "k")
    await settled(cache)

    if handshake:
        proxy.instead_of_handshakes = garbage
        proxy.cut()
    else:
        proxy.instead = garbage
    ticking = asyncio.create_task(_ticking(clock))
    try:
        for attempt in range(2):
            await _read_all(source, cache, "k")
            await _read_all(source, cache, *(f"{attempt} {n}" for n in range(5)))
        await asyncio.wait_for(cache.invalidate(keys=["k"]), DEADLINE)
        proxy.instead = proxy.instead_of_handshakes = None
        async with asyncio.timeout(DEADLINE):
            await settled(cache)
    finally:
        ticking.cancel()
    await clock.advance(Breaker().period)
    await _read_all(source, cache, "after")
    await settled(cache)

    assert cache.statistics().pending == 0
    assert name_of("after") in redis.names()


async def _healed(cache: TierCache, clock: FakeClock) -> None:
    """Let time pass until a cache believes Redis again."""
    ticking = asyncio.create_task(_ticking(clock))
    try:
        await eventually(lambda: believes(cache), "Redis has been told, and is believed")
    finally:
        ticking.cancel()


async def _ticking(clock: FakeClock) -> None:
    """Let time pass while something waits for it."""
    while True:
        await clock.advance(0.1)
