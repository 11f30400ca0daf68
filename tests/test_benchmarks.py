"""The benchmarks' harness: what its figures mean, and what makes a run fail."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import batches, l2, misses, stampedes, telemetry
from benchmarks._harness import Case, Effort, Sweep, measure, zipf_keys

ROOT = Path(__file__).parents[1]
EFFORT = Effort(rounds=3, scale=1.0)


def work(amount: int, swept: list[Sequence[int]] | None = None) -> Sweep:
    """Return a sweep that counts to `amount` for each key."""

    async def sweep(keys: Sequence[int]) -> None:
        for _key in keys:
            sum(range(amount))
        if swept is not None:
            swept.append(keys)

    return sweep


def fine() -> None:
    """Find nothing wrong."""


def case(subject: Sweep, *, bar: float | None = None, check: Callable[[], None] = fine) -> Case:
    """Return a case over a floor that does some work."""
    return Case(
        name="case",
        subject=subject,
        floor=work(2_000),
        floor_name="some work",
        keys=range(20),
        bars={"cpu": bar},
        check=check,
    )


@pytest.mark.parametrize(
    ("bar", "passed"), [(None, None), (1.5, False), (50.0, True)], ids=["no bar", "low", "high"]
)
async def test_bar_is_held_against_the_middle_ratio(bar: float | None, passed: bool | None) -> None:
    """A subject that does four times the floor's work passes a bar above its ratio only."""
    (result,) = await measure([case(work(8_000), bar=bar)], EFFORT)

    assert result.ratio.min <= result.ratio.median <= result.ratio.max
    assert result.ratio.median > 1.5
    assert result.passed is passed


async def test_each_round_sweeps_every_case_once_after_a_warm_up() -> None:
    """Cases take turns: none has the machine to itself for longer than a round."""
    swept: list[Sequence[int]] = []
    cases = [case(work(1, swept)) for _ in range(2)]

    results = await measure(cases, EFFORT)

    assert len(results) == 2
    assert len(swept) == 2 * (1 + EFFORT.rounds)


async def test_run_fails_when_something_else_was_timed() -> None:
    """A case whose check does not hold gives no figure."""

    def check() -> None:
        raise AssertionError("a loader ran")

    with pytest.raises(AssertionError, match="a loader ran"):
        await measure([case(work(1), check=check)], EFFORT)


async def test_telemetry_is_timed_on_hits_and_on_nothing_else() -> None:
    """Its own check counts the loads on both sides, and reads them from a scrape."""
    async with telemetry.l1(Effort(rounds=3, scale=0.01)) as cases:
        results = await measure(cases, EFFORT)

    assert {(result.clock, result.bar) for result in results} == {("cpu", 1.15)}


@pytest.mark.redis
@pytest.mark.parametrize("bench", [l2, batches, misses, stampedes])
async def test_each_case_can_be_swept(bench: Any) -> None:
    """Both of its sides; whether nothing else was timed is for a machine that is not busy."""
    for group in bench.GROUPS.values():
        async with group(Effort(rounds=1, scale=0.01)) as cases:
            for case in cases:
                await case.floor(case.keys)
                await case.subject(case.keys)

        assert len({case.name for case in cases}) == len(cases) > 0
        assert any(bar is not None for case in cases for bar in case.bars.values())


def test_zipf_keys_are_the_same_in_every_run() -> None:
    """Two runs ask for the same keys, the most popular about twice as often as the next."""
    keys = zipf_keys(10_000, among=100)
    times = sorted((keys.count(key) for key in set(keys)), reverse=True)

    assert keys == zipf_keys(10_000, among=100)
    assert set(keys) <= set(range(100))
    assert 1.6 < times[0] / times[1] < 2.4


def test_command_lists_the_benchmarks() -> None:
    """Without an argument the command names each benchmark and the question it asks."""
    command = [sys.executable, "-m", "benchmarks"]
    output = subprocess.check_output(command, cwd=ROOT, text=True)

    lines = output.splitlines()
    assert {"claims", "compression", "hits", "l2"} <= {line.split()[0] for line in lines}
    assert all(line.endswith("?") for line in lines)
