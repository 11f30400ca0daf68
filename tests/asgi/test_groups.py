"""What a group has invalidated is not served before the application has called it current (R16)."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations.asgi import ResponseCache, http_tags
from tests.asgi.client import Exchange, Origin, Pairs, begin, fetch
from tests.core.source import ticks

LASTING = ("cache-control", "max-age=60, stale-while-revalidate=600, stale-if-error=600")
GROUP = ("cache-groups", '"g"')
ETAG = ("etag", '"a"')


class Grouped(Origin):
    """An application whose `GET` is in a group, and whose `POST` elsewhere invalidates that.

    Attributes:
        asked: The conditions of the reads, in order.
    """

    def __init__(self, *fields: tuple[str, str]) -> None:
        super().__init__(*(fields or (LASTING, GROUP, ETAG)))
        self.asked: list[bytes | None] = []
        self.fails = False
        self.follow = self.answer

    def answer(self, scope: Any) -> Pairs:
        """Return the fields of a response, and set its status and content."""
        if scope["method"] == "POST":
            self.status, self.parts = 204, [b""]
            return [("cache-group-invalidation", '"g"')]
        condition = dict(scope["headers"]).get(b"if-none-match")
        self.asked.append(condition)
        current = dict(self.fields).get("etag", "").encode()
        self.status = 503 if self.fails else 304 if condition and condition == current else 200
        self.parts = [b""] if self.status == 304 else [b"of ", current]
        return [] if self.fails else self.fields


@pytest.fixture
def origin() -> Grouped:
    """Return one."""
    return Grouped()


@pytest.fixture
def app(origin: Grouped, cache: TierCache, clock: FakeClock) -> ResponseCache:
    """Return it behind a cache."""
    return ResponseCache(origin, cache=cache, clock=clock)


async def invalidated(app: ResponseCache, cache: TierCache) -> None:
    """Let a response be stored, and its group be invalidated."""
    await fetch(app)
    await settled(cache)
    assert (await fetch(app)).hit
    await fetch(app, path="/change", method="POST")
    await settled(cache)


def told(found: Exchange) -> tuple[int, bytes, str]:
    """Return what a client was sent, and what was done for it."""
    return found.status, found.body, found.fields["cache-status"].removeprefix("tiercache; ")


async def test_a_304_lets_it_be_served_again(
    app: ResponseCache, origin: Grouped, cache: TierCache
) -> None:
    """It is not made anew."""
    await invalidated(app, cache)

    found = await fetch(app)
    await settled(cache)

    assert told(found) == (200, b'of "a"', "fwd=stale; fwd-status=304; ttl=60; stored")
    assert origin.asked == [None, b'"a"']
    assert (await fetch(app)).hit


async def test_what_has_changed_takes_its_place(
    app: ResponseCache, origin: Grouped, cache: TierCache
) -> None:
    """As after any validation."""
    await invalidated(app, cache)
    origin.fields = [LASTING, GROUP, ("etag", '"b"')]

    assert told(await fetch(app)) == (200, b'of "b"', "fwd=stale; stored")
    await settled(cache)
    assert (await fetch(app)).body == b'of "b"'


@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
@pytest.mark.parametrize("how", ["status", "error", "silence"])
@pytest.mark.parametrize("age", [1, 61])
async def test_it_takes_the_place_of_no_failure(
    origin: Grouped, cache: TierCache, clock: FakeClock, profile: Any, how: str, age: int
) -> None:
    """Whatever it says of errors, stale or not; and it is not served afterwards either."""
    app = ResponseCache(origin, cache=cache, clock=clock, profile=profile)
    await invalidated(app, cache)
    await clock.advance(age)
    origin.fails = how == "status"
    never = asyncio.Event()

    async def fail() -> None:
        if how == "silence":
            await never.wait()
        raise ZeroDivisionError

    origin.within = None if how == "status" else fail
    for _ in range(2):
        exchange = begin(app)
        await ticks()
        if how == "silence":
            await clock.advance(301)
        if how == "status":
            assert (await exchange.done()).status == 503
        else:
            with pytest.raises((ZeroDivisionError, TimeoutError)):
                await exchange.done()
        await settled(cache)

    origin.within, origin.fails = None, False
    await clock.advance(11)  # so long nobody waits for another one's
    assert told(await fetch(app))[2].endswith("stored")


async def test_it_is_served_to_nobody_while_it_is_validated(
    origin: Grouped, cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """On this server and on others, all wait for the one answer."""
    here, there = [ResponseCache(origin, cache=each, clock=clock) for each in (cache, other)]
    await fetch(there)
    await settled(other)
    await invalidated(here, cache)
    gate = asyncio.Event()
    origin.within = gate.wait  # type: ignore[assignment]
    exchanges = [begin(each) for each in (here, here, there, there)]
    await ticks()
    await clock.advance(0.1)

    assert not any(each.messages for each in exchanges)
    origin.fields = [LASTING, GROUP, ("etag", '"b"')]
    gate.set()
    await exchanges[0].done()
    await settled(cache)
    await clock.advance(1)
    for exchange in exchanges:
        assert (await exchange.done()).body == b'of "b"'
    assert len(origin.asked) == 2


@pytest.mark.parametrize(
    ("method", "more", "status"),
    [
        ("HEAD", [], 200),
        ("GET", [("range", "bytes=0-1")], 200),
        ("GET", [("cache-control", "only-if-cached")], 504),
        ("GET", [("cache-control", "max-stale")], 200),
    ],
)
async def test_it_answers_no_other_kind_of_request(
    origin: Grouped, cache: TierCache, clock: FakeClock, method: str, more: Any, status: int
) -> None:
    """None of which would validate it, or wants that."""
    app = ResponseCache(origin, cache=cache, clock=clock, clients="honour")
    await invalidated(app, cache)
    origin.fields = [LASTING, GROUP, ("etag", '"b"')]

    found = await fetch(app, *more, method=method)

    assert (found.status, found.hit) == (status, False)
    assert found.fields.get("etag") in {'"b"', None}


async def test_what_was_invalidated_while_it_was_validated_is_not_current(
    app: ResponseCache, origin: Grouped, cache: TierCache, clock: FakeClock
) -> None:
    """The application was asked before."""
    await fetch(app)
    await settled(cache)
    await clock.advance(700)
    gate = asyncio.Event()
    origin.within = gate.wait  # type: ignore[assignment]
    exchange = begin(app)
    await ticks()
    origin.within = None
    await fetch(app, path="/change", method="POST")
    gate.set()
    await exchange.done()
    await settled(cache)

    await fetch(app)

    assert len(origin.asked) == 3


async def test_an_invalidation_by_a_tag_is_the_end_of_it(
    app: ResponseCache, origin: Grouped, cache: TierCache
) -> None:
    """Before and after that of its group, the application is asked for the whole."""
    origin.within = _tagging
    for first in (True, False):
        if first:
            await invalidated(app, cache)
            await cache.invalidate(tags=["t"])
        else:
            await fetch(app)
            await settled(cache)
            await cache.invalidate(tags=["t"])
            await fetch(app, path="/change", method="POST")
        await settled(cache)
        await fetch(app)
        assert origin.asked[-1] is None


async def _tagging() -> None:
    http_tags("t")


async def test_it_stands_under_all_that_it_was_made_from_when_it_is_renewed(
    origin: Grouped, cache: TierCache, clock: FakeClock
) -> None:
    """Though a 304 is made without reading that."""

    @cache.cached("part", tags=["part"])
    async def part() -> str:
        return "v"

    async def read() -> None:
        await part()

    app = ResponseCache(origin, cache=cache, clock=clock)
    origin.within = read
    await fetch(app)
    await settled(cache)
    origin.within = None
    await fetch(app, path="/change", method="POST")
    await fetch(app)
    await settled(cache)
    assert (await fetch(app)).hit

    await cache.invalidate(tags=["part"])

    assert not (await fetch(app)).hit
    assert origin.asked[-1] is None


async def test_what_cannot_be_asked_about_is_made(cache: TierCache, clock: FakeClock) -> None:
    """For want of a validator."""
    origin = Grouped(LASTING, GROUP)
    app = ResponseCache(origin, cache=cache, clock=clock)
    await invalidated(app, cache)

    assert not (await fetch(app)).hit
    assert origin.asked == [None, None]


async def test_a_304_that_was_not_asked_for_renews_nothing(
    cache: TierCache, clock: FakeClock
) -> None:
    """Of what was invalidated."""
    origin = Grouped(LASTING, GROUP)
    app = ResponseCache(origin, cache=cache, clock=clock)
    await invalidated(app, cache)
    origin.follow, origin.status, origin.parts = None, 304, [b""]

    assert (await fetch(app)).status == 304


async def test_a_request_with_authorization_asks_for_the_whole(
    origin: Grouped, cache: TierCache, clock: FakeClock
) -> None:
    """Whoever it is, what is stored was made for another one."""
    app = ResponseCache(origin, cache=cache, clock=clock, profile="rfc9111")
    origin.fields = [("cache-control", "public, max-age=60"), GROUP, ETAG]
    await invalidated(app, cache)

    await fetch(app, ("authorization", "mine"))

    assert origin.asked[-1] is None


async def test_without_l2_nothing_is_left_of_it(
    origin: Grouped, alone: TierCache, clock: FakeClock
) -> None:
    """It is made anew."""
    app = ResponseCache(origin, cache=alone, clock=clock)
    await invalidated(app, alone)

    assert told(await fetch(app)) == (200, b'of "a"', "fwd=uri-miss; stored")


@pytest.mark.leaves_pending
async def test_while_redis_is_down_it_is_served_by_no_server_that_knows(
    origin: Grouped, cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """What has to wait is removed."""
    app = ResponseCache(origin, cache=cache, clock=clock)
    await fetch(app)
    await settled(cache)
    server.connected = False
    await fetch(app, path="/change", method="POST")

    assert not (await fetch(app)).hit
    server.connected = True
    await clock.advance(5)
    await settled(cache)
    await fetch(app)
    assert all(each is None for each in origin.asked)


@pytest.mark.parametrize("window", [0, "1m"])
async def test_a_failure_lets_nothing_live_on_that_a_tag_has_ended_softly(
    app: ResponseCache, origin: Grouped, cache: TierCache, clock: FakeClock, window: Any
) -> None:
    """Whether or not it may be served for a while."""
    origin.within = _tagging
    await fetch(app)
    await settled(cache)
    await cache.invalidate(tags=["t"], soft=window)
    origin.fails = True
    await fetch(app)
    origin.fails = False
    await clock.advance(61)

    assert not (await fetch(app)).hit


async def test_groups_may_be_ignored(cache: TierCache, clock: FakeClock, origin: Grouped) -> None:
    """Then nobody ends the responses of others by them."""
    app = ResponseCache(origin, cache=cache, clock=clock, groups="ignore")
    await invalidated(app, cache)

    assert (await fetch(app)).hit
    assert origin.calls == 2


# Variants: what leads to them was made with the first one, and rests on what that was made from.

VARIED: Pairs = (LASTING, GROUP, ETAG, ("vary", "a"))
ONE, TWO = ("a", "1"), ("a", "2")


async def test_variants_are_made_anew(cache: TierCache, clock: FakeClock) -> None:
    """Nothing of them is asked about."""
    origin = Grouped(*VARIED)
    app = ResponseCache(origin, cache=cache, clock=clock)
    for value in (ONE, TWO):
        await fetch(app, value)
        await settled(cache)
    await fetch(app, path="/change", method="POST")

    for value in (ONE, TWO):
        assert not (await fetch(app, value)).hit
    assert origin.asked[2] is None


async def test_a_variant_of_a_group_is_asked_about_where_what_leads_to_it_is_in_none(
    cache: TierCache, clock: FakeClock
) -> None:
    """That is still there, and the others are left alone."""
    origin = Grouped(*VARIED)
    app = ResponseCache(origin, cache=cache, clock=clock)
    origin.fields = [each for each in VARIED if each != GROUP]
    await fetch(app, ONE)
    origin.fields = [*VARIED]
    await fetch(app, TWO)
    await settled(cache)
    await fetch(app, path="/change", method="POST")

    assert (await fetch(app, ONE)).hit
    assert told(await fetch(app, TWO))[2] == "fwd=stale; fwd-status=304; ttl=60; stored"


async def test_a_variant_made_before_its_group_was_invalidated_is_not_found_after_it(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """It is put where its record leads after that was made; the record ends with the group."""
    origin = Grouped(*VARIED)
    app = ResponseCache(origin, cache=cache, clock=clock)
    changing = ResponseCache(origin, cache=other, clock=clock)
    origin.gate.clear()
    exchange = begin(app, ONE)
    await ticks()
    gate = origin.gate
    origin.gate = asyncio.Event()
    origin.gate.set()
    await fetch(changing, path="/change", method="POST")
    gate.set()
    await exchange.done()
    for each in (cache, other):
        await settled(each)
    await clock.advance(1)
    origin.fields = [*VARIED[:2], ("etag", '"b"'), VARIED[3]]

    for site in (app, changing):
        assert (await fetch(site, ONE)).body == b'of "b"'
