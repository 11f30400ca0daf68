"""What the applications of all frameworks share: what they have made, and what holds them up."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from async_tiercache import TierCache
from async_tiercache.abc import Clock
from tests.asgi.client import Exchange, begin, fetch
from tests.core.source import DEADLINE

FRESH: Final = "max-age=60"
ETAG: Final = '"v1"'
_SCOPE: Final = {
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "root_path": "",
    "client": ("192.0.2.1", 50000),
    "server": ("example.org", 443),
    "extensions": {},
}


@dataclass
class Shop:
    """What an application stands on.

    Attributes:
        cache: Where its responses are kept.
        clock: Tells the time.
        made: How often each kind of response was made.
        gate: While it is not set, streams stop after their first part.
    """

    cache: TierCache
    clock: Clock
    made: Counter[str] = field(default_factory=Counter[str])
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def product(self, number: int) -> dict[str, int]:
        """Make what stands in the response of a product."""
        self.made["product"] += 1
        return {"product": number, "made": self.made["product"]}

    async def parts(self) -> AsyncGenerator[bytes]:
        """Yield a response in two parts."""
        self.made["stream"] += 1
        yield b"first "
        await self.gate.wait()
        yield b"second"


@dataclass
class Site:
    """An application that is being served.

    Attributes:
        app: The application.
        shop: What it stands on.
    """

    app: Any
    shop: Shop

    def begin(self, path: str, *fields: tuple[str, str], method: str = "GET") -> Exchange:
        """Begin a request."""
        return begin(self._whole, *fields, path=path, method=method)

    async def fetch(self, path: str, *fields: tuple[str, str], method: str = "GET") -> Exchange:
        """Return a whole exchange."""
        return await fetch(self._whole, *fields, path=path, method=method)

    async def _whole(self, scope: Any, receive: Any, send: Any) -> None:
        """Add what every server tells, and no application of a test's own asks for."""
        await self.app({**_SCOPE, "state": {}, **scope}, receive, send)


@asynccontextmanager
async def living(app: Any) -> AsyncGenerator[None]:
    """Start an application as a server does, and stop it."""
    told: asyncio.Queue[Any] = asyncio.Queue()
    said: asyncio.Queue[Any] = asyncio.Queue()
    scope = {"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}
    life = asyncio.ensure_future(app(scope, told.get, said.put))
    for phase in ("startup", "shutdown"):
        told.put_nowait({"type": f"lifespan.{phase}"})
        async with asyncio.timeout(DEADLINE):
            answer = await said.get()
        assert answer["type"] == f"lifespan.{phase}.complete", answer
        if phase == "startup":
            yield
    async with asyncio.timeout(DEADLINE):
        await life
