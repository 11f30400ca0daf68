"""What `Cache-Status` tells of a request, and whom (RFC 9211)."""

from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import ResponseCache, http_statistics
from tests.asgi.client import Exchange, Origin, begin, fetch
from tests.core.source import ticks

FRESH = ("cache-control", "max-age=60")
INNER = ("cache-status", "inner; hit")


def told(found: Exchange) -> list[bytes]:
    """Return what a client was told, by each cache."""
    return [value for name, value in found.messages[0]["headers"] if name == b"cache-status"]


def asked(scope: Any) -> bool | None:
    """Tell those who ask for it, and strangers nothing."""
    return {None: None, b"why": True, b"what": False}[dict(scope["headers"]).get(b"tell")]


WHY, WHAT = ("tell", "why"), ("tell", "what")


async def test_each_request_is_told_as_much_as_is_decided_for_it(
    cache: TierCache, clock: FakeClock
) -> None:
    """Of what is not stored, whatever others are told."""
    app = ResponseCache(Origin(), cache=cache, clock=clock, detail=asked)

    found = [await fetch(app, *more, path=f"/{len(more)}") for more in ([WHY], [WHY, WHAT][1:], [])]

    assert [told(each) for each in found] == [
        [b"tiercache; fwd=uri-miss; detail=lifetime"],
        [b"tiercache; fwd=miss"],
        [],
    ]


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("GET", []),
        ("GET", [("if-none-match", '"a"')]),
        ("GET", [("if-none-match", '"b"')]),
        ("GET", [("range", "bytes=0-1")]),
        ("GET", [("if-match", '"a"')]),
        ("GET", [("cache-control", "only-if-cached"), ("accept-language", "x")]),
        ("HEAD", []),
        ("POST", []),
        ("OPTIONS", []),
    ],
)
@pytest.mark.parametrize("detail", [asked, None])
async def test_a_request_that_is_told_nothing_is_not(
    cache: TierCache, clock: FakeClock, detail: Any, method: str, more: Any
) -> None:
    """Whether it is made, found, stale or passes by; what a cache behind has told stays."""
    origin = Origin(FRESH, ("etag", '"a"'), ("vary", "accept-language"), INNER)
    app = ResponseCache(origin, cache=cache, clock=clock, detail=detail, clients="honour")

    found = [await fetch(app, *more, method=method) for _ in range(2)]
    await settled(cache)
    await clock.advance(61)
    found.append(await fetch(app, *more, method=method))

    cached = {"only-if-cached": []}.get(dict(more).get("cache-control", ""), [b"inner; hit"])
    assert [told(each) for each in found] == [
        [] if each.status == 304 else cached for each in found
    ]
    if detail is not None and method == "GET" and not more:
        assert told(await fetch(app, WHAT)) == [b"inner; hit", b"tiercache; hit; ttl=60"]


async def test_a_response_still_speaks_to_a_cache_that_tells_nothing(
    cache: TierCache, clock: FakeClock
) -> None:
    """By the name, which only `name=None` takes away."""
    origin = Origin(("tiercache-cache-control", "max-age=60"))
    app = ResponseCache(origin, cache=cache, clock=clock, detail=None)

    for _ in range(2):
        assert "tiercache-cache-control" not in (await fetch(app)).fields

    assert http_statistics(cache).hits == 1


async def test_who_waits_for_what_another_request_makes_is_told_so(
    cache: TierCache, clock: FakeClock
) -> None:
    """It did not go on itself; it is counted as a hit."""
    origin = Origin(FRESH)
    origin.gate.clear()
    app = ResponseCache(origin, cache=cache, clock=clock)
    exchanges = [begin(app) for _ in range(3)]
    await ticks()
    origin.gate.set()

    found = [told(await exchange.done()) for exchange in exchanges]

    assert found[0] == [b"tiercache; fwd=uri-miss; stored"]
    assert found[1:] == [[b"tiercache; fwd=uri-miss; ttl=60; collapsed"]] * 2
    assert told(await fetch(app)) == [b"tiercache; hit; ttl=60"]
    assert http_statistics(cache).hits == 3
    assert not app._lookup._waiting


async def test_who_waits_for_a_variant_is_told_so(cache: TierCache, clock: FakeClock) -> None:
    """Though its record had to be found first."""
    origin = Origin(FRESH, ("vary", "a"))
    origin.gate.clear()
    app = ResponseCache(origin, cache=cache, clock=clock)
    exchanges = [begin(app, ("a", "1")) for _ in range(2)]
    await ticks()
    origin.gate.set()

    found = [told(await exchange.done()) for exchange in exchanges]

    assert found[1] == [b"tiercache; fwd=uri-miss; ttl=60; collapsed"]


async def test_who_waits_for_a_validation_is_told_so(cache: TierCache, clock: FakeClock) -> None:
    """Of a stale response."""
    origin = Origin(FRESH, ("etag", '"a"'))
    app = ResponseCache(origin, cache=cache, clock=clock)
    await fetch(app)
    await settled(cache)
    await clock.advance(61)
    origin.gate.clear()
    origin.status, origin.parts = 200, [b"new"]
    exchanges = [begin(app) for _ in range(2)]
    await ticks()
    origin.gate.set()

    found = [told(await exchange.done()) for exchange in exchanges]

    assert found == [
        [b"tiercache; fwd=stale; stored"],
        [b"tiercache; fwd=stale; ttl=60; collapsed"],
    ]


async def test_who_waits_in_vain_goes_on_itself(cache: TierCache, clock: FakeClock) -> None:
    """The response was for its client alone."""
    origin = Origin(("cache-control", "private"))
    gate = origin.gate
    gate.clear()
    app = ResponseCache(origin, cache=cache, clock=clock)
    exchanges = [begin(app) for _ in range(2)]
    await ticks()
    gate.set()

    found = [told(await exchange.done()) for exchange in exchanges]

    assert found == [[b"tiercache; fwd=uri-miss"], [b"tiercache; fwd=miss"]]


async def test_what_l2_had_was_made_before(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Many who look there at once have hits."""
    origin = Origin(FRESH)
    await fetch(ResponseCache(origin, cache=cache, clock=clock))
    await settled(cache)
    elsewhere = ResponseCache(origin, cache=other, clock=clock)

    exchanges = [begin(elsewhere) for _ in range(3)]

    for exchange in exchanges:
        assert told(await exchange.done()) == [b"tiercache; hit; ttl=60"]


async def test_who_waits_for_another_server_has_a_hit(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """It finds the response in L2."""
    origin = Origin(FRESH)
    origin.gate.clear()
    here, there = [ResponseCache(origin, cache=each, clock=clock) for each in (cache, other)]
    first = begin(here)
    await ticks()
    second = begin(there)
    await ticks()
    origin.gate.set()

    assert told(await first.done()) == [b"tiercache; fwd=uri-miss; stored"]
    await settled(cache)
    await clock.advance(1)
    assert told(await second.done())[0].startswith(b"tiercache; hit; ttl=")
