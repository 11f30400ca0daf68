"""A lifespan for Django, whose ASGI application has none, in which a cache is open."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from async_tiercache import TierCache

Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]


def lifespan(app: App, cache: TierCache) -> App:
    """Return an application that opens a cache before the first request and closes it at the end.

    Django refuses what servers ask of an application when they start and stop; this answers in its
    place and passes on everything else.

    Args:
        app: What `get_asgi_application` returns, or a middleware around that.
        cache: The cache.

    Example:
        >>> async def app(scope, receive, send):
        ...     ...
        >>> application = lifespan(app, TierCache(namespace="shop"))
    """

    async def within(scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(cache, receive, send)
        else:
            await app(scope, receive, send)

    return within


async def _live(cache: TierCache, receive: Receive, send: Send) -> None:
    """Keep a cache open from the message that asks to start until the one that asks to stop."""
    state = "startup"
    try:
        await receive()
        async with cache:
            await send({"type": "lifespan.startup.complete"})
            state = "shutdown"
            await receive()
    except Exception as error:
        # A server takes an exception alone for an application without a lifespan.
        await send({"type": f"lifespan.{state}.failed", "message": repr(error)})
        raise
    await send({"type": "lifespan.shutdown.complete"})
