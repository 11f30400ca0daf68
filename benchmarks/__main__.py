"""Time the cache against what could be least, and print ratios.

Without a name all of the suite runs, each group of cases in a process of its own.
"""

import argparse
import importlib
import json
import pkgutil
import sys
from collections.abc import Mapping
from typing import Any, Final

import benchmarks
from async_tiercache_integrations.cli._output import show_what_can_be_shown
from benchmarks import _table
from benchmarks._against import losses
from benchmarks._apart import GroupError, SkipGroup, measure_here
from benchmarks._files import run_of_suite, to_write, write, write_figures
from benchmarks._harness import Effort
from benchmarks._machine import describe
from benchmarks._page import page
from benchmarks._suite import SUITE, measured, question_of, run

FULL: Final = Effort(rounds=7, scale=1.0)
QUICK: Final = Effort(rounds=5, scale=0.2)

INTERRUPTED: Final = 130  # what shells report for a program that Ctrl-C ended


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
            print(f"{name:<12} {question_of(name)}")
        return 0
    if options.bench is None:
        return _run_suite(options)
    if options.group is None:
        return _run(options)
    groups: Mapping[str, Any] = importlib.import_module(f"benchmarks.{options.bench}").GROUPS
    if options.group not in groups:
        parser.error(f"{options.group!r} is no group of {options.bench}: {', '.join(groups)}")
    return _answer_parent(groups[options.group], QUICK if options.quick else FULL)


def _run(options: argparse.Namespace) -> int:
    """Run one benchmark."""
    print(f"{question_of(options.bench)}\n{_table.machine_line(describe())}\n", flush=True)
    try:
        found = measured(options.bench, quick=options.quick)
    except GroupError as error:
        sys.exit(str(error))
    if options.json is not None:
        report = {"bench": options.bench, "machine": describe(), "results": found.results}
        write_figures(options.json, report)
    return 1 if options.check and found.missed else 0


def _run_suite(options: argparse.Namespace) -> int:
    machine = describe()
    print(_table.machine_line(machine))
    found, well = run(options.only, quick=options.quick)
    reports = {name: each.results for name, each in found.items()}
    report = {"machine": machine, "quick": options.quick, "benches": reports}
    if options.json is not None:
        write_figures(options.json, report)
    if options.html is not None:
        asked = {name: (question_of(name), results) for name, results in reports.items()}
        write(options.html, page(machine, asked))
    lost: list[str] = []
    if options.against is not None:
        lost = list(losses(report, options.against))
        print("==== against the figures on record")
        print("\n".join(lost or ["nothing has become much worse"]))
    missed = options.check and any(each.missed for each in found.values())
    return 0 if well and not missed and not lost else 1


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
    parser.add_argument(
        "--html", type=to_write, metavar="PATH", help="draw the suite's figures there"
    )
    parser.add_argument(
        "--against",
        type=run_of_suite,
        metavar="PATH",
        help="fail if a figure is much worse than there",
    )
    parser.add_argument("--quick", action="store_true", help="a fifth of the work, fewer rounds")
    parser.add_argument("--json", type=to_write, metavar="PATH", help="write every figure to PATH")
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


if __name__ == "__main__":
    show_what_can_be_shown()
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except ModuleNotFoundError as error:
        sys.exit(
            f'The benchmarks need {error.name}, which is not installed: pip install ".[bench]"'
        )
