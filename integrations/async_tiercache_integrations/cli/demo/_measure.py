"""What is counted: latencies, who answered, old reads. Pure, and merges over processes."""

import math
import operator
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, Self, TypeAlias

Answerer: TypeAlias = Literal["l1", "l2", "loader", "database"]
"""Who answered a read; ``"database"`` when the cache is off."""

ANSWERERS: Final[tuple[Answerer, ...]] = ("l1", "l2", "loader", "database")

_LOWEST: Final = 1e-7  # seconds; an L1 hit takes several times that
_PER_DECADE: Final = 50  # buckets, so that a quantile is within 2.4 % of the truth
_BUCKETS: Final = 10 * _PER_DECADE  # up to 1,000 seconds


class Histogram:
    """Counts of durations in buckets of equal ratio; memory does not grow with the counts."""

    __slots__ = ("_counts", "count", "highest")

    def __init__(self) -> None:
        self._counts = [0] * _BUCKETS
        self.count = 0
        self.highest = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        bucket = int(math.log10(seconds / _LOWEST) * _PER_DECADE) if seconds > _LOWEST else 0
        self._counts[min(bucket, _BUCKETS - 1)] += 1
        self.count += 1
        self.highest = max(self.highest, seconds)

    def merge(self, other: "Histogram") -> None:
        """Add the counts of another histogram."""
        theirs = other._counts  # noqa: SLF001 - of the same class
        self._counts = list(map(operator.add, self._counts, theirs))
        self.count += other.count
        self.highest = max(self.highest, other.highest)

    def quantile(self, share: float) -> float:
        """Return the duration that `share` of all durations do not exceed; 0 without any."""
        rank, seen = math.ceil(share * self.count), 0
        for low, high, count in self:
            seen += count
            if seen >= rank:
                return min(math.sqrt(low * high), self.highest)
        return 0.0

    def __iter__(self) -> Iterator[tuple[float, float, int]]:
        """Yield (from, to, count) of each bucket that holds something, in order."""
        for bucket, count in enumerate(self._counts):
            if count:
                low = _LOWEST * 10 ** (bucket / _PER_DECADE)
                yield low, low * 10 ** (1 / _PER_DECADE), count

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes, small when few buckets are in use."""
        counts = {str(bucket): count for bucket, count in enumerate(self._counts) if count}
        return {"counts": counts, "highest": self.highest}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the histogram that `as_json` described."""
        histogram = cls()
        for bucket, count in data["counts"].items():
            histogram._counts[int(bucket)] = count
            histogram.count += count
        histogram.highest = data["highest"]
        return histogram


def _empty() -> dict[Answerer, Histogram]:
    return {name: Histogram() for name in ANSWERERS}


@dataclass
class Tally:
    """What callers saw during some time.

    Attributes:
        latency: The durations of reads, by who answered.
        reports: The durations of the reports among them, which the database finds hardest.
        first: How many reads were the first of their key, by anybody.
        updates: How many updates were made, and thus invalidations.
        errors: How many calls raised, by the name of the error.
        joined: How many reads waited for a load that another call had started.
        checked: How many reads carried a version that could be compared.
        old_own: Reads older than an update in the same process, its invalidation done or queued.
        old_other: Reads older than an invalidation acknowledged in any process; how much older.
        past_bound: How many of those were older than the staleness bound and its margin.
        old_queued: Reads older than an update whose invalidation was still queued; how much older.
        queued: How many updates had their invalidation queued, because L2 did not answer.
        statements: How many statements the application sent, if it counts them itself.
        made: How many responses the application has made, in the chapter about HTTP.
        not_modified: How many reads there were answered with 304.
        busy_ms: Processor time of the clients there, in milliseconds.
        l1_bypasses: Times that L1 was passed over for want of a proof.
        bus_gaps: Times that messages may have been missed.
        bus_lags: How many messages took at most so long, by the bucket's upper bound in seconds.
    """

    latency: dict[Answerer, Histogram] = field(default_factory=_empty)
    reports: Histogram = field(default_factory=Histogram)
    first: int = 0
    updates: int = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])
    joined: int = 0
    checked: int = 0
    old_own: int = 0
    old_other: Histogram = field(default_factory=Histogram)
    past_bound: int = 0
    old_queued: Histogram = field(default_factory=Histogram)
    queued: int = 0
    statements: int = 0
    made: int = 0
    not_modified: int = 0
    busy_ms: int = 0
    l1_bypasses: int = 0
    bus_gaps: int = 0
    bus_lags: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def reads(self) -> int:
        """How many reads were answered."""
        return sum(histogram.count for histogram in self.latency.values())

    @property
    def requests(self) -> int:
        """How many calls were made: reads and updates, those that failed included."""
        return self.reads + self.updates + self.failed

    @property
    def failed(self) -> int:
        """How many calls raised."""
        return sum(self.errors.values())

    def share(self, answerer: Answerer) -> float:
        """Return which share of the reads a tier answered, in 0..1."""
        return self.latency[answerer].count / self.reads if self.reads else 0.0

    @property
    def old_share(self) -> float:
        """Which share of the checked reads was older than an acknowledged invalidation."""
        return self.old_other.count / self.checked if self.checked else 0.0

    def lag(self, share: float) -> float:
        """Return the bound of the bucket that `share` of all messages do not exceed; 0 without."""
        buckets = sorted((float(bound), count) for bound, count in self.bus_lags.items())
        rank, seen = math.ceil(share * sum(self.bus_lags.values())), 0
        for bound, count in buckets:
            seen += count
            if seen >= rank:
                return bound
        return 0.0

    def all_reads(self) -> Histogram:
        """Return the durations of all reads together."""
        merged = Histogram()
        for histogram in self.latency.values():
            merged.merge(histogram)
        return merged

    def fail(self, error: BaseException) -> None:
        """Count a call that raised."""
        name = type(error).__name__
        self.errors[name] = self.errors.get(name, 0) + 1

    def merge(self, other: "Tally") -> None:
        """Add another tally to this one."""
        for answerer, histogram in other.latency.items():
            self.latency[answerer].merge(histogram)
        for mine, theirs in ((self.errors, other.errors), (self.bus_lags, other.bus_lags)):
            for name, count in theirs.items():
                mine[name] = mine.get(name, 0) + count
        for name in _HISTOGRAMS:
            getattr(self, name).merge(getattr(other, name))
        for name in _NUMBERS:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        latency = {name: item.as_json() for name, item in self.latency.items() if item.count}
        histograms = {name: getattr(self, name).as_json() for name in _HISTOGRAMS}
        return {**vars(self), "latency": latency, **histograms}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the tally that `as_json` described."""
        histograms = {name: Histogram.from_json(data[name]) for name in _HISTOGRAMS}
        values: dict[str, Any] = {**data, "latency": _empty(), **histograms}
        tally = cls(**values)
        for name in ANSWERERS:
            if name in data["latency"]:
                tally.latency[name] = Histogram.from_json(data["latency"][name])
        return tally


_HISTOGRAMS: Final = ("reports", "old_other", "old_queued")
_NUMBERS: Final = tuple(each.name for each in fields(Tally) if each.type is int)


@dataclass(frozen=True, slots=True)
class Point:
    """One sample of a running phase.

    Attributes:
        at: Seconds since the first phase began.
        requests: Calls a second since the point before.
        statements: Statements a second at the database since the point before.
    """

    at: float
    requests: float
    statements: float


@dataclass
class Phase:
    """One stretch of load and what was measured in it.

    Attributes:
        name: A short name, for charts.
        about: What happens in it, for people.
        began_at: When it began, in seconds since the first phase did.
        seconds: How long it took.
        tally: What callers saw.
        statements: What the database counted.
        database_seconds: How long it worked on them; 0 when it did not say.
        points: The course of the phase.
        price: How many statements a read costs without any cache.
    """

    name: str
    about: str
    began_at: float = 0.0
    seconds: float = 0.0
    tally: Tally = field(default_factory=Tally)
    statements: int = 0
    database_seconds: float = 0.0
    points: list[Point] = field(default_factory=list[Point])
    price: int = 1

    @property
    def rate(self) -> float:
        """Calls a second."""
        return self.tally.requests / self.seconds if self.seconds else 0.0

    @property
    def cached(self) -> bool:
        """Whether the cache was on."""
        return not self.tally.latency["database"].count

    @property
    def saved(self) -> float:
        """The share of the statements of reads that the database was spared, in 0..1.

        Uncached, each read is one statement; an update is one with and without a cache.
        """
        reads = self.tally.reads * self.price
        return 1 - max(self.statements - self.tally.updates, 0) / reads if reads else 0.0

    @property
    def repeats_saved(self) -> float:
        """The share of reads that cost no statement, among those that were not the first of a key.

        A key has to be loaded once, so the first read of each cannot be saved. NaN without others.
        """
        repeats = self.tally.reads - self.tally.first
        paid = self.statements - self.tally.updates - self.tally.first
        return 1 - max(paid, 0) / repeats if repeats else math.nan

    @property
    def database_cost(self) -> float:
        """Seconds of work at the database for one request."""
        return self.database_seconds / self.tally.requests if self.tally.requests else 0.0


@dataclass(frozen=True, slots=True)
class Stampede:
    """Many readers of one cold key, started together.

    Attributes:
        readers: How many.
        loads: How many statements they cost.
        seconds: From the start to the value of the last reader.
        errors: How many of them saw an error.
    """

    readers: int
    loads: int
    seconds: float
    errors: int


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a price, and how soon all servers showed it.

    Attributes:
        own: From the answer to the change to the page of the server that made it, in seconds.
        others: The same for each other server.
        own_old: Old pages of the server that made it, asked for after its answer.
        others_old: Those of the others.
    """

    own: float
    others: tuple[float, ...]
    own_old: int
    others_old: int


@dataclass
class Pages:
    """What the chapter about HTTP measured.

    Attributes:
        phases: In the order in which they ran.
        stampedes: One for each round; a load is a run of the application.
        changes: Of prices, one after the other, without other load.
        marks: What was done to a server, and when: (seconds since the first phase began, what).
        bound: How old a page may be at most, in seconds: the shop's `staleness_bound`.
        margin: What a busy machine may add to it.
    """

    phases: list[Phase] = field(default_factory=list[Phase])
    stampedes: list[Stampede] = field(default_factory=list[Stampede])
    changes: list[Change] = field(default_factory=list[Change])
    marks: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    bound: float = 0.0
    margin: float = 0.0

    def phase(self, name: str) -> Phase | None:
        """Return a phase by its name, `None` when it did not run."""
        return next((phase for phase in self.phases if phase.name == name), None)

    @property
    def errors(self) -> int:
        """How many requests were answered with an error, or not at all."""
        in_phases = sum(phase.tally.failed for phase in self.phases)
        return in_phases + sum(stampede.errors for stampede in self.stampedes)

    @property
    def old_own(self) -> int:
        """How many pages were older than a change that their server had answered before."""
        in_phases = sum(phase.tally.old_own for phase in self.phases)
        return in_phases + sum(change.own_old for change in self.changes)

    @property
    def past_bound(self) -> int:
        """How many pages were past the bound."""
        oldest = self.bound + self.margin
        late = sum(seconds > oldest for change in self.changes for seconds in change.others)
        return late + sum(phase.tally.past_bound for phase in self.phases)

    def delays(self) -> Histogram:
        """Return after how long the servers that had not made a change showed it."""
        merged = Histogram()
        for change in self.changes:
            for seconds in change.others:
                merged.add(seconds)
        return merged


@dataclass
class Results:
    """All that a run measured.

    Attributes:
        phases: In the order in which they ran.
        stampedes: One for each round.
        marks: What was done to a server, and when: (seconds since the first phase began, what).
        bound: How old a read may be at most, in seconds: the shop's `staleness_bound`.
        margin: What a busy machine may add to it.
        setting: Where and how it was measured: (what, value).
        caveats: What a reader should know before quoting a figure.
        finished: When it ended, for people.
        pages: The chapter about HTTP, if there is one.
    """

    phases: list[Phase] = field(default_factory=list[Phase])
    stampedes: list[Stampede] = field(default_factory=list[Stampede])
    marks: list[tuple[float, str]] = field(default_factory=list[tuple[float, str]])
    bound: float = 0.0
    margin: float = 0.0
    setting: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])
    caveats: list[str] = field(default_factory=list[str])
    finished: str = ""
    pages: Pages | None = None

    def phase(self, name: str) -> Phase | None:
        """Return a phase by its name, `None` when it did not run."""
        return next((phase for phase in self.phases if phase.name == name), None)

    @property
    def oldest(self) -> float:
        """How old a read may be before it counts as past the bound, in seconds."""
        return self.bound + self.margin

    @property
    def cached(self) -> Tally:
        """What callers saw in all phases in which the cache was on."""
        total = Tally()
        for phase in self.phases:
            if phase.cached:
                total.merge(phase.tally)
        return total

    @property
    def database_time_saved(self) -> float | None:
        """Which share of the database's work for one request the warm cache saves, in 0..1."""
        warm, uncached = self.phase("Warm"), self.phase("No cache")
        if warm is None or uncached is None or not uncached.database_cost:
            return None
        return max(0.0, 1 - warm.database_cost / uncached.database_cost)

    @property
    def errors(self) -> int:
        """How many calls raised, in all phases and stampedes."""
        in_phases = sum(phase.tally.failed for phase in self.phases)
        return in_phases + sum(stampede.errors for stampede in self.stampedes)
