"""Nothing older follows a value that this process has shown or written (G2, G4)."""

import asyncio

import pytest
from redis.exceptions import OutOfMemoryError

from async_tiercache import TierCache
from async_tiercache._basis import STRIPES
from async_tiercache._guard import Guard
from async_tiercache.errors import TierError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.rows import Rows, functions_of, named
from tests.core.source import KEY, Source, all_of, function_of, method_of, soon, ticks
from tests.core.wire import Wire


def neighbour(key: str) -> str:
    """Return another key whose generation is the same."""
    numbers = iter(range(1_000_000))
    while True:
        other = f"neighbour:{next(numbers)}"
        if hash(other) % STRIPES == hash(key) % STRIPES:
            return other


async def test_a_write_is_not_followed_by_what_a_reader_kept_meanwhile(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """Also if an invalidation of a key with the same generation came between."""
    source = Source("old")
    await function_of(other, source)(1)
    await settled(other)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, source)
    seizing = wire.hold("SEIZE")
    writing = asyncio.ensure_future(value.put("new", 1))
    await soon(seizing.reached.wait())
    assert await soon(value(1)) == "old"

    committing = wire.hold("COMMIT")
    wire.let_pass("SEIZE")
    await soon(committing.reached.wait())
    await soon(cache.invalidate(keys=[neighbour(KEY)]))
    wire.let_pass("COMMIT")
    await soon(writing)

    assert await soon(value(1)) == "new"


async def test_a_refresh_that_a_full_redis_refuses_is_not_followed_by_the_old_value(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """What L2 holds is removed before it is asked again."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    value = function_of(cache, source, l1_ttl=5)
    await value(1)
    await settled(cache)
    await clock.advance(1)
    source.value = "new"
    wire.refuse("SET", OutOfMemoryError("used memory > 'maxmemory'"))

    assert await soon(value.refresh(1)) == "new"
    await clock.advance(6)

    assert await soon(value(1)) == "new"


async def test_an_overtaken_refresh_is_not_followed_by_an_older_copy(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """The value was shown though it is kept nowhere; the copy in L1 is older."""
    source = Source(1)
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    await clock.advance(1)
    source.value = 2
    source.close()
    refreshing = asyncio.ensure_future(value.refresh(1))
    await soon(source.loading(2))
    await other.invalidate(keys=[KEY])
    source.gate.set()

    assert await soon(refreshing) == 2
    await settled(cache)

    assert await soon(value(1)) == 2


async def test_a_reader_does_not_join_a_load_whose_lease_is_lost(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """An invalidation elsewhere is noticed at the next renewal, before the load has ended."""
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())
    source.value = "new"
    await other.invalidate(keys=[KEY])
    await clock.advance(0.4)

    after = asyncio.ensure_future(value(1))
    await soon(source.loading(2))
    source.gate.set()

    assert await all_of(before, after) == ["new", "new"]


async def test_a_reader_does_not_wait_behind_every_writer(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Blocks that follow each other on one key hold up a reader for a few of them only."""
    value = function_of(cache, Source("v"))
    reading: asyncio.Future[object] | None = None
    blocks = 0
    while reading is None or not reading.done():
        async with other.writing(KEY) as writing:
            reading = reading or asyncio.ensure_future(value(1))
            await ticks()
            await clock.advance(0.6)
            writing.set(blocks)
            await other.invalidate(keys=[KEY])
        blocks += 1
        assert blocks < 20

    assert await soon(reading) == "v"


async def test_a_load_around_l2_is_kept_for_the_bound_from_its_begin(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Nobody tells of an invalidation meanwhile, so it is kept for no longer than that."""
    server.connected = False
    source = Source("old")
    source.close()
    value = method_of(cache, source, l1_ttl=5)
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await clock.advance(1)
    source.gate.set()
    assert await soon(loading) == "old"

    assert value.peek(1) == "old"
    await clock.advance(1)

    assert not value.peek(1)
    server.connected = True


async def test_a_value_that_died_during_its_refresh_is_served_to_nobody(
    alone: TierCache, clock: FakeClock
) -> None:
    """Neither to who joins the load, nor when it fails: `grace` is over."""
    source = Source("old")
    value = function_of(alone, source, ttl=10, grace=10)
    await value(1)
    await settled(alone)
    await clock.advance(15)
    source.close()
    source.error = OSError("down")
    refreshing = asyncio.ensure_future(value(1))
    await soon(source.loading(2))
    assert await soon(value(1)) == "old"

    await clock.advance(10)
    joining = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()
    outcomes = await soon(asyncio.gather(refreshing, joining, return_exceptions=True))

    assert [type(outcome) for outcome in outcomes] == [OSError, OSError]


async def test_an_answer_to_an_old_question_does_not_close_the_breaker(clock: FakeClock) -> None:
    """It tells nothing of a server that failed since; only the probe does."""
    probed: list[bool] = []
    told: list[bool] = []
    release = asyncio.Event()

    async def probe() -> None:
        probed.append(True)

    async def slow() -> None:
        await release.wait()

    async def failing() -> None:
        raise TierError("down", tier="l2")

    guard = Guard(probe, clock, lambda event: told.append(event.up), refused=print)
    old = asyncio.ensure_future(guard.call(slow))
    await ticks()
    await asyncio.gather(guard.call(failing), return_exceptions=True)
    release.set()
    await soon(old)

    assert not guard.up
    await clock.advance(1)
    await soon(guard.call(slow))
    assert (guard.up, probed, told) == (True, [True], [False, True])


@pytest.mark.parametrize("with_l2", [True, False])
async def test_a_refresh_is_not_followed_by_what_an_earlier_load_brings(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, with_l2: bool
) -> None:
    """The load that began first may end last; its reader gets what began later."""
    cache = await make_cache() if with_l2 else await make_cache(client=None)
    server.connected = False
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    slow, source.gate = source.gate, asyncio.Event()
    source.gate.set()
    source.value = "new"
    await clock.advance(0.01)

    assert await soon(value.refresh(1)) == "new"
    slow.set()
    assert await soon(loading) == "new"

    assert await soon(value(1)) == "new"
    server.connected = True
    await clock.advance(1)


async def test_a_value_that_was_shown_is_not_followed_by_its_absence(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Though it is kept nowhere, what L1 remembers of a batch is older."""
    rows = Rows()
    rows.absent = {1}
    row, many = functions_of(cache, rows, negative_ttl=60, l1_ttl=60)
    assert await soon(many([1])) == {}
    await settled(cache)
    await clock.advance(1)
    rows.absent.clear()
    rows.gate.clear()
    reading = asyncio.ensure_future(row(1))
    await ticks()
    await other.invalidate(keys=["row:1"])
    rows.gate.set()
    assert await soon(reading) == "row 1"
    await settled(cache)

    assert await soon(many([1])) == named(1)


async def test_a_value_that_was_shown_is_not_followed_by_an_absence_still_being_stored(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """A call for one does not wait for what a batch found absent, so it may come first."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    rows = Rows()
    rows.absent = {1}
    row, many = functions_of(cache, rows, negative_ttl=60, l1_ttl=60)
    storing = wire.hold_reply("COMMIT")
    assert await soon(many([1])) == {}
    await soon(storing.reached.wait())
    rows.absent.clear()
    wire.cut("GET")

    assert await soon(row(1)) == "row 1"
    wire.let_pass("COMMIT")
    await ticks()

    assert await soon(many([1])) == named(1)
    await clock.advance(1)


async def test_a_refresh_is_not_followed_by_the_copy_that_it_replaces(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Its caller has the new value before that is stored."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    await clock.advance(1)
    source.value = "new"
    storing = wire.hold("COMMIT")

    assert await soon(value.refresh(1)) == "new"
    await soon(storing.reached.wait())

    assert await soon(value(1)) == "new"
    wire.let_pass("COMMIT")


async def test_a_copy_is_not_replaced_by_what_an_earlier_load_has_brought(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Two calls for one key that declare different tags load side by side."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    storing = wire.hold_reply("COMMIT")
    assert await soon(cache.get_or_load(KEY, Source("old").load)) == "old"
    await soon(storing.reached.wait())
    wire.let_later_pass("COMMIT")
    await clock.advance(0.01)
    tagged = function_of(cache, Source("new"), tags=["t"])
    assert await soon(tagged(1)) == "new"
    await ticks()

    storing.open.set()
    await settled(cache)

    assert await soon(cache.get(KEY)) == "new"
