"""What errors name: the key, the family or the id, so that a log tells which call went wrong."""

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
from tests.core.source import Source, function_of

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
