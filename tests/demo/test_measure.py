"""Histograms and tallies keep what was counted, whichever process counted it."""

import json
import math

from hypothesis import given
from hypothesis import strategies as st

from async_tiercache_integrations.cli.demo._measure import ANSWERERS, Histogram, Phase, Tally

DURATIONS = st.lists(st.floats(1e-7, 900.0), min_size=1, max_size=200)


def histogram(durations: list[float]) -> Histogram:
    filled = Histogram()
    for seconds in durations:
        filled.add(seconds)
    return filled


@given(DURATIONS, st.floats(0.01, 1.0))
def test_quantile_is_within_a_bucket_of_the_true_one(durations: list[float], share: float) -> None:
    """A quantile is wrong by less than the ratio of two neighbouring buckets."""
    true = sorted(durations)[math.ceil(share * len(durations)) - 1]

    found = histogram(durations).quantile(share)

    assert true / 1.05 <= found <= true * 1.05


@given(DURATIONS, DURATIONS)
def test_merged_histogram_equals_one_of_all_durations(one: list[float], two: list[float]) -> None:
    """It does not matter which process counted a duration."""
    merged = histogram(one)

    merged.merge(histogram(two))

    assert merged.as_json() == histogram(one + two).as_json()
    assert merged.count == len(one) + len(two)


@given(DURATIONS)
def test_histogram_survives_json(durations: list[float]) -> None:
    """A histogram goes through a pipe as JSON."""
    counted = histogram(durations)

    again = Histogram.from_json(json.loads(json.dumps(counted.as_json())))

    assert again.as_json() == counted.as_json()
    assert (again.count, again.highest) == (counted.count, counted.highest)


def test_empty_histogram_has_no_quantile() -> None:
    """Nothing counted, nothing found."""
    assert Histogram().quantile(0.99) == 0.0


@given(st.dictionaries(st.sampled_from(ANSWERERS), DURATIONS), st.integers(0, 9))
def test_tally_survives_json_and_merges(by_answerer: dict[str, list[float]], updates: int) -> None:
    """Merging a tally that came through a pipe into an empty one gives the same tally."""
    tally = Tally(updates=updates)
    for name in ANSWERERS:
        for seconds in by_answerer.get(name, []):
            tally.latency[name].add(seconds)
    tally.fail(ValueError())
    tally.old_other.add(0.5)
    tally.old_queued.add(1.5)
    tally.past_bound, tally.l1_bypasses = 1, 2
    tally.bus_lags = {"0.001": 4}
    tally.reports.add(0.02)
    tally.first = 3
    tally.made, tally.not_modified, tally.busy_ms = 4, 5, 6

    total = Tally()
    total.merge(Tally.from_json(json.loads(json.dumps(tally.as_json()))))

    assert total.as_json() == tally.as_json()
    assert total.requests == sum(map(len, by_answerer.values())) + updates + 1


def test_lag_is_the_bound_of_the_bucket_that_holds_it() -> None:
    """Whatever order the buckets came in; above the last bound there is none."""
    tally = Tally(bus_lags={"0.01": 1})

    tally.merge(Tally(bus_lags={"inf": 1, "0.001": 3}))

    assert [tally.lag(share) for share in (0.5, 0.8, 1.0)] == [0.001, 0.01, math.inf]
    assert Tally().lag(0.5) == 0.0


def test_first_read_of_a_key_cannot_be_saved() -> None:
    """Of ten reads four were the first of their key, and one of the other six cost a statement."""
    phase = Phase("Warm", "", statements=6, tally=Tally(updates=1, first=4))
    for _ in range(10):
        phase.tally.latency["l1"].add(1e-6)

    saved = phase.repeats_saved

    assert saved == 1 - 1 / 6


def test_a_page_is_counted_by_all_that_it_would_cost() -> None:
    """Ten pages of three statements each have cost six."""
    phase = Phase("Pages", "", statements=6, price=3)
    for _ in range(10):
        phase.tally.latency["l1"].add(1e-6)

    saved = phase.saved

    assert saved == 0.8


def test_updates_are_not_counted_as_unsaved_reads() -> None:
    """An update is a statement with and without a cache; only reads can save one."""
    phase = Phase("Warm", "", statements=3, tally=Tally(updates=1))
    for _ in range(10):
        phase.tally.latency["l1"].add(1e-6)

    saved = phase.saved

    assert saved == 0.8
