"""Clients: what a URL says is what their connections do."""

from typing import Any, cast

import pytest
from redis.asyncio import Connection, ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from async_tiercache.backends.redis import RedisRemote
from async_tiercache.backends.redis.clients import connect
from async_tiercache.errors import TierError


@pytest.mark.parametrize(
    "url",
    [
        "redis://host/5",
        "redis://host?db=5",
        "unix:///socket?db=5",
        "redis+sentinel://host/shop/5",
        "redis+sentinel://host/shop?db=5",
        "redis+sentinel://host/shop/2?db=5",
    ],
)
async def test_a_url_names_the_database(url: str) -> None:
    """In its path or as a parameter; Sentinels themselves have none."""
    client: Any = connect(url)
    pool = client.connection_pool
    sentinels = pool.sentinel_manager.sentinels if "sentinel" in url else []

    assert pool.make_connection().db == 5
    assert [each.connection_pool.make_connection().db for each in sentinels] == [0] * len(sentinels)


class Refused(Connection):
    """Is refused, and counted."""

    tried = 0

    async def _connect(self) -> None:
        Refused.tried += 1
        raise ConnectionRefusedError


async def test_a_borrowed_client_does_not_repeat_what_we_repeat() -> None:
    """Nor pause in between, as it would by redis-py's defaults."""
    retry = Retry(cast("Any", NoBackoff)(), 10)
    pool: Any = ConnectionPool(connection_class=Refused, retry=retry)
    remote = RedisRemote(None, namespace="test", client=Redis(connection_pool=pool))

    with pytest.raises(TierError, match="out of reach"):
        await remote.probe()
    await remote.aclose()

    assert Refused.tried == 2
    assert pool.make_connection().retry._retries == 10
