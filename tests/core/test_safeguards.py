"""Safeguards that no other schedule takes alone: where one is missing, one of these fails.

`tests/mutations` takes them out one after the other. Often another one stands behind it, such as
the message of an invalidation behind a refused store; so here that one comes too late.
"""

import asyncio
from typing import Any, cast

from redis.exceptions import OutOfMemoryError

from async_tiercache import MISSING, LoadContext, TierCache
from async_tiercache._entry import ENTRY_ID_BYTES
from async_tiercache.abc import Invalidation
from async_tiercache.backends.redis import changes
from async_tiercache.backends.redis.names import Names
from async_tiercache.backends.redis.route import Route
from async_tiercache.codecs.frame import STAMP_OFFSET
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import MESSAGE, Wire

BOUND = 2.0
RAW = f"test:{{{KEY}}}"
AGING: dict[str, Any] = {"ttl": 100, "l1_ttl": 1, "grace": 1000, "jitter": 0}


async def evict(server: MemoryServer) -> None:
    """Let L2 lose the entry, as it may when it needs room."""
    await server.client().delete(RAW)


async def test_a_load_does_not_store_by_the_lease_of_a_later_one(
    cache: TierCache, other: TierCache
) -> None:
    """A lease stands again when it commits, but not its own."""
    old, new = Source("old"), Source("new")
    old.close()
    new.close()
    before = asyncio.ensure_future(function_of(cache, old)(1))
    await soon(old.loading())
    await other.invalidate(keys=[KEY])
    after = asyncio.ensure_future(function_of(other, new)(1))
    await soon(new.loading())

    old.gate.set()
    assert await soon(before) == "old"
    await settled(cache)
    new.gate.set()
    assert await soon(after) == "new"
    await settled(other)

    assert await soon(cache.get(KEY)) == "new"


async def test_a_refresh_replaces_no_entry_that_it_has_not_seen(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The entry was evicted during the refresh and loaded anew, and nobody has touched the mark."""
    source = Source("old")
    value = function_of(cache, source, **AGING)
    await value(1)
    await settled(cache)
    await clock.advance(150)
    source.close()
    refreshing = asyncio.ensure_future(value(1))
    await soon(source.loading(2))

    await evict(server)
    elsewhere = function_of(other, Source("new"), **AGING)
    assert await soon(elsewhere(1)) == "new"
    await settled(other)
    source.gate.set()
    await soon(refreshing)
    await settled(cache)
    await clock.advance(1)

    assert await soon(elsewhere(1)) == "new"


async def test_a_renewal_prolongs_no_entry_that_it_has_not_seen(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It would give the other entry the id of this process's copy, which is older."""
    gate, loading = asyncio.Event(), asyncio.Event()

    @cache.cached("value:{key}", **AGING)
    async def value(key: int, context: LoadContext = LoadContext()) -> Any:
        if context.stale_value is MISSING:
            context.etag = "1"
            return "old"
        loading.set()
        await gate.wait()
        return context.not_modified()

    await value(1)
    await settled(cache)
    await clock.advance(150)
    refreshing = asyncio.ensure_future(value(1))
    await soon(loading.wait())

    await evict(server)
    await function_of(other, Source("new"), **AGING)(1)
    await settled(other)
    stored = await server.client().get(RAW)
    gate.set()
    await soon(refreshing)
    await settled(cache)

    assert await server.client().get(RAW) == stored


async def test_other_processes_are_told_of_a_write(cache: TierCache, other: TierCache) -> None:
    """Nothing else tells them: the write has invalidated by its lease."""
    value = function_of(other, Source("old"), l1_ttl=60)
    await value(1)
    await settled(other)

    await cache.set(KEY, "new")
    await ticks()

    assert value.peek(1) is MISSING
    assert await soon(value(1)) == "new"


async def test_what_l2_has_refused_is_not_kept_while_the_message_is_late(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """The refusal is all that tells of the invalidation."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())
    wire.hold_reply(MESSAGE)

    await other.invalidate(keys=[KEY])
    source.gate.set()
    await soon(before)
    await settled(cache)

    assert value.peek(1) is MISSING
    wire.let_pass(MESSAGE)


async def test_what_is_invalidated_is_forgotten_before_l2_has_been_told(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """However long L2 takes, neither L1 nor a load in progress gives the old value."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    telling = wire.hold("INVALIDATE")

    source.value = "new"
    invalidating = asyncio.ensure_future(cache.invalidate(keys=[KEY]))
    await soon(telling.reached.wait())

    assert value.peek(1) is MISSING
    assert await soon(value(1)) == "new"
    wire.let_pass("INVALIDATE")
    await soon(invalidating)


async def test_without_a_proof_no_load_is_joined_that_is_older_than_the_bound(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """The message that would have detached it has not come."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())
    wire.hold_reply(MESSAGE)

    source.value = "new"
    await other.invalidate(keys=[KEY])
    # Its renewals find the lease gone, and would end it as well.
    renewal = wire.hold("RENEW")
    await clock.advance(BOUND)
    await soon(renewal.reached.wait())
    after = asyncio.ensure_future(value(1))
    await soon(source.loading(2))
    source.gate.set()

    assert await all_of(before, after) == ["new", "new"]
    wire.let_pass("RENEW")
    wire.let_pass(MESSAGE)


async def test_a_compiled_call_does_not_serve_l1_beyond_the_proof(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """It has found its entry before, and looks at nothing but two times.

    The answers to pings come behind the message that does not come, so the proof ends.
    """
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    value = function_of(cache, source, l1_ttl=60)
    await value(1)
    await settled(cache)
    assert await value(1) == "old"
    wire.hold_reply(MESSAGE)

    source.value = "new"
    await other.invalidate(keys=[KEY])
    await clock.advance(BOUND)

    assert await soon(value(1)) == "new"
    wire.let_pass(MESSAGE)


async def test_a_copy_that_l2_contradicts_is_offered_to_nobody(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """It is stale and might be served; but another process has invalidated it, and loads."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    aging = AGING | {"l1_ttl": 10_000}
    value = function_of(cache, Source("old"), **aging)
    await value(1)
    await settled(cache)
    await clock.advance(150)
    wire.hold_reply(MESSAGE)
    new = Source("new")
    new.close()
    await other.invalidate(keys=[KEY])
    loading = asyncio.ensure_future(function_of(other, new, **aging)(1))
    await soon(new.loading())

    first = asyncio.ensure_future(value(1))
    await ticks()
    second = asyncio.ensure_future(value(1))
    await ticks()

    assert not second.done()
    wire.let_pass(MESSAGE)
    new.gate.set()
    assert await all_of(loading, first, second) == ["new"] * 3


async def test_what_was_shown_and_refused_is_followed_by_nothing_older(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Its lease was evicted, and the load that then had one had read the source before."""
    source = Source("old")
    source.close()
    gate, loading = asyncio.Event(), asyncio.Event()

    async def load_late() -> Any:
        loading.set()
        await gate.wait()
        return source.value

    mine = asyncio.ensure_future(cache.get_or_load(KEY, load_late))
    await soon(loading.wait())
    await evict(server)
    theirs = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    await clock.advance(0.1)

    source.value = "new"
    gate.set()
    assert await soon(mine) == "new"
    await settled(cache)
    source.gate.set()
    assert await soon(theirs) == "old"
    await settled(other)

    assert await soon(cache.get_or_load(KEY, load_late)) == "new"


async def test_l2_is_not_believed_about_a_tag_that_only_its_entry_names(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """This process has never loaded the value, and learns of the tag from L2."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)

    async def load_tagged(context: LoadContext = LoadContext()) -> Any:
        context.tags = ["t"]
        return "old"

    await other.get_or_load(KEY, load_tagged)
    await settled(other)
    telling = wire.hold("INVALIDATE")
    invalidating = asyncio.ensure_future(cache.invalidate(tags=["t"]))
    await soon(telling.reached.wait())

    assert await soon(cache.get_or_load(KEY, Source("new").load)) == "new"
    wire.let_pass("INVALIDATE")
    await soon(invalidating)


async def test_l2_is_not_asked_about_a_tag_that_only_its_entry_names_before_it_has_confirmed(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """It may confirm while an answer from before is under way."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)

    async def load_tagged(context: LoadContext = LoadContext()) -> Any:
        context.tags = ["t"]
        return "old"

    await other.get_or_load(KEY, load_tagged)
    await settled(other)
    telling = wire.hold("INVALIDATE")
    invalidating = asyncio.ensure_future(cache.invalidate(tags=["t"]))
    await soon(telling.reached.wait())
    entry = wire.hold_reply("GET")
    reading = asyncio.ensure_future(cache.get_or_load(KEY, Source("new").load))
    await soon(entry.reached.wait())
    wire.let_later_pass("GET")
    state = wire.hold_reply("GET")
    entry.open.set()
    await ticks()
    wire.let_pass("INVALIDATE")
    await soon(invalidating)
    state.open.set()

    assert await soon(reading) == "new"


async def test_l2_is_not_asked_under_a_tag_that_it_has_yet_to_invalidate(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """It may confirm while an answer from before is under way."""
    await function_of(other, Source("old"), tags=["t"])(1)
    await settled(other)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.refuse("INVALIDATE", OutOfMemoryError("OOM"))
    assert (await cache.invalidate(tags=["t"])).l2 == "queued"

    wire.hold_reply("GET")
    reading = asyncio.ensure_future(function_of(cache, Source("new"), tags=["t"])(1))
    await ticks()
    await clock.advance(1)
    wire.let_pass("GET")

    assert await soon(reading) == "new"
    await clock.advance(1)


async def test_l2_is_read_around_under_a_tag_that_it_has_yet_to_invalidate(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """What it holds is alive there still."""
    await function_of(other, Source("old"), tags=["t"])(1)
    await settled(other)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.refuse("INVALIDATE", OutOfMemoryError("OOM"))
    assert (await cache.invalidate(tags=["t"])).l2 == "queued"

    assert await function_of(cache, Source("new"), tags=["t"])(1) == "new"

    await clock.advance(1)


async def test_the_state_of_a_tag_from_before_is_forgotten_when_l2_has_confirmed(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """A read of another key that stands under it has asked for it meanwhile."""

    async def load_old(context: LoadContext = LoadContext()) -> Any:
        context.tags = ["t"]
        return "old"

    for key in ("a", "b"):
        await other.get_or_load(key, load_old)
    await settled(other)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    telling = wire.hold("INVALIDATE")
    invalidating = asyncio.ensure_future(cache.invalidate(tags=["t"]))
    await soon(telling.reached.wait())
    assert await soon(cache.get_or_load("a", Source("new").load)) == "new"
    answering = wire.hold_reply("GET")
    early = asyncio.ensure_future(cache.get_or_load("b", Source("new").load))
    await soon(answering.reached.wait())
    wire.let_pass("INVALIDATE")
    await soon(invalidating)

    wire.let_pass("GET")
    await soon(early)

    assert await soon(cache.get_or_load("b", Source("new").load)) == "new"


async def test_what_is_softly_invalidated_has_an_id_of_its_own(
    cache: TierCache, server: MemoryServer
) -> None:
    """One id names one value, with one time of its end."""
    ids: set[bytes] = set()
    for version in range(2):
        await cache.set(KEY, version)
        await settled(cache)
        for _ in range(2):
            raw: Any = await server.client().get(f"test:{{{KEY}}}")
            ids.add(raw[STAMP_OFFSET : STAMP_OFFSET + ENTRY_ID_BYTES])
            await cache.invalidate(keys=[KEY], soft=100)

    assert len(ids) == 4


class Notebook:
    """A way to the server that writes down what is carried out."""

    whole = True

    def __init__(self, server: MemoryServer) -> None:
        self._client: Any = server.client()
        self.commands: list[tuple[Any, ...]] = []

    def submit(self, *command: Any) -> asyncio.Future[Any]:
        """Carry a command out."""
        if command[0] == "EVAL":
            self.commands.append(command)
        reply: asyncio.Future[Any] = asyncio.ensure_future(self._client.execute_command(*command))
        return reply


async def test_a_command_that_is_carried_out_again_gives_no_id_again(
    server: MemoryServer, clock: FakeClock
) -> None:
    """Between the two the tag may have been invalidated once more."""
    names, notebook = Names("test"), Notebook(server)
    route = cast("Route", notebook)
    client: Any = server.client()
    await changes.ensure(["t"], 60_000, route, names)
    notebook.commands.clear()
    change = changes.invalidation(Invalidation(bytes(16), tags=("t",)), 0.0)
    await changes.carry_out(change, Invalidation(bytes(16), tags=("t",)), route, names)
    first: Any = await client.get(names.tag("t"))

    await clock.advance(0.001)
    for command in notebook.commands:
        await client.execute_command(*command)

    second: Any = await client.get(names.tag("t"))
    assert notebook.commands
    assert first[:12] != second[:12]
