"""Stale responses: asked for again, renewed, or served in place of an error."""

import asyncio
from email.utils import formatdate
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import ResponseCache, Rule, http_tags
from tests.asgi.client import Origin, Pairs, begin, fetch, raw, scope_of
from tests.conftest import MakeCache
from tests.core.source import ticks

ETAG = ("etag", '"a"')


@pytest.fixture
def origin() -> Origin:
    """Return an application that answers a condition which holds with a 304."""
    origin = Origin(("cache-control", "max-age=60"), ETAG)

    def follow(scope: Any) -> Pairs:
        asked = dict(scope["headers"]).get(b"if-none-match")
        current = dict(origin.fields).get("etag", "").encode()
        origin.status = 304 if asked and asked == current else 200
        origin.parts = [b""] if origin.status == 304 else [b"hel", b"lo"]
        return origin.fields

    origin.follow = follow
    return origin


@pytest.fixture
def app(origin: Origin, cache: TierCache, clock: FakeClock) -> ResponseCache:
    """Return it behind a cache."""
    return ResponseCache(origin, cache=cache, clock=clock)


async def stale(app: ResponseCache, cache: TierCache, clock: FakeClock) -> None:
    """Let a response be stored, and its lifetime pass."""
    await fetch(app)
    await settled(cache)
    await clock.advance(61)


async def test_a_response_that_is_current_lives_on(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """With the fields that the 304 has brought (R7)."""
    await stale(app, cache, clock)
    origin.fields = [("cache-control", "max-age=30"), ETAG, ("x", "new")]

    validated = await fetch(app)
    await settled(cache)
    await clock.advance(5)
    again = await fetch(app)

    assert origin.calls == 2
    assert (validated.status, validated.body) == (200, b"hello")
    assert validated.fields["cache-status"] == (
        "tiercache; fwd=stale; fwd-status=304; ttl=30; stored"
    )
    assert (again.hit, again.body) == (True, b"hello")
    assert (again.fields["x"], again.fields["age"]) == ("new", "5")
    assert again.fields["cache-control"] == "max-age=30"
    await clock.advance(26)
    assert not (await fetch(app)).hit


async def test_a_response_that_has_changed_is_replaced(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """By the one that comes instead."""
    await stale(app, cache, clock)
    origin.fields = [("cache-control", "max-age=60"), ("etag", '"b"')]

    changed = await fetch(app)
    await settled(cache)

    assert changed.body == b"hello"
    assert changed.fields["cache-status"] == "tiercache; fwd=stale; stored"
    found = await fetch(app)
    assert (found.hit, found.fields["etag"]) == (True, '"b"')


@pytest.mark.parametrize("said", ["no-cache", "no-cache, max-age=60", "max-age=0"])
async def test_what_must_be_validated_is_each_time(
    app: ResponseCache, origin: Origin, cache: TierCache, said: str
) -> None:
    """But it is not made again (R7)."""
    origin.fields = [("cache-control", said), ETAG]
    for _ in range(3):
        assert (await fetch(app)).body == b"hello"
        await settled(cache)

    asked = [b"if-none-match" in dict(scope["headers"]) for scope in origin.seen]
    assert asked == [False, True, True]


async def test_many_wait_for_one_validation(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """Who comes meanwhile has what it brings (R18)."""
    await stale(app, cache, clock)
    gate = asyncio.Event()
    origin.within = gate.wait  # type: ignore[assignment]
    exchanges = [begin(app) for _ in range(10)]
    await ticks()
    gate.set()

    for exchange in exchanges:
        assert (await exchange.done()).body == b"hello"
    assert origin.calls == 2


async def test_what_is_stored_is_given_a_tag_of_its_content(
    origin: Origin, make_cache: MakeCache, clock: FakeClock
) -> None:
    """The same on all servers, and for the same content again (R7)."""
    origin.fields, origin.follow = [("cache-control", "max-age=60")], None
    here, there = [
        ResponseCache(
            origin, cache=await make_cache(namespace=name, client=None), clock=clock, etags=True
        )
        for name in ("here", "there")
    ]
    await fetch(here)
    tag = (await fetch(here)).fields["etag"]

    assert tag.startswith('"')
    assert "etag" not in (await fetch(there)).fields  # its content comes after its fields
    assert (await fetch(there)).fields["etag"] == tag
    assert (await fetch(there, ("if-none-match", tag))).status == 304
    await clock.advance(100_000)
    assert (await fetch(here, ("if-none-match", tag))).status == 304
    origin.parts = [b"other"]
    await clock.advance(61)
    assert (await fetch(here, ("if-none-match", tag))).status == 200
    assert (await fetch(here)).fields["etag"] != tag
    assert not any(b"if-none-match" in dict(each["headers"]) for each in origin.seen)
    origin.fields = [("cache-control", "max-age=60"), ETAG]
    await fetch(here, path="/b")
    assert (await fetch(here, path="/b")).fields["etag"] == ETAG[1]


async def test_a_client_with_a_condition_gets_its_304(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """From what was validated."""
    await stale(app, cache, clock)

    found = await fetch(app, ("if-none-match", '"a"'))

    assert (found.status, found.body) == (304, b"")
    other = await fetch(app, ("if-none-match", '"b"'))
    assert (other.status, other.body, other.hit) == (200, b"hello", True)


@pytest.mark.parametrize(
    ("profile", "ages", "told"),
    [
        ("origin-safe", ["50"], "52"),
        ("origin-safe", ["50, 0"], None),
        ("origin-safe", ["old"], None),
        ("rfc9111", ["50, 0"], "52"),
        ("rfc9111", ["50", "0"], "52"),
        ("rfc9111", ["60"], None),
        ("rfc9111", ["old"], "2"),
    ],
)
async def test_a_response_that_comes_with_an_age_is_that_old(
    origin: Origin, cache: TierCache, clock: FakeClock, profile: Any, ages: list[str],
    told: str | None,
) -> None:  # fmt: skip
    """What is none is too old, unless the RFCs are made full use of (R6)."""
    origin.fields = [("cache-control", "max-age=60"), *(("age", age) for age in ages)]
    app = ResponseCache(origin, cache=cache, clock=clock, profile=profile)

    await fetch(app)
    await settled(cache)
    await clock.advance(2)
    found = await fetch(app)

    assert (found.fields["age"] if found.hit else None) == told


async def test_a_stale_response_is_served_while_it_is_validated(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """Once for all who come, and not past its time (R12)."""
    origin.fields = [("cache-control", "max-age=60, stale-while-revalidate=10"), ETAG]
    await stale(app, cache, clock)
    gate = asyncio.Event()
    origin.within = gate.wait  # type: ignore[assignment]

    found = [await fetch(app) for _ in range(3)]
    await ticks()

    assert [(each.hit, each.body) for each in found] == [(True, b"hello")] * 3
    assert found[0].fields["cache-status"] == "tiercache; hit; ttl=-1"
    assert origin.calls == 2
    gate.set()
    await ticks()
    await settled(cache)
    assert (await fetch(app)).fields["age"] == "0"
    assert origin.calls == 2
    await clock.advance(71)
    assert not (await fetch(app)).hit


@pytest.mark.parametrize("how", ["status", "error"])
@pytest.mark.parametrize(("allowed", "served"), [(True, True), (False, False)])
async def test_a_stale_response_takes_the_place_of_an_error(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock, *,
    allowed: bool, served: bool, how: str,
) -> None:  # fmt: skip
    """If it says so (R12)."""
    more = ", stale-if-error=10" * allowed
    origin.fields = [("cache-control", f"max-age=60{more}"), ETAG]
    await stale(app, cache, clock)
    origin.follow, origin.status, origin.parts = None, 503, [b"down"]

    async def fail() -> None:
        raise ZeroDivisionError

    if how == "error":
        origin.within = fail
    if how == "error" and not served:
        with pytest.raises(ZeroDivisionError):
            await fetch(app)
        return
    found = await fetch(app)

    assert (found.status, found.body) == ((200, b"hello") if served else (503, b"down"))
    if served:
        answered = "fwd-status=503; " if how == "status" else ""
        assert found.fields["cache-status"] == f"tiercache; fwd=stale; {answered}ttl=-1"
        await clock.advance(10)
        origin.within = None
        assert (await fetch(app)).status == 503


async def test_a_response_that_may_not_be_kept_any_more_answers_once(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """A 304 may say that it is private now."""
    await stale(app, cache, clock)
    origin.fields = [("cache-control", "private"), ETAG]

    assert (await fetch(app)).body == b"hello"
    calls = origin.calls

    await fetch(app)
    assert origin.calls == calls + 1


async def test_a_304_about_another_response_is_asked_again(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """What is stored is not said to be current by it (RFC 9111, 4.3.4)."""
    await stale(app, cache, clock)

    def follow(scope: Any) -> Pairs:
        origin.status = 304 if b"if-none-match" in dict(scope["headers"]) else 200
        return [("cache-control", "max-age=60"), ("etag", '"b"')]

    origin.follow = follow
    found = await fetch(app)

    assert (found.status, found.body, found.fields["etag"]) == (200, b"hello", '"b"')
    await clock.advance(1)  # what was ended is told to L2
    await fetch(app)
    await settled(cache)
    assert (await fetch(app)).hit


@pytest.mark.parametrize("said", ["private", "no-store", 'private="x"'])
async def test_a_304_overrules_what_was_said_to_this_cache_alone(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock, said: str
) -> None:
    """Who adds that field may not have thought of it."""
    origin.fields = [("tiercache-cache-control", "max-age=60"), ETAG]
    await stale(app, cache, clock)
    origin.fields = [("cache-control", said), ETAG, ("x", "of one client")]
    await fetch(app)
    origin.fields = [("tiercache-cache-control", "max-age=60"), ETAG]

    found = await fetch(app)
    assert not found.hit
    assert "x" not in found.fields


async def test_what_a_304_says_to_this_cache_alone_is_not_passed_on(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """As what a whole response says is not (RFC 9213, 2.2)."""
    origin.fields = [("tiercache-cache-control", "max-age=60"), ETAG]
    await stale(app, cache, clock)

    first = await fetch(app)
    await settled(cache)
    again = await fetch(app)

    assert again.hit
    assert not {"tiercache-cache-control"} & {*first.fields, *again.fields}


async def test_a_304_is_of_when_it_came(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """If it says nothing else: what was to expire then is not fresh again (RFC 9110, 6.6.1)."""

    def at(seconds: float) -> str:
        return formatdate(clock.wall() + seconds, usegmt=True)

    origin.fields = [("date", at(0)), ("expires", at(60)), ETAG]
    await fetch(app)
    await settled(cache)
    await clock.advance(61)
    origin.fields = [ETAG]

    found = await fetch(app)
    await settled(cache)
    assert (found.body, found.fields["date"]) == (b"hello", at(0))
    await clock.advance(1)
    assert not (await fetch(app)).hit


async def test_a_304_takes_nothing_from_the_fields_that_a_response_depends_on(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """Where a rule names others."""
    rules = [Rule("/", vary=["accept-language"])]
    app = ResponseCache(origin, cache=cache, clock=clock, rules=rules)
    origin.fields = [("cache-control", "max-age=60"), ETAG, ("vary", "accept-encoding")]
    await stale(app, cache, clock)
    origin.fields = [("cache-control", "max-age=60"), ETAG]

    found = (await fetch(app)).messages[0]["headers"]
    told = {value for name, value in found if name == b"vary"}
    assert told == {b"accept-encoding", b"accept-language"}


async def test_parts_and_heads_of_what_is_stale_are_the_applications(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """They validate nothing."""
    await stale(app, cache, clock)

    await fetch(app, ("range", "bytes=0-1"))
    await fetch(app, method="HEAD")
    await ticks()
    await settled(cache)

    assert origin.calls == 3
    assert all(b"if-none-match" not in dict(scope["headers"]) for scope in origin.seen)


async def test_a_response_that_lives_on_stands_under_its_tags(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """What makes a 304 does not look at the rows again."""

    async def tag() -> None:
        if not origin.calls > 1:
            http_tags("row:1")

    origin.within = tag
    await stale(app, cache, clock)
    await fetch(app)
    await settled(cache)
    assert (await fetch(app)).hit

    await cache.invalidate(tags=["row:1"])

    assert not (await fetch(app)).hit


async def test_a_response_that_lives_on_stands_under_what_it_was_made_from(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """The application has read nothing to say that it is current."""

    @cache.cached("product", tags=["products"], ttl=1000)
    async def product() -> int:
        return 1

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if b"if-none-match" not in dict(scope["headers"]):
            await product()
        await origin(scope, receive, send)

    app = ResponseCache(application, cache=cache, clock=clock)
    await stale(app, cache, clock)
    await fetch(app)
    await settled(cache)
    assert (await fetch(app)).hit

    await cache.invalidate(tags=["products"])
    assert not (await fetch(app)).hit


async def test_what_is_asked_again_has_the_content_of_the_request(
    cache: TierCache, clock: FakeClock
) -> None:
    """After a 304 about another response, though the application has read it by then."""
    sent: list[Any] = []

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        asked = b"if-none-match" in dict(scope["headers"])
        fields = [("cache-control", "max-age=10"), ("etag", '"b"' if asked else '"a"')]
        status = 304 if asked else 200
        await send({"type": "http.response.start", "status": status, "headers": raw(fields)})
        await send({"type": "http.response.body", "body": b"you said " + body})

    async def receive() -> Any:
        return {"type": "http.request", "body": b"this", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    app = ResponseCache(echo, cache=cache, clock=clock)
    await stale(app, cache, clock)
    await app(scope_of("/", "GET", []), receive, send)

    assert sent[-1]["body"] == b"you said this"


async def test_variants_are_validated_one_by_one(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """Under the record that leads to them."""
    origin.fields = [("cache-control", "max-age=60"), ETAG, ("vary", "a")]
    for value in ("1", "2"):
        await fetch(app, ("a", value))
    await settled(cache)
    await clock.advance(61)

    for value in ("1", "2"):
        assert (await fetch(app, ("a", value))).body == b"hello"
    await settled(cache)
    for value in ("1", "2"):
        assert (await fetch(app, ("a", value))).hit

    assert origin.calls == 4


async def test_a_304_that_names_other_fields_renews_nothing_for_others(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """What depends on more than its key has answers no other request."""
    origin.fields = [("cache-control", "max-age=60"), ETAG, ("vary", "a")]
    await fetch(app, ("a", "1"), ("b", "1"))
    await settled(cache)
    await clock.advance(61)
    origin.fields = [("cache-control", "max-age=60"), ETAG, ("vary", "a, b")]
    await fetch(app, ("a", "1"), ("b", "1"))
    await ticks()

    origin.fields = [("cache-control", "max-age=60"), ("etag", '"b"'), ("vary", "a, b")]
    assert not (await fetch(app, ("a", "1"), ("b", "2"))).hit
    await clock.advance(1)
    await settled(cache)


# Several servers.


async def both_stale(
    app: ResponseCache, elsewhere: ResponseCache, cache: TierCache, clock: FakeClock
) -> None:
    """Let two servers have a response in memory whose lifetime has passed."""
    await fetch(app)
    await settled(cache)
    assert (await fetch(elsewhere)).hit
    await clock.advance(61)


@pytest.mark.parametrize("behind", [False, True])
async def test_what_one_server_has_validated_is_current_on_all(
    app: ResponseCache,
    origin: Origin,
    cache: TierCache,
    other: TierCache,
    clock: FakeClock,
    behind: bool,
) -> None:
    """They find it in Redis, though what they have in memory is stale (R12)."""
    if behind:
        origin.fields = [("cache-control", "max-age=60, stale-while-revalidate=99"), ETAG]
    elsewhere = ResponseCache(origin, cache=other, clock=clock)
    await both_stale(app, elsewhere, cache, clock)
    for server, tier in ((app, cache), (elsewhere, other), (elsewhere, other)):
        await fetch(server)
        await ticks()
        await settled(tier)

    assert origin.calls == 2
    for server in (app, elsewhere):
        found = await fetch(server)
        assert (found.hit, found.fields["age"], found.body) == (True, "0", b"hello")
    await clock.advance(61)
    await fetch(elsewhere)
    await ticks()
    assert origin.calls == 3


async def test_what_another_server_has_validated_ends_with_its_tags(
    app: ResponseCache, origin: Origin, cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """On both."""
    origin.fields = [*origin.fields, ("surrogate-key", "t")]
    elsewhere = ResponseCache(origin, cache=other, clock=clock)
    await both_stale(app, elsewhere, cache, clock)
    for server, tier in ((app, cache), (elsewhere, other)):
        await fetch(server)
        await settled(tier)
    assert origin.calls == 2

    await cache.invalidate(tags=["t"])
    await ticks()
    assert not (await fetch(elsewhere)).hit


async def test_servers_wait_for_one_validation(
    app: ResponseCache, origin: Origin, cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """That of whoever began."""
    elsewhere = ResponseCache(origin, cache=other, clock=clock)
    await both_stale(app, elsewhere, cache, clock)
    gate = asyncio.Event()
    origin.within = gate.wait  # type: ignore[assignment]
    exchanges = [begin(each) for each in (app, elsewhere)]
    await ticks()
    gate.set()
    for exchange in exchanges:
        await ticks()
        await clock.advance(1)
        assert (await exchange.done()).body == b"hello"

    assert origin.calls == 2


async def test_who_insists_has_the_origin_asked(
    origin: Origin, cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Although another server has just done so; what must be validated is, each time, too."""
    app, elsewhere = (
        ResponseCache(origin, cache=each, clock=clock, clients="honour") for each in (cache, other)
    )
    await both_stale(app, elsewhere, cache, clock)
    await fetch(app)
    await settled(cache)
    await fetch(elsewhere)
    calls = origin.calls

    await fetch(elsewhere, ("cache-control", "no-cache"))
    assert origin.calls == calls + 1
    origin.fields = [("cache-control", "no-cache"), ETAG]
    for number, server in enumerate((app, elsewhere, app, elsewhere), 1):
        await fetch(server, path="/always")
        await settled(cache)
        await settled(other)
        assert origin.calls == calls + 1 + number


@pytest.mark.parametrize("behind", [True, False])
async def test_an_application_that_waits_for_its_client_to_go_comes_to_an_end(
    cache: TierCache, clock: FakeClock, behind: bool
) -> None:
    """As Starlette and Litestar do while they stream; behind its client's back as well."""
    ended: list[str] = []

    async def streaming(_: Any, receive: Any, send: Any) -> None:
        async def gone() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        waiting = asyncio.ensure_future(gone())
        said = [("cache-control", "max-age=60, stale-while-revalidate=60")]
        start = {"type": "http.response.start", "status": 200, "headers": raw(said)}
        await send(start)
        await send({"type": "http.response.body", "body": b"hello"})
        await waiting
        ended.append("hello")

    app = ResponseCache(streaming, cache=cache, clock=clock)
    for _ in range(1 + behind):
        exchange = begin(app, stays=False)
        assert (await exchange.done()).body == b"hello"
        await settled(cache)
        await clock.advance(61)
        await ticks()

    assert ended == ["hello"] * (1 + behind)
