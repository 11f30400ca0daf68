"""Spans of HTTP responses: one that is made is a load, and the application's are a part of it."""

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import ResponseCache
from async_tiercache_integrations.opentelemetry import instrument
from async_tiercache_integrations.prometheus import CacheCollector
from tests.asgi.client import Origin, fetch
from tests.telemetry.exported import Spans, is_child, points, said

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


async def test_why_a_response_is_not_stored_is_exported_before_it_happens(
    cache: TierCache, clock: FakeClock
) -> None:
    """A series that begins with its first count shows no increase."""
    app = ResponseCache(Origin(("cache-control", "max-age=60")), cache=cache, clock=clock)
    await fetch(app)

    (unstored,) = [
        family
        for family in CacheCollector(cache).collect()
        if family.name == "tiercache_http_not_stored"
    ]

    assert {sample.value for sample in unstored.samples} == {0}
    causes = {sample.labels["cache_cause"] for sample in unstored.samples}
    assert causes >= {"no-store", "private", "set-cookie", "lifetime", "size", "tags", "trailers"}


async def test_what_becomes_of_requests_is_exported(
    cache: TierCache,
    other: TierCache,
    clock: FakeClock,
    meters: MeterProvider,
    reader: InMemoryMetricReader,
) -> None:
    """By both exporters, for a cache that has the responses of an application."""
    instrument(cache, meter_provider=meters)
    app = ResponseCache(Origin(("cache-control", "max-age=60")), cache=cache, clock=clock)
    for _ in range(3):
        await fetch(app)
        await settled(cache)
    await fetch(ResponseCache(Origin(), cache=cache, clock=clock), path="/other")

    found = points(reader)["tiercache.http.responses"]
    of_cache = ("cache.namespace", "test")
    assert {
        dict(labels)["cache.status"]: point.value for labels, point in found.items() if point.value
    } == {"hit": 2, "uri-miss": 2}
    assert all(of_cache in labels for labels in found)
    unstored = points(reader)["tiercache.http.not_stored"]
    assert {labels: point.value for labels, point in unstored.items() if point.value} == {
        (("cache.cause", "lifetime"), of_cache): 1
    }

    (responses,) = [
        family
        for family in CacheCollector(cache).collect()
        if family.name == "tiercache_http_responses"
    ]
    assert {s.labels["cache_status"]: s.value for s in responses.samples if s.value} == {
        "hit": 2, "uri-miss": 2,
    }  # fmt: skip
    assert not [
        family.samples
        for family in CacheCollector(other).collect()
        if family.name.startswith("tiercache_http") and family.samples
    ]
