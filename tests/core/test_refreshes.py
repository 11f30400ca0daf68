"""`f.refresh`: a load anew, whatever is stored, and who shares it."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import Source, all_of, function_of, method_of, soon, ticks
from tests.core.wire import Wire


async def test_a_refresh_loads_although_the_value_is_fresh(cache: TierCache) -> None:
    """And everybody has the new value afterwards."""
    source = Source("old")
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    source.value = "new"

    assert await value.refresh(1) == "new"
    await settled(cache)

    assert await value(1) == "new"


async def test_a_refresh_that_fails_is_an_error(cache: TierCache) -> None:
    """Who asks for a new value is not given the old one; other readers are."""
    source = Source("old")
    value = function_of(cache, source, grace=50)
    await value(1)
    await settled(cache)
    source.error = OSError("the database is down")

    with pytest.raises(OSError, match="database"):
        await value.refresh(1)

    assert await value(1) == "old"


async def test_a_refresh_loads_although_l2_fails_in_between(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The mark could not be set; the old value is still not an answer."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    source = Source("old")
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    source.value = "new"
    wire.cut("SET")

    assert await soon(value.refresh(1)) == "new"


async def test_two_refreshes_at_once_are_both_answered_anew(
    cache: TierCache, clock: FakeClock
) -> None:
    """The second may have the first one's value, but none from before itself."""
    source = Source("old")
    value = function_of(cache, source)
    await value(1)
    await settled(cache)
    source.value = "new"

    refreshing = [asyncio.ensure_future(value.refresh(1)) for _ in range(2)]
    await clock.advance(2)

    assert await all_of(*refreshing) == ["new", "new"]


@pytest.mark.parametrize("of", [function_of, method_of], ids=["a function", "a method"])
async def test_refreshes_share_the_error_of_a_load_that_begins_after_all_of_them(
    cache: TierCache, clock: FakeClock, of: Any
) -> None:
    """Else each would run the loader again after the one before has failed."""
    source = Source("old")
    value = of(cache, source)
    await value(1)
    await settled(cache)
    source.error = OSError("the database is down")
    source.close()
    first = asyncio.ensure_future(value.refresh(1))
    await soon(source.loading(2))

    later = [asyncio.ensure_future(value.refresh(1)) for _ in range(5)]
    await ticks()
    source.gate.set()
    await clock.advance(5)
    errors = await soon(asyncio.gather(first, *later, return_exceptions=True))

    assert [str(error) for error in errors] == ["the database is down"] * 6
    # Whoever may have got the error of another one's object tries once more, again together.
    assert source.loads == (3 if of is function_of else 4)
    assert await value(1) == "old"


async def test_refreshes_share_the_value_of_a_load_that_begins_after_all_of_them(
    cache: TierCache, clock: FakeClock
) -> None:
    """None of them has the value of the load that was under way."""
    source = Source("old")
    value = function_of(cache, source)
    source.close()
    first = asyncio.ensure_future(value.refresh(1))
    await soon(source.loading())
    source.value = "new"

    later = [asyncio.ensure_future(value.refresh(1)) for _ in range(5)]
    await ticks()
    source.gate.set()
    await clock.advance(1)

    assert await all_of(first, *later) == ["old", *["new"] * 5]
    assert source.loads == 2


async def test_a_refresh_that_shares_another_has_nothing_that_was_loaded_before_it(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The first would take what another process has begun to load meanwhile; the second may not."""
    theirs, ours = Source("old"), Source("newest")
    wire = Wire(server)
    other, cache = await make_cache(client=wire.client), await make_cache()
    refreshed, value = function_of(other, theirs), function_of(cache, ours)
    await refreshed(1)
    await settled(other)
    theirs.value = "new"
    mark = wire.hold_reply("SET")
    refreshing = asyncio.ensure_future(refreshed.refresh(1))
    await soon(mark.reached.wait())
    first = asyncio.ensure_future(value.refresh(1))
    await ticks()
    await clock.advance(0.001)
    theirs.close()
    wire.let_pass("SET")
    await soon(theirs.loading(2))
    await clock.advance(0.001)

    second = asyncio.ensure_future(value.refresh(1))
    await ticks()
    theirs.gate.set()
    assert await soon(refreshing) == "new"
    await settled(other)
    await clock.advance(0.5)

    assert await all_of(first, second) == ["newest", "newest"]
    assert ours.loads == 1


async def test_a_refresh_does_not_join_a_load_that_began_before(cache: TierCache) -> None:
    """That load may have read the source before the change that the caller knows of."""
    source = Source("old")
    source.close()
    value = function_of(cache, source)
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())

    source.value = "new"
    await value.invalidate(1)
    refreshing = asyncio.ensure_future(value.refresh(1))
    await soon(source.loading(2))
    source.gate.set()

    assert await all_of(before, refreshing) == ["new", "new"]
