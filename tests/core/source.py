"""A source of values: loaders that a test counts, gates and changes."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Final, TypeVar

from async_tiercache import BoundCached, TierCache
from async_tiercache.abc import NAMESPACE
from async_tiercache.testing import MemoryServer

T = TypeVar("T")

DEADLINE: Final = 10.0
"""How long anything in a test may take; reached only by tests that fail."""


class SpeechlessError(Exception):
    """An error that cannot be spelled."""

    def __str__(self) -> str:
        raise ZeroDivisionError

    __repr__ = __str__


class Source:
    """What a loader reads.

    Attributes:
        value: What the next load returns.
        error: What the next loads raise instead.
        loads: How many loads have begun.
        ended: How many have ended, in whichever way.
        gate: While it is not set, loads wait here; they have read `value` before.
    """

    def __init__(self, value: Any = "v1") -> None:
        self.value = value
        self.error: BaseException | None = None
        self.loads = 0
        self.ended = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self._loading = asyncio.Event()

    def close(self) -> None:
        """Let loads wait from here on."""
        self.gate.clear()

    async def loading(self, count: int = 1) -> None:
        """Return when `count` loads have begun."""
        while self.loads < count:
            self._loading.clear()
            await self._loading.wait()

    async def load(self) -> Any:
        """Read the value, then wait for the gate."""
        self.loads += 1
        self._loading.set()
        try:
            value, error = self.value, self.error
            await self.gate.wait()
            if error is not None:
                raise error
            return value
        finally:
            self.ended += 1


def function_of(cache: TierCache, source: Source, **options: Any) -> BoundCached[[int], Any]:
    """Return a cached function that reads the source; its loads run as tasks of their own."""

    @cache.cached("value:{key}", **options)
    async def value(key: int) -> Any:
        return await source.load()

    return value


def method_of(cache: TierCache, source: Source, **options: Any) -> BoundCached[[int], Any]:
    """Return a cached method that reads the source; its loads run in their callers' lives."""

    class Repository:
        @cache.cached("value:{key}", **options)
        async def value(self, key: int) -> Any:
            return await source.load()

    return Repository().value


KEY: Final = "value:1"
"""The key of ``function_of(...)(1)`` and ``method_of(...)(1)``."""


async def ticks(count: int = 40) -> None:
    """Let every task that can run get to where it waits."""
    for _ in range(count):
        await asyncio.sleep(0)


async def soon(work: Awaitable[T]) -> T:
    """Await something that must not hang."""
    async with asyncio.timeout(DEADLINE):
        return await work


async def all_of(*work: Awaitable[Any]) -> list[Any]:
    """Await several things, none of which must hang."""
    return list(await soon(asyncio.gather(*work)))


async def namespace_state(server: MemoryServer) -> bytes:
    """Return the state of the tag that all entries of the tests' namespace have."""
    state: Any = await server.client().get(f"test:{{{NAMESPACE}}}:t")
    assert state is not None
    return bytes(state)


async def cached_names(server: MemoryServer) -> list[bytes]:
    """Return the names that L2 holds for keys; those of the namespace itself are left out."""
    names: Any = await server.client().keys("*")
    return sorted(name for name in names if b"{*" not in name)
