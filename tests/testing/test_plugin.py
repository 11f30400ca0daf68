"""The fixtures, as a user's tests have them."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

CONFTEST = 'pytest_plugins = ["async_tiercache.testing.plugin"]\n'
TESTS = """
    from async_tiercache import TierCache
    from async_tiercache.testing import settled


    async def value_of(cache: TierCache) -> list[int]:
        @cache.cached("numbers:{n}")
        async def numbers(n: int) -> list[int]:
            return [n]

        found = await numbers(1)
        await settled(cache)
        return found


    async def test_that_reads(tiercache: TierCache) -> None:
        assert await value_of(tiercache) == [1]


    async def test_that_changes(tiercache: TierCache) -> None:
        (await value_of(tiercache)).append(2)


    async def test_that_changes_at_once(tiercache: TierCache) -> None:
        async def load() -> list[int]:
            return [1]

        (await tiercache.get_or_load("numbers", load)).append(2)
"""


def run(folder: Path, *options: str) -> str:
    """Return what pytest prints of a user's tests."""
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "test_user.py").write_text(dedent(TESTS))
    ended = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", *options, str(folder)],
        cwd=folder,
        env=os.environ | {"PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    return ended.stdout


def test_a_test_that_changes_a_shared_value_fails(tmp_path: Path) -> None:
    """At its end, with the key, also before it is in memory; one that only reads does not."""
    printed = run(tmp_path)

    assert "3 passed, 2 errors" in printed
    assert "ERROR test_user.py::test_that_changes " in printed
    assert "ERROR test_user.py::test_that_changes_at_once " in printed
    assert "changed cached values of numbers:1" in printed


def test_a_test_on_another_loop_than_its_fixtures_is_told(tmp_path: Path) -> None:
    """What it has read is gone by then, so that nothing could be found."""
    printed = run(tmp_path, "-o", "asyncio_default_fixture_loop_scope=session")

    assert "3 passed, 3 errors" in printed
    assert "another event loop than its fixtures" in printed
