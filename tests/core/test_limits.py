"""Limits: how much may run, and how large a value may be."""

import asyncio
import logging
from typing import Any

import pytest

from async_tiercache import Advice, BoundCached, LoadContext, Loaded, Policy, TierCache
from async_tiercache.errors import ConfigurationError, LoadTimeoutError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.rows import Rows, functions_of, methods_of, named
from tests.core.source import Source, function_of, soon, ticks


async def callers(value: Any, *keys: int) -> list[asyncio.Task[Any]]:
    """Start calls and let each get to where it waits."""
    tasks = [asyncio.create_task(value(key)) for key in keys]
    await ticks()
    return tasks


def with_context_of(cache: TierCache, rows: Rows) -> BoundCached[[int], Any]:
    """Return a cached function whose loader could name any tag."""

    @cache.cached("open:{row_id}")
    async def row(row_id: int, context: LoadContext = LoadContext()) -> Any:
        return await rows.one(row_id)

    return row


# The number of loads.


@pytest.mark.parametrize("with_l2", [True, False])
async def test_no_more_loads_run_than_max_loads(make_cache: MakeCache, with_l2: bool) -> None:
    """The others get their turn as these end."""
    options: dict[str, Any] = {} if with_l2 else {"client": None}
    cache, source = await make_cache(max_loads=3, **options), Source()
    source.close()
    tasks = await callers(function_of(cache, source), *range(10))

    statistics = cache.statistics()
    assert (source.loads, statistics.loads_running, statistics.loads_waiting) == (3, 3, 7)

    source.gate.set()
    assert await soon(asyncio.gather(*tasks)) == ["v1"] * 10
    statistics = cache.statistics()
    assert (statistics.loads_running, statistics.loads_waiting) == (0, 0)


async def test_a_dead_l2_does_not_crush_the_source(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """All reads fall through to the source, a few at a time."""
    cache, source = await make_cache(max_loads=2), Source()
    server.connected = False
    source.close()
    tasks = await callers(function_of(cache, source), *range(50))

    assert source.loads == 2

    source.gate.set()
    assert await soon(asyncio.gather(*tasks)) == ["v1"] * 50
    server.connected = True


async def test_waiting_for_a_turn_is_bounded_by_the_load_limit(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """And its error says what it was that took so long."""
    cache, source = await make_cache(max_loads=1), Source()
    source.close()
    value = function_of(cache, source, load_limit=5)
    first, second = await callers(value, 1, 2)

    await clock.advance(5)

    with pytest.raises(LoadTimeoutError, match="took longer"):
        await soon(first)
    with pytest.raises(LoadTimeoutError, match="its turn in 5"):
        await soon(second)
    assert source.loads == 1
    await settled(cache)
    assert cache.statistics().loads_waiting == 0


async def test_a_batch_takes_one_turn(make_cache: MakeCache) -> None:
    """It is one query."""
    cache, rows = await make_cache(max_loads=1), Rows()

    assert await soon(functions_of(cache, rows)[1]([1, 2, 3])) == named(1, 2, 3)


async def test_a_load_inside_a_load_needs_no_turn_of_its_own(make_cache: MakeCache) -> None:
    """It would wait for the load that waits for it."""
    cache, rows = await make_cache(max_loads=1), Rows()
    row, many = functions_of(cache, rows)

    @cache.cached("page:{page_id}")
    async def page(page_id: int) -> list[str]:
        found = await many([page_id, page_id + 1])
        return [*found.values(), await row(9)]

    assert await soon(page(1)) == ["row 1", "row 2", "row 9"]


@pytest.mark.parametrize("how", ["one", "many"])
async def test_a_load_that_a_running_one_joins_needs_no_turn(
    make_cache: MakeCache, how: str
) -> None:
    """It waits for a turn that the running one would give back when it has its value."""
    cache, rows = await make_cache(max_loads=1), Rows()
    row, many = functions_of(cache, rows)
    running, go = asyncio.Event(), asyncio.Event()

    @cache.cached("page:{page_id}")
    async def page(page_id: int) -> str:
        running.set()
        await go.wait()
        return str(await row(1))

    outer = asyncio.create_task(page(1))
    await soon(running.wait())
    waiting = asyncio.create_task(row(1) if how == "one" else many([1]))
    await ticks()
    assert cache.statistics().loads_waiting == 1

    go.set()

    assert await soon(outer) == "row 1"
    await soon(waiting)
    assert (cache.statistics().loads_waiting, cache.statistics().loads_running) == (0, 0)
    assert await soon(page(2)) == "row 1"


@pytest.mark.parametrize("kind", ["function", "batch", "context"])
@pytest.mark.parametrize("how", ["invalidated", "refreshed"])
async def test_a_load_that_stands_in_the_way_of_a_running_one_needs_no_turn(
    make_cache: MakeCache, how: str, kind: str
) -> None:
    """It is detached and waits for a turn; the running one needs the same key."""
    cache, rows = await make_cache(max_loads=1), Rows()
    row, many = functions_of(cache, rows, tags=["rows"])
    if kind == "context":
        row = with_context_of(cache, rows)
    running, go = asyncio.Event(), asyncio.Event()

    @cache.cached("page:{page_id}")
    async def page(page_id: int) -> str:
        running.set()
        await go.wait()
        return str(await (row.refresh(1) if how == "refreshed" else row(1)))

    outer = asyncio.create_task(page(1))
    await soon(running.wait())
    waiting = asyncio.create_task(many([1]) if kind == "batch" else row(1))
    await ticks()
    assert cache.statistics().loads_waiting == 1
    if how == "invalidated":
        await cache.invalidate(tags=["another" if kind == "context" else "rows"])

    go.set()

    assert await soon(outer) == "row 1"
    await soon(waiting)
    await settled(cache)
    assert not cache._core.flights.fenced
    assert (cache.statistics().loads_waiting, cache.statistics().loads_running) == (0, 0)


async def test_a_refresh_that_stands_in_the_way_of_a_running_load_needs_no_turn(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """What it has then is no lease but the mark."""
    cache, rows = await make_cache(max_loads=1), Rows()
    row, _ = functions_of(cache, rows, ttl=10, jitter=0, grace=1_000)
    running, go = asyncio.Event(), asyncio.Event()

    @cache.cached("page:{page_id}")
    async def page(page_id: int) -> str:
        running.set()
        await go.wait()
        return str(await row.refresh(1))

    await row(1)
    await settled(cache)
    await clock.advance(11)
    outer = asyncio.create_task(page(1))
    await soon(running.wait())
    waiting = asyncio.create_task(row(1))
    await ticks()
    assert cache.statistics().loads_waiting == 1

    go.set()
    await ticks()
    await clock.advance(1)

    assert await soon(outer) == "row 1"
    await soon(waiting)


async def test_a_caller_that_goes_frees_its_place(make_cache: MakeCache) -> None:
    """Waiting or running."""
    cache, source = await make_cache(max_loads=1), Source()
    source.close()
    tasks = await callers(function_of(cache, source), 1, 2, 3)

    for task in tasks[:2]:
        task.cancel()
    await ticks()
    source.gate.set()

    assert await soon(tasks[2]) == "v1"
    assert source.loads == 2


@pytest.mark.parametrize("max_loads", [0, -1, 1.5, "3", True])
def test_max_loads_is_a_number_of_loads(max_loads: Any) -> None:
    """Nothing else."""
    with pytest.raises(ConfigurationError, match="max_loads"):
        TierCache(namespace="test", max_loads=max_loads)


async def due(cache: TierCache, clock: FakeClock, keys: range, **options: Any) -> Source:
    """Fill keys whose values are due for an early refresh, and close their source."""
    source = Source()
    value = function_of(cache, source, ttl=100, l1_ttl=1000, early=1, **options)
    clock.draw = 0.9
    source.close()
    tasks = await callers(value, *keys)
    await clock.advance(20)
    source.gate.set()
    await soon(asyncio.gather(*tasks))
    await settled(cache)
    await clock.advance(30)
    source.loads = 0
    source.close()
    return source


async def test_refreshes_behind_callers_are_bounded(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """The rest is served as it is and comes later; nobody waits."""
    cache = await make_cache()
    source = await due(cache, clock, range(200))
    value = function_of(cache, source, ttl=100, l1_ttl=1000, early=1)

    tasks = await callers(value, *range(200))

    assert await soon(asyncio.gather(*tasks)) == ["v1"] * 200
    assert 0 < source.loads <= 70
    source.gate.set()
    await soon(settled(cache))

    await clock.advance(2)
    await soon(asyncio.gather(*[value(key) for key in range(200)]))
    await soon(settled(cache))
    assert source.loads > 100


async def test_refreshes_give_way_to_loads_that_somebody_waits_for(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """When all turns are taken nothing is refreshed ahead of time."""
    cache = await make_cache(max_loads=2)
    source = await due(cache, clock, range(2))
    value = function_of(cache, source, ttl=100, l1_ttl=1000, early=1)
    waiting = await callers(value, 10, 11)
    assert source.loads == 2

    assert [await soon(value(key)) for key in range(2)] == ["v1", "v1"]

    assert source.loads == 2
    source.gate.set()
    await soon(asyncio.gather(*waiting))


# The size of a value.


async def test_a_value_that_is_too_large_is_kept_nowhere(
    make_cache: MakeCache,
    other: TierCache,
    events: Recorder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its callers get it; it is counted, and told once."""
    cache = await make_cache(observers=[events])
    source = Source("x" * 200)
    value = function_of(cache, source, max_value_bytes=100)

    assert [await value(1), await value(2)] == ["x" * 200] * 2
    await settled(cache)

    assert await other.get("value:1", None) is None
    assert source.loads == 2
    assert cache.statistics("value:{key}").not_stored == {"oversized": 2}
    assert [event.stored for event in events.of(Loaded)] == ["oversized"] * 2
    told = [record.getMessage() for record in caplog.records if "max_value_bytes" in record.msg]
    assert len(told) == 1
    source.value = "small"
    assert await value(3) == "small"
    await settled(cache)
    assert await other.get("value:3") == "small"


async def test_a_refreshed_value_that_has_grown_too_large_leaves_nothing_older(
    cache: TierCache, clock: FakeClock
) -> None:
    """Who has seen the new value must not see the old one again."""
    source = Source("old")
    value = function_of(cache, source, ttl=10, grace=100, early=0, max_value_bytes=100)
    await value(1)
    await settled(cache)
    await clock.advance(20)
    source.value = "x" * 200

    assert await value(1) == "x" * 200
    await clock.advance(1)
    await settled(cache)

    assert await cache.get("value:1", None, stale=True) is None


async def test_what_is_put_has_the_same_limit(cache: TierCache) -> None:
    """And takes the old value with it."""
    await cache.set("k", "old")

    await cache.set("k", "x" * 200, max_value_bytes=100)

    assert await cache.get("k", None) is None
    assert cache.statistics().not_stored == {"oversized": 1}


@pytest.mark.parametrize("size", [0, -1, "many", 1.5])
def test_max_value_bytes_is_a_size(alone: TierCache, size: Any) -> None:
    """Nothing else."""
    with pytest.raises(ConfigurationError, match="max_value_bytes"):
        alone.cached("v", max_value_bytes=size)


# Loaders that do not let others run.


@pytest.mark.parametrize("form", [functions_of, methods_of])
async def test_a_blocking_loader_is_noticed(
    cache: TierCache, clock: FakeClock, events: Recorder, form: Any
) -> None:
    """It is named, once."""

    class Blocking(Rows):
        async def one(self, row_id: int) -> str:
            clock._now += 1
            return f"row {row_id}"

    row, _ = form(cache, Blocking())

    for n in (1, 2):
        await row(n)

    [advice] = [each for each in events.of(Advice) if each.name == "blocking-loader"]
    assert "row:{row_id}" in advice.message


async def test_a_slow_loader_that_lets_others_run_is_not_meant(
    cache: TierCache, clock: FakeClock, events: Recorder
) -> None:
    """That is what async is for."""
    source = Source()
    source.close()
    [task] = await callers(function_of(cache, source), 1)
    await clock.advance(1)
    source.gate.set()
    await soon(task)

    assert "blocking-loader" not in [advice.name for advice in events.of(Advice)]


# What the advisor says of the set-up.


@pytest.mark.parametrize(
    ("options", "names"),
    [
        pytest.param({}, [], id="nothing chosen"),
        pytest.param({"enabled": False}, ["disabled"], id="disabled"),
        pytest.param(
            {"policy": {"l1_ttl": 5, "grace": 60}}, ["grace-without-load-limit"], id="grace"
        ),
        pytest.param({"policy": {"l1_ttl": 5, "grace": 60, "soft_timeout": 1}}, [], id="soft"),
        pytest.param({"policy": {"l1_ttl": 5, "grace": 60, "load_limit": 3}}, [], id="limit"),
    ],
)
async def test_the_advisor_names_what_was_not_chosen(
    make_cache: MakeCache,
    events: Recorder,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, Any],
    names: list[str],
) -> None:
    """When the cache opens, each by a logger of its own that silences it."""
    if "policy" in options:
        options = options | {"policy": Policy(**options["policy"])}

    await make_cache(observers=[events], **options)

    assert [advice.name for advice in events.of(Advice)] == names
    loggers = [each.name for each in caplog.records if each.levelno >= logging.WARNING]
    assert loggers == [f"async_tiercache.advice.{name}" for name in names]


async def test_a_load_that_another_waits_for_takes_no_turn(make_cache: MakeCache) -> None:
    """It may wait for its turn behind the very load that waits for it."""
    cache = await make_cache(max_loads=1)
    rows = Rows()
    row, many = functions_of(cache, rows)
    gate, loading = asyncio.Event(), asyncio.Event()

    @cache.cached("page:{page_id}")
    async def page(page_id: int) -> list[str]:
        loading.set()
        await gate.wait()
        return [await row(page_id), *(await many([2, 3])).values()]

    reading = asyncio.create_task(page(1))
    await soon(loading.wait())
    outside = [asyncio.create_task(row(1)), asyncio.create_task(many([2, 3]))]
    await ticks()
    assert cache.statistics().loads_waiting == 2
    gate.set()

    assert await soon(reading) == ["row 1", "row 2", "row 3"]
    assert await soon(asyncio.gather(*outside)) == ["row 1", named(2, 3)]
    statistics = cache.statistics()
    assert (statistics.loads_running, statistics.loads_waiting) == (0, 0)


async def test_turns_that_are_given_to_callers_who_go_are_not_lost(make_cache: MakeCache) -> None:
    """In whichever tick they go."""
    cache = await make_cache(max_loads=1)
    for wait in range(12):
        source = Source()
        source.close()
        tasks = await callers(function_of(cache, source), *range(10 * wait, 10 * wait + 3))
        source.gate.set()
        for _ in range(wait):
            await asyncio.sleep(0)
        tasks[1].cancel()
        await soon(asyncio.gather(*tasks, return_exceptions=True))
        await soon(settled(cache))

        assert not cache._core.bulkhead.full
        assert (cache.statistics().loads_running, cache.statistics().loads_waiting) == (0, 0)


async def test_waiting_for_a_turn_is_no_part_of_a_values_life(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """Else nothing would be kept just when the source is busy, and all be refreshed early."""
    cache, source = await make_cache(max_loads=1), Source()
    source.close()
    value = function_of(cache, source, ttl=10)
    tasks = await callers(value, 1, 2)

    await clock.advance(20)
    source.gate.set()
    await soon(asyncio.gather(*tasks))
    await settled(cache)

    slot = cache._core.tiers.probe("value:2")
    assert slot is not None
    assert slot.header.load_seconds == 0
    assert slot.header.fresh_until - cache._core.tiers.now() == 10
