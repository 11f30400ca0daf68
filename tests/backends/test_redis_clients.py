"""Clients: what a URL says is what their connections do."""

from typing import Any

import pytest

from async_tiercache.backends.redis.clients import connect


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
