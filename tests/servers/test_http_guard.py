"""Whatever becomes of Redis, clients are answered, and never older than they were before."""

import asyncio
from functools import partial
from typing import Any

import pytest

from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Exchange, fetch
from tests.servers.conftest import ONE_SERVER, OpenCache
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.servers.troubles import TROUBLES, OutOfMemory, Trouble, during
from tests.servers.waiting import DEADLINE

pytestmark = [pytest.mark.redis, ONE_SERVER]

PAGES = [f"/{number}" for number in range(20)]


class Site:
    """An application of a few pages, which a `POST` changes.

    Attributes:
        version: What its pages show.
        calls: How many requests there were.
    """

    def __init__(self) -> None:
        self.version = 1
        self.calls = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.calls += 1
        if scope["method"] == "POST":
            self.version += 1
        body = b"%d" % self.version
        fields = [(b"cache-control", b"max-age=600"), (b"vary", b"accept-language")]
        status = 206 if b"range" in dict(scope["headers"]) else 200
        if status == 206:
            fields.append((b"content-range", b"bytes 0-0/9"))
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": body})


async def _shown(app: ResponseCache, *pages: str, part: bool = False) -> set[str]:
    """Return what clients are shown who ask together."""
    asked = [("range", "bytes=0-0")] if part else []
    async with asyncio.timeout(DEADLINE):
        found: list[Exchange] = await asyncio.gather(
            *(fetch(app, *asked, path=page) for page in pages)
        )
    assert {each.status for each in found} == {206 if part else 200}
    return {each.body.decode() for each in found}


@pytest.mark.parametrize("part", [False, True], ids=["whole", "part"])
@pytest.mark.parametrize(
    "trouble", [*TROUBLES, pytest.param(OutOfMemory, id="outofmemory")], indirect=True
)
async def test_clients_are_answered_through_trouble(
    trouble: Trouble, redis: Server, proxy: Proxy, open_cache: OpenCache, part: bool
) -> None:
    """The server that has changed a page never shows the old one, the other no more after it.

    While nobody can tell the other of it, it may go on with what it has in memory.
    """
    site = Site()
    here, there = [
        ResponseCache(
            site, cache=await open_cache(proxy.url), profile="rfc9111" if part else "origin-safe"
        )
        for _ in range(2)
    ]
    shown = partial(_shown, part=part)
    assert await shown(here, *PAGES) == await shown(there, *PAGES) == {"1"}

    async with during(trouble, redis, proxy):
        async with asyncio.timeout(DEADLINE):
            assert (await fetch(here, path=PAGES[0], method="POST")).body == b"2"
        assert await shown(here, PAGES[0], *(f"/new{page}" for page in PAGES)) == {"2"}
        await shown(there, *PAGES)  # whichever, but answered

    async with asyncio.timeout(DEADLINE):
        while await shown(there, PAGES[0]) != {"2"}:
            assert await shown(here, PAGES[0]) == {"2"}
    async with asyncio.timeout(DEADLINE):
        # And what is stored answers again.
        calls = -1
        while calls != site.calls:
            calls = site.calls
            assert await shown(here, PAGES[0]) == await shown(there, PAGES[0]) == {"2"}
