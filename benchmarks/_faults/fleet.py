"""The worker processes of a cell, as their parent sees them."""

import asyncio
from pathlib import Path
from typing import Any, Final

from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from benchmarks._child import Child
from benchmarks._faults.record import Record
from benchmarks._faults.tally import Tally

PROCESSES: Final = 3


class Fleet:
    """Three processes with one adapter each.

    Args:
        sandbox: Ends them whatever happens to us.
        record: The file of the shared record.
        opening: What each is told to open, its number aside.
    """

    def __init__(self, sandbox: Sandbox, record: Path, opening: dict[str, Any]) -> None:
        self.record = Record(record)
        self._sandbox = sandbox
        self._opening = {**opening, "record": str(record)}
        self.workers = [self._new() for _ in range(PROCESSES)]

    async def start(self) -> None:
        """Start all and connect them."""
        await asyncio.gather(*(self._open(number) for number in range(PROCESSES)))

    async def restart(self, process: int) -> None:
        """Put a new process in the place of one that was killed."""
        self.workers[process] = self._new()
        await self._open(process)

    async def everywhere(self, do: str, **details: Any) -> list[Any]:
        """Give all the same order and return their results."""
        return await asyncio.gather(*(worker.order(do, **details) for worker in self.workers))

    async def tally(self) -> Tally:
        """Return what all together have seen."""
        total = Tally()
        for told in await self.everywhere("tally"):
            total.add(Tally.from_json(told))
        return total

    async def end(self) -> None:
        """Kill all."""
        await asyncio.gather(*(worker.kill() for worker in self.workers))

    def _new(self) -> Child:
        return Child(self._sandbox, "benchmarks._faults.worker")

    async def _open(self, process: int) -> None:
        await self.workers[process].start()
        await self.workers[process].order("open", **self._opening, process=process)
