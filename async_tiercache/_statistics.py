"""Statistics: plain integers that the paths count, and the frozen record that users read."""

from dataclasses import dataclass, fields
from typing import Any


class Counts:
    """What the paths of one family count; the hit path adds to `l1_hits` directly."""

    __slots__ = (
        "early_reads",
        "l1_hits",
        "l2_hits",
        "load_errors",
        "load_seconds",
        "loads",
        "overtaken",
        "refused_frames",
        "stale_reads",
    )

    def __init__(self) -> None:
        self.l1_hits = 0
        self.l2_hits = 0
        self.early_reads = 0
        self.stale_reads = 0
        self.loads = 0
        self.load_errors = 0
        self.load_seconds = 0.0
        self.overtaken = 0
        self.refused_frames = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """What a cache, or one family of it, has done in this process since it was made.

    Attributes:
        l1_hits: Calls answered from memory.
        l2_hits: Calls answered by what L2 held, those that waited for such a read included.
        loads: Times a loader ran.
        load_errors: Loads that raised; included in `loads`.
        load_seconds: Time spent in loaders, in seconds.
        early_reads: Calls answered with a fresh value that was being refreshed.
        stale_reads: Calls answered with a stale value, within its grace.
        overtaken: Loads whose value was kept nowhere because an invalidation came between.
        refused_frames: Times that bytes found in L2 were not used: damaged, or another schema's.
        l1_entries: Entries in memory; of the whole cache.
        l1_bytes: Their encoded size; of the whole cache.
        l1_evictions: Entries that made room for others; of the whole cache.
        l1_expiries: Entries removed because their time was over; of the whole cache.
        l1_oversized: Values that were too large to be kept in memory; of the whole cache.
        pending: Keys that L2 has yet to remove, invalidated or in doubt; of the whole cache.
    """

    l1_hits: int = 0
    l2_hits: int = 0
    loads: int = 0
    load_errors: int = 0
    load_seconds: float = 0.0
    early_reads: int = 0
    stale_reads: int = 0
    overtaken: int = 0
    refused_frames: int = 0
    l1_entries: int = 0
    l1_bytes: int = 0
    l1_evictions: int = 0
    l1_expiries: int = 0
    l1_oversized: int = 0
    pending: int = 0

    @property
    def hit_ratio(self) -> float:
        """The share of hits in either tier among hits and loads, 0.0 before the first call."""
        hits = self.l1_hits + self.l2_hits
        return hits / (hits + self.loads) if hits + self.loads else 0.0


def summed(counts: list[Counts], **of_the_cache: Any) -> Statistics:
    """Return the statistics of some families together."""
    names = Counts.__slots__
    totals = {name: sum(getattr(each, name) for each in counts) for name in names}
    return Statistics(**totals, **of_the_cache)


assert set(Counts.__slots__) <= {field.name for field in fields(Statistics)}
