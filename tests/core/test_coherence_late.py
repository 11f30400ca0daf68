"""Commands that are carried out late, and what must not follow from them (P2, P7, G1)."""

import asyncio

import pytest

from async_tiercache import MISSING, Report, TierCache
from async_tiercache.errors import InvalidationQueuedError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache.testing._faults import Operation
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import Wire

RAW = "test:{value:1}"


async def until_l2_is_back(cache: TierCache, clock: FakeClock) -> None:
    """Let the breaker's period and what was queued come to their ends."""
    for _ in range(20):
        if cache.l2 == "up" and not cache.statistics().pending:
            return
        await clock.advance(0.2)
        await cache.get("probe", None)


async def refreshed(cache: TierCache, other: TierCache, clock: FakeClock) -> None:
    """Let another process load what is new, and store it."""
    await until_l2_is_back(cache, clock)
    assert await soon(function_of(other, Source("new"))(1)) == "new"
    await settled(other)


async def test_a_commit_that_is_carried_out_late_stores_nothing(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Its lease went with the invalidation, and another process has loaded since."""
    server.faults.hang("commit", times=1)
    await function_of(cache, Source("old"))(1)
    await soon(server.faults.reached())
    await settled(cache)
    await other.invalidate(keys=[KEY])
    await refreshed(cache, other, clock)

    server.faults.clear()
    await ticks()

    assert await soon(other.get(KEY)) == "new"
    assert await soon(function_of(cache, Source("newer"))(1)) == "new"


@pytest.mark.parametrize("what", ["seize", "take", "ensure", "invalidate"])
async def test_a_command_that_is_carried_out_late_costs_a_load_at_most(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, what: Operation
) -> None:
    """It removes what came after it, or leaves a lease that nobody renews."""
    server.faults.hang(what, times=1)
    if what in {"seize", "invalidate"}:
        await cache.set(KEY, "old")
        await cache.invalidate(keys=[KEY])
    else:
        await function_of(cache, Source("old"), tags=["t"])(1)
    await soon(server.faults.reached())
    await other.invalidate(keys=[KEY])
    await refreshed(cache, other, clock)

    server.faults.clear()
    await ticks()
    await server.client().delete(RAW)  # The lease ends: the server's clock is not the test's.

    assert await soon(function_of(cache, Source("new"))(1)) == "new"
    assert await soon(function_of(other, Source("new"))(1)) == "new"


async def test_a_tag_that_is_invalidated_late_ends_what_stands_under_it(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Each execution gives the tag an id that it never had, so nothing comes to life again."""
    await function_of(other, Source("old"), tags=["t"])(1)
    await settled(other)
    old = await server.client().get(RAW)
    server.faults.hang("invalidate", times=1)
    assert await cache.invalidate(tags=["t"]) == Report("queued")
    await until_l2_is_back(cache, clock)
    server.faults.clear()
    await ticks()
    assert old is not None
    await server.client().set(RAW, old)

    assert await soon(function_of(other, Source("new"), tags=["t"])(1)) == "new"


async def test_the_message_of_an_invalidation_that_is_carried_out_late_reaches_others_only(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """This process has forgotten long since, and repeated it."""
    server.faults.hang("invalidate", times=1)
    await cache.invalidate(keys=[KEY])
    await until_l2_is_back(cache, clock)
    mine, theirs = function_of(cache, Source("new")), function_of(other, Source("new"))
    await mine(1)
    await settled(cache)
    await theirs(1)

    server.faults.clear()
    await ticks()

    assert (mine.peek(1), theirs.peek(1)) == ("new", MISSING)


async def test_a_read_gathered_before_an_own_invalidation_is_not_served_after_it(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """Its reply is old, and comes when the key is pending: nobody gets that."""
    await other.set(KEY, "old", l1_ttl=0)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source("new"))
    turn = wire.hold("GET")
    reading = asyncio.ensure_future(value(1))
    await soon(turn.reached.wait())
    invalidating = asyncio.ensure_future(cache.invalidate(keys=[KEY]))
    await ticks()
    after = asyncio.ensure_future(value(1))
    wire.let_pass("GET")

    assert await all_of(reading, after) == ["new", "new"]
    await soon(invalidating)
    assert await soon(value(1)) == "new"


async def test_reads_that_are_gathered_share_no_answer_across_an_invalidation(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """Two readers in one tick are one request, unless the key was invalidated in between."""
    await other.set(KEY, "old", l1_ttl=0)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source("new"))
    before = asyncio.ensure_future(value(1))
    invalidating = asyncio.ensure_future(cache.invalidate(keys=[KEY]))
    after = asyncio.ensure_future(value(1))

    assert await all_of(before, after) == ["new", "new"]
    await soon(invalidating)
    assert await soon(value(1)) == "new"


async def test_a_strict_invalidation_that_is_queued_raises(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """With its report; it is repeated all the same."""
    server.connected = False

    with pytest.raises(InvalidationQueuedError) as raised:
        await cache.invalidate(keys=[KEY], strict=True)
    with pytest.raises(InvalidationQueuedError):
        await cache.clear(strict=True)

    assert raised.value.report == Report("queued")
    server.connected = True
    await clock.advance(1)
    assert cache.statistics().pending == 0


async def test_a_strict_invalidation_that_l2_confirms_does_not_raise(cache: TierCache) -> None:
    """By key, by tag, and of everything."""
    assert (await cache.invalidate(keys=[KEY], tags=["t"], strict=True)).l2 == "done"
    assert (await cache.clear(strict=True)).l2 == "done"


@pytest.mark.leaves_pending
async def test_closing_says_what_is_left_of_keys_and_tags(
    make_cache: MakeCache, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    """All that other processes may still serve."""
    cache = await make_cache()
    server.connected = False
    await cache.invalidate(keys=["a", "b"], tags=["t"])

    await soon(cache.aclose())

    assert "Closed with 3 keys" in caplog.text


async def test_a_cancelled_write_leaves_nothing_old_behind(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Its caller has changed the source, and does not come back to tell."""
    theirs = function_of(other, Source("old"))
    await theirs(1)
    await settled(other)
    server.faults.hang("seize", times=1)
    writing = asyncio.ensure_future(cache.set(KEY, "new"))
    await soon(server.faults.reached())

    writing.cancel()
    await ticks()
    await until_l2_is_back(cache, clock)

    assert theirs.peek(1) is MISSING
    assert await soon(other.get(KEY, "nothing")) == "nothing"
    server.faults.clear()


# What a call declares.


async def test_a_value_without_a_declared_tag_is_not_served_under_it(
    cache: TierCache, other: TierCache
) -> None:
    """It was put without; whoever invalidates the tag would not reach it."""
    source = Source("new")
    value = function_of(cache, source, tags=["t"])
    await cache.set(KEY, "old")
    await cache.invalidate(tags=["t"])

    assert [await soon(value(1)) for _ in range(3)] == ["new"] * 3
    assert await soon(function_of(other, Source("x"), tags=["t"])(1)) == "new"


async def test_a_call_path_that_was_compiled_finds_nothing_without_its_tags(
    cache: TierCache,
) -> None:
    """Another function of the same key, that declares none, has kept its value in between."""
    source = Source("old")
    value, untagged = function_of(cache, source, tags=["t"]), function_of(cache, source)
    for _ in range(3):
        await value(1)
        await settled(cache)
    await untagged.refresh(1)
    await settled(cache)
    source.value = "new"
    await cache.invalidate(tags=["t"])

    assert [await soon(value(1)) for _ in range(3)] == ["new"] * 3


async def test_what_a_batch_found_absent_without_a_declared_tag_is_asked_for_again(
    cache: TierCache,
) -> None:
    """It may have come to be since, and nobody would have told."""

    async def none(ids: list[str]) -> dict[str, str]:
        return {}

    async def some(ids: list[str]) -> dict[str, str]:
        return dict.fromkeys(ids, "new")

    await cache.get_or_load_many(["k"], none, negative_ttl=60)
    await settled(cache)
    await cache.invalidate(tags=["t"])

    assert await soon(cache.get_or_load_many(["k"], some, tags=["t"])) == {"k": "new"}
