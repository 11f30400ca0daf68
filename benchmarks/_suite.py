"""All benchmarks that answer a question about speed, one after the other."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

SUITE: Final = (
    "hits", "rivals", "l2", "batches", "misses", "stampedes", "growth", "end_to_end", "memory",
    "codecs", "compression", "telemetry", "ratios", "http",
)  # fmt: skip
"""In the order in which they run; `claims` and `faults` take longer, and are asked for by name."""


def run(names: Sequence[str], *, quick: bool, check: bool) -> tuple[dict[str, Any], bool]:
    """Run benchmarks, each in a process of its own, which prints what it finds.

    Args:
        names: Which ones.
        quick: Whether each does a part of its work.
        check: Whether a missed bar counts as a failure.

    Returns:
        What each has written, by name, and whether all have ended well.
    """
    options = [*(["--quick"] if quick else []), *(["--check"] if check else [])]
    reports: dict[str, Any] = {}
    well = True
    with TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder, f"{name}.json")
            command = [sys.executable, "-m", "benchmarks", name, "--json", str(path), *options]
            print(f"==== {name}", flush=True)
            ended = subprocess.run(command, cwd=Path(__file__).parent.parent, check=False)
            well = well and ended.returncode == 0
            if path.exists():
                reports[name] = json.loads(path.read_text(encoding="utf-8"))["results"]
    return reports, well
