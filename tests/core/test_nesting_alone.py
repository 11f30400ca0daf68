"""Nested reads in L1 alone, over two caches, in transactions and beside blocks (P5)."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from tests.conftest import MakeCache
from tests.core.pages import Read, page_of, tagged_of
from tests.core.rows import Rows, functions_of, methods_of
from tests.core.source import KEY, Source, function_of, soon, ticks

# L1 alone.


async def test_in_l1_alone_a_part_is_served_from_memory(alone: TierCache) -> None:
    """Nothing is newer than what this process holds."""
    source = Source("old")
    value = function_of(alone, source, tags=["part"])
    await value(1)
    page = page_of(alone, lambda: value(1))
    assert await page() == "old"
    assert source.loads == 1

    source.value = "new"
    await alone.invalidate(tags=["part"])

    assert await page() == "new"


async def test_in_l1_alone_a_part_that_is_loaded_anew_does_not_spoil_the_value(
    alone: TierCache, clock: FakeClock
) -> None:
    """The old copy was there, and was not served."""
    source = Source("old")
    value = function_of(alone, source, ttl=10, grace=1000)
    await value(1)
    await settled(alone)
    await clock.advance(11)
    source.value = "new"
    page = page_of(alone, lambda: value(1), ttl=1000)

    assert await soon(page()) == "new"
    await settled(alone)
    assert await alone.get("page", "nothing") == "new"


async def test_in_l1_alone_a_value_carries_the_named_tags_of_a_part_that_is_due(
    alone: TierCache, clock: FakeClock
) -> None:
    """It is served early while it is loaded anew."""
    source = Source("old")
    value = tagged_of(alone, source, "author:7", ttl=10, grace=1000, early=1)
    clock.draw = 0.0
    await value(1)
    await settled(alone)
    slot = alone._core.tiers.probe(KEY)
    assert slot is not None
    slot.soft_deadline = clock.monotonic()
    source.close()
    page = page_of(alone, lambda: value(1))
    assert await soon(page()) == "old"
    await ticks()

    await alone.invalidate(tags=["author:7"])
    source.gate.set()
    await settled(alone)

    assert await alone.get("page", "nothing") == "nothing"


async def test_in_l1_alone_an_invalidation_during_the_load_keeps_the_value_away(
    alone: TierCache,
) -> None:
    """The part's generations count for it."""
    source = Source("old")
    value = function_of(alone, source, tags=["part"])
    gate, read = asyncio.Event(), asyncio.Event()

    async def load() -> Any:
        seen = await value(1)
        read.set()
        await gate.wait()
        return seen

    page = asyncio.ensure_future(alone.get_or_load("page", load))
    await soon(read.wait())
    await alone.invalidate(tags=["part"])
    gate.set()

    assert await soon(page) == "old"
    assert await alone.get("page", "nothing") == "nothing"


async def test_a_tag_of_a_part_in_another_cache_does_not_count(
    cache: TierCache, make_cache: MakeCache
) -> None:
    """It means nothing here."""
    parts = await make_cache(namespace="parts")
    value = function_of(parts, Source("v"), tags=["part"])
    await soon(page_of(cache, lambda: value(1))())
    await settled(cache)

    await cache.invalidate(tags=["part"])

    assert await cache.get("page") == "v"


# Parts that are not kept.


@pytest.mark.parametrize("tiers", ["both", "l1"])
@pytest.mark.parametrize("way", ["None", "absent"])
async def test_a_value_with_a_part_that_there_is_not_is_kept_as_little_as_that(
    cache: TierCache, alone: TierCache, tiers: str, way: str
) -> None:
    """What is asked for each time must not stay unseen for the time of what is made from it."""
    chosen, rows = cache if tiers == "both" else alone, Rows()
    value = function_of(chosen, Source(None), negative_ttl=0)
    rows.absent = {1}
    _, many = functions_of(chosen, rows)
    read: Read = (lambda: value(1)) if way == "None" else (lambda: many([1]))
    await soon(page_of(chosen, read)())
    await settled(chosen)

    assert await chosen.get("page", "nothing") == "nothing"


# Transactions and blocks.


@pytest.mark.parametrize("way", ["method", "batch", "refresh", "get_or_load", "get_or_load_many"])
async def test_a_value_with_a_part_that_is_not_committed_is_kept_nowhere(
    cache: TierCache, other: TierCache, way: str
) -> None:
    """The part is not either; the transaction may be rolled back."""
    source, rows = Source("uncommitted"), Rows()
    rows.rows[1] = "uncommitted"
    row, many = methods_of(cache, rows)

    async def load_many(_keys: list[str]) -> dict[str, Any]:
        return {"part": await source.load()}

    reads: dict[str, Read] = {
        "method": lambda: row(1),
        "batch": lambda: many([1]),
        "refresh": lambda: row.refresh(1),
        "get_or_load": lambda: cache.get_or_load("part", source.load),
        "get_or_load_many": lambda: cache.get_or_load_many(["part"], load_many),
    }
    async with cache.after_commit():
        assert "uncommitted" in str(await soon(page_of(cache, reads[way])()))
    await settled(cache)

    assert await cache.get("page", "nothing") == await other.get("page", "nothing") == "nothing"


@pytest.mark.parametrize("what", ["key", "tag"])
async def test_a_value_with_a_part_that_is_blocked_is_kept_nowhere(
    cache: TierCache, other: TierCache, what: str
) -> None:
    """Its writer may have committed, or not."""
    source = Source("old")
    value = function_of(cache, source, tags=["t"])
    blocked: dict[str, Any] = {"keys": [KEY]} if what == "key" else {"tags": ["t"]}
    async with other.invalidating(**blocked):
        assert await soon(page_of(cache, lambda: value(1))()) == "old"
        await settled(cache)
        assert await cache.get_many(["page", KEY]) == {}
    await ticks()

    assert await cache.get_many(["page", KEY]) == await other.get_many(["page", KEY]) == {}


async def test_a_value_with_a_part_of_a_cache_that_is_off_is_kept(
    cache: TierCache, make_cache: MakeCache
) -> None:
    """It is like any other value that a loader reads."""
    off = await make_cache(namespace="off", enabled=False)
    value = function_of(off, Source("v"))
    assert await soon(page_of(cache, lambda: value(1))()) == "v"
    await settled(cache)

    assert await cache.get("page", "nothing") == "v"
