"""Writes: `set`, `put` and `writing` put a value where a fence of theirs stands."""

import asyncio
from typing import Any

import pytest

from async_tiercache import MISSING, Report, TierCache, Writing
from async_tiercache.errors import EncodeError, UsageError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, method_of, soon, ticks
from tests.core.wire import Wire

RAW = "test:{value:1}"


async def test_a_value_that_was_set_is_there_for_all(cache: TierCache, other: TierCache) -> None:
    """In this process's L1 and in L2."""
    assert await cache.set(KEY, "put") == Report("done")

    assert function_of(cache, Source()).peek(1) == "put"
    assert await other.get(KEY) == "put"


async def test_a_value_that_was_put_answers_the_function(cache: TierCache) -> None:
    """`put` takes the value first, then the function's own arguments."""
    source = Source()
    value = function_of(cache, source)

    await value.put("put", 1)

    assert await value(1) == "put"
    assert source.loads == 0


async def test_a_write_without_l2_is_kept_in_l1(alone: TierCache) -> None:
    """L1 alone behaves as with L2."""
    assert await alone.set("k", "put") == Report("off")

    assert await alone.get("k") == "put"


async def test_the_last_of_two_writers_wins(cache: TierCache, other: TierCache) -> None:
    """Whichever process it is in."""
    await cache.set(KEY, "first", l1_ttl=0)
    await other.set(KEY, "second")

    assert await cache.get(KEY) == "second"


@pytest.mark.parametrize("tiers", ["both", "l1"])
async def test_of_writers_at_once_in_a_process_the_last_one_wins(
    make_cache: MakeCache, tiers: str
) -> None:
    """None takes away what another has put, or is about to."""
    cache = await (make_cache() if tiers == "both" else make_cache(client=None))

    reports = await all_of(*(cache.set(KEY, number) for number in range(3)))

    assert [report.l2 for report in reports] == ["done" if tiers == "both" else "off"] * 3
    assert await cache.get(KEY) == 2


@pytest.mark.parametrize("second", ["has put", "puts", "has written", "dies"])
async def test_a_writer_that_was_overtaken_by_another_leaves_what_that_one_puts(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, second: str
) -> None:
    """It has taken the fence later. All are told of the first one, even if nobody tells of both."""
    wire, late = Wire(server), Wire(server)
    cache, slow = await make_cache(client=wire.client), await make_cache(client=late.client)
    await cache.set(KEY, "old")
    assert await other.get(KEY) == "old"
    wire.hold("COMMIT")
    first = asyncio.ensure_future(cache.set(KEY, "first"))
    await ticks()
    gate = late.hold("COMMIT")
    overtaking = asyncio.ensure_future(slow.set(KEY, "second"))
    await soon(gate.reached.wait())
    if second == "has put":
        late.let_pass("COMMIT")
        await soon(overtaking)
    elif second == "has written":
        async with slow.writing(KEY) as writing:
            writing.set("second")
            late.let_pass("COMMIT")
        await soon(overtaking)

    wire.let_pass("COMMIT")
    assert await soon(first) == Report("done")
    await ticks()

    assert await other.get(KEY, "nothing") in {"second", "nothing"}
    if second == "dies":
        overtaking.cancel()
        late.let_pass("COMMIT")
        await asyncio.wait([overtaking])
        await soon(settled(slow))
        assert await other.get(KEY, "nothing") == "nothing"
    else:
        late.let_pass("COMMIT")
        await soon(overtaking)
        assert await other.get(KEY) == await cache.get(KEY) == "second"


async def test_a_value_that_another_server_has_refused_leaves_nothing_old(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """What stands there is no other writer's, but what was there before the fence was taken."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await other.set(KEY, "old", l1_ttl=0)
    held: Any = await server.client().get(RAW)
    wire.hold("COMMIT")
    putting = asyncio.ensure_future(cache.set(KEY, "new"))
    await ticks()

    server.restart(keep=True)
    await server.client().set(RAW, held)
    wire.let_pass("COMMIT")
    await soon(putting)
    await clock.advance(1)
    await soon(settled(cache))

    assert await cache.get(KEY, "nothing") == "nothing"
    assert await server.client().exists(RAW) == 0


@pytest.mark.parametrize(
    "form", [pytest.param(function_of, id="function"), pytest.param(method_of, id="method")]
)
async def test_a_load_in_progress_loses_against_a_write(
    cache: TierCache, other: TierCache, clock: FakeClock, form: Any
) -> None:
    """What was read before the write is stored nowhere."""
    source = Source("loaded")
    source.close()
    value = form(cache, source)
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await clock.advance(0.01)

    await cache.set(KEY, "put")
    source.gate.set()
    assert await soon(loading) == "put"
    await soon(settled(cache))

    assert value.peek(1) == "put"
    assert await other.get(KEY) == "put"


async def test_a_load_in_progress_elsewhere_loses_against_a_write(
    cache: TierCache, other: TierCache
) -> None:
    """The write takes its lease away."""
    source = Source("loaded")
    source.close()
    value = function_of(cache, source)
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())

    await other.set(KEY, "put")
    source.gate.set()
    await soon(loading)
    await soon(settled(cache))

    assert value.peek(1) is MISSING
    assert await value(1) == "put"


async def test_a_value_that_cannot_be_stored_changes_nothing(
    cache: TierCache, server: MemoryServer
) -> None:
    """The old value stays: the caller has been told."""
    await cache.set(KEY, "before")
    held = await server.client().get(RAW)

    with pytest.raises(EncodeError):
        await cache.set(KEY, object())

    assert await server.client().get(RAW) == held
    assert await cache.get(KEY) == "before"


async def test_a_value_of_another_type_than_annotated_is_refused(cache: TierCache) -> None:
    """`put` checks what a loader's result is checked for."""

    @cache.cached("count:{n}")
    async def count(n: int) -> int:
        return n

    wrong: Any = "seven"
    with pytest.raises(EncodeError):
        await count.put(wrong, 1)


async def test_a_write_that_l2_does_not_answer_is_queued_as_an_invalidation(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The value is kept nowhere: what L2 holds may be older, and others may write."""
    server.connected = False

    assert await cache.set(KEY, "put") == Report("queued")
    assert function_of(cache, Source()).peek(1) is MISSING
    server.connected = True
    await clock.advance(1)


async def test_a_lost_reply_of_a_commit_is_queued_as_an_invalidation(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Nobody knows whether it was stored, so the key goes."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.cut("COMMIT")

    report = await cache.set(KEY, "put")
    await clock.advance(1)

    assert report == Report("queued")
    assert await server.client().exists(RAW) == 0


async def test_a_cancelled_write_gives_its_lease_back(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Readers of other processes need not wait for it to expire."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    seizing = wire.hold_reply("SEIZE")
    writing = asyncio.ensure_future(cache.set(KEY, "put"))
    await soon(seizing.reached.wait())

    writing.cancel()
    wire.let_pass("SEIZE")
    await ticks()
    await soon(settled(cache))

    assert await server.client().exists(RAW) == 0


@pytest.mark.parametrize("held", ["SEIZE", "COMMIT"])
async def test_a_get_beside_a_write_waits_for_what_is_put(
    make_cache: MakeCache, server: MemoryServer, held: str
) -> None:
    """There was a value before and there is one afterwards, so it has one of them."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await cache.set(KEY, "old")
    gate = wire.hold_reply(held) if held == "SEIZE" else wire.hold(held)
    writing = asyncio.ensure_future(cache.set(KEY, "new"))
    await soon(gate.reached.wait())

    leaving = asyncio.ensure_future(cache.get(KEY))
    reading = [asyncio.ensure_future(cache.get(KEY, "nothing")) for _ in range(2)]
    many = asyncio.ensure_future(cache.get_many([KEY, "value:2"]))
    await ticks()
    leaving.cancel()
    assert not any(each.done() for each in (writing, *reading, many))
    wire.let_pass(held)

    assert await all_of(*reading, many) == ["new", "new", {KEY: "new"}]
    assert (await soon(writing)).l2 == "done"


async def test_a_get_beside_a_write_without_l2_waits_for_it(alone: TierCache) -> None:
    """That has ticks of its own."""
    await alone.set(KEY, "old")
    writing = asyncio.ensure_future(alone.set(KEY, "new"))
    await asyncio.sleep(0)

    assert await soon(alone.get(KEY)) == "new"
    await soon(writing)


async def test_a_get_beside_a_write_that_is_cancelled_finds_nothing(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """The key is invalidated then."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await cache.set(KEY, "old")
    gate = wire.hold_reply("SEIZE")
    writing = asyncio.ensure_future(cache.set(KEY, "new"))
    await soon(gate.reached.wait())
    reading = asyncio.ensure_future(cache.get(KEY, "nothing"))
    await ticks()

    writing.cancel()
    wire.let_pass("SEIZE")

    assert await soon(reading) == "nothing"
    assert (await soon(asyncio.gather(writing, return_exceptions=True)))[0] is not None


async def test_a_get_waits_for_one_write_and_not_for_those_that_follow(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Else it would wait for as long as others put something again and again."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    gate = wire.hold_reply("SEIZE")
    first = asyncio.ensure_future(cache.set(KEY, "first"))
    await soon(gate.reached.wait())
    reading = asyncio.ensure_future(cache.get(KEY, "nothing"))
    await ticks()
    following: list[asyncio.Task[Report]] = []

    def follow(_: object) -> None:
        following.append(asyncio.ensure_future(cache.set(KEY, "second")))

    first.add_done_callback(follow)
    wire.let_pass("SEIZE")
    await soon(first)
    gate = wire.hold_reply("COMMIT")

    assert await soon(reading) in {"first", "nothing"}
    wire.let_pass("COMMIT")
    await soon(following[0])
    assert await cache.get(KEY) == "second"


async def test_a_get_beside_a_block_or_in_another_process_finds_nothing(
    cache: TierCache, other: TierCache
) -> None:
    """What the source holds by then nobody knows, and the old value is gone with its lease."""
    await cache.set(KEY, "old")

    async with cache.writing(KEY) as writing:
        assert await soon(cache.get(KEY, "nothing")) == "nothing"
        assert await soon(other.get(KEY, "nothing")) == "nothing"
        writing.set("new")

    assert [await cache.get(KEY), await other.get(KEY)] == ["new", "new"]


async def test_writing_puts_what_the_block_has_set(cache: TierCache, other: TierCache) -> None:
    """The value is there when the block has ended."""
    async with cache.writing(KEY) as writing:
        writing.set("written")

    assert writing.report == Report("done")
    assert await other.get(KEY) == await cache.get(KEY) == "written"


async def test_writing_without_set_only_invalidates(cache: TierCache, other: TierCache) -> None:
    """For a change whose result is not known."""
    await cache.set(KEY, "before", l1_ttl=0)

    async with cache.writing(KEY) as writing:
        pass

    assert writing.report == Report("done")
    assert await other.get(KEY, "nothing") == "nothing"


async def test_the_last_set_of_a_block_counts(cache: TierCache) -> None:
    """Nothing is put before the block ends."""
    async with cache.writing(KEY) as writing:
        writing.set("first")
        writing.set("second")

    assert await cache.get(KEY) == "second"


async def test_none_is_a_value_to_write(cache: TierCache) -> None:
    """`set(None)` is not the same as no `set`."""
    async with cache.writing(KEY) as writing:
        writing.set(None)

    assert await cache.get(KEY, "nothing") is None


async def test_readers_of_every_process_wait_for_the_block(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """They get the new value, and the loader is not asked."""
    source = Source("old")
    async with cache.writing(KEY) as writing:
        readers = [asyncio.ensure_future(function_of(each, source)(1)) for each in (cache, other)]
        await clock.advance(0.05)
        assert not any(reader.done() for reader in readers)
        writing.set("new")
    await clock.advance(1)

    assert await all_of(*readers) == ["new", "new"]
    assert source.loads == 0


async def test_a_long_block_keeps_its_lease(
    cache: TierCache, other: TierCache, clock: FakeClock, server: MemoryServer
) -> None:
    """The lease is renewed while the source is being changed."""
    async with cache.writing(KEY) as writing:
        await ticks()
        await server.client().pexpire(RAW, 50_000)
        await clock.advance(0.5)
        renewed = await server.client().pttl(RAW)
        writing.set("new")

    assert 0 < renewed <= 1000
    assert await other.get(KEY) == "new"


@pytest.mark.parametrize("who", ["own", "other"])
async def test_an_invalidation_inside_the_block_wins(
    cache: TierCache, other: TierCache, who: str
) -> None:
    """What the block has set may be older than the change that somebody else reports."""
    async with cache.writing(KEY) as writing:
        writing.set("written")
        await (cache if who == "own" else other).invalidate(keys=[KEY])

    assert await cache.get(KEY, "nothing") == "nothing"
    assert await other.get(KEY, "nothing") == "nothing"


async def test_an_invalidation_inside_the_block_wins_without_l2(alone: TierCache) -> None:
    """L1 alone decides by the generation."""
    async with alone.writing(KEY) as writing:
        writing.set("written")
        await alone.invalidate(keys=[KEY])

    assert await alone.get(KEY, "nothing") == "nothing"


async def test_a_block_that_raises_invalidates(cache: TierCache, other: TierCache) -> None:
    """Nobody knows whether the source has changed."""
    await cache.set(KEY, "before", l1_ttl=0)

    with pytest.raises(LookupError):  # noqa: PT012 - the block is what raises
        async with cache.writing(KEY) as writing:
            writing.set("written")
            raise LookupError

    assert await other.get(KEY, "nothing") == "nothing"


async def test_a_value_that_cannot_be_stored_ends_the_block(
    cache: TierCache, other: TierCache
) -> None:
    """`set` raises inside the block, which then invalidates."""
    await cache.set(KEY, "before", l1_ttl=0)

    with pytest.raises(EncodeError):
        async with cache.writing(KEY) as writing:
            writing.set(object())

    assert await other.get(KEY, "nothing") == "nothing"


async def test_a_lease_that_ends_inside_the_block_stores_nothing(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """A process that was stopped for longer than its lease has lost the right to store."""
    async with cache.writing(KEY) as writing:
        writing.set("written")
        await server.client().delete(RAW)

    assert writing.report == Report("done")
    assert await cache.get(KEY, "nothing") == "nothing"
    assert await other.get(KEY, "nothing") == "nothing"


async def test_a_value_that_came_between_is_removed(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """It was read while the source changed, so it may be the old one."""
    async with cache.writing(KEY) as writing:
        writing.set("written")
        await server.client().delete(RAW)
        await other.get_or_load(KEY, Source("between").load, l1_ttl=0)
        await soon(settled(other))

    assert await other.get(KEY, "nothing") == "nothing"


async def test_a_load_of_another_process_begun_inside_the_block_stores_nothing(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """It took its lease after ours was lost; the commit of the block removes it."""
    source = Source("between")
    source.close()
    async with cache.writing(KEY):
        await server.client().delete(RAW)
        loading = asyncio.ensure_future(other.get_or_load(KEY, source.load))
        await soon(source.loading())
    source.gate.set()
    await soon(loading)
    await soon(settled(other))

    assert await other.get(KEY, "nothing") == "nothing"


async def test_what_was_read_during_the_block_is_forgotten_without_l2(
    alone: TierCache,
) -> None:
    """Without L2 nobody waits for the block, but nothing read in it is kept."""
    source = Source("old")
    value = function_of(alone, source)
    async with alone.writing(KEY) as writing:
        assert await value(1) == "old"
        await ticks()
        writing.set("new")

    assert await value(1) == "new"


async def test_a_block_cancelled_at_its_commit_leaves_nothing_old_in_l1(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """The source has changed: what this process read meanwhile must go, whatever L2 did."""
    await other.set(KEY, "old", l1_ttl=0)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("new")
    value = function_of(cache, source)
    seizing = wire.hold("SEIZE")

    async def change() -> None:
        async with cache.writing(KEY) as writing:
            writing.set("new")

    changing = asyncio.ensure_future(change())
    await soon(seizing.reached.wait())
    assert await soon(value(1)) == "old"
    commit = wire.hold("COMMIT")
    wire.let_pass("SEIZE")
    await soon(commit.reached.wait())
    changing.cancel()
    await ticks()
    wire.let_pass("COMMIT")
    await clock.advance(1)

    assert await soon(value(1)) == "new"


async def test_set_after_the_block_is_refused(cache: TierCache) -> None:
    """It would be put nowhere."""
    async with cache.writing(KEY) as writing:
        pass

    with pytest.raises(UsageError, match="after the block"):
        writing.set("late")


async def test_set_after_a_block_that_raised_is_refused(cache: TierCache) -> None:
    """However the block ended."""
    kept: list[Writing] = []
    with pytest.raises(LookupError):  # noqa: PT012 - the block is what raises
        async with cache.writing(KEY) as writing:
            kept.append(writing)
            raise LookupError

    with pytest.raises(UsageError, match="after the block"):
        kept[0].set("late")


async def test_a_none_that_is_not_to_be_kept_only_invalidates(cache: TierCache) -> None:
    """`negative_ttl=0` holds for writes as for loads."""
    await cache.set(KEY, "before")

    await cache.set(KEY, None, negative_ttl=0)

    assert await cache.get(KEY, "nothing") == "nothing"


async def test_a_write_lives_as_long_as_its_policy_says(cache: TierCache, clock: FakeClock) -> None:
    """In L1 by the process's clock."""
    await cache.set(KEY, "put", ttl=10, jitter=0)
    await clock.advance(9.9)
    assert function_of(cache, Source()).peek(1) == "put"

    await clock.advance(0.2)

    assert function_of(cache, Source()).peek(1) is MISSING
