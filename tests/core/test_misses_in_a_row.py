"""Where L2 has held nothing for some reads in a row, the next one asks for a lease at once."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from async_tiercache import BoundCached, Loaded, TierCache
from async_tiercache._family import MANY_MISSES
from async_tiercache.errors import LoadCancelledError
from async_tiercache.testing import (
    Fate,
    Journey,
    MemoryServer,
    Recorder,
    SimulatedClock,
    Simulator,
    settled,
)
from tests.conftest import MakeCache
from tests.core.source import (
    KEY,
    Source,
    all_of,
    cached_names,
    function_of,
    method_of,
    soon,
    ticks,
)
from tests.core.wire import Wire

FIRST = 100
NAME = b"test:{value:1}"


async def missing(cache: TierCache, value: BoundCached[[int], Any]) -> None:
    """Read what is nowhere, until more of that is expected."""
    for number in range(FIRST, FIRST + MANY_MISSES):
        await value(number)
    await settled(cache)


async def test_an_expected_miss_asks_and_takes_its_lease_in_one_turn(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Its caller waits for one turn before the loader runs."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source()
    value = function_of(cache, source)
    await missing(cache, value)
    wire.sent.clear()
    source.close()

    loading = asyncio.ensure_future(value(1))
    await soon(source.loading(MANY_MISSES + 1))
    assert wire.sent == ["GET", "SET"]
    source.gate.set()

    assert await soon(loading) == "v1"
    await settled(cache)
    assert wire.sent == ["GET", "SET", "COMMIT"]


@pytest.mark.parametrize("of", [function_of, method_of], ids=["a function", "a method"])
async def test_what_is_there_unexpectedly_is_served(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, of: Any
) -> None:
    """In the same turn, nothing is loaded, and the next read expects nothing any more."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source()
    value = of(cache, source)
    await missing(cache, value)
    await other.set(KEY, "v2")
    await other.set("value:2", "v3")
    stored = await server.client().get(NAME)
    wire.sent.clear()

    assert await value(1) == "v2"
    assert wire.sent == ["GET", "SET"]
    assert await server.client().get(NAME) == stored
    assert await value(2) == "v3"
    assert wire.sent == ["GET", "SET", "GET"]
    assert source.loads == MANY_MISSES


async def test_a_load_elsewhere_is_waited_for_where_a_miss_was_expected(
    make_cache: MakeCache, cache: TierCache, other: TierCache
) -> None:
    """A lease that stands there is not taken."""
    source = Source()
    value, elsewhere = function_of(cache, source), function_of(other, source)
    await missing(cache, value)
    source.close()
    leading = asyncio.ensure_future(elsewhere(1))
    await soon(source.loading(MANY_MISSES + 1))
    waiting = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()

    assert await all_of(leading, waiting) == ["v1", "v1"]
    assert source.loads == MANY_MISSES + 1


async def test_who_goes_before_the_lease_of_an_expected_miss_is_there_gives_it_back(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """The command was on the wire already."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = method_of(cache, Source())
    await missing(cache, value)
    before = await cached_names(server)
    taking = wire.hold("SET")
    reading = asyncio.ensure_future(value(1))
    await soon(taking.reached.wait())

    reading.cancel()
    await ticks()
    wire.let_pass("SET")
    await soon(settled(cache))

    assert await cached_names(server) == before


async def test_a_redis_that_is_full_still_has_what_was_not_expected(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, events: Recorder
) -> None:
    """It refuses leases, and goes on to be read; what it has not is kept in L1 alone."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client, observers=[events])
    value = function_of(cache, Source())
    await missing(cache, value)
    full = OutOfMemoryError("command not allowed when used memory > 'maxmemory'.")
    wire.refuse("SET", full)

    assert await value(2) == "v1"
    await settled(cache)
    assert events.of(Loaded)[-1].stored == "l1"

    await other.set(KEY, "v2")
    wire.refuse("SET", full)
    assert await value(1) == "v2"
    assert "L2 up" in repr(cache)


async def test_another_type_gives_way_where_a_miss_was_expected(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """A plain lease is refused there, so it is asked for once more, by a script."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source())
    await missing(cache, value)
    await server.client().rpush(NAME, "x")
    wire.sent.clear()

    assert await value(1) == "v1"
    await settled(cache)
    assert wire.sent == ["GET", "SET", "SET", "REPLACE", "COMMIT"]


async def test_a_close_ends_the_wait_for_the_lease_of_an_expected_miss(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """The lease comes later, and is given back before the cache is closed."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source())
    await missing(cache, value)
    before = await cached_names(server)
    taking = wire.hold_reply("SET")
    reading = asyncio.ensure_future(value(1))
    await soon(taking.reached.wait())

    closing = asyncio.ensure_future(cache.aclose())
    await ticks()
    assert not closing.done()
    wire.let_pass("SET")
    await soon(closing)

    with pytest.raises(LoadCancelledError):
        await soon(reading)
    assert await cached_names(server) == before


async def test_what_is_stored_between_the_question_and_the_lease_is_served() -> None:
    """What holds the key instead of our lease is asked for."""
    clock = SimulatedClock()
    simulator = Simulator(clock)
    here, there = simulator.client(), simulator.client()
    source = Source()
    async with (
        TierCache(namespace="test", client=here, clock=here.clock) as cache,
        TierCache(namespace="test", client=there, clock=there.clock) as other,
    ):
        value = function_of(cache, source)
        await missing(cache, value)
        simulator.rule = _late_leases
        reading = asyncio.ensure_future(value(1))
        await ticks()
        simulator.rule = _undecided
        await other.set(KEY, "v2")
        await clock.advance(0.2)

        assert await soon(reading) == "v2"
        assert source.loads == MANY_MISSES


async def test_a_lease_on_what_has_ended_since_the_question_is_given_back() -> None:
    """The answer is served, and the next one does not wait for a load that nobody runs."""
    clock = SimulatedClock()
    simulator = Simulator(clock)
    here, there = simulator.client(), simulator.client()
    source = Source()
    async with (
        TierCache(namespace="test", client=here, clock=here.clock, l1=None) as cache,
        TierCache(namespace="test", client=there, clock=there.clock) as other,
    ):
        value = function_of(cache, source)
        await missing(cache, value)
        await other.set(KEY, "v2")
        simulator.rule = _late_leases
        reading = asyncio.ensure_future(value(1))
        await ticks()
        simulator.rule = _undecided
        del simulator.server.held["key", KEY]
        await clock.advance(0.2)

        assert await soon(reading) == "v2"
        await settled(cache)
        assert ("key", KEY) not in simulator.server.held


async def test_a_question_that_finds_its_own_lease_has_found_nothing() -> None:
    """It is repeated where a connection breaks after both were carried out."""
    clock = SimulatedClock()
    simulator = Simulator(clock)
    client = simulator.client()
    source = Source()
    async with TierCache(namespace="test", client=client, clock=client.clock) as cache:
        value = function_of(cache, source)
        await missing(cache, value)
        asked: list[str] = []

        def late_questions(journey: Journey) -> Fate | None:
            asked.append(journey.operation)
            return Fate(request=0.1) if journey.operation == "get_many" else None

        simulator.rule = late_questions
        reading = asyncio.ensure_future(value(1))
        await clock.advance(0.2)

        assert await soon(reading) == "v1"
        await settled(cache)
        assert asked == ["get_many", "take", "commit"]


def _late_leases(journey: Journey) -> Fate | None:
    return Fate(request=0.1) if journey.operation == "take" else None


def _undecided(_journey: Journey) -> Fate | None:
    return None
