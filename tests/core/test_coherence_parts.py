"""Values made from other values are no fresher, and no more alive, than their parts (P5)."""

import asyncio
from typing import Any

from async_tiercache import MISSING, LoadContext, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import MESSAGE, Wire

LONG: dict[str, Any] = {"ttl": 1000, "l1_ttl": 900, "jitter": 0}


def page_of(cache: TierCache, part: Any, **options: Any) -> Any:
    """Return a cached function whose value is made from that of another."""

    @cache.cached("page:{key}", **(LONG | options))
    async def page(key: int) -> str:
        return f"page of {await part(key)}"

    return page


async def test_a_part_that_the_bus_has_not_told_of_is_asked_from_l2(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """What L1 has may be older than the page's own evidence, and would be stored under that."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    part = function_of(cache, source, **LONG)
    page = page_of(cache, part)
    for _ in range(3):
        await part(1)
        await settled(cache)
    wire.hold_reply(MESSAGE)
    source.value = "new"
    await other.invalidate(keys=[KEY])
    assert part.peek(1) == "old"

    assert await soon(page(1)) == "page of new"
    wire.let_pass(MESSAGE)


async def test_a_part_of_another_cache_is_asked_from_l2_too(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Its hits must tell that they are read inside of a load of this one."""
    wire = Wire(server)
    rows = await make_cache(client=wire.client, namespace="rows")
    other = await make_cache(namespace="rows")
    pages = await make_cache(namespace="pages")
    source = Source("old")
    part = function_of(rows, source, **LONG)
    page = page_of(pages, part)
    for _ in range(3):
        await part(1)
        await settled(rows)
    wire.hold_reply(MESSAGE)
    source.value = "new"
    await other.invalidate(keys=[KEY])
    assert part.peek(1) == "old"

    assert await soon(page(1)) == "page of new"
    wire.let_pass(MESSAGE)


async def test_a_page_is_fresh_no_longer_than_its_part(cache: TierCache, clock: FakeClock) -> None:
    """Though its own ttl is longer."""
    source = Source("old")
    part = function_of(cache, source, ttl=10, jitter=0)
    page = page_of(cache, part)
    await part(1)
    await settled(cache)
    await clock.advance(6)
    assert await soon(page(1)) == "page of old"
    await settled(cache)
    source.value = "new"

    await clock.advance(5)

    assert await soon(page(1)) == "page of new"


async def test_a_page_is_fresh_no_longer_than_its_part_of_another_cache(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """Whether that came from the other's L1 or not."""
    rows, pages = await make_cache(namespace="rows"), await make_cache(namespace="pages")
    source = Source("old")
    part = function_of(rows, source, ttl=10, jitter=0)
    page = page_of(pages, part)
    for _ in range(3):
        await part(1)
        await settled(rows)
    await clock.advance(6)
    assert await soon(page(1)) == "page of old"
    await settled(pages)
    source.value = "new"

    await clock.advance(5)

    assert await soon(page(1)) == "page of new"


async def test_a_page_ends_with_a_tag_of_its_part(cache: TierCache, other: TierCache) -> None:
    """The page names none itself; in both tiers of both processes."""
    source = Source("old")
    mine = page_of(cache, function_of(cache, source, tags=["t"], **LONG))
    theirs = page_of(other, function_of(other, source, tags=["t"], **LONG))
    await mine(1)
    await settled(cache)
    await theirs(1)
    await settled(other)
    source.value = "new"

    await cache.invalidate(tags=["t"])
    await ticks()

    assert (mine.peek(1), theirs.peek(1)) == (MISSING, MISSING)
    assert await soon(theirs(1)) == "page of new"
    assert await soon(mine(1)) == "page of new"


async def test_a_page_whose_part_is_overtaken_while_it_loads_is_joined_by_nobody(
    cache: TierCache,
) -> None:
    """The tags of the part are not the page's own yet."""
    source = Source("old")
    source.close()
    page = page_of(cache, function_of(cache, source, tags=["t"], **LONG))
    early = asyncio.create_task(page(1))
    await source.loading()
    source.value = "new"
    await cache.invalidate(tags=["t"])

    late = asyncio.create_task(page(1))
    await ticks()
    source.gate.set()

    assert await all_of(early, late) == ["page of new", "page of new"]
    assert await soon(page(1)) == "page of new"


async def test_a_tag_invalidated_between_the_part_and_the_end_of_the_page_ends_it(
    cache: TierCache, other: TierCache
) -> None:
    """The page carries the ids that its part had."""
    source, gate = Source("old"), asyncio.Event()
    part = function_of(cache, source, tags=["t"], **LONG)
    reached = asyncio.Event()

    @cache.cached("page:{key}", **LONG)
    async def page(key: int) -> str:
        value = await part(key)
        reached.set()
        await gate.wait()
        return f"page of {value}"

    before = asyncio.ensure_future(page(1))
    await soon(reached.wait())
    source.value = "new"
    await other.invalidate(tags=["t"])
    gate.set()
    assert await soon(before) == "page of old"
    await settled(cache)

    assert page.peek(1) is MISSING
    assert await soon(other.get("page:1", "nothing")) == "nothing"
    assert await soon(page(1)) == "page of new"


async def test_a_page_is_not_joined_while_its_part_is_proven(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """The part has named a tag that the page does not rest on yet."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")

    @cache.cached("part:{key}")
    async def part(key: int, context: LoadContext = LoadContext()) -> Any:
        context.tags = ["t"]
        return await source.load()

    page = page_of(cache, part)
    proving = wire.hold("ENSURE")
    early = asyncio.ensure_future(page(1))
    await soon(proving.reached.wait())
    source.value = "new"
    await cache.invalidate(tags=["t"])

    late = asyncio.ensure_future(page(1))
    await ticks()
    wire.let_pass("ENSURE")

    assert (await all_of(early, late))[1] == "page of new"
