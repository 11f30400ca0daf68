"""Each group of cases runs in a process of its own, so that no library warms or burdens another."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeAlias

from async_tiercache_integrations.cli.demo._claims import Claim
from benchmarks._harness import Case, Effort, Result, measure

Group: TypeAlias = Callable[[Effort], AbstractAsyncContextManager[list[Case]]]
"""Sets its cases up, yields them, and cleans up."""


Question: TypeAlias = Callable[[Effort], Awaitable[Sequence[Claim | Result]]]
"""Measures what is no ratio to a floor, or not that alone, and holds it against bars of its own."""


class SkipGroup(Exception):  # noqa: N818 - it tells of no error
    """A group cannot run here; the message says why."""


class GroupError(Exception):
    """The process of a group has failed, and has said why."""


def require(package: str) -> None:
    """Raise `SkipGroup` unless a package is installed."""
    if find_spec(package) is None:
        raise SkipGroup(f"{package.replace('_', '-')} is not installed")


def measure_apart(bench: str, group: str, *, quick: bool) -> dict[str, Any]:
    """Return what a group gave in a process of its own.

    Raises:
        SkipGroup: The group cannot run here.
        GroupError: It has failed.
    """
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks", bench, "--group", group]
    root = Path(__file__).parent.parent
    process = subprocess.Popen(
        [*command, *(["--quick"] if quick else [])],
        cwd=root,
        stdout=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C reaches only us
    )
    with process:
        try:
            output, _ = process.communicate()
        except BaseException:
            # With what it has started itself.
            os.killpg(process.pid, signal.SIGKILL)
            raise
    if process.returncode:
        raise GroupError(f"{bench}: the group {group!r} failed; its process said why above")
    answer: dict[str, Any] = json.loads(output)
    if "skipped" in answer:
        raise SkipGroup(answer["skipped"])
    for result in answer["results"]:
        result["group"] = group
    return answer | {"seconds": time.monotonic() - began}


def measure_here(group: Group | Question, effort: Effort) -> dict[str, Any]:
    """Return what a group gives in this process, on uvloop if that is installed."""

    async def run() -> list[dict[str, Any]]:
        asked = group(effort)
        if isinstance(asked, AbstractAsyncContextManager):
            async with asked as cases:
                return [asdict(result) for result in await measure(cases, effort)]
        return [_plain(each) for each in await asked]

    loop = "asyncio" if find_spec("uvloop") is None else "uvloop"
    factory = __import__("uvloop").new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        return {"loop": loop, "results": runner.run(run())}


def _plain(found: Claim | Result) -> dict[str, Any]:
    if isinstance(found, Result):
        return asdict(found)
    return {**asdict(found), "passed": found.holds}
