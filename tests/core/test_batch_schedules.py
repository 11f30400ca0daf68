"""Batches in unlucky schedules: whoever else loads, waits, refreshes, closes or recurses."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import LoadCancelledError, UsageError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.rows import Rows, functions_of, methods_of, named
from tests.core.source import all_of, soon, ticks

Many = Callable[[list[int]], Any]


@pytest.fixture
def rows() -> Rows:
    return Rows()


async def fall_due(cache: TierCache, clock: FakeClock, many: Many, *row_ids: int) -> None:
    """Fill rows whose values are due for an early refresh; they have a ttl of 100 seconds."""
    clock.draw = 0.99
    call = asyncio.ensure_future(many(list(row_ids)))
    await ticks()
    await clock.advance(20)
    await soon(call)
    await settled(cache)
    await clock.advance(30)


# Flights that are shared with calls for one.


async def test_a_batch_that_joins_a_failing_load_of_one_asks_its_own_loader(
    cache: TierCache, rows: Rows
) -> None:
    """The loader of one raises where a batch leaves out; the caller of one has the error."""
    rows.absent = {1}
    rows.gate.clear()
    row, many = functions_of(cache, rows)
    one = asyncio.create_task(row(1))
    await ticks()
    both = asyncio.create_task(many([1, 2]))
    await ticks()

    rows.gate.set()
    outcomes = await soon(asyncio.gather(one, both, return_exceptions=True))

    assert isinstance(outcomes[0], LookupError)
    assert outcomes[1] == named(2)
    assert rows.singles == [1]


async def test_an_error_that_is_the_sources_reaches_a_batch_that_joined(
    cache: TierCache, rows: Rows
) -> None:
    """Its own loader has the last word, once."""
    rows.error = OSError("down")
    rows.rows = {1: OSError("down")}
    rows.absent = {1}
    rows.gate.clear()
    row, many = functions_of(cache, rows)
    one = asyncio.create_task(row(1))
    await ticks()
    call = asyncio.create_task(many([1]))
    await ticks()

    rows.gate.set()
    outcomes = await soon(asyncio.gather(one, call, return_exceptions=True))

    assert [type(outcome) for outcome in outcomes] == [LookupError, OSError]
    assert rows.calls == [[1]]


# Who goes, and what goes on.


async def test_an_abandoned_batch_load_is_finished_when_so_wished(
    cache: TierCache, rows: Rows
) -> None:
    """As a load of one is."""
    rows.gate.clear()
    _, many = functions_of(cache, rows, on_abandon="finish")
    call = asyncio.create_task(many([1, 2]))
    await soon(rows.called())

    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    rows.gate.set()
    await soon(settled(cache))

    assert rows.cancelled == 0
    assert await soon(many([1, 2])) == named(1, 2)
    assert rows.calls == [[1, 2]]


async def test_a_batch_load_cancelled_before_it_began_leaves_nothing_behind(
    alone: TierCache, rows: Rows
) -> None:
    """Whatever the tick in which its caller goes."""
    _, many = functions_of(alone, rows)
    for wait in range(12):
        call = asyncio.create_task(many([wait]))
        for _ in range(wait):
            await asyncio.sleep(0)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)

        await soon(settled(alone))
        assert await soon(many([wait, 100])) == named(wait, 100)


async def test_closing_cancels_the_batch_load_of_a_method_for_good(
    make_cache: MakeCache, rows: Rows
) -> None:
    """It is not begun again, as it would be if its first caller had gone."""
    cache = await make_cache()
    rows.gate.clear()
    _, many = methods_of(cache, rows)
    call = asyncio.create_task(many([1, 2]))
    await soon(rows.called())

    await soon(cache.aclose())

    with pytest.raises(LoadCancelledError):
        await soon(call)
    assert rows.calls == [[1, 2]]


# Refreshes.


async def test_a_missing_id_does_not_wait_for_the_refresh_of_another(
    cache: TierCache, clock: FakeClock, rows: Rows
) -> None:
    """Nobody waits for that, and it gathers for a while."""
    loads: list[list[int]] = []

    @cache.cached("row:{row_id}", ttl=100, early=1)
    async def row(row_id: int) -> str:
        return f"row {row_id}"

    @row.batch
    async def many(row_ids: list[int]) -> dict[int, str]:
        loads.append(row_ids)
        if row_ids == [1]:
            await clock.sleep(20)
        return named(*row_ids)

    await fall_due(cache, clock, many, 1)

    assert await soon(many([1, 2])) == named(1, 2)
    assert loads == [[1], [2]]

    await clock.advance(0.05)
    await clock.advance(20)
    await soon(settled(cache))
    assert loads == [[1], [2], [1]]


async def test_refreshes_of_arguments_that_are_equal_and_not_the_same_are_told_apart(
    cache: TierCache, clock: FakeClock
) -> None:
    """1 and True have keys of their own."""

    @cache.cached("row:{kind}:{row_id}", ttl=100, early=1)
    async def row(kind: object, row_id: int) -> str:
        return f"{kind} {row_id}"

    @row.batch
    async def many(kind: object, row_ids: list[int]) -> dict[int, str]:
        await clock.sleep(20)
        return {row_id: f"{kind} {row_id}" for row_id in row_ids}

    async def of_kind(kind: object) -> Any:
        return await many(kind, [7])

    async def both(_: list[int]) -> None:
        await all_of(of_kind(1), of_kind(True))

    await fall_due(cache, clock, both, 7)
    assert await all_of(row(1, 7), row(True, 7)) == ["1 7", "True 7"]
    await ticks()
    await clock.advance(0.05)
    await clock.advance(20)
    await soon(settled(cache))

    assert await all_of(row(1, 7), row(True, 7)) == ["1 7", "True 7"]


async def test_a_batch_loader_with_positional_parameters_refreshes_in_the_background(
    cache: TierCache, clock: FakeClock
) -> None:
    """It is called as it was declared."""
    loads: list[list[int]] = []

    @cache.cached("row:{kind}:{row_id}", ttl=100, early=1)
    async def row(kind: str, row_id: int, /) -> str:
        return f"{kind} {row_id}"

    @row.batch
    async def many(kind: str, row_ids: list[int], /) -> dict[int, str]:
        loads.append(row_ids)
        await clock.sleep(20)
        return {row_id: f"{kind} {row_id}" for row_id in row_ids}

    async def of_kind(row_ids: list[int]) -> Any:
        return await many("a", row_ids)

    await fall_due(cache, clock, of_kind, 1, 2)
    assert await soon(row("a", 1)) == "a 1"
    await ticks()
    await clock.advance(0.05)
    await clock.advance(20)
    await soon(settled(cache))

    assert loads == [[1, 2], [1]]


# Loaders that do what they should not.


class Lazy(Mapping[str, Any]):
    """Has one key, and breaks when it is asked for another."""

    def __getitem__(self, key: str) -> Any:
        if key != "a":
            raise AttributeError(key)
        return "value"

    def __iter__(self) -> Iterator[str]:
        return iter(["a"])

    def __len__(self) -> int:
        return 1


async def test_an_answer_that_breaks_when_it_is_read_is_the_error_of_all(cache: TierCache) -> None:
    """Nobody waits for ever."""

    async def load(_: list[str]) -> Mapping[str, Any]:
        return Lazy()

    with pytest.raises(AttributeError):
        await soon(cache.get_or_load_many(["a", "b"], load))


async def test_a_loader_of_one_that_returns_missing_is_refused(cache: TierCache) -> None:
    """It stands for what a batch leaves out; for one it would be asked for again and again."""
    loads = 0

    async def load() -> Any:
        nonlocal loads
        loads += 1
        return await cache.get("another key")

    with pytest.raises(UsageError, match="MISSING"):
        await soon(cache.get_or_load("key", load))
    assert loads == 1


async def test_a_batch_method_that_reads_an_id_of_its_own_call_does_not_wait_for_itself(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Loads of one object follow each other, unless the one that runs waits for the next."""
    loads: list[list[int]] = []

    class Repository:
        @cache.cached("row:{row_id}", load_limit=20)
        async def row(self, row_id: int) -> str:
            raise LookupError(row_id)

        @row.batch
        async def many(self, row_ids: list[int]) -> dict[int, str]:
            loads.append(row_ids)
            if row_ids == [2]:
                return {2: f"child of {await self.row(1)}"}
            return named(*row_ids)

    await server.client().set("test:{row:1}", b"L" + bytes(16))
    call = asyncio.create_task(Repository().many([1, 2]))
    await ticks()
    assert loads == [[2]]

    await server.client().delete("test:{row:1}")
    await clock.advance(1)

    assert await soon(call) == {1: "row 1", 2: "child of row 1"}
    assert loads == [[2], [1]]


@pytest.mark.parametrize("count", [600, 1_000])
async def test_a_large_batch_is_answered_and_given_up_as_a_whole(
    alone: TierCache, rows: Rows, count: int
) -> None:
    """By callers that share its flights, too."""
    rows.gate.clear()
    _, many = functions_of(alone, rows)
    ids = list(range(count))
    calls = [asyncio.create_task(many(ids)) for _ in range(2)]
    await soon(rows.called())
    for call in calls:
        call.cancel()
    await soon(asyncio.gather(*calls, return_exceptions=True))
    await soon(settled(alone))
    assert rows.cancelled == 1

    calls = [asyncio.create_task(many(ids)) for _ in range(2)]
    await soon(rows.called(2))
    rows.gate.set()

    assert await all_of(*calls) == [named(*ids)] * 2
    assert rows.calls == [ids, ids]


@pytest.mark.parametrize("form", [functions_of, methods_of], ids=["function", "method"])
async def test_closing_ends_a_batch_in_whichever_tick_it_comes(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, form: Callable[..., Any]
) -> None:
    """A load that is cancelled before it has begun answers its waiters too."""
    for wait in range(1, 41):
        cache, rows = await make_cache(), Rows()
        _, many = form(cache, rows)
        calls = [asyncio.ensure_future(many(ids)) for ids in ([1, 2], [2, 3])]
        for _ in range(wait):
            await asyncio.sleep(0)

        await soon(cache.aclose())
        await ticks(100)
        await clock.advance(1)

        for outcome in await soon(asyncio.gather(*calls, return_exceptions=True)):
            assert isinstance(outcome, dict | LoadCancelledError)
        assert not len(cache._core.flights)
        await server.client().flushall()
