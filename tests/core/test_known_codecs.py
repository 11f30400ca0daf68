"""What `get` understands, and what `client=` may be."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar, cast

import pytest
import redis
from redis.asyncio import Redis
from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import Sentinel

from async_tiercache import TierCache
from async_tiercache.errors import ConfigurationError
from async_tiercache.testing import MemoryServer, settled

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


async def test_get_finds_values_of_a_generic_base(cache: TierCache, other: TierCache) -> None:
    """The codec of the runtime class is known once the class has been used."""

    def repository(of: TierCache) -> Any:
        class Base(Generic[T]):
            kind = "rows"

            @of.cached("{self.kind}:{n}")
            async def row(self, n: int) -> T:
                return Row(n)  # type: ignore[return-value]

        class Rows(Base[Row]):
            pass

        return Rows()

    await repository(cache).row(1)
    await settled(cache)
    await repository(other).row(2)
    await settled(other)

    assert await other.get("rows:1") == Row(1)


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
