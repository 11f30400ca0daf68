"""Statistics: what is counted, by family, tier and cause."""

import asyncio
import sys
from threading import Event, Thread
from typing import Any

import pytest

from async_tiercache import L1, Advice, Histogram, Policy, Statistics, TierCache
from async_tiercache.codecs.frame import HEADER_BYTES
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import Source, function_of, soon, ticks

NAME = "value:{key}"


async def test_calls_are_counted_by_the_tier_that_answers(
    make_cache: MakeCache, cache: TierCache, other: TierCache
) -> None:
    """Each call once."""
    await function_of(other, Source())(1)
    await settled(other)
    value = function_of(cache, Source())
    for key in (1, 1, 1, 2):
        await value(key)
        await settled(cache)

    found = cache.statistics(NAME)

    assert (found.l1_hits, found.l2_hits, found.misses, found.calls) == (2, 1, 1, 4)
    assert (found.hit_ratio, found.l1_hit_ratio, found.l2_hit_ratio) == (0.75, 0.5, 0.5)


async def test_who_joins_a_load_has_missed_too(cache: TierCache) -> None:
    """It has waited as long as the others; the loader ran once."""
    source = Source()
    source.close()
    value = function_of(cache, source)
    calls = [asyncio.create_task(value(1)) for _ in range(3)]
    await soon(source.loading())
    await ticks()
    source.gate.set()
    await soon(asyncio.gather(*calls))

    assert (cache.statistics().misses, cache.statistics().loads) == (3, 1)


@pytest.mark.parametrize("age", [0, 9], ids=["new", "early"])
async def test_looks_into_memory_are_hits_and_early_for_nobody(
    cache: TierCache, clock: FakeClock, age: float
) -> None:
    """They begin no refresh."""
    clock.draw = 0.9
    value = function_of(cache, Source(), ttl=10, jitter=0, early=10)
    await value(1)
    await settled(cache)
    await clock.advance(age)

    assert await cache.get("value:1") == (await cache.get_many(["value:1"]))["value:1"]

    found = cache.statistics("get_or_load")
    assert (found.l1_hits, found.early_reads) == (2, 0)


async def test_load_times_fall_into_fixed_buckets(cache: TierCache, clock: FakeClock) -> None:
    """Each into the first whose bound it does not exceed."""
    source = Source()
    value = function_of(cache, source, load_limit=100)
    for key, seconds in enumerate((0.001, 0.002, 3, 60)):
        source.close()
        call = asyncio.create_task(value(key))
        await soon(source.loading(key + 1))
        await ticks()
        await clock.advance(seconds)
        source.gate.set()
        await soon(call)

    times = cache.statistics(NAME).load_times

    found = dict(zip((*times.bounds, None), times.counts, strict=True))
    assert {bound for bound, count in found.items() if count} == {0.001, 0.0025, 5.0, None}
    assert times.count == 4
    assert times.total == pytest.approx(63.003)


async def test_the_age_of_stale_answers_is_counted(cache: TierCache, clock: FakeClock) -> None:
    """From the moment on at which they were due."""
    source = Source()
    value = function_of(cache, source, ttl=10, l1_ttl=1, grace=500, jitter=0, early=0)
    await value(1)
    await settled(cache)
    source.error = ConnectionResetError()
    for seconds in (15, 30, 100):
        await clock.advance(seconds)
        await value(1)

    ages = cache.statistics(NAME).stale_ages

    found = dict(zip((*ages.bounds, None), ages.counts, strict=True))
    assert {bound: count for bound, count in found.items() if count} == {5.0: 1, 60.0: 1, 300.0: 1}
    assert ages.total == pytest.approx(5 + 35 + 135)


async def test_stored_bytes_are_those_in_l2(cache: TierCache, server: MemoryServer) -> None:
    """Without the header, so that they compare with the encoded size."""
    await function_of(cache, Source("x" * 100))(1)
    await settled(cache)

    found = cache.statistics(NAME)

    raw = await server.client().get("test:{value:1}")
    assert raw is not None
    assert found.stores == 1
    assert found.stored_bytes == found.plain_bytes == len(raw) - HEADER_BYTES


async def test_l1_is_counted_by_family(make_cache: MakeCache, clock: FakeClock) -> None:
    """Entries, bytes, evictions and expiries belong to somebody."""
    cache = await make_cache(client=None, l1=L1(max_entries=4))

    @cache.cached("other:{key}", ttl=10)
    async def other(key: int) -> str:
        return "o"

    value = function_of(cache, Source("v"), ttl=1000)
    for key in range(3):
        await value(key)
        await other(key)
    found = {name: cache.statistics(name) for name in cache.families}

    assert sum(each.l1_entries for each in found.values()) == cache.statistics().l1_entries == 4
    assert sum(each.l1_evictions for each in found.values()) == 2
    assert found["other:{key}"].l1_bytes == 2 * found["other:{key}"].l1_entries
    await clock.advance(20)
    for key in range(3):
        await other(key)
    assert cache.statistics("other:{key}").l1_expiries > 0
    await cache.aclose()
    assert cache.statistics().l1_entries == cache.statistics().l1_bytes == 0


async def test_a_value_that_l2_could_not_take_is_counted(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It is in memory only."""
    server.connected = False
    await function_of(cache, Source())(1)
    server.connected = True

    assert cache.statistics(NAME).not_stored == {"unreachable": 1}


async def test_without_l2_nothing_is_unreachable(alone: TierCache) -> None:
    """Memory is where values belong then."""
    await function_of(alone, Source())(1)

    assert alone.statistics(NAME).not_stored == {}


async def missing(clock: FakeClock, value: Any, keys: range, *, seconds: float) -> None:
    """Miss with each of the keys while time goes by."""
    for key in keys:
        await value(key)
        clock._now += seconds / len(keys)


async def test_a_family_of_little_use_is_flagged(
    cache: TierCache, clock: FakeClock, events: Recorder
) -> None:
    """Once most calls have been misses for longer than its ttl; it is told once, by its name."""
    value = function_of(cache, Source(), ttl=100)
    await missing(clock, value, range(1200), seconds=50)
    assert not cache.statistics(NAME).low_hit_ratio

    await missing(clock, value, range(2000, 4000), seconds=200)

    assert cache.statistics(NAME).low_hit_ratio
    assert not cache.statistics("get_or_load").low_hit_ratio
    [advice] = [each for each in events.of(Advice) if each.name == "low-hit-ratio"]
    assert NAME in advice.message


async def test_a_cache_that_fills_is_not_flagged(cache: TierCache, clock: FakeClock) -> None:
    """However many keys it has."""
    value = function_of(cache, Source(), ttl=1000)
    await missing(clock, value, range(2500), seconds=10)

    assert not cache.statistics(NAME).low_hit_ratio


async def test_a_family_that_gets_better_is_not_flagged_any_more(
    alone: TierCache, clock: FakeClock
) -> None:
    """What counts is what came last."""
    value = function_of(alone, Source(), ttl=100)
    await missing(clock, value, range(2000), seconds=300)
    assert alone.statistics(NAME).low_hit_ratio

    for _ in range(600):
        await value(1999)

    assert not alone.statistics(NAME).low_hit_ratio


async def test_the_families_are_named(cache: TierCache) -> None:
    """Calls by key are one of them."""
    function_of(cache, Source())

    assert cache.families == ("get_or_load", NAME)


def test_they_may_be_read_in_another_thread() -> None:
    """As an endpoint that is no coroutine function does; causes come while it reads."""
    cache = TierCache(namespace="shop")
    families = [cache._families.counts_of(f"family{n}") for n in range(5)]
    done, errors = Event(), list[BaseException]()

    def read() -> None:
        try:
            while not done.is_set():
                cache.statistics()
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=read)
    thread.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for n in range(5_000):
            for counts in families:
                counts.not_stored[f"cause{n}"] += 1
    finally:
        sys.setswitchinterval(before)
        done.set()
        thread.join()

    assert errors == []


def test_the_repr_is_stable() -> None:
    """It is what a log line or a notebook shows."""
    times = Histogram((0.1, 1.0), (2, 0, 1), 61.5)

    found = Statistics(l1_hits=3, misses=1, load_times=times, not_stored={"skipped": 1})

    assert repr(found) == (
        "Statistics(l1_hits=3, misses=1, load_times=<Histogram 3 in 61.5 s>, "
        "not_stored={'skipped': 1})"
    )
    assert repr(Statistics()) == "Statistics()"


def test_statistics_are_frozen() -> None:
    """A record of one moment."""
    found: Any = Statistics()
    with pytest.raises(AttributeError):
        found.l1_hits = 1
    with pytest.raises(TypeError):
        found.not_stored["x"] = 1


async def test_policies_of_a_cache_do_not_disturb_counting(make_cache: MakeCache) -> None:
    """A cache that keeps nothing counts misses."""
    cache = await make_cache(policy=Policy(negative_ttl=0))
    value = function_of(cache, Source(None))

    assert [await value(1), await value(1)] == [None, None]
    await settled(cache)

    assert (cache.statistics().misses, cache.statistics().not_stored) == (2, {"negative": 2})
