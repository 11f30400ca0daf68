"""Turns of `max_loads` beside leases: who waits for a turn keeps no other process waiting."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import LoadTimeoutError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.rows import Rows, functions_of, methods_of, named
from tests.core.source import all_of, soon, ticks
from tests.core.wire import Wire

all_forms = pytest.mark.parametrize("how", ["one", "many", "method"])


def reader_of(cache: TierCache, rows: Rows, how: str, **options: Any) -> Any:
    """Return what reads one row: by a call for one, or for many."""
    row, many = (methods_of if how == "method" else functions_of)(cache, rows, **options)

    async def read(row_id: int) -> Any:
        return await row(row_id) if how == "one" else (await many([row_id]))[row_id]

    return read


async def begun(call: Any, *row_ids: int) -> list[asyncio.Task[Any]]:
    """Start calls and let each get to where it waits."""
    tasks = [asyncio.create_task(call(row_id)) for row_id in row_ids]
    await ticks()
    return tasks


def turns(cache: TierCache) -> tuple[int, int]:
    """Return how many loads run and how many wait for their turn."""
    statistics = cache.statistics()
    return statistics.loads_running, statistics.loads_waiting


@all_forms
@pytest.mark.parametrize("processes", [2, 3])
async def test_loads_that_need_what_waits_in_another_process_do_not_wait_for_each_other(
    make_cache: MakeCache, processes: int, how: str
) -> None:
    """Each process runs a page that needs the row which waits for its turn in the one before."""
    go, rows = asyncio.Event(), Rows()
    pages: list[asyncio.Task[Any]] = []
    waiting: list[asyncio.Task[Any]] = []
    caches = [await make_cache(max_loads=1) for _ in range(processes)]
    for number, cache in enumerate(caches):
        read = reader_of(cache, rows, how)

        async def page(number: int = number, read: Any = read) -> Any:
            await go.wait()
            return await read(number)

        pages.append(asyncio.create_task(cache.get_or_load(f"page:{number}", page)))
        await ticks()
        waiting += await begun(read, (number + 1) % processes)
        assert turns(cache) == (1, 1)

    go.set()

    assert await all_of(*pages) == [f"row {number}" for number in range(processes)]
    await all_of(*waiting)
    assert len(rows.singles) + len(rows.calls) == processes
    for cache in caches:
        await settled(cache)
        assert turns(cache) == (0, 0)


@all_forms
async def test_what_waits_for_its_turn_is_loaded_where_there_is_one(
    make_cache: MakeCache, other: TierCache, how: str
) -> None:
    """Another process need not wait for it; who waited has its value then."""
    cache, rows = await make_cache(max_loads=1), Rows()
    rows.gate.clear()
    calls = await begun(reader_of(cache, rows, how), 1, 2)
    elsewhere = Rows()

    assert await soon(reader_of(other, elsewhere, how)(2)) == "row 2"
    await settled(other)
    rows.gate.set()

    assert await all_of(*calls) == ["row 1", "row 2"]
    assert (rows.singles, rows.calls) == (([1], []) if how == "one" else ([], [[1]]))


async def test_what_waits_for_its_turn_has_no_lease_after_many_misses_either(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Without a bound on loads the next miss asks for it together with the value."""
    wire, rows = Wire(server), Rows()
    cache = await make_cache(client=wire.client, max_loads=1)
    read = reader_of(cache, rows, "one")
    for row_id in range(6):
        await soon(read(row_id))
    await settled(cache)
    rows.gate.clear()
    calls = await begun(read, 6)
    wire.sent.clear()

    calls += await begun(read, 7)

    assert (wire.sent, turns(cache)) == (["GET"], (1, 1))
    rows.gate.set()
    assert await all_of(*calls) == ["row 6", "row 7"]


@all_forms
async def test_who_waits_for_another_process_holds_no_turn(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, how: str
) -> None:
    """Its turn came, and the lease was gone."""
    wire, rows, elsewhere = Wire(server), Rows(), Rows()
    cache = await make_cache(client=wire.client, max_loads=1)
    read = reader_of(cache, rows, how)
    gate = wire.hold("SET")
    calls = await begun(read, 1)
    await soon(gate.reached.wait())
    elsewhere.gate.clear()
    calls += await begun(reader_of(other, elsewhere, how), 1)
    wire.let_pass("SET")
    await ticks()

    assert await soon(read(2)) == "row 2"

    elsewhere.gate.set()
    assert await all_of(*calls) == ["row 1", "row 1"]
    assert (rows.singles, rows.calls) == (([2], []) if how == "one" else ([], [[2]]))


@pytest.mark.parametrize("form", [functions_of, methods_of], ids=["function", "method"])
async def test_a_batch_takes_in_its_turn_what_is_still_to_be_loaded(
    make_cache: MakeCache, other: TierCache, form: Any
) -> None:
    """Others have loaded one of its ids while it waited, and one is loaded by now."""
    cache, rows, elsewhere = await make_cache(max_loads=1), Rows(), Rows()
    rows.gate.clear()
    row, many = form(cache, rows)
    first = await begun(row, 9)
    call = asyncio.create_task(many([1, 2, 3, 4]))
    await ticks()
    _, others = functions_of(other, elsewhere)
    await soon(others([1]))
    elsewhere.gate.clear()
    loading = asyncio.create_task(others([2]))
    await ticks()

    rows.gate.set()
    await soon(rows.called())
    elsewhere.gate.set()

    assert await soon(call) == named(1, 2, 3, 4)
    assert rows.calls == [[3, 4]]
    await all_of(*first, loading)


@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_batch_whose_next_ids_a_running_load_needs_takes_no_turn(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, when: str
) -> None:
    """Calls on one object follow each other; it waits for an id before that is there, or after."""
    client = server.client()
    for row_id in (1, 3):
        await client.set(f"test:{{row:{row_id}}}", b"L" + bytes(16))
    cache, rows, go = await make_cache(max_loads=1), Rows(), asyncio.Event()
    row, many = methods_of(cache, rows)

    async def page() -> Any:
        await go.wait()
        return await row(1)

    outer = asyncio.create_task(cache.get_or_load("page", page))
    await ticks()
    call = asyncio.create_task(many([1, 2, 3]))
    await ticks()
    await client.delete("test:{row:3}")
    await clock.advance(1)
    assert turns(cache) == (1, 1)
    if when == "before":
        go.set()
        await ticks()
    await client.delete("test:{row:1}")
    await clock.advance(1)
    go.set()

    assert await soon(outer) == "row 1"
    assert await soon(call) == named(1, 2, 3)
    assert rows.calls == [[2], [3, 1]]


@all_forms
async def test_the_wait_for_a_turn_and_the_load_have_one_limit(
    make_cache: MakeCache, clock: FakeClock, how: str
) -> None:
    """Together."""
    cache, rows = await make_cache(max_loads=1), Rows()
    rows.gate.clear()
    read = reader_of(cache, rows, how, load_limit=5)
    first, second, third = await begun(read, 1, 2, 3)
    await clock.advance(3)
    first.cancel()
    await ticks()
    assert turns(cache) == (1, 1)

    await clock.advance(2)

    with pytest.raises(LoadTimeoutError, match="took longer"):
        await soon(second)
    with pytest.raises(LoadTimeoutError, match="its turn in 5"):
        await soon(third)
    await settled(cache)
    assert turns(cache) == (0, 0)


@all_forms
async def test_turns_of_callers_who_go_are_not_lost(make_cache: MakeCache, how: str) -> None:
    """In whichever tick they go: waiting, taking the lease, or loading."""
    cache = await make_cache(max_loads=1)
    for wait in range(24):
        rows = Rows()
        rows.gate.clear()
        calls = await begun(reader_of(cache, rows, how), *range(10 * wait, 10 * wait + 3))
        rows.gate.set()
        for _ in range(wait):
            await asyncio.sleep(0)
        calls[1].cancel()
        await soon(asyncio.gather(*calls, return_exceptions=True))
        await soon(settled(cache))

        assert not cache._core.bulkhead.full
        assert turns(cache) == (0, 0)
