"""While a value is refreshed, the old one is served to whom it may be, and until it is dead."""

import asyncio
from typing import Any

import pytest

from async_tiercache import BoundCached, Read, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.rows import Rows, functions_of
from tests.core.source import KEY, Source, function_of, soon, ticks
from tests.core.wire import Wire

EARLY: dict[str, Any] = {"ttl": 100, "jitter": 0, "early": 10, "grace": 0, "load_limit": 1000}
"""With a load of 1 s and a draw of 0.9: early from 77 s, dead from 100 s."""
SOFT = EARLY | {"early": 0, "grace": 50, "soft_timeout": 0}
"""Stale from 100 s, dead from 150 s."""

both_tiers = pytest.mark.parametrize("tiers", ["both", "l1"])


async def loaded(
    cache: TierCache, clock: FakeClock, age: float, **options: Any
) -> tuple[BoundCached[[int], Any], Source]:
    """Return a cached function whose value was loaded `age` seconds ago; its source hangs now."""
    clock.draw = 0.9
    source = Source("old")
    value = function_of(cache, source, **options)
    source.close()
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await clock.advance(1)
    source.gate.set()
    await soon(loading)
    await settled(cache)
    await clock.advance(age - 1)
    source.close()
    source.value = "new"
    return value, source


async def answered(
    cache: TierCache, clock: FakeClock, age: float, **options: Any
) -> tuple[BoundCached[[int], Any], Source]:
    """Return one that has answered with its old value, behind which it is refreshed."""
    value, source = await loaded(cache, clock, age, **options)
    assert await soon(value(1)) == "old"
    await soon(source.loading(2))
    return value, source


@both_tiers
@pytest.mark.parametrize(("options", "age"), [(EARLY, 80), (SOFT, 110)], ids=["early", "soft"])
async def test_a_value_that_dies_during_its_refresh_is_given_to_nobody(
    cache: TierCache,
    alone: TierCache,
    clock: FakeClock,
    tiers: str,
    options: dict[str, Any],
    age: float,
) -> None:
    """Who comes then waits for the new one."""
    chosen = cache if tiers == "both" else alone
    value, source = await answered(chosen, clock, age, **options)
    await clock.advance(60)
    reading = asyncio.ensure_future(value(1))
    await ticks()
    assert not reading.done()

    source.gate.set()

    assert await soon(reading) == "new"
    assert source.loads == 2


@both_tiers
async def test_who_waits_because_the_value_has_died_gets_the_error_of_its_refresh(
    cache: TierCache, alone: TierCache, clock: FakeClock, tiers: str
) -> None:
    """There is nothing to fall back on any more."""
    chosen = cache if tiers == "both" else alone
    value, source = await loaded(chosen, clock, 80, **EARLY)
    source.error = OSError("the database is down")
    assert await soon(value(1)) == "old"
    await clock.advance(60)
    reading = asyncio.ensure_future(value(1))
    await ticks()

    source.gate.set()

    with pytest.raises(OSError, match="database"):
        await soon(reading)


@both_tiers
async def test_who_leaves_a_refresh_that_others_were_answered_before_does_not_end_it(
    cache: TierCache, alone: TierCache, clock: FakeClock, tiers: str
) -> None:
    """It runs behind them, whoever waits for it."""
    chosen = cache if tiers == "both" else alone
    value, source = await answered(chosen, clock, 80, **(EARLY | {"on_abandon": "cancel"}))
    await clock.advance(60)
    reading = asyncio.ensure_future(value(1))
    await ticks()
    reading.cancel()
    await ticks()
    source.gate.set()
    await soon(settled(chosen))

    assert source.loads == 2
    assert await soon(value(1)) == "new"


async def test_a_batch_gets_no_value_that_has_died_during_its_refresh(
    cache: TierCache, clock: FakeClock
) -> None:
    """The same holds for each of many ids."""
    rows = Rows()
    _, many = functions_of(cache, rows, **EARLY)
    clock.draw = 0.9
    rows.gate.clear()
    call = asyncio.create_task(many([1]))
    await soon(rows.called())
    await clock.advance(1)
    rows.gate.set()
    await soon(call)
    await settled(cache)
    await clock.advance(79)
    rows.gate.clear()
    rows.rows = {1: "new"}
    assert await soon(many([1])) == {1: "row 1"}
    await clock.advance(60)
    call = asyncio.create_task(many([1]))
    await ticks()
    assert not call.done()

    rows.gate.set()

    assert await soon(call) == {1: "new"}


@both_tiers
async def test_a_value_that_becomes_stale_during_its_refresh_is_told_of_as_stale(
    cache: TierCache, alone: TierCache, clock: FakeClock, events: Recorder, tiers: str
) -> None:
    """And its age is that of when it is served."""
    chosen = cache if tiers == "both" else alone
    value, source = await answered(chosen, clock, 80, **(EARLY | {"grace": 1000}))
    await clock.advance(60)

    assert await soon(value(1)) == "old"
    statistics = chosen.statistics()
    assert [read.state for read in events.of(Read)][-2:] == ["early", "stale"]
    assert (statistics.early_reads, statistics.stale_reads) == (1, 1)
    assert statistics.stale_ages.total == 40
    source.gate.set()
    await soon(settled(chosen))


async def test_a_copy_is_offered_no_longer_than_l1_ttl_while_l2_does_not_answer(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Only L2 can tell that it still holds the same."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value, source = await loaded(cache, clock, 80, **(EARLY | {"l1_ttl": 85}))
    wire._cuts["GET"] = 1_000_000
    assert await soon(value(1)) == "old"
    await soon(source.loading(2))
    await clock.advance(4)
    assert await soon(value(1)) == "old"
    await clock.advance(3)
    reading = asyncio.ensure_future(value(1))
    await ticks()
    assert not reading.done()

    source.gate.set()

    assert await soon(reading) == "new"
    wire._cuts.clear()
    await clock.advance(1)


@both_tiers
@pytest.mark.parametrize("fails", [False, True], ids=["loaded", "failed"])
async def test_get_takes_nothing_stale_from_a_refresh_unless_asked_to(
    cache: TierCache, alone: TierCache, clock: FakeClock, tiers: str, fails: bool
) -> None:
    """It waits for the new value; if the old one is what it falls back on, there is none."""
    chosen = cache if tiers == "both" else alone
    value, source = await loaded(chosen, clock, 110, **(SOFT | {"soft_timeout": None}))
    source.error = OSError("the database is down") if fails else None
    refreshing = asyncio.ensure_future(value(1))
    await soon(source.loading(2))
    getting = asyncio.ensure_future(chosen.get(KEY, "nothing"))
    await ticks()
    assert not getting.done()
    assert await soon(chosen.get(KEY, "nothing", stale=True)) == "old"

    source.gate.set()

    assert await soon(getting) == ("nothing" if fails else "new")
    assert await soon(refreshing) == ("old" if fails else "new")


async def test_get_waits_for_a_refresh_longer_than_those_who_are_answered_stale(
    cache: TierCache, clock: FakeClock
) -> None:
    """Their patience is not that of who wants nothing stale."""
    value, source = await loaded(cache, clock, 110, **(SOFT | {"soft_timeout": 5}))
    refreshing = asyncio.ensure_future(value(1))
    await soon(source.loading(2))
    getting = asyncio.ensure_future(cache.get(KEY, "nothing"))
    await ticks()
    await clock.advance(6)
    assert await soon(refreshing) == "old"
    assert not getting.done()

    source.gate.set()
    assert await soon(getting) == "new"
