"""The schedules that break weaker protocols, between two processes with L1, L2 and a bus.

Each is the shortest one that an exhaustive search found for a protocol that lacks one safeguard
(docs/design/protocol.md). Those within one process are in `test_invalidation`.
"""

import asyncio

from async_tiercache import MISSING, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import MESSAGE, Wire

BOUND = 2.0


async def stored(cache: TierCache, source: Source, **options: object) -> None:
    """Let both tiers hold the source's value."""
    await function_of(cache, source, **options)(1)
    await settled(cache)


async def test_an_invalidation_whose_traces_are_lost_is_not_forgotten(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """No marker has to survive: what must be present for a commit is the lease."""
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())

    await other.invalidate(keys=[KEY])
    await server.client().flushall()
    source.gate.set()
    await soon(before)
    await settled(cache)

    assert value.peek(1) is MISSING
    assert await other.get(KEY, "nothing") == "nothing"


async def test_a_commit_that_was_followed_by_an_invalidation_elsewhere_is_not_kept_in_l1(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """L2 has stored it, and its message is here before the reply: L1 looks at the generation."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source("old"))
    reply = wire.hold_reply("COMMIT")
    assert await value(1) == "old"
    await soon(reply.reached.wait())

    await other.invalidate(keys=[KEY])
    await ticks()
    wire.let_pass("COMMIT")
    await settled(cache)

    assert value.peek(1) is MISSING


async def test_a_read_of_l2_that_was_followed_by_an_invalidation_elsewhere_is_not_believed(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """The reply with the old value comes after the message: the reader asks again."""
    await other.set(KEY, "old")
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source("new"))
    reply = wire.hold_reply("GET")
    reading = asyncio.ensure_future(value(1))
    await soon(reply.reached.wait())

    await other.invalidate(keys=[KEY])
    await ticks()
    wire.let_pass("GET")

    assert await soon(reading) == "new"
    assert await soon(value(1)) == "new"


async def test_a_message_that_comes_after_what_it_ends_was_kept_removes_it(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """The generation was the same when L1 was filled; then the entry itself goes."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source("old"))
    message = wire.hold_reply(MESSAGE)
    reply = wire.hold_reply("COMMIT")
    assert await value(1) == "old"
    await soon(reply.reached.wait())
    await other.invalidate(keys=[KEY])
    await soon(message.reached.wait())
    wire.let_pass("COMMIT")
    await settled(cache)
    assert value.peek(1) == "old"

    wire.let_pass(MESSAGE)
    await ticks()

    assert value.peek(1) is MISSING


async def test_a_reader_does_not_join_a_load_older_than_a_message(
    cache: TierCache, other: TierCache
) -> None:
    """An invalidation elsewhere detaches the flight as one's own does."""
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())

    source.value = "new"
    await other.invalidate(keys=[KEY])
    await ticks()
    after = asyncio.ensure_future(value(1))
    await soon(source.loading(2))
    source.gate.set()

    assert await all_of(before, after) == ["new", "new"]


async def test_a_reader_does_not_join_a_load_older_than_a_message_about_its_tag(
    cache: TierCache, other: TierCache
) -> None:
    """It is found to be too old; yet its lease stands, and the reader loads after it."""
    source = Source("old")
    source.close()
    value = function_of(cache, source, tags=["all"])
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())

    source.value = "new"
    await other.invalidate(tags=["all"])
    await ticks()
    after = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()

    assert await all_of(before, after) == ["new", "new"]


async def test_an_own_invalidation_does_not_wait_for_its_own_message(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Its caller reads what it has written, however late the bus is."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    await stored(cache, source)
    wire.hold_reply(MESSAGE)
    value = function_of(cache, source)

    source.value = "new"
    await value.invalidate(1)

    assert value.peek(1) is MISSING
    assert await soon(value(1)) == "new"
    wire.let_pass(MESSAGE)


async def test_the_message_of_an_own_invalidation_removes_nothing_that_came_after(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Else each write would cost the next reader a turn."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source("new"))
    message = wire.hold_reply(MESSAGE)
    await value.invalidate(1)
    await soon(message.reached.wait())
    await value(1)
    await settled(cache)

    wire.let_pass(MESSAGE)
    await ticks()

    assert value.peek(1) == "new"


async def test_an_entry_that_was_passed_over_never_comes_back(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """A reader who got the new value gets no older one when the bus proves all again."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    value = function_of(cache, source, l1_ttl=60)
    await stored(cache, source, l1_ttl=60)
    wire.hold_reply(MESSAGE)
    source.value = "new"
    await other.invalidate(keys=[KEY])
    await clock.advance(BOUND)
    assert await soon(value(1)) == "new"

    wire.let_pass(MESSAGE)
    await clock.advance(BOUND)

    assert await soon(value(1)) == "new"
    assert cache.statistics().l1_bypasses == 1
