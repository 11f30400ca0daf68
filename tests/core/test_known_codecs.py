"""What `get` and annotated functions understand, and what `client=` may be."""

import asyncio
import dataclasses
from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import Sentinel

from async_tiercache import MISSING, TierCache
from async_tiercache.errors import ConfigurationError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import Source, soon, ticks
from tests.core.wire import Wire

T = TypeVar("T")


@dataclass
class Row:
    """A value that only its own codec understands."""

    id: int


async def test_an_annotation_that_cannot_be_resolved_does_not_disturb_get(cache: TierCache) -> None:
    """Another function's mistake is not the reader's."""

    @cache.cached("unresolved:{n}")
    async def unresolved(n: int) -> "Unknown":  # type: ignore[name-defined]  # noqa: F821
        raise AssertionError(n)

    await cache.set("plain", 1)

    assert await cache.get("plain") == 1


def repository(of: TierCache) -> Any:
    """Return an object whose cached method is that of a generic base."""

    class Base(Generic[T]):
        kind = "rows"

        @of.cached("{self.kind}:{n}")
        async def row(self, n: int) -> T:
            return Row(n)  # type: ignore[return-value]

    class Rows(Base[Row]):
        pass

    return Rows()


async def test_get_finds_values_of_a_generic_base(cache: TierCache, other: TierCache) -> None:
    """The codec of the runtime class is known once the class has been used."""
    await repository(cache).row(1)
    await settled(cache)
    await repository(other).row(2)
    await settled(other)

    assert await other.get("rows:1") == Row(1)


@pytest.mark.parametrize("late", [False, True], ids=["known before", "known later"])
async def test_by_key_nobody_guesses_between_two_classes_of_one_shape(
    make_cache: MakeCache, late: bool
) -> None:
    """The fingerprint leaves modules out; what was guessed before stays with nobody."""
    orders = dataclasses.make_dataclass("Item", [("id", int)])
    catalog = dataclasses.make_dataclass("Item", [("id", int)])
    writer, reader = await make_cache(), await make_cache()

    def decorated(cache: TierCache, cls: type, template: str) -> Any:
        async def item(n: int) -> Any:
            return cls(n)

        item.__annotations__["return"] = cls
        return cache.cached(template)(item)

    await decorated(writer, catalog, "product:{n}")(1)
    await settled(writer)
    decorated(reader, orders, "order:{n}")
    await settled(reader)
    if late:
        assert type(await reader.get("product:1")) is orders
    product = decorated(reader, catalog, "product:{n}")

    assert await reader.get("product:1", None) is None
    assert await reader.get_many(["product:1"]) == {}
    assert type(await product(1)) is catalog
    assert type(await reader.get("product:1")) is catalog


async def test_a_class_that_turns_up_while_l2_is_asked_leaves_nothing_guessed(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """What was asked for one class is not kept, as it may be of the other."""
    first = dataclasses.make_dataclass("Item", [("id", int)])
    second = dataclasses.make_dataclass("Item", [("id", int)])
    wire = Wire(server)
    reader = await make_cache(client=wire.client)

    async def item(n: int) -> Any:
        return first(n)

    item.__annotations__["return"] = first
    await reader.cached("item:{n}")(item)(1)
    await settled(reader)
    reader._core.store.clear()  # type: ignore[union-attr]
    held = wire.hold_reply("GET")
    reading = asyncio.ensure_future(reader.get("item:1", None))
    await soon(held.reached.wait())

    async def other(n: int) -> Any:
        raise AssertionError(n)

    other.__annotations__["return"] = second
    reader.cached("other:{n}")(other)
    wire.let_pass("GET")

    assert await soon(reading) is None
    assert "item:1" not in reader._core.store  # type: ignore[operator]


async def test_peek_finds_values_of_a_generic_base(cache: TierCache) -> None:
    """It compares the schema of the runtime class."""
    rows = repository(cache)
    await rows.row(1)
    await settled(cache)

    assert rows.row.peek(1) == Row(1)


@dataclass
class User:
    """What the annotated functions of these tests return."""

    name: str


def users_of(cache: TierCache) -> tuple[Any, Any]:
    """Return a cached function and its batch form, whose key is also set as plain data."""

    @cache.cached("user:{number}")
    async def user(number: int) -> User:
        return User("loaded")

    @user.batch
    async def users(numbers: list[int]) -> dict[int, User]:
        return {number: User("loaded") for number in numbers}

    return user, users


@pytest.mark.parametrize("tiers", ["both", "l1"])
@pytest.mark.parametrize("way", ["call", "batch", "peek"])
async def test_what_was_set_in_another_type_is_a_miss(
    cache: TierCache, alone: TierCache, tiers: str, way: str
) -> None:
    """In memory as in L2, and also where a call path knew the key already."""
    chosen = cache if tiers == "both" else alone
    user, users = users_of(chosen)
    for _ in range(2):
        await chosen.set("user:1", {"name": "set"})
        if way == "call":
            assert await user(1) == await user(1) == User("loaded")
        elif way == "batch":
            assert await users([1]) == {1: User("loaded")}
        else:
            assert user.peek(1) is MISSING
        await settled(chosen)


@pytest.mark.parametrize("tiers", ["both", "l1"])
@pytest.mark.parametrize("way", ["call", "batch"])
async def test_a_load_of_another_type_is_not_joined(
    cache: TierCache, alone: TierCache, clock: FakeClock, tiers: str, way: str
) -> None:
    """Each caller has what its own annotation says."""
    chosen = cache if tiers == "both" else alone
    user, users = users_of(chosen)
    source = Source({"name": "plain"})
    source.close()
    plain = asyncio.ensure_future(chosen.get_or_load("user:1", source.load))
    await soon(source.loading())
    typed = asyncio.ensure_future(user(1) if way == "call" else users([1]))
    await ticks()
    source.gate.set()
    await ticks()
    await clock.advance(1)

    assert await soon(plain) == {"name": "plain"}
    assert await soon(typed) == (User("loaded") if way == "call" else {1: User("loaded")})


async def test_decorating_again_and_again_leaves_one_family_behind(alone: TierCache) -> None:
    """A function may be decorated in a constructor, as often as objects are made."""
    known = len(alone._families.understood)

    for _ in range(100):

        @alone.cached("again:{n}")
        async def again(n: int) -> dict[str, int]:
            return {"n": n}

    assert len(alone._families.understood) == known + 1
    assert list(alone.families) == ["get_or_load", "again:{n}"]


@pytest.mark.parametrize(
    "client",
    [
        pytest.param(redis.Redis(), id="sync"),
        pytest.param(Redis(decode_responses=True), id="decoding"),
        pytest.param(RedisCluster("127.0.0.1", decode_responses=True), id="decoding cluster"),
        pytest.param(redis.RedisCluster.__new__(redis.RedisCluster), id="sync cluster"),
        pytest.param(cast("Any", Sentinel)([("127.0.0.1", 1)]).slave_for("service"), id="replicas"),
        pytest.param(object(), id="something else"),
    ],
)
def test_a_client_that_cannot_serve_is_refused(client: Any) -> None:
    """At once, and not as an L2 that is never there."""
    with pytest.raises(ConfigurationError, match="client="):
        TierCache(namespace="test", client=client)


def test_a_url_beside_a_client_is_refused(server: MemoryServer) -> None:
    """One of them would be ignored."""
    with pytest.raises(ConfigurationError, match="both"):
        TierCache("redis://localhost", namespace="test", client=server.client())
