"""The application in Litestar."""

from typing import Any

from litestar import Litestar, Request, get, post
from litestar.datastructures import CacheControlHeader
from litestar.middleware.session.client_side import CookieBackendConfig
from litestar.params import FromPath
from litestar.response import Redirect, Stream

from async_tiercache_integrations.asgi import ResponseCache, http_tags
from tests.frameworks.shop import ETAG, Shop

FRESH = CacheControlHeader(max_age=60)


def make(shop: Shop) -> Any:
    """Return the application."""

    @get("/products/{number:int}", cache_control=FRESH, response_headers={"ETag": ETAG})
    async def product(number: FromPath[int]) -> dict[str, int]:
        http_tags(f"product:{number}")
        return shop.product(number)

    @post("/products/{number:int}", status_code=204)
    async def change(number: FromPath[int]) -> None:
        pass

    @post("/orders", status_code=303)
    async def order() -> Redirect:
        return Redirect("/products/7")

    @get("/plain/{number:int}", cache_control=FRESH, sync_to_thread=True)
    def plain(number: FromPath[int]) -> dict[str, int]:
        http_tags(f"product:{number}")
        return shop.product(number)

    @get("/basket", cache_control=FRESH)
    async def basket(request: Request[Any, Any, Any]) -> dict[str, int]:
        request.set_session({"basket": shop.product(0)["made"]})
        return {"basket": shop.made["product"]}

    # Its sessions do not say that they were read.
    @get("/whose", cache_control=FRESH, response_headers={"Vary": "Cookie"})
    async def whose(request: Request[Any, Any, Any]) -> dict[str, int]:
        return request.session

    @get("/stream")
    async def stream() -> Stream:
        return Stream(shop.parts())

    @get("/feed", cache_control=FRESH)
    async def feed() -> Stream:
        return Stream(shop.parts())

    app: Any = Litestar(
        [product, change, order, plain, basket, whose, stream, feed],
        middleware=[CookieBackendConfig(secret=b"0123456789abcdef").middleware],
        lifespan=[shop.cache],
    )
    return ResponseCache(app, cache=shop.cache, clock=shop.clock)
