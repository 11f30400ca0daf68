"""What hits know of the loads that run: inside of one, memory answers nothing by itself (P5).

Without a bus the epoch of an entry tells whether any load runs. What is read inside of a load here
is a hit outside of it, and the value must be gone with it all the same.
"""

import asyncio
import gc
import os
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache._inside import RUNNING, TOLD
from async_tiercache.testing import FakeClock, settled
from tests.conftest import MakeCache
from tests.core.pages import page_of
from tests.core.source import Source, function_of, soon, ticks

Read = Callable[[int], Awaitable[Any]]


class Waiting:
    """A load of a page that has begun, and waits before it reads its part.

    Args:
        cache: The page's.
        part: The part.
    """

    def __init__(self, cache: TierCache, part: Read) -> None:
        self._gate = asyncio.Event()

        async def read() -> Any:
            await self._gate.wait()
            return await part(1)

        self.page = page_of(cache, read)
        self._reading = asyncio.ensure_future(self.page())

    async def begun(self) -> "Waiting":
        """Return once the load has begun."""
        await ticks()
        assert RUNNING
        return self

    async def goes_with(self, source: Source, cache: TierCache) -> bool:
        """Let the load end; return whether the page is gone with the tag of its part."""
        self._gate.set()
        assert await soon(self._reading) == "old"
        source.value = "new"
        await cache.invalidate(tags=["part"])
        return bool(await soon(self.page()) == "new")

    async def end(self) -> None:
        """Let the load end."""
        self._gate.set()
        await soon(self._reading)


async def hit_twice(part: Read) -> None:
    """Read a part, and let it be what a compiled call finds."""
    for _ in range(3):
        await part(1)


async def test_a_part_is_no_hit_inside_of_a_load(alone: TierCache) -> None:
    """Though it was one outside, under the same epoch."""
    source = Source("old")
    part = function_of(alone, source, tags=["part"])
    await hit_twice(part)
    waiting = await Waiting(alone, part).begun()

    assert await waiting.goes_with(source, alone)


async def test_an_invalidation_during_a_load_does_not_hide_it(alone: TierCache) -> None:
    """The epoch that begins then tells of it, too."""
    source = Source("old")
    part = function_of(alone, source, tags=["part"])
    waiting = await Waiting(alone, part).begun()
    await alone.invalidate(tags=["another"])
    await hit_twice(part)

    assert await waiting.goes_with(source, alone)


async def test_the_end_of_one_load_does_not_hide_another(alone: TierCache) -> None:
    """Only that of the last one does."""
    source = Source("old")
    part = function_of(alone, source, tags=["part"])
    await hit_twice(part)
    waiting = await Waiting(alone, part).begun()
    await soon(alone.get_or_load("short", Source().load))
    await ticks()
    assert len(RUNNING) == 1

    assert await waiting.goes_with(source, alone)
    await settled(alone)
    assert alone._core.ledger.epoch.over is None


@pytest.mark.parametrize("made", ["before", "meanwhile"])
async def test_a_load_of_another_cache_is_seen(
    alone: TierCache, make_cache: MakeCache, clock: FakeClock, made: str
) -> None:
    """Also by a cache that is made meanwhile: no value is fresh longer than its parts."""
    parts: list[Read] = []

    async def make_parts() -> None:
        other = await make_cache(client=None, namespace="parts")
        parts.append(function_of(other, source, ttl=10))
        await hit_twice(parts[0])

    async def part(key: int) -> Any:
        return await parts[0](key)

    source = Source("old")
    if made == "before":
        await make_parts()
    waiting = await Waiting(alone, part).begun()
    if made == "meanwhile":
        await make_parts()
    await waiting.end()
    source.value = "new"

    await clock.advance(11)

    assert await soon(waiting.page()) == "new"


def test_a_cache_that_is_gone_is_told_nothing() -> None:
    """Nobody else holds its ledger."""
    gc.collect()
    before = len(TOLD.ledgers)
    cache = TierCache(namespace="gone")
    assert len(TOLD.ledgers) == before + 1

    del cache
    gc.collect()

    assert len(TOLD.ledgers) == before


FORKED_BY_ANOTHER_THREAD = """
    import asyncio, os
    from async_tiercache import TierCache
    from async_tiercache._inside import TOLD

    async def load() -> int:
        return 1

    async def main() -> None:
        async with TierCache(namespace="test") as cache:
            print(await cache.get_or_load("key", load), flush=True)

    TOLD.lock.acquire()  # as a thread does that notes a loader
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    else:
        asyncio.run(main())
        os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_child_that_was_forked_while_a_loader_began_can_load() -> None:
    """What another thread of the parent held then is nobody's there."""
    script = textwrap.dedent(FORKED_BY_ANOTHER_THREAD)

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True
    )

    assert (done.stdout, done.stderr) == ("1\n", "")
