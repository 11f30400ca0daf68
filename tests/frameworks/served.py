"""The application that servers of all kinds serve, each as a process of its own.

Its streams stop after their first part until a request opens their gate; that and what it counts
are answered without a lifetime, so no cache is in between.
"""

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket

from async_tiercache import TierCache
from async_tiercache_integrations.asgi import ResponseCache, Rule, http_tags
from async_tiercache_integrations.starlette import lifespan

FRESH: Final = {"Cache-Control": "max-age=60", "ETag": '"v1"'}

cache = TierCache(os.environ["TESTS_URL"], namespace=os.environ["TESTS_NAMESPACE"])
arrived: Counter[str] = Counter()
made: Counter[str] = Counter()
gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)


async def parts(request: Request, pattern: str = "{} ") -> AsyncGenerator[str]:
    """Yield a response in two parts."""
    made[request.url.path] += 1
    yield pattern.format("first")
    await gates[request.url.path].wait()
    yield pattern.format("second")


async def page(request: Request) -> Response:
    """Answer with what can be kept."""
    path = request.url.path
    http_tags(f"page:{request.path_params['name']}")
    made[path] += 1
    return JSONResponse({"made": made[path], "by": os.getpid()}, headers=FRESH)


async def change(request: Request) -> Response:
    """Change a page, or what stands under its tag if that is asked for."""
    if request.query_params.get("by") == "tag":
        await cache.invalidate(tags=[f"page:{request.path_params['name']}"])
    return Response(status_code=204)


async def stream(request: Request) -> Response:
    """Answer in parts that are for one client only."""
    return StreamingResponse(parts(request))


async def feed(request: Request) -> Response:
    """Answer in parts that can be kept."""
    return StreamingResponse(parts(request), headers=FRESH)


async def events(request: Request) -> Response:
    """Answer with server-sent events."""
    lines = parts(request, "data: {}\n\n")
    return StreamingResponse(lines, media_type="text/event-stream")


async def file(request: Request) -> Response:
    """Answer with this file, which some servers read themselves if they are told to."""
    return FileResponse(__file__, headers={"Cache-Control": "max-age=60"})


async def target(request: Request) -> Response:
    """Answer with what the request was for."""
    host, path = request.headers.get("host"), request.scope["path"]
    return JSONResponse({"host": host, "path": path}, headers=FRESH)


SLOPPY: Final[dict[str, tuple[int, list[Any], bytes]]] = {
    "texts": (200, [("Cache-Control", "private"), ("Content-Length", "2")], b"ok"),
    "space": (200, [(b"cache-control ", b"private"), (b"content-length", b"2")], b"ok"),
    "break": (200, [(b"x", b"a\r\nset-cookie: session=1"), (b"content-length", b"2")], b"ok"),
    "content": (204, [(b"cache-control", b"max-age=60")], b"ok"),
    "twice": (200, [(b"content-length", b"2"), (b"content-length", b"3")], b"ok"),
}
"""Responses that servers mend, or refuse: by name their status, fields and content."""


async def sloppy(scope: Any, receive: Any, send: Any) -> None:
    """Answer as no application should."""
    made[scope["path"]] += 1
    status, fields, content = SLOPPY[scope["path"].rpartition("/")[2]]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": content})


async def open_gate(request: Request) -> Response:
    """Let a stream go on."""
    gates[request.query_params["path"]].set()
    return Response(status_code=204)


async def counts(request: Request) -> Response:
    """Tell how often a path was asked for, and made."""
    path = request.query_params["path"]
    return JSONResponse({"arrived": arrived[path], "made": made[path], "by": os.getpid()})


async def echo(socket: WebSocket) -> None:
    """Send back one message."""
    await socket.accept()
    await socket.send_text(await socket.receive_text())
    await socket.close()


_site = Starlette(
    routes=[
        Route("/pages/{name}", page, methods=["GET"]),
        Route("/pages/{name}", change, methods=["POST"]),
        Route("/streams/{name}", stream),
        Route("/feeds/{name}", feed),
        Route("/events/{name}", events),
        Route("/file", file),
        Route("/targets/{rest:path}", target),
        Mount("/sloppy", sloppy),
        Route("/gate", open_gate, methods=["POST"]),
        Route("/counts", counts),
        WebSocketRoute("/echo", echo),
    ],
    lifespan=lifespan(cache),
)
_cached = ResponseCache(_site, cache=cache, rules=[Rule("/sloppy/{name}", ttl=60)])


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Count a request, and hand it on."""
    if scope["type"] == "http":
        arrived[scope["path"]] += 1
    await _cached(scope, receive, send)
