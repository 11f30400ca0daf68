"""The bus proves what L1 serves: cut, half-open, restarted, and as it should be (G3, P1)."""

import asyncio

import pytest

from async_tiercache import MISSING, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon, ticks
from tests.core.wire import MESSAGE, Wire

BOUND = 2.0
LONG = {"ttl": 1000, "l1_ttl": 900}


async def test_a_bus_that_is_cut_lets_l1_serve_until_the_bound(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Whatever `l1_ttl` says; L2 is asked after it, and still has the value."""
    source = Source("v")
    value = function_of(cache, source, **LONG)
    await value(1)
    await settled(cache)
    server.faults.drop("listen")
    await clock.advance(BOUND - 0.6)
    assert value.peek(1) == "v"

    await clock.advance(0.7)

    assert value.peek(1) is MISSING
    assert await soon(value(1)) == "v"
    assert (source.loads, cache.statistics().l2_hits) == (1, 1)


async def test_a_bus_that_hangs_proves_nothing_either(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """TCP says that all is well (half-open), and no ping is answered."""
    source = Source("old")
    value = function_of(cache, source, **LONG)
    await value(1)
    await settled(cache)
    server.faults.hang("listen")
    source.value = "new"
    await other.invalidate(keys=[KEY])

    await clock.advance(BOUND)

    assert await soon(value(1)) == "new"
    server.faults.clear()
    await clock.advance(1)
    assert await soon(value(1)) == "new"


async def test_a_bus_that_is_away_keeps_every_way_to_read_within_the_bound(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """By key, many at once, and by arguments on the compiled path."""
    value = function_of(cache, Source("old"), **LONG)
    for _ in range(2):
        await value(1)
        await settled(cache)
    server.faults.drop("listen")
    await other.invalidate(keys=[KEY])
    await clock.advance(BOUND)

    assert await soon(cache.get(KEY, "nothing")) == "nothing"
    assert await soon(cache.get_many([KEY], stale=True)) == {}
    assert value.peek(1) is MISSING


async def test_a_cut_that_missed_nothing_keeps_l1(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The last message on the server is the one that was applied last."""
    value = function_of(cache, Source("v"), **LONG)
    await value(1)
    await settled(cache)
    await other.invalidate(keys=["another"])
    await ticks()
    before = cache.statistics().bus_gaps
    server.hang_up()
    await clock.advance(1)

    assert value.peek(1) == "v"
    assert cache.statistics().bus_gaps == before


async def test_a_cut_that_missed_a_message_empties_l1(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Before the bus proves anything again."""
    source = Source("old")
    value = function_of(cache, source, **LONG)
    await value(1)
    await settled(cache)
    server.faults.drop("listen")
    await clock.advance(0.5)
    source.value = "new"
    await other.invalidate(keys=[KEY])
    server.faults.clear()
    await clock.advance(1)

    assert value.peek(1) is MISSING
    assert await soon(value(1)) == "new"


async def test_a_message_after_a_cut_does_not_hide_one_that_was_lost_in_it(
    make_cache: MakeCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It is heard before the server says which was the last one, and is that one itself."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source("old"), **LONG)
    await value(1)
    await settled(cache)
    server.faults.drop("listen")
    await clock.advance(0.5)
    await other.invalidate(keys=[KEY])
    asking = wire.hold("SET")
    server.faults.clear()
    await clock.advance(1)
    await soon(asking.reached.wait())
    await other.invalidate(keys=["another"])
    await ticks()
    assert "another" in cache._core.tiers.heard

    wire.let_pass("SET")
    await ticks()

    assert value.peek(1) is MISSING


async def test_a_lost_id_of_the_last_message_empties_l1(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It was evicted: nothing tells that nothing was missed."""
    value = function_of(cache, Source("v"), **LONG)
    await cache.invalidate(keys=["another"])
    await value(1)
    await settled(cache)
    await server.client().delete("test:{*}:last")

    server.hang_up()
    await clock.advance(1)

    assert value.peek(1) is MISSING


async def test_a_load_that_was_under_way_at_a_gap_is_not_kept(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It began before, and what ended it may have been missed."""
    source = Source("old")
    source.close()
    value = function_of(cache, source, **LONG)
    reading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    server.faults.drop("listen")
    await clock.advance(0.1)
    await other.invalidate(keys=["another"])
    server.faults.clear()
    await clock.advance(1)

    source.gate.set()
    await soon(reading)
    await settled(cache)

    assert value.peek(1) is MISSING


async def test_messages_in_disorder_and_twice_are_as_good(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """Each says only that something is no longer true."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source("v"), **LONG)
    message = wire.hold_reply(MESSAGE)
    for key in (KEY, "another", KEY):
        await other.invalidate(keys=[key])
    await soon(message.reached.wait())
    await value(1)
    await settled(cache)

    wire.let_pass(MESSAGE)
    await ticks()

    assert value.peek(1) is MISSING


async def test_a_garbled_message_empties_l1(cache: TierCache, server: MemoryServer) -> None:
    """Nobody knows what it would have said; another release may have sent it."""
    value = function_of(cache, Source("v"), **LONG)
    await value(1)
    await settled(cache)

    await server.client().publish("test:bus", b"garbage of more than sixteen bytes")
    await ticks()

    assert value.peek(1) is MISSING


async def test_without_a_proof_a_load_is_kept_for_the_bound_only(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """A bus that may not be listened to leaves a short-lived L1."""
    server.faults.refuse("listen", error="NOPERM no channel")
    cache = await make_cache()
    source = Source("old")
    value = function_of(cache, source, **LONG)
    await value(1)
    await settled(cache)
    assert value.peek(1) == "old"

    await clock.advance(BOUND)

    assert value.peek(1) is MISSING
    server.faults.clear()


@pytest.mark.parametrize("stale", [False, True])
async def test_l2_down_serves_nobody_what_is_older_than_the_bound(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, stale: bool
) -> None:
    """Not even as a value that is refreshed behind its reader."""
    server.connected = False
    source = Source("old")
    value = function_of(cache, source, **LONG, grace=1000)
    await value(1)
    await clock.advance(BOUND + 0.1)
    source.value = "new"

    assert await soon(cache.get(KEY, "nothing", stale=stale)) == "nothing"
    assert await soon(value(1)) == "new"
    server.connected = True
    await clock.advance(1)
    assert await other.get(KEY, "nothing") == "nothing"


# The server is another one.


async def test_a_server_that_lost_an_invalidation_is_told_again(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """What it holds by now is from before; nobody keeps it (G9)."""
    await other.set(KEY, "old", policy=None, l1_ttl=0)
    raw = await server.client().get("test:{value:1}")
    await cache.invalidate(keys=[KEY])
    await server.client().set("test:{value:1}", raw)  # type: ignore[arg-type]

    server.restart(keep=True)
    await clock.advance(1)

    assert await server.client().exists("test:{value:1}") == 0
    assert await soon(other.get(KEY, "nothing")) == "nothing"
    assert cache.statistics().pending == 0


async def test_a_server_that_was_replaced_is_not_believed_at_once(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Others may have to tell it first; values are loaded meanwhile."""
    await other.set(KEY, "old", l1_ttl=0)
    value = function_of(cache, Source("new"))
    server.restart(keep=True)
    await clock.advance(0.1)
    assert cache._core.ledger.quarantine_deadline > clock.monotonic()

    assert await soon(value(1)) == "new"

    await clock.advance(1)
    assert await soon(value(1)) == "new"


async def test_more_recent_invalidations_than_are_remembered_become_one_of_all(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A server that was replaced may have lost those that were forgotten."""
    monkeypatch.setattr("async_tiercache._ledger.MAX_RECENT", 2)
    await other.set(KEY, "old", l1_ttl=0)
    raw = await server.client().get("test:{value:1}")
    for key in (KEY, "a", "b", "c"):
        await cache.invalidate(keys=[key])
    await server.client().set("test:{value:1}", raw)  # type: ignore[arg-type]

    server.restart(keep=True)
    await clock.advance(1)

    assert await soon(other.get(KEY, "nothing")) == "nothing"


async def test_more_pending_invalidations_than_are_remembered_become_one_of_all(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Nothing that was to be removed survives the outage, and nothing is believed before."""
    monkeypatch.setattr("async_tiercache._ledger.MAX_PENDING", 3)
    await other.set(KEY, "old", l1_ttl=0)
    server.connected = False
    for key in (KEY, "a", "b", "c", "d"):
        assert (await cache.invalidate(keys=[key])).l2 == "queued"
    server.connected = True
    assert await soon(cache.get(KEY, "nothing")) == "nothing"

    await clock.advance(2)

    assert await soon(other.get(KEY, "nothing")) == "nothing"
    assert cache.statistics().pending == 0
