"""Which response of a URL answers: variants, their number, and queries that do not matter."""

from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.http.negotiation import encodings, languages
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations._http_keys import _HEEDED, _REMEMBERED
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Origin, begin, fetch, raw
from tests.core.source import ticks

FRESH = ("cache-control", "max-age=60")
LANGUAGE = ("vary", "accept-language")
CODING = ("vary", "accept-encoding")
ALIKE = ("no-vary-search", 'params=("utm_source"), key-order')


def speaking(*codes: str) -> list[tuple[str, str]]:
    """Return what clients ask for."""
    return [("accept-language", code) for code in codes]


async def test_no_more_variants_are_stored_than_were_allowed(
    cache: TierCache, clock: FakeClock
) -> None:
    """Whoever asks for more is answered, and those that are there stay."""
    origin = Origin(FRESH, LANGUAGE)
    app = ResponseCache(origin, cache=cache, clock=clock, max_variants=2)
    known, more = speaking("de", "en"), speaking("fr", "it", "es")

    for asked in (*known, *more, *more):
        assert (await fetch(app, asked)).body == b"hello"
    assert origin.calls == 8
    for asked in known:
        assert (await fetch(app, asked)).hit
    await cache.clear()
    await fetch(app, more[0])
    assert (await fetch(app, more[0])).hit


async def test_a_record_that_is_asked_about_has_no_more_variants_for_what_others_have(
    cache: TierCache, clock: FakeClock
) -> None:
    """What is remembered of records is bounded, and those that nobody asks about go first."""
    app = ResponseCache(Origin(FRESH, LANGUAGE), cache=cache, clock=clock, max_variants=2)
    for asked in speaking("de", "en"):
        await fetch(app, asked)
    known = app._origin.keys.of_variants
    (one,) = known.values()

    for turn in range(3):
        for number in range(_REMEMBERED - 1):
            known.add(b"%d %d" % (turn, number), one)
        for _ in range(2):
            assert not (await fetch(app, *speaking("fr"))).hit

    assert (await fetch(app, *speaking("en"))).hit


async def test_an_application_may_name_ever_other_fields(
    cache: TierCache, clock: FakeClock
) -> None:
    """Only so many are looked for in each request, and each finds its own variant all the same."""

    async def naming(scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"][1:].encode()
        headers = [(b"cache-control", b"max-age=60"), (b"vary", name)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": dict(scope["headers"])[name]})

    app = ResponseCache(naming, cache=cache, clock=clock)
    for _ in range(2):
        for number in range(3 * _HEEDED):
            for value in ("a", "b"):
                found = await fetch(app, (f"x-{number}", value), path=f"/x-{number}")
                assert found.body == value.encode()
    for value in ("a", "b"):
        for number in range(3 * _HEEDED):
            found = await fetch(app, (f"x-{number}", value), path=f"/x-{number}")
            assert (found.hit, found.body) == (True, value.encode())

    assert len(app._origin.keys.heeded) < 2 * _HEEDED


@pytest.mark.parametrize(
    "names", ["if-none-match", "if-modified-since", "if-none-match, accept-language"]
)
async def test_variants_may_differ_by_a_condition(
    cache: TierCache, clock: FakeClock, names: str
) -> None:
    """It is looked for apart from the fields by which most variants are found."""
    origin = Origin(FRESH, ("vary", names))
    app = ResponseCache(origin, cache=cache, clock=clock)
    condition = names.partition(",")[0]

    for calls, value in enumerate(("", '"a"', '"b"', ""), 1):
        for _ in range(3):
            await fetch(app, *([(condition, value)] if value else []))
            assert origin.calls == min(calls, 3)


async def test_each_request_finds_its_own_variant(cache: TierCache, clock: FakeClock) -> None:
    """Whichever the last one for the URL has found, and none after the record has ended."""
    origin = Origin(FRESH, LANGUAGE)
    app = ResponseCache(origin, cache=cache, clock=clock)

    async def speak() -> None:
        origin.parts = [dict(origin.seen[-1]["headers"]).get(b"accept-language", b"none")]

    origin.within = speak
    asked = [*speaking("de", "en"), None]
    for _ in range(2):
        for each in (*asked, *reversed(asked), *asked):
            fields = () if each is None else (each,)
            for _ in range(2):
                found = await fetch(app, *fields)
                assert found.body == (b"none" if each is None else each[1].encode())
        assert found.hit
        calls = origin.calls
        key = app._origin.keys.of(origin.seen[-1], {b"host": b"example.org"})
        await cache.invalidate(keys=[key])
        assert not (await fetch(app)).hit
        assert origin.calls == calls + 1


async def test_spellings_of_one_wish_share_a_variant(cache: TierCache, clock: FakeClock) -> None:
    """Case and space mean nothing in such a list; in other fields they may."""
    origin = Origin(FRESH, ("vary", "accept-language, x-shop"))
    app = ResponseCache(origin, cache=cache, clock=clock)

    await fetch(app, ("accept-language", "de, EN;q=0.5"), ("x-shop", "a"))

    assert (await fetch(app, ("accept-language", "DE ,en;q=0.5"), ("x-shop", "a"))).hit
    assert not (await fetch(app, ("accept-language", "de, EN;q=0.5"), ("x-shop", "A"))).hit


async def test_normalised_fields_are_what_the_application_sees(
    cache: TierCache, clock: FakeClock
) -> None:
    """Else it could answer one spelling for all."""
    origin = Origin(FRESH, CODING, ("x", "1"))
    normalise = {"Accept-Encoding": encodings("br", "gzip"), "accept-language": languages("en")}
    app = ResponseCache(origin, cache=cache, clock=clock, normalise=normalise)

    for asked in ("gzip, deflate, br", "br", "br;q=0.5, gzip;q=0.1"):
        await fetch(app, ("accept-encoding", asked), ("accept-language", "fr"), ("x", "2"))
    await fetch(app, ("accept-encoding", "deflate"))

    assert [dict(seen["headers"]) for seen in origin.seen] == [
        {b"host": b"example.org", b"accept-encoding": b"br", b"x": b"2"},
        {b"host": b"example.org"},
    ]


async def test_other_fields_are_left_as_they_came(cache: TierCache, clock: FakeClock) -> None:
    """Cookies over several lines are no list with commas."""
    origin = Origin(FRESH)
    normalise = {"accept-encoding": encodings("br")}
    app = ResponseCache(origin, cache=cache, clock=clock, normalise=normalise)

    await fetch(app, ("cookie", "a=1"), ("accept-encoding", "x"), ("cookie", "b=2"))

    assert origin.seen[0]["headers"][1:] == raw([("cookie", "a=1"), ("cookie", "b=2")])


@pytest.mark.parametrize(("profile", "shared"), [("origin-safe", False), ("rfc9111", True)])
async def test_blanks_around_commas_make_a_variant_or_none(
    cache: TierCache, clock: FakeClock, profile: Any, *, shared: bool
) -> None:
    """Of a field that nobody knows only where the RFCs are made full use of."""
    app = ResponseCache(Origin(FRESH, ("vary", "x")), cache=cache, clock=clock, profile=profile)
    await fetch(app, ("x", "1,2"))

    assert (await fetch(app, ("x", "1, 2"))).hit is shared
    assert (await fetch(app, ("x", "1"), ("x", "2"))).hit
    assert not (await fetch(app, ("x", "1,2 3"))).hit


# No-Vary-Search.


async def test_queries_share_a_response_that_says_so(cache: TierCache, clock: FakeClock) -> None:
    """The first one teaches it; the parameters that matter still do."""
    origin = Origin(FRESH, ALIKE)
    app = ResponseCache(origin, cache=cache, clock=clock)
    await fetch(app, query="a=1&b=2&utm_source=x")

    assert not (await fetch(app, query="a=1&b=2&utm_source=x")).hit
    for query in ("a=1&b=2&utm_source=x", "a=1&b=2", "b=2&utm_source=y&a=1"):
        assert (await fetch(app, query=query)).hit
    assert not (await fetch(app, query="a=2&b=2")).hit
    assert origin.calls == 3
    assert origin.seen[0]["query_string"] == b"a=1&b=2&utm_source=x"


async def test_who_waits_for_such_a_response_goes_on_together(
    cache: TierCache, clock: FakeClock
) -> None:
    """The first request cannot be shared, but the next one is, by all who waited."""
    origin = Origin(FRESH, ALIKE)
    origin.gate.clear()
    app = ResponseCache(origin, cache=cache, clock=clock)
    exchanges = [begin(app, query="a=1") for _ in range(5)]
    await ticks()
    origin.gate.set()

    for exchange in exchanges:
        assert (await exchange.done()).body == b"hello"
    assert origin.calls == 2


async def test_such_a_response_has_variants_as_others(cache: TierCache, clock: FakeClock) -> None:
    """By the request's fields, too."""
    origin = Origin(FRESH, ALIKE, LANGUAGE)
    app = ResponseCache(origin, cache=cache, clock=clock)

    for number, asked in enumerate(speaking("de", "de", "en")):
        await fetch(app, asked, query=f"utm_source={number}")
    for asked in speaking("de", "en"):
        assert (await fetch(app, asked, query="utm_source=x")).hit
    assert origin.calls == 3


@pytest.mark.parametrize("query", ["a=1", "a=1&utm_source=y", "utm_source=z"])
async def test_a_change_ends_all_responses_of_such_a_path(
    cache: TierCache, other: TierCache, clock: FakeClock, query: str
) -> None:
    """On a server that has never seen them as well; which URL they stood for cannot be told."""
    origin = Origin(FRESH, ALIKE)
    app = ResponseCache(origin, cache=cache, clock=clock)
    elsewhere = ResponseCache(origin, cache=other, clock=clock)
    for _ in range(2):
        await fetch(app, query="a=1")
    assert (await fetch(app, query="a=1")).hit
    await settled(cache)

    await fetch(elsewhere, query=query, method="PUT")
    await settled(other)
    await ticks()

    assert not (await fetch(app, query="a=1")).hit


async def test_a_change_elsewhere_that_names_such_a_path_ends_its_responses(
    cache: TierCache, clock: FakeClock
) -> None:
    """By any of its queries."""
    origin = Origin(FRESH, ALIKE)
    app = ResponseCache(origin, cache=cache, clock=clock)
    for _ in range(2):
        await fetch(app, path="/list", query="a=1")
    assert (await fetch(app, path="/list", query="a=1")).hit
    origin.fields = [("location", "/list?a=9")]
    await fetch(app, path="/change", method="POST")

    assert not (await fetch(app, path="/list", query="a=1")).hit


@pytest.mark.parametrize("later", [(), ("no-vary-search", "params"), ("no-vary-search", "x=")])
async def test_a_path_that_says_something_else_is_learnt_anew(
    cache: TierCache, clock: FakeClock, later: Any
) -> None:
    """A response is never kept where one with another rule belongs."""
    origin = Origin(FRESH, ALIKE)
    app = ResponseCache(origin, cache=cache, clock=clock)
    for query in ("a=1", "a=1"):
        await fetch(app, query=query)
    origin.fields = [FRESH, later] if later else [FRESH]
    for query in ("a=2", "a=2", "a=2", "a=3", "a=3"):
        await fetch(app, query=query)
    hits = [(await fetch(app, query=query)).hit for query in ("a=2", "a=3", "utm_source=1&a=2")]
    assert hits == [True, True, later == ("no-vary-search", "params")]
