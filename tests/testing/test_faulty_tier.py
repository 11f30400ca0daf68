"""A cache over a tier that fails: readers are answered, and every invalidation arrives."""

import asyncio
from collections.abc import Awaitable
from random import Random
from typing import Any, TypeVar, get_args

import pytest

from async_tiercache import (
    MISSING,
    BoundCached,
    Invalidated,
    LoadContext,
    Loaded,
    TierCache,
    TierChanged,
)
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from async_tiercache.testing._faults import Kind, Operation
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon, ticks

T = TypeVar("T")

AWAITED = 9
OPTIONS: dict[str, Any] = {"ttl": 60, "l1_ttl": 5, "grace": 600, "jitter": 0, "early": 0}


@pytest.fixture
def server(clock: FakeClock) -> MemoryServer:
    """Return a server that tells the caches' time, as it is asked for it again and again."""
    return MemoryServer(clock)


async def answered(clock: FakeClock, work: Awaitable[T]) -> T:
    """Return what some work returns, which may wait for the clock: for a lease to end."""
    task = asyncio.ensure_future(work)
    await ticks()
    for _ in range(40):
        if not task.done():
            await clock.advance(0.05)
    return await soon(task)


def conditional_of(cache: TierCache) -> BoundCached[[int], str]:
    """Return a function whose value is never modified."""

    @cache.cached("constant:{key}", **OPTIONS)
    async def constant(key: int, context: LoadContext = LoadContext()) -> Any:
        return "c" if context.stale_value is MISSING else context.not_modified()

    return constant


async def every_operation(cache: TierCache, clock: FakeClock, source: Source) -> None:
    """Read, load for long, fail to load, refresh, write and invalidate, without an error."""
    value, constant = function_of(cache, source, **OPTIONS), conditional_of(cache)
    assert await answered(clock, value(AWAITED)) == "v1"
    assert await answered(clock, constant(1)) == "c"
    source.close()
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await clock.advance(0.5)
    source.gate.set()
    assert await soon(loading) == "v1"
    await settled_soon(cache, clock)

    source.error = LookupError("gone")
    with pytest.raises(LookupError):
        await answered(clock, value(2))
    source.error = None
    await settled_soon(cache, clock)

    await clock.advance(61)
    assert await answered(clock, value(1)) == "v1"
    assert await answered(clock, constant(1)) == "c"
    await settled_soon(cache, clock)

    async with cache.writing(KEY) as writing:
        source.value = "v2"
        writing.set("v2")
    assert await answered(clock, value(1)) == "v2"
    await settled_soon(cache, clock)

    async with cache.invalidating(keys=[KEY]):
        source.value = "v2b"
    assert await answered(clock, value(1)) == "v2b"
    await settled_soon(cache, clock)

    assert (await soon(cache.invalidate_pattern("value:*"))).l2 in {"done", "queued"}
    assert await answered(clock, value(1)) == "v2b"
    await settled_soon(cache, clock)

    source.value = "v3"
    assert (await soon(cache.invalidate(keys=[KEY]))).l2 in {"done", "queued"}
    assert await answered(clock, value(1)) == "v3"


async def settled_soon(cache: TierCache, clock: FakeClock) -> None:
    """Let the background go on past the half second in which nobody asks."""
    await ticks()
    for _ in range(3):
        await clock.advance(1)


async def healed(server: MemoryServer, clock: FakeClock, *caches: TierCache) -> None:
    """End the faults; return when no invalidation waits any more."""
    server.faults.clear()
    for _ in range(3):
        await clock.advance(1)
    for cache in caches:
        await soon(settled(cache))
        assert cache.statistics().pending == 0


@pytest.mark.parametrize("operation", get_args(Operation))
@pytest.mark.parametrize(
    ("kind", "times"),
    [
        ("drop", 1),
        ("drop", None),
        ("lose", 1),
        ("lose", None),
        ("refuse", 1),
        ("refuse", None),
        ("hang", 1),
    ],
)
async def test_no_reader_sees_an_operation_fail(
    make_cache: MakeCache,
    server: MemoryServer,
    clock: FakeClock,
    kind: Kind,
    times: int | None,
    operation: Operation,
) -> None:
    """Once or for long: this process reads what is true, and the others do after it."""
    source = Source()
    getattr(server.faults, kind)(operation, times=times)
    # Another process has begun to load this key, and will not end.
    lease = b"L" + bytes(16)
    await server.client().set(f"test:{{value:{AWAITED}}}", lease, px=900)
    cache = await make_cache()
    if operation == "probe":
        server.faults.drop("get_many", times=1)  # the tier is probed once it has failed

    await every_operation(cache, clock, source)

    assert operation in server.faults.struck
    await healed(server, clock, cache)
    other = await make_cache()
    assert await function_of(other, source, **OPTIONS)(1) == "v3"


@pytest.mark.parametrize("seconds", [0.5, 1, 5, 25])
async def test_a_lease_outlives_a_long_load_on_the_clock(
    cache: TierCache, clock: FakeClock, events: Recorder, seconds: float
) -> None:
    """It is renewed on the way, however far a test turns the clock at once."""
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())

    await clock.advance(seconds)
    source.gate.set()

    assert await soon(loading) == "v1"
    (loaded,) = await soon(events.wait_for(Loaded))
    assert loaded.stored == "l2"


async def test_a_value_whose_store_was_dropped_is_kept_in_memory(
    cache: TierCache, other: TierCache, server: MemoryServer, events: Recorder
) -> None:
    """The other process loads for itself."""
    server.faults.drop("commit", times=1)
    source = Source()
    await function_of(cache, source)(1)

    (loaded,) = await soon(events.wait_for(Loaded))
    await settled(cache)

    assert loaded.stored == "l1"
    assert function_of(cache, source).peek(1) == "v1"
    assert await other.get(KEY, None) is None


async def test_a_value_whose_reply_was_lost_is_stored(
    cache: TierCache, other: TierCache, server: MemoryServer, events: Recorder
) -> None:
    """This process does not know; the other one finds it, and an invalidation removes it."""
    server.faults.lose("commit", times=1)
    source = Source()
    await function_of(cache, source)(1)
    (loaded,) = await soon(events.wait_for(Loaded))
    await settled(cache)

    assert loaded.stored == "l1"
    assert await other.get(KEY) == "v1"


@pytest.mark.parametrize("kind", ["drop", "lose", "hang"])
async def test_an_invalidation_without_an_answer_is_queued_and_repeated(
    cache: TierCache,
    other: TierCache,
    server: MemoryServer,
    clock: FakeClock,
    events: Recorder,
    kind: str,
) -> None:
    """Until L2 has confirmed it; this process reads around L2 meanwhile."""
    source = Source()
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    getattr(server.faults, kind)("invalidate", times=1)

    source.value = "v2"
    report = await soon(cache.invalidate(keys=[KEY]))
    after = await soon(value(1))

    assert (report.l1, report.l2, after) == ("done", "queued", "v2")
    await healed(server, clock, cache)
    assert [event.l2 for event in events.of(Invalidated)] == ["queued", "done"]
    assert await other.get(KEY, None) is None


async def test_a_store_that_hangs_past_an_invalidation_brings_nothing_back(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It is carried out late, and finds its lease gone."""
    source = Source()
    server.faults.hang("commit", times=1)
    await function_of(cache, source)(1)
    await soon(server.faults.reached())
    await soon(settled(cache))
    await clock.advance(1)

    source.value = "v2"
    assert (await cache.invalidate(keys=[KEY])).l2 == "done"
    server.faults.clear()

    assert await other.get(KEY, None) is None
    assert await function_of(other, source)(1) == "v2"


async def test_a_full_server_is_not_down(
    cache: TierCache, server: MemoryServer, events: Recorder
) -> None:
    """It refuses what is new and serves what it has; memory serves the rest."""
    source = Source()
    value = function_of(cache, source, l1_ttl=5)
    await value(1)
    await settled(cache)
    server.faults.refuse("take", "commit", "seize", "mark")

    assert await value(2) == "v1"
    assert await value(2) == "v1"

    assert source.loads == 2
    assert events.of(TierChanged) == []
    server.faults.clear()


async def test_a_server_that_hangs_costs_one_reader_the_limit(
    cache: TierCache, server: MemoryServer, events: Recorder
) -> None:
    """The others, and all who come after it, are not asked to wait for it again."""
    server.faults.hang()
    value = function_of(cache, Source())

    assert await soon(asyncio.gather(*map(value, range(20)))) == ["v1"] * 20
    assert await soon(asyncio.gather(*map(value, range(20, 40)))) == ["v1"] * 20

    assert len(server.faults.struck) == 1
    assert [event.up for event in events.of(TierChanged)] == [False]
    server.faults.clear()


@pytest.mark.parametrize("seed", range(5))
async def test_under_faults_by_chance_nobody_reads_what_it_has_invalidated(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, seed: int
) -> None:
    """Each process reads its own changes; when the faults end, the others do too."""
    chance = Random(seed)
    rows = dict.fromkeys(range(3), 0)
    caches = [await make_cache() for _ in range(2)]

    async def row(key: int) -> int:
        return rows[key]

    reads = [cache.cached("value:{key}", **OPTIONS)(row) for cache in caches]
    known = [dict(rows) for _ in caches]
    server.faults.at_random(0.3, chance.random)
    for _ in range(300):
        who, key = chance.randrange(2), chance.randrange(3)
        if chance.random() < 0.2:
            rows[key] += 1
            await soon(caches[who].invalidate(keys=[f"value:{key}"]))
            known[who][key] = rows[key]
        assert await answered(clock, reads[who](key)) >= known[who][key]
        await clock.advance(chance.random() / 4)

    assert len(server.faults.struck) > 30
    await healed(server, clock, *caches)
    await clock.advance(OPTIONS["l1_ttl"])
    assert [await answered(clock, read(key)) for read in reads for key in rows] == [
        *rows.values()
    ] * 2
