"""The tests that docs/testing.md shows pass as they stand there."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "testing.md"
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def test_tests_of_the_page_pass(tmp_path: Path) -> None:
    """Its first block is the conftest, those with tests are the module."""
    first, *others = _BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    module = "\n\n".join(
        block for block in others if not re.search(r"^async with ", block, re.MULTILINE)
    )
    expected = len(re.findall(r"^async def test_", module, re.MULTILINE))
    (tmp_path / "conftest.py").write_text(first, encoding="utf-8")
    (tmp_path / "test_page.py").write_text(module, encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_mode = auto\n", encoding="utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )

    assert expected > 0
    assert f"{expected} passed" in done.stdout, done.stdout + done.stderr
