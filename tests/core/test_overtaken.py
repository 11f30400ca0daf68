"""A load that an invalidation overtakes may still have read what is newest (G4).

What is loaded in its place began later, but may have read the source earlier. So of the two one
alone is shown.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

import pytest

from async_tiercache import MISSING, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, all_of, soon, ticks
from tests.core.wire import MESSAGE, Wire

Read: TypeAlias = Callable[[], Awaitable[Any]]


class Loads:
    """Loads that end when a test says so, with what it says that they have read."""

    def __init__(self) -> None:
        self._running: list[asyncio.Future[str]] = []

    async def load(self) -> str:
        """Return what the test says."""
        self._running.append(asyncio.get_running_loop().create_future())
        return await self._running[-1]

    def end(self, number: int, value: str) -> None:
        """Let a load end."""
        self._running[number].set_result(value)

    def fail(self, number: int) -> None:
        """Let a load end with an error."""
        self._running[number].set_exception(LookupError())

    async def begun(self, count: int) -> None:
        """Return when so many loads have begun; there are no more of them."""
        await ticks()
        for _ in range(20):
            # A turn that is held makes the next one wait for another connection.
            await ticks(0 if len(self._running) == count else 40)
        assert len(self._running) == count


def _function(cache: TierCache, loads: Loads) -> Read:
    @cache.cached("value:{key}")
    async def value(key: int) -> str:
        return await loads.load()

    return lambda: value(1)


def _method(cache: TierCache, loads: Loads) -> Read:
    class Repository:
        @cache.cached("value:{key}")
        async def value(self, key: int) -> str:
            return await loads.load()

    return lambda: Repository().value(1)


def _batch(cache: TierCache, loads: Loads) -> Read:
    @cache.cached("value:{key}")
    async def value(key: int) -> str:
        return await loads.load()

    @value.batch
    async def values(keys: list[int]) -> dict[int, str]:
        return {1: await loads.load()}

    async def read() -> str:
        return (await values([1]))[1]

    return read


READS: Final = [
    pytest.param(_function, id="function"),
    pytest.param(_method, id="method"),
    pytest.param(_batch, id="batch"),
]


@pytest.mark.parametrize("reading", READS)
async def test_its_reader_gets_what_is_loaded_in_its_place(
    cache: TierCache, reading: Callable[[TierCache, Loads], Read]
) -> None:
    """Which ends after it."""
    loads = Loads()
    read = reading(cache, loads)
    early = asyncio.ensure_future(read())
    await loads.begun(1)
    await cache.invalidate(keys=[KEY])
    late = asyncio.ensure_future(read())
    await loads.begun(2)

    loads.end(0, "newest")
    await ticks()
    assert not early.done()
    loads.end(1, "new")

    assert await all_of(early, late) == ["new", "new"]
    assert await soon(read()) == "new"


@pytest.mark.parametrize("reading", READS)
async def test_its_reader_gets_what_was_loaded_in_its_place(
    cache: TierCache, clock: FakeClock, reading: Callable[[TierCache, Loads], Read]
) -> None:
    """Which has ended before it, and is in L1."""
    loads = Loads()
    read = reading(cache, loads)
    early = asyncio.ensure_future(read())
    await loads.begun(1)
    await cache.invalidate(keys=[KEY])
    await clock.advance(0.01)
    late = asyncio.ensure_future(read())
    await loads.begun(2)
    loads.end(1, "new")
    assert await soon(late) == "new"
    await ticks()

    loads.end(0, "newest")

    assert await soon(early) == "new"
    assert await soon(read()) == "new"


@pytest.mark.parametrize("reading", READS)
async def test_its_reader_does_not_wait_where_nothing_takes_its_place(
    cache: TierCache, reading: Callable[[TierCache, Loads], Read]
) -> None:
    """And what comes later is loaded later."""
    loads = Loads()
    read = reading(cache, loads)
    early = asyncio.ensure_future(read())
    await loads.begun(1)
    await cache.invalidate(keys=[KEY])

    loads.end(0, "new")

    assert await soon(early) == "new"
    late = asyncio.ensure_future(read())
    await loads.begun(2)
    loads.end(1, "newest")
    assert await soon(late) == "newest"


@pytest.mark.parametrize("reading", READS)
async def test_its_reader_waits_for_one_other_load_at_most(
    cache: TierCache, clock: FakeClock, reading: Callable[[TierCache, Loads], Read]
) -> None:
    """However often the key is invalidated; then what is loaded meanwhile is not kept."""
    loads = Loads()
    read = reading(cache, loads)
    readers = [asyncio.ensure_future(read())]
    await loads.begun(1)
    for count in (2, 3):
        await cache.invalidate(keys=[KEY])
        readers.append(asyncio.ensure_future(read()))
        await loads.begun(count)
        await clock.advance(0.01)
        loads.end(count - 2, "newest" if count == 3 else "new")
        await ticks()

    assert readers[0].done()
    assert readers[0].result() == "newest"
    last = asyncio.ensure_future(read())
    await ticks()
    loads.end(2, "new")
    await loads.begun(4)
    loads.end(3, "newest")
    assert await soon(last) == "newest"
    assert await soon(read()) == "newest"
    await all_of(*readers)


async def test_a_get_gets_what_is_loaded_in_its_place(cache: TierCache) -> None:
    """It joins the loads of others."""
    loads = Loads()
    read = _function(cache, loads)
    early = asyncio.ensure_future(read())
    await loads.begun(1)
    getting = asyncio.ensure_future(cache.get(KEY))
    await ticks()
    await cache.invalidate(keys=[KEY])
    late = asyncio.ensure_future(read())
    await loads.begun(2)

    loads.end(0, "newest")
    await ticks()
    loads.end(1, "new")

    assert await all_of(early, late, getting) == ["new", "new", "new"]
    assert await soon(cache.get(KEY, MISSING)) == "new"


async def test_a_refresh_shows_its_own_value_and_nothing_older_follows(
    cache: TierCache, clock: FakeClock
) -> None:
    """It was asked for this load, so it waits for no other one."""
    loads = Loads()

    @cache.cached("value:{key}")
    async def value(key: int) -> str:
        return await loads.load()

    refreshing = asyncio.ensure_future(value.refresh(1))
    await loads.begun(1)
    await cache.invalidate(keys=[KEY])
    reading = asyncio.ensure_future(value(1))
    await loads.begun(2)
    await clock.advance(0.01)

    loads.end(0, "newest")
    assert await soon(refreshing) == "newest"

    after = asyncio.ensure_future(value(1))
    await ticks()
    loads.end(1, "new")
    await loads.begun(3)
    loads.end(2, "newest")
    assert await all_of(reading, after) == ["newest", "newest"]
    assert await soon(value(1)) == "newest"


async def test_what_another_process_has_loaded_before_is_older_though_this_one_is_behind(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """The server's time took a while to come, so this process takes it to be earlier than it is."""
    wire = Wire(server)
    time = wire.hold_reply("TIME")
    opening = asyncio.ensure_future(make_cache(client=wire.client))
    await soon(time.reached.wait())
    await clock.advance(0.2)
    wire.let_pass("TIME")
    cache = await soon(opening)
    loads = Loads()
    read = _function(cache, loads)
    early = asyncio.ensure_future(read())
    await loads.begun(1)
    await other.invalidate(keys=[KEY])
    await clock.advance(0.01)
    theirs = Loads()
    reading = asyncio.ensure_future(_function(other, theirs)())
    await theirs.begun(1)
    theirs.end(0, "new")
    assert await soon(reading) == "new"
    await clock.advance(0.1)

    loads.end(0, "newest")
    assert await soon(early) == "newest"

    late = asyncio.ensure_future(read())
    await loads.begun(2)
    loads.end(1, "newest")
    assert await soon(late) == "newest"


async def test_a_copy_that_is_not_newer_for_certain_is_dropped(cache: TierCache) -> None:
    """By the clock both loads have begun at the same time."""
    loads = Loads()
    read = _function(cache, loads)
    early = asyncio.ensure_future(read())
    await loads.begun(1)
    await cache.invalidate(keys=[KEY])
    late = asyncio.ensure_future(read())
    await loads.begun(2)
    loads.end(1, "new")
    assert await soon(late) == "new"
    await ticks()

    loads.end(0, "newest")
    assert await soon(early) == "newest"

    assert cache._core.tiers.probe(KEY) is None
    await ticks()


async def _overtaken_elsewhere(
    cache: TierCache, other: TierCache, loads: Loads, clock: FakeClock
) -> asyncio.Future[Any]:
    """Return a read whose load goes on while L2 gets an older value from another process."""
    reading = asyncio.ensure_future(_function(cache, loads)())
    await loads.begun(1)
    await other.invalidate(keys=[KEY])
    theirs = Loads()
    loading = asyncio.ensure_future(_function(other, theirs)())
    await theirs.begun(1)
    theirs.end(0, "new")
    assert await soon(loading) == "new"
    await settled(other)
    await clock.advance(0.1)
    return reading


async def test_nothing_older_follows_before_l2_has_refused_it(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """The next reader may come before the answer to the commit."""
    wire, loads = Wire(server), Loads()
    cache = await make_cache(client=wire.client)
    early = await _overtaken_elsewhere(cache, other, loads, clock)
    commit = wire.hold("COMMIT")
    loads.end(0, "newest")
    assert await soon(early) == "newest"

    late = asyncio.ensure_future(_function(cache, loads)())
    await loads.begun(2)
    loads.end(1, "newest")
    assert await soon(late) == "newest"
    commit.open.set()


async def test_nothing_older_follows_when_it_is_overtaken_on_its_way_into_l2(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """Its callers have the value when the message comes."""
    wire, loads = Wire(server), Loads()
    cache = await make_cache(client=wire.client)
    message = wire.hold_reply(MESSAGE)
    early = await _overtaken_elsewhere(cache, other, loads, clock)
    commit = wire.hold("COMMIT")
    loads.end(0, "newest")
    assert await soon(early) == "newest"
    message.open.set()
    await ticks()

    late = asyncio.ensure_future(_function(cache, loads)())
    await loads.begun(2)
    loads.end(1, "newest")
    assert await soon(late) == "newest"
    commit.open.set()
    wire.let_pass(MESSAGE)


async def test_nothing_older_follows_when_a_refresh_takes_its_place_on_its_way_into_l2(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """And then fails."""
    wire, loads = Wire(server), Loads()
    cache = await make_cache(client=wire.client)
    message = wire.hold_reply(MESSAGE)
    early = await _overtaken_elsewhere(cache, other, loads, clock)
    commit = wire.hold("COMMIT")
    loads.end(0, "newest")
    assert await soon(early) == "newest"

    @cache.cached("value:{key}")
    async def value(key: int) -> str:
        return await loads.load()

    refreshing = asyncio.ensure_future(value.refresh(1))
    await loads.begun(2)
    loads.fail(1)
    with pytest.raises(LookupError):
        await soon(refreshing)

    late = asyncio.ensure_future(value(1))
    await loads.begun(3)
    loads.end(2, "newest")
    assert await soon(late) == "newest"
    commit.open.set()
    message.open.set()
    wire.let_pass(MESSAGE)


async def test_nothing_older_follows_a_load_that_has_lost_its_lease(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """That tells of an invalidation before its message does."""
    wire, loads = Wire(server), Loads()
    cache = await make_cache(client=wire.client)
    message = wire.hold_reply(MESSAGE)
    early = await _overtaken_elsewhere(cache, other, loads, clock)
    await clock.advance(0.4)
    await ticks()
    commit = wire.hold("COMMIT")
    loads.end(0, "newest")
    assert await soon(early) == "newest"

    late = asyncio.ensure_future(_function(cache, loads)())
    await loads.begun(2)
    loads.end(1, "newest")
    assert await soon(late) == "newest"
    commit.open.set()
    message.open.set()
    wire.let_pass(MESSAGE)
