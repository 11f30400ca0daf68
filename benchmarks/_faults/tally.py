"""What one process, or all of them together, saw during a cell."""

from dataclasses import asdict, dataclass, field
from math import inf
from typing import Any, Final, Self

_KEPT: Final = 200
_TEXT: Final = 120


@dataclass
class Violation:
    """One read that broke a promise.

    Attributes:
        kind: ``"late"``, ``"ryw"``, ``"nonmonotonic"`` or ``"forever"``.
        process: The process that read.
        row: What was read.
        version: What it got.
        floor: What it should have got at least.
        began: When the read began, monotonic.
        age: For how long it had been known that the version is old, in seconds; 0 where it is not
            about that.
    """

    kind: str
    process: int
    row: int
    version: int
    floor: int
    began: float
    age: float = 0.0


@dataclass
class Tally:
    """Counts; every field of two tallies adds up, those in `_LONGEST` excepted.

    Attributes:
        checked: Reads whose version was compared.
        stale: Reads older than what had been acknowledged when they began.
        late: Those of them that were older by more than the bound.
        ryw: Reads older than what their own process had invalidated.
        nonmonotonic: Reads older than an earlier read of their process.
        forever: Rows that were old at the end, when all was quiet.
        hung: Calls that did not end.
        collateral: Calls that were cancelled although their caller was not.
        cancelled: Callers that were cancelled, as the fault demands.
        injected: Errors that readers got because the fault demands them.
        errors: Errors nobody asked for, by text.
        writes: Versions committed.
        queued: Invalidations that returned before Redis confirmed them.
        loads: Loads that began.
        raced: Loads during which their row was written.
        longest_read: In seconds.
        longest_load: In seconds.
        longest_lag: The age of the oldest stale read, in seconds.
        counts: What the cache itself counted.
        violations: The first of each kind, to look into.
    """

    checked: int = 0
    stale: int = 0
    late: int = 0
    ryw: int = 0
    nonmonotonic: int = 0
    forever: int = 0
    hung: int = 0
    collateral: int = 0
    cancelled: int = 0
    injected: int = 0
    errors: dict[str, int] = field(default_factory=dict[str, int])
    writes: int = 0
    queued: int = 0
    loads: int = 0
    raced: int = 0
    longest_read: float = 0.0
    longest_load: float = 0.0
    longest_lag: float = 0.0
    counts: dict[str, int] = field(default_factory=dict[str, int])
    violations: list[Violation] = field(default_factory=list[Violation])

    def fail(self, error: BaseException, where: str = "") -> None:
        """Count an error that nobody asked for."""
        text = f"{where}{type(error).__name__}: {error}"[:_TEXT]
        self.errors[text] = self.errors.get(text, 0) + 1

    def violate(self, violation: Violation) -> None:
        """Keep a violation, if it is among the first of its kind."""
        if self.count_kept(violation.kind) < _KEPT:
            self.violations.append(violation)

    def count_kept(self, kind: str, began: float = -inf, ended: float = inf) -> int:
        """Return how many violations of a kind are kept, of reads that began between two times."""
        return sum(one.kind == kind and began <= one.began <= ended for one in self.violations)

    def add(self, other: "Tally") -> None:
        """Take in what another process saw."""
        for name, value in vars(other).items():
            mine = getattr(self, name)
            if name in _LONGEST:
                setattr(self, name, max(mine, value))
            elif isinstance(mine, dict):
                for key, count in value.items():
                    mine[key] = mine.get(key, 0) + count
            else:
                setattr(self, name, mine + value)

    def as_json(self) -> dict[str, Any]:
        """Return what `from_json` takes."""
        return asdict(self)

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Self:
        """Return the tally of another process."""
        violations = [Violation(**each) for each in told["violations"]]
        return cls(**told | {"violations": violations})


_LONGEST: Final = ("longest_read", "longest_load", "longest_lag")
