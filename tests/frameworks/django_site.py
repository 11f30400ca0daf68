"""The application in Django; a process has one, so its views find what they stand on here."""

from typing import Any

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path
from django.utils.functional import empty
from django.views.decorators.cache import cache_control

from async_tiercache_integrations.asgi import ResponseCache, http_tags
from async_tiercache_integrations.django import lifespan
from tests.frameworks.shop import ETAG, Shop

_shops: list[Shop] = []


def make(shop: Shop) -> Any:
    """Return the application."""
    forget()
    settings.configure(
        ALLOWED_HOSTS=["example.org"],
        MIDDLEWARE=["django.contrib.sessions.middleware.SessionMiddleware"],
        ROOT_URLCONF=__name__,
        SECRET_KEY="secret",
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
    )
    django.setup()
    _shops[:] = [shop]
    app = ResponseCache(get_asgi_application(), cache=shop.cache, clock=shop.clock)
    return lifespan(app, shop.cache)


def forget() -> None:
    """Let the next application in this process have settings of its own."""
    settings._wrapped = empty


async def product(request: HttpRequest, number: int) -> HttpResponse:
    """Answer to both methods."""
    if request.method == "POST":
        return HttpResponse(status=204)
    http_tags(f"product:{number}")
    return JsonResponse(_shops[0].product(number), headers={"ETag": ETAG})


async def order(request: HttpRequest) -> HttpResponse:
    """Answer to a form."""
    return HttpResponseRedirect("/products/7")


def plain(request: HttpRequest, number: int) -> HttpResponse:
    """Answer from a thread."""
    http_tags(f"product:{number}")
    return JsonResponse(_shops[0].product(number))


async def basket(request: HttpRequest) -> HttpResponse:
    """Begin a session."""
    await request.session.aset("basket", _shops[0].product(0)["made"])
    return JsonResponse({"basket": await request.session.aget("basket")})


async def whose(request: HttpRequest) -> HttpResponse:
    """Answer by the session."""
    basket = await request.session.aget("basket")
    return JsonResponse({} if basket is None else {"basket": basket})


async def stream(request: HttpRequest) -> HttpResponseBase:
    """Answer in parts."""
    return StreamingHttpResponse(_shops[0].parts())


async def feed(request: HttpRequest) -> HttpResponseBase:
    """Answer in parts that may be kept."""
    return StreamingHttpResponse(_shops[0].parts())


_fresh = cache_control(max_age=60)

urlpatterns = [
    path("products/<int:number>", _fresh(product)),
    path("orders", order),
    path("plain/<int:number>", _fresh(plain)),
    path("basket", _fresh(basket)),
    path("whose", _fresh(whose)),
    path("stream", stream),
    path("feed", _fresh(feed)),
]
