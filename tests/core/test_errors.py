"""What errors name: the key, the family or the id, so that a log tells which call went wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from async_tiercache import LoadContext, TierCache
from async_tiercache.errors import (
    EncodeError,
    InvalidationQueuedError,
    UnkeyableError,
    UsageError,
)
from async_tiercache.testing import MemoryServer
from tests.core.rows import Rows, functions_of
from tests.core.source import Source, function_of, soon, ticks

Do = Callable[[TierCache], Awaitable[Any]]


async def load(cache: TierCache) -> None:
    """Load what cannot be stored."""
    await function_of(cache, Source(object()))(1)


async def load_many(cache: TierCache) -> None:
    """Load much of it at once."""
    rows = Rows()
    rows.rows[1] = object()
    row, many = functions_of(cache, rows)
    del row
    await many([1, 2])


async def put(cache: TierCache) -> None:
    """Put it."""
    await function_of(cache, Source()).put(object(), 1)


async def put_after_commit(cache: TierCache) -> None:
    """Put it when the transaction ends."""
    async with cache.after_commit():
        await cache.set("row:1", object())


async def write(cache: TierCache) -> None:
    """Put it at the end of a block."""
    async with cache.writing("row:1") as writing:
        writing.set(object())


@pytest.mark.parametrize("do", [load, load_many, put, put_after_commit, write])
async def test_a_value_that_cannot_be_stored_is_named_by_its_key(cache: TierCache, do: Do) -> None:
    """And there is something to do about it."""
    with pytest.raises(EncodeError, match=r"The value of '(row|value):1' cannot be") as caught:
        await do(cache)

    assert caught.value.hint


async def test_a_write_after_its_block_is_named_by_its_key(cache: TierCache) -> None:
    """There may be several such blocks."""
    async with cache.writing("row:1") as writing:
        pass

    with pytest.raises(UsageError, match=r"set\(\) of 'row:1'"):
        writing.set(1)


async def test_a_loader_that_renews_what_it_has_changed_is_named_by_its_key(
    cache: TierCache,
) -> None:
    """Its error may be raised by somebody else's call."""

    @cache.cached("row:{key}")
    async def row(key: int, context: LoadContext = LoadContext()) -> int:
        return 2 if context.stale_value == 1 and context.not_modified() else 1

    await row(1)

    with pytest.raises(UsageError, match=r"The loader of 'row:1' called not_modified\(\)"):
        await row.refresh(1)


async def test_an_argument_that_is_no_key_is_named_with_its_family(cache: TierCache) -> None:
    """There are many parameters of that name."""
    value: Any = function_of(cache, Source())

    with pytest.raises(UnkeyableError, match=r"Parameter 'key' of value:\{key\}: "):
        await value(object())


async def test_a_batch_loader_that_returns_no_dict_is_named_by_an_id(cache: TierCache) -> None:
    """Its annotation may promise one."""

    async def keys(keys: list[str]) -> Any:
        return keys

    with pytest.raises(UsageError, match="asked for 'row:1' and returned list"):
        await cache.get_or_load_many(["row:1", "row:2"], keys)


@pytest.mark.leaves_pending
async def test_an_invalidation_that_is_not_confirmed_says_of_what(
    cache: TierCache, server: MemoryServer
) -> None:
    """Of many the first."""
    server.connected = False

    with pytest.raises(InvalidationQueuedError, match="of 'row:1' and 2 more; it is queued"):
        await cache.invalidate(keys=["row:1", "row:2"], tags=["rows"], strict=True)


class Array:
    """Compares its elements, as numpy does."""

    def __eq__(self, other: object) -> bool:
        raise ValueError("the truth of an array is ambiguous")

    __hash__ = None  # type: ignore[assignment]


class ArrayError(Exception):
    """Names an array that it makes itself."""

    def __init__(self, _array: object = None) -> None:
        super().__init__(Array())


class ProxyError(Exception):
    """Asks something else for what it lacks, which fails."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


@pytest.mark.parametrize("error", [ArrayError(), ProxyError()], ids=["compared", "looked at"])
async def test_an_error_that_cannot_be_copied_reaches_all_who_wait(
    alone: TierCache, error: Exception
) -> None:
    """They share it, singly and in batches."""
    rows = Rows()
    rows.error = error
    rows.gate.clear()
    _, many = functions_of(alone, rows)
    source = Source()
    source.close()
    source.error = error
    value = function_of(alone, source)

    calls = [many([1, 2]), many([2, 3]), value(1), value(1)]
    waiting = asyncio.gather(*calls, return_exceptions=True)
    await ticks()
    rows.gate.set()
    source.gate.set()

    assert [type(found) for found in await soon(waiting)] == [type(error)] * 4
