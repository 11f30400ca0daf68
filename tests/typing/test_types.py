"""The types that users see, judged by the checkers that they run."""

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

USES = Path(__file__).with_name("uses.py")


@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_mypy_accepts_right_uses_and_refuses_wrong_ones(tmp_path: Path) -> None:
    """Under --strict, which also reports an ignored error that is none."""
    command = [
        *(sys.executable, "-m", "mypy", "--strict", "--config-file", ""),
        *("--cache-dir", str(tmp_path), str(USES)),
    ]

    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    assert (done.stdout, done.stderr) == ("Success: no issues found in 1 source file\n", "")


@pytest.mark.skipif(find_spec("pyright") is None, reason="pyright is not installed")
def test_pyright_accepts_right_uses_and_refuses_wrong_ones(tmp_path: Path) -> None:
    """In strict mode, told to report an ignored error that is none."""
    (tmp_path / "uses.py").write_text(USES.read_text(encoding="utf-8"), encoding="utf-8")
    settings = {
        "include": ["uses.py"],
        "typeCheckingMode": "strict",
        "enableTypeIgnoreComments": True,
        "reportUnnecessaryTypeIgnoreComment": "error",
        "reportPrivateUsage": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable),
        *("--project", str(tmp_path)),
    ]

    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)

    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright cannot run here: {(done.stderr or done.stdout).strip()[-200:]}")
    result = json.loads(done.stdout)
    assert result["summary"]["filesAnalyzed"] == 1
    assert result["generalDiagnostics"] == []
