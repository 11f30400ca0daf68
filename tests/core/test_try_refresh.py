"""Loads that wait for nobody else's: they begin at once, or not at all."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache._operations import Operations
from async_tiercache._options import MISSING
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import Wire

TryRefresh = Callable[[int], Coroutine[Any, Any, Any]]


def trying(function: Any) -> TryRefresh:
    """Return what loads for a cached function without waiting."""
    operations: Operations = function.__tiercache__
    return operations.try_refresh


async def test_what_nobody_loads_is_loaded(cache: TierCache, other: TierCache) -> None:
    """Anew, and for all."""
    source = Source()
    value = function_of(cache, source)
    assert await value(1) == "v1"
    await settled(cache)
    source.value = "v2"

    assert await trying(value)(1) == "v2"
    await settled(cache)
    assert await value(1) == "v2"
    assert await other.get(KEY) == "v2"
    assert source.loads == 2


async def test_what_is_being_loaded_here_is_not_waited_for(cache: TierCache) -> None:
    """Nor loaded twice."""
    source = Source()
    source.close()
    value = function_of(cache, source)
    leading = asyncio.ensure_future(value(1))
    await soon(source.loading())

    assert await soon(trying(value)(1)) is MISSING
    source.gate.set()
    assert await soon(leading) == "v1"
    assert source.loads == 1


async def test_what_is_on_its_way_into_l2_is_not_waited_for(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Its fence is held still."""
    source, wire = Source(), Wire(server)
    cache = await make_cache(client=wire.client)
    gate = wire.hold("COMMIT")
    value = function_of(cache, source)
    assert await value(1) == "v1"
    await soon(gate.reached.wait())

    wire.let_later_pass("COMMIT")
    assert await soon(trying(value)(1)) is MISSING
    gate.open.set()
    await settled(cache)
    assert source.loads == 1


@pytest.mark.parametrize("refreshed", [False, True], ids=["load", "refresh"])
async def test_what_is_being_loaded_elsewhere_is_not_waited_for(
    cache: TierCache, other: TierCache, *, refreshed: bool
) -> None:
    """Be it for the first time, or in place of what is there."""
    source = Source()
    here, there = function_of(cache, source), function_of(other, source)
    if refreshed:
        await there(1)
        await settled(other)
    source.close()
    leading = asyncio.ensure_future(there.refresh(1))
    await soon(source.loading(1 + refreshed))

    assert await soon(trying(here)(1)) is MISSING
    source.gate.set()
    assert await soon(leading) == "v1"
    await settled(other)
    assert await soon(here(1)) == "v1"
    assert source.loads == 1 + refreshed


async def test_who_has_joined_one_that_gives_way_waits_for_the_other(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """It has found the lease of another process; its readers wait for that."""
    source, wire = Source(), Wire(server)
    cache = await make_cache(client=wire.client)
    here = function_of(cache, source)
    source.close()
    leading = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    gate = wire.hold("GET")
    first = asyncio.ensure_future(trying(here)(1))
    await soon(gate.reached.wait())
    reader = asyncio.ensure_future(here(1))
    await ticks()
    wire.let_pass("GET")

    assert await soon(first) is MISSING
    await ticks()
    assert not reader.done()
    source.gate.set()
    assert await soon(leading) == "v1"
    await ticks()
    await clock.advance(1)
    assert await all_of(reader) == ["v1"]
    assert source.loads == 1


async def test_where_nothing_is_cached_it_is_loaded(make_cache: MakeCache) -> None:
    """A switch turns all of it off."""
    source = Source()
    value = function_of(await make_cache(enabled=False), source)

    assert await trying(value)(1) == "v1"
