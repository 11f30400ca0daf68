"""The metrics of a cache: one table that every exporter reads.

Names follow OpenTelemetry's rules. Prometheus' are derived as OpenTelemetry's own exporter does
it: dots become underscores, the unit and, for a counter, ``_total`` come last.
"""

import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import inf, nextafter
from operator import attrgetter
from typing import Final, Generic, Literal, TypeAlias, TypeVar, get_args, get_type_hints

from async_tiercache import Histogram, Refused, Statistics, TierCache
from async_tiercache._statistics import AGE_BUCKETS, LAG_BUCKETS
from async_tiercache.http.rules import Refusal
from async_tiercache_integrations._http_counts import HttpStatistics, http_statistics, is_counted

S = TypeVar("S")
"""What a metric is read from."""

Kind: TypeAlias = Literal["counter", "updown", "gauge"]
"""What only grows; what goes up and down and can be summed; what cannot be summed."""
Points: TypeAlias = Mapping[str, float]
"""Values by the value of the metric's label; by an empty text if it has none."""

NAMESPACE: Final = "cache.namespace"
FAMILY: Final = "cache.family"
OPERATION: Final = "cache.operation"
DURATION: Final = "tiercache.operation.duration"
STALE_AGE: Final = "tiercache.stale_age"
_UNITS: Final = {"s": "_seconds", "By": "_bytes"}
_NOT_STORED: Final = (
    "overtaken",
    "negative",
    "oversized",
    "skipped",
    "unencodable",
    "unreachable",
    "unproven",
    "unsound",
    "expired",
)
_REFUSED: Final[tuple[str, ...]] = get_args(get_type_hints(Refused)["cause"])
_RESPONSES_NOT_STORED: Final[tuple[str, ...]] = (
    *get_args(Refusal),
    "length",
    "misplaced",
    "pathsend",
    "size",
    "tags",
    "trailers",
)


@dataclass(frozen=True, slots=True)
class Metric(Generic[S]):
    """One metric.

    Attributes:
        name: Its name in OpenTelemetry.
        unit: Its unit in UCUM; in braces what is counted.
        kind: How it behaves.
        description: What it counts.
        read: Returns its values.
        label: What tells its values apart, beside namespace and family.
    """

    name: str
    unit: str
    kind: Kind
    description: str
    read: Callable[[S], Points]
    label: str = ""


def _number(name: str) -> Callable[[Statistics | HttpStatistics], Points]:
    """Return what reads one field."""

    def read(statistics: Statistics | HttpStatistics) -> Points:
        return {"": +getattr(statistics, name)}  # a bool as the number it is

    return read


def _calls(statistics: Statistics) -> Points:
    return {
        "l1": statistics.l1_hits,
        "l2": statistics.l2_hits,
        "loader": statistics.misses,
    }


def _not_stored(statistics: Statistics) -> Points:
    # A series that begins at its first count shows no increase then.
    return dict.fromkeys(_NOT_STORED, 0) | dict(statistics.not_stored)


def _refused(statistics: Statistics) -> Points:
    return dict.fromkeys(_REFUSED, 0) | dict(statistics.refused_frames)


def _responses(statistics: HttpStatistics) -> Points:
    return {"hit": statistics.hits} | dict(statistics.forwarded)


def _responses_not_stored(statistics: HttpStatistics) -> Points:
    return dict.fromkeys(_RESPONSES_NOT_STORED, 0) | dict(statistics.not_stored)


OF_FAMILY: Final[tuple[Metric[Statistics], ...]] = (
    Metric("tiercache.calls", "{call}", "counter", "Calls answered, by the tier that did",
           _calls, label="cache.tier"),
    Metric("tiercache.early_reads", "{call}", "counter",
           "Calls answered with a fresh value that was being refreshed", _number("early_reads")),
    Metric("tiercache.stale_reads", "{call}", "counter",
           "Calls answered with a stale value", _number("stale_reads")),
    Metric("tiercache.loads", "{load}", "counter",
           "Times a loader ran, one for all ids of a batch", _number("loads")),
    Metric("tiercache.load_errors", "{load}", "counter",
           "Loads that raised", _number("load_errors")),
    Metric("tiercache.stores", "{value}", "counter", "Values stored in L2", _number("stores")),
    Metric("tiercache.stored", "By", "counter",
           "Size of the values stored in L2", _number("stored_bytes")),
    Metric("tiercache.encoded", "By", "counter",
           "Size of the values stored in L2 before they were compressed", _number("plain_bytes")),
    Metric("tiercache.compression.time", "s", "counter",
           "Time spent compressing", _number("compress_seconds")),
    Metric("tiercache.decompression.time", "s", "counter",
           "Time spent expanding what L2 held", _number("decompress_seconds")),
    Metric("tiercache.not_stored", "{value}", "counter",
           "Values kept nowhere or in memory only, by cause", _not_stored, label="cache.cause"),
    Metric("tiercache.refused_frames", "{frame}", "counter",
           "Times that what L2 held was not used, by cause", _refused, label="cache.cause"),
    Metric("tiercache.l1.entries", "{entry}", "updown",
           "Entries in memory", _number("l1_entries")),
    Metric("tiercache.l1.size", "By", "updown",
           "Encoded size of the entries in memory", _number("l1_bytes")),
    Metric("tiercache.l1.evictions", "{entry}", "counter",
           "Entries that made room for others", _number("l1_evictions")),
    Metric("tiercache.l1.expiries", "{entry}", "counter",
           "Entries removed because their time was over", _number("l1_expiries")),
    Metric("tiercache.l1.oversized", "{value}", "counter",
           "Values too large to be kept in memory", _number("l1_oversized")),
    Metric("tiercache.low_hit_ratio", "", "gauge",
           "1 while the latest calls were mostly misses", _number("low_hit_ratio")),
)  # fmt: skip
"""One series for each family."""

OF_CACHE: Final[tuple[Metric[Statistics], ...]] = (
    Metric("tiercache.pending", "{key}", "updown",
           "Keys, tags and patterns that L2 has yet to invalidate", _number("pending")),
    Metric("tiercache.l1.bypasses", "{read}", "counter",
           "Reads that passed memory over for want of a proof", _number("l1_bypasses")),
    Metric("tiercache.left_flights", "{load}", "counter",
           "Loads that an invalidation has left behind", _number("left_flights")),
    Metric("tiercache.bus.gaps", "{gap}", "counter",
           "Times that messages of other servers may have been missed", _number("bus_gaps")),
    Metric("tiercache.loads_running", "{load}", "updown",
           "Loads that run now", _number("loads_running")),
    Metric("tiercache.loads_waiting", "{load}", "updown",
           "Loads that wait because max_loads run", _number("loads_waiting")),
)  # fmt: skip
"""One series for each cache."""

OF_HTTP: Final[tuple[Metric[HttpStatistics], ...]] = (
    Metric("tiercache.http.responses", "{response}", "counter",
           "Responses from what was stored, and from the application, by why", _responses,
           label="cache.status"),
    Metric("tiercache.http.not_modified", "{response}", "counter",
           "Responses from what was stored that were a 304", _number("not_modified")),
    Metric("tiercache.http.not_stored", "{response}", "counter",
           "Responses that were not stored, by cause", _responses_not_stored,
           label="cache.cause"),
)  # fmt: skip
"""One series for each cache that a `ResponseCache` has."""


@dataclass(frozen=True, slots=True)
class Durations:
    """A histogram that the statistics hold for each cache.

    Attributes:
        name: Its name in OpenTelemetry; its unit is seconds.
        description: What it counts.
        bounds: The upper bounds of its buckets, in seconds.
        read: Returns its values.
    """

    name: str
    description: str
    bounds: tuple[float, ...]
    read: Callable[[Statistics], Histogram]


DURATIONS_OF_CACHE: Final = (
    Durations("tiercache.bus.lag", "How long messages of other servers took",
              LAG_BUCKETS, attrgetter("bus_lags")),
    Durations("tiercache.inconsistency.age",
              "How long ago L2 had got what memory did not have yet, as the self-check found",
              AGE_BUCKETS, attrgetter("inconsistencies")),
    Durations("tiercache.unannounced.age",
              "How old what memory served was, where the source held something else untold",
              AGE_BUCKETS, attrgetter("unannounced")),
)  # fmt: skip

L2_UP: Final[Metric[Statistics]] = Metric(
    "tiercache.l2.up", "", "gauge", "1 while L2 answers, else 0", lambda _: {}
)
"""One series for each cache with an L2; it is read from the cache."""


def prometheus_name(name: str, unit: str, kind: Kind | Literal["histogram"]) -> str:
    """Return a metric's name in Prometheus.

    Args:
        name: Its name in OpenTelemetry.
        unit: Its unit.
        kind: How it behaves.
    """
    total = "_total" if kind == "counter" else ""
    return f"{label(name)}{_UNITS.get(unit, '')}{total}"


def label(attribute: str) -> str:
    """Return an attribute's name as Prometheus allows it."""
    return attribute.replace(".", "_")


def since(before: Histogram, now: Histogram) -> Iterator[float]:
    """Yield durations that a histogram has got since it was read last.

    Each falls into the bucket that it was counted in, and their sum is that of the durations that
    were counted; each for itself is not known any more.

    Args:
        before: What it was then; empty if it was not read yet.
        now: What it is now.
    """
    earlier = before.counts or (0,) * len(now.counts)
    added = [count - old for count, old in zip(now.counts, earlier, strict=True)]
    total = now.total - before.total
    lows = (0.0, *now.bounds)
    highs = (*now.bounds, max(total, *now.bounds, 0.0))
    least = sum(count * low for count, low in zip(added, lows, strict=False))
    most = sum(count * high for count, high in zip(added, highs, strict=False))
    share = min(max((total - least) / (most - least), 0.0), 1.0) if most > least else 0.0
    for count, low, high in zip(added, lows, highs, strict=False):
        above = nextafter(low, inf) if low else 0.0
        yield from [min(max(low + share * (high - low), above), high)] * count


class Caches:
    """The caches that are read, one of each namespace, for that is what tells series apart.

    They are held weakly, so a forgotten one is read no more. Statistics are plain integers, so
    another thread than the cache's may read them at any time.
    """

    __slots__ = ("_caches",)

    def __init__(self) -> None:
        self._caches: list[weakref.ref[TierCache]] = []

    def add(self, cache: TierCache) -> None:
        """Read a cache from here on, in place of an earlier one of its namespace."""
        others = [weakref.ref(each) for each in self if each.namespace != cache.namespace]
        # A new list, for another thread may be reading the old one.
        self._caches = [*others, weakref.ref(cache)]

    def __iter__(self) -> Iterator[TierCache]:
        """Yield the caches, in the order in which they came."""
        for ref in self._caches:
            cache = ref()
            if cache is not None:
                yield cache

    def families(self) -> Iterator[tuple[TierCache, str, Statistics]]:
        """Yield every family of every cache, with its statistics."""
        for cache in self:
            for family in cache.families:
                yield cache, family, cache.statistics(family)

    def wholes(self) -> Iterator[tuple[TierCache, Statistics]]:
        """Yield every cache, with statistics that have what is counted of it as a whole."""
        for cache in self:
            # Each family's statistics have it; summing all would read what another thread changes.
            yield cache, cache.statistics(cache.families[0])

    def responses(self) -> Iterator[tuple[TierCache, HttpStatistics]]:
        """Yield every cache that keeps responses, with what was counted of them."""
        for cache in self:
            if is_counted(cache):
                yield cache, http_statistics(cache)
