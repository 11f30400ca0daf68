"""A cache on one loop after another: nothing waits for what went with an earlier one."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from async_tiercache import TierCache, _runner
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.core.rows import Rows, functions_of
from tests.core.source import Source, function_of, soon, ticks

_dropped: list[set[asyncio.Task[Any]]] = []
"""Kept, because a task that is collected unfinished is complained about."""


def run_and_drop(work: Coroutine[Any, Any, Any]) -> None:
    """Run on a loop that takes its unfinished tasks along, as scripts do."""
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(work)
    finally:
        _dropped.append(asyncio.all_tasks(loop))
        loop.close()


def anew(source: Source | Rows) -> None:
    """Let a source be used on another loop."""
    source.gate = asyncio.Event()
    source.gate.set()


def test_a_fence_on_its_way_back_with_an_earlier_loop_holds_nobody_up(clock: FakeClock) -> None:
    """Its lease ends by itself."""
    server = MemoryServer(clock)
    cache = TierCache(namespace="test", client=server.client(), clock=clock)
    source = Source()
    source.error = OSError("down")
    value = function_of(cache, source)

    async def fail() -> None:
        with pytest.raises(OSError, match="down"):
            await value(1)

    run_and_drop(fail())
    source.error = None
    anew(source)

    async def read() -> Any:
        reading = asyncio.ensure_future(value(1))
        await ticks()
        await clock.advance(2)
        return await soon(reading)

    assert asyncio.run(read()) == "v1"
    asyncio.run(cache.aclose())


def test_refreshes_gathered_on_an_earlier_loop_do_not_keep_later_ones_waiting(
    clock: FakeClock,
) -> None:
    """Their batch load is never called."""
    cache = TierCache(namespace="test", clock=clock)
    rows = Rows()
    rows.gate.clear()
    row, many = functions_of(cache, rows, ttl=100, early=1)
    clock.draw = 0.99

    async def gather() -> None:
        call = asyncio.ensure_future(many([1, 2]))
        await ticks()
        await clock.advance(20)
        rows.gate.set()
        await soon(call)
        await clock.advance(30)
        assert await soon(row(1)) == "row 1"
        await ticks()

    async def refresh() -> None:
        assert await soon(row(1)) == "row 1"
        await ticks()
        await clock.advance(0.05)
        await soon(settled(cache))

    asyncio.run(gather())
    anew(rows)
    asyncio.run(refresh())

    assert rows.calls == [[1, 2], [1]]
    asyncio.run(cache.aclose())


def test_refreshes_that_went_with_an_earlier_loop_do_not_count(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is a bound to those that run at the same time."""
    monkeypatch.setattr(_runner, "MAX_REFRESHES", 1)
    cache = TierCache(namespace="test", clock=clock)
    source = Source("old")
    source.close()
    value = function_of(cache, source, ttl=100, early=1)
    clock.draw = 0.99

    async def leave() -> None:
        call = asyncio.ensure_future(value(1))
        await ticks()
        await clock.advance(20)
        source.gate.set()
        await soon(call)
        await clock.advance(30)
        source.close()
        assert await soon(value(1)) == "old"
        await ticks()

    async def refresh() -> None:
        await soon(value(1))
        await soon(settled(cache))

    run_and_drop(leave())
    anew(source)
    asyncio.run(refresh())

    assert source.loads == 3
    asyncio.run(cache.aclose())


def test_the_self_check_goes_on_on_the_next_loop(clock: FakeClock) -> None:
    """So does what looks after the secret of the tokens."""
    server = MemoryServer(clock)
    cache = TierCache(
        namespace="test", client=server.client(), clock=clock, self_check=60, check_source=True
    )

    async def enter() -> None:
        await cache.__aenter__()

    async def look() -> list[str]:
        await soon(cache.get("k", None))
        await ticks()
        names = [task.get_name() for task in asyncio.all_tasks()]
        await cache.aclose()
        return names

    run_and_drop(enter())
    names = asyncio.run(look())

    assert names.count("tiercache-self-check") == 2
    assert names.count("tiercache-secret") == 1
