"""What the exporters of both kinds give: the figures of the statistics, under the same names."""

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import fields
from threading import Event, Thread
from typing import Any

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.openmetrics import exposition, parser
from prometheus_client.parser import text_string_to_metric_families

from async_tiercache import Histogram, Statistics, TierCache
from async_tiercache._statistics import Tally, merged
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations._metrics import (
    DURATIONS_OF_CACHE,
    OF_CACHE,
    OF_FAMILY,
    since,
)
from async_tiercache_integrations.opentelemetry import OpenTelemetryTracer, instrument
from async_tiercache_integrations.prometheus import CacheCollector
from tests.conftest import MakeCache
from tests.core.source import Source, function_of, soon
from tests.telemetry.exported import Spans, points

_exposition: Any = exposition  # they have no types
_parser: Any = parser

VALUE = {"cache.family": "value:{key}", "cache.namespace": "test"}


async def busy(cache: TierCache, clock: FakeClock) -> Statistics:
    """Let a cache do some of everything; return the statistics of its family."""
    source = Source()
    value = function_of(cache, source, ttl=10, grace=50, jitter=0, l1_ttl=8)
    for key in (1, 1, 1, 2):
        await value(key)
        await settled(cache)
    await clock.advance(9)
    await value(1)
    source.error = OSError("down")
    await clock.advance(6)
    await value(2)
    with pytest.raises(OSError, match="down"):
        await value(3)
    source.error = None
    for key, seconds in ((4, 3.0), (5, 0.05)):
        source.close()
        loading = asyncio.ensure_future(value(key))
        await soon(source.loading(source.loads + 1))
        await clock.advance(seconds)
        source.gate.set()
        await soon(loading)
    await settled(cache)
    return cache.statistics("value:{key}")


def scraped(*caches: TierCache) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    """Return what Prometheus reads, by the names of the samples and by their labels."""
    registry = CollectorRegistry()
    registry.register(CacheCollector(*caches))
    return parsed(generate_latest(registry).decode())


def parsed(text: str) -> dict[str, dict[frozenset[tuple[str, str]], float]]:
    samples: dict[str, dict[frozenset[tuple[str, str]], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = frozenset(sample.labels.items())
            assert labels not in samples.setdefault(sample.name, {}), f"twice: {sample}"
            samples[sample.name][labels] = sample.value
    return samples


def of(labels: dict[str, str], **more: str) -> frozenset[tuple[str, str]]:
    """Return labels as Prometheus has them."""
    every = labels | {f"cache.{name}": value for name, value in more.items()}
    return frozenset((name.replace(".", "_"), value) for name, value in every.items())


def at(**more: str) -> tuple[tuple[str, str], ...]:
    """Return the attributes of a data point of the busy family."""
    return tuple(sorted((VALUE | {f"cache.{name}": value for name, value in more.items()}).items()))


# The table.


def test_every_statistic_is_exported() -> None:
    """A new field needs a metric, or a reason why it has none."""
    numbers = [each.name for each in fields(Statistics) if each.type in {int, float, bool}]
    values = {name: 1000 + n for n, name in enumerate(numbers)}
    causes = {"not_stored": {"overtaken": 1}, "refused_frames": {"frame": 2}}
    statistics = Statistics(**values, **causes)  # type: ignore[arg-type]

    read = [value for each in (*OF_FAMILY, *OF_CACHE) for value in each.read(statistics).values()]

    assert set(values.values()) <= set(read)
    assert {1, 2} <= set(read)
    left = {each.name for each in fields(Statistics)} - set(values) - set(causes)
    by_name = {"load_times", "stale_ages"}
    of_cache = {"bus_lags", "inconsistencies", "unannounced"}
    told = [Histogram((1.0,), (n, 1), 2.0) for n in range(3)]
    statistics = Statistics(bus_lags=told[0], inconsistencies=told[1], unannounced=told[2])
    assert [each.read(statistics) for each in DURATIONS_OF_CACHE] == told
    assert left == by_name | of_cache, "histograms are exported by name"


# OpenTelemetry.


async def test_counters_and_gauges_are_the_statistics(
    cache: TierCache, clock: FakeClock, meters: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """They are read when metrics are collected."""
    instrument(cache, meter_provider=meters)
    statistics = await busy(cache, clock)

    found = points(reader)

    assert found["tiercache.calls"][at(tier="l1")].value == statistics.l1_hits == 2
    assert found["tiercache.calls"][at(tier="l2")].value == statistics.l2_hits == 2
    assert found["tiercache.calls"][at(tier="loader")].value == statistics.misses == 4
    assert found["tiercache.stale_reads"][at()].value == statistics.stale_reads == 1
    assert found["tiercache.loads"][at()].value == statistics.loads == 6
    assert found["tiercache.load_errors"][at()].value == statistics.load_errors == 2
    assert found["tiercache.stored"][at()].value == statistics.stored_bytes > 0
    assert found["tiercache.l1.entries"][at()].value == statistics.l1_entries > 0
    assert found["tiercache.not_stored"][at(cause="oversized")].value == 0
    of_cache = (("cache.namespace", "test"),)
    assert found["tiercache.pending"][of_cache].value == 0
    assert found["tiercache.l2.up"][of_cache].value == 1


async def test_durations_and_ages_are_those_of_the_statistics(
    cache: TierCache, clock: FakeClock, meters: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """The tracer records them, in the same buckets."""
    statistics = await busy(cache, clock)

    found = points(reader)

    loads = [
        point
        for attributes, point in found["tiercache.operation.duration"].items()
        if ("cache.operation", "load") in attributes
    ]
    counts = [sum(column) for column in zip(*(load.bucket_counts for load in loads), strict=True)]
    assert tuple(counts) == statistics.load_times.counts
    assert loads[0].explicit_bounds == statistics.load_times.bounds
    assert sum(load.sum for load in loads) == pytest.approx(3.05)
    (ages,) = found["tiercache.stale_age"].values()
    assert (ages.bucket_counts, ages.sum) == (
        statistics.stale_ages.counts,
        statistics.stale_ages.total,
    )


async def test_lags_and_inconsistencies_are_those_of_the_statistics(
    make_cache: MakeCache, clock: FakeClock, meters: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Each collection adds what was counted since the one before."""
    cache = await make_cache(self_check="1h", check_source=True)
    instrument(cache, meter_provider=meters)
    rounds: tuple[list[float], ...] = ([0.003, 0.004, 0.2, 7.0], [], [0.0, 0.003, 3.0])

    for added in rounds:
        tell(cache, *added)
        found = points(reader)

    statistics = cache.statistics()
    for name, field in (
        ("bus.lag", "bus_lags"),
        ("inconsistency.age", "inconsistencies"),
        ("unannounced.age", "unannounced"),
    ):
        (point,) = found[f"tiercache.{name}"].values()
        histogram: Histogram = getattr(statistics, field)
        assert (point.bucket_counts, point.explicit_bounds) == (histogram.counts, histogram.bounds)
        assert point.sum == pytest.approx(histogram.total)


def tell(cache: TierCache, *seconds: float) -> None:
    """Let a cache count lags and inconsistencies that a test cannot have so exactly."""
    check, source_check = cache._core.self_check, cache._core.source_check
    assert check is not None
    assert source_check is not None
    for each in seconds:
        cache._core.bus.lags.add(each)
        check.ages.add(each)
        source_check.ages.add(each)


async def test_a_message_of_another_process_has_a_lag(
    cache: TierCache, other: TierCache, meters: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """Own messages have none."""
    instrument(cache, meter_provider=meters)
    await other.invalidate(keys=["k"])
    await soon(cache.get("k", None))

    assert other.statistics().bus_lags.count == 0
    await soon(until(lambda: cache.statistics().bus_lags.count == 1))
    (lag,) = points(reader)["tiercache.bus.lag"].values()
    assert lag.count == 1


async def until(true: Callable[[], bool]) -> None:
    """Let others run until something is so."""
    for _ in range(10_000):
        if true():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not become so")


@pytest.mark.parametrize(
    "seconds",
    [[], [0.0], [0.001], [0.5, 9.0], [0.3, 0.3, 0.4, 1.5], [100.0] * 3],
    ids=str,
)
def test_durations_that_were_added_keep_their_buckets_and_their_sum(seconds: list[float]) -> None:
    """One by one they are not known any more."""
    tally = Tally((0.1, 0.5, 1.0))
    tally.add(0.4)
    before = merged([tally])
    for each in seconds:
        tally.add(each)

    got = list(since(before, merged([tally])))

    again = Tally(tally.bounds)
    for each in (0.4, *got):
        again.add(each)
    assert again.counts == tally.counts
    assert sum(got) == pytest.approx(sum(seconds))


async def test_durations_say_what_took_how_long_and_how_it_ended(
    cache: TierCache, clock: FakeClock, reader: InMemoryMetricReader
) -> None:
    """A get by the tier that answered, a failure by its error."""
    await busy(cache, clock)
    await cache.invalidate(keys=["value:1"])

    found = points(reader)["tiercache.operation.duration"]

    def counted(**more: str) -> int:
        count: int = found[at(**more)].count
        return count

    assert counted(operation="get", tier="l2") == 2
    assert counted(operation="get", tier="loader") == 4
    assert counted(operation="put") == 4
    failed = tuple(sorted((*at(operation="load"), ("error.type", "OSError"))))
    assert found[failed].count == 2
    whole = (("cache.namespace", "test"), ("cache.operation", "invalidate"))
    assert found[whole].count == 1


async def test_a_duration_names_the_span_that_it_is_of(
    cache: TierCache, spans: Spans, reader: InMemoryMetricReader
) -> None:
    """As an exemplar, by which a dashboard leads from a slow load to its trace."""
    await function_of(cache, Source())(1)

    (exemplar,) = points(reader)["tiercache.operation.duration"][at(operation="load")].exemplars
    assert exemplar.span_id == spans.one("cache.load").context.span_id


async def test_l2_that_is_down_is_told(
    make_cache: MakeCache,
    server: MemoryServer,
    clock: FakeClock,
    meters: MeterProvider,
    reader: InMemoryMetricReader,
) -> None:
    """A cache without L2 has no such series."""
    cache = await make_cache()
    alone = await make_cache(client=None, namespace="alone")
    instrument(cache, alone, meter_provider=meters)
    server.connected = False
    await cache.invalidate(keys=["k"])

    found = points(reader)
    server.connected = True
    await clock.advance(1)

    assert {names: point.value for names, point in found["tiercache.l2.up"].items()} == {
        (("cache.namespace", "test"),): 0
    }
    assert found["tiercache.pending"][(("cache.namespace", "test"),)].value == 1


async def test_a_cache_may_come_later_and_the_same_one_twice(
    make_cache: MakeCache,
    meters: MeterProvider,
    reader: InMemoryMetricReader,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The instruments of a provider are made once; the SDK would drop the second ones."""
    first = await make_cache(namespace="first")
    instrument(first, meter_provider=meters)
    points(reader)
    second = await make_cache(namespace="second")
    instrument(second, meter_provider=meters)
    instrument(first, second, meter_provider=meters)

    found = points(reader)["tiercache.pending"]

    assert list(found) == [(("cache.namespace", "first"),), (("cache.namespace", "second"),)]
    assert [each for each in caplog.records if each.name.startswith("opentelemetry")] == []


async def test_of_two_caches_with_one_namespace_the_later_is_read(make_cache: MakeCache) -> None:
    """Their series would have the same labels; a registry would refuse the page."""
    first, second = await make_cache(client=None), await make_cache(client=None)
    collected = (first, second)
    await function_of(second, Source())(1)

    assert scraped(*collected)["tiercache_loads_total"][of(VALUE)] == 1


def test_a_cache_that_nobody_holds_is_read_no_more(
    meters: MeterProvider, reader: InMemoryMetricReader
) -> None:
    """An exporter keeps no cache alive."""
    kept, dropped = TierCache(namespace="kept"), TierCache(namespace="dropped")
    registry = CollectorRegistry()
    registry.register(CacheCollector(kept, dropped))
    instrument(kept, dropped, meter_provider=meters)
    del dropped
    gc.collect()

    assert list(points(reader)["tiercache.pending"]) == [(("cache.namespace", "kept"),)]
    pending = parsed(generate_latest(registry).decode())["tiercache_pending"]
    assert list(pending) == [frozenset({("cache_namespace", "kept")})]


_GLOBAL = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from async_tiercache import TierCache
from async_tiercache_integrations.opentelemetry import instrument

early, late = TierCache(namespace="early"), TierCache(namespace="late")
reader = InMemoryMetricReader()
provider = MeterProvider([reader])
instrument(early, {early})
metrics.set_meter_provider(provider)
instrument(late, {late})
for metric in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics:
    if metric.name == "tiercache.pending":
        print(*sorted(point.attributes["cache.namespace"] for point in metric.data.data_points))
"""


@pytest.mark.parametrize("early", ["", "meter_provider=provider"], ids=["unnamed", "named"])
@pytest.mark.parametrize("late", ["", "meter_provider=provider"], ids=["unnamed", "named"])
def test_a_global_provider_may_be_set_before_or_after(early: str, late: str) -> None:
    """Which module of an application comes first is chance, and so is which one names it."""
    script = _GLOBAL.format(early=early, late=late)

    output = subprocess.check_output([sys.executable, "-c", script], text=True)

    assert output == "early late\n"


# Prometheus.


async def test_what_is_scraped_is_the_statistics(cache: TierCache, clock: FakeClock) -> None:
    """In the text that Prometheus reads."""
    statistics = await busy(cache, clock)

    found = scraped(cache)

    assert found["tiercache_calls_total"][of(VALUE, tier="l1")] == statistics.l1_hits
    assert found["tiercache_calls_total"][of(VALUE, tier="loader")] == statistics.misses
    assert found["tiercache_loads_total"][of(VALUE)] == statistics.loads
    assert found["tiercache_stored_bytes_total"][of(VALUE)] == statistics.stored_bytes
    assert found["tiercache_l1_size_bytes"][of(VALUE)] == statistics.l1_bytes
    assert found["tiercache_refused_frames_total"][of(VALUE, cause="frame")] == 0
    assert found["tiercache_l2_up"][of({"cache.namespace": "test"})] == 1


async def test_prometheus_reads_the_newer_format_too(cache: TierCache, clock: FakeClock) -> None:
    """OpenMetrics, for which it asks first, is stricter and has the same samples."""
    await busy(cache, clock)
    registry = CollectorRegistry()
    registry.register(CacheCollector(cache))

    families = _parser.text_string_to_metric_families(
        _exposition.generate_latest(registry).decode()
    )

    samples = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families
        for sample in family.samples
    }
    assert samples == {
        (name, labels): value
        for name, series in scraped(cache).items()
        for labels, value in series.items()
    }


@pytest.mark.parametrize(
    ("name", "labels", "field"),
    [
        ("tiercache_operation_duration_seconds", {"operation": "load"}, "load_times"),
        ("tiercache_stale_age_seconds", {}, "stale_ages"),
    ],
    ids=["load times", "stale ages"],
)
async def test_buckets_have_what_smaller_ones_have(
    name: str, labels: dict[str, str], field: str, cache: TierCache, clock: FakeClock
) -> None:
    """Histograms of the statistics count each value once; Prometheus wants sums."""
    histogram: Histogram = getattr(await busy(cache, clock), field)

    found = scraped(cache)

    mine = of(VALUE, **labels)
    buckets = {
        float(dict(names)["le"]): value
        for names, value in found[f"{name}_bucket"].items()
        if mine < names
    }
    bounds = [*histogram.bounds, float("inf")]
    assert [buckets[bound] for bound in bounds] == [
        sum(histogram.counts[: n + 1]) for n in range(len(bounds))
    ]
    assert found[f"{name}_count"][mine] == histogram.count > 0
    assert found[f"{name}_sum"][mine] == histogram.total


def test_a_second_collector_is_refused_by_the_registry() -> None:
    """Two would write each metric's head twice; further caches are added to the first."""
    registry = CollectorRegistry()
    first, second = TierCache(namespace="first"), TierCache(namespace="second")
    collector = CacheCollector(first)
    registry.register(collector)

    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(CacheCollector(second))
    collector.add(second)

    pending = parsed(generate_latest(registry).decode())["tiercache_pending"]
    assert list(pending) == [of({"cache.namespace": name}) for name in ("first", "second")]


def test_a_scrape_in_another_thread_may_come_at_any_time() -> None:
    """Families and causes come while it reads."""
    cache = TierCache(namespace="shop")
    collector, done, errors = CacheCollector(cache), Event(), list[BaseException]()

    def scrape() -> None:
        try:
            while not done.is_set():
                list(collector.collect())
        except BaseException as error:
            errors.append(error)

    thread = Thread(target=scrape)
    thread.start()
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        growing = cache._families.counts_of("growing")
        cache._families.counts_of("get_or_load").refused_frames["frame"] += 1
        for n in range(500):
            cache._families.counts_of(f"family{n % 50}")
            for causes in (growing.not_stored, growing.refused_frames):
                causes[f"cause{n}"] += 1
    finally:
        sys.setswitchinterval(before)
        done.set()
        thread.join()

    assert errors == []


@pytest.fixture
def exposed(tracer: OpenTelemetryTracer, clock: FakeClock) -> Iterator[MeterProvider]:
    """Return a provider whose metrics OpenTelemetry's own exporter shows to Prometheus."""
    provider = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


def types(text: str) -> dict[str, str]:
    """Return the type of each metric that a page announces, by its name there."""
    lines = [line.split() for line in text.splitlines() if line.startswith("# TYPE tiercache_")]
    return {name: kind for _, _, name, kind in lines}


async def test_both_ways_to_prometheus_give_the_same_series(
    make_cache: MakeCache, clock: FakeClock, exposed: MeterProvider
) -> None:
    """Our collector, or OpenTelemetry's exporter: a dashboard fits either."""
    tracer = OpenTelemetryTracer(None, exposed, clock=clock)
    cache = await make_cache(tracer=tracer, self_check="1h", check_source=True)
    instrument(cache, meter_provider=exposed)
    await busy(cache, clock)
    tell(cache, 0.25)
    registry = CollectorRegistry()
    registry.register(CacheCollector(cache))

    ours, theirs = generate_latest(registry).decode(), generate_latest(REGISTRY).decode()

    assert types(ours) == types(theirs)
    for name, series in parsed(ours).items():
        if name in types(ours):
            others = {
                without_scope(labels): value for labels, value in parsed(theirs)[name].items()
            }
            assert series == others


def without_scope(labels: frozenset[tuple[str, str]]) -> frozenset[tuple[str, str]]:
    """Leave out the labels that OpenTelemetry's exporter adds to every series."""
    return frozenset(each for each in labels if not each[0].startswith("otel_scope_"))
