"""Takes each safeguard out of a copy of the tree and looks who notices.

The named tests are exact schedules; the simulator draws schedules, the same ones each time; the
fault bench breaks real servers under traffic. Each is run on a copy with all safeguards first, and
must have nothing to say then. A run that does not end in time counts as noticed.
"""

import argparse
import json
import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from tests.mutations.mutation import Mutation, MutationError
from tests.mutations.report import PAGE, line_of, page_of
from tests.mutations.run import (
    BY,
    By,
    Verdict,
    ask_bench,
    ask_simulator,
    ask_tests,
    broken_schedules,
    copy_of_tree,
    missed_bars,
)
from tests.mutations.table import MUTATIONS

Verdicts = dict[str, dict[By, Verdict]]

_BY_NAME: Final = {mutation.name: mutation for mutation in MUTATIONS}


@dataclass
class Control:
    """What is to be said with all safeguards in place.

    Attributes:
        schedules: The numbers of the schedules that break a promise.
        bars: By cell of the bench, the bars that are missed.
    """

    schedules: list[str] = field(default_factory=list)
    bars: dict[str, list[str]] = field(default_factory=dict)


def main(arguments: Sequence[str]) -> int:
    """Run what the arguments say; 1 if a mutation was noticed by nobody who was asked."""
    options = _parser().parse_args(arguments)
    mutations = [_BY_NAME[name] for name in options.only]
    known: Verdicts = _read(options.json)
    try:
        control = _control(mutations, options.by, options.schedules)
        for mutation in mutations:
            verdicts = known.setdefault(mutation.name, {})
            verdicts |= _judge(mutation, options.by, options.schedules, control)
            _say(line_of(mutation, verdicts))
            _write(options.json, known)
    except MutationError as error:
        sys.exit(str(error))
    if set(known) >= set(_BY_NAME):
        PAGE.write_text(page_of(MUTATIONS, known, options.schedules), encoding="utf-8")
        _say(f"wrote {PAGE}")
    missed = [each.name for each in mutations if not _caught(known[each.name])]
    _say(f"{len(mutations) - len(missed)} of {len(mutations)} were noticed; {' '.join(missed)}")
    return 1 if missed else 0


def _control(mutations: Sequence[Mutation], by: Sequence[By], schedules: int) -> Control:
    """Ask all on a copy with all safeguards.

    Raises:
        MutationError: A test fails on it.
    """
    control = Control()
    with copy_of_tree(None) as copy:
        named = sorted({test for mutation in mutations for test in mutation.named})
        if "named" in by and named:
            verdict = ask_tests(copy, named)
            if verdict.caught:
                raise MutationError(f"with all safeguards these fail: {verdict.how}")
        if "simulator" in by:
            control.schedules = broken_schedules(copy, schedules)
            _say(f"left out, for they fail with all safeguards: schedules {control.schedules}")
        if "bench" in by:
            for cell in sorted({cell for mutation in mutations for cell in mutation.cells}):
                control.bars[cell] = missed_bars(copy, cell)
                _say(f"with all safeguards {cell} misses {control.bars[cell] or 'nothing'}")
    return control


def _judge(
    mutation: Mutation, by: Sequence[By], schedules: int, control: Control
) -> dict[By, Verdict]:
    """Return who notices that a safeguard is out, of those who can be asked."""
    verdicts: dict[By, Verdict] = {}
    with copy_of_tree(mutation) as copy:
        if "named" in by:
            named = mutation.named
            verdicts["named"] = ask_tests(copy, named) if named else Verdict(caught=False)
        if "simulator" in by:
            verdicts["simulator"] = ask_simulator(copy, schedules, control.schedules)
        if "bench" in by and mutation.cells:
            verdicts["bench"] = ask_bench(copy, mutation.cells, control.bars)
    return verdicts


def _caught(verdicts: dict[By, Verdict]) -> bool:
    return any(verdict.caught for verdict in verdicts.values())


def _read(path: Path | None) -> Verdicts:
    """Return what earlier runs have written."""
    if path is None or not path.exists():
        return {}
    held = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: {by: Verdict(**verdict) for by, verdict in verdicts.items()}
        for name, verdicts in held.items()
        if name in _BY_NAME
    }


def _write(path: Path | None, known: Verdicts) -> None:
    if path is not None:
        plain = {
            name: {by: asdict(verdict) for by, verdict in verdicts.items()}
            for name, verdicts in known.items()
        }
        path.write_text(json.dumps(plain, indent=2), encoding="utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.mutations", description=__doc__)
    parser.add_argument("--only", type=_among(_BY_NAME), default=list(_BY_NAME), metavar="NAME,...")
    parser.add_argument("--by", type=_among(BY), default=list(BY), metavar="named,simulator,bench")
    parser.add_argument(
        "--json", type=Path, metavar="PATH", help="keep what was found, and go on from there"
    )
    parser.add_argument("--schedules", type=int, default=1000, help="how many are simulated")
    return parser


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - a command


def _among(names: Collection[str]) -> Callable[[str], list[str]]:
    """Return a parser of comma-separated names."""

    def names_of(text: str) -> list[str]:
        given = text.split(",")
        if unknown := set(given) - set(names):
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: unknown")
        return given

    return names_of


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
