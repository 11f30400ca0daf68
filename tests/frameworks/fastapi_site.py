"""The application in FastAPI."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse, StreamingResponse
from starlette.middleware.sessions import SessionMiddleware

from async_tiercache_integrations.asgi import ResponseCache
from async_tiercache_integrations.fastapi import cached_response
from async_tiercache_integrations.starlette import lifespan
from tests.frameworks.shop import ETAG, FRESH, Shop


def make(shop: Shop) -> Any:
    """Return the application."""
    app = FastAPI(lifespan=lifespan(shop.cache))
    app.add_middleware(SessionMiddleware, secret_key="secret")
    app.add_middleware(ResponseCache, cache=shop.cache, clock=shop.clock)

    @app.get("/products/{number}")
    @cached_response("1m", tags=["product:{number}"])
    async def product(number: int, response: Response) -> dict[str, int]:
        response.headers["ETag"] = ETAG
        return shop.product(number)

    @app.post("/products/{number}", status_code=204)
    async def change(number: int) -> None:
        pass

    @app.post("/orders")
    async def order() -> RedirectResponse:
        return RedirectResponse("/products/7", status_code=303)

    @app.get("/plain/{number}")
    @cached_response("1m", tags=["product:{number}"])
    def plain(number: int) -> dict[str, int]:
        return shop.product(number)

    @app.get("/basket")
    @cached_response("1m")
    async def basket(request: Request) -> dict[str, int]:
        request.session["basket"] = shop.product(0)["made"]
        return request.session

    @app.get("/whose")
    @cached_response("1m")
    def whose(request: Request) -> dict[str, int]:
        return dict(request.session)

    @app.get("/stream")
    async def stream() -> StreamingResponse:
        return StreamingResponse(shop.parts())

    @app.get("/feed")
    async def feed() -> StreamingResponse:
        return StreamingResponse(shop.parts(), headers={"Cache-Control": FRESH})

    return app
