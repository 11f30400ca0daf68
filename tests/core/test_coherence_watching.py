"""What can be seen of a key (explain), and the cache's own check of L1 against L2."""

import asyncio
import logging
from dataclasses import dataclass, field
from typing import Any

import pytest

from async_tiercache import BoundCached, Refused, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon, ticks
from tests.core.wire import MESSAGE, Wire

LONG: dict[str, Any] = {"ttl": 1000, "l1_ttl": 900}
BOUND = 2.0


async def check(cache: TierCache) -> int:
    """Let a cache check itself; return how many violations it has found."""
    assert cache._core.self_check is not None
    return await soon(cache._core.self_check.check())


@dataclass(eq=False)
class Token:
    """Equal to nothing but itself."""

    text: str


@dataclass
class User:
    """Equal to whatever has its id."""

    user_id: int
    name: str = field(compare=False)


def read_by(cache: TierCache, value: Any) -> BoundCached[[int], Any]:
    """Return a cached function whose annotation is the class of what it returns."""

    async def load(key: int) -> Any:
        return value

    load.__annotations__["return"] = type(value)
    return cache.cached("value:{key}", **LONG)(load)


async def test_a_healthy_cache_finds_nothing(
    make_cache: MakeCache, other: TierCache, clock: FakeClock
) -> None:
    """Through loads, invalidations by each process, and hits."""
    cache = await make_cache(self_check=1)
    mine_source, theirs_source = Source(0), Source(0)
    mine, theirs = (
        function_of(cache, mine_source, **LONG),
        function_of(other, theirs_source, **LONG),
    )
    for version in range(1, 10):
        await mine(1)
        await theirs(1)
        await clock.advance(1.5)
        mine_source.value = theirs_source.value = version
        await (cache if version % 2 else other).invalidate(keys=[KEY])

    assert cache.statistics().inconsistencies.count == 0
    assert cache._core.self_check is not None
    assert cache._core.self_check.checked > 0


async def test_a_check_leaves_no_trace_of_what_it_cannot_use(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """No reader was refused anything, so no observer is told so."""
    events = Recorder()
    cache = await make_cache(self_check=60, observers=[events])
    await function_of(cache, Source(), **LONG)(1)
    await settled(cache)
    await server.client().set(f"test:{{{KEY}}}", b"damaged")

    assert await check(cache) == 0
    assert events.of(Refused) == []


async def test_an_entry_older_than_that_of_l2_is_counted(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A message was lost on the way, against all promises."""
    cache, other = await make_cache(self_check=60), await make_cache()
    value = function_of(cache, Source("old"), **LONG)
    await value(1)
    await settled(cache)
    await clock.advance(1)
    await forget_silently(server)
    await function_of(other, Source("new"), **LONG)(1)
    await settled(other)

    await clock.advance(1)
    assert await check(cache) == 0
    await clock.advance(BOUND)
    with caplog.at_level(logging.ERROR):
        assert await check(cache) == 1

    assert cache.statistics().inconsistencies.count == 2
    assert "L1 serves a value of 'value:1' that L2 replaced" in caplog.text


async def forget_silently(server: MemoryServer) -> None:
    """Remove the key from L2 and tell nobody."""
    await server.client().delete("test:{value:1}")


async def test_a_refresh_elsewhere_that_found_nothing_new_is_no_inconsistency(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """L2 holds a newer entry of the same value; nobody has to be told of that."""
    cache, other = await make_cache(self_check=60), await make_cache()
    await function_of(cache, Source({"same": [1, 2]}), **LONG)(1)
    await settled(cache)
    await clock.advance(1)
    theirs = function_of(other, Source({"same": [1, 2]}), **LONG)
    await theirs.refresh(1)
    await settled(other)
    await clock.advance(BOUND + 1)

    assert await check(cache) == 0
    assert cache.statistics().inconsistencies.count == 0


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (Token("a"), Token("a")),
        (float("nan"), float("nan")),
        ({8, 0}, {0, 8}),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
    ids=["object", "nan", "set", "dict"],
)
async def test_what_is_the_same_is_no_inconsistency_however_it_compares(
    make_cache: MakeCache, clock: FakeClock, here: Any, there: Any
) -> None:
    """It is stored as the same bytes, but for an order that means nothing."""
    cache, other = await make_cache(self_check=60), await make_cache()
    await read_by(cache, here)(1)
    await settled(cache)
    await clock.advance(1)
    await read_by(other, there).refresh(1)
    await settled(other)
    await clock.advance(BOUND + 1)

    assert await check(cache) == 0


async def test_what_is_older_is_counted_although_it_calls_itself_equal(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """As entities do that compare their ids."""
    cache, other = await make_cache(self_check=60), await make_cache()
    await read_by(cache, User(1, "Anna"))(1)
    await settled(cache)
    await clock.advance(1)
    await read_by(other, User(1, "Emma")).refresh(1)
    await settled(other)
    await clock.advance(BOUND + 1)

    assert await check(cache) == 1


async def test_what_is_replaced_while_l2_is_asked_says_nothing(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It is not served any more."""
    wire = Wire(server)
    cache, other = await make_cache(client=wire.client, self_check=60), await make_cache()
    value = function_of(cache, Source("old"), **LONG)
    await value(1)
    await settled(cache)
    await clock.advance(1)
    await forget_silently(server)
    await function_of(other, Source("new"), **LONG)(1)
    await settled(other)
    await clock.advance(BOUND + 1)
    reply = wire.hold_reply("GET")
    checking = asyncio.ensure_future(check(cache))
    await soon(reply.reached.wait())

    await other.invalidate(keys=[KEY])
    await ticks()
    wire.let_pass("GET")

    assert await soon(checking) == 0


async def test_l2_down_is_no_inconsistency(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Nothing can be compared."""
    cache = await make_cache(self_check=60)
    await function_of(cache, Source(), **LONG)(1)
    await settled(cache)
    server.connected = False

    assert await check(cache) == 0
    server.connected = True
    await clock.advance(1)


async def test_the_check_runs_by_itself(make_cache: MakeCache, clock: FakeClock) -> None:
    """As often as it was asked for."""
    cache = await make_cache(self_check=5)
    await function_of(cache, Source(), **LONG)(1)
    await settled(cache)
    await clock.advance(20.5)

    assert cache._core.self_check is not None
    assert cache._core.self_check.checked == 4


# Explain.


async def test_a_key_that_nobody_knows_is_explained(cache: TierCache) -> None:
    """Nothing is loaded, and nothing remembered."""
    told = await cache.explain(KEY)

    assert (told.l2, told.in_l1, told.last_read, told.loading_here) == ("nothing", False, "", False)
    assert (told.pending, told.last_invalidation, told.breaker) == (False, None, "up")
    assert 0 < told.proof_seconds <= BOUND


async def test_an_entry_is_explained(cache: TierCache, clock: FakeClock) -> None:
    """How old it is, how long it lives, and what it stands under."""
    value = function_of(cache, Source(), tags=["t"], ttl=100, l1_ttl=50, grace=200, jitter=0)
    await value(1)
    await settled(cache)
    await clock.advance(10)

    told = await cache.explain(KEY)

    assert (told.l2, told.in_l1, told.l1_why, told.last_read) == ("entry", True, "", "loader fresh")
    assert (told.age, told.fresh_seconds, told.stale_seconds) == pytest.approx((10, 90, 290))
    assert told.l1_seconds == pytest.approx(40)
    assert [tag for tag, _ in told.tags] == ["t"]


async def test_a_load_is_explained(cache: TierCache, other: TierCache) -> None:
    """Here, and by the digest of its lease elsewhere."""
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    mine, theirs = await cache.explain(KEY), await other.explain(KEY)

    assert (mine.l2, mine.loading_here, theirs.loading_here) == ("lease", True, False)
    assert mine.lease_holder == theirs.lease_holder != ""
    source.gate.set()
    await soon(loading)


async def test_an_invalidation_is_explained(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """When this process has last heard of one, its own or another's."""
    await cache.invalidate(keys=[KEY])
    await ticks()
    await clock.advance(3)

    assert (await cache.explain(KEY)).last_invalidation == pytest.approx(3)
    assert (await other.explain(KEY)).last_invalidation == pytest.approx(3)


async def test_a_pending_invalidation_is_explained(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """L2 is not believed."""
    server.connected = False
    await cache.invalidate(keys=[KEY])
    told = await cache.explain(KEY)

    assert (told.pending, told.l2, told.breaker) == (True, "unknown", "down")
    server.connected = True
    await clock.advance(1)


async def test_a_block_is_explained(cache: TierCache, other: TierCache) -> None:
    """A writer is at work."""
    async with other.invalidating(keys=[KEY]):
        assert (await cache.explain(KEY)).l2 == "block"


async def test_why_l1_does_not_serve_is_explained(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """A tag was invalidated; no proof; it is due."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = function_of(cache, Source(), tags=["t"], ttl=1000, l1_ttl=900)
    await value(1)
    await settled(cache)
    await other.invalidate(tags=["t"])
    await ticks()
    assert "invalidated" in (await cache.explain(KEY)).l1_why

    await value(1)
    await settled(cache)
    wire.hold_reply(MESSAGE)
    await other.invalidate(keys=["another"])
    await clock.advance(BOUND)
    told = await cache.explain(KEY)
    assert "prove" in told.l1_why
    assert told.proof_seconds <= 0
    wire.let_pass(MESSAGE)


async def test_an_entry_that_is_dead_or_foreign_is_explained(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """With the cause."""
    value = function_of(cache, Source(), tags=["t"])
    await value(1)
    await settled(cache)
    await other.invalidate(tags=["t"])
    told = await cache.explain(KEY)
    assert (told.l2, told.refused) == ("dead", "tag")

    await server.client().set("test:{value:1}", b"garbage")
    told = await cache.explain(KEY)
    assert told.l2 == "damaged"
    assert told.refused


async def test_what_a_soft_invalidation_has_made_stale_is_explained(
    cache: TierCache, other: TierCache
) -> None:
    """Its age is not known any more, and is not said to be that of the epoch."""
    await function_of(other, Source())(1)
    await settled(other)
    await other.invalidate(keys=[KEY], soft=100)

    told = await cache.explain(KEY)

    assert (told.l2, told.age) == ("entry", None)
    assert told.stale_seconds == pytest.approx(100, abs=1)


async def test_l1_alone_is_explained(alone: TierCache) -> None:
    """Without an L2 there is nothing to prove."""
    await function_of(alone, Source())(1)
    await settled(alone)

    told = await alone.explain(KEY)

    assert (told.in_l1, told.l2, told.breaker, told.l1_why) == (True, "off", "off", "")
