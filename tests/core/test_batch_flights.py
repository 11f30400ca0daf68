"""Batches beside each other: shared loads, cancellation, limits and refreshes."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import LoadTimeoutError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.rows import Rows, functions_of, methods_of, named
from tests.core.source import soon, ticks
from tests.core.wire import Wire

both_forms = pytest.mark.parametrize("form", [functions_of, methods_of], ids=["function", "method"])
Form = Callable[..., Any]


@pytest.fixture
def rows() -> Rows:
    return Rows()


# Several calls at once.


async def test_overlapping_calls_share_loads_by_id(cache: TierCache, rows: Rows) -> None:
    """Each id is loaded once."""
    rows.gate.clear()
    row, many = functions_of(cache, rows)
    calls = [asyncio.create_task(many([1, 2]))]
    await soon(rows.called())
    calls += [asyncio.create_task(many([2, 3]))]
    await soon(rows.called(2))
    single = asyncio.create_task(row(3))
    await ticks()

    rows.gate.set()

    assert await soon(asyncio.gather(*calls)) == [named(1, 2), named(2, 3)]
    assert await soon(single) == "row 3"
    assert rows.calls == [[1, 2], [3]]
    assert rows.singles == []


async def test_two_processes_that_hold_each_others_ids_do_not_deadlock(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Won fences are loaded before anybody waits for others'."""
    mine, theirs = Rows(), Rows()
    wires = [Wire(server), Wire(server)]
    first = await make_cache(client=wires[0].client)
    second = await make_cache(client=wires[1].client)
    # Each has asked L2 and found nothing before either takes a fence.
    gates = [wire.hold("SET") for wire in wires]
    calls = [
        asyncio.create_task(functions_of(first, mine)[1]([1, 2])),
        asyncio.create_task(functions_of(second, theirs)[1]([2, 3])),
    ]
    for gate in gates:
        await soon(gate.reached.wait())
    wires[0].let_pass("SET")
    await soon(mine.called())
    wires[1].let_pass("SET")
    await soon(theirs.called())

    for _ in range(20):
        await clock.advance(0.05)

    assert await soon(asyncio.gather(*calls)) == [named(1, 2), named(2, 3)]
    assert (mine.calls, theirs.calls) == ([[1, 2]], [[3]])


async def test_ids_whose_holder_dies_are_loaded_after_all(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, rows: Rows
) -> None:
    """The rest does not wait for that."""
    await server.client().set("test:{row:1}", b"L" + bytes(16))
    _, many = functions_of(await make_cache(), rows)
    call = asyncio.create_task(many([1, 2]))
    await soon(rows.called())
    assert rows.calls == [[2]]

    await server.client().delete("test:{row:1}")
    await clock.advance(1)

    assert await soon(call) == named(1, 2)
    assert rows.calls == [[2], [1]]


@both_forms
async def test_invalidation_overtakes_one_id_and_not_the_others(
    cache: TierCache, other: TierCache, rows: Rows, form: Form
) -> None:
    """Its value goes to its waiters and is kept nowhere."""
    rows.gate.clear()
    row, many = form(cache, rows)
    call = asyncio.create_task(many([1, 2]))
    await soon(rows.called())
    await other.invalidate(keys=["row:1"])
    await row.invalidate(1)
    rows.rows[1] = "new"

    rows.gate.set()

    assert await soon(call) == named(1, 2)
    await settled(cache)
    assert await other.get_many(["row:1", "row:2"]) == {"row:2": "row 2"}
    assert await soon(many([1, 2])) == {1: "new", 2: "row 2"}
    assert rows.calls == [[1, 2], [1]]


# Cancellation and limits.


@both_forms
async def test_a_call_that_is_cancelled_takes_its_load_with_it(
    cache: TierCache, rows: Rows, form: Form
) -> None:
    """And leaves no lease behind."""
    rows.gate.clear()
    _, many = form(cache, rows)
    call = asyncio.create_task(many([1, 2]))
    await soon(rows.called())

    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    await soon(settled(cache))
    rows.gate.set()

    assert rows.cancelled == 1
    assert await soon(many([1, 2])) == named(1, 2)


async def test_a_load_that_somebody_still_waits_for_goes_on(cache: TierCache, rows: Rows) -> None:
    """For the id that is wanted; the call of the loader is not cut."""
    rows.gate.clear()
    row, many = functions_of(cache, rows)
    call = asyncio.create_task(many([1, 2]))
    await soon(rows.called())
    single = asyncio.create_task(row(2))
    await ticks()

    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    rows.gate.set()

    assert await soon(single) == "row 2"
    assert (rows.cancelled, rows.singles) == (0, [])


async def test_a_batch_that_still_asks_l2_keeps_the_loads_that_it_will_join(
    make_cache: MakeCache, server: MemoryServer, rows: Rows
) -> None:
    """Their first caller may go meanwhile; its cancellation is nobody else's error."""
    wire = Wire(server)
    _, many = functions_of(await make_cache(client=wire.client), rows)
    rows.gate.clear()
    first = asyncio.create_task(many([1]))
    await soon(rows.called())
    gate = wire.hold("GET")
    second = asyncio.create_task(many([1, 2]))
    await soon(gate.reached.wait())

    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    wire.let_pass("GET")
    rows.gate.set()

    assert await soon(second) == named(1, 2)
    assert rows.calls == [[1], [2]]


@pytest.mark.usefixtures("patient")
async def test_a_very_large_batch_is_taken_in_parts(
    make_cache: MakeCache, clock: FakeClock, rows: Rows
) -> None:
    """Each is stored before its leases end, which they do by the clock here, however slow it is."""
    cache = await make_cache(client=MemoryServer(clock).client())
    _, many = functions_of(cache, rows)

    found = await many(list(range(2_500)))
    await settled(cache)

    assert found == named(*range(2_500))
    assert [len(call) for call in rows.calls] == [1_000, 1_000, 500]
    assert cache.statistics().stores == 2_500


async def test_a_waiter_of_a_cancelled_batch_method_starts_over(
    cache: TierCache, rows: Rows
) -> None:
    """The object of the call that is gone must not be used any more."""
    rows.gate.clear()
    row, many = methods_of(cache, rows)
    call = asyncio.create_task(many([1, 2]))
    await soon(rows.called())
    single = asyncio.create_task(row(2))
    await ticks()

    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert rows.cancelled == 1
    rows.gate.set()

    assert await soon(single) == "row 2"
    assert rows.singles == [2]


async def test_loads_of_one_method_call_do_not_overlap(
    cache: TierCache, server: MemoryServer, clock: FakeClock, rows: Rows
) -> None:
    """Its session can do one thing at a time; ids that come late wait for the load before."""
    await server.client().set("test:{row:1}", b"L" + bytes(16))
    rows.gate.clear()
    _, many = methods_of(cache, rows)
    call = asyncio.create_task(many([1, 2]))
    await soon(rows.called())
    await server.client().delete("test:{row:1}")
    await clock.advance(1)
    assert rows.calls == [[2]]

    rows.gate.set()

    assert await soon(call) == named(1, 2)
    assert rows.calls == [[2], [1]]


async def test_a_batch_load_has_its_limit(cache: TierCache, clock: FakeClock, rows: Rows) -> None:
    """As a load of one id has."""
    rows.gate.clear()
    _, many = functions_of(cache, rows, load_limit=3)
    call = asyncio.create_task(many([1, 2]))
    await soon(rows.called())

    await clock.advance(3)

    with pytest.raises(LoadTimeoutError, match="3"):
        await soon(call)
    await soon(settled(cache))
    assert rows.cancelled == 1


# Refreshes.


@pytest.mark.parametrize("l1_ttl", [100, 10], ids=["from L1", "from L2"])
async def test_refreshes_behind_a_batch_are_one_load(
    cache: TierCache, clock: FakeClock, rows: Rows, l1_ttl: float
) -> None:
    """The callers have the early values at once."""
    _, many = functions_of(cache, rows, ttl=100, l1_ttl=l1_ttl, early=1)
    clock.draw = 0.99
    rows.gate.clear()
    call = asyncio.create_task(many([1, 2, 3]))
    await soon(rows.called())
    await clock.advance(20)
    rows.gate.set()
    await soon(call)
    await settled(cache)
    await clock.advance(28)
    rows.rows = {1: "new 1", 2: "new 2", 3: "new 3"}

    assert await soon(many([1, 2, 3])) == named(1, 2, 3)
    await ticks()
    await clock.advance(0.05)
    await soon(settled(cache))

    assert rows.calls == [[1, 2, 3], [1, 2, 3]]
    assert await many([1, 2, 3]) == rows.rows


@pytest.mark.parametrize("l1_ttl", [100, 10], ids=["from L1", "from L2"])
async def test_refreshes_of_single_calls_are_gathered(
    cache: TierCache, clock: FakeClock, rows: Rows, l1_ttl: float
) -> None:
    """A family with a batch loader refreshes by it what falls due together."""
    row, many = functions_of(cache, rows, ttl=100, l1_ttl=l1_ttl, early=1)
    clock.draw = 0.99
    rows.gate.clear()
    call = asyncio.create_task(many([1, 2, 3]))
    await soon(rows.called())
    await clock.advance(20)
    rows.gate.set()
    await soon(call)
    await settled(cache)
    await clock.advance(28)

    assert [await soon(row(n)) for n in (1, 2, 3)] == list(named(1, 2, 3).values())
    await ticks()
    await clock.advance(0.05)
    await soon(settled(cache))

    assert rows.calls == [[1, 2, 3], [1, 2, 3]]
    assert rows.singles == []


async def test_a_stale_batch_falls_back_by_id(
    cache: TierCache, clock: FakeClock, rows: Rows
) -> None:
    """Within grace an error of the source is not the caller's."""
    _, many = functions_of(cache, rows, ttl=10, l1_ttl=1, grace=100, early=0)
    await many([1, 2])
    await settled(cache)
    await clock.advance(20)
    rows.rows = {1: "new", 2: ConnectionResetError("gone")}

    assert await soon(many([1, 2])) == {1: "new", 2: "row 2"}
