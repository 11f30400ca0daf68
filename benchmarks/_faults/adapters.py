"""The caches under test, each behind the same four words.

`ours` uses the public interface only. `naive` is what one writes without a library: a dict, SETEX
and a channel. `cashews` is the rival with a memory tier; it must be installed.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.util import find_spec
from typing import Any, Final, Protocol, TypeAlias

from redis.asyncio import Redis
from redis.asyncio.sentinel import Sentinel
from redis.exceptions import RedisError

from async_tiercache import Policy, TierCache
from async_tiercache.errors import ConfigurationError
from benchmarks._faults.source import Source

BOUND: Final = 2.0
"""How old a read may be where messages are lost, in seconds; the default of `TierCache`."""
NAMESPACE: Final = "faults"

_TTL: Final = 60.0  # outlives every cell: what is wrong must not expire before it is seen
_NAIVE_L1_TTL: Final = 30.0
_redis: Final[Any] = Redis  # its methods have no types
_sentinel: Final[Any] = Sentinel


class Adapter(Protocol):
    """One cache in one process."""

    async def read(self, row: int) -> Any:
        """Return the value of a row, as the source's `load` gave it."""
        ...

    async def invalidate(self, row: int) -> bool:
        """Forget a row; return whether Redis confirmed it, False if it will be told later."""
        ...

    def counts(self) -> dict[str, int]:
        """Return what the cache counted of the races it went through."""
        ...


Opener: TypeAlias = Callable[[str, Source], AbstractAsyncContextManager[Adapter]]
"""Opens an adapter over a Redis URL and a source, in the process that will use it."""


def is_tagged(row: int) -> bool:
    """Return whether a row is invalidated by tag where an adapter has tags."""
    return row % 3 == 0


def is_refreshed(row: int) -> bool:
    """Return whether a row's values go stale within the cell, to be refreshed in the background."""
    return row % 3 == 1


def group_of(row: int) -> int:
    """Return the tag of a tagged row, which it shares with one other."""
    return row // 6


# Ours.


def counted(statistics: Any) -> dict[str, int]:
    """Return what our statistics say of races; what they do not count is 0."""
    return {
        "overtaken": statistics.not_stored.get("overtaken", 0),
        "detached": getattr(statistics, "left_flights", 0),
        "bypassed": getattr(statistics, "l1_bypasses", 0),
    }


class Ours:
    """`TierCache` with three families: by key, by tag, and refreshed in the background."""

    def __init__(self, cache: TierCache, source: Source) -> None:
        self._cache = cache
        self.has_tags = True
        try:
            self._tagged = cache.cached("tagged:{row}:{group}", tags=["group:{group}"])(
                self._loader(source)
            )
        except ConfigurationError:
            self.has_tags = False
            self._tagged = cache.cached("tagged:{row}:{group}")(self._loader(source))
        refreshed = cache.cached("refreshed:{row}", ttl="700ms", grace="30s", early=1.0)

        async def plain(row: int) -> dict[str, Any]:
            return await source.load(row)

        self._plain = cache.cached("plain:{row}")(plain)
        self._refreshed = refreshed(plain)

    @staticmethod
    def _loader(source: Source) -> Any:
        async def tagged(row: int, group: int) -> dict[str, Any]:  # noqa: ARG001 - in the key
            return await source.load(row)

        return tagged

    async def read(self, row: int) -> Any:
        if is_tagged(row):
            return await self._tagged(row, group_of(row))
        return await (self._refreshed if is_refreshed(row) else self._plain)(row)

    async def invalidate(self, row: int) -> bool:
        keys: list[str] = []
        tags: list[str] = []
        if is_tagged(row) and self.has_tags:
            tags = [f"group:{group_of(row)}"]
        elif is_tagged(row):
            keys = [f"tagged:{row}:{group_of(row)}"]
        else:
            keys = [f"{'refreshed' if is_refreshed(row) else 'plain'}:{row}"]
        report = await self._cache.invalidate(keys=keys, tags=tags)
        return report.l2 == "done"

    def counts(self) -> dict[str, int]:
        return counted(self._cache.statistics())


@asynccontextmanager
async def ours(url: str, source: Source) -> AsyncGenerator[Adapter]:
    # Down and up again is what is asked for: no news.
    logging.getLogger("async_tiercache").setLevel(logging.CRITICAL)
    policy = Policy(ttl=_TTL, l1_ttl=_TTL)
    async with TierCache(url, namespace=NAMESPACE, policy=policy, staleness_bound=BOUND) as cache:
        yield Ours(cache, source)


# Without a library.


class Naive:
    """A dict with a TTL, SETEX, and a message to the others on each write."""

    def __init__(self, client: Any, source: Source) -> None:
        self._client = client
        self._source = source
        self._l1: dict[str, tuple[float, Any]] = {}

    async def read(self, row: int) -> Any:
        key = f"{NAMESPACE}:{row}"
        until, value = self._l1.get(key, (0.0, None))
        if time.monotonic() < until:
            return value
        stored = None
        with contextlib.suppress(RedisError, OSError):
            stored = await self._client.get(key)
        if stored is None:
            value = await self._source.load(row)
            with contextlib.suppress(RedisError, OSError):
                await self._client.setex(key, int(_TTL), json.dumps(value))
        else:
            value = json.loads(stored)
        self._l1[key] = (time.monotonic() + _NAIVE_L1_TTL, value)
        return value

    async def invalidate(self, row: int) -> bool:
        key = f"{NAMESPACE}:{row}"
        self._l1.pop(key, None)
        await self._client.delete(key)
        await self._client.publish(f"{NAMESPACE}:bus", key)
        return True

    def counts(self) -> dict[str, int]:
        return {}

    async def listen(self) -> None:
        """Drop what other processes have written."""
        while True:
            with contextlib.suppress(RedisError, OSError):
                async with self._client.pubsub() as channel:
                    await channel.subscribe(f"{NAMESPACE}:bus")
                    async for message in channel.listen():
                        if message["type"] == "message":
                            self._l1.pop(message["data"].decode(), None)
            await asyncio.sleep(0.1)


@asynccontextmanager
async def naive(url: str, source: Source) -> AsyncGenerator[Adapter]:
    async with _client_of(url) as client:
        adapter = Naive(client, source)
        listening = asyncio.create_task(adapter.listen(), name="bench: naive bus")
        try:
            yield adapter
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)


def _client_of(url: str) -> Any:
    scheme, _, rest = url.partition("://")
    if scheme != "redis+sentinel":
        return _redis.from_url(url)
    hosts, service, database = rest.split("/")
    addresses = [(host, int(port)) for host, port in (one.split(":") for one in hosts.split(","))]
    return _sentinel(addresses).master_for(service, db=int(database))


# A rival.


class Cashews:
    """cashews with its client-side cache, which knows tags."""

    def __init__(self, cache: Any, source: Source) -> None:
        self._cache = cache
        options: dict[str, Any] = {"ttl": _TTL, "key": "row:{row}"}

        async def plain(row: int) -> Any:
            return await source.load(row)

        async def tagged(row: int, group: int) -> Any:  # noqa: ARG001 - in the tag
            return await source.load(row)

        self._plain = cache(**options)(plain)
        self._tagged = cache(**options, tags=["group:{group}"])(tagged)

    async def read(self, row: int) -> Any:
        if is_tagged(row):
            return await self._tagged(row, group_of(row))
        return await self._plain(row)

    async def invalidate(self, row: int) -> bool:
        if is_tagged(row):
            await self._cache.delete_tags(f"group:{group_of(row)}")
        else:
            await self._cache.delete(f"row:{row}")
        return True

    def counts(self) -> dict[str, int]:
        return {}


@asynccontextmanager
async def cashews(url: str, source: Source) -> AsyncGenerator[Adapter]:
    from cashews import Cache

    logging.getLogger("cashews").setLevel(logging.CRITICAL)
    cache: Any = Cache()
    # Its messages do not arrive over RESP3, the default of redis-py.
    cache.setup(url, client_side=True, protocol=2)
    await cache.init()
    try:
        yield Cashews(cache, source)
    finally:
        await cache.close()


OPENERS: Final[dict[str, Opener]] = {"ours": ours, "naive": naive, "cashews": cashews}


def why_not(adapter: str, topology: str) -> str:
    """Return why an adapter cannot run over a topology here, or nothing."""
    if adapter == "cashews" and find_spec("cashews") is None:
        return "cashews is not installed"
    known = {"ours": {"sentinels", "cluster"}, "naive": {"sentinels"}, "cashews": set[str]()}
    if topology in {"sentinels", "cluster"} - known[adapter]:
        return f"{adapter} does not know the {topology}"
    return ""
