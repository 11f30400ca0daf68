"""Where a cache of responses stands among other middleware."""

import gzip
from typing import Any

import pytest
from hypercorn.middleware import ProxyFixMiddleware
from litestar import Litestar, get
from litestar.config.compression import CompressionConfig
from litestar.config.cors import CORSConfig
from litestar.datastructures import CacheControlHeader
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock
from async_tiercache_integrations.asgi import ResponseCache
from tests.frameworks.shop import FRESH, Shop, Site

PAGE = "a page " * 500
SHOPS = ["https://a.example", "https://b.example"]


@pytest.fixture
def shop(cache: TierCache, clock: FakeClock) -> Shop:
    """Return what the applications stand on."""
    return Shop(cache, clock)


def in_starlette(shop: Shop) -> Any:
    """Return an application with CORS, the cache and compression, in this order."""

    async def page(request: Request) -> Response:
        shop.made["page"] += 1
        return Response(PAGE, headers={"Cache-Control": FRESH})

    return Starlette(
        routes=[Route("/", page)],
        middleware=[
            Middleware(CORSMiddleware, allow_origins=SHOPS),
            Middleware(ResponseCache, cache=shop.cache, clock=shop.clock),
            Middleware(GZipMiddleware),
        ],
    )


def in_litestar(shop: Shop) -> Any:
    """Return the same; compression tells only of what it has compressed, the route of the rest."""
    vary = {"Vary": "Accept-Encoding"}
    cached: Any = ResponseCache

    @get("/", cache_control=CacheControlHeader(max_age=60), response_headers=vary)
    async def page() -> str:
        shop.made["page"] += 1
        return PAGE

    return Litestar(
        [page],
        middleware=[DefineMiddleware(cached, cache=shop.cache, clock=shop.clock)],
        cors_config=CORSConfig(allow_origins=SHOPS),
        compression_config=CompressionConfig(backend="gzip"),
    )


@pytest.fixture(params=[in_starlette, in_litestar], ids=["starlette", "litestar"])
def site(request: pytest.FixtureRequest, shop: Shop) -> Site:
    """Return an application in its framework's order."""
    return Site(request.param(shop), shop)


async def test_cors_outside_of_the_cache_is_right_for_each_origin(site: Site) -> None:
    """What was made for a request without an origin is allowed to those that are."""
    await site.fetch("/")
    answers = [await site.fetch("/", ("origin", shop)) for shop in (*SHOPS, "https://c.example")]

    allowed = [each.fields.get("access-control-allow-origin") for each in answers]
    assert allowed == [*SHOPS, None]
    assert all(each.hit for each in answers)
    assert site.shop.made["page"] == 1


async def test_each_client_gets_an_encoding_that_it_accepts(site: Site) -> None:
    """Whoever came first."""
    asked = [("accept-encoding", encoding) for encoding in ("gzip", "identity")]
    zipped, plain = [await site.fetch("/", each) for each in asked]
    again = [await site.fetch("/", each) for each in asked]

    assert gzip.decompress(zipped.body) == plain.body == PAGE.encode()
    assert [each.fields.get("content-encoding") for each in again] == ["gzip", None]
    assert all(each.hit for each in again)


@pytest.mark.parametrize(
    "proxied",
    [
        lambda app: ProxyHeadersMiddleware(app, trusted_hosts="*"),
        lambda app: ProxyFixMiddleware(app, mode="legacy"),
    ],
    ids=["uvicorn", "hypercorn"],
)
async def test_a_trusted_proxy_outside_of_the_cache_tells_schemes_apart(
    shop: Shop, proxied: Any
) -> None:
    """A redirect to https is not the answer to who has come by https."""

    async def page(request: Request) -> Response:
        return Response(request.url.scheme, headers={"Cache-Control": FRESH})

    app = ResponseCache(Starlette(routes=[Route("/", page)]), cache=shop.cache, clock=shop.clock)
    site = Site(proxied(app), shop)
    fields = [
        [("x-forwarded-proto", scheme), ("x-forwarded-for", "192.0.2.9")]
        for scheme in ("http", "https")
    ]
    answers = [await site.fetch("/", *each) for each in fields * 2]

    assert [each.body for each in answers] == [b"http", b"https"] * 2
    assert [each.hit for each in answers] == [False, False, True, True]
