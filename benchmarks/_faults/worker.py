"""A process of the service under test, driven by its parent: `python -m benchmarks._faults.worker`.

It is told once what to open, and then what to do; a SIGSTOP or SIGKILL hits it wherever it is.
"""

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import Any

from benchmarks._child import serve
from benchmarks._faults.adapters import OPENERS
from benchmarks._faults.record import Record
from benchmarks._faults.source import Source, open_source
from benchmarks._faults.traffic import Plan, Traffic


class Worker:
    """Carries out the parent's orders."""

    _source: Source
    _traffic: Traffic

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def open(
        self, *, adapter: str, url: str, dsn: str, record: str, process: int, seed: str
    ) -> None:
        """Connect to everything."""
        chance = Random(f"{seed}:{process}")
        shared = Record(Path(record), process)
        source = await self._stack.enter_async_context(open_source(dsn, shared, chance))
        cache = await self._stack.enter_async_context(OPENERS[adapter](url, source))
        self._source = source
        self._traffic = Traffic(cache, source, shared, process, chance)
        asyncio.get_running_loop().set_exception_handler(self._note_lost_error)

    def _note_lost_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Count what a background task raised and nobody asked for."""
        lost = context.get("exception") or RuntimeError(context["message"])
        self._traffic.tally.fail(lost, where="nobody waited: ")

    async def set_source(self, *, seconds: tuple[float, float], error_rate: float = 0.0) -> None:
        """Say how long loads take and how many of them fail."""
        self._source.seconds = seconds
        self._source.error_rate = error_rate

    async def run(self, **plan: Any) -> None:
        """Read and write for a while."""
        await self._traffic.run(Plan(**plan))

    async def write(self, *, row: int) -> None:
        """Write a row once, invalidation included."""
        await self._traffic.write(row)

    async def crowd(self, *, row: int, readers: int, at: float) -> float:
        """Let many callers read a row at one moment; return when the last of them was served."""

        async def one() -> None:
            await asyncio.sleep(at - time.monotonic())
            await self._traffic.read(row)

        async with asyncio.timeout(15), asyncio.TaskGroup() as group:
            for _ in range(readers):
                group.create_task(one())
        return time.monotonic()

    async def check_all(self) -> None:
        """Read every row once, in quiescence."""
        async with asyncio.timeout(15):
            await self._traffic.check_all()

    async def tally(self) -> dict[str, Any]:
        """Return what this process has seen."""
        tally, source = self._traffic.tally, self._source
        tally.loads, tally.raced, tally.longest_load = source.loads, source.raced, source.longest
        tally.counts = self._traffic.counts()
        return tally.as_json()


async def _main() -> None:
    async with AsyncExitStack() as stack:
        worker = Worker(stack)
        orders = ("open", "set_source", "run", "write", "crowd", "check_all", "tally")
        await serve({name: getattr(worker, name) for name in orders})


if __name__ == "__main__":
    asyncio.run(_main())
