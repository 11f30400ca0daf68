"""Time the cache against what could be least, and print ratios.

Without a name all of the suite runs, each benchmark in a process of its own.
"""

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path
from typing import Any, Final

import benchmarks
from benchmarks import _table
from benchmarks._against import losses
from benchmarks._apart import SkipGroup, measure_apart, measure_here
from benchmarks._harness import Effort
from benchmarks._machine import describe
from benchmarks._page import page
from benchmarks._suite import SUITE, run

FULL: Final = Effort(rounds=7, scale=1.0)
QUICK: Final = Effort(rounds=5, scale=0.2)


def main() -> int:
    """Run what the arguments say; 1 if `--check` was given and a bar was missed."""
    names = [name for _, name, _ in pkgutil.iter_modules(benchmarks.__path__) if name[0] != "_"]
    if set(sys.argv[1:2]) & set(names):
        own = getattr(importlib.import_module(f"benchmarks.{sys.argv[1]}"), "command", None)
        if own is not None:
            # What measures no ratios has options and a table of its own.
            return int(own(sys.argv[2:]))
    parser = _parser(names)
    options = parser.parse_args()
    of_suite = options.html is not None or options.against is not None or options.only != SUITE
    if options.bench is not None and of_suite:
        parser.error(f"--html, --against and --only are for the suite, not for {options.bench}")
    if options.list:
        for name in names:
            print(f"{name:<12} {_question(name)}")
        return 0
    if options.bench is None:
        return _run_suite(options)
    return _run(options)


def _run(options: argparse.Namespace) -> int:
    """Run one benchmark, each of its groups in a process of its own."""
    effort = QUICK if options.quick else FULL
    bench = importlib.import_module(f"benchmarks.{options.bench}")
    groups, table = bench.GROUPS, getattr(bench, "table", _table.group)
    if options.group is not None:
        return _answer_parent(groups[options.group], effort)
    print(f"{_question(options.bench)}\n{_table.machine_line(describe())}\n")
    results: list[dict[str, Any]] = []
    for name in groups:
        try:
            measured = measure_apart(options.bench, name, quick=options.quick)
        except SkipGroup as reason:
            print(f"-- {name}: skipped, {reason}\n")
            continue
        results += measured["results"]
        print(table(name, measured), flush=True)
    if options.json is not None:
        report = {"bench": options.bench, "machine": describe(), "results": results}
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    missed, held_against = bars(results)
    print(f"{missed} of {held_against} bars missed")
    return 1 if options.check and missed else 0


def _run_suite(options: argparse.Namespace) -> int:
    reports, well = run(options.only, quick=options.quick, check=options.check)
    report = {"machine": describe(), "quick": options.quick, "benches": reports}
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if options.html is not None:
        asked = {name: (_question(name), results) for name, results in reports.items()}
        options.html.write_text(page(describe(), asked), encoding="utf-8")
    lost: list[str] = []
    if options.against is not None:
        lost = list(losses(report, json.loads(options.against.read_text(encoding="utf-8"))))
        print(f"==== against {options.against}")
        print("\n".join(lost or ["nothing has become much worse"]))
    return 0 if well and not lost else 1


def bars(results: list[dict[str, Any]]) -> tuple[int, int]:
    """Return how many bars were missed, and of how many."""
    verdicts = [result["passed"] for result in results if result["bar"] is not None]
    return verdicts.count(False), len(verdicts)


def _answer_parent(group: Any, effort: Effort) -> int:
    """Measure one group in this process and print it as JSON, for `measure_apart`."""
    try:
        print(json.dumps(measure_here(group, effort)))
    except SkipGroup as reason:
        print(json.dumps({"skipped": str(reason)}))
    return 0


def _parser(names: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("bench", nargs="?", choices=names, help="without one the suite runs")
    parser.add_argument("--list", action="store_true", help="say what there is, and run nothing")
    parser.add_argument(
        "--only",
        type=_among_suite,
        default=SUITE,
        metavar="NAME,...",
        help=f"which of the suite: {', '.join(SUITE)}",
    )
    parser.add_argument("--html", type=Path, metavar="PATH", help="draw the suite's figures there")
    parser.add_argument(
        "--against", type=Path, metavar="PATH", help="fail if a figure is much worse than there"
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, fewer rounds")
    parser.add_argument("--json", type=Path, metavar="PATH", help="write every figure to PATH")
    parser.add_argument(
        "--check", "--strict", action="store_true", help="exit with 1 when a bar is missed"
    )
    parser.add_argument("--group", help=argparse.SUPPRESS)
    return parser


def _among_suite(text: str) -> list[str]:
    """Return the names in a list of some.

    Raises:
        ArgumentTypeError: One is none of the suite's.
    """
    names = text.split(",")
    if unknown := set(names) - set(SUITE):
        raise argparse.ArgumentTypeError(
            f"{', '.join(sorted(unknown))}: not in the suite, which has {', '.join(SUITE)}"
        )
    return names


def _question(name: str) -> str:
    docstring = importlib.import_module(f"benchmarks.{name}").__doc__ or ""
    return docstring.splitlines()[0]


if __name__ == "__main__":
    sys.exit(main())
