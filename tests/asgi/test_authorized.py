"""Requests with credentials: what they get of others, and that they wait for none."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Origin, begin, fetch
from tests.conftest import MakeCache
from tests.core.source import ticks

PUBLIC = ("cache-control", "public, max-age=60")
FRESH = ("cache-control", "max-age=60")
TAG = ("etag", '"a"')
BASIC = ("authorization", "Basic x")


@pytest.fixture
def origin() -> Origin:
    """Return an application whose responses are for everybody, for a minute."""
    return Origin(PUBLIC, TAG)


def authorized(origin: Origin, cache: TierCache, clock: FakeClock) -> ResponseCache:
    """Return a cache that does all that a shared cache may."""
    return ResponseCache(origin, cache=cache, clock=clock, profile="rfc9111")


@pytest.mark.parametrize(
    ("said", "shared"),
    [
        ("max-age=60", False),
        ("max-age=60, public", True),
        ("s-maxage=60", True),
        ("max-age=60, must-revalidate", True),
        ("max-age=60, private", False),
    ],
)
async def test_what_is_authorized_is_shared_if_it_says_so(
    origin: Origin, cache: TierCache, clock: FakeClock, said: str, shared: bool
) -> None:
    """RFC 9111, 3.5: whether it was stored for one with credentials, or for one without."""
    app = authorized(origin, cache, clock)
    origin.fields = [("cache-control", said)]

    await fetch(app, BASIC)
    assert (await fetch(app)).hit is shared
    assert (await fetch(app, BASIC)).hit is shared
    await fetch(app, path="/anonymous")
    assert (await fetch(app, BASIC, path="/anonymous")).hit is shared
    asking = ResponseCache(origin, cache=cache, clock=clock, profile="rfc9111", clients="honour")
    only = await fetch(asking, BASIC, ("cache-control", "only-if-cached"), path="/anonymous")
    assert only.status == (200 if shared else 504)


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
async def test_what_a_validation_has_brought_is_for_who_is_authorized_if_it_says_so(
    origin: Origin, cache: TierCache, other: TierCache, clock: FakeClock, *, elsewhere: bool
) -> None:
    """Nor may one with credentials have what another client has waited for, if it is not public."""
    origin.fields = [("cache-control", "max-age=60, public"), TAG]
    app = authorized(origin, cache, clock)
    await fetch(app)
    await settled(cache)
    await clock.advance(61)
    gate = asyncio.Event()
    origin.fields = [FRESH, ("etag", '"b"')]
    origin.within = gate.wait  # type: ignore[assignment]
    first = begin(app)
    await ticks()
    waiting = begin(authorized(origin, other, clock) if elsewhere else app, BASIC)
    await ticks()
    gate.set()
    await first.done()
    await settled(cache)
    await clock.advance(1)

    told = "tiercache; fwd=stale" if elsewhere else "tiercache; fwd=miss"
    assert (await waiting.done()).fields["cache-status"] == told
    assert origin.calls == 3


# Whom they wait for.


class Holding:
    """What holds up the requests that have come until it was asked for, and no others."""

    def __init__(self, origin: Origin) -> None:
        self._gate, self._origin = asyncio.Event(), origin
        origin.within = self._gate.wait  # type: ignore[assignment]

    def no_others(self) -> None:
        """Let those through that come from here on."""
        self._origin.within = None

    def let_go(self) -> None:
        """Let all through."""
        self._gate.set()


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize("vary", [False, True], ids=["plain", "varies"])
@pytest.mark.parametrize("case", ["nothing", "stale"])
@pytest.mark.parametrize("first", [(), (BASIC,)], ids=["anonymous", "authorized"])
async def test_who_has_credentials_waits_for_nobody(
    origin: Origin, cache: TierCache, other: TierCache, clock: FakeClock, *,
    case: str, first: Any, vary: bool, elsewhere: bool,
) -> None:  # fmt: skip
    """Neither for the response nor for the validation of another request, here or elsewhere."""
    if vary:
        origin.fields = [*origin.fields, ("vary", "accept")]
    app = authorized(origin, cache, clock)
    there = authorized(origin, other, clock) if elsewhere else app
    if case == "stale":
        await fetch(app)
        await settled(cache)
        await clock.advance(61)
    held = Holding(origin)
    waiting = begin(app, *first)
    await ticks()
    held.no_others()
    calls = origin.calls

    assert (await fetch(there, BASIC)).body == b"hello"
    assert origin.calls == calls + 1
    assert not waiting.messages
    held.let_go()
    assert (await waiting.done()).body == b"hello"
    await settled(cache)
    await settled(other)
    again = await fetch(app, BASIC)
    assert again.hit
    assert (await fetch(there, BASIC)).body == b"hello"
    assert origin.calls == calls + 1


async def test_of_many_with_credentials_one_response_is_stored(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """However they follow each other, as long as one has begun when nobody else had."""
    app = authorized(origin, cache, clock)
    held = Holding(origin)
    exchanges = [begin(app, BASIC) for _ in range(3)]
    await ticks()
    assert origin.calls == 3
    held.let_go()
    for exchange in exchanges:
        assert (await exchange.done()).body == b"hello"

    assert [each.fields["cache-status"] for each in exchanges] == [
        "tiercache; fwd=uri-miss; stored",
        "tiercache; fwd=miss",
        "tiercache; fwd=miss",
    ]
    assert (await fetch(app)).hit


async def test_others_may_wait_for_one_with_credentials(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """They get what may be shared, and else one of their own."""
    app = authorized(origin, cache, clock)
    for fields, calls in (([PUBLIC], 1), ([FRESH], 3)):
        origin.fields = fields
        path, before = f"/{calls}", origin.calls
        held = Holding(origin)
        exchanges = [begin(app, BASIC, path=path), begin(app, path=path)]
        await ticks()
        assert origin.calls == before + 1
        held.no_others()
        held.let_go()
        for exchange in exchanges:
            await exchange.done()
        assert (await fetch(app, path=path)).body == b"hello"
        assert origin.calls == before + calls


async def test_what_was_ended_while_it_was_made_for_one_with_credentials_is_not_stored(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """It may be of before."""
    app = authorized(origin, cache, clock)
    held = Holding(origin)
    first = begin(app, BASIC)
    await ticks()
    held.no_others()
    await fetch(app, method="POST")
    held.let_go()
    await first.done()
    await settled(cache)

    assert not (await fetch(app)).hit


async def test_a_validation_for_one_with_credentials_brings_something_for_all(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """Or what all of them ask for would be stale for ever."""
    origin.follow = lambda scope: origin.fields
    app = authorized(origin, cache, clock)
    await fetch(app, BASIC)
    await settled(cache)
    await clock.advance(61)
    found = await fetch(app, BASIC)

    assert (b"if-none-match", b'"a"') in origin.seen[-1]["headers"]
    assert found.body == b"hello"
    assert (await fetch(app)).hit


@pytest.mark.parametrize("tiers", ["memory", "both"])
async def test_a_client_with_credentials_that_goes_leaves_nothing_behind(
    make_cache: MakeCache, origin: Origin, clock: FakeClock, tiers: str
) -> None:
    """The next one finds no load that nobody ends."""
    cache = await make_cache() if tiers == "both" else await make_cache(client=None)
    app = authorized(origin, cache, clock)
    held = Holding(origin)
    gone = begin(app, BASIC)
    await ticks()
    assert gone.task is not None
    gone.task.cancel()
    await asyncio.wait([gone.task])
    held.no_others()
    held.let_go()
    await settled(cache)

    assert (await fetch(app)).body == b"hello"
    assert (await fetch(app)).hit
