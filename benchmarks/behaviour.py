"""What do caches do when callers meet, are cancelled, invalidate, fail, or when Redis hangs?

Each column is one forced situation; what is shown is what became of it, not how fast it was. Every
library is in a process of its own, and one that is not installed is left out.
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._servers import Valkey
from benchmarks._apart import SkipGroup, require
from benchmarks._files import to_write, write_figures
from benchmarks._libraries import LIBRARIES, Cached, Decorate
from benchmarks._machine import describe

PATIENCE: Final = 8.0
"""Seconds after which a call counts as hanging."""


class Source:
    """What is cached: a value that is read at the begin of a load, which ends when it may.

    Attributes:
        value: What is there now.
        error: What a load raises instead.
        loads: How many have begun.
        gate: What loads wait for before they end.
    """

    def __init__(self, value: Any = "old") -> None:
        self.value = value
        self.error: Exception | None = None
        self.loads = 0
        self.gate = asyncio.Event()

    async def load(self, _key: int) -> Any:
        """Return the value of the load's begin."""
        self.loads += 1
        value = self.value
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return value


async def _begin(call: Callable[[], Awaitable[Any]], count: int) -> list[asyncio.Task[Any]]:
    """Return so many calls, all of which have gone as far as they can."""

    async def one() -> Any:
        return await call()

    tasks = [asyncio.create_task(one()) for _ in range(count)]
    await asyncio.sleep(0.05)
    return tasks


async def _results(tasks: Sequence[asyncio.Task[Any]]) -> list[Any]:
    """Return what tasks have ended with."""
    async with asyncio.timeout(PATIENCE):
        return await asyncio.gather(*tasks, return_exceptions=True)


async def callers(decorate: Decorate) -> str:
    """Of 50 callers of a cold key, how many load."""
    source = Source()
    cached = decorate(source.load)
    tasks = await _begin(lambda: cached.read(1), 50)
    source.gate.set()
    await _results(tasks)
    return str(source.loads)


async def _cancelled(decorate: Decorate, which: int) -> str:
    source = Source()
    cached = decorate(source.load)
    tasks = await _begin(lambda: cached.read(1), 6)
    tasks[which].cancel()
    await asyncio.sleep(0.05)
    source.gate.set()
    others = await _results([task for task in tasks if task is not tasks[which]])
    return f"{others.count('old')} of 5"


async def leader(decorate: Decorate) -> str:
    """Of five others, how many have the value after the first caller was cancelled."""
    return await _cancelled(decorate, 0)


async def follower(decorate: Decorate) -> str:
    """The same, after one of the others was."""
    return await _cancelled(decorate, 2)


async def none(decorate: Decorate) -> str:
    """Whether `None` is kept."""
    source = Source(None)
    source.gate.set()
    cached = decorate(source.load)
    await cached.read(1)
    await cached.read(1)
    return "yes" if source.loads == 1 else "no"


async def in_load(decorate: Decorate) -> str:
    """What is read later, if there was an invalidation during the load."""
    source, cached, loading = await _overtaken(decorate)
    if cached.invalidate is None:
        source.gate.set()
        return "-"
    await cached.invalidate(1)
    source.gate.set()
    await _results(loading)
    await asyncio.sleep(0.05)
    async with asyncio.timeout(PATIENCE):
        return "ok" if await cached.read(1) == "new" else "stale"


async def after(decorate: Decorate) -> str:
    """What a caller gets who comes after that invalidation, while the load goes on."""
    source, cached, loading = await _overtaken(decorate)
    if cached.invalidate is None:
        source.gate.set()
        return "-"
    await cached.invalidate(1)
    later = await _begin(lambda: cached.read(1), 1)
    source.gate.set()
    await _results(loading)
    return "ok" if await _results(later) == ["new"] else "stale"


async def _overtaken(decorate: Decorate) -> tuple[Source, Cached, list[asyncio.Task[Any]]]:
    """Return a load that has read what is about to change."""
    source = Source()
    cached = decorate(source.load)
    loading = await _begin(lambda: cached.read(1), 1)
    source.value = "new"
    return source, cached, loading


async def alias(decorate: Decorate) -> str:
    """Whether others see it when a caller changes the value in place."""
    source = Source([[1]])
    source.gate.set()
    cached = decorate(source.load)
    await cached.read(1)
    (await cached.read(1))[0].append(2)
    return "safe" if await cached.read(1) == [[1]] else "shared"


async def failing(decorate: Decorate) -> str:
    """Of ten callers of a loader that fails, how many load."""
    source = Source()
    source.error = LookupError()
    cached = decorate(source.load)
    tasks = await _begin(lambda: cached.read(1), 10)
    source.gate.set()
    await _results(tasks)
    return str(source.loads)


PROBES: Final = {
    "50 callers": callers,
    "leader": leader,
    "follower": follower,
    "None": none,
    "in load": in_load,
    "after": after,
    "alias": alias,
    "error": failing,
}


async def _asked(probe: Callable[[Decorate], Awaitable[str]], name: str) -> str:
    try:
        async with LIBRARIES[name].library(None) as decorate, asyncio.timeout(3 * PATIENCE):
            return await probe(decorate)
    except TimeoutError:
        return "hangs"


async def _without_redis(name: str, how: str) -> str:
    """Return how long a call of a cold key takes while Redis hangs, or is gone."""
    async with Sandbox() as sandbox:
        valkey = Valkey(sandbox)
        await valkey.start()
        source = Source()
        source.gate.set()
        async with LIBRARIES[name].library(valkey.url) as decorate:
            cached = decorate(source.load)
            await cached.read(0)
            pid = (await _info(valkey.url))["process_id"]
            os.kill(pid, signal.SIGSTOP if how == "hung" else signal.SIGKILL)
            began = time.monotonic()
            task = asyncio.create_task(_awaited(cached.read(1)))
            await asyncio.wait([task], timeout=PATIENCE)
            seconds = time.monotonic() - began
            if how == "hung":
                os.kill(pid, signal.SIGCONT)
            if not task.done():
                task.cancel()
                return f"> {PATIENCE:.0f} s"
            raised = "" if task.exception() is None else ", raises"
            return f"{seconds * 1000:.0f} ms{raised}"


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


async def _info(url: str) -> dict[str, Any]:
    from redis.asyncio import Redis

    client: Any = Redis.from_url(url)
    async with client:
        found: dict[str, Any] = await client.info("server")
        return found


async def row_of(name: str) -> dict[str, str]:
    """Return the row of a library, by column."""
    row = {column: await _asked(probe, name) for column, probe in PROBES.items()}
    for how in ("hung", "refused"):
        row[how] = await _without_redis(name, how) if LIBRARIES[name].redis else "n/a"
    return row


def command(arguments: Sequence[str]) -> int:
    """Run what the arguments say; 1 if `--check` was given and ours is not as it must be."""
    options = _parser().parse_args(arguments)
    if options.library is not None:
        print(json.dumps(asyncio.run(row_of(options.library))))
        return 0
    table = Table("library", *PROBES, "hung", "refused")
    rows: dict[str, dict[str, str]] = {}
    for name, entry in LIBRARIES.items():
        try:
            require(entry.package)
        except SkipGroup as reason:
            print(f"{name}: skipped, {reason}")
            continue
        own = [sys.executable, "-m", "benchmarks", "behaviour", "--library", name]
        done = subprocess.run(own, cwd=Path(__file__).parent.parent, capture_output=True, text=True,
                              check=False)  # fmt: skip
        if done.returncode:
            print(f"{name}: failed: {done.stderr.strip().splitlines()[-1]}")
            continue
        rows[name] = json.loads(done.stdout.splitlines()[-1])
        table.add_row(name, *rows[name].values())
    Console(width=160).print(table)
    if options.json is not None:
        results = [{"library": name, **row} for name, row in rows.items()]
        report = {"bench": "behaviour", "machine": describe(), "results": results}
        write_figures(options.json, report)
    return 1 if options.check and not is_sound(rows["async-tiercache"]) else 0


def is_sound(row: dict[str, str]) -> bool:
    """Return whether a library does what callers expect, but for values that they change."""
    expected = {
        "50 callers": "1", "leader": "5 of 5", "follower": "5 of 5", "None": "yes",
        "in load": "ok", "after": "ok", "error": "1",
    }  # fmt: skip
    return all(row[column] == value for column, value in expected.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks behaviour", description=__doc__)
    parser.add_argument("--library", choices=LIBRARIES, help=argparse.SUPPRESS)
    parser.add_argument("--json", type=to_write, metavar="PATH", help="write every row to PATH")
    parser.add_argument(
        "--check", "--strict", action="store_true", help="exit with 1 when ours is not sound"
    )
    return parser
