"""Spans of HTTP responses: one that is made is a load, and the application's are a part of it."""

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Origin, fetch
from tests.telemetry.exported import Spans, is_child, said

FAMILY = "http:{key}"


async def test_a_response_is_a_load_around_the_application(
    cache: TierCache, other: TierCache, clock: FakeClock, spans: Spans
) -> None:
    """A hit in memory has no span, one in L2 has one."""
    origin = Origin(("cache-control", "max-age=60"))

    async def work() -> None:
        with spans.user("view"):
            pass

    origin.within = work
    app = ResponseCache(origin, cache=cache, clock=clock)
    with spans.user("request"):
        await fetch(app)
    await settled(cache)
    get, load, view = spans.one("cache.get"), spans.one("cache.load"), spans.one("view")
    assert is_child(get, spans.one("request"))
    assert is_child(load, get)
    assert is_child(view, load)
    assert said(load)["cache.family"] == FAMILY

    ended = len(spans.ended)
    assert (await fetch(app)).hit
    assert len(spans.ended) == ended
    await settled(other)
    assert (await fetch(ResponseCache(origin, cache=other, clock=clock))).hit
    assert [span.name for span in spans.ended[ended:]] == ["cache.get"]


async def test_hits_and_loads_of_responses_are_counted(cache: TierCache, clock: FakeClock) -> None:
    """Like those of any other family."""
    app = ResponseCache(Origin(("cache-control", "max-age=60")), cache=cache, clock=clock)
    for _ in range(3):
        await fetch(app)
        await settled(cache)

    counts = cache.statistics(FAMILY)
    assert (counts.l1_hits, counts.misses, counts.loads) == (2, 1, 1)
