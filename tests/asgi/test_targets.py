"""What a request is for, as servers tell it, and what else of its origin a change names."""

from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Origin, fetch

FRESH = ("cache-control", "max-age=60")


@pytest.fixture
def origin() -> Origin:
    """Return an application whose responses are fresh for a minute."""
    return Origin(FRESH)


@pytest.fixture
def app(origin: Origin, cache: TierCache, clock: FakeClock) -> ResponseCache:
    """Return it behind a cache."""
    return ResponseCache(origin, cache=cache, clock=clock)


@pytest.mark.parametrize("raw_path", [{}, {"raw_path": None}, {"raw_path": b""}])
async def test_paths_are_told_apart_though_no_server_says_how_they_were_sent(
    app: ResponseCache, raw_path: dict[str, Any]
) -> None:
    """`raw_path` is optional in ASGI, and a decoded path may hold what ends one that was sent."""

    async def server(scope: Any, receive: Any, send: Any) -> None:
        del scope["raw_path"]
        await app({**scope, **raw_path}, receive, send)

    paths = ["/a", "/a?b", "/a?c", "/a%3Fb", "/é", "/%C3%A9"]
    for path in paths:
        assert not (await fetch(server, path=path)).hit
    for path in paths:
        assert (await fetch(server, path=path)).hit
    await fetch(server, path="/a?b", method="POST")

    assert [path for path in paths if not (await fetch(server, path=path)).hit] == ["/a?b"]
