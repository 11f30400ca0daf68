"""The life of a cache, inside of that of its application."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, TypedDict

import pytest
from starlette.applications import Starlette

from async_tiercache import TierCache
from async_tiercache.errors import UsageError
from async_tiercache_integrations import django, starlette
from tests.conftest import MakeCache
from tests.frameworks.shop import living


class State(TypedDict):
    """What an application's own lifespan tells its requests."""

    at_start: str


async def test_starlettes_own_lifespan_runs_inside(make_cache: MakeCache) -> None:
    """It may use the cache, at the end too, and its state is the application's."""
    cache = await make_cache(entered=False)
    states: list[str] = []

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncGenerator[State]:
        states.append(cache._core.state)
        yield {"at_start": cache._core.state}
        states.append(cache._core.state)

    app = Starlette(lifespan=starlette.lifespan(cache, around=own))
    async with app.router.lifespan_context(app) as state:
        assert state == {"at_start": "open"}

    assert [*states, cache._core.state] == ["open", "open", "closed"]


async def test_two_caches_open_one_inside_the_other(make_cache: MakeCache) -> None:
    """A lifespan goes around another one."""
    outer, inner = [await make_cache(entered=False) for _ in range(2)]

    async with living(Starlette(lifespan=starlette.lifespan(outer, starlette.lifespan(inner)))):
        opened = [outer._core.state, inner._core.state]

    assert opened == ["open", "open"]
    assert [outer._core.state, inner._core.state] == ["closed", "closed"]


async def test_an_application_that_does_not_start_leaves_the_cache_closed(
    make_cache: MakeCache,
) -> None:
    """What its own lifespan raises is told as ever."""
    cache = await make_cache(entered=False)

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncGenerator[None]:
        raise OSError("no database")
        yield

    answer = await _first_answer(Starlette(lifespan=starlette.lifespan(cache, own)), OSError)

    assert answer["type"] == "lifespan.startup.failed"
    assert cache._core.state == "closed"


async def test_djangos_requests_pass(cache: TierCache) -> None:
    """All that is not the server's to ask."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Any:
        raise AssertionError

    async def send(message: Any) -> None:
        raise AssertionError

    await django.lifespan(app, cache)({"type": "http"}, receive, send)

    assert seen == [({"type": "http"}, receive, send)]


async def test_a_cache_that_cannot_be_opened_stops_the_server(make_cache: MakeCache) -> None:
    """It is told of a failure, not left to think that there is no lifespan."""
    cache = await make_cache()
    await cache.aclose()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError

    answer = await _first_answer(django.lifespan(app, cache), UsageError)

    assert answer["type"] == "lifespan.startup.failed"
    assert "closed" in answer["message"]


async def _first_answer(app: Any, error: type[Exception]) -> Any:
    """Return what an application says when it is started, which fails."""
    said: list[Any] = []

    async def receive() -> Any:
        return {"type": "lifespan.startup"}

    async def send(message: Any) -> None:
        said.append(message)

    with pytest.raises(error):
        await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    return said[0]
