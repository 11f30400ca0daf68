"""The cache under test: uvicorn, which serves the suite's origin behind `ResponseCache`."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import uvicorn

from async_tiercache import TierCache
from async_tiercache_integrations.asgi import ProfileName, ResponseCache
from tests.conformance.proxy import Body, Message, Proxy, Receive, Send

Parser: TypeAlias = Literal["httptools", "h11"]


@dataclass(frozen=True, slots=True)
class Setting:
    """What is tested.

    Attributes:
        profile: The middleware's.
        parser: Of uvicorn.
        body: How the contents of responses come to the middleware.
    """

    profile: ProfileName = "rfc9111"
    parser: Parser = "httptools"
    body: Body = "streamed"


class Caches:
    """A cache for each test, and none for what the suite asks its own server.

    Tests run a hundred at a time. Keys share generations, so that in a single cache a change in one
    test would now and then cost another its response.

    Args:
        proxy: Asks the suite's server.
        setting: What is tested.
        opened: Closes the caches at its end.
    """

    def __init__(self, proxy: Proxy, setting: Setting, opened: AsyncExitStack) -> None:
        self._proxy = proxy
        self._setting = setting
        self._opened = opened
        self._caches: dict[str, ResponseCache] = {}

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        of, _, rest = scope["path"].removeprefix("/").partition("/")
        if of != "test":
            await self._proxy(scope, receive, send)
            return
        test = rest.partition("/")[0]
        if test not in self._caches:
            cache = await self._opened.enter_async_context(TierCache(namespace="conformance"))
            # The suite asks whether requests are heeded, and the profile does all that RFCs allow.
            clients: Literal["honour", "ignore"]
            clients = "honour" if self._setting.profile == "rfc9111" else "ignore"
            self._caches[test] = ResponseCache(
                self._proxy, cache=cache, profile=self._setting.profile, clients=clients
            )
        await self._caches[test](scope, receive, send)


@asynccontextmanager
async def cached(port: int, setting: Setting) -> AsyncGenerator[int]:
    """Serve the origin on a port behind a cache; yield the cache's port."""
    async with AsyncExitStack() as opened:
        app: Any = Caches(Proxy(port, setting.body), setting, opened)
        config = uvicorn.Config(
            app,
            http=setting.parser,
            ws="none",
            lifespan="off",
            log_level="critical",
            access_log=False,
            server_header=False,
            date_header=False,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        with socket.create_server(("127.0.0.1", 0)) as listening:
            serving = asyncio.create_task(server.serve([listening]), name="uvicorn")
            try:
                yield listening.getsockname()[1]
            finally:
                server.should_exit = True
                await serving
