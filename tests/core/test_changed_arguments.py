"""Arguments that are changed after the call: nothing is kept under the key of others."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, TypeAlias

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import UsageError
from async_tiercache.testing import FakeClock, settled
from tests.conftest import MakeCache
from tests.core.source import soon, ticks

Filters: TypeAlias = dict[str, int]
Search: TypeAlias = Callable[[int, Filters], Coroutine[Any, Any, str]]

AGING: dict[str, Any] = {"ttl": 100, "l1_ttl": 1000, "jitter": 0, "early": 10}
"""With a load of 1 s and a draw of 0.9, early from 77 s on."""


class Table:
    """What is searched, a second for each search; `loads` are the filters of each."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.loads: list[Filters] = []

    async def search(self, page: int, filters: Filters) -> str:
        """Return what says by what it was found, and how many searches there were before."""
        self.loads.append(dict(filters))
        before = len(self.loads)
        await self.clock.sleep(1)
        return f"{page} of {dict(filters)} by search {before}"


def alone(cache: TierCache, table: Table) -> Search:
    """Return a cached function."""

    @cache.cached("search:{page}:{filters}", **AGING)
    async def search(page: int, filters: Filters) -> str:
        return await table.search(page, filters)

    return search


def by_page(cache: TierCache, table: Table) -> Search:
    """Return one whose refreshes are gathered."""

    @cache.cached("search:{page}:{filters}", **AGING)
    async def search(page: int, filters: Filters) -> str:
        return await table.search(page, filters)

    @search.batch
    async def searches(pages: list[int], filters: Filters) -> dict[int, str]:
        return {page: await table.search(page, filters) for page in pages}

    return search


def of_many(cache: TierCache, table: Table) -> Search:
    """Return a call of a batch."""

    @cache.cached("search:{page}:{filters}", **AGING)
    async def search(page: int, filters: Filters) -> str:
        raise AssertionError(page)

    @search.batch
    async def searches(pages: list[int], filters: Filters) -> dict[int, str]:
        return {page: await table.search(page, filters) for page in pages}

    async def one_of(page: int, filters: Filters) -> str:
        return (await searches([page], filters))[page]

    return one_of


def via(cache: TierCache, table: Table) -> Search:
    """Return a method that loads on an object of its own."""

    @asynccontextmanager
    async def opened() -> AsyncGenerator["Repository"]:
        yield Repository()

    class Repository:
        @cache.cached("search:{page}:{filters}", via=opened, **AGING)
        async def search(self, page: int, filters: Filters) -> str:
            return await table.search(page, filters)

    return Repository().search


forms = pytest.mark.parametrize("form", [alone, by_page, of_many, via])
Form: TypeAlias = Callable[[TierCache, Table], Search]


async def loaded(clock: FakeClock, call: Coroutine[Any, Any, str]) -> str:
    """Return the answer of a call that may take two loads, each gathered or not."""
    task = asyncio.create_task(call)
    for _ in range(5):
        await ticks()
        await clock.advance(0.5)
    return await soon(task)


async def aged(cache: TierCache, clock: FakeClock, call: Coroutine[Any, Any, str]) -> None:
    """Load a value and let it become due for an early refresh."""
    clock.draw = 0.9
    await loaded(clock, call)
    await settled(cache)
    await clock.advance(80)


@forms
async def test_a_refresh_does_not_load_by_changed_arguments(
    cache: TierCache, clock: FakeClock, form: Form
) -> None:
    """The caller has its answer and goes on to use them, before the refresh begins."""
    table = Table(clock)
    search = form(cache, table)
    await aged(cache, clock, search(1, {"a": 1}))
    filters = {"a": 1}

    assert await soon(search(1, filters)) == "1 of {'a': 1} by search 1"
    filters["b"] = 2
    await loaded(clock, search(2, {"a": 1}))
    await settled(cache)

    assert await cache.get("search:1:d[a:1]") == "1 of {'a': 1} by search 1"
    assert table.loads == [{"a": 1}] * 2


@forms
async def test_arguments_that_are_not_changed_are_refreshed(
    cache: TierCache, clock: FakeClock, form: Form
) -> None:
    """Whatever class they have."""
    table = Table(clock)
    search = form(cache, table)
    await aged(cache, clock, search(1, {"a": 1}))

    await soon(search(1, {"a": 1}))
    await loaded(clock, search(2, {"a": 1}))
    await settled(cache)

    assert table.loads == [{"a": 1}] * 3
    assert await cache.get("search:1:d[a:1]") != "1 of {'a': 1} by search 1"


async def test_refreshes_of_arguments_that_have_changed_since_others_are_apart(
    cache: TierCache, clock: FakeClock
) -> None:
    """They are one object, and were two keys."""
    table = Table(clock)
    search = by_page(cache, table)
    clock.draw = 0.9
    await loaded(clock, search(1, {"a": 1, "b": 2}))
    await aged(cache, clock, search(1, {"a": 1}))
    filters = {"a": 1}

    await soon(search(1, filters))
    await ticks()
    filters["b"] = 2
    await soon(search(1, filters))
    await loaded(clock, search(2, {"c": 3}))
    await settled(cache)

    assert await cache.get("search:1:d[a:1]") == "1 of {'a': 1} by search 2"
    assert await cache.get("search:1:d[a:1:b:2]") == "1 of {'a': 1, 'b': 2} by search 4"


@forms
async def test_a_load_that_waits_for_its_turn_refuses_changed_arguments(
    make_cache: MakeCache, clock: FakeClock, form: Form
) -> None:
    """Others may have joined it, whose arguments are those that it was called with."""
    cache, table = await make_cache(max_loads=1), Table(clock)
    search, filters = form(cache, table), {"a": 1}
    first = asyncio.create_task(search(1, {}))
    await ticks()
    second = asyncio.create_task(search(2, filters))
    await ticks()
    assert cache.statistics().loads_waiting == 1

    filters["b"] = 2
    await clock.advance(1)

    with pytest.raises(UsageError, match="changed before its load"):
        await soon(second)
    await soon(first)
