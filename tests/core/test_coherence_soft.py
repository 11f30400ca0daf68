"""Soft invalidation: what was there may be served for a while, and not for longer (G1, P4)."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import OutOfMemoryError

from async_tiercache import LoadContext, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon
from tests.core.wire import Wire


@pytest.fixture
def server(clock: FakeClock) -> MemoryServer:
    """Return an L2 whose entries end by the clock of the test."""
    return MemoryServer(clock)


async def test_a_soft_invalidation_does_not_lengthen_the_life_of_a_value(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """What may be served until then is what was to be served at all."""
    await function_of(other, Source("old"), ttl=10, grace=0)(1)
    await settled(other)
    await cache.invalidate(keys=[KEY], soft=100)
    source = Source("new")
    source.error = OSError("down")
    value = function_of(cache, source, ttl=10, l1_ttl=60, grace=0)
    assert await soon(value(1)) == "old"
    await settled(cache)

    await clock.advance(11)

    assert await soon(cache.get(KEY, "nothing", stale=True)) == "nothing"
    with pytest.raises(OSError, match="down"):
        await soon(value(1))


async def test_a_second_soft_invalidation_does_not_lengthen_the_first(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """The value is no newer than it was."""
    await function_of(other, Source("old"), ttl=1000)(1)
    await settled(other)
    await cache.invalidate(keys=[KEY], soft=10)
    await cache.invalidate(keys=[KEY], soft=1000)
    source = Source("new")
    source.error = OSError("down")
    value = function_of(cache, source, ttl=1000, l1_ttl=900)
    assert await soon(value(1)) == "old"
    await settled(cache)

    await clock.advance(11)

    assert await soon(cache.get(KEY, "nothing", stale=True)) == "nothing"
    with pytest.raises(OSError, match="down"):
        await soon(value(1))


async def test_what_was_loaded_around_l2_is_not_followed_by_what_is_softened(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """While the invalidation is on its way, this process does not believe L2, and shows newer."""
    await function_of(other, Source("old"), ttl=1000)(1)
    await settled(other)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("new")
    value = function_of(cache, source, ttl=1000)
    on_its_way = wire.hold("INVALIDATE")
    softening = asyncio.ensure_future(cache.invalidate(keys=[KEY], soft=100))
    await soon(on_its_way.reached.wait())
    assert await soon(value(1)) == "new"

    wire.let_pass("INVALIDATE")
    await soon(softening)

    source.error = OSError("down")
    assert await soon(value(1)) == "new"
    store = cache._core.store
    assert store is not None
    store.clear()
    with pytest.raises(OSError, match="down"):
        await soon(value(1))
    await clock.advance(1)


async def test_what_names_its_tags_is_not_followed_by_what_is_softened(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """They are proven behind the callers, and L2 confirms meanwhile."""

    def naming(cache: TierCache, source: Source) -> Any:
        @cache.cached("value:{key}", ttl=1000)
        async def value(key: int, context: LoadContext = LoadContext()) -> Any:
            context.tags = ["t"]
            return await source.load()

        return value

    await naming(other, Source("old"))(1)
    await settled(other)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    value = naming(cache, Source("new"))
    on_its_way = wire.hold("INVALIDATE")
    softening = asyncio.ensure_future(cache.invalidate(keys=[KEY], soft=100))
    await soon(on_its_way.reached.wait())
    proving = wire.hold("ENSURE")
    assert await soon(value(1)) == "new"
    await soon(proving.reached.wait())

    wire.let_pass("INVALIDATE")
    await soon(softening)

    assert cache._core.ledger.pending == 1
    wire.let_pass("ENSURE")
    await clock.advance(1)
    assert await soon(value(1)) == "new"


@pytest.mark.parametrize("what", [{"keys": [KEY]}, {"tags": ["t"]}], ids=["key", "tag"])
async def test_a_soft_invalidation_does_not_confirm_a_hard_one(
    make_cache: MakeCache,
    server: MemoryServer,
    other: TierCache,
    clock: FakeClock,
    what: dict[str, Any],
) -> None:
    """That L2 has refused, and that is still to be repeated."""
    options: dict[str, Any] = {"ttl": 1000, "tags": ["t"]}
    await function_of(other, Source("old"), **options)(1)
    await settled(other)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.refuse("INVALIDATE", OutOfMemoryError("OOM"))
    assert (await cache.invalidate(**what)).l2 == "queued"

    assert (await cache.invalidate(**what, soft=100)).l2 == "done"

    source = Source("new")
    source.error = OSError("down")
    with pytest.raises(OSError, match="down"):
        await soon(function_of(cache, source, **options)(1))
    await clock.advance(1)


def failing(value: str = "new") -> Source:
    """Return a source that is down."""
    source = Source(value)
    source.error = OSError("down")
    return source


@pytest.mark.parametrize("what", [{"keys": [KEY]}, {"tags": ["t"]}])
async def test_what_is_soft_is_served_while_the_source_is_down(
    cache: TierCache, other: TierCache, clock: FakeClock, what: dict[str, list[str]]
) -> None:
    """In each process, until the window ends."""
    await function_of(other, Source("old"), tags=["t"], ttl=1000)(1)
    await settled(other)
    await cache.invalidate(**what, soft=10)  # type: ignore[arg-type]
    mine = function_of(cache, failing(), tags=["t"], ttl=1000)
    theirs = function_of(other, failing(), tags=["t"], ttl=1000)

    assert (await soon(mine(1)), await soon(theirs(1))) == ("old", "old")

    await clock.advance(12)
    for value in (mine, theirs):
        with pytest.raises(OSError, match="down"):
            await soon(value(1))


@pytest.mark.parametrize("what", [{"keys": [KEY]}, {"tags": ["t"]}])
@pytest.mark.parametrize("order", [(None, 100), (100, None), (100, None, 100)])
async def test_what_was_hard_once_is_not_served_again(
    cache: TierCache,
    other: TierCache,
    what: dict[str, list[str]],
    order: tuple[float | None, ...],
) -> None:
    """Whatever soft invalidations come before and after."""
    await function_of(other, Source("old"), tags=["t"], ttl=1000)(1)
    await settled(other)
    for soft in order:
        await cache.invalidate(**what, soft=soft)  # type: ignore[arg-type]

    with pytest.raises(OSError, match="down"):
        await soon(function_of(cache, failing(), tags=["t"], ttl=1000)(1))


async def test_a_refresh_of_what_is_soft_is_refused_after_a_hard_invalidation(
    cache: TierCache, other: TierCache
) -> None:
    """Its fence is the id that the soft one gave the entry, and that is gone."""
    await function_of(other, Source("older"), ttl=1000)(1)
    await settled(other)
    await other.invalidate(keys=[KEY], soft=100)
    source = Source("old")
    source.close()
    refreshing = asyncio.ensure_future(function_of(cache, source, ttl=1000)(1))
    await soon(source.loading())

    await other.invalidate(keys=[KEY])
    source.gate.set()
    await soon(refreshing)
    await settled(cache)

    assert await soon(other.get(KEY, "nothing")) == "nothing"
    assert await soon(function_of(other, Source("new"), ttl=1000)(1)) == "new"


async def test_a_soft_invalidation_that_has_to_wait_becomes_a_hard_one(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Nobody knows how much of its window is left."""
    await function_of(other, Source("old"), ttl=1000)(1)
    await settled(other)
    server.faults.drop("invalidate", times=1)
    assert (await cache.invalidate(keys=[KEY], soft=100)).l2 == "queued"
    await clock.advance(2)

    assert await soon(other.get(KEY, "nothing", stale=True)) == "nothing"
