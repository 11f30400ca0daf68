"""Rules: what holds for the responses of a path where they do not say it themselves."""

from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import ConfigurationError, KeyTemplateError
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import ResponseCache, Rule
from tests.asgi.client import Origin, Pairs, fetch
from tests.core.source import ticks

COOKIE = ("cookie", "session=1")


@pytest.mark.parametrize(
    ("path", "asked", "tags"),
    [
        ("/products/{number}", "/products/7", ["t:7"]),
        ("/products/{number}", "/products/7/", None),
        ("/products/{number}", "/products/", None),
        ("/products/{number}", "/products/7/reviews", None),
        ("/products/{number}", "/products/a.css", ["t:a.css"]),
        ("/products/{number}", "/products/a:b%", ["t:a%3Ab%25"]),
        ("/{number:path}", "/products/7", ["t:products/7"]),
        ("/a.b/{number}", "/axb/7", None),
        ("/{number}\n", "/7", None),
    ],
)
def test_a_rule_is_for_whole_paths(path: str, asked: str, tags: list[str] | None) -> None:
    """A placeholder is one segment; what looks like a file is nothing else than that."""
    rule = Rule(path, tags=["t:{number}"])

    assert rule.fits(asked) is (tags is not None)
    assert tags is None or rule.tags_for(asked) == tags


@pytest.mark.parametrize(
    ("path", "options", "error"),
    [
        ("products", {}, ConfigurationError),
        ("/{a}/{a}", {}, ConfigurationError),
        ("/{1}", {}, ConfigurationError),
        ("/{a", {}, ConfigurationError),
        ("/{a:int}", {}, ConfigurationError),
        ("/", {"ttl": "soon"}, ConfigurationError),
        ("/", {"grace": -1}, ConfigurationError),
        ("/", {"vary": "accept"}, ConfigurationError),
        ("/", {"vary": ["a b"]}, ConfigurationError),
        ("/", {"vary": ["€"]}, ConfigurationError),
        ("/", {"tags": "t"}, ConfigurationError),
        ("/{a}", {"tags": ["t:{b}"]}, KeyTemplateError),
    ],
)
def test_a_malformed_rule_is_refused(path: str, options: Any, error: type[Exception]) -> None:
    """When it is made."""
    with pytest.raises(error):
        Rule(path, **options)


async def test_a_silent_response_lives_as_long_as_the_rule_says(
    cache: TierCache, clock: FakeClock
) -> None:
    """And stands under its tags; what a response says itself comes first."""
    origin = Origin()
    rules = [Rule("/products/{number}", ttl="1m", tags=["product:{number}"]), Rule("/", ttl=0)]
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules)

    await fetch(app, path="/products/7")
    assert (await fetch(app, path="/products/7")).fields["cache-status"].endswith("ttl=60")
    await cache.invalidate(tags=["product:7"])
    assert not (await fetch(app, path="/products/7")).hit

    origin.fields = [("cache-control", "max-age=5")]
    await fetch(app, path="/products/8")
    assert (await fetch(app, path="/products/8")).fields["cache-status"].endswith("ttl=5")
    origin.fields = [("cache-control", "no-store")]
    await fetch(app, path="/products/9")
    assert not (await fetch(app, path="/products/9")).hit


@pytest.mark.parametrize(
    ("root", "path", "fits"),
    [
        ("/shop", "/shop/products/7", True),
        ("/shop", "/products/7", True),
        ("/products", "/products/7", False),
        ("/pro", "/products/7", True),
    ],
)
async def test_a_rule_is_for_paths_as_the_applications_routes_see_them(
    cache: TierCache, clock: FakeClock, root: str, path: str, *, fits: bool
) -> None:
    """Whatever that is mounted at; a path that a proxy has cut off already is left as it is."""
    rules = [Rule("/products/{number}", ttl="1m", tags=["product:{number}"])]
    app = ResponseCache(Origin(), cache=cache, clock=clock, rules=rules)

    async def mounted(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": root}, receive, send)

    await fetch(mounted, path=path)
    assert (await fetch(mounted, path=path)).hit is fits
    await cache.invalidate(tags=["product:7"])
    assert not (await fetch(mounted, path=path)).hit


async def test_a_rule_says_nothing_of_those_with_cookies(
    cache: TierCache, clock: FakeClock
) -> None:
    """A silent response may be theirs alone; if the application does not see them, it is not."""
    origin = Origin()
    for number, (strict, vary, stored) in enumerate(
        [(False, [], False), (True, [], True), (True, ["cookie"], False)]
    ):
        rules = [Rule("/{name}", ttl="1m", strict=strict, vary=vary)]
        app = ResponseCache(origin, cache=cache, clock=clock, rules=rules)
        await fetch(app, COOKIE, path=f"/{number}")
        assert (await fetch(app, COOKIE, path=f"/{number}")).hit is stored


@pytest.mark.parametrize("rules", [[], [Rule("/", ttl="5m", grace="1h")], [Rule("/", grace="1h")]])
async def test_a_silent_page_of_one_client_is_not_validated_for_another(
    cache: TierCache, clock: FakeClock, rules: list[Rule]
) -> None:
    """By its date, an older page of his own would be one that has not changed."""
    pages = {b"ada": "Sun, 06 Nov 1994 09:49:37 GMT", b"bob": "Sun, 06 Nov 1994 08:49:37 GMT"}
    origin = Origin()

    def follow(scope: Any) -> Pairs:
        asked = dict(scope["headers"])
        user, unchanged = asked[b"cookie"], b"if-modified-since" in asked
        origin.status, origin.parts = (304, [b""]) if unchanged else (200, [user])
        return [("last-modified", pages[user])]

    origin.follow = follow
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules)

    for user in ("ada", "bob"):
        assert (await fetch(app, ("cookie", user))).body == user.encode()


@pytest.mark.parametrize("said", [[], [("cache-control", "public")]])
@pytest.mark.parametrize("ttl", [None, "5m"])
async def test_grace_lets_nothing_be_served_that_never_was_fresh(
    cache: TierCache, clock: FakeClock, said: list[tuple[str, str]], ttl: str | None
) -> None:
    """A page that is stored to be validated may be for one client."""
    origin = Origin()
    origin.follow = lambda scope: [("etag", dict(scope["headers"])[b"cookie"].decode()), *said]
    rules = [Rule("/", ttl=ttl, grace="1h")]
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules, profile="rfc9111")
    await fetch(app, ("cookie", "ada"))
    origin.parts = [b"for bob"]

    assert (await fetch(app, ("cookie", "bob"))).body == b"for bob"
    assert b"if-none-match" in dict(origin.seen[-1]["headers"])


async def test_a_strict_rule_hides_what_is_not_in_the_key(
    cache: TierCache, clock: FakeClock
) -> None:
    """No other field can get into what others are sent, whether it is stored or not."""
    origin = Origin()
    rules = [Rule("/", ttl="1m", vary=["Accept-Language"], strict=True)]
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules)
    asked = [("x-forwarded-host", "evil"), COOKIE, ("accept-language", "de"), ("range", "bytes=0-")]

    for fields in (asked, asked[:3]):
        await fetch(app, *fields)
        shown = dict(origin.seen[-1]["headers"])
        assert shown == {b"host": b"example.org", b"accept-language": b"de"}
    await fetch(app, ("authorization", "Basic x"), COOKIE)
    assert b"cookie" in dict(origin.seen[-1]["headers"])


@pytest.mark.parametrize(("vary", "left"), [([], set()), (["cookie"], {"auth", "session", "user"})])
@pytest.mark.parametrize("asked", [(), (("range", "bytes=0-"),)])
async def test_a_strict_rule_hides_who_the_client_is(
    cache: TierCache, clock: FakeClock, vary: list[str], left: set[str], asked: Pairs
) -> None:
    """What stands outside has found that out by fields that are not in the key."""
    origin = Origin()
    rules = [Rule("/", ttl="1m", vary=vary, strict=True)]
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules)

    async def outside(scope: Any, receive: Any, send: Any) -> None:
        known = {"user": "ada", "auth": ["admin"], "session": {"id": 7}, "client": ("1.2.3.4", 5)}
        await app({**scope, **known, "app": "outer"}, receive, send)

    await fetch(outside, COOKIE, *asked)

    shown = origin.seen[-1]
    assert {"user", "auth", "session"} & shown.keys() == left
    assert (shown["client"], shown["app"]) == (None, "outer")


@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
async def test_a_rule_takes_cookies_off(cache: TierCache, clock: FakeClock, profile: Any) -> None:
    """The first client goes without it too, and so does who has the page validated (R3)."""
    cookie = ("set-cookie", "session=1")
    origin = Origin(cookie, ("etag", '"a"'))
    rules = [Rule("/help", ttl=10, strip_cookies=True), Rule("/{page:path}", ttl=10)]
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules, profile=profile)

    first, second = await fetch(app, path="/help"), await fetch(app, path="/help")
    assert "set-cookie" not in {**first.fields, **second.fields}
    assert second.hit
    await settled(cache)
    await clock.advance(11)
    origin.status, origin.parts = 304, [b""]
    renewed = await fetch(app, path="/help")
    assert (renewed.status, renewed.body) == (200, b"hello")
    assert "set-cookie" not in renewed.fields
    origin.status, origin.parts = 200, [b"hello"]
    assert "set-cookie" in (await fetch(app, path="/account")).fields


async def test_a_rule_adds_what_a_response_depends_on(cache: TierCache, clock: FakeClock) -> None:
    """Caches in front must know it, too."""
    origin = Origin(("cache-control", "max-age=60"), ("vary", "accept"))
    rules = [Rule("/", vary=["accept-language"])]
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules)

    for language in ("de", "en"):
        for _ in range(2):
            made = await fetch(app, ("accept-language", language))
            said = [value for name, value in made.messages[0]["headers"] if name == b"vary"]
            assert said == [b"accept", b"accept-language"]
    assert origin.calls == 2


async def test_grace_serves_what_is_stale(cache: TierCache, clock: FakeClock) -> None:
    """While it is made anew, and in place of an error; no validator is needed for that."""
    origin = Origin()
    rules = [Rule("/", ttl=10, grace=60)]
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules)
    await fetch(app)
    await clock.advance(15)
    origin.parts = [b"new"]

    assert (await fetch(app)).body == b"hello"
    await settled(cache)
    await ticks()
    assert (await fetch(app)).body == b"new"
    assert origin.calls == 2
