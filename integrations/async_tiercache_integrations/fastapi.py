"""A decorator for endpoints of FastAPI whose responses may be shared, by tags and a lifetime."""

import functools
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar, cast

from async_tiercache._options import Duration, seconds
from async_tiercache._signature import signature_of
from async_tiercache.errors import ConfigurationError, MissingExtraError
from async_tiercache.tags import TagMaker
from async_tiercache_integrations.asgi import http_tags

try:
    from fastapi import Depends, Response
except ImportError as error:
    raise MissingExtraError(
        "Endpoints of FastAPI need the package fastapi, which is not installed",
        hint='pip install "async-tiercache[fastapi]"',
    ) from error

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])

_RESPONSE: Final = "tiercache_response"
"""The parameter by which FastAPI hands over the fields that it will send."""


def cached_response(
    ttl: Duration,
    *,
    tags: Sequence[str] = (),
    stale_while_revalidate: Duration | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """Let the responses of an endpoint be shared; stands below ``@app.get(...)``.

    They get ``Cache-Control: max-age=...`` unless the endpoint, or a dependency of it, has set that
    field; errors do not. A `ResponseCache` around the application keeps them, and browsers do too.
    An endpoint that answers by a cookie or by anything else that is neither in the URL nor named by
    `Vary` must not be decorated.

    Args:
        ttl: For how long, whole seconds at least.
        tags: Templates over the endpoint's parameters, such as ``"product:{product_id}"``.
        stale_while_revalidate: For how long after that a stale response is served while it is
            validated, by the `ETag` or `Last-Modified` that the endpoint sets.

    Raises:
        ConfigurationError: A duration is shorter than a second, the tags are no list, or the
            endpoint is a generator, whose response is a stream.
        KeyTemplateError: A tag does not fit the endpoint.
        UnkeyableError: Raised by a request with an argument that cannot stand in a tag.

    Example:
        >>> from fastapi import FastAPI
        >>> app = FastAPI()
        >>> @app.get("/products/{product_id}")
        ... @cached_response("1m", tags=["product:{product_id}"])
        ... async def product(product_id: int) -> dict[str, int]:
        ...     return {"id": product_id}
    """
    control = f"max-age={_whole(ttl, 'ttl')}"
    if stale_while_revalidate is not None:
        stale = _whole(stale_while_revalidate, "stale_while_revalidate")
        control += f", stale-while-revalidate={stale}"

    def decorate(endpoint: Endpoint) -> Endpoint:
        if inspect.isgeneratorfunction(endpoint) or inspect.isasyncgenfunction(endpoint):
            raise ConfigurationError(
                f"{endpoint.__qualname__} is a generator, whose response is a stream",
                hint="Return the content, or leave the decorator out.",
            )
        return cast("Endpoint", _marked(endpoint, control, tags))

    return decorate


def _whole(duration: Duration, name: str) -> int:
    """Return a duration as fields have it."""
    whole = int(seconds(duration, name=name))
    if whole < 1:
        raise ConfigurationError(
            f"{name}={duration!r} is shorter than a second", hint="Fields tell whole seconds only."
        )
    return whole


def _marked(endpoint: Callable[..., Any], control: str, tags: Sequence[str]) -> Callable[..., Any]:
    """Return an endpoint that tells its tags and its lifetime."""
    signature = signature_of(endpoint)
    maker = TagMaker(endpoint, tags)
    names = tuple(signature.parameters)

    def tag(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        http_tags(*maker.texts(names, None, [bound.arguments[name] for name in names]))

    if inspect.iscoroutinefunction(endpoint):

        @functools.wraps(endpoint)
        async def asynchronous(*args: Any, **kwargs: Any) -> Any:
            injected = kwargs.pop(_RESPONSE, None)
            tag(args, kwargs)
            result = await endpoint(*args, **kwargs)
            _mark(result, injected, control)
            return result

        return _asking(asynchronous, signature)

    @functools.wraps(endpoint)
    def synchronous(*args: Any, **kwargs: Any) -> Any:
        injected = kwargs.pop(_RESPONSE, None)
        tag(args, kwargs)
        result = endpoint(*args, **kwargs)
        if inspect.isawaitable(result):
            # Of an object that is called, or of a function around a coroutine function.
            return _marked_later(result, injected, control)
        _mark(result, injected, control)
        return result

    return _asking(synchronous, signature)


async def _marked_later(
    awaited: Awaitable[object], injected: Response | None, control: str
) -> object:
    """Return what an endpoint brings that FastAPI awaits, although nothing shows that it must."""
    result = await awaited
    _mark(result, injected, control)
    return result


async def _injected(response: Response) -> Response:
    # One that is no coroutine function would take a thread for each request.
    return response


def _asking(endpoint: Callable[..., Any], signature: inspect.Signature) -> Callable[..., Any]:
    """Let an endpoint ask for the response.

    It is asked for by a dependency: FastAPI hands an endpoint itself one response only, and the
    endpoint may have a parameter of its own for that. Most versions of FastAPI refuse a dependency
    in a parameter whose type is a response.
    """
    parameter = inspect.Parameter(
        _RESPONSE,
        inspect.Parameter.KEYWORD_ONLY,
        annotation=Annotated[Any, Depends(_injected)],
    )
    parameters = list(signature.parameters.values())
    rest = [each for each in parameters if each.kind is inspect.Parameter.VAR_KEYWORD]
    named = [each for each in parameters if each.kind is not inspect.Parameter.VAR_KEYWORD]
    asking = signature.replace(parameters=[*named, parameter, *rest])
    cast("Any", endpoint).__signature__ = asking
    return endpoint


def _mark(result: object, injected: Response | None, control: str) -> None:
    """Set the field on what is sent: what the endpoint has returned, or what FastAPI makes of it.

    Called outside of FastAPI, by a test of the endpoint, there is nothing to set it on.
    """
    response = result if isinstance(result, Response) else injected
    if response is None:
        return
    said = [response]
    if injected is not None and injected is not response:
        # FastAPI drops its fields; a dependency may have said there that it is private, or by what
        # its responses are told apart.
        said.append(injected)
        for vary in injected.headers.getlist("vary"):
            response.headers.add_vary_header(vary)
    if (response.status_code or 200) >= 400:
        return
    if not any("cache-control" in each.headers for each in said):
        response.headers["Cache-Control"] = control
