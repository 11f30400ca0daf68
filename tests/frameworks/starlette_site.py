"""The application in Starlette."""

from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.sessions import SessionMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from async_tiercache_integrations.asgi import ResponseCache, http_tags
from async_tiercache_integrations.starlette import lifespan
from tests.frameworks.shop import ETAG, FRESH, Shop


def make(shop: Shop) -> Any:
    """Return the application."""

    async def product(request: Request) -> Response:
        number = int(request.path_params["number"])
        http_tags(f"product:{number}")
        fields = {"Cache-Control": FRESH, "ETag": ETAG}
        return JSONResponse(shop.product(number), headers=fields)

    async def change(request: Request) -> Response:
        return Response(status_code=204)

    async def order(request: Request) -> Response:
        return RedirectResponse("/products/7", status_code=303)

    def plain(request: Request) -> Response:
        number = int(request.path_params["number"])
        http_tags(f"product:{number}")
        return JSONResponse(shop.product(number), headers={"Cache-Control": FRESH})

    async def basket(request: Request) -> Response:
        request.session["basket"] = shop.product(0)["made"]
        return JSONResponse(request.session, headers={"Cache-Control": FRESH})

    async def whose(request: Request) -> Response:
        return JSONResponse(dict(request.session), headers={"Cache-Control": FRESH})

    async def stream(request: Request) -> Response:
        return StreamingResponse(shop.parts())

    async def feed(request: Request) -> Response:
        return StreamingResponse(shop.parts(), headers={"Cache-Control": FRESH})

    return Starlette(
        routes=[
            Route("/products/{number:int}", product, methods=["GET"]),
            Route("/products/{number:int}", change, methods=["POST"]),
            Route("/orders", order, methods=["POST"]),
            Route("/plain/{number:int}", plain),
            Route("/basket", basket),
            Route("/whose", whose),
            Route("/stream", stream),
            Route("/feed", feed),
        ],
        middleware=[
            Middleware(ResponseCache, cache=shop.cache, clock=shop.clock),
            Middleware(SessionMiddleware, secret_key="secret"),
        ],
        lifespan=lifespan(shop.cache),
    )
