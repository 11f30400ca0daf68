"""Libraries with one job: to cache a function of one key, in memory or over Redis, and forget."""

# ruff: noqa: ARG001 - some know no Redis

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from itertools import count
from typing import Any, Final, TypeAlias
from urllib.parse import urlsplit

from async_tiercache import TierCache

SECONDS: Final = 60
THREADS: Final = 64
"""For who knows no coroutines; more than there are callers at once."""
_LIVES: Final = count()
Load: TypeAlias = Callable[[int], Awaitable[Any]]


@dataclass(frozen=True)
class Cached:
    """A cached function.

    Attributes:
        read: The function.
        invalidate: Forgets a key, if the library can.
    """

    read: Load
    invalidate: Load | None


Decorate: TypeAlias = Callable[[Load], Cached]
Library: TypeAlias = Callable[[str | None], Any]
"""Sets a library up, over the Redis at a URL or in memory, and yields what decorates."""


def _ours(**options: Any) -> Library:
    @asynccontextmanager
    async def library(url: str | None) -> AsyncGenerator[Decorate]:
        async with TierCache(url, namespace="bench") as cache:

            def decorate(load: Load) -> Cached:
                @cache.cached("row:{key}", ttl=SECONDS, **options)
                async def row(key: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - plain data
                    return await load(key)

                return Cached(row, row.invalidate)

            yield decorate

    return library


@asynccontextmanager
async def async_lru(url: str | None) -> AsyncGenerator[Decorate]:
    lru = import_module("async_lru").alru_cache

    def decorate(load: Load) -> Cached:
        cached = lru(maxsize=1_000, ttl=SECONDS)(load)

        async def invalidate(key: int) -> Any:
            return cached.cache_invalidate(key)

        return Cached(cached, invalidate)

    yield decorate


@asynccontextmanager
async def aiocache(url: str | None) -> AsyncGenerator[Decorate]:
    library = import_module("aiocache")
    where: dict[str, Any] = {}
    if url is not None:
        parts = urlsplit(url)
        where = {"cache": library.Cache.REDIS, "endpoint": parts.hostname, "port": parts.port}

    def decorate(load: Load) -> Cached:
        cached = library.cached(ttl=SECONDS, key_builder=lambda _, key: f"row:{key}", **where)(load)
        return Cached(cached, lambda key: cached.cache.delete(f"row:{key}"))

    yield decorate


@asynccontextmanager
async def cashews(url: str | None) -> AsyncGenerator[Decorate]:
    cache = import_module("cashews").Cache()
    cache.setup(url or "mem://")

    def decorate(load: Load) -> Cached:
        async def row(key: int) -> Any:
            return await load(key)

        cached = cache(ttl=SECONDS, key="row:{key}")(row)
        return Cached(cached, lambda key: cache.delete(f"row:{key}"))

    yield decorate
    await cache.close()


@asynccontextmanager
async def cachebox(url: str | None) -> AsyncGenerator[Decorate]:
    box = import_module("cachebox")

    def decorate(load: Load) -> Cached:
        store = box.TTLCache(1_000, SECONDS)

        async def invalidate(key: int) -> Any:
            return store.pop(key, None)

        return Cached(box.cached(store, key_maker=lambda key: key)(load), invalidate)

    yield decorate


@asynccontextmanager
async def theine(url: str | None) -> AsyncGenerator[Decorate]:
    memoize = import_module("theine").Memoize
    yield lambda load: Cached(memoize(1_000, timedelta(seconds=SECONDS))(load), None)


@asynccontextmanager
async def fastapi_cache(url: str | None) -> AsyncGenerator[Decorate]:
    fast = import_module("fastapi_cache").FastAPICache
    if url is None:
        backend = import_module("fastapi_cache.backends.inmemory").InMemoryBackend()
    else:
        client = import_module("redis.asyncio").Redis.from_url(url)
        backend = import_module("fastapi_cache.backends.redis").RedisBackend(client)
    fast.reset()
    fast.init(backend, prefix="bench")
    # In memory all backends of a process share one dict.
    life = next(_LIVES)

    def key_of(_: Any, __: str = "", *, args: Any, **___: Any) -> str:
        return f"{life}:{args[0]}"

    def decorate(load: Load) -> Cached:
        async def row(key: int) -> Any:
            return await load(key)

        cache = import_module("fastapi_cache.decorator").cache
        cached = cache(expire=SECONDS, key_builder=key_of)(row)

        async def invalidate(key: int) -> Any:
            with suppress(KeyError):  # What is not there is an error in memory.
                await backend.clear(key=f"{life}:{key}")

        return Cached(cached, invalidate)

    yield decorate


@asynccontextmanager
async def async_hybrid_cache(url: str | None) -> AsyncGenerator[Decorate]:
    library = import_module("async_hybrid_cache")
    shared = None
    if url is not None:
        client = import_module("redis.asyncio").Redis.from_url(url)
        shared = library.RedisDistributedCache(client)
    cache = library.AsyncHybridCache(distributed_cache=shared)

    def decorate(load: Load) -> Cached:
        cached = cache.cached(key=lambda key: f"row:{key}", scope="bench")(load)
        return Cached(cached, cached.remove_cached)

    yield decorate


@asynccontextmanager
async def dogpile(url: str | None) -> AsyncGenerator[Decorate]:
    region = import_module("dogpile.cache").make_region()
    if url is None:
        region.configure("dogpile.cache.memory", expiration_time=SECONDS)
    else:
        where = {"url": url}
        region.configure("dogpile.cache.redis", expiration_time=SECONDS, arguments=where)
    loop, threads = asyncio.get_running_loop(), ThreadPoolExecutor(THREADS)

    def decorate(load: Load) -> Cached:
        # It knows no coroutines: each caller has a thread, and the load goes back to the loop.
        @region.cache_on_arguments()  # type: ignore[untyped-decorator]
        def row(key: int) -> Any:
            loading: Any = load(key)
            return asyncio.run_coroutine_threadsafe(loading, loop).result(SECONDS)

        async def read(key: int) -> Any:
            return await loop.run_in_executor(threads, row, key)

        async def invalidate(key: int) -> Any:
            return await loop.run_in_executor(threads, row.invalidate, key)

        return Cached(read, invalidate)

    yield decorate
    threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Entry:
    """A row of the matrix.

    Attributes:
        package: What must be installed.
        library: Sets it up.
        redis: Whether it can be had over Redis.
    """

    package: str
    library: Library
    redis: bool


LIBRARIES: Final[dict[str, Entry]] = {
    "async-tiercache": Entry("async_tiercache", _ours(), redis=True),
    'async-tiercache, isolation="copy"': Entry(
        "async_tiercache", _ours(isolation="copy"), redis=True
    ),
    "cashews": Entry("cashews", cashews, redis=True),
    "aiocache": Entry("aiocache", aiocache, redis=True),
    "async-lru": Entry("async_lru", async_lru, redis=False),
    "async-hybrid-cache": Entry("async_hybrid_cache", async_hybrid_cache, redis=True),
    "cachebox": Entry("cachebox", cachebox, redis=False),
    "theine": Entry("theine", theine, redis=False),
    "fastapi-cache2": Entry("fastapi_cache", fastapi_cache, redis=True),
    "dogpile.cache, in threads": Entry("dogpile", dogpile, redis=True),
}
