"""A shared cache of responses: what is kept, who gets it, and what ends it."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import ConfigurationError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations.asgi import ResponseCache, http_tags
from tests.asgi.client import Origin, begin, fetch, raw
from tests.conftest import MakeCache
from tests.core.source import ticks

FRESH = ("cache-control", "max-age=60")
PRIVATE = ("cache-control", "private")
OURS = ("tiercache-cache-control", "max-age=9")


@pytest.fixture
def origin() -> Origin:
    """Return an application whose responses are fresh for a minute."""
    return Origin(FRESH)


@pytest.fixture
def app(origin: Origin, cache: TierCache, clock: FakeClock) -> ResponseCache:
    """Return it behind a cache."""
    return ResponseCache(origin, cache=cache, clock=clock)


@pytest.fixture
def elsewhere(origin: Origin, other: TierCache, clock: FakeClock) -> ResponseCache:
    """Return the same on another server."""
    return ResponseCache(origin, cache=other, clock=clock)


async def test_a_response_is_sent_again(
    app: ResponseCache, origin: Origin, clock: FakeClock, cache: TierCache
) -> None:
    """With its age, and with what was done (R6, R15)."""
    first = await fetch(app)
    await settled(cache)
    await clock.advance(7)
    second = await fetch(app)

    assert (first.status, first.body) == (second.status, second.body) == (200, b"hello")
    assert first.fields["cache-status"] == "tiercache; fwd=uri-miss; stored"
    assert second.fields == {
        "cache-control": "max-age=60",
        "content-length": "5",
        "age": "7",
        "cache-status": "tiercache; hit; ttl=53",
    }
    assert origin.calls == 1
    await clock.advance(54)
    assert not (await fetch(app)).hit


async def test_age_and_lifetime_are_those_of_each_second(
    app: ResponseCache, clock: FakeClock, cache: TierCache
) -> None:
    """However many hits share one."""
    await clock.advance(0.5)
    await fetch(app)
    await settled(cache)

    told = list[str]()
    for seconds in (0.0, 0.25, 0.5, 0.25, 1.0, 57.75, 0.125):
        await clock.advance(seconds)
        fields = (await fetch(app)).fields
        told.append(f"{fields['age']} {fields['cache-status'].rpartition('=')[2]}")

    assert told == ["0 60", "0 59", "0 59", "1 59", "2 58", "59 0", "59 0"]
    conditional = [("if-none-match", '"x"'), ("if-modified-since", "Mon, 30 Nov 2026 06:00:00 GMT")]
    assert (await fetch(app, *conditional)).fields["age"] == "59"
    await clock.advance(0.125)
    assert not (await fetch(app)).hit


async def test_caches_that_share_responses_speak_for_themselves(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """In the same second, too."""
    inner, outer = (ResponseCache(origin, cache=cache, name=each, clock=clock) for each in "ab")
    await fetch(inner)

    for _ in range(2):
        assert (await fetch(inner)).fields["cache-status"] == "a; hit; ttl=60"
        assert (await fetch(outer)).fields["cache-status"] == "b; hit; ttl=60"
    assert origin.calls == 1


@pytest.mark.parametrize("asked", [(), (("if-none-match", '"v"'),)])
async def test_what_is_written_into_an_answer_is_in_no_other(
    origin: Origin, app: ResponseCache, asked: tuple[tuple[str, str], ...]
) -> None:
    """Middleware in front, and servers, add to the fields that they are given."""
    origin.fields = [FRESH, ("etag", '"v"')]
    await fetch(app)
    first = await fetch(app, *asked)
    first.messages[0]["headers"] += [(b"set-cookie", b"session=1")]

    assert "set-cookie" not in (await fetch(app, *asked)).fields


async def test_other_servers_have_it_from_redis(
    app: ResponseCache, elsewhere: ResponseCache, origin: Origin, cache: TierCache
) -> None:
    """It is one cache."""
    await fetch(app)
    await settled(cache)

    assert (await fetch(elsewhere)).hit
    assert origin.calls == 1


async def test_urls_are_told_apart(app: ResponseCache, origin: Origin) -> None:
    """By path and query, as they were sent."""
    for path, query in (("/", ""), ("/a", ""), ("/%61", ""), ("/", "a=1"), ("/", "a=2")):
        assert not (await fetch(app, path=path, query=query)).hit
        assert (await fetch(app, path=path, query=query)).hit

    assert origin.calls == 5


@pytest.mark.parametrize(
    "fields",
    [
        [],
        [("cache-control", "no-store")],
        [("cache-control", "private, max-age=60")],
        [FRESH, ("set-cookie", "a=1")],
        [FRESH, ("vary", "*")],
        [("cache-control", "max-age=60, no-cache")],
        [("cache-control", "max-age=0")],
        [FRESH, ("age", "60")],
        [FRESH, ("content-length", "2000000")],
    ],
    ids=str,
)
async def test_what_must_not_be_shared_is_made_for_each(
    app: ResponseCache, origin: Origin, fields: Any
) -> None:
    """Also for those who waited for the first one (R1, R3, R18)."""
    origin.fields = fields
    origin.gate.clear()
    exchanges = [begin(app) for _ in range(3)]
    await ticks()
    origin.gate.set()

    for exchange in exchanges:
        await exchange.done()
        assert (exchange.status, exchange.body) == (200, b"hello")
    assert origin.calls == 3
    await fetch(app)
    assert origin.calls == 4


@pytest.mark.parametrize(
    ("profile", "fields", "kept"),
    [
        ("origin-safe", [OURS], True),
        ("origin-safe", [FRESH, ("tiercache-cache-control", "no-store")], False),
        ("origin-safe", [FRESH, ("tiercache-cache-control", "max-age=0")], False),
        ("origin-safe", [FRESH, ("tiercache-cache-control", "nonsense=")], True),
        ("origin-safe", [FRESH, ("cdn-cache-control", "no-store")], True),
        (
            "origin-safe",
            [("cache-control", "private"), ("tiercache-cache-control", "max-age=9")],
            False,
        ),
        ("rfc9111", [("cache-control", "private"), ("tiercache-cache-control", "max-age=9")], True),
        ("rfc9111", [FRESH, ("cdn-cache-control", "no-store")], False),
        (
            "rfc9111",
            [("cdn-cache-control", "no-store"), ("tiercache-cache-control", "max-age=9")],
            True,
        ),
    ],
)
async def test_a_response_may_speak_to_this_cache_alone(
    origin: Origin, cache: TierCache, clock: FakeClock, profile: Any, fields: Any, *, kept: bool
) -> None:
    """By a field of its own (R14)."""
    origin.fields = fields
    app = ResponseCache(origin, cache=cache, clock=clock, profile=profile)

    await fetch(app)
    await fetch(app)

    assert origin.calls == (1 if kept else 2)


async def test_a_response_that_is_not_stored_is_streamed(
    app: ResponseCache, origin: Origin
) -> None:
    """Its first part has come while the last one is not there yet (R19)."""
    origin.fields = []
    origin.gate.clear()

    exchange = begin(app)
    await exchange.begun(2)

    assert exchange.body == b"hel"
    origin.gate.set()
    assert (await exchange.done()).body == b"hello"


async def test_a_response_that_is_stored_is_streamed_to_who_is_first(
    app: ResponseCache, origin: Origin
) -> None:
    """Others have it when it is complete (R18, R19)."""
    origin.gate.clear()
    first = begin(app)
    await first.begun(2)
    others = [begin(app) for _ in range(10)]
    await ticks()

    assert first.body == b"hel"
    origin.gate.set()
    for exchange in (first, *others):
        assert (await exchange.done()).body == b"hello"
    assert origin.calls == 1


async def test_a_client_that_goes_does_not_take_the_response_along(
    app: ResponseCache, origin: Origin
) -> None:
    """It is made for all who wait, and for those who come (R18)."""
    origin.gate.clear()
    first, second = begin(app), begin(app)
    await first.begun(2)
    assert first.task is not None
    first.task.cancel()
    await ticks()
    origin.gate.set()

    assert (await second.done()).body == b"hello"
    assert (await fetch(app)).hit
    assert origin.calls == 1


async def test_a_client_that_reads_slowly_holds_nobody_up(
    app: ResponseCache, origin: Origin
) -> None:
    """The response is made at the speed of the application (R19)."""
    slow = begin(app, reads=False)
    await ticks()

    assert (await fetch(app)).hit
    assert slow.messages == []
    slow.reads.set()
    assert (await slow.done()).body == b"hello"
    assert origin.calls == 1


async def test_a_slow_client_that_goes_is_sent_nothing_more(
    app: ResponseCache, origin: Origin
) -> None:
    """Whether the response is complete by then or not."""
    for complete in (False, True):
        origin.gate.set() if complete else origin.gate.clear()
        slow = begin(app, reads=False, path=f"/{complete}")
        await ticks()
        assert slow.task is not None
        slow.task.cancel()
        await asyncio.wait([slow.task])
        origin.gate.set()
        slow.reads.set()
        await ticks()

        assert slow.messages == []
        assert (await fetch(app, path=f"/{complete}")).hit
    assert origin.calls == 2


async def test_who_asks_at_the_end_finds_the_response(app: ResponseCache, origin: Origin) -> None:
    """It is there before its last byte is sent."""
    found: list[bool] = []

    async def again() -> None:
        found.append((await fetch(app)).hit)

    await fetch(app, at_end=again)

    assert found == [True]
    assert origin.calls == 1


async def test_variants_are_kept_side_by_side(
    app: ResponseCache, elsewhere: ResponseCache, origin: Origin, cache: TierCache
) -> None:
    """Each server learns from the record of the URL which fields tell them apart (R8)."""
    origin.fields = [FRESH, ("vary", "Accept-Language")]
    languages = [[("accept-language", "de")], [("accept-language", "en")], []]
    for fields in languages:
        assert not (await fetch(app, *fields)).hit
    await settled(cache)

    for server in (app, elsewhere):
        for fields in languages:
            assert (await fetch(server, *fields)).hit
    assert origin.calls == 3


async def test_a_response_that_depends_on_other_fields_begins_a_new_record(
    app: ResponseCache, origin: Origin
) -> None:
    """The old one would lead to the wrong variants."""
    origin.fields = [FRESH, ("vary", "a")]
    await fetch(app, ("a", "1"))
    origin.fields = [FRESH, ("vary", "b")]

    assert not (await fetch(app, ("a", "2"))).hit
    assert not (await fetch(app, ("b", "1"))).hit
    assert (await fetch(app, ("b", "1"))).hit


async def test_responses_that_name_different_fields_live_side_by_side(
    app: ResponseCache, origin: Origin
) -> None:
    """Such as what is compressed, and what is not: only the one says on what it depends."""

    def follow(scope: Any) -> list[tuple[str, str]]:
        asked = dict(scope["headers"])
        return [FRESH, ("vary", ", ".join(each for each in "ab" if each.encode() in asked))]

    origin.follow = follow
    clients = [[("a", "1")], [("b", "1")], [("a", "1"), ("b", "1")], [("c", "1")]]
    for _ in range(4):
        for fields in clients:
            await fetch(app, *fields)
    calls = origin.calls
    for fields in clients:
        assert (await fetch(app, *fields)).hit
    assert origin.calls == calls


@pytest.mark.parametrize(("status", "ends"), [(200, True), (303, True), (404, False), (500, False)])
async def test_a_change_ends_what_was_stored(
    app: ResponseCache, elsewhere: ResponseCache, origin: Origin, status: int, ends: bool
) -> None:
    """On all servers, with its variants, unless it has failed (R9)."""
    origin.fields = [FRESH, ("vary", "a")]
    for server in (app, elsewhere):
        await fetch(server, ("a", "1"))
    origin.status = status
    await fetch(app, method="DELETE")
    origin.status = 200
    await ticks()
    calls = origin.calls

    for server in (elsewhere, app):
        await fetch(server, ("a", "1"))
    assert origin.calls - calls == ends


@pytest.mark.parametrize("field", ["location", "content-location"])
@pytest.mark.parametrize(
    ("url", "ends"),
    [
        ("/other?a=1", True),
        ("other?a=1", True),
        ("https://example.org/other?a=1", True),
        ("https://EXAMPLE.org/other?a=1", True),
        ("/other", False),
        ("https://example.com/other?a=1", False),
        ("http://example.org/other?a=1", False),
        ("https://[x/other?a=1", False),
    ],
)
async def test_a_change_ends_what_else_it_names(
    app: ResponseCache, origin: Origin, field: str, url: str, ends: bool
) -> None:
    """Of its own origin: another's is nobody's to end (R9)."""
    await fetch(app, path="/other", query="a=1")
    origin.fields = [(field, url)]
    await fetch(app, path="/change", method="POST")
    origin.fields = [FRESH]

    assert (await fetch(app, path="/other", query="a=1")).hit is not ends


async def test_a_response_under_a_tag_ends_with_it(
    app: ResponseCache, elsewhere: ResponseCache, origin: Origin, cache: TierCache
) -> None:
    """Whether its fields name the tag or what has made it (R22)."""

    async def tag() -> None:
        http_tags("row:1")

    origin.within = tag
    origin.fields = [FRESH, ("surrogate-key", "a b"), ("cache-tag", "c, d"), ("vary", "x")]
    for name in ("a", "b", "c", "d", "row:1"):
        await fetch(app)
        await settled(cache)
        assert (await fetch(app)).hit
        assert (await fetch(elsewhere)).hit
        await cache.invalidate(tags=[name])
        await ticks()
        assert not (await fetch(elsewhere)).hit


async def test_a_group_ends_with_a_change_that_says_so(
    app: ResponseCache, origin: Origin, cache: TierCache
) -> None:
    """RFC 9875 (R16)."""
    origin.fields = [FRESH, ("cache-groups", '"lists"')]
    await fetch(app, path="/list")
    await settled(cache)
    assert (await fetch(app, path="/list")).hit
    origin.fields = [("cache-group-invalidation", '"lists"')]
    await fetch(app, path="/item", method="PUT")
    origin.fields = [FRESH]

    assert not (await fetch(app, path="/list")).hit


@pytest.mark.parametrize("by", ["tag", "method"])
@pytest.mark.parametrize("vary", [[], [("vary", "x")]], ids=["one", "variants"])
async def test_what_was_made_before_a_change_is_not_kept(
    app: ResponseCache, origin: Origin, cache: TierCache, clock: FakeClock, by: str, vary: Any
) -> None:
    """Though it ends after it (R21)."""
    origin.fields = [FRESH, ("surrogate-key", "a"), *vary]
    origin.gate.clear()
    old = begin(app)
    await old.begun(2)
    if by == "tag":
        await cache.invalidate(tags=["a"])
    else:
        changing = Origin(parts=[b""])
        await fetch(ResponseCache(changing, cache=cache, clock=clock), method="POST")
    origin.gate.set()
    await old.done()
    await settled(cache)

    assert not (await fetch(app)).hit


async def test_a_client_that_has_it_gets_a_304(app: ResponseCache, origin: Origin) -> None:
    """The application is asked for the whole, for all others (R7)."""
    origin.fields = [FRESH, ("etag", '"a"')]
    condition = ("if-none-match", '"a"')

    first, second = await fetch(app, condition), await fetch(app, condition)

    assert [(each.status, each.body) for each in (first, second)] == [(304, b"")] * 2
    assert (await fetch(app)).body == b"hello"
    assert origin.calls == 1
    assert "if-none-match" not in dict(origin.seen[0]["headers"])


async def test_a_head_is_answered_from_what_is_stored(app: ResponseCache, origin: Origin) -> None:
    """And stores nothing (R11)."""
    assert origin.calls == 0
    await fetch(app, method="HEAD")
    assert not (await fetch(app)).hit

    head = await fetch(app, method="HEAD")

    assert (head.hit, head.body, head.fields["content-length"]) == (True, b"", "5")
    assert origin.calls == 2


async def test_a_part_is_sent_of_what_is_stored(app: ResponseCache, origin: Origin) -> None:
    """A part of what is not is the application's: the whole may be large (R10)."""
    part = ("range", "bytes=1-2")
    await fetch(app, part)
    assert dict(origin.seen[0]["headers"])[b"range"] == b"bytes=1-2"
    assert not (await fetch(app)).hit

    found = await fetch(app, part)

    assert (found.status, found.body, found.hit) == (206, b"el", True)
    assert origin.calls == 2


async def test_what_is_authorized_passes_by(app: ResponseCache, origin: Origin) -> None:
    """In both directions (R2)."""
    origin.fields = [("cache-control", "public, max-age=60")]
    for _ in range(2):
        await fetch(app, ("authorization", "Bearer x"))
    assert not (await fetch(app)).hit
    await fetch(app, ("authorization", "Bearer x"))

    assert origin.calls == 4


async def test_a_body_that_grows_too_large_is_passed_on(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """And what was held back of it is set free (R19)."""
    origin.parts = [b"x" * 10] * 3
    origin.fields = [FRESH, ("etag", '"a"')]
    app = ResponseCache(origin, cache=cache, clock=clock, max_body=25)

    for fields in ([], [("if-none-match", '"b"')]):
        assert (await fetch(app, *fields)).body == b"x" * 30
    assert origin.calls == 2


async def test_a_response_with_trailers_is_passed_on(cache: TierCache, clock: FakeClock) -> None:
    """They belong to it, and would not be sent again (R19)."""

    async def origin(_: Any, __: Any, send: Any) -> None:
        await send(
            {
                "type": "http.response.start",
                "status": 200,
                "headers": raw([FRESH]),
                "trailers": True,
            }
        )
        await send({"type": "http.response.body", "body": b"hello"})
        await send({"type": "http.response.trailers", "headers": raw([("x", "1")])})

    app = ResponseCache(origin, cache=cache, clock=clock)
    for _ in range(2):
        found = await fetch(app)
        assert [each["type"].rpartition(".")[2] for each in found.messages] == [
            "start",
            "body",
            "trailers",
        ]
        assert not found.hit


@pytest.mark.parametrize("fields", [[], [("if-none-match", '"b"')]], ids=["streamed", "held"])
async def test_a_body_that_is_not_whole_is_not_stored(
    app: ResponseCache, origin: Origin, fields: Any
) -> None:
    """Its length was promised (R1)."""
    origin.fields = [FRESH, ("content-length", "9")]

    for _ in range(2):
        assert (await fetch(app, *fields)).body == b"hello"
    assert origin.calls == 2


async def test_an_error_of_the_application_is_its_clients(
    app: ResponseCache, origin: Origin
) -> None:
    """Nothing is stored of what had been sent (R1)."""
    origin.error = ZeroDivisionError()

    with pytest.raises(ZeroDivisionError):
        await fetch(app)

    origin.error = None
    assert (await fetch(app)).body == b"hello"


async def test_without_redis_responses_are_kept_here(
    app: ResponseCache, origin: Origin, server: MemoryServer
) -> None:
    """Nobody sees an error (R20)."""
    server.connected = False

    assert (await fetch(app)).body == b"hello"
    assert (await fetch(app)).hit

    server.connected = True


async def test_what_is_no_request_passes_by(cache: TierCache) -> None:
    """A WebSocket is the application's."""
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, receive, send))

    call: Any = ({"type": "websocket"}, object(), object())
    await ResponseCache(app, cache=cache)(*call)

    assert seen == [call]


async def test_bad_options_are_refused(make_cache: MakeCache) -> None:
    """When the middleware is made."""
    cache = await make_cache()
    for options in ({"profile": "rfc"}, {"name": "a b"}):
        with pytest.raises(ConfigurationError):
            ResponseCache(Origin(), cache=cache, **options)  # type: ignore[arg-type]


async def test_tags_without_a_response_are_nobodys() -> None:
    """A repository may name them wherever it is called."""
    http_tags("a")
    await asyncio.sleep(0)
