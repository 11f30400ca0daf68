"""Calls with the same arguments find the look that one of them has begun, as they find a slot."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from async_tiercache import L1, TierCache
from async_tiercache._look import Look
from async_tiercache.testing import MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import soon, ticks
from tests.core.wire import Wire


@pytest.fixture
def wire(server: MemoryServer) -> Wire:
    """Return the connections of the cache that reads."""
    return Wire(server)


@pytest_asyncio.fixture
async def cache(make_cache: MakeCache, wire: Wire, other: TierCache) -> AsyncIterator[TierCache]:
    """Return a cache that has nothing in L1, while L2 holds a row."""
    await reader_of(other)(1)
    await settled(other)
    cache = await make_cache(client=wire.client)
    await settled(cache)
    wire.sent.clear()
    yield cache


def reader_of(cache: TierCache) -> Any:
    """Return a cached function."""

    @cache.cached("row:{key}")
    async def row(key: int) -> str:
        return f"row {key}"

    return row


async def test_calls_with_the_same_arguments_share_a_look(cache: TierCache, wire: Wire) -> None:
    """They find it by these, as they would find a slot; when it has ended nothing is left there."""
    row = reader_of(cache)
    table: dict[int, Any] = row.__tiercache__._table.alias(None, (1,))[0].slots
    held = wire.hold_reply("GET")
    readers = [asyncio.ensure_future(row(1)) for _ in range(3)]
    await soon(held.reached.wait())

    look: Any = cache._core.looks._home.by_key["row:1"]
    assert table[1] is look
    assert table[1].waiting == 3

    wire.let_pass("GET")
    assert list(await soon(asyncio.gather(*readers))) == ["row 1"] * 3
    assert table[1] is cache._core.store.find("row:1")  # type: ignore[union-attr]


@pytest.mark.parametrize("l1", [None, L1()], ids=["without memory", "with memory"])
async def test_nothing_is_left_where_calls_find_looks(
    make_cache: MakeCache, other: TierCache, l1: L1 | None
) -> None:
    """Whether they were answered, left to flights, cancelled, or belong to a loop that is gone."""
    cache = await make_cache(l1=l1)
    row = reader_of(cache)
    table = row.__tiercache__._table.alias(None, (1,))[0].slots
    await reader_of(other)(1)
    await settled(other)
    gone = asyncio.ensure_future(row(3))
    await asyncio.sleep(0)
    gone.cancel()

    await soon(asyncio.gather(row(1), row(2), row(2)))
    await settled(cache)
    assert not [each for each in table.values() if isinstance(each, Look)]

    asyncio.ensure_future(row(4)).add_done_callback(lambda task: task.cancelled())
    await asyncio.sleep(0)
    assert isinstance(table[4], Look)
    cache._core.looks.forget()
    assert 4 not in table


async def test_objects_with_other_tags_share_no_look(
    cache: TierCache, wire: Wire, other: TierCache
) -> None:
    """Their calls have the same arguments and the same key, but the values stand under others."""

    def users_of(cache: TierCache) -> Any:
        class Users:
            def __init__(self, tag: str) -> None:
                self.tag = tag

            @cache.cached("user:{key}", tags=["of:{self.tag}"])
            async def user(self, key: int) -> str:
                return f"{self.tag} {key}"

        return Users

    await users_of(other)("a").user(1)
    await settled(other)
    users = users_of(cache)
    held = wire.hold_reply("GET")
    first = asyncio.ensure_future(users("a").user(1))
    await soon(held.reached.wait())
    second = asyncio.ensure_future(users("b").user(1))
    await ticks()
    wire.let_pass("GET")

    assert await soon(second) == "b 1"
    assert await soon(first) in {"a 1", "b 1"}


async def test_a_read_inside_of_a_load_joins_no_look(cache: TierCache, wire: Wire) -> None:
    """It would not know what its value rests on."""
    row = reader_of(cache)

    begun, gate = asyncio.Event(), asyncio.Event()

    @cache.cached("page")
    async def page() -> str:
        begun.set()
        await gate.wait()
        return f"page of {await row(1)}"

    made = asyncio.ensure_future(page())
    await soon(begun.wait())
    held = wire.hold_reply("GET")
    reader = asyncio.ensure_future(row(1))
    await soon(held.reached.wait())
    look: Any = cache._core.looks._home.by_key["row:1"]
    gate.set()
    await ticks()

    assert look.waiting == 1
    wire.let_pass("GET")
    assert await soon(made) == "page of row 1"
    assert await soon(reader) == "row 1"
