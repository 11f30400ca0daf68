"""Tags whose invalidation meets a load, a lost state, or a Redis that is away (P1, P4, G1, G5)."""

import asyncio
from typing import Any

import pytest

from async_tiercache import MISSING, LoadContext, TierCache, _ledger
from async_tiercache._basis import STRIPES
from async_tiercache._family import MAX_NAMED
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, Invalidation
from async_tiercache.tags import state_of
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import Wire


def naming(cache: TierCache, source: Source, *tags: str, **options: Any) -> Any:
    """Return a cached function whose loader names tags."""

    @cache.cached("value:{key}", **options)
    async def value(key: int, context: LoadContext = LoadContext()) -> Any:
        context.tags = tags
        return await source.load()

    return value


async def forget(server: MemoryServer, tag: str) -> None:
    """Evict the state of a tag."""
    assert await server.client().delete(f"test:{{{tag}}}:t")


# Tags that a loader names.


async def test_a_named_tag_removes_the_value_everywhere(cache: TierCache, other: TierCache) -> None:
    """Though no template knows it."""
    await naming(cache, Source("old"), "author:7")(1)
    await settled(cache)
    assert await other.get(KEY) == "old"

    await other.invalidate(tags=["author:7"])
    await ticks()

    assert await cache.get_many([KEY]) == await other.get_many([KEY]) == {}


async def test_a_named_tag_is_asked_for_before_the_next_load(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Then its state needs no proof afterwards, and no other tag matters."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("v1")
    value = naming(cache, source, "author:7")
    await value(1)
    await settled(cache)
    await cache.invalidate(keys=[KEY])
    source.close()
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading(2))
    await cache.invalidate(tags=["unrelated"])
    wire.sent.clear()
    source.gate.set()
    await soon(loading)
    await settled(cache)

    assert [name for name in wire.sent if name != "PEXPIRE"] == ["COMMIT"]
    assert await cache.get(KEY) == "v1"


@pytest.mark.parametrize("tiers", ["both", "l1"])
async def test_a_value_stands_under_the_tags_that_its_own_loader_has_named(
    cache: TierCache, alone: TierCache, clock: FakeClock, tiers: str
) -> None:
    """Not under those of the one before, which together may also be more than there can be."""
    chosen = cache if tiers == "both" else alone
    page = [0]
    # To a process, tags that share a generation are one.
    former = {hash(tag) % STRIPES for tag in ("item:0", "item:200")}
    last = [f"item:{number}" for number in range(300, 390)]
    last = [tag for tag in last if hash(tag) % STRIPES not in former][:40]

    @chosen.cached("items", ttl=10, grace=1000, early=0)
    async def items(context: LoadContext = LoadContext()) -> int:
        numbers = range(page[0], page[0] + 40)
        context.tags = last if page[0] == 300 else [f"item:{number}" for number in numbers]
        return page[0]

    for first in (0, 100, 200):
        page[0] = first
        assert await soon(items()) == first
        await settled(chosen)
        await clock.advance(11)
    page[0] = 300
    await soon(items.refresh())
    await settled(chosen)

    await chosen.invalidate(tags=["item:0", "item:200"])
    assert await chosen.get("items", "nothing") == 300
    await chosen.invalidate(tags=[last[0]])
    assert await chosen.get("items", "nothing") == "nothing"


@pytest.mark.parametrize("tiers", ["both", "l1"])
async def test_a_value_that_is_not_modified_keeps_its_tags(
    cache: TierCache, alone: TierCache, clock: FakeClock, tiers: str
) -> None:
    """Its loader need not name them again, however often."""
    chosen = cache if tiers == "both" else alone

    @chosen.cached("row", ttl=10, grace=1000, early=0)
    async def row(context: LoadContext = LoadContext()) -> str:
        if context.stale_value is not MISSING:
            return context.not_modified()
        context.tags = ["author:7"]
        return "old"

    for _ in range(3):
        assert await soon(row()) == "old"
        await settled(chosen)
        await clock.advance(11)
    await soon(row())
    await settled(chosen)

    await chosen.invalidate(tags=["author:7"])

    assert await chosen.get("row", "nothing", stale=True) == "nothing"


@pytest.mark.parametrize("told", [True, False], ids=["told", "not told"])
@pytest.mark.parametrize("tag", ["author:7", "unrelated"])
async def test_an_invalidation_during_the_load_gives_the_value_to_its_callers_only(
    cache: TierCache, other: TierCache, server: MemoryServer, tag: str, told: bool
) -> None:
    """Nobody knows whether the tags that the loader names at its end were concerned."""
    source = Source("old")
    source.close()
    value = naming(cache, source, "author:7")
    loading = [asyncio.ensure_future(value(1)) for _ in range(2)]
    await soon(source.loading())
    if not told:
        server.faults.hang("listen")
    await other.invalidate(tags=[tag])
    source.gate.set()

    assert await all_of(*loading) == ["old", "old"]
    await settled(cache)
    assert await cache.get_many([KEY]) == await other.get_many([KEY]) == {}
    server.faults.clear()


async def test_an_invalidation_while_named_tags_are_proven_counts(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """Between the states and the epoch, which was replaced before the state."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    source.close()
    value = naming(cache, source, "author:7")
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await settled_states(server)
    server.faults.hang("listen")
    proving = wire.hold_reply("ENSURE")
    source.gate.set()
    assert await soon(loading) == "old"
    await soon(proving.reached.wait())
    await other.invalidate(tags=["author:7"])
    wire.let_pass("ENSURE")
    await settled(cache)

    assert await other.get(KEY, None) is None
    server.faults.clear()


async def settled_states(server: MemoryServer) -> None:
    """Check that what all values rest on is there."""
    for tag in (NAMESPACE, TAG_EPOCH):
        state: Any = await server.client().get(f"test:{{{tag}}}:t")
        assert state_of(state) is not None


async def test_an_epoch_that_was_lost_is_no_proof(
    cache: TierCache, server: MemoryServer, other: TierCache
) -> None:
    """A new one tells nothing of what came before it."""
    source = Source("old")
    source.close()
    loading = asyncio.ensure_future(naming(cache, source, "author:7")(1))
    await soon(source.loading())
    server.faults.hang("listen")
    await other.invalidate(tags=["author:7"])
    await forget(server, TAG_EPOCH)
    source.gate.set()
    await soon(loading)
    await settled(cache)

    assert await other.get(KEY, None) is None
    server.faults.clear()


async def test_a_reader_after_an_invalidation_joins_no_load_that_may_name_the_tag(
    cache: TierCache,
) -> None:
    """Its loader has not said yet what it names."""
    source = Source("old")
    source.close()
    value = naming(cache, source, "author:7")
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())
    source.value = "new"
    await cache.invalidate(tags=["author:7"])

    after = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()
    await ticks()
    await cache._core.clock.advance(1)  # type: ignore[attr-defined]

    assert await all_of(before, after) == ["new", "new"]


@pytest.mark.parametrize("kind", ["both", "alone"])
@pytest.mark.parametrize("what", ["tag", "clear"])
async def test_a_reader_after_an_invalidation_joins_no_load_that_began_before(
    make_cache: MakeCache, clock: FakeClock, kind: str, what: str
) -> None:
    """Of a value under that tag, or of anything when all is cleared."""
    cache = await (make_cache() if kind == "both" else make_cache(client=None))
    source = Source("old")
    source.close()
    value = function_of(cache, source, tags=["t"])
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())
    source.value = "new"
    await clock.advance(0.01)
    await (cache.invalidate(tags=["t"]) if what == "tag" else cache.clear())

    after = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()
    await clock.advance(1)

    assert await all_of(before, after) == ["new", "new"]
    assert await value(1) == "new"


async def test_a_reader_after_an_invalidation_does_not_get_what_another_process_loads(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """It waits for that lease, and what is stored then carries the old id."""
    source = Source("old")
    source.close()
    before = asyncio.ensure_future(function_of(other, source, tags=["t"])(1))
    await soon(source.loading())
    source.value = "new"
    await cache.invalidate(tags=["t"])
    after = asyncio.ensure_future(function_of(cache, source, tags=["t"])(1))
    await ticks()
    source.gate.set()
    await ticks()
    await clock.advance(1)

    assert await all_of(before, after) == ["old", "new"]


async def test_another_tag_leaves_a_load_to_be_joined(cache: TierCache) -> None:
    """A reader waits for it, so the source is asked once."""
    source = Source("v")
    source.close()
    value = function_of(cache, source, tags=["t"])
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await cache.invalidate(tags=["unrelated"])
    after = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()

    assert await all_of(before, after) == ["v", "v"]
    assert source.loads == 1


# Redis is away.


@pytest.mark.parametrize("way", ["declared", "frame"])
async def test_a_tag_that_redis_has_not_heard_of_is_not_believed(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, way: str
) -> None:
    """Also where only the frame says that a value stands under it."""
    source = Source("old")
    await function_of(other, source, tags=["t"])(1)
    await settled(other)
    server.faults.drop("invalidate")
    report = await cache.invalidate(tags=["t"])
    assert report.l2 == "queued"
    source.value = "new"
    await clock.advance(0.2)

    if way == "declared":
        assert await soon(function_of(cache, source, tags=["t"])(1)) == "new"
    else:
        assert await cache.get(KEY, "nothing") == "nothing"
    server.faults.clear()
    await clock.advance(1)
    assert await other.get(KEY, "nothing") == "nothing"


async def test_a_read_on_its_way_when_a_tag_becomes_pending_is_not_believed(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """Its reply comes after the invalidation has returned."""
    source = Source("old")
    await function_of(other, source, tags=["t"])(1)
    await settled(other)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, source, tags=["t"])
    reading = wire.hold_reply("GET")
    early = asyncio.ensure_future(value(1))
    await soon(reading.reached.wait())
    wire.cut("INVALIDATE")
    source.value = "new"
    assert (await cache.invalidate(tags=["t"])).l2 == "queued"
    late = asyncio.ensure_future(value(1))
    await ticks()
    wire.let_pass("GET")

    assert await soon(late) == "new"
    await soon(early)
    assert await soon(value(1)) == "new"
    await clock.advance(1)


# A state is lost.


@pytest.mark.parametrize("tag", ["t", NAMESPACE])
async def test_a_lost_state_is_a_miss(
    cache: TierCache, other: TierCache, server: MemoryServer, tag: str
) -> None:
    """Nothing says any more that nothing was invalidated."""
    source = Source("old")
    await function_of(cache, source, tags=["t"])(1)
    await settled(cache)
    await forget(server, tag)
    source.value = "new"

    assert await soon(function_of(other, source, tags=["t"])(1)) == "new"
    await settled(other)
    assert await cache.get(KEY) in {"old", "new"}


@pytest.mark.parametrize("tag", ["t", NAMESPACE])
async def test_a_state_lost_before_an_invalidation_revives_nothing(
    cache: TierCache, other: TierCache, server: MemoryServer, tag: str
) -> None:
    """There is no state to be replaced then, and whatever comes next is another one."""
    source = Source("old")
    value = function_of(cache, source, tags=["t"])
    await value(1)
    await settled(cache)
    await forget(server, tag)
    await other.invalidate(tags=["t"]) if tag == "t" else await other.clear()
    await ticks()
    await function_of(other, source, tags=["t"])(2)
    await settled(other)
    source.value = "new"

    assert await soon(value(1)) == "new"


@pytest.mark.parametrize("tag", ["t", NAMESPACE])
async def test_a_state_lost_under_load_leaves_one_load_for_two_processes(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, tag: str
) -> None:
    """Many readers in both find the entry dead at once, and one of them replaces it."""
    source = Source("v1")
    here, there = (function_of(each, source, tags=["t"], l1_ttl=1) for each in (cache, other))
    await here(1)
    await settled(cache)
    await clock.advance(2)
    await forget(server, tag)
    source.close()
    calls = [asyncio.ensure_future(value(1)) for _ in range(10) for value in (here, there)]
    await soon(source.loading(2))
    await ticks()
    source.gate.set()
    await ticks()
    await clock.advance(0.2)

    assert await all_of(*calls) == ["v1"] * 20
    assert source.loads == 2


@pytest.mark.parametrize("tag", ["t", NAMESPACE])
async def test_a_state_lost_during_a_load_is_no_hit_afterwards(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, tag: str
) -> None:
    """What the load rests on is not there any more; the next reader loads once more."""
    source = Source("old")
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source, tags=["t"])(1))
    await soon(source.loading())
    await forget(server, tag)
    server.faults.hang("listen")
    await other.invalidate(tags=["t"])
    source.gate.set()
    assert await soon(loading) == "old"
    await settled(cache)
    source.value = "new"

    assert await soon(function_of(other, source, tags=["t"])(1)) == "new"
    server.faults.clear()


# A command is carried out late, or twice.


async def test_a_late_invalidation_revives_nothing(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Each time it is carried out it makes ids that were never used."""
    source = Source(1)
    value = function_of(other, source, tags=["t"], l1_ttl=0.001)
    await value(1)
    await settled(other)
    server.faults.hang("invalidate", times=1)
    late = asyncio.ensure_future(cache.invalidate(tags=["t"]))
    await soon(server.faults.reached())
    seen = [await state_now(server)]
    for number in (2, 3):
        await other.invalidate(tags=["t"])
        source.value = number
        assert await soon(value(1)) == number
        await settled(other)
        seen.append(await state_now(server))
        if number == 2:
            server.faults.clear()
            await soon(late)
            seen.append(await state_now(server))
    assert len(set(seen)) == len(seen)


async def state_now(server: MemoryServer) -> bytes:
    """Return the state of the tag ``t``."""
    state: Any = await server.client().get("test:{t}:t")
    assert state_of(state) is not None
    return bytes(state)


async def test_an_invalidation_carried_out_twice_makes_two_states(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The reply to the first was lost."""
    await function_of(cache, Source(), tags=["t"])(1)
    await settled(cache)
    before = await state_now(server)
    server.faults.lose("invalidate", times=1)
    report = await cache.invalidate(tags=["t"])
    first = await state_now(server)
    await clock.advance(1)

    assert len({before, first, await state_now(server)}) == (2 if report.l2 == "done" else 3)


# All at once.


async def test_all_is_cleared_by_one_command(make_cache: MakeCache, server: MemoryServer) -> None:
    """Whatever the number of keys; nothing is scanned and nothing deleted."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    for number in range(100):
        await cache.set(f"key:{number}", number)
    names = len(await server.client().keys("*"))
    wire.sent.clear()

    await cache.clear()

    assert wire.sent == ["INVALIDATE"]
    assert len(await server.client().keys("*")) == names
    assert await cache.get_many([f"key:{number}" for number in range(100)]) == {}


async def test_a_load_during_a_clear_is_not_kept(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """Neither here nor in L2, though this process has not heard of it."""
    source = Source("old")
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    server.faults.hang("listen")
    await other.clear()
    source.gate.set()
    assert await soon(loading) == "old"
    await settled(cache)

    assert await other.get(KEY, "nothing") == "nothing"
    server.faults.clear()
    await ticks()
    assert await cache.get(KEY, "nothing") == "nothing"


# What this process remembers is bounded.


def test_what_is_known_of_tags_is_bounded() -> None:
    """The oldest goes first."""
    ledger = _ledger.Ledger()
    state = bytes(44)
    for number in range(_ledger.MAX_KNOWN + 10):
        tag = f"tag:{number}"
        ledger.learn(ledger.basis("k", (tag,)), tag, state)

    assert len(ledger._known) == _ledger.MAX_KNOWN
    assert ledger.known("tag:0", 0) is None
    assert ledger.known(tag, 0) == state

    ledger.learn(ledger.basis("k", (tag,)), tag, state)  # once more: it takes no other's place
    assert len(ledger._known) == _ledger.MAX_KNOWN


def test_pending_tags_are_bounded() -> None:
    """Too many of them become the whole namespace."""
    ledger = _ledger.Ledger()
    tags = tuple(f"tag:{number}" for number in range(_ledger.MAX_PENDING + 1))
    ledger.hold(Invalidation(bytes(16), tags=tags))

    assert ledger.pending == 1
    assert not ledger.may_ask("any")


async def test_the_tags_that_a_family_remembers_are_bounded(alone: TierCache) -> None:
    """They are but a guess."""
    value = naming(alone, Source(), "t")
    family = value.__tiercache__.family
    for number in range(MAX_NAMED + 10):
        family.remember_tags(f"key:{number}", ("t",))

    assert len(family.named) == MAX_NAMED
