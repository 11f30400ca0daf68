"""Random bytes that are steered by what they reach, where there is a tool for that."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONG = int(os.environ.get("TESTS_LONG", "1"))


@pytest.mark.timeout(60 * LONG)
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris is not installed")
def test_no_bytes_break_what_reads_fields(tmp_path: Path) -> None:
    """Nor let anything be stored that a strict reader would not store."""
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    for number, text in enumerate(['private="a", max-age=1', 'W/"a"', "bytes=0-1", "1;q=0.5, *"]):
        (inputs / str(number)).write_text(text, encoding="ascii")
    runs = 20_000 * LONG
    command = [sys.executable, "-m", "tests.http.fuzz", f"-runs={runs}", "-timeout=10", str(inputs)]

    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert ended.returncode == 0, ended.stderr[-3000:]
