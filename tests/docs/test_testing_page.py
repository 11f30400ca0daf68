"""The tests that docs/testing.md shows pass as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)

CONFTEST, *BLOCKS = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
CONTRACTS = [block for block in BLOCKS if "Contract):" in block]
TESTS = [
    block
    for block in BLOCKS
    if block not in CONTRACTS and not re.search(r"^async with ", block, re.MULTILINE)
]


def test_tests_of_the_page_pass(tmp_path: Path) -> None:
    """Its first block is the conftest, those with tests are the module."""
    module = "\n\n".join(TESTS)
    expected = len(re.findall(r"^async def test_", module, re.MULTILINE))

    output = _run(tmp_path, module, mode="auto")

    assert expected > 0
    assert f"{expected} passed" in output


def test_contracts_of_the_page_are_kept(tmp_path: Path) -> None:
    """As a module of its own, where pytest-asyncio runs only what is marked for it."""
    imports = "from async_tiercache.testing import MemoryServer\n"

    output = _run(tmp_path, "\n\n".join([imports, *CONTRACTS]), mode="strict")

    assert len(CONTRACTS) == 2
    assert re.search(r"^\d+ passed, \d+ skipped in", output, re.MULTILINE), output
    assert set(re.findall(r"^SKIPPED .*?: (.*)", output, re.MULTILINE)) == {
        "no fixture `lost`: a backend whose server is out of reach"
    }


def _run(folder: Path, module: str, *, mode: str) -> str:
    (folder / "conftest.py").write_text(CONFTEST, encoding="utf-8")
    (folder / "test_page.py").write_text(module, encoding="utf-8")
    settings = f"[pytest]\nasyncio_mode = {mode}\nasyncio_default_fixture_loop_scope = function\n"
    (folder / "pytest.ini").write_text(settings, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-rs", "-W", "error", "."],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
