"""The application in Quart."""

from collections.abc import AsyncGenerator
from typing import Any

from quart import Quart, Response, jsonify, redirect, session

from async_tiercache_integrations.asgi import ResponseCache, http_tags
from tests.frameworks.shop import ETAG, FRESH, Shop


def make(shop: Shop) -> Any:
    """Return the application."""
    app = Quart(__name__)
    app.secret_key = "secret"

    @app.while_serving
    async def cache_is_open() -> AsyncGenerator[None]:
        async with shop.cache:
            yield

    @app.get("/products/<int:number>")
    async def product(number: int) -> Response:
        http_tags(f"product:{number}")
        response = jsonify(shop.product(number))
        response.cache_control.max_age = 60
        response.headers["ETag"] = ETAG
        return response

    @app.post("/products/<int:number>")
    async def change(number: int) -> tuple[str, int]:
        return "", 204

    @app.post("/orders")
    async def order() -> Any:
        return redirect("/products/7", 303)

    @app.get("/plain/<int:number>")
    def plain(number: int) -> tuple[dict[str, int], dict[str, str]]:
        http_tags(f"product:{number}")
        return shop.product(number), {"Cache-Control": FRESH}

    @app.get("/basket")
    async def basket() -> tuple[dict[str, int], dict[str, str]]:
        session["basket"] = shop.product(0)["made"]
        return dict(session), {"Cache-Control": FRESH}

    @app.get("/whose")
    async def whose() -> tuple[dict[str, int], dict[str, str]]:
        # Over Flask 3.1.3 its sessions do not say that they were read.
        return dict(session), {"Cache-Control": FRESH, "Vary": "Cookie"}

    @app.get("/stream")
    async def stream() -> AsyncGenerator[bytes]:
        return shop.parts()

    @app.get("/feed")
    async def feed() -> tuple[AsyncGenerator[bytes], dict[str, str]]:
        return shop.parts(), {"Cache-Control": FRESH}

    wrapped: Any = app
    wrapped.asgi_app = ResponseCache(wrapped.asgi_app, cache=shop.cache, clock=shop.clock)
    return app
