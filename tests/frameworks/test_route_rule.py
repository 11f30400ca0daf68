"""Rules that take their paths from routes of Starlette."""

import re

import pytest
from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from async_tiercache import TierCache
from async_tiercache.errors import KeyTemplateError
from async_tiercache_integrations.asgi import ResponseCache, Rule
from async_tiercache_integrations.starlette import lifespan, route_rule
from tests.asgi.client import fetch

UUID = "4e8b9a6c-1f0d-4c5e-9b7a-3d2c1b0a9f8e"


async def silent(request: Request) -> Response:
    """Answer with no lifetime."""
    return JSONResponse(request.path_params)


@pytest.mark.parametrize(
    ("path", "asked", "tags"),
    [
        ("/products/{number:int}", "/products/7", ["of:7"]),
        ("/products/{number:int}", "/products/new", None),
        ("/products/{number:int}", "/products/7/edit", None),
        ("/products/{number}", "/products/new", ["of:new"]),
        ("/files/{number:path}", "/files/a/b.css", ["of:a/b.css"]),
        ("/{number:uuid}", f"/{UUID}", [f"of:{UUID}"]),
    ],
)
def test_a_rule_is_for_the_paths_of_its_route(
    path: str, asked: str, tags: list[str] | None
) -> None:
    """Of no others: what a parameter cannot be is another route's."""
    route = Route(path, silent)
    rule = route_rule(route, ttl="1m", tags=["of:{number}"])

    assert rule.fits(asked) is (tags is not None)
    if tags is not None:
        assert rule.tags_for(asked) == tags


def test_a_route_of_fastapi_is_one() -> None:
    """It is made by a decorator, and found in its router."""
    router = APIRouter()

    @router.get("/products/{number}")
    async def product(number: int) -> int:
        return number

    route = router.routes[0]
    assert isinstance(route, APIRoute)
    assert route_rule(route, tags=["product:{number}"]).tags_for("/products/7") == ["product:7"]
    assert product is route.endpoint


def test_a_tag_that_names_no_parameter_is_refused() -> None:
    """When the rule is made, not by a request."""
    with pytest.raises(KeyTemplateError):
        route_rule(Route("/products/{number:int}", silent), tags=["product:{id}"])


def test_a_pattern_is_for_whole_paths() -> None:
    """Its named groups stand in tags."""
    rule = Rule(re.compile(r"/products/(?P<number>\d+)"), tags=["product:{number}"])

    assert rule.tags_for("/products/7") == ["product:7"]
    assert not rule.fits("/products/7/edit")
    assert repr(rule) == r"Rule('/products/(?P<number>\\d+)')"


async def test_a_silent_route_is_kept_for_as_long_as_its_rule_says() -> None:
    """And its neighbour is not."""
    cache = TierCache(namespace="routes")
    kept, other = Route("/kept/{number:int}", silent), Route("/other/{number:int}", silent)
    rules = [route_rule(kept, ttl="1m", tags=["kept:{number}"])]
    app = Starlette(
        routes=[kept, other],
        middleware=[Middleware(ResponseCache, cache=cache, rules=rules)],
        lifespan=lifespan(cache),
    )

    async with app.router.lifespan_context(app):
        for path, hit in (("/kept/7", True), ("/other/7", False)):
            await fetch(app, path=path)
            assert (await fetch(app, path=path)).hit is hit
