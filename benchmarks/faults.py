"""What does a cache serve while something breaks, and does it ever serve what was invalidated?

Three processes read and write rows of a real PostgreSQL through one cache over a real Redis. Every
read is compared with what was known, in all processes, at the moment it began. Meanwhile a process
is stopped or killed, memory runs out, messages are lost. The same is done to a cache as one writes
it without a library, and to a rival: the bench must be able to fail. A cell in which reads and
writes hardly met proves nothing and says so.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._servers import Postgres, ServerError, find_valkey
from benchmarks import _table
from benchmarks._faults import adapters, table
from benchmarks._faults.cell import FULL, QUICK, Outcome, Pace, Stage, run_cell
from benchmarks._faults.faults import FAULTS
from benchmarks._faults.verdict import missed, void
from benchmarks._files import program, to_write, write_figures
from benchmarks._machine import describe

_SEEDS: Final = 3


def command(arguments: Sequence[str]) -> int:
    """Run what the arguments say; 1 if `--check` was given and ours missed a bar."""
    options = _parser().parse_args(arguments)
    pace = QUICK if options.quick else FULL
    cells = [
        (adapter, fault, seed)
        for adapter in options.adapters
        for fault in options.only
        for seed in range(options.seeds or (1 if options.quick else _SEEDS))
    ]
    print(f"{_table.machine_line(describe())}\n\n{table.LEGEND}\n\n{table.heading()}", flush=True)
    try:
        outcomes = asyncio.run(measure(cells, pace, program=options.server, show=True))
    except ServerError as error:
        sys.exit(str(error))
    if options.json is not None:
        write_figures(options.json, _report(outcomes, pace))
    ours = [one for one in outcomes if one.adapter == "ours"]
    unclean = sum(bool(missed(one) or void(one, pace)) for one in ours)
    print(f"\n{unclean} of {len(ours)} cells of ours missed a bar or are void")
    return 1 if options.check and unclean else 0


async def measure(
    cells: Sequence[tuple[str, str, int]],
    pace: Pace,
    *,
    program: Path | None = None,
    show: bool = False,
) -> list[Outcome]:
    """Run cells one after the other and return their outcomes, those left out excepted.

    Args:
        cells: Adapter, fault and seed of each.
        pace: How much each does.
        program: The Redis server program; `None` for the one of the wheel, or else on PATH.
        show: Whether each is printed as it ends.
    """
    outcomes: list[Outcome] = []
    async with Sandbox() as sandbox:
        postgres = Postgres(sandbox)
        await postgres.start()
        dsn = postgres.url("postgres")
        stage = Stage(sandbox=sandbox, dsn=dsn, program=program or find_valkey(), pace=pace)
        for adapter in dict.fromkeys(adapter for adapter, _, _ in cells):
            own = [cell for cell in cells if cell[0] == adapter]
            outcomes += await _measure_adapter(stage, own, show=show)
    return outcomes


async def _measure_adapter(
    stage: Stage, cells: Sequence[tuple[str, str, int]], *, show: bool
) -> list[Outcome]:
    outcomes: list[Outcome] = []
    skipped: set[str] = set()
    for adapter, fault, seed in cells:
        if reason := adapters.why_not(adapter, FAULTS[fault].topology):
            if show and reason not in skipped:
                print(f"-- skipped: {reason}")
            skipped.add(reason)
            continue
        outcome = await run_cell(stage, adapter, fault, seed)
        outcomes.append(outcome)
        if show:
            print(table.line(outcome, stage.pace), flush=True)
    if show and outcomes:
        print(table.summary(cells[0][0], outcomes, stage.pace) + "\n", flush=True)
    return outcomes


def _report(outcomes: Sequence[Outcome], pace: Pace) -> dict[str, Any]:
    results = [
        {**one.as_json(), "missed": missed(one), "void": void(one, pace)} for one in outcomes
    ]
    return {"bench": "faults", "machine": describe(), "results": results}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks faults", description=__doc__)
    parser.add_argument("--only", type=_among(FAULTS), default=list(FAULTS), metavar="FAULT,...")
    parser.add_argument(
        "--adapters",
        type=_among(adapters.OPENERS),
        default=list(adapters.OPENERS),
        metavar="ADAPTER,...",
    )
    parser.add_argument(
        "--seeds", type=_at_least_one, metavar="N", help="schedules of each cell; 3"
    )
    parser.add_argument("--server", type=program, metavar="PATH", help="the Redis server program")
    parser.add_argument("--quick", action="store_true", help="short cells, one seed")
    parser.add_argument("--json", type=to_write, metavar="PATH", help="write every figure to PATH")
    parser.add_argument(
        "--check", "--strict", action="store_true", help="exit with 1 when ours missed a bar"
    )
    return parser


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of schedules: 1 or more")
    return int(text)


def _among(names: Any) -> Any:
    """Return a parser of comma-separated names."""

    def names_of(text: str) -> list[str]:
        given = text.split(",")
        if unknown := set(given) - set(names):
            raise argparse.ArgumentTypeError(
                f"{', '.join(sorted(unknown))} is none of {', '.join(names)}"
            )
        return given

    return names_of
