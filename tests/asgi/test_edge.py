"""What a CDN in front is told, so that what it keeps ends with what is kept here."""

from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import ConfigurationError
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations._http_edge import edge_tag
from async_tiercache_integrations.asgi import Edge, ResponseCache, Rule, http_tags
from tests.asgi.client import Origin, fetch

FRESH = ("cache-control", "max-age=60")
REFUSED = {
    "cdn-cache-control": "no-store",
    "cloudflare-cdn-cache-control": "no-store",
    "surrogate-control": "no-store",
}


@pytest.mark.parametrize(
    ("field", "text"),
    [("Surrogate-Key", "a p:7 user:7"), ("xkey", "a p:7 user:7"), ("Cache-Tag", "a,p:7,user:7")],
)
async def test_a_cdn_hears_what_a_response_stands_under(
    cache: TierCache, clock: FakeClock, field: str, text: str
) -> None:
    """By all tags there are: the response's, the rule's, the application's, and what was read."""

    @cache.cached("user:{number}", tags=["user:{number}"])
    async def user(number: int) -> str:
        return "Ada"

    async def read() -> None:
        http_tags("a")
        await user(7)

    origin = Origin(FRESH, ("surrogate-key", "a"), ("cache-tag", "a"))
    origin.within = read
    rules = [Rule("/p/{number}", tags=["p:{number}"])]
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules, edge=Edge(tags=field))
    made = await fetch(app, path="/p/7")
    await settled(cache)
    found = await fetch(app, path="/p/7")

    others = {"surrogate-key", "cache-tag", "xkey"} - {field.lower()}
    assert found.hit
    assert found.fields[field.lower()] == text
    assert not others & {*found.fields}
    # It has ended before anybody could know its tags.
    assert REFUSED.items() <= made.fields.items()
    assert not {field.lower(), *others} & {*made.fields}


async def test_a_cdn_may_keep_for_longer_than_clients(cache: TierCache, clock: FakeClock) -> None:
    """Whatever the application has told it."""
    origin = Origin(FRESH, ("cdn-cache-control", "max-age=1"), ("etag", '"a"'))
    app = ResponseCache(origin, cache=cache, clock=clock, edge=Edge(ttl="1h"))
    await fetch(app)
    await settled(cache)
    found = await fetch(app)

    assert found.fields["cache-control"] == "max-age=60"
    assert [found.fields[name] for name in REFUSED] == ["max-age=3600"] * 3


@pytest.mark.parametrize("said", ["no-store", "private, max-age=60", ""])
async def test_what_is_not_stored_here_is_left_as_it_is(
    cache: TierCache, clock: FakeClock, said: str
) -> None:
    """What becomes of it is between the application and the CDN."""
    fields = [("cache-control", said), ("surrogate-key", "a b")]
    edge = Edge(tags="Surrogate-Key", ttl="1h")
    app = ResponseCache(Origin(*fields), cache=cache, clock=clock, edge=edge, name=None)

    for method in ("GET", "POST"):
        assert (await fetch(app, method=method)).fields == dict(fields)


async def test_tags_that_do_not_fit_keep_a_response_from_the_cdn(
    cache: TierCache, clock: FakeClock
) -> None:
    """Without one of them it would outlive its invalidation there; here it is stored."""
    origin = Origin(FRESH, ("surrogate-key", "abc def"))
    edge = Edge(tags="Surrogate-Key", ttl="1h", max_tags_bytes=6)
    app = ResponseCache(origin, cache=cache, clock=clock, edge=edge)
    await fetch(app)
    await settled(cache)
    found = await fetch(app)

    assert found.hit
    assert REFUSED.items() <= found.fields.items()
    assert "surrogate-key" not in found.fields


@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
async def test_a_response_that_lives_on_tells_the_same(
    cache: TierCache, clock: FakeClock, profile: Any
) -> None:
    """What the CDN is told does not speak to this cache, though it may read such a field."""
    origin = Origin(FRESH, ("etag", '"a"'), ("surrogate-key", "a"))
    edge = Edge(tags="Surrogate-Key", ttl="1h")
    app = ResponseCache(origin, cache=cache, clock=clock, edge=edge, profile=profile)
    await fetch(app)
    await settled(cache)
    await clock.advance(61)
    origin.status, origin.parts = 304, [b""]
    validated = await fetch(app)
    await settled(cache)
    found = await fetch(app)

    assert REFUSED.items() <= validated.fields.items()
    assert (found.hit, found.body) == (True, b"hello")
    assert found.fields["cache-status"].endswith("ttl=60")
    assert found.fields["surrogate-key"] == "a"
    assert found.fields["cdn-cache-control"] == "max-age=3600"


async def test_what_is_said_to_this_cache_is_told_to_nobody(
    cache: TierCache, clock: FakeClock
) -> None:
    """And counts still when the response lives on (RFC 9213, 2.2)."""
    own = ("tiercache-cache-control", "max-age=60")
    origin = Origin(("cache-control", "no-cache"), own, ("etag", '"a"'))
    app = ResponseCache(origin, cache=cache, clock=clock)

    async def capitals(_: Any, __: Any, send: Any) -> None:
        headers = [(b"Tiercache-Cache-Control", b"no-store")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body"})

    spelled = await fetch(ResponseCache(capitals, cache=cache, clock=clock), method="POST")
    assert [*spelled.fields] == ["cache-status"]
    for method in ("GET", "GET", "POST"):
        assert "tiercache-cache-control" not in (await fetch(app, method=method)).fields
    await fetch(app)
    await settled(cache)
    await clock.advance(61)
    origin.status, origin.parts = 304, [b""]
    origin.fields = [("etag", '"a"')]
    await fetch(app)
    await settled(cache)

    assert (await fetch(app)).fields["cache-status"].endswith("hit; ttl=60")


def test_tags_are_spelled_so_that_fields_can_hold_them() -> None:
    """Two tags stay two."""
    tags = ["a", "a b", "a,b", "a%20b", "ä", "user:7/x"]

    assert len({edge_tag(tag) for tag in tags}) == len(tags)
    assert all(set(map(ord, edge_tag(tag))) <= {*range(0x21, 0x7F)} - {0x2C} for tag in tags)


@pytest.mark.parametrize(
    "options",
    [{"tags": "a b"}, {"tags": ""}, {"tags": "€"}, {"ttl": "soon"}, {"max_tags_bytes": 0}],
    ids=str,
)
def test_an_edge_that_means_nothing_is_refused(options: Any) -> None:
    """When it is made."""
    with pytest.raises(ConfigurationError):
        Edge(**options)
