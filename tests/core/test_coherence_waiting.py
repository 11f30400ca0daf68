"""Waiting for a load of another process: woken by a message, not by asking again and again (P6)."""

import asyncio

import pytest
from redis.exceptions import OutOfMemoryError

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import Wire

LEASE = 1.0
BUDGET = 5
"""Commands that a waiter may send for a load of one second."""


@pytest.fixture
def server(clock: FakeClock) -> MemoryServer:
    """Return an L2 whose leases end by the clock of the test."""
    return MemoryServer(clock)


async def passes(clock: FakeClock, seconds: float) -> None:
    """Let time pass in steps in which leases are renewed."""
    for _ in range(round(seconds / 0.1)):
        await clock.advance(0.1)


async def test_a_waiter_is_woken_by_the_commit(cache: TierCache, other: TierCache) -> None:
    """Without any time passing."""
    source = Source()
    source.close()
    leading = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    waiting = asyncio.ensure_future(function_of(cache, source)(1))
    await ticks()

    source.gate.set()

    assert await all_of(leading, waiting) == ["v1", "v1"]
    assert source.loads == 1


@pytest.mark.parametrize(
    ("waiters", "seconds", "budget"),
    [(1, 0.9, BUDGET), (50, 0.9, BUDGET), (1, 10, 2 + 2 * 2 * 10)],
    ids=["one", "many of a process", "a long load"],
)
async def test_waiters_send_few_commands(
    make_cache: MakeCache,
    server: MemoryServer,
    other: TierCache,
    clock: FakeClock,
    waiters: int,
    seconds: float,
    budget: int,
) -> None:
    """Those of a process share a flight, and it does not ask how the load goes.

    Of a long one it asks twice per lease: its holder may die without a word.
    """
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source()
    source.close()
    leading = asyncio.ensure_future(function_of(other, source, ttl=1000)(1))
    await soon(source.loading())
    wire.sent.clear()
    value = function_of(cache, source)
    waiting = [asyncio.ensure_future(value(1)) for _ in range(waiters)]
    await passes(clock, seconds)
    source.gate.set()

    assert await all_of(leading, *waiting) == ["v1"] * (1 + waiters)
    assert len(wire.sent) <= budget


async def test_a_load_that_fails_wakes_its_waiters(cache: TierCache, other: TierCache) -> None:
    """The lease is released, and the next one loads."""
    failing, working = Source(), Source("v2")
    failing.error = LookupError("gone")
    failing.close()
    leading = asyncio.ensure_future(function_of(other, failing)(1))
    await soon(failing.loading())
    waiting = asyncio.ensure_future(function_of(cache, working)(1))
    await ticks()

    failing.gate.set()
    outcomes = await soon(asyncio.gather(leading, waiting, return_exceptions=True))

    assert isinstance(outcomes[0], LookupError)
    assert outcomes[1] == "v2"


async def test_a_load_that_was_overtaken_wakes_its_waiters(
    cache: TierCache, other: TierCache
) -> None:
    """It stores nothing, so whoever waits for it must not wait for the lease's end."""
    source, newer = Source("old"), Source("new")
    source.close()
    leading = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    waiting = asyncio.ensure_future(function_of(cache, newer)(1))
    await ticks()

    await other.invalidate(keys=[KEY])
    source.gate.set()

    assert await all_of(leading, waiting) == ["old", "new"]


async def test_a_dead_holder_costs_a_lease(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Nobody renews it, and nobody says so. It was taken a moment ago."""
    await server.client().set("test:{value:1}", b"L" + b"x" * 16, px=999)
    waiting = asyncio.ensure_future(function_of(cache, Source())(1))
    await passes(clock, LEASE - 0.1)
    assert not waiting.done()

    await passes(clock, 0.2)

    assert waiting.done()
    assert await waiting == "v1"
    await settled(cache)


async def test_without_a_bus_a_waiter_asks_less_and_less_often(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """Twice a second in the end, and no delay is longer."""
    wire = Wire(server)
    server.faults.drop("listen")
    cache = await make_cache(client=wire.client)
    source = Source()
    source.close()
    leading = asyncio.ensure_future(function_of(other, source, ttl=1000)(1))
    await soon(source.loading())
    wire.sent.clear()
    waiting = asyncio.ensure_future(function_of(cache, source)(1))
    await passes(clock, 5)
    assert len(wire.sent) <= 2 + 5 + 2 * 5
    source.gate.set()
    await ticks()
    await passes(clock, 0.5)

    assert await all_of(leading, waiting) == ["v1", "v1"]
    server.faults.clear()


async def test_a_waiter_whose_wake_is_refused_asks_less_and_less_often(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """A full server takes no note of who waits, and still answers reads."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source()
    source.close()
    leading = asyncio.ensure_future(function_of(other, source, ttl=1000)(1))
    await soon(source.loading())
    wire.sent.clear()
    for _ in range(100):
        wire.refuse("WAIT", OutOfMemoryError("OOM"))
    waiting = asyncio.ensure_future(function_of(cache, source)(1))
    await passes(clock, 5)
    assert len(wire.sent) <= 2 + 5 + 2 * 5
    source.gate.set()
    await ticks()
    await passes(clock, 0.5)

    assert await all_of(leading, waiting) == ["v1", "v1"]


async def test_a_bus_that_dies_under_a_waiter_costs_a_lease(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The message is lost with it."""
    source = Source()
    source.close()
    leading = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    waiting = asyncio.ensure_future(function_of(cache, source)(1))
    await ticks()
    server.faults.drop("listen")
    source.gate.set()
    await soon(leading)

    await passes(clock, LEASE)

    assert await soon(waiting) == "v1"
    assert source.loads == 1
    server.faults.clear()


async def test_a_waiter_that_goes_leaves_nothing_behind(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Neither a task nor a place in a list."""
    source = Source()
    source.close()
    leading = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    waiting = asyncio.ensure_future(function_of(cache, source)(1))
    await ticks()

    waiting.cancel()
    await ticks()

    assert cache._core.bus._waiting == {}
    source.gate.set()
    await soon(leading)
    await clock.advance(3)
    await settled(cache)
