"""Statistics: what a cache has done, as plain integers; the hit path counts without making one."""

import sys
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import repeat
from math import inf
from operator import length_hint
from types import MappingProxyType
from typing import Any, Final, Literal, cast

LOAD_BUCKETS: Final = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0,
)  # fmt: skip
"""Upper bounds of the buckets for the time of a load, in seconds."""
AGE_BUCKETS: Final = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 21600.0, 86400.0)
"""Upper bounds of the buckets for how long past its time a stale value was served, in seconds."""
LAG_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the buckets for how long an invalidation was on its way, in seconds."""
WINDOW: Final = 500
"""After so many misses of a family its hit ratio is judged."""


class Tally:
    """Counts durations by fixed buckets, one more bucket for what is above the last bound."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration, once or several times."""
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.total += seconds * times


class Counts:
    """What the paths of one family count.

    Attributes:
        l1_hits_left: Goes on by one for each call answered from memory. To add one to a large
            integer would take longer, for the new integer, and so would a method. What it gives is
            what the hit sets the entry's `visited` to.
    """

    __slots__ = (
        "_hits_before",
        "_poor",
        "_poor_since",
        "compress_seconds",
        "decompress_seconds",
        "early_reads",
        "l1_bytes",
        "l1_entries",
        "l1_evictions",
        "l1_expiries",
        "l1_hits_left",
        "l1_oversized",
        "l2_hits",
        "load_errors",
        "load_times",
        "loads",
        "misses",
        "not_stored",
        "plain_bytes",
        "refused_frames",
        "stale_ages",
        "stale_reads",
        "stored_bytes",
        "stores",
    )

    def __init__(self) -> None:
        for name in _ADDED:
            setattr(self, name, 0)
        self.l1_hits_left: Iterator[Literal[True]] = repeat(True, sys.maxsize)
        self.load_times = Tally(LOAD_BUCKETS)
        self.stale_ages = Tally(AGE_BUCKETS)
        self.not_stored: Counter[str] = Counter()
        self.refused_frames: Counter[str] = Counter()
        self._hits_before = 0
        self._poor_since = inf
        self._poor = False

    l2_hits: int
    misses: int
    early_reads: int
    stale_reads: int
    loads: int
    load_errors: int
    stores: int
    plain_bytes: int
    stored_bytes: int
    l1_entries: int
    l1_bytes: int
    l1_evictions: int
    l1_expiries: int
    l1_oversized: int
    compress_seconds: float
    decompress_seconds: float

    @property
    def l1_hits(self) -> int:
        """How many calls were answered from memory."""
        return sys.maxsize - length_hint(self.l1_hits_left)

    def count_l1_hit(self, calls: int = 1) -> None:
        """Count calls answered from memory."""
        for _ in range(calls):
            next(self.l1_hits_left)

    def miss(self, now: float, patience: float, calls: int = 1) -> bool:
        """Count misses; return whether it is they that show the family to be of little use.

        That is so when most calls have been misses for longer than a cache needs to fill.

        Args:
            now: The monotonic time.
            patience: How long that is: the family's ttl, in seconds.
            calls: How many there are.
        """
        windows = self.misses // WINDOW
        self.misses += calls
        if self.misses // WINDOW == windows:
            return False
        hits = self.l1_hits + self.l2_hits
        poor = hits - self._hits_before < WINDOW
        self._hits_before = hits
        self._poor_since = min(now, self._poor_since) if poor else inf
        was_poor, self._poor = self._poor, poor and now - self._poor_since >= patience
        return self._poor and not was_poor

    @property
    def is_poor(self) -> bool:
        """Whether most of the latest calls were misses, for longer than the cache needs to fill."""
        return self._poor and self.l1_hits + self.l2_hits - self._hits_before < WINDOW


@dataclass(frozen=True, slots=True, repr=False)
class Histogram:
    """Durations by fixed buckets.

    Attributes:
        bounds: The upper bound of each bucket, in seconds.
        counts: How many durations fell into each, and at the end those above the last bound.
        total: The sum of all durations, in seconds.
    """

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    total: float = 0.0

    def __bool__(self) -> bool:
        """Whether there is any duration."""
        return any(self.counts)

    def __repr__(self) -> str:
        """Show the number and the sum."""
        return f"<Histogram {self.count} in {self.total:.6g} s>"

    @property
    def count(self) -> int:
        """How many durations there are."""
        return sum(self.counts)


def _nothing() -> Mapping[str, int]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Statistics:
    """What a cache, or one family of it, has done in this process since it was made.

    Attributes:
        l1_hits: Calls answered from memory.
        l2_hits: Calls answered by what L2 held, those that waited for such a read included.
        misses: Calls answered by a loader, those that waited for another call's load included.
        early_reads: Calls answered with a fresh value that was being refreshed.
        stale_reads: Calls answered with a stale value, within its grace.
        stale_ages: How long past its time a stale value was when it was served.
        loads: Times a loader ran; one for all ids of a batch.
        load_errors: Loads that raised; included in `loads`.
        load_times: How long loaders took.
        stores: Values stored in L2.
        plain_bytes: Their encoded size.
        stored_bytes: Their size as they were stored, compressed if they were.
        compress_seconds: Time spent compressing, in seconds.
        decompress_seconds: Time spent expanding what L2 held, in seconds.
        not_stored: Values that were kept nowhere or in memory only, by cause: ``"overtaken"`` by an
            invalidation, ``"negative"``, ``"oversized"``, ``"skipped"`` by the loader,
            ``"unreachable"`` L2, ``"unproven"``: L2 could not say under which ids it would stand
            there, ``"unencodable"``: no frame can be made of it, ``"unsound"``: made from what was
            stale, or while a writer was about to change it, ``"expired"``: loaded for longer than
            it would live.
        refused_frames: Times that bytes found in L2 were not used, by cause: ``"frame"`` damaged,
            ``"key"`` another key's, ``"format"`` another release's, ``"schema"`` another schema's,
            ``"compression"`` and ``"dictionary"`` not readable here, ``"payload"`` not decodable,
            ``"tag"`` and ``"namespace"``: one of its tags, or everything, was invalidated, or
            Redis has lost the evidence that it was not.
        l1_entries: Entries in memory.
        l1_bytes: Their encoded size.
        l1_evictions: Entries that made room for others.
        l1_expiries: Entries removed because their time was over.
        l1_oversized: Values that were too large to be kept in memory.
        low_hit_ratio: Whether most calls of a family have been misses for longer than its ttl: it
            is better off without a cache, or with other keys or a longer ttl.
        pending: Keys, tags and patterns that L2 has yet to invalidate, and keys in doubt; of the
            whole cache.
        l1_bypasses: Times that L1 was passed over because the bus did not prove that no
            invalidation was missed; of the whole cache.
        left_flights: Loads in progress that an invalidation has left behind: later readers did not
            join them; of the whole cache.
        bus_gaps: Times that messages of other servers may have been missed; of the whole cache.
        bus_lags: How long messages of other servers took; of the whole cache.
        inconsistencies: How long ago L2 had got what L1 did not have yet, as the self-check found;
            of the whole cache.
        unannounced: How old what L1 served was, where the source held something else and nothing
            invalidated it, as the self-check found; of the whole cache.
        loads_running: Loads that run now; of the whole cache.
        loads_waiting: Loads that wait because `max_loads` run; of the whole cache.
    """

    l1_hits: int = 0
    l2_hits: int = 0
    misses: int = 0
    early_reads: int = 0
    stale_reads: int = 0
    stale_ages: Histogram = Histogram()
    loads: int = 0
    load_errors: int = 0
    load_times: Histogram = Histogram()
    stores: int = 0
    plain_bytes: int = 0
    stored_bytes: int = 0
    compress_seconds: float = 0.0
    decompress_seconds: float = 0.0
    not_stored: Mapping[str, int] = field(default_factory=_nothing)
    refused_frames: Mapping[str, int] = field(default_factory=_nothing)
    l1_entries: int = 0
    l1_bytes: int = 0
    l1_evictions: int = 0
    l1_expiries: int = 0
    l1_oversized: int = 0
    low_hit_ratio: bool = False
    pending: int = 0
    l1_bypasses: int = 0
    left_flights: int = 0
    bus_gaps: int = 0
    bus_lags: Histogram = Histogram()
    inconsistencies: Histogram = Histogram()
    unannounced: Histogram = Histogram()
    loads_running: int = 0
    loads_waiting: int = 0

    def __repr__(self) -> str:
        """Show what is not zero."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        shown = [
            f"{name}={dict(cast('Any', value)) if isinstance(value, Mapping) else value}"
            for name, value in values.items()
            if value
        ]
        return f"Statistics({', '.join(shown)})"

    @property
    def calls(self) -> int:
        """How many calls were answered."""
        return self.l1_hits + self.l2_hits + self.misses

    @property
    def hit_ratio(self) -> float:
        """The share of calls that either tier answered, 0.0 before the first call."""
        return _share(self.l1_hits + self.l2_hits, self.calls)

    @property
    def l1_hit_ratio(self) -> float:
        """The share of calls that L1 answered, 0.0 before the first call."""
        return _share(self.l1_hits, self.calls)

    @property
    def l2_hit_ratio(self) -> float:
        """The share that L2 answered of the calls that L1 did not, 0.0 before the first such."""
        return _share(self.l2_hits, self.l2_hits + self.misses)

    @property
    def compression_ratio(self) -> float:
        """How many times smaller values are in L2 than encoded, 1.0 before the first is stored."""
        return self.plain_bytes / self.stored_bytes if self.stored_bytes else 1.0


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


_NUMBERS: Final = tuple(
    each.name
    for each in fields(Statistics)
    if each.type in (int, float) and hasattr(Counts, each.name)
)
_ADDED: Final = tuple(name for name in _NUMBERS if name in Counts.__slots__)


def summed(counts: Iterable[Counts], **of_the_cache: Any) -> Statistics:
    """Return the statistics of some families together."""
    each = list(counts)
    totals: dict[str, Any] = {name: sum(getattr(one, name) for one in each) for name in _NUMBERS}
    return Statistics(
        **totals,
        stale_ages=merged([one.stale_ages for one in each]),
        load_times=merged([one.load_times for one in each]),
        not_stored=_added(one.not_stored for one in each),
        refused_frames=_added(one.refused_frames for one in each),
        low_hit_ratio=any(one.is_poor for one in each),
        **of_the_cache,
    )


def merged(tallies: list[Tally]) -> Histogram:
    """Return all durations of some tallies with the same bounds."""
    if not tallies:
        return Histogram()
    columns = zip(*(tally.counts for tally in tallies), strict=True)
    counts = tuple(sum(column) for column in columns)
    return Histogram(tallies[0].bounds, counts, sum(tally.total for tally in tallies))


def _added(counters: Iterable[Counter[str]]) -> Mapping[str, int]:
    total: Counter[str] = Counter()
    for counter in counters:
        # A copy, made in one step: another thread may be counting.
        total.update(dict(counter))
    return MappingProxyType(dict(sorted(total.items())))
