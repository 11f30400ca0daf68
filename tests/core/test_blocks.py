"""A writer that may die leaves nothing old behind, and nobody gets in between (G10)."""

import asyncio
from contextlib import AbstractAsyncContextManager
from secrets import token_bytes
from typing import Any

import pytest

from async_tiercache import Invalidated, LoadContext, TierCache
from async_tiercache._blocks import BLOCK_SECONDS
from async_tiercache._ledger import Ledger
from async_tiercache.abc import Invalidation
from async_tiercache.errors import UsageError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import Wire

WHAT: dict[str, dict[str, Any]] = {"key": {"keys": [KEY]}, "tag": {"tags": ["t"]}}


@pytest.fixture
def server(clock: FakeClock) -> MemoryServer:
    """Return an L2 in which blocks end by the test's clock."""
    return MemoryServer(clock)


def tagged(cache: TierCache, source: Source, **options: Any) -> Any:
    """Return a cached function under the tag ``t``."""
    return function_of(cache, source, tags=["t"], **options)


def entered(cache: TierCache, what: str) -> AbstractAsyncContextManager[None]:
    """Return a block of the key or of its tag."""
    return cache.invalidating(**WHAT[what])


async def killed(cache: TierCache, what: str) -> None:
    """Leave in L2 what a writer has put there that dies before it is at its end."""
    keys, tags = (tuple(WHAT[what].get(each, ())) for each in ("keys", "tags"))
    record = Invalidation(token_bytes(16), keys, tags)
    await cache._core._remote.block(record, token_bytes(16), BLOCK_SECONDS)
    await ticks()


async def is_blocked(cache: TierCache, server: MemoryServer, what: str) -> bool:
    """Return whether L2 holds a block."""
    name = {"key": f"test:{{{KEY}}}", "tag": "test:{t}:t"}[what]
    held: Any = await server.client().get(name)
    return held is not None and held[:1] == b"B"


# Two turns.


@pytest.mark.parametrize("what", WHAT)
async def test_it_takes_two_turns(make_cache: MakeCache, server: MemoryServer, what: str) -> None:
    """One before the source is changed, and one after."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await settled(cache)
    wire.sent.clear()

    async with entered(cache, what):
        assert wire.sent == ["BLOCK"]

    assert wire.sent == ["BLOCK", "UNBLOCK"]
    assert not await is_blocked(cache, server, what)


@pytest.mark.parametrize("what", WHAT)
async def test_it_is_told_as_an_invalidation(cache: TierCache, events: Recorder, what: str) -> None:
    """Once, at its end."""
    async with entered(cache, what):
        assert events.of(Invalidated) == []

    (told,) = events.of(Invalidated)
    assert (list(told.keys), list(told.tags), told.l2) == (
        WHAT[what].get("keys", []),
        WHAT[what].get("tags", []),
        "done",
    )


@pytest.mark.parametrize("what", WHAT)
async def test_what_was_there_is_gone_for_all(
    cache: TierCache, other: TierCache, what: str
) -> None:
    """At the begin already: the writer may have committed when it dies."""
    source = Source("old")
    values = [tagged(each, source) for each in (cache, other)]
    await all_of(*(value(1) for value in values))
    await settled(cache)
    await settled(other)

    async with entered(cache, what):
        await ticks()
        assert await cache.get(KEY, None) is await other.get(KEY, None) is None
        source.value = "new"

    assert await all_of(*(value(1) for value in values)) == ["new", "new"]


async def test_a_decorated_change_blocks_what_it_invalidates(
    cache: TierCache, server: MemoryServer
) -> None:
    """While it runs, and no longer."""
    seen: list[bool] = []

    @cache.invalidates(keys=["value:{key}"], tags=["t"], crash_safe=True)
    async def change(key: int) -> str:
        seen.extend([await is_blocked(cache, server, what) for what in WHAT])
        return "changed"

    assert await change(1) == "changed"
    assert seen == [True, True]
    assert not any([await is_blocked(cache, server, what) for what in WHAT])


# Readers meanwhile.


@pytest.mark.parametrize("what", WHAT)
async def test_readers_meanwhile_load_for_themselves_and_keep_nothing_in_l2(
    cache: TierCache, other: TierCache, server: MemoryServer, what: str
) -> None:
    """What they read may be what the writer is about to change."""
    source = Source("old")
    here, there = tagged(cache, source), tagged(other, source)
    async with entered(cache, what):
        assert await all_of(here(1), there(1)) == ["old", "old"]
        await settled(other)
        assert await other.get(KEY, "nothing") == "nothing"
        source.value = "new"
        assert await soon(there(1)) == "new"
        await settled(other)

    assert await all_of(here(1), there(1)) == ["new", "new"]


@pytest.mark.parametrize("how", ["ends", "dies"])
@pytest.mark.parametrize("what", WHAT)
async def test_a_load_from_before_the_block_stores_nothing(
    cache: TierCache,
    other: TierCache,
    server: MemoryServer,
    clock: FakeClock,
    what: str,
    how: str,
) -> None:
    """Its lease was taken away, or its tag has another id by then; it has not heard of either."""
    source = Source("old")
    source.close()
    loading = asyncio.ensure_future(tagged(other, source)(1))
    await soon(source.loading())
    server.faults.hang("listen")
    if how == "dies":
        await killed(cache, what)
    else:
        async with entered(cache, what):
            pass
    source.gate.set()
    assert await soon(loading) == "old"
    await settled(other)
    await clock.advance(BLOCK_SECONDS + 1)

    assert await (cache if how == "ends" else other).get(KEY, "nothing") == "nothing"
    server.faults.clear()
    await clock.advance(3)


async def test_a_load_that_names_a_blocked_tag_is_not_kept(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Whether the block ends before the loader does or not."""
    source = Source("old")

    @other.cached("value:{key}")
    async def value(key: int, context: LoadContext = LoadContext()) -> Any:
        context.tags = ["t"]
        return await source.load()

    source.close()
    async with entered(cache, "tag"):
        loading = asyncio.ensure_future(value(1))
        await soon(source.loading())
        source.gate.set()
        assert await soon(loading) == "old"
        await settled(other)
        source.close()
        late = asyncio.ensure_future(value(1))
        await soon(source.loading(2))
    source.gate.set()
    await soon(late)
    await settled(other)

    assert await cache.get(KEY, "nothing") == await other.get(KEY, "nothing") == "nothing"


# Several writers.


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("first", ["first in", "last in"])
async def test_the_first_one_out_does_not_open(
    cache: TierCache, other: TierCache, server: MemoryServer, what: str, first: str
) -> None:
    """Only the last one does."""
    blocks = [entered(cache, what), entered(other, what)]
    for block in blocks:
        await block.__aenter__()
    if first == "last in":
        blocks.reverse()

    await blocks[0].__aexit__(None, None, None)
    assert await is_blocked(cache, server, what)
    await blocks[1].__aexit__(None, None, None)
    assert not await is_blocked(cache, server, what)


@pytest.mark.parametrize("what", WHAT)
async def test_two_blocks_of_one_process_are_two(
    cache: TierCache, other: TierCache, server: MemoryServer, what: str
) -> None:
    """Each has a token of its own."""
    source = Source("old")
    async with entered(cache, what):
        async with entered(cache, what):
            pass
        assert await is_blocked(cache, server, what)
        assert await soon(tagged(cache, source)(1)) == "old"
        await ticks()
        source.value = "new"

    assert await soon(tagged(cache, source)(1)) == "new"
    assert await soon(tagged(other, source)(1)) == "new"
    await settled(other)
    assert await other.get(KEY) == "new"


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize(
    "foreign", ["key", "tag", "soft key", "soft tag", "clear", "set", "writing"]
)
@pytest.mark.parametrize("same", [False, True], ids=["other", "same"])
async def test_no_other_change_opens_it(
    cache: TierCache,
    other: TierCache,
    server: MemoryServer,
    clock: FakeClock,
    what: str,
    foreign: str,
    same: bool,
) -> None:
    """Whether another process makes it or the same."""
    source, home = Source("old"), cache if same else other
    async with entered(cache, what):
        if foreign in {"set", "writing"}:
            async with home.writing(KEY, tags=["t"]) as writing:
                writing.set("set")
        elif foreign == "clear":
            await home.clear()
        else:
            soft = "1m" if "soft" in foreign else None
            await home.invalidate(**WHAT[foreign.rsplit(maxsplit=1)[-1]], soft=soft)
        await clock.advance(0.5)
        assert await is_blocked(cache, server, what)
        assert await soon(tagged(other, source)(1)) == "old"
        await settled(other)
        source.value = "new"

    assert await soon(tagged(other, source)(1)) == "new"


# A writer that is slow, or gone.


@pytest.mark.parametrize("what", WHAT)
async def test_a_writer_that_dies_leaves_nothing_old(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, what: str
) -> None:
    """Its block ends by itself; what was there before it is gone, and nothing got in."""
    source = Source("old")
    value = tagged(other, source)
    await value(1)
    await settled(other)
    await killed(cache, what)
    assert await soon(value(1)) == "old"
    await settled(other)
    source.value = "new"
    await clock.advance(BLOCK_SECONDS - 1)
    assert await is_blocked(cache, server, what)
    assert await soon(value(1)) == "new"
    await clock.advance(1.1)

    assert not await is_blocked(cache, server, what)
    assert await soon(value(1)) == "new"
    await settled(other)
    assert await (await reader(cache, server, clock)).get(KEY) == "new"


async def reader(cache: TierCache, server: MemoryServer, clock: FakeClock) -> TierCache:
    """Return a process that has seen nothing yet, and holds nothing in L1."""
    return TierCache(namespace=cache.namespace, client=server.client(), clock=clock)


@pytest.mark.parametrize("what", WHAT)
async def test_a_long_block_is_renewed(
    cache: TierCache, server: MemoryServer, clock: FakeClock, what: str
) -> None:
    """For as long as its writer lives."""
    async with entered(cache, what):
        for _ in range(10):
            await clock.advance(BLOCK_SECONDS / 3)
            assert await is_blocked(cache, server, what)

    assert not await is_blocked(cache, server, what)
    await clock.advance(BLOCK_SECONDS)
    assert not await is_blocked(cache, server, what)


@pytest.mark.parametrize("what", WHAT)
async def test_a_block_that_was_evicted_comes_back(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, what: str
) -> None:
    """What was stored meanwhile is gone then."""
    source = Source("old")
    async with entered(cache, what):
        await server.client().flushall()
        assert await soon(tagged(other, source)(1)) == "old"
        await settled(other)
        await clock.advance(BLOCK_SECONDS / 3)
        assert await is_blocked(cache, server, what)
        source.value = "new"
        assert await soon(tagged(other, source)(1)) == "new"

    assert await soon(tagged(other, source)(1)) == "new"


@pytest.mark.parametrize("what", WHAT)
async def test_an_error_of_the_writer_invalidates(
    cache: TierCache, other: TierCache, server: MemoryServer, what: str
) -> None:
    """It may have committed all the same."""
    source = Source()
    source.error = LookupError()
    with pytest.raises(LookupError):
        async with entered(cache, what):
            await source.load()

    assert not await is_blocked(cache, server, what)
    assert cache._core.ledger.pending == 0


@pytest.mark.parametrize("at", ["entering", "inside", "leaving"])
@pytest.mark.parametrize("what", WHAT)
async def test_a_cancelled_writer_opens_it(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, what: str, at: str
) -> None:
    """Wherever it is cancelled, nothing stays blocked or pending."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    gates = {"entering": wire.hold("BLOCK"), "leaving": wire.hold("UNBLOCK")}
    inside, ending = asyncio.Event(), asyncio.Event()

    async def write() -> None:
        async with entered(cache, what):
            inside.set()
            await ending.wait()

    writing = asyncio.ensure_future(write())
    await soon(gates["entering"].reached.wait())
    if at != "entering":
        wire.let_pass("BLOCK")
        await soon(inside.wait())
    if at == "leaving":
        ending.set()
        await soon(gates["leaving"].reached.wait())
    writing.cancel()
    await ticks()
    wire.let_pass("BLOCK")
    wire.let_pass("UNBLOCK")
    with pytest.raises(asyncio.CancelledError):
        await soon(writing)
    await settled(cache)

    assert not await is_blocked(cache, server, what)
    assert cache._core.ledger.pending == 0


# Redis is away.


@pytest.mark.parametrize("what", WHAT)
async def test_a_change_goes_on_while_redis_is_away(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, what: str
) -> None:
    """What L2 holds is not believed here, and is removed when it is back."""
    source = Source("old")
    value = tagged(other, source)
    await value(1)
    await settled(other)
    server.faults.drop("block", "unblock", "invalidate")
    async with entered(cache, what):
        source.value = "new"
    assert await soon(tagged(cache, source)(1)) == "new"
    assert cache._core.ledger.pending > 0
    server.faults.clear()
    await clock.advance(2)

    assert cache._core.ledger.pending == 0
    assert await soon(value(1)) == "new"


@pytest.mark.parametrize("what", WHAT)
async def test_a_redis_that_is_back_in_time_is_blocked_then(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, what: str
) -> None:
    """By the next renewal."""
    server.faults.drop("block", times=2)
    async with entered(cache, what):
        server.faults.clear()
        await clock.advance(BLOCK_SECONDS / 3)
        assert await is_blocked(cache, server, what)

    assert not await is_blocked(cache, server, what)


@pytest.mark.parametrize("what", WHAT)
async def test_what_redis_is_told_meanwhile_does_not_end_the_block_here(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, what: str
) -> None:
    """It may have been out of reach at the begin, and another key wakes the recovery."""
    source = Source("old")
    here, there = tagged(cache, source), tagged(other, source)
    server.faults.drop("block")
    async with entered(cache, what):
        server.faults.drop("invalidate", times=1)
        assert (await cache.invalidate(keys=["another"])).l2 == "queued"
        await clock.advance(2)
        assert cache._core.ledger.pending == 0
        await soon(there(1))
        await settled(other)
        source.value = "new"

        assert await soon(here(1)) == "new"
    server.faults.clear()


def test_a_block_of_a_loop_that_is_gone_does_not_stand_for_ever() -> None:
    """What it has blocked is invalidated on the next one."""
    ledger = Ledger()
    record = Invalidation(b"i" * 16, (KEY,), ("t",))
    ledger.block(record)
    assert not ledger.doubt(KEY, b"d" * 16)
    assert ledger.names == 0

    ledger.abandon_blocks()

    assert not ledger.may_ask(KEY)
    assert not ledger.may_ask("another", ("t",))
    ledger.confirm(record)
    assert ledger.may_ask_all


@pytest.mark.parametrize("what", WHAT)
async def test_an_end_that_redis_has_not_heard_of_is_queued(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, what: str
) -> None:
    """The block ends by itself, and nothing old comes back."""
    source = Source("old")
    async with entered(cache, what):
        source.value = "new"
        server.faults.drop("unblock", "invalidate")
    assert cache._core.ledger.pending > 0
    assert await soon(tagged(cache, source)(1)) == "new"
    server.faults.clear()
    await clock.advance(BLOCK_SECONDS + 1)

    assert not await is_blocked(cache, server, what)
    assert await soon(tagged(other, source)(1)) == "new"


# Where it cannot be.


async def test_inside_after_commit_it_is_refused(cache: TierCache) -> None:
    """It would end before the commit."""

    @cache.invalidates(keys=["value:{key}"], crash_safe=True)
    async def change(key: int) -> None:
        raise AssertionError

    async with cache.after_commit():
        with pytest.raises(UsageError, match="after_commit"):
            await change(1)
        with pytest.raises(UsageError, match="after_commit"):
            cache.invalidating(keys=[KEY])


@pytest.mark.parametrize("what", WHAT)
async def test_in_l1_alone_it_invalidates_at_both_ends(alone: TierCache, what: str) -> None:
    """A load from inside is not kept afterwards."""
    source = Source("old")
    value = tagged(alone, source)
    await value(1)
    async with entered(alone, what):
        source.close()
        loading = asyncio.ensure_future(value(1))
        await soon(source.loading(2))
    source.gate.set()
    assert await soon(loading) == "old"
    source.value = "new"

    assert await soon(value(1)) == "new"


@pytest.mark.parametrize("way", ["single", "batch"])
@pytest.mark.parametrize("named", [{"keys": [KEY]}, {"tags": ["all"]}], ids=["key", "tag"])
@pytest.mark.parametrize("tiers", ["both", "l1"])
async def test_in_a_block_nothing_is_kept_of_what_it_changes(
    cache: TierCache, alone: TierCache, tiers: str, named: Any, way: str
) -> None:
    """Its own process, too, reads the source each time until it has ended."""
    chosen, source = cache if tiers == "both" else alone, ["old"]

    @chosen.cached("value:{key}", tags=["all"])
    async def value(key: int) -> str:
        return source[0]

    @value.batch
    async def values(keys: list[int]) -> dict[int, str]:
        return dict.fromkeys(keys, source[0])

    async def read() -> str:
        return await value(1) if way == "single" else (await values([1]))[1]

    async with chosen.invalidating(**named):
        assert await read() == "old"
        source[0] = "new"
        assert await read() == "new"
    assert dict(chosen.statistics().not_stored) == {"unsound": 2}
    await read()
    assert chosen.statistics().not_stored["unsound"] == 2
