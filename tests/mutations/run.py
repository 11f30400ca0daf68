"""Runs one who may notice on a copy of the tree, mutated or not."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal, TypeAlias

from tests.mutations.mutation import Mutation, MutationError
from tests.mutations.schedules import BROKEN

ROOT: Final = Path(__file__).parents[2]
By: TypeAlias = Literal["named", "simulator", "bench"]
BY: Final[tuple[By, ...]] = ("named", "simulator", "bench")

_COPIED: Final = ("async_tiercache", "integrations", "tests", "benchmarks", "pyproject.toml")
_TEST_SECONDS: Final = 20
_LIMITS: Final[dict[By, float]] = {"named": 300.0, "simulator": 900.0, "bench": 180.0}
_FAILED: Final = 1  # what pytest ends with when tests have failed
_TIMED: Final = ("longest read", "served after")  # which a busy machine decides
_HANGS: Final = "from pytest-timeout"


@dataclass(frozen=True)
class Verdict:
    """What one who may notice has said.

    Attributes:
        caught: Whether it has noticed.
        how: What tells so: the tests that failed, the bars that were missed, that it hangs.
    """

    caught: bool
    how: str = ""


@contextmanager
def copy_of_tree(mutation: Mutation | None) -> Iterator[Path]:
    """Return a copy of the tree, with one safeguard out, for as long as the context lasts."""
    with TemporaryDirectory(prefix="mutation-") as folder:
        copy = Path(folder)
        for name in _COPIED:
            source, target = ROOT / name, copy / name
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, target)
        if mutation is not None:
            mutation.apply(copy)
        _check_imports(copy)
        yield copy


def ask_tests(copy: Path, tests: Sequence[str]) -> Verdict:
    """Run tests on a copy of the tree."""
    command = ["-m", "pytest", "-q", "--no-header", "--tb=line", "-rf", "-p", "no:cacheprovider"]
    # Its summary fails when a test has failed deep down.
    command += ["-p", "no:hypothesispytest", f"--timeout={_TEST_SECONDS}", *tests]
    code, output = _run(copy, command, _LIMITS["named"])
    if code is None:
        return Verdict(caught=True, how="hangs")
    if code not in {0, _FAILED}:
        raise MutationError(f"pytest ended with {code}:\n{output[-2000:]}")
    return Verdict(caught=code == _FAILED, how=_failures(output))


def broken_schedules(copy: Path, count: int) -> list[str]:
    """Return the numbers of the drawn schedules that break a promise with all safeguards.

    Raises:
        MutationError: A known one does.
    """
    _, output = _simulate(copy, count, "--every")
    if known := re.findall(r"^known .*", output, re.MULTILINE):
        raise MutationError(f"with all safeguards this breaks a promise: {known[0]}")
    return re.findall(r"^schedule (\d+):", output, re.MULTILINE)


def ask_simulator(copy: Path, count: int, excused: Sequence[str]) -> Verdict:
    """Run schedules of the simulator on a copy of the tree, without those that are excused."""
    code, output = _simulate(copy, count, f"--without={','.join(excused)}")
    if code is None:
        return Verdict(caught=True, how="hangs")
    return Verdict(caught=code == BROKEN, how=output.partition("\n")[0][:200])


def _simulate(copy: Path, count: int, *options: str) -> tuple[int | None, str]:
    command = ["-m", "tests.mutations.schedules", str(count), *options]
    code, output = _run(copy, command, _LIMITS["simulator"])
    if code not in {0, BROKEN, None} or "Traceback" in output:
        raise MutationError(f"the simulator ended with {code}:\n{output[-2000:]}")
    return code, output


def ask_bench(
    copy: Path, cells: Sequence[str], excused: Mapping[str, Collection[str]] | None = None
) -> Verdict:
    """Run short cells of the fault bench on a copy of the tree; what is missed is run again.

    Args:
        copy: The copy.
        cells: The faults.
        excused: By fault, the bars that are missed with all safeguards, on a busy machine.
    """
    told: list[str] = []
    for cell in cells:
        allowed = {*(excused or {}).get(cell, ()), *_TIMED}
        first = _new_bars(copy, cell, allowed)
        # One run is chance: what is there twice counts.
        again = _new_bars(copy, cell, allowed) if first else []
        told += [f"{cell}: {', '.join(first)}; again {', '.join(again)}"] if again else []
    return Verdict(caught=bool(told), how="; ".join(told))


def _new_bars(copy: Path, cell: str, allowed: Collection[str]) -> list[str]:
    return [bar for bar in _missed(copy, cell) if name_of(bar) not in allowed]


def _missed(copy: Path, cell: str) -> list[str]:
    """Return the bars that a cell of the bench has missed, with their figures."""
    report = copy / "bench.json"
    options = ["--only", cell, "--adapters", "ours", "--quick", "--json", str(report)]
    code, output = _run(copy, ["-m", "benchmarks", "faults", *options], _LIMITS["bench"])
    if code is None:
        return ["hangs"]
    if code or not report.exists():
        raise MutationError(f"the bench ended with {code}:\n{output[-2000:]}")
    results: list[dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["results"]
    report.unlink()
    return [bar for result in results for bar in result["missed"]]


def missed_bars(copy: Path, cell: str) -> list[str]:
    """Return the names of the bars that a cell of the bench has missed."""
    return [name_of(bar) for bar in _missed(copy, cell)]


def name_of(bar: str) -> str:
    """Return which bar a miss is of, without its figures."""
    return " ".join(word for word in bar.split() if len(word) > 1 and word.isalpha())


def _check_imports(copy: Path) -> None:
    """Make sure that what runs is the copy, and that it can be imported."""
    code, output = _run(copy, ["-c", "import async_tiercache as a; print(a.__file__)"], 60.0)
    if code != 0 or not output.strip().startswith(str(copy.resolve())):
        raise MutationError(f"the copy cannot be imported:\n{output}")


def _run(copy: Path, arguments: Sequence[str], seconds: float) -> tuple[int | None, str]:
    """Run Python in a copy; return its exit code, `None` if it took too long, and its output."""
    folders = os.pathsep.join([str(copy), str(copy / "integrations")])
    running = subprocess.Popen(
        [sys.executable, *arguments],
        cwd=copy,
        env=os.environ | {"PYTHONPATH": folders, "PYTHONDONTWRITEBYTECODE": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = running.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        # With whatever it has started.
        os.killpg(running.pid, SIGKILL)
        output, _ = running.communicate()
        return None, output
    return running.returncode, output


def _failures(output: str) -> str:
    """Return the names of the tests that failed, one of which may hang."""
    lines = [
        line for line in output.splitlines() if line.startswith(("FAILED tests", "ERROR tests"))
    ]
    names = [line.split(" - ")[0].split("::")[-1].split("[")[0] for line in lines]
    hangs = ["hangs"] if _HANGS in output else []
    return ", ".join([*dict.fromkeys(names), *hangs])
