"""What is softly invalidated is served while it is loaded anew, for as long as was said."""

import asyncio
from typing import Any

import pytest

from async_tiercache import MISSING, LoadContext, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import Wire

DOWN = OSError("the source is down")
WHAT: dict[str, dict[str, Any]] = {"key": {"keys": [KEY]}, "tag": {"tags": ["t"]}}


@pytest.fixture
def server(clock: FakeClock) -> MemoryServer:
    """Return an L2 in which entries expire by the test's clock."""
    return MemoryServer(clock)


def tagged(cache: TierCache, source: Source, **options: Any) -> Any:
    """Return a cached function under the tag ``t``."""
    given: dict[str, Any] = {"tags": ["t"], "ttl": 1000, "grace": 1000} | options
    return function_of(cache, source, **given)


async def stored(cache: TierCache, source: Source, **options: Any) -> Any:
    """Return a cached function whose value is in both tiers."""
    value = tagged(cache, source, **options)
    assert await value(1) == source.value
    await settled(cache)
    return value


@pytest.mark.parametrize("what", WHAT)
async def test_it_is_served_when_the_loader_fails_until_its_window_ends(
    cache: TierCache, other: TierCache, clock: FakeClock, what: str
) -> None:
    """In the process that invalidated, and in others."""
    source = Source("old")
    values = [await stored(cache, source), tagged(other, source)]
    source.error = DOWN
    await other.invalidate(**WHAT[what], soft="10s")
    await ticks()
    await clock.advance(5)
    assert [await soon(value(1)) for value in values] == ["old", "old"]

    await clock.advance(5.1)
    for value in values:
        with pytest.raises(OSError, match="down"):
            await soon(value(1))


@pytest.mark.parametrize("what", WHAT)
async def test_it_is_loaded_anew_by_one_caller(
    cache: TierCache, other: TierCache, clock: FakeClock, what: str
) -> None:
    """The others, in both processes, have the old value meanwhile."""
    source = Source("old")
    here = await stored(cache, source, soft_timeout=0)
    there = tagged(other, source, soft_timeout=0)
    await cache.invalidate(**WHAT[what], soft="1m")
    await ticks()
    source.value = "new"
    source.close()

    assert await all_of(*(here(1) for _ in range(5)), *(there(1) for _ in range(5))) == ["old"] * 10
    await soon(source.loading(2))
    source.gate.set()
    await settled(cache)
    await clock.advance(2)

    assert await all_of(here(1), there(1)) == ["new", "new"]
    assert source.loads == 2


@pytest.mark.parametrize("named", [False, True], ids=["declared", "named"])
async def test_what_was_loaded_anew_is_fresh_again(
    cache: TierCache, other: TierCache, named: bool
) -> None:
    """Also in a process that knows of the tag only from the old entry."""
    source = Source("old")

    def value_of(home: TierCache) -> Any:
        @home.cached("value:{key}", tags=[] if named else ["t"], ttl=1000, grace=1000)
        async def value(key: int, context: LoadContext = LoadContext()) -> Any:
            if named:
                context.tags = ["t"]
            return await source.load()

        return value

    await value_of(cache)(1)
    await settled(cache)
    await cache.invalidate(tags=["t"], soft="1m")
    await ticks()
    source.value = "new"
    there = value_of(other)
    await soon(there(1))
    await settled(other)
    source.error = DOWN

    assert await soon(there(1)) == "new"
    assert await soon(value_of(cache)(1)) == "new"
    assert source.loads == 2


@pytest.mark.parametrize("what", WHAT)
async def test_it_is_dead_no_later_than_without(
    cache: TierCache, clock: FakeClock, what: str
) -> None:
    """A window that is longer than what is left of its grace adds nothing to that."""
    source = Source("old")
    value = await stored(cache, source, ttl=10, grace=5, l1_ttl=10)
    await clock.advance(14)
    await cache.invalidate(**WHAT[what], soft="1h")
    source.error = DOWN
    assert await soon(value(1)) == "old"
    await settled(cache)

    await clock.advance(2)
    with pytest.raises(OSError, match="down"):
        await soon(value(1))


@pytest.mark.parametrize("what", WHAT)
async def test_it_is_not_served_as_fresh(cache: TierCache, other: TierCache, what: str) -> None:
    """Without ``stale=True`` a call by key finds nothing."""
    await stored(cache, Source("old"))
    await other.invalidate(**WHAT[what], soft="1m")
    await ticks()

    for each in (cache, other):
        assert await each.get(KEY, "nothing") == "nothing"
        assert await each.get(KEY, stale=True) == "old"


# Hard and soft.


@pytest.mark.parametrize("first", ["hard", "soft"])
@pytest.mark.parametrize("what", WHAT)
async def test_hard_wins_in_any_order(
    cache: TierCache, other: TierCache, what: str, first: str
) -> None:
    """What is gone does not become stale."""
    await stored(cache, Source("old"))
    windows = (None, "1m") if first == "hard" else ("1m", None)
    await other.invalidate(**WHAT[what], soft=windows[0])
    await cache.invalidate(**WHAT[what], soft=windows[1])
    await ticks()

    for each in (cache, other):
        assert await each.get(KEY, "nothing", stale=True) == "nothing"


@pytest.mark.parametrize("what", WHAT)
async def test_a_soft_one_that_runs_late_revives_nothing(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, what: str
) -> None:
    """It was sent before the hard one and is carried out after it."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await stored(cache, Source("old"))
    sending = wire.hold("INVALIDATE")
    soft = asyncio.ensure_future(cache.invalidate(**WHAT[what], soft="1m"))
    await soon(sending.reached.wait())
    await other.invalidate(**WHAT[what])
    wire.let_pass("INVALIDATE")
    await soon(soft)

    for each in (cache, other):
        assert await each.get(KEY, "nothing", stale=True) == "nothing"


@pytest.mark.parametrize("what", WHAT)
async def test_a_hard_one_that_runs_late_removes_what_is_soft(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, what: str
) -> None:
    """It was sent first and is carried out last."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await stored(cache, Source("old"))
    sending = wire.hold("INVALIDATE")
    hard = asyncio.ensure_future(cache.invalidate(**WHAT[what]))
    await soon(sending.reached.wait())
    await other.invalidate(**WHAT[what], soft="1m")
    wire.let_pass("INVALIDATE")
    await soon(hard)

    for each in (cache, other):
        assert await each.get(KEY, "nothing", stale=True) == "nothing"


async def test_a_refresh_from_before_a_hard_one_is_not_stored_where_a_soft_one_ran_twice(
    cache: TierCache, other: TierCache, make_cache: MakeCache
) -> None:
    """Both times it gives an entry the same id, and the refresh has seen the first."""
    source, late = Source("oldest"), Source("old")
    await stored(cache, source)
    record = other._core.invalidator.record([KEY], (), 60.0)
    await other._core._remote.invalidate(record)
    await ticks()
    late.close()
    refresh = asyncio.ensure_future(tagged(cache, late)(1))
    await soon(late.loading())
    await other.invalidate(keys=[KEY])
    source.value = "new"
    assert await soon(tagged(other, source)(1)) == "new"
    await settled(other)
    await other._core._remote.invalidate(record)
    late.gate.set()
    await soon(refresh)
    await settled(cache)

    assert await (await make_cache()).get(KEY, "nothing", stale=True) == "new"


@pytest.mark.parametrize("what", WHAT)
async def test_the_second_soft_one_does_not_prolong_the_first(
    cache: TierCache, clock: FakeClock, what: str
) -> None:
    """What was stale already is served no longer than the first has said."""
    source = Source("old")
    value = await stored(cache, source)
    await cache.invalidate(**WHAT[what], soft="10s")
    await clock.advance(5)
    await cache.invalidate(**WHAT[what], soft="1h")
    source.error = DOWN
    await clock.advance(6)

    with pytest.raises(OSError, match="down"):
        await soon(value(1))


# Loads, a Redis that is away, blocks of code.


@pytest.mark.parametrize("what", WHAT)
async def test_a_load_in_progress_stores_nothing_fresh(
    cache: TierCache, other: TierCache, server: MemoryServer, what: str
) -> None:
    """It began before, and its process has not heard of it; its lease is gone."""
    source = Source("old")
    source.close()
    loading = asyncio.ensure_future(tagged(cache, source)(1))
    await soon(source.loading())
    server.faults.hang("listen")
    await other.invalidate(**WHAT[what], soft="1m")
    source.gate.set()
    assert await soon(loading) == "old"
    await settled(cache)

    assert await other.get(KEY, "nothing") == "nothing"
    server.faults.clear()


@pytest.mark.parametrize("what", WHAT)
async def test_one_that_had_to_wait_for_redis_is_hard(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, what: str
) -> None:
    """Nobody knows how much of the window is left by then."""
    await stored(cache, Source("old"))
    server.faults.drop("invalidate")
    assert (await cache.invalidate(**WHAT[what], soft="1m")).l2 == "queued"
    server.faults.clear()
    await clock.advance(1)

    for each in (cache, other):
        assert await each.get(KEY, "nothing", stale=True) == "nothing"


@pytest.mark.parametrize("what", WHAT)
async def test_in_l1_alone_it_is_removed(alone: TierCache, what: str) -> None:
    """There is nothing behind L1 that could be served meanwhile."""
    source = Source("old")
    value = await stored(alone, source)
    await alone.invalidate(**WHAT[what], soft="1m")
    source.value = "new"

    assert await value(1) == "new"


@pytest.mark.parametrize("what", WHAT)
async def test_inside_after_commit_it_is_soft_at_the_end(
    cache: TierCache, other: TierCache, what: str
) -> None:
    """Until then nothing has changed."""
    await stored(cache, Source("old"))
    async with cache.after_commit():
        await cache.invalidate(**WHAT[what], soft="1m")
        assert await other.get(KEY) == "old"
    await ticks()

    assert await other.get(KEY, "nothing") == "nothing"
    assert await other.get(KEY, stale=True) == "old"


@pytest.mark.parametrize("order", ["hard first", "soft first"])
@pytest.mark.parametrize("what", WHAT)
async def test_inside_after_commit_hard_wins_too(
    cache: TierCache, other: TierCache, what: str, order: str
) -> None:
    """In whichever order they were said."""
    await stored(cache, Source("old"))
    windows: list[str | None] = [None, "1m"] if order == "hard first" else ["1m", None]
    async with cache.after_commit():
        for window in windows:
            await cache.invalidate(**WHAT[what], soft=window)
    await ticks()

    for each in (cache, other):
        assert await each.get(KEY, "nothing", stale=True) == "nothing"


@pytest.mark.parametrize("order", [("10s", "1h"), ("1h", "10s")])
async def test_inside_after_commit_the_shorter_window_counts(
    cache: TierCache, clock: FakeClock, order: tuple[str, str]
) -> None:
    """Each of them has said that nothing is served for longer."""
    source = Source("old")
    value = await stored(cache, source)
    async with cache.after_commit():
        for window in order:
            await cache.invalidate(keys=[KEY], soft=window)
    source.error = DOWN
    await clock.advance(11)

    with pytest.raises(OSError, match="down"):
        await soon(value(1))


async def test_a_value_with_a_soft_part_is_not_kept(cache: TierCache, other: TierCache) -> None:
    """It is made from what is stale."""
    source = Source("old")
    value = await stored(cache, source)
    await other.invalidate(tags=["t"], soft="1m")
    await ticks()
    source.error = DOWN

    async def load() -> Any:
        return await value(1)

    assert await soon(cache.get_or_load("page", load)) == "old"
    await settled(cache)
    assert await other.get("page", "nothing", stale=True) == "nothing"


# Without a window.


def compared(cache: TierCache, source: Source, seen: list[Any], **options: Any) -> Any:
    """Return a cached function whose loader keeps what its source still has."""

    @cache.cached("value:{key}", tags=["t"], ttl=1000, **options)
    async def value(key: int, context: LoadContext = LoadContext()) -> Any:
        seen.append((context.stale_value, context.ended))
        loaded = await source.load()
        return context.not_modified() if loaded == context.stale_value else loaded

    return value


@pytest.mark.parametrize("grace", [0, 1000])
async def test_without_a_window_it_is_given_to_the_loader_alone(
    cache: TierCache, other: TierCache, clock: FakeClock, grace: int
) -> None:
    """In both processes the others wait, and nobody has it when the loader fails."""
    source, seen = Source("old"), list[Any]()
    here, there = [compared(each, source, seen, grace=grace) for each in (cache, other)]
    await here(1)
    await settled(cache)
    await there(1)
    await cache.invalidate(tags=["t"], soft=0)
    await ticks()
    assert (await cache.explain(KEY)).l2 != "fresh"
    assert await other.get(KEY, "nothing", stale=True) == "nothing"
    source.error = DOWN
    source.close()
    calls = [asyncio.ensure_future(each(1)) for each in (here, here, there, there)]
    await soon(source.loading(2))
    await clock.advance(0.1)
    assert not any(each.done() for each in calls)

    source.gate.set()
    with pytest.raises(OSError, match="down"):
        await soon(calls[0])
    await clock.advance(5)
    ended = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(each, OSError) for each in ended)
    assert seen[1] == ("old", True)
    source.error, source.value = None, "new"
    await clock.advance(5)
    assert await all_of(here(1), there(1)) == ["new", "new"]


async def test_without_a_window_the_loader_may_find_it_current(
    cache: TierCache, other: TierCache
) -> None:
    """Then it is fresh again, in both processes, and stands under its tag as before."""
    source, seen = Source("old"), list[Any]()
    here, there = [compared(each, source, seen) for each in (cache, other)]
    await here(1)
    await settled(cache)
    await other.invalidate(tags=["t"], soft=0)
    await ticks()

    assert await soon(here(1)) == "old"
    await settled(cache)
    source.error = DOWN
    assert await soon(there(1)) == "old"
    assert seen == [(MISSING, False), ("old", True)]
    source.error = None
    await cache.invalidate(tags=["t"])
    await ticks()
    source.value = "new"
    assert await all_of(here(1), there(1)) == ["new", "new"]
    assert seen[2][0] is MISSING


@pytest.mark.parametrize("order", [(0, 0), ("1m", 0), (0, "1m"), (0, None), (None, 0)])
async def test_a_second_one_leaves_nothing_to_compare(
    cache: TierCache, other: TierCache, order: Any
) -> None:
    """Soft or hard, before or after."""
    source, seen = Source("old"), list[Any]()
    here = compared(cache, source, seen)
    await here(1)
    await settled(cache)
    for window in order:
        await other.invalidate(tags=["t"], soft=window)
    await ticks()
    source.value = "new"

    assert await soon(here(1)) == "new"
    assert seen[1] == (MISSING, False)


async def test_without_a_window_a_key_is_removed(cache: TierCache, other: TierCache) -> None:
    """There is no clock by which it could be stale that short."""
    source, seen = Source("old"), list[Any]()
    here = compared(cache, source, seen)
    await here(1)
    await settled(cache)
    await other.invalidate(keys=[KEY], soft=0)
    await ticks()
    source.value = "new"

    assert await soon(here(1)) == "new"
    assert await other.get(KEY, "nothing", stale=True) in {"new", "nothing"}


async def test_what_was_loading_meanwhile_is_compared_and_not_served(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """Its process has not heard of the invalidation, and stores it."""
    source, seen = Source("old"), list[Any]()
    source.close()
    loading = asyncio.ensure_future(compared(cache, source, seen)(1))
    await soon(source.loading())
    server.faults.hang("listen")
    await other.invalidate(tags=["t"], soft=0)
    source.gate.set()
    assert await soon(loading) == "old"
    await settled(cache)

    assert await other.get(KEY, "nothing", stale=True) == "nothing"
    source.value = "new"
    assert await soon(compared(other, source, seen)(1)) == "new"
    server.faults.clear()
