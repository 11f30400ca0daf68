"""One request that asks about all variants of a URL, and a 304 that names one of them (R7)."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations._http_variants import _MOST
from async_tiercache_integrations.asgi import ResponseCache, http_private, http_tags
from tests.asgi.client import Exchange, Origin, Pairs, begin, fetch
from tests.core.source import ticks

FRESH = ("cache-control", "max-age=60")
GERMAN, ENGLISH, AUSTRIAN = (("accept-language", each) for each in ("de", "en", "de-AT"))


class Site(Origin):
    """An application with a representation for each first word of a field that requests choose by.

    Attributes:
        tags: By that word, the tag of its representation; the content says the tag.
        name: The field.
        more: Other fields of all responses.
        named: Whether its 304 has the tag.
        said: What its 304 has besides.
        conditions: What it was asked about, request by request.
        inside: Is called while a 304 is made.
    """

    def __init__(self, tags: dict[str, str], *more: tuple[str, str]) -> None:
        super().__init__()
        self.tags = tags
        self.name = "accept-language"
        self.more = more or (FRESH, ("vary", self.name))
        self.named = True
        self.said: Pairs = ()
        self.conditions: list[str | None] = []
        self.inside: Callable[[], None] | None = None
        self.follow = self.answer

    def answer(self, scope: Any) -> Pairs:
        """Return the fields of a response, and set its status and content."""
        asked = {name.decode(): value.decode() for name, value in scope["headers"]}
        tag = self.tags[asked.get(self.name, "").partition("-")[0].partition(",")[0]]
        condition = asked.get("if-none-match")
        self.conditions.append(condition)
        if condition is not None and tag in condition.split(", "):
            self.status, self.parts = 304, [b""]
            if self.inside is not None:
                self.inside()
            return [*self.more, *self.said, *([("etag", tag)] if self.named else [])]
        self.status, self.parts = 200, [b"of ", tag.encode()]
        return [*self.more, ("etag", tag)]


@pytest.fixture
def site() -> Site:
    """Return one that has German for all but the English."""
    return Site({"de": '"d"', "en": '"e"'})


@pytest.fixture
def app(site: Site, cache: TierCache, clock: FakeClock) -> ResponseCache:
    """Return it behind a cache."""
    return ResponseCache(site, cache=cache, clock=clock)


def told(found: Exchange) -> tuple[int, bytes, str]:
    """Return what a client was sent, and what was done for it."""
    return found.status, found.body, found.fields["cache-status"].removeprefix("tiercache; ")


@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
async def test_a_variant_that_is_named_as_current_answers_another_request(
    site: Site, cache: TierCache, clock: FakeClock, profile: Any
) -> None:
    """It is not made anew, and is kept for that request as well."""
    app = ResponseCache(site, cache=cache, clock=clock, profile=profile)
    await fetch(app, GERMAN)
    await fetch(app, ENGLISH)
    await settled(cache)

    found = await fetch(app, AUSTRIAN)
    await settled(cache)

    assert told(found) == (200, b'of "d"', "fwd=vary-miss; fwd-status=304; ttl=60; stored")
    assert site.conditions == [None, '"d"', '"d", "e"']
    assert (await fetch(app, AUSTRIAN)).hit
    assert site.calls == 3


async def test_a_request_with_a_condition_of_its_own_has_its_304(
    app: ResponseCache, cache: TierCache
) -> None:
    """By what was found for it; the application was asked for all, not for its client."""
    await fetch(app, GERMAN)
    await settled(cache)

    assert (await fetch(app, AUSTRIAN, ("if-none-match", '"x"'))).body == b'of "d"'
    assert (await fetch(app, AUSTRIAN, ("if-none-match", '"d"'))).status == 304


async def test_a_stale_variant_is_asked_about_with_the_others(
    app: ResponseCache, site: Site, cache: TierCache, clock: FakeClock
) -> None:
    """Its own tag comes first, and a 304 says which of them it is."""
    for asked in (GERMAN, ENGLISH):
        await fetch(app, asked)
    await settled(cache)
    await clock.advance(61)

    site.tags["de"] = '"e"'
    found = await fetch(app, GERMAN)
    await settled(cache)

    assert site.conditions[-1] == '"d", "e"'
    assert told(found) == (200, b'of "e"', "fwd=stale; fwd-status=304; ttl=60; stored")
    assert (await fetch(app, GERMAN)).body == b'of "e"'
    assert (await fetch(app, GERMAN)).hit


async def test_what_was_named_is_renewed_for_its_own_requests_too(
    app: ResponseCache, site: Site, cache: TierCache, clock: FakeClock
) -> None:
    """RFC 9111, 4.3.4: with the fields of the 304."""
    await fetch(app, GERMAN)
    await settled(cache)
    await clock.advance(61)
    site.said = [("x", "new")]

    await fetch(app, AUSTRIAN)
    await ticks()
    await settled(cache)
    found = await fetch(app, GERMAN)

    assert (found.hit, found.fields["x"]) == (True, "new")
    assert site.calls == 2


async def test_what_is_not_current_is_made(
    app: ResponseCache, site: Site, cache: TierCache
) -> None:
    """A 200 is stored as ever."""
    await fetch(app, GERMAN)
    await settled(cache)
    site.tags["de"] = '"new"'

    assert told(await fetch(app, AUSTRIAN)) == (200, b'of "new"', "fwd=vary-miss; stored")
    await settled(cache)
    assert (await fetch(app, AUSTRIAN)).hit
    assert (await fetch(app, GERMAN)).body == b'of "d"'


# What is named and is not there.


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("state", ["missing", "stale"])
async def test_what_was_invalidated_since_it_was_asked_about_does_not_come_back(
    site: Site, cache: TierCache, other: TierCache, clock: FakeClock, state: str, *,
    elsewhere: bool,
) -> None:  # fmt: skip
    """Here or on another server: the application is asked once more, without conditions."""
    app = ResponseCache(site, cache=cache, clock=clock)
    site.within = _tagging(site)
    for asked in (GERMAN, *([AUSTRIAN] if state == "stale" else [])):
        await fetch(app, asked)
    await settled(cache)
    if state == "stale":
        site.tags["de"] = '"b"'
        await clock.advance(61)
        await fetch(app, GERMAN)
        await settled(cache)
    await clock.advance(61 if state == "stale" else 1)
    gate, asked_at = asyncio.Event(), site.calls
    site.within = gate.wait  # type: ignore[assignment]
    exchange = begin(app, AUSTRIAN)
    await ticks()

    await (other if elsewhere else cache).invalidate(tags=["t"])
    gate.set()
    found = await exchange.done()

    assert found.status == 200
    assert site.conditions[asked_at:][-1] is None
    assert site.calls == asked_at + 2
    assert found.body == b"of " + site.tags["de"].encode()
    await settled(cache)
    site.tags["de"] = '"after"'
    assert (await fetch(app, GERMAN)).body == b'of "after"'


def _tagging(site: Site) -> Any:
    async def tag() -> None:
        http_tags("t")

    return tag


async def test_what_is_invalidated_while_it_is_taken_over_is_kept_for_nobody(
    app: ResponseCache, site: Site, cache: TierCache, other: TierCache
) -> None:
    """Its copy rests on all that it rests on itself."""
    site.within = _tagging(site)
    await fetch(app, GERMAN)
    await settled(cache)
    site.within = None
    read, taken, gate = app._lookup._read, asyncio.Event(), asyncio.Event()

    async def stopped(key: str) -> Any:
        found = await read(key)
        taken.set()
        await gate.wait()
        return found

    app._lookup._read = stopped  # type: ignore[method-assign]
    exchange = begin(app, AUSTRIAN)
    await taken.wait()
    await other.invalidate(tags=["t"])
    gate.set()

    assert (await exchange.done()).body == b'of "d"'  # it was asked before
    app._lookup._read = read  # type: ignore[method-assign]
    await settled(cache)
    site.tags["de"] = '"after"'
    for asked in (AUSTRIAN, GERMAN):
        assert (await fetch(app, asked)).body == b'of "after"'


async def test_the_copy_ends_with_the_tags_of_what_it_is_of(
    app: ResponseCache, site: Site, cache: TierCache
) -> None:
    """Whatever was read when that was made."""
    site.within = _tagging(site)
    await fetch(app, GERMAN)
    await settled(cache)
    site.within = None
    await fetch(app, AUSTRIAN)
    await settled(cache)
    assert (await fetch(app, AUSTRIAN)).hit

    await cache.invalidate(tags=["t"])
    site.tags["de"] = '"after"'

    assert (await fetch(app, AUSTRIAN)).body == b'of "after"'


async def test_the_copy_ends_with_what_was_read_for_what_it_is_of(
    app: ResponseCache, site: Site, cache: TierCache
) -> None:
    """Though nothing was read for the copy."""

    @cache.cached("part", tags=["part"])
    async def part() -> str:
        return "v"

    async def read() -> None:
        await part()

    site.within = read
    await fetch(app, GERMAN)
    await settled(cache)
    site.within = None
    assert "fwd-status=304" in told(await fetch(app, AUSTRIAN))[2]
    await settled(cache)

    await cache.invalidate(tags=["part"])
    site.tags["de"] = '"after"'

    for asked in (AUSTRIAN, GERMAN):
        assert (await fetch(app, asked)).body == b'of "after"'


async def test_a_change_of_the_url_ends_all_that_was_known_of_its_variants(
    app: ResponseCache, site: Site, cache: TierCache
) -> None:
    """Nothing is asked about that the change has ended."""
    await fetch(app, GERMAN)
    await fetch(app, GERMAN, method="PUT")
    await settled(cache)

    await fetch(app, AUSTRIAN)

    assert site.conditions[-1] is None


async def test_two_variants_that_name_each_other_are_made(
    app: ResponseCache, site: Site, cache: TierCache, clock: FakeClock
) -> None:
    """Neither waits for the other for ever."""
    for asked in (GERMAN, ENGLISH):
        await fetch(app, asked)
    await settled(cache)
    await clock.advance(61)
    gate = asyncio.Event()
    site.within = gate.wait  # type: ignore[assignment]
    site.tags = {"de": '"e"', "en": '"d"'}
    exchanges = [begin(app, asked) for asked in (GERMAN, ENGLISH)]
    await ticks()
    gate.set()

    bodies = {(await exchange.done()).body for exchange in exchanges}

    assert bodies == {b'of "d"', b'of "e"'}
    assert {exchange.status for exchange in exchanges} == {200}


async def test_a_variant_that_has_another_tag_by_now_is_not_taken_for_it(
    site: Site, cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Another server has made it anew."""
    app = ResponseCache(site, cache=cache, clock=clock)
    elsewhere = ResponseCache(site, cache=other, clock=clock)
    await fetch(app, GERMAN)
    await settled(cache)
    await clock.advance(61)
    site.tags["de"] = '"new"'
    await fetch(elsewhere, GERMAN)
    await settled(other)
    site.tags["de"] = '"d"'

    assert (await fetch(app, AUSTRIAN)).status == 200
    assert site.conditions[-2:] == ['"d"', None]
    await settled(cache)
    assert (await fetch(app, ("accept-language", "de-CH"))).body == b'of "d"'


# What the application says.


@pytest.mark.parametrize("known", ["missing", "stale"])
async def test_an_application_that_names_nothing_is_asked_about_one_only(
    app: ResponseCache, site: Site, cache: TierCache, clock: FakeClock, known: str
) -> None:
    """A 304 without a tag says of which it is only where there is one; the client has it all."""
    for asked in (GERMAN, ENGLISH, *([AUSTRIAN] if known == "stale" else [])):
        await fetch(app, asked)
    await settled(cache)
    await clock.advance(61)
    site.named = False
    calls = site.calls

    assert (await fetch(app, AUSTRIAN)).body == b'of "d"'
    await settled(cache)
    assert site.calls == calls + 2
    await clock.advance(61)
    assert (await fetch(app, AUSTRIAN)).body == b'of "d"'
    assert site.calls == calls + 3
    assert site.conditions[-1] == '"d"'
    await fetch(app, ("accept-language", "de-CH"))
    assert site.conditions[-1] is None


@pytest.mark.parametrize("said", ['"x"', 'W/"d"', '"d", "e"'])
async def test_a_304_that_names_nothing_of_what_was_asked_about_is_no_answer(
    app: ResponseCache, site: Site, cache: TierCache, said: str
) -> None:
    """Nor is a weak tag one that selects."""
    await fetch(app, GERMAN)
    await settled(cache)
    site.named, site.said = False, [("etag", said)]

    assert told(await fetch(app, AUSTRIAN)) == (200, b'of "d"', "fwd=vary-miss; stored")
    assert site.conditions[-2:] == ['"d"', None]


async def test_a_304_that_makes_it_private_answers_once(
    app: ResponseCache, site: Site, cache: TierCache
) -> None:
    """It is kept for nobody else."""
    await fetch(app, GERMAN)
    await settled(cache)
    site.said = [("cache-control", "private")]

    assert (await fetch(app, AUSTRIAN)).body == b'of "d"'
    await settled(cache)
    site.said = []
    assert not (await fetch(app, AUSTRIAN)).hit


async def test_a_304_made_of_a_session_is_for_its_client(
    app: ResponseCache, site: Site, cache: TierCache, clock: FakeClock
) -> None:
    """And it renews nothing of the others."""
    await fetch(app, GERMAN)
    await settled(cache)
    await clock.advance(61)
    site.inside, site.said = http_private, [("x", "of one client")]

    assert (await fetch(app, AUSTRIAN)).body == b'of "d"'
    await ticks()
    await settled(cache)
    site.inside, site.said = None, []
    for asked in (GERMAN, AUSTRIAN):
        found = await fetch(app, asked)
        assert not found.hit
        assert "x" not in found.fields


# What is never asked about.


async def test_weak_tags_select_nothing(app: ResponseCache, site: Site, cache: TierCache) -> None:
    """Nor do tags that are none (RFC 9111, 4.3.4)."""
    for tag in ('W/"d"', "d", '"', '""d"'):
        site.tags["de"] = tag
        await fetch(app, ("accept-language", f"de-{len(site.conditions)}"))
    await settled(cache)
    await fetch(app, ENGLISH)

    assert site.conditions == [None] * 5


@pytest.mark.parametrize("name", ["cookie", "authorization", "x-tenant", "origin", "user-agent"])
@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
async def test_nothing_is_asked_about_that_is_told_apart_by_who_asks(
    cache: TierCache, clock: FakeClock, profile: Any, name: str
) -> None:
    """An application whose tags are versions of a row would name another's page."""
    site = Site({"": '"1"'}, ("cache-control", "public, max-age=60"), ("vary", name))
    app = ResponseCache(site, cache=cache, clock=clock, profile=profile)

    for value in ("a", "b"):
        await fetch(app, (name, value))
        await settled(cache)
    await fetch(app)

    assert site.conditions == [None] * 3


async def test_requests_with_authorization_ask_about_no_others(
    cache: TierCache, clock: FakeClock
) -> None:
    """Nor are others asked about what such a request has brought."""
    fields = [("cache-control", "public, max-age=60"), ("vary", "accept-language")]
    site = Site({"de": '"1"'}, *fields)
    app = ResponseCache(site, cache=cache, clock=clock, profile="rfc9111")

    for number, more in enumerate([[("authorization", "a")], [], [("authorization", "b")], []]):
        await fetch(app, ("accept-language", f"de-{number}"), *more)
        await settled(cache)

    assert site.conditions == [None, None, None, '"1"']


async def test_what_tells_clients_apart_is_the_same_in_what_is_asked_about(
    cache: TierCache, clock: FakeClock
) -> None:
    """Beside what is chosen."""
    site = Site({"de": '"1"'}, FRESH, ("vary", "accept-language, cookie"))
    app = ResponseCache(site, cache=cache, clock=clock)

    for number, cookie in enumerate(["a", "a", "b"]):
        await fetch(app, ("accept-language", f"de-{number}"), ("cookie", cookie))
        await settled(cache)

    assert site.conditions == [None, '"1"', None]


@pytest.mark.parametrize(
    ("stored", "asked", "offered"),
    [
        ("gzip, br", "br;q=0.5, gzip", True),
        ("gzip, br", "gzip;q=0", False),
        ("gzip, br", "identity", False),
        ("gzip, br", "*", False),
        ("br", "gzip, br", False),
    ],
)
async def test_a_coding_is_offered_to_those_who_name_it(
    cache: TierCache, clock: FakeClock, stored: str, asked: str, *, offered: bool
) -> None:
    """Middleware compresses and leaves the tag as it was; nobody gets what he cannot read.

    Nor does what is not coded take the place of what could be.
    """
    coded = [("content-encoding", "gzip")] if "gzip" in stored else []
    site = Site({"": '"1"'}, FRESH, ("vary", "accept-encoding"), *coded)
    app = ResponseCache(site, cache=cache, clock=clock)
    await fetch(app, ("accept-encoding", stored))
    await settled(cache)
    await fetch(app, ("accept-encoding", asked))

    assert site.conditions[-1] == ('"1"' if offered else None)


async def test_no_other_is_asked_about_for_a_stale_one_without_a_tag(
    site: Site, app: ResponseCache, cache: TierCache, clock: FakeClock
) -> None:
    """The application would not look at its date (RFC 9110, 13.1.3)."""
    await fetch(app, GERMAN)
    follow, site.follow = site.follow, None
    site.fields = [*site.more, ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT")]
    await fetch(app, ENGLISH)
    await settled(cache)
    site.follow = follow
    await clock.advance(61)
    await fetch(app, ENGLISH)

    sent = dict(site.seen[-1]["headers"])
    assert b"if-none-match" not in sent
    assert b"if-modified-since" in sent


async def test_tags_that_were_made_here_are_not_asked_about(
    cache: TierCache, clock: FakeClock
) -> None:
    """No application knows them."""
    origin = Origin(FRESH, ("vary", "accept-language"))
    app = ResponseCache(origin, cache=cache, clock=clock, etags=True)

    for asked in (GERMAN, ENGLISH, AUSTRIAN):
        await fetch(app, asked)
        await settled(cache)

    assert not any(b"if-none-match" in dict(each["headers"]) for each in origin.seen)


async def test_so_many_are_asked_about_at_most(cache: TierCache, clock: FakeClock) -> None:
    """The last ones that were seen; and none that is very long."""
    site = Site({f"{number:03}": f'"{number}"' for number in range(100)})
    site.tags |= {"099": f'"{"9" * 600}"'}
    app = ResponseCache(site, cache=cache, clock=clock, max_variants=200)

    for word in site.tags:
        await fetch(app, ("accept-language", word))
    await settled(cache)
    site.tags["x"] = '"x"'
    await fetch(app, ("accept-language", "x"))

    condition = site.conditions[-1]
    assert condition is not None
    assert condition.split(", ") == [f'"{number}"' for number in range(99 - _MOST, 99)]


async def test_variants_that_another_server_has_made_are_asked_about_once_seen(
    site: Site, cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Each server knows those that it has answered with."""
    app = ResponseCache(site, cache=cache, clock=clock)
    elsewhere = ResponseCache(site, cache=other, clock=clock)
    await fetch(app, GERMAN)
    await settled(cache)

    assert (await fetch(elsewhere, GERMAN)).hit
    found = await fetch(elsewhere, AUSTRIAN)

    assert told(found)[2] == "fwd=vary-miss; fwd-status=304; ttl=60; stored"


async def test_a_cache_without_l2_asks_about_them_too(
    site: Site, alone: TierCache, clock: FakeClock
) -> None:
    """From memory."""
    app = ResponseCache(site, cache=alone, clock=clock)
    await fetch(app, GERMAN)

    assert told(await fetch(app, AUSTRIAN))[2] == "fwd=vary-miss; fwd-status=304; ttl=60; stored"
    assert (await fetch(app, AUSTRIAN)).hit
