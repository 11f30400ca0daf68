"""Typed uses of the public face: accepted as they stand, or refused where the line says so.

Where a use is wrong its line ignores the error; both checkers are told to report an ignored error
that is none. `test_types.py` runs them over this file, which is never imported.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Generic, TypeVar, assert_type

import pytest
import pytest_asyncio
from hypothesis import strategies as st

from async_tiercache import (
    MISSING,
    Histogram,
    LoadContext,
    Loaded,
    Missing,
    Report,
    Statistics,
    TierCache,
)
from async_tiercache.abc import Clock, Codec, Observer, Remote
from async_tiercache.codecs import codec_for
from async_tiercache.errors import InvalidationQueuedError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder
from async_tiercache.testing.contracts import CodecContract, RemoteContract
from async_tiercache_integrations.fastapi import cached_response

cache = TierCache(namespace="types")


@cache.cached("now")
async def nothing() -> int:
    return 1


@cache.cached("user:{user_id}:{full}", ttl="5m")
async def user(user_id: int, *, full: bool = False) -> str:
    return ""


@cache.invalidates(keys=["user:{user_id}:True"])
async def rename(user_id: int, name: str) -> bytes:
    return b""


@user.batch
async def users_of(user_ids: list[int], *, full: bool = False) -> dict[int, str]:
    return {}


@asynccontextmanager
async def opened() -> AsyncGenerator["Users"]:
    yield Users()


class Users:
    @cache.cached("users:{user_id}:{order}", via=opened, scope=lambda self: type(self).__name__)
    async def profile(self, user_id: int, order: str = "asc") -> list[str]:
        return []

    @profile.batch(over="user_id")
    async def profiles(self, ids: list[int], order: str = "asc") -> dict[int, list[str]]:
        return {}

    @cache.cached("tag:{user_id}")
    async def tag(self, user_id: int, context: LoadContext = LoadContext()) -> str:
        return context.not_modified() if context.etag else "x"

    @cache.invalidates(keys=["users:{user_id}:asc"])
    async def rename(self, user_id: int) -> None: ...


T = TypeVar("T")


class Repository(Generic[T]):
    @cache.cached()
    async def get(self, key: int) -> T:
        raise NotImplementedError

    @get.batch
    async def get_all(self, keys: list[int]) -> dict[int, T]:
        raise NotImplementedError

    @staticmethod
    @cache.cached("count:{table}")
    async def count(table: str) -> int:
        return 0

    @property
    @cache.cached("name:{self.table}")
    async def name(self) -> str:
        return ""


class Numbers(Repository[float]): ...


async def generic_base(numbers: Numbers) -> None:
    assert_type(await numbers.get(1), float)
    assert_type(await numbers.get.refresh(1), float)
    assert_type(numbers.get.peek(1), float | Missing)
    assert_type(await numbers.get_all([1]), dict[int, float])
    assert_type(await Numbers.count("x"), int)
    assert_type(Numbers.count.key("x"), str)
    assert_type(await numbers.name, str)


async def functions() -> None:
    assert_type(await nothing(), int)
    assert_type(await user(1), str)
    assert_type(await user(user_id=1, full=True), str)
    assert_type(await rename(1, name="x"), bytes)
    assert_type(await user.invalidate(1), Report)
    assert_type(await user.refresh(1, full=True), str)
    assert_type(await user.put("x", 1, full=True), Report)
    assert_type(user.peek(1), str | Missing)
    assert_type(user.key(1), str)
    assert_type(await nothing.invalidate(), Report)
    assert_type(nothing.peek(), int | Missing)
    assert_type(await nothing.put(1), Report)
    found = user.peek(1)
    if found is not MISSING:
        assert_type(found, str)


async def methods(users: Users) -> None:
    assert_type(await users.profile(1), list[str])
    assert_type(await users.profile(user_id=1, order="desc"), list[str])
    assert_type(await users.profile.invalidate(1), Report)
    assert_type(await users.profile.refresh(1, "desc"), list[str])
    assert_type(await users.profile.put([""], 1), Report)
    assert_type(users.profile.peek(1), list[str] | Missing)
    assert_type(users.profile.key(user_id=1), str)
    assert_type(await users.rename(1), None)


async def batches(users: Users) -> None:
    assert_type(await users_of([1], full=True), dict[int, str])
    assert_type(await users_of.invalidate([1]), Report)
    assert_type(await users.profiles([1], "desc"), dict[int, list[str]])
    assert_type(await users.profiles.invalidate(ids=[1]), Report)
    assert_type(await Users.profiles(users, [1]), dict[int, list[str]])
    assert_type(await users.tag(1), str)


async def through_the_class(users: Users) -> None:
    assert_type(await Users.profile(users, 1), list[str])
    assert_type(await Users.profile.invalidate(users, 1), Report)
    assert_type(Users.profile.key(users, 1), str)


async def the_cache() -> None:
    async def load() -> float:
        return 1.0

    async def load_with(context: LoadContext) -> int:
        context.ttl = "5s"
        return 1

    async def load_many(keys: list[str]) -> dict[str, float]:
        return dict.fromkeys(keys, 1.0)

    assert_type(await cache.get_or_load("k", load, ttl=5), float)
    assert_type(await cache.get_or_load("k", load_with, isolation="copy"), int)
    assert_type(await cache.get_or_load_many(["k"], load_many), dict[str, float])
    assert_type(await cache.get_many(["k"]), dict[str, Any])
    async with cache.after_commit():
        assert_type(cache.statistics().load_times, Histogram)
    assert_type(await cache.set("k", 1, ttl="5m"), Report)
    assert_type(await cache.invalidate(keys=["k"]), Report)
    try:
        await cache.invalidate(keys=["k"], strict=True)
    except InvalidationQueuedError as error:
        assert_type(error.report, Report)
    assert_type(cache.statistics(), Statistics)
    value: Any = await cache.get("k")
    assert_type(await cache.get("k", None), Any | None)
    async with cache.writing("k") as writing:
        writing.set(value)


async def refused_of_a_function() -> None:
    await user("1")  # type: ignore[arg-type]
    await user()  # type: ignore[call-arg]
    await user(1, True)  # type: ignore[call-arg]
    await user(1, fulll=True)  # type: ignore[call-arg]
    await nothing(1)  # type: ignore[call-arg]
    await user.invalidate("1")  # type: ignore[arg-type]
    await user.refresh()  # type: ignore[call-arg]
    await user.put(1, 1)  # type: ignore[arg-type]
    await user.put("x", "1")  # type: ignore[arg-type]
    user.peek("1")  # type: ignore[arg-type]
    user.key("1")  # type: ignore[arg-type]


async def refused_of_a_batch(users: Users) -> None:
    await users_of(["1"])  # type: ignore[list-item]
    await users_of([1], True)  # type: ignore[call-arg]
    await users.profiles(["1"])  # type: ignore[list-item]
    await users.profiles.invalidate()  # type: ignore[call-arg]


async def refused_of_a_method(users: Users) -> None:
    await users.profile("1")  # type: ignore[arg-type]
    await users.profile()  # type: ignore[call-arg]
    await users.profile.invalidate("1")  # type: ignore[arg-type]
    await users.profile.refresh(1, 2)  # type: ignore[arg-type]
    await users.profile.put("x", 1)  # type: ignore[arg-type]
    await users.profile.put([""], "1")  # type: ignore[arg-type]
    users.profile.peek("1")  # type: ignore[arg-type]
    users.profile.key(nobody=1)  # type: ignore[call-arg]
    await users.rename("1")  # type: ignore[arg-type]


async def refused_through_the_class(users: Users) -> None:
    await Users.profile(users, "1")  # type: ignore[arg-type]
    await Users.profile.invalidate(users, "1")  # type: ignore[arg-type]
    Users.profile.key(users, "1")  # type: ignore[arg-type]


async def refused_of_the_cache() -> None:
    def load() -> int:
        return 1

    await cache.get_or_load("k", load)  # type: ignore[arg-type]
    cache.cached("k", tll=5)  # type: ignore[call-arg]
    cache.cached("k", on_abandon="stop")  # type: ignore[arg-type]
    await cache.invalidate(keys=[1])  # type: ignore[list-item]
    TierCache()  # type: ignore[call-arg]


def not_async(user_id: int) -> int:
    return user_id


cache.cached("k")(not_async)  # type: ignore[arg-type]


# The testing kit.


async def doubles(clock: FakeClock, events: Recorder) -> None:
    server = MemoryServer(clock)
    server.faults.drop("commit", "take", times=2)
    server.faults.at_random(0.1, clock.random)
    assert_type(await events.wait_for(Loaded), list[Loaded])
    time: Clock = clock
    observer: Observer = events
    TierCache(namespace="t", client=server.client(), clock=time, observers=[observer])

    server.faults.drop("comit")  # type: ignore[arg-type]
    server.faults.refuse("take", error=OSError())  # type: ignore[arg-type]


class MyRemote(RemoteContract):
    deadline = 1

    @pytest_asyncio.fixture
    async def remote(self, made: Remote) -> AsyncIterator[Remote]:
        yield made
        await made.aclose()

    @pytest_asyncio.fixture
    async def lost(self) -> AsyncIterator[Remote]:
        yield await refused()


class MyOtherRemote(RemoteContract):
    @pytest.fixture
    def lost(self, made: Remote) -> Remote:
        return made


@cached_response("1m", tags=["user:{user_id}"], stale_while_revalidate=30)
async def endpoint(user_id: int, *, full: bool = False) -> str:
    return ""


@cached_response("1m")
def plain_endpoint(user_id: int) -> int:
    return user_id


async def endpoints() -> None:
    assert_type(await endpoint(1, full=True), str)
    assert_type(plain_endpoint(1), int)
    await endpoint("1")  # type: ignore[arg-type]
    plain_endpoint()  # type: ignore[call-arg]


async def refused() -> Remote:
    return object()  # type: ignore[return-value]


class MyCodec(CodecContract):
    fingerprint = b"12345678"

    def codec(self) -> Codec:
        return codec_for(int)

    def values(self) -> st.SearchStrategy[int]:
        return st.integers()

    def reshaped(self) -> Sequence[Codec]:
        return [codec_for(str)]


class MyWrongCodec(CodecContract):
    fingerprint = "12345678"  # type: ignore[assignment]

    def codec(self) -> int:  # type: ignore[override]
        return 1
