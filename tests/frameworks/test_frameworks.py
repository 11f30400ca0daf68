"""One application in five frameworks, each behind a cache of its responses."""

import importlib
import json
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from async_tiercache.testing import FakeClock
from tests.conftest import MakeCache
from tests.core.source import ticks
from tests.frameworks import django_site
from tests.frameworks.shop import ETAG, Shop, Site, living

FRAMEWORKS = ["starlette", "fastapi", "litestar", "django", "quart"]


@pytest_asyncio.fixture(params=FRAMEWORKS)
async def site(
    request: pytest.FixtureRequest, make_cache: MakeCache, clock: FakeClock
) -> AsyncIterator[Site]:
    """Return an application that is being served; it has opened its cache."""
    shop = Shop(await make_cache(entered=False), clock)
    app = importlib.import_module(f"tests.frameworks.{request.param}_site").make(shop)
    async with living(app):
        yield Site(app, shop)
    django_site.forget()
    assert shop.cache._core.state == "closed"


async def test_a_response_is_made_once(site: Site) -> None:
    """The second client gets what the first one got, and its age."""
    first, second = await site.fetch("/products/7"), await site.fetch("/products/7")

    assert first.fields["cache-status"] == "tiercache; fwd=uri-miss; stored"
    assert second.hit
    assert json.loads(first.body) == json.loads(second.body) == {"product": 7, "made": 1}
    assert first.fields["content-type"] == second.fields["content-type"]
    assert "age" in second.fields


async def test_the_lifespan_opens_the_cache(site: Site) -> None:
    """Before the first request; a cache that is not open keeps nothing in memory."""
    assert site.shop.cache._core.state == "open"


@pytest.mark.parametrize("path", ["/products/7", "/plain/7"])
async def test_a_tag_ends_a_response(site: Site, path: str) -> None:
    """Also one that was said in a thread, in which frameworks run what is not asynchronous."""
    await site.fetch(path)
    await site.shop.cache.invalidate(tags=["product:8"])
    assert (await site.fetch(path)).hit
    await site.shop.cache.invalidate(tags=["product:7"])

    assert not (await site.fetch(path)).hit
    assert (await site.fetch(path)).hit
    assert site.shop.made["product"] == 2


async def test_a_change_ends_the_response_of_its_url(site: Site) -> None:
    """And none else."""
    await site.fetch("/products/7")
    await site.fetch("/products/8")
    changed = await site.fetch("/products/7", method="POST")

    assert changed.status == 204
    assert not (await site.fetch("/products/7")).hit
    assert (await site.fetch("/products/8")).hit


async def test_a_change_ends_the_response_that_it_leads_to(site: Site) -> None:
    """As after a form: the client is sent to what has changed."""
    await site.fetch("/products/7")
    ordered = await site.fetch("/orders", method="POST")

    assert ordered.fields["location"] == "/products/7"
    assert not (await site.fetch("/products/7")).hit


async def test_a_session_is_not_shared(site: Site) -> None:
    """What sets a cookie is made for each client, whatever lifetime it has."""
    first, second = await site.fetch("/basket"), await site.fetch("/basket")

    assert "max-age=60" in first.fields["cache-control"]
    assert first.fields["set-cookie"]
    assert (json.loads(first.body), json.loads(second.body)) == ({"basket": 1}, {"basket": 2})


async def test_what_depends_on_a_session_is_told_apart(site: Site) -> None:
    """By `Vary: Cookie`, which not all frameworks send by themselves when a session was read."""
    began = [await site.fetch("/basket") for _ in range(2)]
    cookies = [("cookie", each.fields["set-cookie"].partition(";")[0]) for each in began]
    answers = [await site.fetch("/whose", *mine) for mine in ((), cookies[:1], cookies[1:]) * 2]

    assert "Cookie" in answers[0].fields["vary"]
    assert [json.loads(each.body) for each in answers] == [{}, {"basket": 1}, {"basket": 2}] * 2
    assert answers[3].hit


async def test_a_stream_passes_at_once(site: Site) -> None:
    """The first part is there while the second one is not made yet."""
    exchange = site.begin("/stream")
    await exchange.begun(2)

    assert exchange.body == b"first "
    site.shop.gate.set()
    assert (await exchange.done()).body == b"first second"


async def test_a_stream_that_is_kept_passes_at_once(site: Site) -> None:
    """And is whole for the next client."""
    exchange = site.begin("/feed")
    await exchange.begun(2)

    assert exchange.body == b"first "
    site.shop.gate.set()
    await exchange.done()
    again = await site.fetch("/feed")
    assert again.hit
    assert again.body == exchange.body == b"first second"


async def test_many_clients_share_one_response(site: Site) -> None:
    """They wait for the one that is being made."""
    first = site.begin("/feed")
    await first.begun(2)
    others = [site.begin("/feed") for _ in range(5)]
    await ticks()
    site.shop.gate.set()

    for exchange in (first, *others):
        assert (await exchange.done()).body == b"first second"
    assert site.shop.made["stream"] == 1


async def test_head_is_answered_from_what_get_has_stored(site: Site) -> None:
    """Also where the application has no such method."""
    stored = await site.fetch("/products/7")
    head = await site.fetch("/products/7", method="HEAD")

    assert head.hit
    assert head.body == b""
    assert head.fields["content-length"] == str(len(stored.body))


async def test_a_condition_is_answered_from_what_is_stored(site: Site) -> None:
    """The application is not asked whether it is so still."""
    await site.fetch("/products/7")
    again = await site.fetch("/products/7", ("if-none-match", ETAG))

    assert (again.status, again.body) == (304, b"")
    assert again.fields["etag"] == ETAG
    assert site.shop.made["product"] == 1


async def test_a_condition_does_not_keep_a_response_from_being_stored(site: Site) -> None:
    """The application makes the whole for everybody."""
    first = await site.fetch("/products/7", ("if-none-match", ETAG))
    second = await site.fetch("/products/7")

    assert first.status == 304
    assert json.loads(second.body) == {"product": 7, "made": 1}


async def test_what_is_not_there_is_not_kept(site: Site) -> None:
    """A 404 has no lifetime unless it says so."""
    answers = [await site.fetch("/nowhere") for _ in range(2)]

    assert [each.status for each in answers] == [404, 404]
    assert all("hit" not in each.fields.get("cache-status", "") for each in answers)
