"""Leases between processes, and what stands at a key that is no entry of ours."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError, ResponseError

from async_tiercache import Loaded, Refused, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, cached_names, function_of, soon, ticks
from tests.core.wire import Wire

RAW = "test:{value:1}"
LEASE = b"L" + bytes(16)
LAST_MINUTE = 253_402_300_740.0
"""Of the year 9999: no frame holds a later time."""


@pytest.mark.parametrize("max_loads", [None, 1])
async def test_a_miss_costs_three_turns(
    make_cache: MakeCache, server: MemoryServer, max_loads: int | None
) -> None:
    """Two before the caller has its value."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client, max_loads=max_loads)
    wire.sent.clear()

    await function_of(cache, Source())(1)
    await settled(cache)

    assert wire.sent == ["GET", "SET", "COMMIT"]


async def test_an_l2_hit_costs_one_turn_and_an_l1_hit_none(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """What was loaded elsewhere is read once."""
    await other.set(KEY, "v1")
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.sent.clear()
    value = function_of(cache, Source())

    assert [await value(1) for _ in range(5)] == ["v1"] * 5
    assert wire.sent == ["GET"]


async def test_a_load_of_another_process_is_waited_for(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """One load per key in the cluster."""
    source = Source()
    source.close()
    leading = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    waiting = asyncio.ensure_future(function_of(cache, source)(1))
    await clock.advance(0.1)
    assert not waiting.done()

    source.gate.set()
    await ticks()
    await clock.advance(1)

    assert await all_of(leading, waiting) == ["v1", "v1"]
    assert source.loads == 1


async def test_a_load_that_failed_elsewhere_is_taken_over(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Its lease is released, so the next one loads."""
    source = Source()
    source.error = LookupError("gone")
    source.close()
    leading = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    waiting = asyncio.ensure_future(function_of(cache, source)(1))
    await clock.advance(0.01)

    source.error = None
    source.gate.set()
    with pytest.raises(LookupError):
        await soon(leading)
    await clock.advance(1)

    assert await soon(waiting) == "v1"


async def test_a_load_that_was_cancelled_elsewhere_is_taken_over(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Whoever gives up gives its lease back."""
    source = Source()
    source.close()
    leading = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    waiting = asyncio.ensure_future(function_of(cache, source)(1))
    await clock.advance(0.01)

    leading.cancel()
    await ticks()
    source.gate.set()
    await clock.advance(1)

    assert await soon(waiting) == "v1"
    assert source.loads == 2


async def test_the_lease_of_a_dead_process_is_taken_over(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Nobody renews it, so Redis drops it."""
    await server.client().set(RAW, LEASE)
    waiting = asyncio.ensure_future(function_of(cache, Source())(1))
    await clock.advance(5)
    assert not waiting.done()

    await server.client().delete(RAW)
    await clock.advance(0.5)

    assert await soon(waiting) == "v1"


async def test_a_lease_that_never_ends_is_waited_for_no_longer_than_a_load_may_take(
    cache: TierCache, server: MemoryServer, clock: FakeClock, events: Recorder
) -> None:
    """Then this process loads for itself and keeps the value in L1 alone."""
    await server.client().set(RAW, LEASE)
    waiting = asyncio.ensure_future(function_of(cache, Source(), load_limit=10)(1))

    await clock.advance(11)

    assert await soon(waiting) == "v1"
    await settled(cache)
    assert events.of(Loaded)[0].stored == "l1"
    assert await server.client().get(RAW) == LEASE


async def test_a_lease_is_renewed_while_its_loader_runs(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Three times in its life, so that one lost renewal costs nothing."""
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    await ticks()
    await server.client().pexpire(RAW, 50_000)

    await clock.advance(0.34)

    assert 0 < await server.client().pttl(RAW) <= 1000
    source.gate.set()
    await soon(loading)


async def test_a_renewal_goes_on_after_a_failure(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Out of reach for a moment is not lost."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    await ticks()
    wire.cut("RENEW")

    await clock.advance(1.4)

    assert wire.sent.count("RENEW") >= 1
    source.gate.set()
    await soon(loading)


async def test_a_renewal_ends_when_the_lease_is_lost(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """What is not ours any more is left alone."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    await ticks()
    await server.client().delete(RAW)

    await clock.advance(5)

    assert wire.sent.count("RENEW") == 1
    source.gate.set()
    await soon(loading)


async def test_a_failed_load_gives_its_lease_back(cache: TierCache, server: MemoryServer) -> None:
    """Others need not wait for it to expire."""
    source = Source()
    source.error = LookupError("gone")

    with pytest.raises(LookupError):
        await function_of(cache, source)(1)
    await settled(cache)

    assert await cached_names(server) == []


async def test_a_load_that_takes_longer_than_its_value_lives_gives_its_lease_back(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Nothing has overtaken it, and the next reader need not wait for the lease to expire."""
    source = Source()
    source.close()
    reading = asyncio.ensure_future(function_of(cache, source, ttl=1, grace=1)(1))
    await soon(source.loading())
    for _ in range(12):
        await clock.advance(0.2)
    source.gate.set()
    await soon(reading)
    await settled(cache)

    assert await cached_names(server) == []
    assert cache.statistics().not_stored == {"expired": 1}


async def test_a_cancelled_load_gives_its_lease_back(
    cache: TierCache, server: MemoryServer
) -> None:
    """As one that failed."""
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())

    loading.cancel()
    await ticks()
    await soon(settled(cache))

    assert await cached_names(server) == []


async def test_a_lease_that_is_won_after_its_caller_went_is_given_back(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """The command was on the wire already."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    taking = wire.hold("SET")
    loading = asyncio.ensure_future(function_of(cache, Source())(1))
    await soon(taking.reached.wait())

    loading.cancel()
    await ticks()
    wire.let_pass("SET")
    await ticks()
    await soon(settled(cache))

    assert await cached_names(server) == []


async def test_a_failed_refresh_gives_its_mark_back(cache: TierCache, server: MemoryServer) -> None:
    """Another process may try at once."""
    source = Source()
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    source.error = LookupError("gone")

    with pytest.raises(LookupError):
        await value.refresh(1)
    await settled(cache)

    assert await cached_names(server) == [RAW.encode()]


async def test_a_refresh_that_failed_elsewhere_is_taken_over_at_the_next_look(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Nobody is told that a mark has been given back, so who waits tries for it at each look."""
    theirs, ours = Source(), Source("v2")
    other = await make_cache()
    refreshed = function_of(other, theirs)
    value = function_of(await make_cache(), ours)
    await refreshed(1)
    await settled(other)
    theirs.close()
    theirs.error = LookupError("gone")
    refreshing = asyncio.ensure_future(refreshed.refresh(1))
    await soon(theirs.loading(2))
    waiting = asyncio.ensure_future(value.refresh(1))
    await ticks()

    theirs.gate.set()
    with pytest.raises(LookupError):
        await soon(refreshing)
    await ticks()
    assert ours.loads == 0
    await clock.advance(0.1)

    assert await soon(waiting) == "v2"


async def test_a_redis_that_is_full_does_not_stop_loads(
    make_cache: MakeCache, server: MemoryServer, events: Recorder
) -> None:
    """The lease is refused, so the value is kept in L1 alone; the tier is not down."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client, observers=[events])
    wire.refuse("SET", OutOfMemoryError("command not allowed when used memory > 'maxmemory'."))
    value = function_of(cache, Source())

    assert await value(1) == "v1"
    await settled(cache)

    assert value.peek(1) == "v1"
    assert [event.stored for event in events.of(Loaded)] == ["l1"]
    assert "L2 up" in repr(cache)


async def test_a_commit_that_is_refused_for_memory_gives_the_lease_back(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """The value stays in L1; nobody waits for what will not come."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.refuse("COMMIT", OutOfMemoryError("command not allowed when used memory > 'maxmemory'."))
    value = function_of(cache, Source())

    await value(1)
    await settled(cache)

    assert value.peek(1) == "v1"
    assert await cached_names(server) == []


async def test_a_value_that_no_frame_can_hold_gives_the_lease_back(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its callers have it and memory keeps it; the log and the statistics tell."""
    await clock.advance(LAST_MINUTE - clock.wall())
    cache, source = await make_cache(), Source()
    value = function_of(cache, source)

    assert await value(1) == "v1"
    await settled(cache)

    assert value.peek(1) == "v1"
    assert await cached_names(server) == []
    assert cache.statistics().not_stored == {"unencodable": 1}
    assert "cannot be stored in L2" in caplog.text


async def test_a_read_that_redis_refuses_is_a_miss(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """An ACL without the command, for example: no reader sees it."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.refuse("GET", ResponseError("NOPERM this user has no permissions"))

    assert await function_of(cache, Source())(1) == "v1"


# What stands at a key.


@pytest.mark.parametrize(
    "held",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"not a frame", id="text"),
        pytest.param(b"VT\x03" + bytes(200), id="damaged"),
        pytest.param(b"\xff" * 17, id="as long as a lease"),
    ],
)
async def test_damaged_bytes_are_replaced(
    cache: TierCache, other: TierCache, server: MemoryServer, events: Recorder, held: bytes
) -> None:
    """They are a miss with its cause, never an exception, and do not stay."""
    await server.client().set(RAW, held)

    assert await soon(function_of(cache, Source())(1)) == "v1"
    await settled(cache)

    assert await other.get(KEY) == "v1"
    assert events.of(Refused) == [Refused(KEY, "frame")]
    assert cache.statistics().refused_frames == {"frame": 1}


async def test_a_frame_of_another_release_is_left_alone(
    cache: TierCache, server: MemoryServer, events: Recorder
) -> None:
    """Two releases at once must not overwrite each other for ever; own L1 keeps what was loaded."""
    await server.client().set(RAW, b"VT\xff, and what nobody knows yet")
    source = Source()
    value = function_of(cache, source)

    assert [await soon(value(1)), await soon(value(1))] == ["v1", "v1"]
    await settled(cache)

    assert await server.client().get(RAW) == b"VT\xff, and what nobody knows yet"
    assert events.of(Refused) == [Refused(KEY, "format")]
    assert cache.statistics().refused_frames == {"format": 1}
    assert cache.statistics().loads == 1


async def test_the_frame_of_another_key_is_replaced(
    cache: TierCache, other: TierCache, server: MemoryServer, events: Recorder
) -> None:
    """Its digest gives it away."""
    await other.set("value:2", "two")
    await server.client().rename("test:{value:2}", RAW)

    assert await soon(function_of(cache, Source())(1)) == "v1"
    await settled(cache)

    assert events.of(Refused) == [Refused(KEY, "key")]
    assert await other.get(KEY) == "v1"


async def test_a_key_of_another_type_is_replaced(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """Somebody else's list at our key is no reason to fail for ever."""
    raw: Any = server.client()
    await raw.rpush(RAW, "x")

    assert await soon(function_of(cache, Source())(1)) == "v1"
    await settled(cache)

    assert await other.get(KEY) == "v1"


async def test_keys_of_another_type_among_many_reads_are_replaced(
    cache: TierCache, server: MemoryServer
) -> None:
    """Reads that share a turn do not spoil each other."""
    raw: Any = server.client()
    await raw.rpush(RAW, "x")
    value = function_of(cache, Source())

    assert await all_of(*(value(n) for n in range(4))) == ["v1"] * 4


@dataclass
class Before:
    name: str


@dataclass
class After:
    name: str
    age: int = 0


async def test_the_entry_of_another_release_is_loaded_around(
    cache: TierCache, other: TierCache, server: MemoryServer, events: Recorder
) -> None:
    """It is left alone, so that two releases at once do not overwrite each other for ever."""

    @other.cached("value:{key}")
    async def before(key: int) -> Before:
        return Before("x")

    @cache.cached("value:{key}")
    async def after(key: int) -> After:
        return After("x", 7)

    await before(1)
    await settled(other)
    held = await server.client().get(RAW)

    assert [await after(1), await after(1)] == [After("x", 7)] * 2
    await settled(cache)

    assert await server.client().get(RAW) == held
    assert events.of(Refused) == [Refused(KEY, "schema")]
    assert [event.stored for event in events.of(Loaded)] == ["l1"]
    assert cache.statistics().refused_frames == {"schema": 1}


async def test_a_raised_schema_version_is_another_release(
    cache: TierCache, other: TierCache
) -> None:
    """For a change of meaning that no type shows."""
    await function_of(other, Source("cents"))(1)
    await settled(other)

    assert await function_of(cache, Source("euros"), schema_version=2)(1) == "euros"


async def test_get_does_not_guess_the_schema_of_another_release(
    cache: TierCache, other: TierCache
) -> None:
    """What no decorated function here returns cannot be decoded."""

    @other.cached("value:{key}")
    async def before(key: int) -> Before:
        return Before("x")

    await before(1)
    await settled(other)

    assert await cache.get(KEY, "nothing") == "nothing"


async def test_a_refresh_that_another_process_has_made_replaces_the_copy(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Of what was there before both began."""
    theirs, ours = Source("old"), Source("unused")
    wire = Wire(server)
    refreshed = function_of(await make_cache(client=wire.client), theirs)
    cache = await make_cache()
    value = function_of(cache, ours)
    await refreshed(1)
    await ticks()
    assert await value(1) == "old"
    theirs.value = "new"
    mark = wire.hold_reply("SET")
    refreshing = asyncio.ensure_future(refreshed.refresh(1))
    await soon(mark.reached.wait())
    waiting = asyncio.ensure_future(value.refresh(1))
    await ticks()
    await clock.advance(0.01)

    wire.let_pass("SET")
    assert await soon(refreshing) == "new"
    await ticks()
    await clock.advance(0.5)

    assert await soon(waiting) == "new"
    assert ours.loads == 0
    assert value.peek(1) == "new"
