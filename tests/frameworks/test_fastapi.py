"""Endpoints of FastAPI that say how their responses are shared."""

import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from typing import Annotated, Any, get_args

import pytest
import pytest_asyncio
from anyio.to_thread import current_default_thread_limiter
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from async_tiercache.errors import ConfigurationError, KeyTemplateError
from async_tiercache.testing import FakeClock
from async_tiercache_integrations.asgi import ResponseCache
from async_tiercache_integrations.fastapi import cached_response
from tests.conftest import MakeCache
from tests.core.source import soon
from tests.frameworks.shop import Shop, Site


class Product(BaseModel):
    """What stands in a response."""

    number: int
    secret: str = "s"


@pytest.fixture
def app() -> FastAPI:
    """Return an application without endpoints."""
    return FastAPI()


@pytest_asyncio.fixture
async def site(app: FastAPI, make_cache: MakeCache, clock: FakeClock) -> Site:
    """Return it behind a cache."""
    shop = Shop(await make_cache(), clock)
    return Site(ResponseCache(app, cache=shop.cache, clock=clock), shop)


async def control(site: Site, path: str = "/") -> str | None:
    """Return what a response says of caching."""
    return (await site.fetch(path)).fields.get("cache-control")


async def test_a_response_says_for_how_long_it_is_fresh(app: FastAPI, site: Site) -> None:
    """In whole seconds, and for how long it may be stale."""

    @app.get("/")
    @cached_response("1m", stale_while_revalidate=30.9)
    async def endpoint() -> str:
        return "made"

    assert await control(site) == "max-age=60, stale-while-revalidate=30"
    assert (await site.fetch("/")).hit


async def test_what_the_endpoint_says_itself_counts(app: FastAPI, site: Site) -> None:
    """Said on the response that it asks for, or on one that it returns."""

    @app.get("/asked")
    @cached_response("1m")
    async def asked(response: Response) -> str:
        response.headers["Cache-Control"] = "no-store"
        return "made"

    @app.get("/returned")
    @cached_response("1m")
    async def returned() -> Response:
        return JSONResponse({}, headers={"Cache-Control": "max-age=5"})

    assert await control(site, "/asked") == "no-store"
    assert await control(site, "/returned") == "max-age=5"


async def test_a_response_that_is_returned_is_marked(app: FastAPI, site: Site) -> None:
    """FastAPI sends it as it is."""

    @app.get("/")
    @cached_response("1m")
    async def endpoint() -> Response:
        return JSONResponse({})

    assert await control(site) == "max-age=60"


@pytest.mark.parametrize("returns_one", [False, True])
async def test_what_a_dependency_says_counts(
    app: FastAPI, site: Site, *, returns_one: bool
) -> None:
    """Also where FastAPI drops it, because the endpoint returns a response of its own."""

    def of_a_user(response: Response) -> None:
        response.headers["Cache-Control"] = "private"

    @app.get("/", dependencies=[Depends(of_a_user)], response_model=None)
    @cached_response("1m")
    async def endpoint() -> Response | str:
        return JSONResponse({}) if returns_one else "made"

    assert await control(site) in ("private", None)
    await site.fetch("/")
    assert not (await site.fetch("/")).fields.get("cache-status", "").startswith("tiercache; hit")


@pytest.mark.parametrize("returns_one", [False, True])
async def test_what_a_dependency_depends_on_is_told_apart(
    app: FastAPI, site: Site, *, returns_one: bool
) -> None:
    """Also where FastAPI drops what it says, because the endpoint returns its own response."""

    def language(request: Request, response: Response) -> str:
        response.headers["Vary"] = "Accept-Language"
        return request.headers["accept-language"]

    @app.get("/", response_model=None)
    @cached_response("1m")
    async def endpoint(spoken: Annotated[str, Depends(language)]) -> Response | str:
        return JSONResponse(spoken, headers={"Vary": "Accept"}) if returns_one else spoken

    for spoken in ("de", "en") * 2:
        answer = await site.fetch("/", ("accept-language", spoken))
        assert answer.body == f'"{spoken}"'.encode()
    assert answer.hit


async def test_an_error_has_no_lifetime(app: FastAPI, site: Site) -> None:
    """Raised, returned, or told by a status."""

    @app.get("/raised")
    @cached_response("1m")
    async def raised() -> str:
        raise HTTPException(404)

    @app.get("/returned")
    @cached_response("1m")
    async def returned() -> Response:
        return JSONResponse({}, status_code=410)

    @app.get("/told")
    @cached_response("1m")
    def told(response: Response) -> str:
        response.status_code = 404
        return "nothing"

    answers = [await site.fetch(path) for path in ("/raised", "/returned", "/told")]
    assert [each.status for each in answers] == [404, 410, 404]
    assert ["cache-control" in each.fields for each in answers] == [False] * 3


class Handler:
    """An endpoint that is an object."""

    async def __call__(self, response: Response) -> str:
        """Say that there is nothing."""
        response.status_code = 404
        return "nothing"


def logged(endpoint: Callable[..., Coroutine[Any, Any, str]]) -> Callable[..., Any]:
    """Decorate an endpoint as many do: the function around it is none to be awaited."""

    @functools.wraps(endpoint)
    def around(*args: Any, **kwargs: Any) -> Coroutine[Any, Any, str]:
        return endpoint(*args, **kwargs)

    return around


@pytest.mark.parametrize("kind", ["object", "decorated"])
async def test_an_error_of_what_fastapi_awaits_has_no_lifetime(
    app: FastAPI, site: Site, kind: str
) -> None:
    """It is known only when that has ended, also where no coroutine function is decorated."""
    handler = Handler()
    endpoint: Any = handler if kind == "object" else logged(handler.__call__)
    app.get("/")(cached_response("1m")(endpoint))

    answer = await site.fetch("/")

    assert (answer.status, answer.body) == (404, b'"nothing"')
    assert "cache-control" not in answer.fields


async def test_an_endpoint_that_waits_takes_no_thread(app: FastAPI, site: Site) -> None:
    """Threads may all be busy, with endpoints that block."""

    @app.get("/")
    @cached_response("1m")
    async def endpoint() -> str:
        return "made"

    threads = current_default_thread_limiter()
    for thread in range(int(threads.total_tokens)):
        threads.acquire_on_behalf_of_nowait(thread)

    assert (await soon(site.fetch("/"))).status == 200


def test_the_response_is_asked_for_without_its_type() -> None:
    """Most versions of FastAPI refuse a dependency in a parameter that is a response."""

    @cached_response("1m")
    async def endpoint() -> str:
        return "made"

    (asked,) = inspect.signature(endpoint).parameters.values()
    assert get_args(asked.annotation)[0] is Any


async def test_tags_come_from_all_parameters(app: FastAPI, site: Site) -> None:
    """Path, query with its default, and attributes of what a dependency returns; escaped."""

    def found(number: int) -> Product:
        return Product(number=number)

    @app.get("/products/{number}")
    @cached_response("1m", tags=["lang:{lang}", "product:{product.number}", "all"])
    async def endpoint(product: Annotated[Product, Depends(found)], lang: str = "a:b") -> str:
        return lang

    for tag in ("lang:a%3Ab", "product:7", "all"):
        await site.fetch("/products/7")
        assert (await site.fetch("/products/7")).hit
        await site.shop.cache.invalidate(tags=[tag])
        assert not (await site.fetch("/products/7")).hit


async def test_fastapi_sees_the_endpoint_as_it_is(app: FastAPI, site: Site) -> None:
    """Its parameters, its model and its name; nothing of what is asked for besides."""

    async def plain(number: int, q: Annotated[str, "text"] = "") -> Product:
        """Return a product."""
        return Product(number=number)

    bare = FastAPI()
    bare.get("/products/{number}")(plain)
    app.get("/products/{number}")(cached_response("1m", tags=["product:{number}"])(plain))

    assert app.openapi() == bare.openapi()


async def test_a_response_model_filters(app: FastAPI, site: Site) -> None:
    """What it leaves out is not sent."""

    @app.get("/", response_model=Product, response_model_exclude={"secret"})
    @cached_response("1m")
    async def endpoint() -> Product:
        return Product(number=7)

    assert (await site.fetch("/")).body == b'{"number":7}'


def test_an_endpoint_can_be_called_by_itself() -> None:
    """As a test of it does."""

    @cached_response("1m", tags=["product:{number}"])
    def endpoint(number: int, factor: int = 2) -> int:
        return number * factor

    assert endpoint(3) == 6
    assert endpoint(number=3, factor=3) == 9


async def _stream() -> AsyncGenerator[bytes]:
    yield b""


def _lines() -> Iterator[bytes]:
    yield b""


@pytest.mark.parametrize("endpoint", [_stream, _lines], ids=["asynchronous", "synchronous"])
def test_a_generator_is_refused(endpoint: Any) -> None:
    """Its response has begun before it runs."""
    with pytest.raises(ConfigurationError, match="is a generator"):
        cached_response("1m")(endpoint)


@pytest.mark.parametrize("options", [{"ttl": 0.5}, {"ttl": 5, "stale_while_revalidate": "100ms"}])
def test_less_than_a_second_is_refused(options: Any) -> None:
    """It would be nothing."""
    with pytest.raises(ConfigurationError, match="shorter than a second"):
        cached_response(**options)


def test_a_tag_that_does_not_fit_is_refused() -> None:
    """When the endpoint is decorated."""
    with pytest.raises(KeyTemplateError, match="no parameter"):

        @cached_response("1m", tags=["product:{number}"])
        async def endpoint(nummer: int) -> int:
            return nummer
