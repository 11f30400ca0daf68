"""All benchmarks that answer a question about speed, one after the other."""

import importlib
import time
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from benchmarks import _table
from benchmarks._apart import GroupError, SkipGroup, measure_apart

SUITE: Final = (
    "hits", "rivals", "l2", "batches", "misses", "stampedes", "growth", "end_to_end", "memory",
    "codecs", "compression", "telemetry", "ratios", "http",
)  # fmt: skip
"""In the order in which they run; `claims` and `faults` take longer, and are asked for by name."""


class Found(NamedTuple):
    """What a benchmark has found.

    Attributes:
        results: Every figure.
        missed: How many bars were missed.
    """

    results: list[dict[str, Any]]
    missed: int


def question_of(name: str) -> str:
    """Return what a benchmark asks."""
    docstring = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
    return docstring.splitlines()[0]


def measured(name: str, *, quick: bool) -> Found:
    """Run a benchmark, print what it finds and return it; each group is in a process of its own.

    Raises:
        GroupError: One has failed.
    """
    bench = importlib.import_module(f"benchmarks.{name}")
    if hasattr(bench, "measured"):
        # What measures no ratios has a table of its own.
        own: Found = bench.measured(quick=quick)
        return own
    results: list[dict[str, Any]] = []
    for group in bench.GROUPS:
        try:
            found = measure_apart(name, group, quick=quick)
        except SkipGroup as reason:
            print(f"-- {group}: skipped, {reason}\n")
            continue
        results += found["results"]
        print(_table.group(group, found), flush=True)
    missed, held_against = bars(results)
    print(f"{missed} of {held_against} bars missed")
    return Found(results, missed)


def bars(results: list[dict[str, Any]]) -> tuple[int, int]:
    """Return how many bars were missed, and of how many."""
    verdicts = [result["passed"] for result in results if result["bar"] is not None]
    return verdicts.count(False), len(verdicts)


def run(names: Sequence[str], *, quick: bool) -> tuple[dict[str, Found], bool]:
    """Run benchmarks, and say in the end how long they took.

    Args:
        names: Which ones.
        quick: Whether each does a part of its work.

    Returns:
        What each has found, by name, and whether none has failed.
    """
    found: dict[str, Found] = {}
    took: dict[str, float] = {}
    for name in names:
        began = time.monotonic()
        print(f"==== {name}")
        try:
            print(f"{question_of(name)}\n", flush=True)
            found[name] = measured(name, quick=quick)
        except GroupError as error:
            print(f"-- {error}")
        except ModuleNotFoundError as error:
            print(f'-- {error.name} is not installed: pip install ".[bench]"')
        took[name] = time.monotonic() - began
    each = ", ".join(f"{name} {seconds:.0f}" for name, seconds in took.items())
    minutes, seconds = divmod(round(sum(took.values())), 60)
    print(f"==== {minutes} min {seconds} s in all; by benchmark, in seconds: {each}")
    return found, found.keys() == set(names)
