"""What requests may ask of the cache: directives, credentials, heads."""

import asyncio
from http import HTTPStatus
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import ConfigurationError
from async_tiercache.tags import MAX_TAGS
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import ResponseCache, http_private, http_tags
from tests.asgi.client import Origin, begin, fetch, raw, scope_of
from tests.conftest import MakeCache
from tests.core.source import ticks

FRESH = ("cache-control", "max-age=60")
TAG = ("etag", '"a"')
BASIC = ("authorization", "Basic x")


@pytest.fixture
def origin() -> Origin:
    """Return an application whose responses are fresh for a minute."""
    return Origin(FRESH)


@pytest.fixture
def app(origin: Origin, cache: TierCache, clock: FakeClock) -> ResponseCache:
    """Return it behind a cache that does as its clients ask."""
    return ResponseCache(origin, cache=cache, clock=clock, clients="honour")


@pytest.mark.parametrize(
    ("field", "hit"),
    [
        (("cache-control", "no-cache"), False),
        (("pragma", "no-cache"), False),
        (("cache-control", "no-store"), False),
        (("cache-control", "max-age=0"), False),
        (("cache-control", "max-age=10"), True),
        (("cache-control", "max-age=5"), False),
        (("cache-control", "min-fresh=50"), True),
        (("cache-control", "min-fresh=55"), False),
        (("cache-control", "only-if-cached"), True),
        (("cache-control", "nonsense"), True),
    ],
)
async def test_what_clients_ask_for_counts_if_it_shall(
    app: ResponseCache, origin: Origin, clock: FakeClock, cache: TierCache, field: Any, hit: bool
) -> None:
    """RFC 9111, 5.2.1; by default it does not, or anybody could send all requests through (R13)."""
    await fetch(app)
    await settled(cache)
    await clock.advance(8)

    assert (await fetch(app, field)).hit is hit
    deaf = ResponseCache(origin, cache=cache, clock=clock)
    assert (await fetch(deaf, field)).hit
    chosen = ResponseCache(origin, cache=cache, clock=clock, clients=lambda scope: False)
    assert (await fetch(chosen, field)).hit


async def test_who_asks_for_a_new_one_gets_it(app: ResponseCache, origin: Origin) -> None:
    """And so do those who come after."""
    await fetch(app)
    origin.parts = [b"new"]

    assert (await fetch(app, ("cache-control", "no-cache"))).body == b"new"
    again = await fetch(app)
    assert (again.body, again.hit) == (b"new", True)


@pytest.mark.parametrize(
    ("said", "hit"),
    [("max-age=10", True), ("max-age=10, must-revalidate", False), ("s-maxage=10", False)],
)
async def test_a_client_may_take_what_is_stale(
    app: ResponseCache, origin: Origin, clock: FakeClock, said: str, hit: bool
) -> None:
    """Unless the response forbids it."""
    origin.fields = [("cache-control", said), TAG]
    await fetch(app)
    await clock.advance(15)

    assert not (await fetch(app, ("cache-control", "max-stale=4"))).hit
    await clock.advance(15)
    assert (await fetch(app, ("cache-control", "max-stale=10"))).hit is hit


async def test_what_may_not_be_asked_of_the_origin_is_a_504(
    app: ResponseCache, origin: Origin
) -> None:
    """RFC 9111, 5.2.1.7; it was not forwarded, so `Cache-Status` names no reason for that."""
    found = await fetch(app, ("cache-control", "only-if-cached"))

    assert (found.status, found.body, origin.calls) == (504, b"", 0)
    assert found.fields["cache-status"] == "tiercache; detail=only-if-cached"


# Credentials.


# Heads.


@pytest.mark.parametrize(
    ("said", "ended"),
    [
        ([TAG], False),
        ([("etag", '"b"')], True),
        ([TAG, ("content-length", "5")], False),
        ([TAG, ("content-length", "6")], True),
        ([TAG, ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")], True),
        ([], False),
    ],
    ids=str,
)
async def test_a_head_that_tells_of_another_response_ends_what_is_stored(
    origin: Origin, cache: TierCache, clock: FakeClock, said: Any, ended: bool
) -> None:
    """RFC 9111, 4.3.5."""
    stale = ("cache-control", "max-age=10, stale-while-revalidate=60")
    origin.fields = [stale, TAG]
    app = ResponseCache(origin, cache=cache, clock=clock, clients="honour")
    await fetch(app)
    await settled(cache)
    origin.fields, origin.parts = [stale, *said], [b""]

    head = await fetch(app, ("cache-control", "no-cache"), method="HEAD")
    await ticks()
    await settled(cache)

    assert (head.status, head.body) == (200, b"")
    assert (await fetch(app)).hit is not ended


@pytest.mark.parametrize(
    ("method", "fields"),
    [("HEAD", []), ("GET", [("range", "bytes=0-1")]), ("GET", [("range", "bytes=9-")])],
    ids=str,
)
@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
async def test_the_whole_is_validated_behind_whatever_was_asked_for(
    origin: Origin, cache: TierCache, clock: FakeClock, method: str, fields: Any, profile: Any
) -> None:
    """A part, a head or a refusal of one would take the place of the response for all."""
    stale = ("cache-control", "max-age=10, stale-while-revalidate=60")
    origin.fields = [stale, TAG]
    app = ResponseCache(origin, cache=cache, clock=clock, profile=profile)
    await fetch(app)
    await settled(cache)
    await clock.advance(11)

    def follow(scope: Any) -> Any:
        ranged = b"range" in dict(scope["headers"])
        origin.status = 416 if ranged else 200
        origin.parts = [b""] if ranged or scope["method"] == "HEAD" else [b"new"]
        return [stale]

    origin.follow = follow
    assert (await fetch(app, *fields, method=method)).hit
    await ticks()
    await settled(cache)

    found = await fetch(app)
    assert (found.hit, found.status, found.body) == (True, 200, b"new")
    assert [scope["method"] for scope in origin.seen] == ["GET", "GET"]


@pytest.mark.parametrize("tiers", ["both", "memory"])
async def test_a_head_that_began_before_a_change_renews_nothing(
    origin: Origin, make_cache: MakeCache, clock: FakeClock, tiers: str
) -> None:
    """What it tells is of what was there before (R21)."""
    cache = await make_cache() if tiers == "both" else await make_cache(client=None)
    app = ResponseCache(origin, cache=cache, clock=clock)
    origin.fields = [FRESH, TAG]
    await fetch(app)
    await settled(cache)
    await clock.advance(61)
    reached, gate = asyncio.Event(), asyncio.Event()

    async def within() -> None:
        if origin.seen[-1]["method"] == "HEAD":
            reached.set()
            await gate.wait()

    origin.within, origin.parts = within, [b""]
    head = begin(app, method="HEAD")
    await reached.wait()
    await fetch(app, method="POST")
    origin.parts = [b"new"]
    gate.set()
    await head.done()
    await ticks()
    await settled(cache)

    assert (await fetch(app)).body == b"new"


async def test_a_request_with_content_fills_nothing(cache: TierCache, clock: FakeClock) -> None:
    """Though no field says that it has any, as over HTTP/2."""

    async def echo(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        await send({"type": "http.response.start", "status": 200, "headers": raw([FRESH])})
        await send({"type": "http.response.body", "body": b"you said " + body})

    app = ResponseCache(echo, cache=cache, clock=clock)
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": b"evil", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope_of("/", "GET", []), receive, send)
    await settled(cache)

    assert sent[-1]["body"] == b"you said evil"
    assert (await fetch(app)).body == b"you said "


# What the application says.


async def test_a_head_that_tells_of_the_same_response_renews_it(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """By its fields, as a 304 does; if it must not be kept any more, it is not."""
    origin.fields = [FRESH, TAG, ("x", "1")]
    app = ResponseCache(origin, cache=cache, clock=clock)
    await fetch(app)
    await settled(cache)
    await clock.advance(61)
    origin.fields, origin.parts = [("cache-control", "max-age=30"), TAG, ("x", "2")], [b""]
    assert (await fetch(app, method="HEAD")).fields["cache-status"] == "tiercache; fwd=stale"
    await ticks()
    await settled(cache)

    found = await fetch(app)
    assert (found.hit, found.body, found.fields["x"]) == (True, b"hello", "2")
    assert found.fields["cache-status"].endswith("ttl=30")
    await clock.advance(31)
    origin.fields = [("cache-control", "private"), TAG]
    await fetch(app, method="HEAD")
    await ticks()
    assert not (await fetch(app)).fields["cache-status"].startswith("tiercache; hit")


async def test_a_head_that_tells_nothing_renews_nothing(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """It is no evidence that anything is current."""
    app = ResponseCache(origin, cache=cache, clock=clock)
    origin.fields = [FRESH, TAG]
    await fetch(app)
    await settled(cache)
    await clock.advance(61)
    origin.fields, origin.parts = [FRESH], [b""]
    await fetch(app, method="HEAD")
    await ticks()

    assert not (await fetch(app)).hit


async def test_what_is_for_one_client_is_stored_for_none(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """Whoever read a session can say so, whatever the fields say."""

    async def read_session() -> None:
        http_private()

    origin.within = read_session
    app = ResponseCache(origin, cache=cache, clock=clock, detail=True)
    found = [(await fetch(app)).fields["cache-status"] for _ in range(2)]
    assert found == ["tiercache; fwd=uri-miss; detail=private", "tiercache; fwd=miss"]
    assert origin.calls == 2


async def test_it_can_be_said_until_the_response_ends(cache: TierCache, clock: FakeClock) -> None:
    """What has been sent by then was only sent to who asked for it."""
    calls: list[Any] = []
    gate = asyncio.Event()

    async def origin(scope: Any, _: Any, send: Any) -> None:
        calls.append(scope)
        start = {"type": "http.response.start", "status": 200, "headers": raw([FRESH])}
        await send(start)
        await send({"type": "http.response.body", "body": b"hel", "more_body": True})
        await gate.wait()
        http_private()
        await send({"type": "http.response.body", "body": b"lo"})

    app = ResponseCache(origin, cache=cache, clock=clock)
    exchanges = [begin(app) for _ in range(3)]
    await exchanges[0].begun(2)
    assert len(calls) == 1
    gate.set()

    for exchange in exchanges:
        assert (await exchange.done()).body == b"hello"
    assert len(calls) == 3


@pytest.mark.parametrize("collects", [True, False])
async def test_a_response_ends_with_what_was_read_for_it(
    origin: Origin, cache: TierCache, clock: FakeClock, collects: bool
) -> None:
    """By the tags of the calls that the application has made (R22)."""

    @cache.cached("user:{number}", tags=["user:{number}"])
    async def user(number: int) -> str:
        return "Ada"

    async def read() -> None:
        await user(7)

    origin.within = read
    app = ResponseCache(origin, cache=cache, clock=clock, collect_tags=collects)
    for _ in range(2):
        await fetch(app)
    assert origin.calls == 1

    await cache.invalidate(tags=["user:8"])
    assert (await fetch(app)).hit
    await cache.invalidate(tags=["user:7"])
    assert (await fetch(app)).hit is not collects


# Status.


@pytest.mark.parametrize(
    ("fields", "said", "why"),
    [
        ([], [("cache-control", "no-store")], "fwd=uri-miss; detail=no-store"),
        ([], [FRESH, ("set-cookie", "a=1")], "fwd=uri-miss; detail=set-cookie"),
        ([], [FRESH, ("vary", "*")], "fwd=uri-miss; detail=vary"),
        ([], [], "fwd=uri-miss; detail=lifetime"),
        ([], [FRESH, ("content-length", "2000000")], "fwd=uri-miss; detail=size"),
        ([], [FRESH, ("surrogate-key", " ".join("abcdefghi" * 9))], "fwd=uri-miss; stored"),
        (
            [],
            [FRESH, ("surrogate-key", " ".join(map(str, range(65))))],
            "fwd=uri-miss; detail=tags",
        ),
        ([BASIC], [FRESH], "fwd=bypass; detail=authorization"),
        ([("if-match", '"a"')], [FRESH], "fwd=bypass; detail=request"),
        ([("range", "bytes=0-1")], [FRESH], "fwd=miss"),
    ],
    ids=str,
)
async def test_it_can_be_told_why_nothing_is_stored(
    origin: Origin, cache: TierCache, clock: FakeClock, fields: Any, said: Any, why: str
) -> None:
    """For whoever looks into it; by default only that it was not (R15)."""
    origin.fields = said
    app = ResponseCache(origin, cache=cache, clock=clock, detail=True)

    assert (await fetch(app, *fields)).fields["cache-status"] == f"tiercache; {why}"
    assert (await fetch(app, method="POST")).fields["cache-status"] == "tiercache; fwd=method"
    quiet = ResponseCache(origin, cache=cache, clock=clock, name=None)
    assert "cache-status" not in (await fetch(quiet, *fields)).fields


async def test_an_application_may_name_more_tags_than_a_value_may_have(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """Its response is sent, and kept nowhere; it does not fail for the cache."""

    async def tag() -> None:
        http_tags(*(f"row:{number}" for number in range(MAX_TAGS + 1)))

    origin.within = tag
    app = ResponseCache(origin, cache=cache, clock=clock, detail=True)

    answer = await fetch(app)

    assert answer.fields["cache-status"] == "tiercache; fwd=uri-miss; detail=tags"


@pytest.mark.parametrize(
    "options",
    [
        {"clients": "all"},
        {"clients": ["honour"]},
        {"profile": ["rfc9111"]},
        {"read_your_writes": ["cookie"]},
        {"max_variants": 0},
        {"max_body": "big"},
        {"rules": ["/products"]},
        {"read_your_writes": "query"},
        {"app": None},
        {"cache": None},
        {"clock": 3},
        {"collect_tags": "no"},
        {"detail": "no"},
        {"edge": "Surrogate-Key"},
        {"etags": "strong"},
        {"hosts": "shop.example"},
        {"hosts": ["https://shop.example"]},
        {"hosts": [b"shop.example"]},
        {"hosts": 5},
        {"max_variants": "many"},
        {"name": 5},
        {"normalise": ["accept"]},
        {"normalise": {"accept": 5}},
        {"normalise": {"\u00e9": str.lower}},
        {"rules": None},
    ],
    ids=str,
)
async def test_options_that_mean_nothing_are_refused(cache: TierCache, options: Any) -> None:
    """When it is made."""
    with pytest.raises(ConfigurationError) as caught:
        ResponseCache(**{"app": Origin(), "cache": cache, **options})
    assert caught.value.hint


@pytest.mark.parametrize("said", [[FRESH], [FRESH, ("vary", "accept")]], ids=str)
async def test_a_request_that_is_over_is_not_made_again(
    origin: Origin, make_cache: MakeCache, clock: FakeClock, other: TierCache, said: Any
) -> None:
    """A check against the source would send its client a second answer."""
    origin.fields = said
    await fetch(ResponseCache(origin, cache=other, clock=clock))
    await settled(other)
    cache = await make_cache(self_check=60, check_source=True)
    app = ResponseCache(origin, cache=cache, clock=clock)
    first = await fetch(app)
    second = await fetch(app, path="/other")
    await settled(cache)
    await fetch(app, path="/other")
    calls = origin.calls

    source_check = cache._core.source_check
    assert source_check is not None
    assert await source_check.check() == 0

    assert origin.calls == calls
    assert source_check.checked == 0
    assert [len(each.messages) for each in (first, second)] == [2, 3]


@pytest.mark.parametrize(
    ("conditions", "status"),
    [
        ([("if-none-match", '"a"')], 304),
        ([("if-none-match", '"b"')], 200),
        ([("if-none-match", '"b"'), ("if-none-match", '"a"')], 304),
        ([("if-none-match", '"a"'), ("if-none-match", '"b"')], 304),
        ([("if-none-match", '"b"'), ("if-none-match", '"c"')], 200),
        ([("if-none-match", '"a"'), ("if-modified-since", "Mon, 30 Nov 2020 06:00:00 GMT")], 304),
        ([("if-modified-since", "Mon, 30 Nov 2020 06:00:00 GMT"), ("if-none-match", '"a"')], 304),
        ([("if-none-match", '"b"'), ("if-modified-since", "Mon, 30 Nov 2026 06:00:00 GMT")], 200),
        ([("if-modified-since", "Mon, 30 Nov 2026 06:00:00 GMT")], 304),
        ([("if-modified-since", "Mon, 30 Nov 2020 06:00:00 GMT")], 200),
        ([("if-modified-since", "Mon, 30 Nov 2026 06:00:00 GMT")] * 2, 200),
        ([("if-none-match", '"a"'), ("range", "bytes=0-1")], 304),
        ([("if-none-match", '"b"'), ("range", "bytes=0-1")], 206),
    ],
)
async def test_all_conditions_count_that_a_client_sends(
    app: ResponseCache,
    origin: Origin,
    cache: TierCache,
    conditions: list[tuple[str, str]],
    status: int,
) -> None:
    """In whatever order and number; a date only where there is no tag (RFC 9110, 13.2.2)."""
    date = "Mon, 30 Nov 2026 06:00:00 GMT"
    origin.fields = [FRESH, ("etag", '"a"'), ("last-modified", date), ("date", date)]
    await fetch(app)
    await settled(cache)

    assert [(await fetch(app, *conditions)).status for _ in range(2)] == [status] * 2
    assert origin.calls == 1


async def test_a_status_may_be_of_an_enumeration(
    app: ResponseCache, origin: Origin, cache: TierCache
) -> None:
    """As frameworks pass on what they are given."""
    origin.status = HTTPStatus.NOT_FOUND
    await fetch(app)
    await settled(cache)

    found = await fetch(app)
    assert (found.hit, found.status, found.body) == (True, 404, b"hello")


async def test_an_early_hint_is_for_who_is_first(cache: TierCache, origin: Origin) -> None:
    """It is passed on before the response, and nothing of it is stored (R19)."""
    hint = {"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]}

    async def hinting(scope: Any, receive: Any, send: Any) -> None:
        await send(hint)
        await origin(scope, receive, send)

    app = ResponseCache(hinting, cache=cache)
    first = await fetch(app)
    await settled(cache)
    second = await fetch(app)

    assert first.messages[0] == hint
    assert [each["type"] for each in first.messages[1:]] == [
        "http.response.start", "http.response.body", "http.response.body",
    ]  # fmt: skip
    assert second.hit
    assert hint not in second.messages
    assert "link" not in second.fields
