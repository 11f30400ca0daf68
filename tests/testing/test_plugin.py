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
        @tiercache.cached("letters")
        async def letters() -> list[str]:
            return ["a"]

        (await letters()).append("b")
"""


def test_a_test_that_changes_a_shared_value_fails(tmp_path: Path) -> None:
    """At its end, with the key; one that only reads does not."""
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_user.py").write_text(dedent(TESTS))
    command = [sys.executable, "-m", "pytest", "-q", "-o", "asyncio_mode=auto", str(tmp_path)]

    ended = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "3 passed, 2 errors" in ended.stdout
    assert "ERROR test_user.py::test_that_changes" in ended.stdout
    assert "changed cached values of numbers:1" in ended.stdout
    assert "changed cached values of letters" in ended.stdout
