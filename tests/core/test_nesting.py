"""A value that is made from other cached values lives no better than they do (P5)."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from async_tiercache import LoadContext, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.pages import Read, page_of, tagged_of
from tests.core.rows import Rows
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import Wire


@pytest.fixture
def held(server: MemoryServer) -> Iterator[None]:
    """Clear at the end what a test holds of the bus."""
    yield
    server.faults.clear()


def hold_bus(server: MemoryServer) -> None:
    """Let no message arrive any more."""
    server.faults.hang("listen")


def parts_of(cache: TierCache, source: Source) -> dict[str, Read]:
    """Return all ways in which a loader may read ``value:1``."""
    value = function_of(cache, source)

    async def missing(_keys: list[str]) -> dict[str, Any]:
        return {KEY: await source.load()}

    async def many() -> Any:
        return (await cache.get_many([KEY])).get(KEY)

    async def load_many() -> Any:
        return (await cache.get_or_load_many([KEY], missing))[KEY]

    async def peek() -> Any:
        return value.peek(1) or await value(1)

    return {
        "call": lambda: value(1),
        "get": lambda: cache.get(KEY, None),
        "get_many": many,
        "get_or_load": lambda: cache.get_or_load(KEY, source.load),
        "get_or_load_many": load_many,
        "peek": peek,
    }


WAYS = ["call", "get", "get_many", "get_or_load", "get_or_load_many", "peek"]


# What is older than an invalidation that came before the load.


@pytest.mark.parametrize("way", WAYS)
async def test_a_copy_that_is_behind_the_bus_gets_into_no_other_value(
    cache: TierCache, other: TierCache, server: MemoryServer, held: None, way: str
) -> None:
    """The load begins after the invalidation was confirmed, so nobody would remove its value."""
    source = Source("old")
    read = parts_of(cache, source)[way]
    await function_of(cache, source)(1)
    await settled(cache)
    hold_bus(server)
    source.value = "new"
    await other.invalidate(keys=[KEY])

    assert await soon(page_of(cache, read)()) in {"new", None}


async def test_a_part_is_judged_by_what_l2_says_of_its_tags(
    cache: TierCache, other: TierCache, server: MemoryServer, held: None
) -> None:
    """What this process remembers of a tag may be from before the load began."""
    source = Source("old")

    async def load(context: LoadContext = LoadContext()) -> Any:
        context.tags = ["t"]
        return await source.load()

    async def read() -> Any:
        return await cache.get_or_load("part", load)

    await other.get_or_load("part", load)
    await settled(other)
    assert await read() == "old"
    hold_bus(server)
    source.value = "new"
    await other.invalidate(tags=["t"])

    assert await soon(page_of(cache, read)()) == "new"


async def test_a_batch_does_not_get_a_copy_that_is_behind_the_bus(
    cache: TierCache, other: TierCache, server: MemoryServer, held: None
) -> None:
    """Each of its ids may rest on what its loader reads."""
    source, rows = Source("old"), Rows()
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    hold_bus(server)
    source.value = "new"
    await other.invalidate(keys=[KEY])

    async def many(keys: list[str]) -> dict[str, Any]:
        return dict.fromkeys(keys, await value(1))

    assert await soon(cache.get_or_load_many(["a", "b"], many)) == {"a": "new", "b": "new"}
    assert not rows.calls


async def test_a_copy_of_another_cache_that_is_behind_the_bus_gets_into_no_other_value(
    cache: TierCache, other: TierCache, server: MemoryServer, make_cache: MakeCache, held: None
) -> None:
    """Its own cache has no load that runs, and yet it is read inside of one."""
    pages = await make_cache(namespace="pages")
    source = Source("old")
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    await value(1)
    hold_bus(server)
    source.value = "new"
    await other.invalidate(keys=[KEY])

    assert await soon(page_of(pages, lambda: value(1))()) == "new"


async def test_a_get_from_another_cache_that_is_behind_the_bus_gets_into_no_other_value(
    cache: TierCache, other: TierCache, server: MemoryServer, make_cache: MakeCache, held: None
) -> None:
    """A call by key takes the same short way as a decorated function."""
    pages = await make_cache(namespace="pages")
    await function_of(cache, Source("old"))(1)
    await settled(cache)
    hold_bus(server)
    await other.invalidate(keys=[KEY])

    assert await soon(page_of(pages, lambda: cache.get(KEY, "nothing"))()) == "nothing"


async def test_a_load_that_began_before_gives_no_value_to_a_later_one(
    cache: TierCache, other: TierCache, server: MemoryServer, held: None
) -> None:
    """It may have read what was invalidated between the two."""
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())
    hold_bus(server)
    await other.invalidate(keys=[KEY])
    source.value = "new"

    page = asyncio.ensure_future(page_of(cache, lambda: value(1))())
    await ticks()
    source.gate.set()

    assert await all_of(before, page) == ["old", "new"]


async def test_a_load_that_began_before_a_later_part_of_a_batch_gives_it_no_value(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, held: None
) -> None:
    """Refreshes behind callers gather for a while, and the last of them counts."""
    source = Source("old")
    source.close()
    value = function_of(cache, source)

    @cache.cached("row:{row_id}", ttl=100, grace=100, soft_timeout=0)
    async def row(row_id: int) -> Any:
        return "first"

    @row.batch
    async def many(row_ids: list[int]) -> dict[int, Any]:
        return dict.fromkeys(row_ids, await value(1))

    assert await row(1) == await row(2) == "first"
    await settled(cache)
    await clock.advance(150)
    assert await soon(row(1)) == "first"
    await ticks()
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())
    hold_bus(server)
    await other.invalidate(keys=[KEY])
    source.value = "new"
    assert await soon(row(2)) == "first"
    await ticks()
    await clock.advance(0.02)
    source.gate.set()
    assert await soon(before) == "old"
    await settled(cache)

    assert await soon(other.get("row:2")) == "new"


@pytest.mark.parametrize("way", WAYS[:-1])
async def test_a_copy_that_is_offered_during_its_refresh_gets_into_no_other_value(
    cache: TierCache,
    other: TierCache,
    server: MemoryServer,
    clock: FakeClock,
    held: None,
    way: str,
) -> None:
    """The refresh began after the load, and its callers have the old value at once."""
    source = Source("old")
    read = parts_of(cache, source)[way]
    value = function_of(cache, source, ttl=100)
    await value(1)
    await settled(cache)
    hold_bus(server)
    await other.invalidate(keys=[KEY])
    source.value = "new"
    gate, began = asyncio.Event(), asyncio.Event()

    async def load() -> Any:
        began.set()
        await gate.wait()
        return await read()

    page = asyncio.ensure_future(page_of(cache, load)())
    await soon(began.wait())
    slot = cache._core.tiers.probe(KEY)
    assert slot is not None
    slot.soft_deadline = clock.monotonic()
    source.close()
    assert await soon(value(1)) == "old"
    gate.set()
    await ticks()
    source.gate.set()

    assert await soon(page) in {"new", None}


# A hit beside a load, and a read inside of one.


async def test_a_hit_beside_a_load_takes_no_turn(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Only what is read inside of a load goes to L2."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source()
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    source.close()
    loading = asyncio.ensure_future(value(2))
    await soon(source.loading(2))
    wire.sent.clear()

    assert (await value(1), await cache.get(KEY)) == ("v1", "v1")
    assert wire.sent == []
    source.gate.set()
    await soon(loading)


async def test_a_read_inside_of_a_load_asks_l2(make_cache: MakeCache, server: MemoryServer) -> None:
    """In one turn, though the same read outside would take none."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source()
    value = function_of(cache, source)
    await value(1)
    await settled(cache)

    async def read() -> Any:
        wire.sent.clear()
        seen = await value(1)
        return [seen, *wire.sent]

    assert await soon(page_of(cache, read)()) == ["v1", "GET"]
    assert source.loads == 1


async def test_a_load_that_was_given_up_leaves_hits_as_they_were(cache: TierCache) -> None:
    """A cancelled loader is at its end as well."""
    source = Source()
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    source.close()
    loading = asyncio.ensure_future(value(2))
    await soon(source.loading(2))
    loading.cancel()
    await asyncio.wait([loading])
    await settled(cache)

    asked = cache.statistics().l2_hits
    assert await value(1) == "v1"
    assert cache.statistics().l2_hits == asked


# Tags of the parts.


@pytest.mark.parametrize("way", ["call", "get", "get_many"])
@pytest.mark.parametrize("stored", [False, True], ids=["loaded", "stored"])
async def test_a_value_carries_the_tags_of_its_parts(
    cache: TierCache, other: TierCache, way: str, stored: bool
) -> None:
    """Invalidating one of them elsewhere removes it here and there."""
    source = Source("old")
    value = function_of(cache, source, tags=["part"])
    read: Read = {
        "call": lambda: value(1),
        "get": lambda: cache.get(KEY, None),
        "get_many": lambda: cache.get_many([KEY]),
    }[way]
    if stored or way != "call":
        await value(1)
        await settled(cache)
    page = page_of(cache, read)
    await soon(page())
    await settled(cache)
    assert await other.get("page")

    await other.invalidate(tags=["part"])
    await ticks()

    assert await other.get("page", "nothing") == "nothing"
    assert await cache.get("page", "nothing") == "nothing"


@pytest.mark.parametrize("kind", ["both", "alone"])
async def test_a_value_carries_the_tags_that_a_part_has_named(
    make_cache: MakeCache, kind: str
) -> None:
    """The part's own loader has named them, in the same load."""
    cache = await (make_cache() if kind == "both" else make_cache(client=None))
    source = Source("old")
    value = tagged_of(cache, source, "author:7")
    page = page_of(cache, lambda: value(1))
    assert await soon(page()) == "old"
    await settled(cache)
    assert await cache.get("page") == "old"

    source.value = "new"
    await cache.invalidate(tags=["author:7"])

    assert await soon(page()) == "new"


async def test_a_value_whose_part_has_named_tags_is_stored(
    cache: TierCache, other: TierCache
) -> None:
    """With what L2 has said of them."""
    value = tagged_of(cache, Source("v"), "author:7")
    await soon(page_of(cache, lambda: value(1))())
    await settled(cache)

    assert await other.get("page", "nothing") == "v"


async def test_a_value_carries_the_tags_that_another_call_s_part_has_named(
    cache: TierCache, other: TierCache
) -> None:
    """Several readers, inside of loads and outside, share the part."""
    source = Source("old")
    source.close()
    value = tagged_of(cache, source, "author:7")

    async def read() -> Any:
        return await value(1)

    page = asyncio.ensure_future(page_of(cache, read)())
    await soon(source.loading())
    joining = asyncio.ensure_future(cache.get_or_load("page 2", read))
    await ticks()
    source.gate.set()
    assert await all_of(page, joining) == ["old", "old"]
    await settled(cache)
    await other.invalidate(tags=["author:7"])

    assert await other.get_many(["page", "page 2"]) == {}


async def test_a_part_whose_named_tag_was_invalidated_meanwhile_is_loaded_again(
    cache: TierCache, other: TierCache
) -> None:
    """What is made from it is as new as the invalidation, and so it is kept."""
    source = Source("old")
    source.close()
    value = tagged_of(cache, source, "author:7")
    page = asyncio.ensure_future(page_of(cache, lambda: value(1))())
    await soon(source.loading())
    source.value = "new"
    await other.invalidate(tags=["author:7"])
    source.gate.set()
    assert await soon(page) == "new"
    await settled(cache)

    assert source.loads == 2
    assert await other.get_many(["page", KEY]) == {"page": "new", KEY: "new"}


async def test_a_part_that_was_invalidated_during_the_load_is_kept_in_no_other_value(
    cache: TierCache, other: TierCache, server: MemoryServer, held: None
) -> None:
    """By a tag, though this process has not heard of it: L2 compares the ids."""
    source = Source("old")
    value = function_of(cache, source, tags=["part"])
    gate = asyncio.Event()
    read = asyncio.Event()

    async def load() -> Any:
        seen = await value(1)
        read.set()
        await gate.wait()
        return seen

    page = asyncio.ensure_future(cache.get_or_load("page", load))
    await soon(read.wait())
    hold_bus(server)
    await other.invalidate(tags=["part"])
    gate.set()
    assert await soon(page) == "old"
    await settled(cache)

    assert await other.get("page", "nothing") == "nothing"


async def test_two_parts_from_before_and_after_an_invalidation_are_kept_together_nowhere(
    cache: TierCache, other: TierCache, server: MemoryServer, held: None
) -> None:
    """They carry two ids of one tag."""
    source = Source("old")
    value = function_of(cache, source, tags=["part"])

    async def load() -> Any:
        first = await value(1)
        source.value = "new"
        await other.invalidate(tags=["part"])
        return [first, await value(2)]

    hold_bus(server)
    assert await soon(cache.get_or_load("pair", load)) == ["old", "new"]
    await settled(cache)

    assert await other.get("pair", "nothing") == "nothing"
    assert await cache.get("pair", "nothing") == "nothing"


async def test_an_invalidation_of_another_tag_does_not_keep_a_value_of_several_parts_away(
    cache: TierCache, other: TierCache
) -> None:
    """Each part has proved for itself what its loader named."""
    source = Source("v")
    value = tagged_of(cache, source, "author:7")

    async def load() -> Any:
        first = await value(1)
        await other.invalidate(tags=["unrelated"])
        return [first, await value(2)]

    assert await soon(cache.get_or_load("pair", load)) == ["v", "v"]
    await settled(cache)

    assert await other.get("pair", None) == ["v", "v"]


# How long it is fresh.


@pytest.mark.parametrize("stored", [False, True], ids=["loaded", "stored"])
async def test_a_value_is_fresh_no_longer_than_its_parts(
    cache: TierCache, clock: FakeClock, stored: bool
) -> None:
    """Whatever its own ttl."""
    source = Source(1)
    value = function_of(cache, source, ttl=10, grace=0)
    if stored:
        await value(1)
        await settled(cache)
        await clock.advance(4)
    page = page_of(cache, lambda: value(1), ttl=1000, grace=0)
    await soon(page())
    await settled(cache)
    source.value = 2
    await clock.advance(5)
    assert await soon(page()) == 1
    await clock.advance(5)

    assert await soon(page()) == 2


@pytest.mark.parametrize("way", ["L1 over both", "both over L1"])
async def test_a_value_is_as_long_fresh_as_a_part_in_another_cache(
    cache: TierCache, make_cache: MakeCache, clock: FakeClock, way: str
) -> None:
    """Also one that L1 has; each goes by a clock of its own."""
    parts = await make_cache(namespace="parts", client=None)
    outer, inner = (cache, parts) if way == "both over L1" else (parts, cache)
    source = Source(1)
    value = function_of(inner, source, ttl=10, jitter=0, grace=0)
    await value(1)
    await settled(inner)
    page = page_of(outer, lambda: value(1), ttl=1000, grace=0)
    assert await soon(page()) == 1
    await settled(outer)
    source.value = 2
    await value.refresh(1)
    await settled(inner)
    await clock.advance(9)
    assert await soon(page()) == 1
    await clock.advance(2)

    assert await soon(page()) == 2


async def test_a_value_is_fresh_no_longer_than_a_part_that_is_too_large_to_keep(
    alone: TierCache, clock: FakeClock
) -> None:
    """That it is not kept does not make it true for longer."""
    source = Source("1" * 100)
    value = function_of(alone, source, ttl=10, grace=0, max_value_bytes=10)
    page = page_of(alone, lambda: value(1), ttl=1000, grace=0)
    await page()
    source.value = "2" * 100
    await clock.advance(11)

    assert await soon(page()) == "2" * 100


async def test_a_value_with_a_part_that_its_loader_skips_is_not_kept(cache: TierCache) -> None:
    """That part goes to those who wait for it, and nowhere else."""
    source = Source(1)

    @cache.cached("part")
    async def part(context: LoadContext = LoadContext()) -> Any:
        context.skip()
        return await source.load()

    page = page_of(cache, part)
    assert await soon(page()) == 1
    await settled(cache)
    source.value = 2

    assert await soon(page()) == 2


async def test_a_value_with_a_stale_part_is_not_kept(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """The part is served because its loader fails."""
    # A new connection asks for the time, which is that of the test.
    cache = await make_cache(client=MemoryServer(clock).client())
    source = Source("old")
    value = function_of(cache, source, ttl=10, grace=1000)
    await value(1)
    await settled(cache)
    await clock.advance(11)
    source.error = OSError("down")
    page = page_of(cache, lambda: value(1))
    assert await soon(page()) == "old"
    await settled(cache)
    source.error, source.value = None, "new"
    await clock.advance(2)
    await value(1)
    await settled(cache)

    assert await soon(page()) == "new"


async def test_a_value_with_a_part_that_may_be_stale_is_not_kept(
    cache: TierCache, clock: FakeClock
) -> None:
    """The loader has asked for it with ``stale=True``."""
    source = Source("old")
    await function_of(cache, source, ttl=10, grace=1000)(1)
    await settled(cache)
    await clock.advance(11)

    assert await soon(page_of(cache, lambda: cache.get(KEY, stale=True))()) == "old"
    await settled(cache)

    assert await cache.get("page", "nothing") == "nothing"
