"""A collector for prometheus-client that reads a cache's statistics when it is scraped.

Nothing is counted twice and nothing is done on a call: the cache counts in plain integers anyway.
"""

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final

from async_tiercache import Histogram, TierCache
from async_tiercache.errors import MissingExtraError
from async_tiercache_integrations._metrics import (
    DURATION,
    DURATIONS_OF_CACHE,
    FAMILY,
    L2_UP,
    NAMESPACE,
    OF_CACHE,
    OF_FAMILY,
    OF_HTTP,
    OPERATION,
    STALE_AGE,
    Caches,
    Durations,
    Metric,
    S,
    label,
    prometheus_name,
)

try:
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
    )
    from prometheus_client.registry import Collector
except ImportError as error:
    raise MissingExtraError(
        "Metrics for Prometheus need the package prometheus-client, which is not installed",
        hint='pip install "async-tiercache[prometheus]"',
    ) from error

_CACHE: Final = [label(NAMESPACE)]
_CACHE_FAMILY: Final = [label(NAMESPACE), label(FAMILY)]


class CacheCollector(Collector):
    """Collects the metrics of one cache or several; docs/concepts/telemetry.md names them.

    A scrape may come in any thread. A cache that nobody else holds any more is left out.

    Args:
        caches: The caches.

    Example:
        >>> from prometheus_client import CollectorRegistry
        >>> cache = TierCache(namespace="shop")
        >>> registry = CollectorRegistry()
        >>> registry.register(CacheCollector(cache))
    """

    def __init__(self, *caches: TierCache) -> None:
        self._caches = Caches()
        for cache in caches:
            self._caches.add(cache)

    def add(self, cache: TierCache) -> None:
        """Collect the metrics of one more cache, as one registry takes one collector only."""
        self._caches.add(cache)

    def describe(self) -> Iterable[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Return the metrics without values: a registry refuses a second collector by them."""
        yield from (_family(metric, _CACHE_FAMILY) for metric in OF_FAMILY)
        yield from (_family(metric, _CACHE) for metric in (*OF_CACHE, L2_UP))
        yield from (_family(metric, _CACHE) for metric in OF_HTTP)
        yield _durations()
        yield _stale_ages()
        yield from map(_durations_of_cache, DURATIONS_OF_CACHE)

    def collect(self) -> Iterator[CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
        """Return the metrics as they are."""
        families = [
            ([cache.namespace, family], statistics)
            for cache, family, statistics in self._caches.families()
        ]
        wholes = [([cache.namespace], each) for cache, each in self._caches.wholes()]
        yield from (_filled(metric, _CACHE_FAMILY, families) for metric in OF_FAMILY)
        yield from (_filled(metric, _CACHE, wholes) for metric in OF_CACHE)
        responses = [([cache.namespace], each) for cache, each in self._caches.responses()]
        yield from (_filled(metric, _CACHE, responses) for metric in OF_HTTP if responses)
        up = _family(L2_UP, _CACHE)
        for cache in self._caches:
            if cache.l2 != "off":
                up.add_metric([cache.namespace], int(cache.l2 == "up"))
        yield up
        durations, ages = _durations(), _stale_ages()
        for labels, statistics in families:
            _add(durations, [*labels, "load"], statistics.load_times)
            _add(ages, labels, statistics.stale_ages)
        yield durations
        yield ages
        for each in DURATIONS_OF_CACHE:
            of_cache = _durations_of_cache(each)
            for labels, statistics in wholes:
                if each.read(statistics).bounds:
                    _add(of_cache, labels, each.read(statistics))
            yield of_cache


def _family(metric: Metric[S], labels: list[str]) -> CounterMetricFamily | GaugeMetricFamily:
    """Return a metric without values."""
    kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
    name = prometheus_name(metric.name, metric.unit, metric.kind)
    own = [label(metric.label)] if metric.label else []
    return kind(name, metric.description, labels=[*labels, *own])


def _filled(
    metric: Metric[S], labels: list[str], read: list[tuple[list[str], S]]
) -> CounterMetricFamily | GaugeMetricFamily:
    """Return a metric with its values."""
    family = _family(metric, labels)
    for values, statistics in read:
        for own, value in metric.read(statistics).items():
            family.add_metric([*values, own] if metric.label else values, value)
    return family


def _durations() -> HistogramMetricFamily:
    return HistogramMetricFamily(
        prometheus_name(DURATION, "s", "histogram"),
        "How long loaders took",
        labels=[*_CACHE_FAMILY, label(OPERATION)],
    )


def _stale_ages() -> HistogramMetricFamily:
    return HistogramMetricFamily(
        prometheus_name(STALE_AGE, "s", "histogram"),
        "How long past its time a stale value was when it was served",
        labels=_CACHE_FAMILY,
    )


def _durations_of_cache(durations: Durations) -> HistogramMetricFamily:
    return HistogramMetricFamily(
        prometheus_name(durations.name, "s", "histogram"), durations.description, labels=_CACHE
    )


def _add(family: HistogramMetricFamily, labels: list[str], histogram: Histogram) -> None:
    """Add a histogram; Prometheus counts in each bucket what the smaller ones have too."""
    bounds = [*map(str, histogram.bounds), "+Inf"]
    buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
    family.add_metric(labels, buckets, histogram.total)
