"""What does a hit cost in other libraries, in units of the floor that ours is held against?

In memory: `await f(x)` and `await f(x, y, z)` under each library's own decorator, set up as its
manual shows, with room for all; dogpile.cache knows no coroutines, and is called. Over Redis: one
GET and msgpack by each client, against redis-py. Each is in a process of its own, and one that is
not installed is left out.
"""

# ruff: noqa: ARG001 - what is timed takes parameters and does nothing with them

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from importlib import import_module
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from async_tiercache import L1, Policy, TierCache
from benchmarks._apart import Group, SkipGroup, require
from benchmarks._harness import Case, Effort, Sweep, zipf_keys
from benchmarks._server import client_of, server
from benchmarks.hits import (
    HOT_KEYS,
    L1_KEYS,
    TRIVIAL,
    Profile,
    Trivial,
    a_profile,
    over_one,
    over_three,
)
from benchmarks.l2 import FLOOR, KEYS, in_tasks, plain

_msgpack: Final[Any] = msgpack  # it has no types
_SECONDS: Final = 3600

Decorate = Callable[[str, Any], Any]
"""Makes a cached function of one, given the template of its key."""


async def ours() -> Decorate:
    cache = TierCache(
        namespace="bench", l1=L1(max_entries=4 * L1_KEYS), policy=Policy(ttl=_SECONDS)
    )
    return lambda template, function: cache.cached(template)(function)


async def async_lru() -> Decorate:
    lru = import_module("async_lru").alru_cache
    return lambda _, function: lru(maxsize=4 * L1_KEYS, ttl=_SECONDS)(function)


async def aiocache() -> Decorate:
    cached = import_module("aiocache").cached
    return lambda _, function: cached(ttl=_SECONDS)(function)


async def dogpile() -> Decorate:
    region = import_module("dogpile.cache").make_region()
    region.configure("dogpile.cache.memory", expiration_time=_SECONDS)
    return lambda _, function: region.cache_on_arguments()(function)


async def cashews() -> Decorate:
    cache = import_module("cashews").Cache()
    cache.setup("mem://", size=4 * L1_KEYS)
    return lambda template, function: cache(ttl=_SECONDS, key=template)(function)


async def cachebox() -> Decorate:
    box = import_module("cachebox")
    return lambda _, function: box.cached(box.TTLCache(4 * L1_KEYS, _SECONDS))(function)


async def theine() -> Decorate:
    memoize = import_module("theine").Memoize
    return lambda _, function: memoize(4 * L1_KEYS, timedelta(seconds=_SECONDS))(function)


async def fastapi_cache() -> Decorate:
    backend = import_module("fastapi_cache.backends.inmemory").InMemoryBackend()
    import_module("fastapi_cache").FastAPICache.init(backend, prefix="bench")
    cache = import_module("fastapi_cache.decorator").cache
    return lambda _, function: cache(expire=_SECONDS)(function)


async def async_hybrid_cache() -> Decorate:
    library = import_module("async_hybrid_cache")
    options = library.CacheOptions(ttl_seconds=_SECONDS, lru_max_keys=4 * L1_KEYS)
    cache = library.AsyncHybridCache(options=options)
    return lambda _, function: cache.cached()(function)


def called_one(function: Callable[[int], Any]) -> Sweep:
    async def sweep(keys: Sequence[int]) -> None:
        for key in keys:
            function(key)

    return sweep


def called_three(function: Callable[[int, str, bool], Any]) -> Sweep:
    async def sweep(keys: Sequence[int]) -> None:
        for key in keys:
            function(key, "en", True)

    return sweep


def loaders(loads: Counter[str], *, awaited: bool) -> tuple[Any, Any]:
    """Return what is cached: two coroutine functions, or functions, that count their calls."""

    def load(name: str, user_id: int) -> Profile:
        loads[name] += 1
        return a_profile(user_id)

    def one(user_id: int) -> Profile:
        return load("one", user_id)

    def three(user_id: int, language: str, full: bool) -> Profile:
        return load("three", user_id)

    async def awaited_one(user_id: int) -> Profile:
        return load("one", user_id)

    async def awaited_three(user_id: int, language: str, full: bool) -> Profile:
        return load("three", user_id)

    return (awaited_one, awaited_three) if awaited else (one, three)


def in_memory(package: str | None, set_up: Any, *, awaited: bool = True) -> Group:
    """Return the group of one library.

    Args:
        package: What it needs.
        set_up: Returns what decorates.
        awaited: Whether it caches coroutines, not functions.
    """

    @asynccontextmanager
    async def hits(effort: Effort) -> AsyncGenerator[list[Case]]:
        if package is not None:
            _require(package)
        decorate, loads = await set_up(), Counter[str]()
        one, three = loaders(loads, awaited=awaited)
        ones, threes = (over_one, over_three) if awaited else (called_one, called_three)
        by_three = "three:{user_id}:{language}:{full}"
        shapes: dict[str, tuple[Sweep, Sweep]] = {
            "f(x)": (ones(decorate("one:{user_id}", one)), over_one(Trivial.one)),
            "f(x, y, z)": (threes(decorate(by_three, three)), over_three(Trivial.three)),
        }
        for subject, _ in shapes.values():
            await subject(range(HOT_KEYS))

        def check() -> None:
            assert loads == {"one": HOT_KEYS, "three": HOT_KEYS}

        yield [
            Case(
                name=f"L1 hit, {'await ' * awaited}{shape}",
                subject=subject,
                floor=floor,
                floor_name=TRIVIAL,
                keys=zipf_keys(int(10_000 * effort.scale), among=HOT_KEYS),
                bars={"cpu": None},
                check=check,
            )
            for shape, (subject, floor) in shapes.items()
        ]

    return hits


@asynccontextmanager
async def coredis(url: str) -> AsyncGenerator[Any]:
    client = import_module("coredis").Redis.from_url(url)
    async with client:
        yield client.get


@asynccontextmanager
async def glide(url: str) -> AsyncGenerator[Any]:
    library = import_module("glide")
    host, _, port = url.rpartition("/")[0].rpartition("@")[2].rpartition("//")[2].partition(":")
    address = library.NodeAddress(host, int(port))
    client = await library.GlideClient.create(library.GlideClientConfiguration([address]))
    try:
        yield client.get
    finally:
        await client.close()


def over_redis(package: str, connected: Any) -> Group:
    """Return the group of one client."""

    @asynccontextmanager
    async def reads(effort: Effort) -> AsyncGenerator[list[Case]]:
        _require(package)
        async with server() as url, client_of(url) as client, connected(url) as get:
            for key in range(KEYS):
                await client.set(f"plain:{key}", _msgpack.packb(plain(key)))

            def sweep_of(get: Any) -> Sweep:
                async def sweep(keys: Sequence[int]) -> None:
                    for key in keys:
                        assert _msgpack.unpackb(await get(f"plain:{key}"))["user_id"] == key

                return sweep

            both = sweep_of(get), sweep_of(client.get)
            yield [
                Case(
                    name=f"GET, 200 B, {tasks} task{'s' * (tasks > 1)}",
                    subject=in_tasks(both[0], tasks),
                    floor=in_tasks(both[1], tasks),
                    floor_name=FLOOR,
                    keys=zipf_keys(int(awaits * effort.scale), among=KEYS),
                    bars={"wall": None, "cpu": None},
                    check=_fine,
                )
                for tasks, awaits in ((1, 2_000), (16, 4_000), (256, 8_000))
            ]

    return reads


def _require(package: str) -> None:
    """Skip what is not installed, or does not go with what is.

    Raises:
        SkipGroup: It is so.
    """
    require(package)
    try:
        import_module(package)
    except ImportError as error:
        raise SkipGroup(f"{package.replace('_', '-')} cannot be imported: {error}") from error


def _fine() -> None:
    """Find nothing wrong: each value was looked at when it came."""


GROUPS: Final[dict[str, Group]] = {
    "async-tiercache": in_memory(None, ours),
    "async-lru": in_memory("async_lru", async_lru),
    "cachebox": in_memory("cachebox", cachebox),
    "async-hybrid-cache": in_memory("async_hybrid_cache", async_hybrid_cache),
    "theine": in_memory("theine", theine),
    "aiocache": in_memory("aiocache", aiocache),
    "fastapi-cache2": in_memory("fastapi_cache", fastapi_cache),
    "dogpile.cache": in_memory("dogpile", dogpile, awaited=False),
    "cashews": in_memory("cashews", cashews),
    "coredis": over_redis("coredis", coredis),
    "valkey-glide": over_redis("glide", glide),
}
