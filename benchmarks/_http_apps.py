"""Applications that answer with the same kilobyte: bare, of frameworks, and behind caches."""

# ruff: noqa: ARG001 - what is timed takes parameters and does nothing with them

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from email.utils import formatdate
from importlib import import_module
from pathlib import Path
from typing import Any, Final, TypeAlias

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from async_tiercache import L1, Policy, TierCache
from async_tiercache_integrations.asgi import ResponseCache

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
Fields: TypeAlias = list[tuple[bytes, bytes]]

SECONDS: Final = 3600
ETAG: Final = b'"33a64df5"'
_POLICY: Final = Policy(ttl=SECONDS, l1_ttl=SECONDS)


class Product(BaseModel):
    """What the frameworks make a response of."""

    number: int
    name: str
    price: float
    tags: list[str]
    text: str


def a_product(number: int) -> Product:
    """Return a product whose JSON is a kilobyte."""
    price, tags = 12.5, ["new", "garden", "sale"]
    made = Product(number=number, name=f"Product {number}", price=price, tags=tags, text="")
    return made.model_copy(update={"text": "x" * (1024 - len(made.model_dump_json()))})


BODY: Final = a_product(7).model_dump_json().encode()
FIELDS: Final[Fields] = [
    (b"content-type", b"application/json"),
    (b"content-length", b"%d" % len(BODY)),
    (b"cache-control", b"max-age=%d" % SECONDS),
    (b"etag", ETAG),
    (b"vary", b"accept-encoding"),
    (b"date", formatdate(usegmt=True).encode()),
]
"""Of a response that is made now: one with an old date is as old, and to some caches stale."""


@dataclass
class Behind:
    """What is behind a cache.

    Attributes:
        made: How many responses it has made.
    """

    made: int = 0

    async def app(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer as the raw application does."""
        self.made += 1
        await raw(scope, receive, send)

    async def product(self, number: int) -> Product:
        """Return what a framework answers with."""
        self.made += 1
        return a_product(number)


async def raw(scope: Any, receive: Any, send: Any) -> None:
    """Answer with constants, in the two messages that ASGI asks for."""
    await send({"type": "http.response.start", "status": 200, "headers": FIELDS})
    await send({"type": "http.response.body", "body": BODY})


def starlette() -> App:
    """Return an application that makes its response anew for each request."""

    async def product(request: Request) -> JSONResponse:
        return JSONResponse(a_product(request.path_params["number"]).model_dump())

    return Starlette(routes=[Route("/products/{number:int}", product)])


def fastapi() -> FastAPI:
    """Return the same, checked against its model."""
    app = FastAPI()

    @app.get("/products/{number}")
    async def product(number: int) -> Product:
        return a_product(number)

    return app


@dataclass(frozen=True)
class Serving:
    """An application with what is in front of it and behind.

    Attributes:
        app: What a server is given.
        behind: What makes the responses; `None` if each request makes one.
        cache: Ours, if it is ours.
    """

    app: App
    behind: Behind | None = None
    cache: TierCache | None = None


Setting: TypeAlias = Callable[[str, Path], AbstractAsyncContextManager[Serving]]
"""Sets an application up, given the URL of a Redis and a folder of its own."""


def _plain(app: Callable[[], App]) -> Setting:
    @asynccontextmanager
    async def setting(url: str, folder: Path) -> AsyncGenerator[Serving]:
        yield Serving(app())

    return setting


@asynccontextmanager
async def _counted(url: str, folder: Path) -> AsyncGenerator[Serving]:
    behind = Behind()
    yield Serving(behind.app, behind)


def ours(l1: L1 | None) -> Setting:
    """Return our cache with this memory."""

    @asynccontextmanager
    async def setting(url: str, folder: Path) -> AsyncGenerator[Serving]:
        behind = Behind()
        async with TierCache(url, namespace="bench", l1=l1, policy=_POLICY) as cache:
            yield Serving(ResponseCache(behind.app, cache=cache), behind, cache)

    return setting


def _hishel() -> Any:
    # It tells of each response that it could not store, of thousands.
    logging.getLogger("hishel").setLevel(logging.CRITICAL)
    return import_module("hishel")


@asynccontextmanager
async def _hishel_sqlite(url: str, folder: Path) -> AsyncGenerator[Serving]:
    library, behind = _hishel(), Behind()
    storage = library.AsyncSqliteStorage(database_path=folder / "hishel.db")
    app = import_module("hishel.asgi").ASGICacheMiddleware(behind.app, storage=storage)
    yield Serving(app, behind)
    await app.aclose()


@asynccontextmanager
async def _hishel_redis(url: str, folder: Path) -> AsyncGenerator[Serving]:
    library, behind = _hishel(), Behind()
    client = import_module("redis.asyncio").Redis.from_url(url)
    storage = library.AsyncRedisStorage(client)
    yield Serving(import_module("hishel.asgi").ASGICacheMiddleware(behind.app, storage), behind)
    await client.aclose()


@asynccontextmanager
async def _starlette_caches(url: str, folder: Path) -> AsyncGenerator[Serving]:
    behind, cache = Behind(), import_module("aiocache").Cache(ttl=SECONDS)
    middleware = import_module("starlette_caches.middleware").CacheMiddleware
    yield Serving(middleware(behind.app, cache=cache), behind)


@asynccontextmanager
async def _cashews(url: str, folder: Path) -> AsyncGenerator[Serving]:
    behind, cache = Behind(), import_module("cashews").Cache()
    cache.setup("mem://")
    app, library = FastAPI(), import_module("cashews.contrib.fastapi")
    app.add_middleware(library.CacheEtagMiddleware, cache_instance=cache)
    app.add_middleware(library.CacheRequestControlMiddleware, cache_instance=cache)

    @app.get("/products/{number}")
    @cache(ttl=SECONDS, key="product:{number}")  # type: ignore[untyped-decorator]
    async def product(number: int) -> Product:
        return await behind.product(number)

    yield Serving(app, behind)
    await cache.close()


@asynccontextmanager
async def _fastapi_cache(url: str, folder: Path) -> AsyncGenerator[Serving]:
    behind, app = Behind(), FastAPI()
    backend = import_module("fastapi_cache.backends.inmemory").InMemoryBackend()
    import_module("fastapi_cache").FastAPICache.init(backend, prefix="bench")

    @app.get("/products/{number}")
    @import_module("fastapi_cache.decorator").cache(expire=SECONDS)  # type: ignore[untyped-decorator]
    async def product(number: int) -> Product:
        return await behind.product(number)

    yield Serving(app, behind)


SETTINGS: Final[dict[str, Setting]] = {
    "raw": _plain(lambda: raw),
    "counted": _counted,
    "starlette": _plain(starlette),
    "fastapi": _plain(fastapi),
    "l1": ours(L1()),
    "l2": ours(None),
    "hishel, SQLite": _hishel_sqlite,
    "hishel, Redis": _hishel_redis,
    "starlette-caches": _starlette_caches,
    "cashews": _cashews,
    "fastapi-cache2": _fastapi_cache,
}
"""By the name that `_http_server` is told."""
