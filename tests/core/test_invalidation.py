"""Invalidation: a reader that begins after it has returned gets nothing older (G1, G2, G5)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from async_tiercache import MISSING, Invalidated, Loaded, Report, TierCache
from async_tiercache.errors import UnkeyableError, UsageError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, method_of, soon, ticks
from tests.core.wire import Wire

Read = Callable[[TierCache, Source], Callable[[], Awaitable[Any]]]


def by_function(cache: TierCache, source: Source) -> Callable[[], Awaitable[Any]]:
    value = function_of(cache, source)
    return lambda: value(1)


def by_method(cache: TierCache, source: Source) -> Callable[[], Awaitable[Any]]:
    value = method_of(cache, source)
    return lambda: value(1)


def by_get_or_load(cache: TierCache, source: Source) -> Callable[[], Awaitable[Any]]:
    return lambda: cache.get_or_load(KEY, source.load)


every_way_to_read = pytest.mark.parametrize(
    "reading",
    [
        pytest.param(by_function, id="function"),
        pytest.param(by_method, id="method"),
        pytest.param(by_get_or_load, id="get_or_load"),
    ],
)


@every_way_to_read
async def test_a_reader_after_an_invalidation_does_not_join_an_older_load(
    cache: TierCache, reading: Read
) -> None:
    """The load that was in progress is detached: only those who waited get its value."""
    source = Source("old")
    source.close()
    read = reading(cache, source)
    before = asyncio.ensure_future(read())
    await soon(source.loading())

    source.value = "new"
    await cache.invalidate(keys=[KEY])
    after = asyncio.ensure_future(read())
    await soon(source.loading(2))
    source.gate.set()

    assert await all_of(before, after) == ["new", "new"]


@every_way_to_read
async def test_a_load_that_was_overtaken_is_kept_nowhere(
    cache: TierCache, other: TierCache, reading: Read
) -> None:
    """Neither L1 nor L2 ever holds what was read before the invalidation."""
    source = Source("old")
    source.close()
    before = asyncio.ensure_future(reading(cache, source)())
    await soon(source.loading())

    await cache.invalidate(keys=[KEY])
    source.gate.set()
    await soon(before)
    await soon(settled(cache))

    assert await cache.get(KEY, "nothing") == "nothing"
    assert await other.get(KEY, "nothing") == "nothing"


async def test_get_does_not_join_a_load_older_than_an_invalidation(cache: TierCache) -> None:
    """`get` waits for loads in progress, but not for one that is detached."""
    source = Source("old")
    source.close()
    before = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())

    await cache.invalidate(keys=[KEY])

    assert await soon(cache.get(KEY, "nothing")) == "nothing"
    source.gate.set()
    await soon(before)


async def test_peek_does_not_see_what_was_invalidated(cache: TierCache) -> None:
    """L1 has dropped the key when `invalidate` returns."""
    value = function_of(cache, Source())
    await value(1)
    await settled(cache)
    assert value.peek(1) == "v1"

    await value.invalidate(1)

    assert value.peek(1) is MISSING


async def test_the_compiled_hit_path_does_not_see_what_was_invalidated(cache: TierCache) -> None:
    """The table of bare arguments forgets with the key."""
    source = Source("old")
    value = function_of(cache, source)
    for _ in range(3):
        await value(1)
        await settled(cache)

    source.value = "new"
    await value.invalidate(1)

    assert await value(1) == "new"


async def test_a_failing_load_that_was_detached_leaves_the_newer_one_alone(
    cache: TierCache,
) -> None:
    """The end of an old load removes its own flight only."""
    old, new = Source("old"), Source("new")
    old.error = LookupError("gone")
    old.close()
    new.close()
    before = asyncio.ensure_future(cache.get_or_load(KEY, old.load))
    await soon(old.loading())
    await cache.invalidate(keys=[KEY])
    after = asyncio.ensure_future(cache.get_or_load(KEY, new.load))
    await soon(new.loading())

    old.gate.set()
    with pytest.raises(LookupError):
        await soon(before)
    joining = asyncio.ensure_future(cache.get_or_load(KEY, old.load))
    await ticks()
    new.gate.set()

    assert await all_of(after, joining) == ["new", "new"]


async def test_waiters_of_a_detached_load_still_get_its_value(cache: TierCache) -> None:
    """They began before the invalidation returned, so the older value is theirs to have."""
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    waiters = [asyncio.ensure_future(value(1)) for _ in range(3)]
    await soon(source.loading())

    await value.invalidate(1)
    source.gate.set()

    assert await all_of(*waiters) == ["old"] * 3
    await soon(settled(cache))
    assert cache.statistics().not_stored == {"overtaken": 1}


# The schedules that break weaker protocols, between two processes.


async def test_a_load_overtaken_by_another_process_is_refused_by_l2(
    cache: TierCache, other: TierCache, events: Recorder
) -> None:
    """The invalidation takes the lease away, so the commit compares unequal."""
    source = Source("old")
    source.close()
    before = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())

    await other.invalidate(keys=[KEY])
    source.gate.set()
    await soon(before)
    await soon(settled(cache))

    assert await other.get(KEY, "nothing") == "nothing"
    assert [event.stored for event in events.of(Loaded)] == ["overtaken"]


async def test_a_load_that_l2_refused_is_not_kept_in_l1_either(
    cache: TierCache, other: TierCache
) -> None:
    """Lease without generation keeps it: there L1 would be older than L2 for ever."""
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())

    await other.invalidate(keys=[KEY])
    source.gate.set()
    await soon(before)
    await soon(settled(cache))

    assert value.peek(1) is MISSING


async def test_an_invalidation_and_a_refill_between_lease_and_commit_are_noticed(
    cache: TierCache, other: TierCache
) -> None:
    """ABA: the key holds a value again, but not what the fence names."""
    old, new = Source("old"), Source("new")
    old.close()
    before = asyncio.ensure_future(cache.get_or_load(KEY, old.load))
    await soon(old.loading())

    await other.invalidate(keys=[KEY])
    await other.get_or_load(KEY, new.load)
    await soon(settled(other))
    old.gate.set()
    await soon(before)
    await soon(settled(cache))

    assert await cache.get(KEY) == "new"


async def test_a_lease_that_was_lost_stores_nothing(
    cache: TierCache, server: MemoryServer, other: TierCache
) -> None:
    """Eviction, FLUSHALL or a restart of an empty server cost a miss, never an old value."""
    source = Source("old")
    source.close()
    before = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())

    await server.client().flushall()
    source.gate.set()
    await soon(before)
    await soon(settled(cache))

    assert await other.get(KEY, "nothing") == "nothing"


async def test_an_own_invalidation_overtakes_a_load_whose_commit_is_under_way(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """The commit wins in L2, then the delete follows; L1 looks at the generation."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    commit = wire.hold_reply("COMMIT")
    value = function_of(cache, source)
    assert await value(1) == "old"
    await soon(commit.reached.wait())

    invalidating = asyncio.ensure_future(value.invalidate(1))
    await ticks()
    wire.let_pass("COMMIT")
    await soon(invalidating)
    await soon(settled(cache))

    assert value.peek(1) is MISSING
    assert await server.client().exists("test:{value:1}") == 0


async def test_a_read_of_l2_that_began_before_the_delete_is_not_believed(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """L2 answered with the old value before the delete; the reader asks again."""
    await other.set(KEY, "old")
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source("new"))
    reply = wire.hold_reply("GET")
    reading = asyncio.ensure_future(value(1))
    await soon(reply.reached.wait())

    await soon(value.invalidate(1))
    wire.let_pass("GET")

    assert await soon(reading) == "new"


async def test_a_process_reads_around_l2_while_its_delete_is_under_way(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """What L2 holds until then must not be believed."""
    await other.set(KEY, "old")
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    deletion = wire.hold("INVALIDATE")
    value = function_of(cache, Source("new"))
    invalidating = asyncio.ensure_future(value.invalidate(1))
    await soon(deletion.reached.wait())

    assert await soon(value(1)) == "new"
    assert "GET" not in wire.sent
    wire.let_pass("INVALIDATE")
    await soon(invalidating)


# Redis does not answer.


async def test_an_invalidation_that_l2_does_not_confirm_is_queued(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The report does not promise more than is known."""
    server.connected = False

    report = await cache.invalidate(keys=[KEY])

    assert report == Report("queued")
    assert cache.statistics().pending == 1
    server.connected = True
    await clock.advance(1)
    assert cache.statistics().pending == 0


async def test_a_queued_invalidation_reaches_the_others_once_l2_is_back(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The recovery repeats it."""
    await other.set(KEY, "old", l1_ttl=0)
    server.connected = False
    await cache.invalidate(keys=[KEY])

    server.connected = True
    await clock.advance(1)

    assert await other.get(KEY, "nothing") == "nothing"
    assert await cache.invalidate(keys=[KEY]) == Report("done")


async def test_a_process_reads_its_own_queued_invalidation(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Redis answers again and still holds the old value: it is not asked for this key."""
    source = Source("old")
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    server.connected = False
    source.value = "new"
    await value.invalidate(1)

    server.connected = True

    assert await value(1) == "new"
    assert await cache.get("other", "nothing") == "nothing"
    await clock.advance(1)


async def test_what_was_loaded_around_l2_is_forgotten_when_l2_has_been_told(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Other processes may have written meanwhile; from here on L2 has the say again."""
    server.connected = False
    value = function_of(cache, Source("new"))
    await value.invalidate(1)
    await value(1)
    await ticks()
    assert value.peek(1) == "new"

    server.connected = True
    await clock.advance(1)

    assert value.peek(1) is MISSING


async def test_what_was_loaded_around_l2_is_not_followed_by_what_l2_held(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Monotonic reads (G4): when L2 is back, its entry is older than what was shown here."""
    await other.set(KEY, "old", ttl=1000)
    value = function_of(cache, Source("new"), l1_ttl=5)
    server.connected = False
    assert await value(1) == "new"
    server.connected = True

    await clock.advance(6)

    assert await value(1) == "new"


async def test_several_queued_invalidations_are_all_repeated(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """None is dropped for another."""
    server.connected = False
    for key in ("a", "b", "c"):
        await cache.invalidate(keys=[key])
    assert cache.statistics().pending == 3

    await clock.advance(3)
    server.connected = True
    await clock.advance(1)

    assert cache.statistics().pending == 0


async def test_a_cancelled_invalidation_is_repeated(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, other: TierCache
) -> None:
    """Whoever asked for it is gone, what is no longer true stays untrue."""
    await other.set(KEY, "old", l1_ttl=0)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    deletion = wire.hold("INVALIDATE")
    invalidating = asyncio.ensure_future(cache.invalidate(keys=[KEY]))
    await soon(deletion.reached.wait())

    invalidating.cancel()
    await ticks()
    assert cache.statistics().pending == 1
    wire.let_pass("INVALIDATE")
    await clock.advance(0.2)

    assert cache.statistics().pending == 0
    assert await other.get(KEY, "nothing") == "nothing"


async def test_closing_tells_l2_what_is_pending(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """A process that stops after an outage does not leave old values behind."""
    await other.set(KEY, "old", l1_ttl=0)
    cache = await make_cache()
    server.connected = False
    await cache.invalidate(keys=[KEY])
    server.connected = True
    clock._now += 1  # the breaker's period

    await soon(cache.aclose())

    assert await other.get(KEY, "nothing") == "nothing"


@pytest.mark.leaves_pending
async def test_closing_with_something_pending_says_so(
    make_cache: MakeCache, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be told is in the log, with its number."""
    cache = await make_cache()
    server.connected = False
    await cache.invalidate(keys=["a"])

    await soon(cache.aclose())

    assert "Closed with 1 keys that L2 has yet to remove" in caplog.text


async def test_concurrent_invalidations_leave_no_recovery_behind(cache: TierCache) -> None:
    """Another call's invalidation that is under way is not pending trouble."""
    await asyncio.gather(*(cache.invalidate(keys=[f"k{n}"]) for n in range(5)))

    assert [task.get_name() for task in cache._core.tasks._running] == []


async def test_a_lost_reply_of_a_delete_is_queued_and_repeated(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Deleting twice is harmless, not knowing is not."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.cut("INVALIDATE")

    assert await cache.invalidate(keys=["k"]) == Report("queued")
    await clock.advance(1)

    assert cache.statistics().pending == 0
    assert wire.sent.count("INVALIDATE") == 1


# The calls.


async def test_an_invalidation_of_many_keys_is_one_turn(
    make_cache: MakeCache, server: MemoryServer, events: Recorder
) -> None:
    """One DEL, one event."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client, observers=[events])
    wire.sent.clear()

    await cache.invalidate(keys=["a", "b", "a"])

    assert wire.sent == ["INVALIDATE"]
    assert events.of(Invalidated) == [Invalidated(("a", "b"), "done")]


async def test_invalidating_nothing_is_done_at_once(cache: TierCache, events: Recorder) -> None:
    """An empty list is no error and no event."""
    assert await cache.invalidate(keys=[]) == Report("done")
    assert events.of(Invalidated) == []


async def test_an_invalidation_without_l2_says_off(alone: TierCache) -> None:
    """L1 alone has nobody to tell."""
    value = function_of(alone, Source())
    await value(1)
    await ticks()

    assert await value.invalidate(1) == Report("off")
    assert value.peek(1) is MISSING


@pytest.mark.parametrize("keys", ["user:1", b"user:1", 42, None], ids=repr)
async def test_keys_that_are_no_list_are_refused(cache: TierCache, keys: Any) -> None:
    """By every call that takes several; the characters of a text are no keys."""

    async def load(missing: list[str]) -> dict[str, int]:
        raise AssertionError(missing)

    calls: list[Callable[[], Any]] = [
        lambda: cache.invalidate(keys=keys),
        lambda: cache.invalidating(keys=keys),
        lambda: cache.get_many(keys),
        lambda: cache.get_or_load_many(keys, load),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="is no list of keys"):
            await call()


async def test_a_pattern_as_a_key_is_refused(cache: TierCache) -> None:
    """It would silently invalidate nothing."""
    with pytest.raises(UnkeyableError):
        await cache.invalidate(keys=["user:*"])
