"""Readers who come while a load is under way follow its flight, without a wait of each for it."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import pytest

from async_tiercache import L1, MISSING, Event, Read, TierCache
from async_tiercache._flight import Flight
from async_tiercache._look import Look
from async_tiercache.errors import CacheClosedError, RecursiveLoadError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import MESSAGE, Wire

BOUND = 2.0
"""The staleness bound: for so long a load may be joined without a proof."""


def flight_of(cache: TierCache) -> Flight:
    """Return the flight of the one key."""
    flight = cache._core.flights.find(KEY)
    assert flight is not None
    return flight


def found_by(value: Any) -> Any:
    """Return what a call finds where it looks for its slot."""
    table, key = value.__tiercache__._table.alias(None, (1,))
    return table.slots.get(key)


async def crowd(source: Source, read: Callable[[], Awaitable[Any]]) -> list[asyncio.Future[Any]]:
    """Return one reader whose load is under way, and three who have come since."""
    source.close()
    readers: list[asyncio.Future[Any]] = [asyncio.ensure_future(read())]
    await soon(source.loading(source.loads + 1))
    readers += [asyncio.ensure_future(read()) for _ in range(3)]
    await ticks()
    return readers


@pytest.mark.parametrize("form", ["function", "call by key"])
async def test_who_comes_during_a_load_has_no_wait_of_its_own(cache: TierCache, form: str) -> None:
    """All of them take one place at the flight, and nothing is left of that."""
    source = Source()
    value = function_of(cache, source)
    by_key = partial(cache.get_or_load, KEY, source.load)
    readers = await crowd(source, partial(value, 1) if form == "function" else by_key)

    assert len(flight_of(cache)._waiters) == 2
    assert isinstance(found_by(value), Look) is (form == "function")

    source.gate.set()
    assert await all_of(*readers) == ["v1"] * 4
    await settled(cache)
    assert source.loads == 1
    assert cache.statistics().misses == 4
    assert not isinstance(found_by(value), Look)
    assert not cache._core.followers._home.by_key


async def test_those_of_a_look_and_those_who_come_later_wait_together(cache: TierCache) -> None:
    """Also where those of the look have come without arguments to be found by."""
    source = Source()
    source.close()
    value = function_of(cache, source)
    readers = [asyncio.ensure_future(value(1)) for _ in range(3)]
    await soon(source.loading())
    readers += [asyncio.ensure_future(value(1)) for _ in range(3)]
    await ticks()

    assert len(flight_of(cache)._waiters) == 2
    source.gate.set()
    assert await all_of(*readers) == ["v1"] * 6
    assert source.loads == 1


@pytest.mark.parametrize("what", ["its key", "its tag", "everything"])
async def test_who_comes_after_an_invalidation_follows_nothing_older(
    cache: TierCache, what: str
) -> None:
    """Its load began before; those who came before have it still."""
    source = Source("old")
    value = function_of(cache, source, tags=["tag"])
    readers = await crowd(source, partial(value, 1))

    source.value = "new"
    if what == "everything":
        await cache.clear()
    else:
        keys, tags = ([KEY], []) if what == "its key" else ([], ["tag"])
        await cache.invalidate(keys=keys, tags=tags)
    later = [asyncio.ensure_future(value(1)) for _ in range(3)]
    await ticks()
    source.gate.set()

    assert await all_of(*later) == ["new"] * 3
    await all_of(*readers)
    assert source.loads == 2
    assert await value(1) == "new"


async def test_another_tag_that_is_invalidated_parts_nobody(cache: TierCache) -> None:
    """Who comes then is asked about its own tags once, and the next ones are not."""
    source = Source()
    value = function_of(cache, source, tags=["tag"])
    readers = await crowd(source, partial(value, 1))

    await cache.invalidate(tags=["other"])
    readers += [asyncio.ensure_future(value(1)) for _ in range(3)]
    await ticks()

    assert len(flight_of(cache)._waiters) == 2
    assert found_by(value).epoch is cache._core.ledger.epoch
    source.gate.set()
    assert await all_of(*readers) == ["v1"] * 7
    assert source.loads == 1


async def test_a_part_that_is_invalidated_is_followed_by_nobody_through_its_whole(
    cache: TierCache,
) -> None:
    """The tags of what a loader waits for are its own only once it has that."""
    part = Source("old")
    part.close()
    of_part = function_of(cache, part, tags=["tag"])

    @cache.cached("page:{number}")
    async def page(number: int) -> str:
        return f"page of {await of_part(1)}"

    readers = [asyncio.ensure_future(page(1)) for _ in range(3)]
    await soon(part.loading())
    part.value = "new"
    await cache.invalidate(tags=["tag"])
    later = [asyncio.ensure_future(page(1)) for _ in range(3)]
    await ticks()
    part.gate.set()

    assert await all_of(*later) == ["page of new"] * 3
    await all_of(*readers)


async def test_without_a_proof_an_old_load_is_followed_by_nobody(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """An invalidation may have been missed since it began."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    value = function_of(cache, source)
    readers = await crowd(source, partial(value, 1))
    wire.hold_reply(MESSAGE)
    source.value = "new"
    await other.invalidate(keys=[KEY])
    await clock.advance(BOUND)

    later = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()

    assert await soon(later) == "new"
    await all_of(*readers)


async def test_what_is_offered_meanwhile_is_waited_for_by_nobody(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Something stale will do for whoever comes later than who began to load."""
    await function_of(other, Source("old"), ttl=10, grace=1000)(1)
    await settled(other)
    await clock.advance(11)
    source = Source("new")
    source.close()
    value = function_of(cache, source, ttl=10, grace=1000)
    first = [asyncio.ensure_future(value(1)) for _ in range(3)]
    await soon(source.loading())

    assert await soon(value(1)) == "old"

    source.gate.set()
    assert await all_of(*first) == ["new"] * 3


async def test_followers_have_an_error_each(cache: TierCache) -> None:
    """One may write into its own."""
    source = Source()
    source.error = ValueError("no")
    value = function_of(cache, source)
    readers = await crowd(source, partial(value, 1))
    source.gate.set()

    errors = await soon(asyncio.gather(*readers, return_exceptions=True))

    assert list(map(repr, errors)) == [repr(source.error)] * 4
    assert len(set(map(id, errors))) == 4
    assert source.loads == 1
    assert not isinstance(found_by(value), Look)


async def test_followers_share_no_object_that_is_copied(cache: TierCache) -> None:
    """Each decodes the value for itself."""
    source = Source()

    @cache.cached("list", isolation="copy")
    async def copied() -> list[int]:
        await source.load()
        return [1]

    source.close()
    readers = [asyncio.ensure_future(copied())]
    await soon(source.loading())
    readers += [asyncio.ensure_future(copied()) for _ in range(3)]
    await ticks()
    source.gate.set()

    values = await all_of(*readers)

    assert values == [[1]] * 4
    assert len(set(map(id, values))) == 4


@pytest.mark.parametrize("gone", [[0], [1], [1, 2, 3], [0, 1, 2]], ids=str)
async def test_a_follower_that_is_cancelled_touches_nobody(
    cache: TierCache, gone: list[int]
) -> None:
    """Nor does who has begun to load; and where all followers have gone, others may follow."""
    source = Source()
    value = function_of(cache, source)
    readers = await crowd(source, partial(value, 1))

    for number in gone:
        readers[number].cancel()
    await ticks()
    readers += [asyncio.ensure_future(value(1)) for _ in range(2)]
    await ticks()
    source.gate.set()

    values = await soon(asyncio.gather(*readers, return_exceptions=True))
    assert values.count("v1") == 6 - len(gone)
    assert source.loads == 1
    await settled(cache)
    assert not cache._core.followers._home.by_key


@pytest.mark.parametrize("on_abandon", ["cancel", "finish"])
async def test_the_last_follower_takes_the_load_with_it(cache: TierCache, on_abandon: Any) -> None:
    """Unless it is to be finished; who comes then follows it or loads anew."""
    source = Source()
    value = function_of(cache, source, on_abandon=on_abandon)
    readers = await crowd(source, partial(value, 1))

    for reader in readers:
        reader.cancel()
        await ticks()
    assert source.ended == (on_abandon == "cancel")
    assert not isinstance(found_by(value), Look)

    later = [asyncio.ensure_future(value(1)) for _ in range(2)]
    source.gate.set()
    assert await all_of(*later) == ["v1"] * 2
    assert source.loads == 1 + (on_abandon == "cancel")


async def test_what_a_batch_finds_absent_is_loaded_by_who_follows_it(cache: TierCache) -> None:
    """For the loader of one it may be an error, or a value."""
    source = Source()
    value = function_of(cache, source)
    begun, gate = asyncio.Event(), asyncio.Event()

    @value.batch  # type: ignore[attr-defined, untyped-decorator]
    async def many(keys: list[int]) -> dict[int, Any]:
        begun.set()
        await gate.wait()
        return {}

    batch = asyncio.ensure_future(many([1]))
    await soon(begun.wait())
    readers = [asyncio.ensure_future(value(1)) for _ in range(3)]
    await ticks()
    gate.set()

    assert await soon(batch) == {}
    assert await all_of(*readers) == ["v1"] * 3
    assert source.loads == 1


async def test_a_load_follows_nothing_that_waits_for_it(cache: TierCache) -> None:
    """It would wait for itself, and says so instead, while others follow."""
    begun, gate = asyncio.Event(), asyncio.Event()

    @cache.cached("value:{key}")
    async def value(key: int) -> int:
        begun.set()
        await gate.wait()
        return await value(key)

    readers = [asyncio.ensure_future(value(1))]
    await soon(begun.wait())
    readers += [asyncio.ensure_future(value(1)) for _ in range(2)]
    await ticks()
    gate.set()

    errors = await soon(asyncio.gather(*readers, return_exceptions=True))
    assert list(map(type, errors)) == [RecursiveLoadError] * 3


async def test_a_closed_cache_has_no_followers(cache: TierCache) -> None:
    """Whoever finds those of a load that goes on is told."""
    source = Source()
    value = function_of(cache, source)
    readers = await crowd(source, partial(value, 1))
    closing = asyncio.ensure_future(cache.aclose())
    await asyncio.sleep(0)

    with pytest.raises(CacheClosedError):
        await soon(value(1))

    await soon(closing)
    await soon(asyncio.gather(*readers, return_exceptions=True))


async def test_an_observer_is_told_of_each_follower(make_cache: MakeCache) -> None:
    """In the context of its own call."""
    told: list[tuple[str, bool]] = []

    def observe(event: Event) -> None:
        if isinstance(event, Read):
            task = asyncio.current_task()
            told.append((event.tier, event.joined))
            assert task is None or task not in readers[1:]

    cache = await make_cache(observers=[observe])
    source = Source()
    value = function_of(cache, source)
    readers: list[asyncio.Future[Any]] = []
    readers += await crowd(source, partial(value, 1))
    source.gate.set()
    await all_of(*readers)

    assert sorted(told) == [("loader", False), *[("loader", True)] * 3]


async def test_a_copy_whose_time_is_over_is_loaded_once(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Those who find it do not each wait for the flight that the first of them begins."""
    cache = await make_cache(l1=L1())
    source = Source()
    value = function_of(cache, source, ttl=10, grace=0)
    assert await value(1) == "v1"
    await settled(cache)
    await clock.advance(11)
    assert value.peek(1) is MISSING

    readers = await crowd(source, partial(value, 1))

    assert len(flight_of(cache)._waiters) == 2
    source.gate.set()
    assert await all_of(*readers) == ["v1"] * 4
    assert source.loads == 2
