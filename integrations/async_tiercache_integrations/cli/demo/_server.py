"""One server of the shop's pages: uvicorn on a port of its own, and what the demo counts there.

Run as a module with a `Setting` as JSON argument, and commanded as `_pipe` says.
"""

import asyncio
import socket
import sys
from collections.abc import Mapping
from typing import Any

import uvicorn

from async_tiercache_integrations.cli.demo import _pipe, shop, web
from async_tiercache_integrations.cli.demo._answers import Answer, current
from async_tiercache_integrations.cli.demo._connection import TIER
from async_tiercache_integrations.cli.demo._database import open_pool
from async_tiercache_integrations.cli.demo._measure import Tally
from async_tiercache_integrations.cli.demo._setting import Setting


class Site:
    """The application, watched: how often it runs, and which tier answered."""

    def __init__(self, application: web.Application) -> None:
        self._application = application
        self._behind = web.behind_cache(self._made)
        self._tally = Tally()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, and say in a field who did."""
        answer = Answer(about="http:")
        current.set(answer)

        async def told(message: Any) -> None:
            if message["type"] == "http.response.start":
                fields = message["headers"]
                found = any(b"; hit" in value for name, value in fields if name == b"cache-status")
                # A hit in L1 is no event.
                tier = (answer.read.tier if answer.read else "l1") if found else "loader"
                message = {**message, "headers": [*fields, (TIER, tier.encode())]}
            await send(message)

        await self._behind(scope, receive, told)

    async def _made(self, scope: Any, receive: Any, send: Any) -> None:
        self._tally.made += scope["method"] == "GET"
        await self._application(scope, receive, send)

    async def obey(self, command: Mapping[str, Any]) -> float:
        """Do nothing: it is only asked what it has counted."""
        del command
        return 0.0

    def take(self) -> Tally:
        """Return what was counted since the last call."""
        tally, self._tally = self._tally, Tally()
        return tally


def _listening() -> socket.socket:
    # With its protocol named: asyncio turns Nagle's algorithm off only where it sees that, and the
    # two parts of a response would be 40 ms apart.
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(1_024)
    return listening


async def serve(setting: Setting) -> None:
    """Run one server until its commands end."""
    counter = [0] if setting.counts_statements else None
    async with (
        shop.cache,
        open_pool(setting.database_url, size=setting.pool_size, counter=counter) as pool,
    ):
        site = Site(web.pages(pool))
        config = uvicorn.Config(site, lifespan="off", log_level="warning", access_log=False)
        server = uvicorn.Server(config)
        with _listening() as listening:
            port = listening.getsockname()[1]
            async with asyncio.TaskGroup() as group:
                group.create_task(server.serve(sockets=[listening]), name="uvicorn")
                await _pipe.obey(site, counter, port=port)
                server.should_exit = True


if __name__ == "__main__":
    asyncio.run(serve(Setting.from_json(sys.argv[1])))
