"""`after_commit`: what a transaction changes is told after it."""

import asyncio
from contextvars import copy_context
from typing import Any

import pytest

from async_tiercache import MISSING, Report, TierCache
from async_tiercache.errors import EncodeError, UsageError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import Source, function_of, soon, ticks
from tests.core.wire import Wire

QUEUED = Report("queued", "queued")


@pytest.fixture
async def stored(cache: TierCache) -> TierCache:
    """Return a cache that holds a, b and c."""
    for key in "abc":
        await cache.set(key, "old")
    return cache


async def failing(cache: TierCache, key: str) -> None:
    async with cache.after_commit():
        await cache.invalidate(keys=[key])
        raise LookupError


async def kept(cache: TierCache) -> dict[str, Any]:
    return await cache.get_many(["a", "b", "c"])


async def test_invalidations_are_sent_at_the_end(stored: TierCache, other: TierCache) -> None:
    """Until then readers have the value that the database still has."""
    async with stored.after_commit():
        assert await stored.invalidate(keys=["a"]) == QUEUED
        assert await stored.get("a") == "old"

    assert await kept(stored) == {"b": "old", "c": "old"}
    assert await kept(other) == {"b": "old", "c": "old"}


async def test_they_are_one_turn(make_cache: MakeCache, server: MemoryServer) -> None:
    """However many there were."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.sent.clear()

    async with cache.after_commit():
        for key in ("a", "b", "a"):
            await cache.invalidate(keys=[key])

    assert wire.sent == ["INVALIDATE"]


async def test_an_error_drops_them(stored: TierCache) -> None:
    """The transaction was rolled back."""
    with pytest.raises(LookupError):
        await failing(stored, "a")

    assert (await kept(stored))["a"] == "old"


async def test_a_block_inside_hands_over(stored: TierCache) -> None:
    """Only the outermost one knows of the commit; one that fails drops its own."""
    async with stored.after_commit():
        await stored.invalidate(keys=["a"])
        async with stored.after_commit():
            await stored.invalidate(keys=["b"])
        with pytest.raises(LookupError):
            await failing(stored, "c")
        assert await kept(stored) == {"a": "old", "b": "old", "c": "old"}

    assert await kept(stored) == {"c": "old"}


async def test_decorated_functions_wait_as_well(stored: TierCache) -> None:
    """`invalidates` and the helpers of a cached function."""

    @stored.cached("row:{row_id}")
    async def row(row_id: int) -> str:
        return "old"

    @stored.invalidates(keys=["b"])
    async def change() -> None:
        """Change the source."""

    await row(1)
    await settled(stored)
    async with stored.after_commit():
        assert await row.invalidate(1) == QUEUED
        await change()
        assert await row.put("put", 2) == QUEUED
        assert row.peek(1) == "old"
        assert await kept(stored) == {"a": "old", "b": "old", "c": "old"}

    assert row.peek(1) is MISSING
    assert row.peek(2) == "put"
    assert await kept(stored) == {"a": "old", "c": "old"}


async def test_values_are_put_at_the_end(stored: TierCache, other: TierCache) -> None:
    """A rollback must not leave them behind. The last change of a key counts."""
    async with stored.after_commit():
        await stored.set("a", "new")
        await stored.set("b", "new")
        await stored.invalidate(keys=["b"])
        await stored.invalidate(keys=["c"])
        await stored.set("c", "new")

    await settled(stored)
    assert await kept(other) == {"a": "new", "c": "new"}


async def test_what_cannot_be_stored_is_refused_at_once(stored: TierCache) -> None:
    """Not at the end, when the transaction has been committed."""
    async with stored.after_commit():
        with pytest.raises(EncodeError):
            await stored.set("a", object())


async def test_what_is_put_is_what_the_value_was_when_it_was_said(
    cache: TierCache, other: TierCache
) -> None:
    """Its owner may change it before the end, even so that it could not be stored any more."""
    first, second = list[Any](["first"]), list[Any](["second"])
    async with cache.after_commit():
        await cache.set("first", first)
        await cache.set("second", second)
        first.append(object())
        second.append("more")

    for each in (cache, other):
        assert await each.get_many(["first", "second"]) == {
            "first": ["first"],
            "second": ["second"],
        }


async def test_writing_inside_is_refused(stored: TierCache) -> None:
    """It would store what is not committed yet."""
    async with stored.after_commit():
        with pytest.raises(UsageError, match="after_commit"):
            async with stored.writing("a"):
                raise AssertionError


async def test_another_cache_is_not_concerned(stored: TierCache, other: TierCache) -> None:
    """Each has its own transaction."""
    async with stored.after_commit(), other.after_commit():
        await stored.invalidate(keys=["a"])
        await other.invalidate(keys=["b"])
        assert await stored.get("a") == "old"

    assert await kept(stored) == {"c": "old"} or await other.get_many(["a", "b"]) == {}


async def test_tasks_of_the_block_belong_to_it(stored: TierCache) -> None:
    """While it is open; one that outlives it tells at once."""
    go = asyncio.Event()

    async def change(key: str) -> Report:
        if key == "b":
            await go.wait()
        return await stored.invalidate(keys=[key])

    async with stored.after_commit():
        inside = asyncio.create_task(change("a"))
        outliving = asyncio.create_task(change("b"))
        assert await soon(inside) == QUEUED
    go.set()

    assert (await soon(outliving)).l2 == "done"
    assert await kept(stored) == {"c": "old"}


async def test_tasks_outside_are_not_concerned(stored: TierCache) -> None:
    """Other requests go on while a transaction is open."""
    opened, done = asyncio.Event(), asyncio.Event()

    async def transaction() -> None:
        async with stored.after_commit():
            opened.set()
            await done.wait()

    task = asyncio.create_task(transaction())
    await soon(opened.wait())

    report = await stored.invalidate(keys=["a"])

    assert report.l2 == "done"
    done.set()
    await task


@pytest.mark.leaves_pending
async def test_a_cancelled_end_loses_nothing(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """The transaction was committed; what it changed is told, whoever waits for that."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await cache.set("a", "old")
    await cache.set("b", "old")
    gate = wire.hold("INVALIDATE")

    async def transaction() -> None:
        async with cache.after_commit():
            await cache.invalidate(keys=["a"])
            await cache.set("b", "new")

    task = asyncio.create_task(transaction())
    await soon(gate.reached.wait())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    wire.let_pass("INVALIDATE")
    await ticks()

    assert await soon(other.get_many(["a", "b"])) == {}


async def test_a_cancelled_end_loses_nothing_that_was_to_become_stale(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It is pending before the first of them is told."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    for key in "abc":
        await cache.set(key, "old")
    gate = wire.hold("INVALIDATE")

    async def transaction() -> None:
        async with cache.after_commit():
            await cache.invalidate(keys=["a"])
            await cache.invalidate(keys=["b"], soft="1m")
            await cache.invalidate(keys=["c"], soft="2m")

    task = asyncio.create_task(transaction())
    await soon(gate.reached.wait())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert await soon(kept(cache)) == {}
    wire.let_pass("INVALIDATE")
    await clock.advance(1)
    assert await soon(kept(cache)) == {}


async def test_a_cancelled_block_invalidates_what_it_may_have_changed(
    stored: TierCache, other: TierCache
) -> None:
    """Whether its commit has reached the database, nobody knows."""
    inside = asyncio.Event()

    async def transaction() -> None:
        async with stored.after_commit():
            await stored.invalidate(keys=["a"])
            await stored.set("b", "new")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(transaction())
    await soon(inside.wait())
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert await other.get_many(["a", "b", "c"]) == {"c": "old"}


async def test_what_a_transaction_sees_is_kept_from_others(
    cache: TierCache, other: TierCache
) -> None:
    """A method without via= reads on the transaction's own session; it may be rolled back."""

    def repository(of: TierCache, session: str) -> Any:
        class Repository:
            @of.cached("row:{row_id}")
            async def row(self, row_id: int) -> str:
                return session

            @row.batch
            async def rows(self, row_ids: list[int]) -> dict[int, str]:
                return dict.fromkeys(row_ids, session)

        return Repository()

    mine = repository(cache, "not committed")

    async def load() -> str:
        return "not committed"

    async with cache.after_commit():
        seen = [
            await mine.row(1),
            await mine.row.refresh(2),
            (await mine.rows([3]))[3],
            await cache.get_or_load("k", load),
            (await cache.get_or_load_many(["m"], mine.rows))["m"],
        ]
    await settled(cache)

    assert set(seen) == {"not committed"}
    for each in (cache, other):
        assert await each.get_many(["row:1", "row:2", "row:3", "k", "m"]) == {}


async def test_a_function_inside_a_transaction_is_shared(cache: TierCache) -> None:
    """It opens its own session, and sees what is committed."""
    source = Source()
    value = function_of(cache, source)

    async with cache.after_commit():
        await value(1)
        await settled(cache)
        await value(1)

    assert source.loads == 1


async def test_a_block_that_outlives_the_one_around_it_makes_its_own_changes(
    stored: TierCache,
) -> None:
    """In a task, or in a dependency that ends after the middleware around it."""
    go = asyncio.Event()

    async def work() -> None:
        async with stored.after_commit():
            await stored.invalidate(keys=["b"])
            await go.wait()

    async with stored.after_commit():
        await stored.invalidate(keys=["a"])
        task = asyncio.create_task(work())
        await ticks()
    assert await kept(stored) == {"b": "old", "c": "old"}
    go.set()
    await soon(task)

    assert await kept(stored) == {"c": "old"}


async def test_a_block_that_is_left_in_another_context_is_told_all_the_same(
    stored: TierCache,
) -> None:
    """A framework may enter it in one task and leave it in another."""
    block = stored.after_commit()
    context = copy_context()
    await asyncio.create_task(block.__aenter__(), context=context)
    await asyncio.create_task(stored.invalidate(keys=["a"]), context=context)
    assert await stored.get("a") == "old"

    await asyncio.create_task(block.__aexit__(None, None, None))

    assert await stored.get("a") is MISSING


@pytest.mark.parametrize("how", ["tag", "soft", "clear", "block inside"])
async def test_a_value_that_was_put_before_its_tag_was_invalidated_is_gone(
    cache: TierCache, other: TierCache, how: str
) -> None:
    """What was said last counts; put afterwards it stays."""
    async with cache.after_commit():
        await cache.set("before", "v", tags=["t"])
        if how == "clear":
            await cache.clear()
        elif how == "block inside":
            async with cache.after_commit():
                await cache.invalidate(tags=["t"])
        else:
            await cache.invalidate(tags=["t"], soft="1m" if how == "soft" else None)
        await cache.set("after", "v", tags=["t"])

    for each in (cache, other):
        assert await each.get_many(["before", "after"], stale=True) == {"after": "v"}
