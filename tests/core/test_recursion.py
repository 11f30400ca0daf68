"""Recursion: a load that waits for itself raises instead of hanging."""

import asyncio
from typing import Any

import pytest

from async_tiercache import Loaded, TierCache
from async_tiercache.errors import RecursiveLoadError
from async_tiercache.testing import FakeClock, Recorder, settled
from tests.core.source import Source, soon, ticks


class Endless(Exception):
    """A loader has run more often than any loader should."""


class Depth:
    """Ends an endless recursion before it ends the test run."""

    def __init__(self) -> None:
        self.entered = 0

    def enter(self) -> None:
        self.entered += 1
        if self.entered > 10:
            raise Endless


async def test_a_function_that_reads_its_own_key_is_refused(cache: TierCache) -> None:
    """The error names the key."""

    @cache.cached("own:{n}")
    async def own(n: int) -> int:
        return await own(n)

    with pytest.raises(RecursiveLoadError) as caught:
        await soon(own(1))

    assert caught.value.key == "own:1"


async def test_a_method_that_reads_its_own_key_is_refused(cache: TierCache) -> None:
    """Methods load in the caller's task; that makes no difference."""

    class Repository:
        @cache.cached("own:{n}")
        async def own(self, n: int) -> int:
            return await self.own(n)

    with pytest.raises(RecursiveLoadError):
        await soon(Repository().own(1))


async def test_a_function_may_read_another_key_of_its_own(cache: TierCache) -> None:
    """Recursion to another key ends."""

    @cache.cached("factorial:{n}")
    async def factorial(n: int) -> int:
        return n * await factorial(n - 1) if n > 1 else 1

    assert await soon(factorial(5)) == 120


async def test_a_ring_of_keys_is_refused(cache: TierCache) -> None:
    """A loads B, which loads A."""

    @cache.cached("a:{n}")
    async def a(n: int) -> int:
        return await b(n)

    @cache.cached("b:{n}")
    async def b(n: int) -> int:
        return await a(n)

    with pytest.raises(RecursiveLoadError):
        await soon(a(1))


async def test_two_loads_that_wait_for_each_other_are_refused(cache: TierCache) -> None:
    """Both flights exist before either asks for the other: one of them is told."""
    ready = asyncio.Barrier(2)

    @cache.cached("a:{n}")
    async def a(n: int) -> int:
        await ready.wait()
        return await b(n)

    @cache.cached("b:{n}")
    async def b(n: int) -> int:
        await ready.wait()
        return await a(n)

    outcomes = await soon(asyncio.gather(a(1), b(1), return_exceptions=True))

    assert [type(outcome) for outcome in outcomes] == [RecursiveLoadError] * 2


async def test_a_ring_through_a_child_task_is_refused(cache: TierCache) -> None:
    """A loader that gathers its parts waits for them as well."""

    @cache.cached("page:{n}")
    async def page(n: int) -> int:
        return sum(await asyncio.gather(page(n), page(n)))

    with pytest.raises(RecursiveLoadError):
        await soon(page(1))


async def test_a_ring_over_two_caches_is_refused(cache: TierCache, alone: TierCache) -> None:
    """The wait is seen across caches of one process."""

    @cache.cached("a:{n}")
    async def a(n: int) -> int:
        return await b(n)

    @alone.cached("b:{n}")
    async def b(n: int) -> int:
        return await a(n)

    with pytest.raises(RecursiveLoadError):
        await soon(a(1))


async def test_the_same_key_of_another_cache_is_another_key(
    cache: TierCache, alone: TierCache
) -> None:
    """Two caches may have a family of one name, one reading through the other."""

    @alone.cached("user:{n}")
    async def inner(n: int) -> int:
        return n

    @cache.cached("user:{n}")
    async def outer(n: int) -> int:
        return await inner(n)

    assert await soon(outer(1)) == 1


async def test_loads_that_share_a_part_are_not_a_ring(cache: TierCache) -> None:
    """Two pages that wait for one part at the same time are no recursion."""
    source = Source()
    source.close()

    @cache.cached("part:{n}")
    async def part(n: int) -> Any:
        return await source.load()

    @cache.cached("page:{n}")
    async def page(n: int) -> list[Any]:
        return [n, await part(0)]

    pages = asyncio.gather(page(1), page(2))
    await ticks()
    source.gate.set()

    assert list(await soon(pages)) == [[1, "v1"], [2, "v1"]]
    assert source.loads == 1


async def test_a_recursion_in_an_early_refresh_ends(
    alone: TierCache, clock: FakeClock, events: Recorder
) -> None:
    """The refresh fails with it, and its readers keep the value they have."""
    clock.draw = 0.9
    depth = Depth()

    @alone.cached("own:{n}", ttl=100, jitter=0, early=10)
    async def own(n: int) -> int:
        depth.enter()
        await clock.advance(1)
        return await own(n) if depth.entered > 1 else 1

    await own(1)
    await clock.advance(80)

    assert await soon(own(1)) == 1
    await soon(settled(alone))
    assert [type(event.error) for event in events.of(Loaded)] == [type(None), RecursiveLoadError]


async def test_a_function_that_refreshes_its_own_key_is_refused(alone: TierCache) -> None:
    """`refresh` always loads, so a loader that calls it would never end."""
    depth = Depth()

    @alone.cached("own:{n}")
    async def own(n: int) -> int:
        depth.enter()
        return await own.refresh(n)

    with pytest.raises(RecursiveLoadError):
        await soon(own(1))


async def test_a_method_that_refreshes_its_own_key_is_refused(alone: TierCache) -> None:
    """As for functions."""
    depth = Depth()

    class Repository:
        @alone.cached("own:{n}")
        async def own(self, n: int) -> int:
            depth.enter()
            return await self.own.refresh(n)

    with pytest.raises(RecursiveLoadError):
        await soon(Repository().own(1))


async def test_a_function_that_invalidates_and_reads_its_own_key_is_refused(
    alone: TierCache,
) -> None:
    """Detaching the flight does not hide that it waits for itself."""
    depth = Depth()

    @alone.cached("own:{n}")
    async def own(n: int) -> int:
        depth.enter()
        await own.invalidate(n)
        return await own(n)

    with pytest.raises(RecursiveLoadError):
        await soon(own(1))


async def test_a_task_that_outlives_the_load_may_read_its_key(cache: TierCache) -> None:
    """What a loader started and did not wait for is no part of the load once that has ended."""
    ended = asyncio.Event()
    later: list[asyncio.Task[int]] = []

    @cache.cached("own:{n}")
    async def own(n: int) -> int:
        async def after() -> int:
            await ended.wait()
            return await own(n)

        later.append(asyncio.create_task(after()))
        return 1

    await own(1)
    await own.invalidate(1)
    ended.set()

    assert await soon(later[0]) == 1
    later[1].cancel()
