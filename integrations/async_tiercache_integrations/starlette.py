"""For Starlette and FastAPI: a lifespan in which a cache is open, and rules for routes."""

from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any

from async_tiercache import TierCache
from async_tiercache._options import Duration
from async_tiercache.errors import MissingExtraError
from async_tiercache_integrations._http_rules import Rule

try:
    from starlette.routing import Route
    from starlette.types import Lifespan
except ImportError as error:
    raise MissingExtraError(
        "A lifespan for Starlette needs the package starlette, which is not installed",
        hint='pip install "async-tiercache[starlette]"',
    ) from error


def lifespan(cache: TierCache, around: Lifespan[Any] | None = None) -> Lifespan[Any]:
    """Return a lifespan that opens a cache before the first request, and closes it after the last.

    Args:
        cache: The cache.
        around: The application's own lifespan; it runs while the cache is open, and its state is
            the application's.

    Example:
        >>> from starlette.applications import Starlette
        >>> cache = TierCache(namespace="shop")
        >>> app = Starlette(lifespan=lifespan(cache))
    """

    @asynccontextmanager
    async def opened(app: Any) -> AsyncGenerator[Any]:
        async with cache:
            if around is None:
                yield None
            else:
                async with around(app) as state:
                    yield state

    return opened


def route_rule(
    route: Route,
    *,
    ttl: Duration | None = None,
    tags: Sequence[str] = (),
    vary: Collection[str] = (),
    grace: Duration | None = None,
    strict: bool = False,
    strip_cookies: bool = False,
) -> Rule:
    """Return a rule for the responses of a route, whose path and parameters it takes from there.

    The route is one of the application that the `ResponseCache` is around, not of one that is
    mounted in it.

    Args:
        route: The route.
        ttl: As that of a `Rule`.
        tags: Likewise, with the route's parameters, such as ``"product:{number}"``.
        vary: Likewise.
        grace: Likewise.
        strict: Likewise.
        strip_cookies: Likewise.

    Raises:
        ConfigurationError: A name is malformed.
        KeyTemplateError: A tag is malformed, or names no parameter of the route.

    Example:
        >>> async def product(request):
        ...     ...
        >>> route = Route("/products/{number:int}", product)
        >>> route_rule(route, ttl="5m", tags=["product:{number}"]).tags_for("/products/7")
        ['product:7']
    """
    return Rule(
        route.path_regex, ttl=ttl, tags=tags, vary=vary, grace=grace, strict=strict,
        strip_cookies=strip_cookies,
    )  # fmt: skip
