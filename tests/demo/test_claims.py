"""Each classical figure holds or fails by what was measured, and nothing measured never holds."""

import math
from collections.abc import Callable
from typing import Any

import pytest

from async_tiercache_integrations.cli.demo import _summary
from async_tiercache_integrations.cli.demo._claims import (
    CHANGE,
    L1_HIT,
    L2_HIT,
    LOAD,
    QUERY,
    Claim,
    claims,
    load_claims,
    spell,
)
from async_tiercache_integrations.cli.demo._measure import Answerer, Phase, Results


def run() -> Results:
    """Return a run in which every claim holds."""
    uncached = Phase("No cache", "", seconds=10.0, statements=100, database_seconds=5.0)
    warm = Phase("Warm", "", seconds=10.0, statements=12, database_seconds=0.05)
    for _ in range(100):
        uncached.tally.latency["database"].add(0.05)
        uncached.tally.reports.add(0.05)
        warm.tally.reports.add(2e-6)
    for answerer, count, seconds in (("l1", 60, 2e-6), ("l2", 28, 4e-4), ("loader", 12, 3e-3)):
        add_reads(warm, answerer, count, seconds)
    warm.tally.first = 12
    warm.tally.checked = 100
    warm.tally.old_other.add(1.9)
    return Results(phases=[uncached, warm])


def add_reads(phase: Phase, answerer: Any, count: int, seconds: float) -> None:
    """Let a tier answer some reads."""
    for _ in range(count):
        phase.tally.latency[answerer].add(seconds)


def phase(results: Results, name: str) -> Phase:
    """Return a phase that is there."""
    found = results.phase(name)
    assert found is not None
    return found


def by_figure(results: Results) -> list[tuple[str, bool]]:
    """Return each classical figure with its verdict."""
    return [(claim.classical, claim.holds) for claim in claims(results)]


def slow_database(results: Results) -> None:
    """Let the warm cache spare the database four fifths of its time."""
    phase(results, "Warm").database_seconds = 1.0


def paid_repeats(results: Results) -> None:
    """Let one in four of the reads of known keys cost a statement."""
    phase(results, "Warm").statements = 12 + 22


def slow_reports(results: Results) -> None:
    """Let cached reports take a fifth of the time that they take without a cache."""
    add = phase(results, "Warm").tally.reports.add
    for _ in range(200):
        add(0.01)


def late_read(results: Results) -> None:
    """Let one read be past the bound."""
    phase(results, "Warm").tally.past_bound = 1


def slow_tier(answerer: Answerer, seconds: float) -> Callable[[Results], None]:
    """Return what makes a tier slow."""

    def slow(results: Results) -> None:
        add_reads(phase(results, "Warm"), answerer, 200, seconds)

    return slow


def test_every_claim_of_a_good_run_holds() -> None:
    """A run that is well above its bars says so, figure by figure."""
    verdicts = by_figure(run())

    figures = [LOAD, LOAD, QUERY, L1_HIT, L2_HIT, CHANGE]
    assert verdicts == [(figure, True) for figure in figures]


@pytest.mark.parametrize(
    ("change", "failing"),
    [
        (slow_database, 0),
        (paid_repeats, 1),
        (slow_reports, 2),
        (slow_tier("l1", 2e-5), 3),
        (slow_tier("l2", 6e-3), 4),
        (late_read, 5),
    ],
    ids=["database time", "repeated reads", "reports", "L1", "L2", "bound"],
)
def test_claim_fails_alone_when_its_figure_misses_the_bar(
    change: Callable[[Results], None], failing: int
) -> None:
    """Each claim looks at its own figure."""
    results = run()
    change(results)

    held = [claim.holds for claim in claims(results)]

    assert held == [number != failing for number in range(6)]


@pytest.mark.parametrize("answerer", ["l1", "l2"])
def test_tier_that_answered_nothing_fails_its_claim(answerer: Answerer) -> None:
    """A latency of nothing is not a fast one."""
    results = run()
    warm = phase(results, "Warm")
    warm.tally.latency[answerer] = type(warm.tally.latency[answerer])()

    (claim,) = (c for c in claims(results) if c.classical == {"l1": L1_HIT, "l2": L2_HIT}[answerer])

    assert (claim.figure, claim.verdict) == ("not measured", "FAILS")


def test_run_that_checked_no_read_claims_no_bound() -> None:
    """None was past the bound, because none was looked at."""
    results = run()
    phase(results, "Warm").tally.checked = 0

    claim = claims(results)[-1]

    assert (claim.figure, claim.verdict) == ("not measured", "FAILS")


def test_reads_of_new_keys_only_say_nothing_of_repeated_ones() -> None:
    """Without a repeated read there is nothing that could have been saved."""
    results = run()
    warm = phase(results, "Warm")
    warm.tally.first = warm.tally.reads

    (_, repeats) = load_claims(results)

    assert math.isnan(repeats.measured)
    assert not repeats.holds


def test_database_that_does_not_tell_its_time_is_not_claimed_about() -> None:
    """Without pg_stat_statements one claim is left out, not invented."""
    results = run()
    phase(results, "No cache").database_seconds = 0.0

    figures = [LOAD, QUERY, L1_HIT, L2_HIT, CHANGE]
    assert [claim.classical for claim in claims(results)] == figures


def test_run_without_a_warm_phase_makes_no_claims() -> None:
    """There is no section then, in the terminal neither."""
    results = Results(phases=[phase(run(), "No cache")])

    assert claims(results) == []
    assert _summary.summary(results) is not None


@pytest.mark.parametrize(
    ("at_least", "measured", "holds"),
    [
        (False, 0.9, True),
        (False, 1.0, True),
        (False, 1.1, False),
        (True, 0.9, False),
        (True, 1.0, True),
        (True, 1.1, True),
        (False, math.nan, False),
        (True, math.nan, False),
    ],
)
def test_bar_is_held_from_its_own_side(at_least: bool, measured: float, holds: bool) -> None:
    """What must not be exceeded may be met; what must be reached as well."""
    claim = Claim(
        classical="", restated="", measured=measured, bar=1.0, unit="times", at_least=at_least
    )

    assert claim.holds is holds
    assert claim.verdict == ("holds" if holds else "FAILS")
    assert claim.requirement == ("≥ 1×" if at_least else "≤ 1×")  # noqa: RUF001


@pytest.mark.parametrize(
    ("figure", "unit", "words"),
    [
        (2e-6, "seconds", "2 µs"),
        (0.9999, "share", "99.9 %"),
        (1.234, "times", "1.23×"),  # noqa: RUF001
        (45_709.2, "times", "45,709×"),  # noqa: RUF001
        (81_234.5, "a second", "81,234/s"),
        (1.25, "MB", "1.25 MB"),
        (1_234, "reads", "1,234"),
    ],
)
def test_figures_have_their_unit(figure: float, unit: Any, words: str) -> None:
    """A figure is read with its unit."""
    assert spell(figure, unit) == words
