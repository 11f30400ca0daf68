"""The claims' benchmark: from figures to verdicts, and what its figures are."""

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from async_tiercache_integrations.cli.demo import _claims as demo_claims
from async_tiercache_integrations.cli.demo._claims import Claim
from benchmarks import _memory, _table, claims
from benchmarks._apart import SkipGroup, measure_here
from benchmarks._harness import Effort
from benchmarks._suite import bars

EFFORT = Effort(rounds=3, scale=0.01)


def a_claim(measured: float) -> Claim:
    """Return a claim that holds up to 1."""
    return Claim(
        classical="It is fast", restated="How slow", measured=measured, bar=1.0, unit="times"
    )


def a_rate(reads: float) -> claims.Rate:
    """Return the rate of a machine that does nothing else: the wall's clock loses nothing."""
    return claims.Rate(wall=reads, cpu=reads)


def verdicts(*made: Claim) -> list[tuple[str, bool]]:
    """Return the figure and the verdict of each claim."""
    return [(claim.figure, claim.holds) for claim in made]


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (120_000.0, [("1.2×", True), ("5×", True), ("120,000/s", True), ("6×", True)]),  # noqa: RUF001
        (18_000.0, [("1.2×", True), ("5×", True), ("18,000/s", False), ("0.9×", False)]),  # noqa: RUF001
    ],
    ids=["fast", "slow"],
)
def test_rate_of_many_readers_is_held_against_both_bars(
    ours: float, expected: list[tuple[str, bool]]
) -> None:
    """An absolute one, which the tutorials give, and redis-py's in the same run."""
    rates = {
        tasks: [(a_rate(raw), a_rate(of_ours))]
        for tasks, raw, of_ours in ((1, 10e3, 12e3), (16, 10e3, 50e3), (256, 20e3, ours))
    }

    made = list(claims.rate_claims(rates))

    assert verdicts(*made) == expected


def test_rate_is_of_the_middle_round() -> None:
    """A round in which the machine was busy with something else decides nothing."""
    rounds = ((20e3, 120e3), (1.0, 1.0), (20e3, 140e3))

    made = list(claims.rate_claims({256: [(a_rate(raw), a_rate(ours)) for raw, ours in rounds]}))

    assert verdicts(*made) == [("120,000/s", True), ("6×", True)]  # noqa: RUF001


def test_busy_machine_does_not_fail_the_absolute_rate() -> None:
    """What others took from the wall's clock is missing on both sides, and not in our own time."""
    rounds = [(claims.Rate(wall=2e3, cpu=20e3), claims.Rate(wall=9e3, cpu=120e3))]

    made = list(claims.rate_claims({256: rounds}))

    assert verdicts(*made) == [("120,000/s", True), ("4.5×", True)]  # noqa: RUF001


@pytest.mark.parametrize(
    ("medians", "holds"),
    [
        ((0.05, 2e-7, 1e-4), [True, True, True, True]),
        ((0.05, 2e-5, 1e-4), [False, True, True, True]),
        ((0.05, 2e-4, 1e-4), [False, False, True, True]),
        ((0.05, 2e-7, 2e-3), [True, True, False, True]),
        ((0.05, 2e-7, 5e-3), [True, True, False, False]),
    ],
)
def test_query_is_held_against_time_and_ratio(
    medians: tuple[float, float, float], holds: list[bool]
) -> None:
    """Both tiers have a time not to exceed and a ratio to reach."""
    assert [claim.holds for claim in claims.query_claims(*medians)] == holds


@pytest.mark.parametrize(
    "classical",
    [
        demo_claims.L1_HIT,
        demo_claims.L2_HIT,
        demo_claims.QUERY,
        demo_claims.LOAD,
        claims.RATE,
        claims.MEMORY,
    ],
)
def test_classical_figure_is_on_the_page(classical: str) -> None:
    """docs/claims.md has each figure that the command prints, in the same words."""
    page = (Path(__file__).parents[1] / "docs" / "claims.md").read_text(encoding="utf-8")

    assert f"\n| {classical} | " in page


async def test_latency_is_of_single_reads() -> None:
    """Each key is read once, and its time is one of those that the quantiles are of."""
    read: Counter[int] = Counter()

    async def note(key: int) -> None:
        read[key] += 1

    found = await claims.latency(note, range(200))

    assert read == Counter(range(200))
    assert 0 < found.p50 <= found.p99


async def test_no_two_readers_have_one_key_at_the_same_time() -> None:
    """Shared flights would make one get of many, and flatter the rate."""
    reading: set[int] = set()
    most = 0

    async def read(key: int) -> int:
        nonlocal most
        assert key not in reading
        reading.add(key)
        most = max(most, len(reading))
        await asyncio.sleep(0)
        reading.remove(key)
        return key

    rate = await claims.gets(read, awaits=2_000, tasks=16)

    assert most == 16
    assert rate.wall > 0
    assert rate.cpu > 0


async def test_missing_value_is_not_counted_as_a_get() -> None:
    """A get of nothing is cheaper; the run fails instead of counting it."""

    async def read(_key: int) -> Any:
        return None

    with pytest.raises(AssertionError):
        await claims.gets(read, awaits=10, tasks=2)


def test_question_answers_with_its_verdicts() -> None:
    """What is no ratio of sweeps is measured by a coroutine, and judged by its claims."""

    async def question(_effort: Effort) -> list[Claim]:
        return [a_claim(0.5), a_claim(2.0)]

    measured = measure_here(question, EFFORT)
    results = measured["results"]
    shown = _table.group("group", measured)

    assert [result["passed"] for result in results] == [True, False]
    assert bars(results) == (1, 2)
    assert shown.count("It is fast:") == 1
    assert [line.split()[-1] for line in shown.splitlines() if "How slow" in line] == [
        "holds",
        "FAILS",
    ]


@pytest.mark.parametrize("kind", ["bare packed", "cached packed"])
def test_memory_is_that_of_the_objects(kind: _memory.Kind) -> None:
    """Keys and packed values alone are above 1 MB in 10,000; no cache can be below them."""
    try:
        found = claims.megabytes(kind)
    except SkipGroup as reason:
        pytest.skip(str(reason))

    assert 1.0 < found < 20.0
