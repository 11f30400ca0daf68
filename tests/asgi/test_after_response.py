"""What an application does after its response, and who waits for that."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Origin, begin, fetch, raw
from tests.conftest import MakeCache
from tests.core.source import DEADLINE, ticks

ETAG = ("etag", '"a"')


def _unhurried(more: asyncio.Event) -> Any:
    """Return an application that has more to do when it has answered."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        fields = [("cache-control", "max-age=10"), ETAG]
        status = 304 if any(name == b"if-none-match" for name, _ in scope["headers"]) else 200
        await send({"type": "http.response.start", "status": status, "headers": raw(fields)})
        await send({"type": "http.response.body", "body": b""})
        await more.wait()

    return app


@pytest.mark.parametrize("case", ["first", "conditional", "validated"])
async def test_the_request_ends_with_its_application(
    cache: TierCache, clock: FakeClock, case: str
) -> None:
    """Whoever made the response: a server that stops waits for the requests that it knows."""
    more = asyncio.Event()
    app = ResponseCache(_unhurried(more), cache=cache, clock=clock)
    if case == "validated":
        more.set()
        await fetch(app)
        more.clear()
        await clock.advance(11)
    exchange = begin(app, *([("if-none-match", '"a"')] if case == "conditional" else []))
    async with asyncio.timeout(DEADLINE):
        await exchange.over.wait()
    await ticks()

    assert exchange.status == (304 if case == "conditional" else 200)
    assert exchange.task is not None
    assert not exchange.task.done()
    more.set()
    await exchange.done()


async def test_a_close_lets_an_application_end_that_validates_for_nobody(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """It may hold what it would have to give back."""
    cache, more, ended = await make_cache(), asyncio.Event(), asyncio.Event()
    origin = Origin(("cache-control", "max-age=10, stale-while-revalidate=60"), ETAG)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await origin(scope, receive, send)
        if origin.calls > 1:
            await more.wait()
            ended.set()

    behind = ResponseCache(app, cache=cache, clock=clock)
    await fetch(behind)
    await clock.advance(11)
    assert (await fetch(behind)).hit
    await ticks()
    assert origin.calls == 2
    closing = asyncio.ensure_future(cache.aclose())
    await ticks()
    more.set()
    async with asyncio.timeout(DEADLINE):
        await closing

    assert ended.is_set()
