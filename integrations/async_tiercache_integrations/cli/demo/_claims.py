"""The figures that caching tutorials promise, restated so that they can fail.

Pure: from what was measured to a verdict. `python -m benchmarks claims` makes further claims.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from async_tiercache_integrations.cli.demo._measure import Histogram, Results
from async_tiercache_integrations.cli.demo._wording import duration, percent

Unit: TypeAlias = Literal["seconds", "share", "times", "a second", "MB", "bytes", "reads"]
"""What a figure counts; shares are in 0..1."""

LOAD: Final = "Database load cut by 80 to 95 %"
QUERY: Final = "A query of 50 ms becomes 1 to 5 ms"
L1_HIT: Final = "L1 hit in 1 to 5 ms"
L2_HIT: Final = "L2 hit in 5 to 10 ms"
CHANGE: Final = "A change is seen by all servers at once"

ELSEWHERE: Final = (
    "What Redis reads a second and what 10,000 objects take in memory is measured, in the"
    " repository, by"
)
"""Where the classical figures are that a run of the demo does not measure."""

COMMAND: Final = "python -m benchmarks claims"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One figure with the bar it is held against.

    Attributes:
        classical: What tutorials say.
        restated: What is measured instead.
        measured: The figure; NaN, when nothing was measured, holds against no bar.
        bar: The figure not to be exceeded or, with `at_least`, to be reached.
        unit: What both count.
        at_least: Whether more is better.
        beside: Another figure of the same run, for people.
    """

    classical: str
    restated: str
    measured: float
    bar: float
    unit: Unit
    at_least: bool = False
    beside: str = ""

    @property
    def holds(self) -> bool:
        """Whether the figure is on the right side of the bar."""
        return self.measured >= self.bar if self.at_least else self.measured <= self.bar

    @property
    def verdict(self) -> str:
        """`holds` in a word."""
        return "holds" if self.holds else "FAILS"

    @property
    def words(self) -> str:
        """What was measured, with the figure beside it."""
        return f"{self.restated} ({self.beside})" if self.beside else self.restated

    @property
    def figure(self) -> str:
        """The figure with its unit."""
        return spell(self.measured, self.unit)

    @property
    def requirement(self) -> str:
        """The bar with its unit, and its side."""
        sign = "\N{GREATER-THAN OR EQUAL TO}" if self.at_least else "\N{LESS-THAN OR EQUAL TO}"
        return f"{sign} {spell(self.bar, self.unit)}"


def spell(figure: float, unit: Unit) -> str:
    """Return a figure with its unit.

    Example:
        >>> spell(2e-6, "seconds"), spell(0.997, "share")
        ('2 µs', '99.7 %')
        >>> spell(81_234.5, "a second"), spell(1.25, "MB"), spell(float("nan"), "MB")
        ('81,234/s', '1.25 MB', 'not measured')
        >>> spell(0, "reads"), spell(184, "bytes")
        ('0', '184 bytes')
    """
    if figure != figure:  # noqa: PLR0124 - only NaN differs from itself
        return "not measured"
    if unit == "seconds":
        return duration(figure)
    if unit == "share":
        return percent(figure)
    if unit == "times":
        return (
            f"{figure:,.0f}\N{MULTIPLICATION SIGN}"
            if figure >= 100
            else f"{figure:.3g}\N{MULTIPLICATION SIGN}"
        )
    if unit == "reads":
        return f"{figure:,.0f}"
    if unit == "bytes":
        return f"{figure:,.0f} bytes"
    return f"{figure:,.0f}/s" if unit == "a second" else f"{figure:.2f} MB"


def claims(results: Results) -> list[Claim]:
    """Return what a run of the demo says about each figure that it measured."""
    return list(_claims(results))


def load_claims(results: Results) -> list[Claim]:
    """Return what a run says about the load of the database."""
    return list(_load_claims(results))


def _claims(results: Results) -> Iterator[Claim]:
    warm, uncached = results.phase("Warm"), results.phase("No cache")
    if warm is None or uncached is None:
        return
    yield from _load_claims(results)
    before, after = median(uncached.tally.reports), median(warm.tally.reports)
    yield Claim(
        classical=QUERY,
        restated="Median of a sales report: how many times faster warm than without a cache",
        measured=before / after,
        bar=10,
        unit="times",
        at_least=True,
        beside=f"{spell(before, 'seconds')} → {spell(after, 'seconds')}",
    )
    yield Claim(
        classical=L1_HIT,
        restated="Median of warm reads that L1 answered",
        measured=median(warm.tally.latency["l1"]),
        bar=10e-6,
        unit="seconds",
    )
    # Everything of the demo shares the cores: most of this time is waiting for one.
    yield Claim(
        classical=L2_HIT,
        restated="Median of warm reads that L2 answered, under the load of all processes",
        measured=median(warm.tally.latency["l2"]),
        bar=5e-3,
        unit="seconds",
    )
    yield _bound_claim(results)


def _bound_claim(results: Results) -> Claim:
    total = results.cached
    ages = f", {duration(total.old_other.highest)} at most" if total.old_other.count else ""
    killed = ", Redis killed meanwhile" if results.marks else ""
    return Claim(
        classical=CHANGE,
        restated=f"Reads that miss an invalidation acknowledged {results.oldest:g} s before they"
        f" began or earlier{killed}",
        measured=total.past_bound if total.checked else math.nan,
        bar=0,
        unit="reads",
        beside=f"{percent(total.old_share)} miss a later one{ages}",
    )


def _load_claims(results: Results) -> Iterator[Claim]:
    warm = results.phase("Warm")
    if warm is None:
        return
    saved = results.database_time_saved
    if saved is not None:
        yield Claim(
            classical=LOAD,
            restated="Database time for a request: how much less warm than without a cache",
            measured=saved,
            bar=0.9,
            unit="share",
            at_least=True,
        )
    yield Claim(
        classical=LOAD,
        restated="Warm reads that cost no statement, among those of keys read before",
        measured=warm.repeats_saved,
        # In phases longer than the ttl, reads of what expired cost statements again.
        bar=0.8,
        unit="share",
        at_least=True,
        beside=f"{percent(warm.saved)} among all",
    )


def median(histogram: Histogram) -> float:
    """Return the median, NaN of nothing: what was not measured must hold no claim."""
    return histogram.quantile(0.5) if histogram.count else float("nan")
