"""Crowds of readers who want one row at the same moment: how many loads do they cost?"""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Final

from benchmarks._faults.fleet import PROCESSES, Fleet
from benchmarks._faults.record import ROWS

READERS: Final = 120
LOAD_SECONDS: Final = 0.2
SERVED_LIMIT: Final = 1.5
"""How long after its loader was killed a crowd may have to wait, in seconds."""

_HEAD_START: Final = 0.03
_KILLED_AFTER: Final = 0.1
_DELIVERY: Final = 0.2


@dataclass
class Stampedes:
    """What crowds cost.

    Attributes:
        cold: Loads of each crowd for a row that nobody had.
        invalidated: Loads of each crowd for a row that all had, right after its invalidation.
        killed: Loads of each crowd whose loading process was killed.
        served: How long after the kill its last reader had the value, in seconds.
    """

    cold: list[int] = field(default_factory=list[int])
    invalidated: list[int] = field(default_factory=list[int])
    killed: list[int] = field(default_factory=list[int])
    served: list[float] = field(default_factory=list[float])


async def stampede(fleet: Fleet, rounds: int) -> Stampedes:
    """Let crowds come over cold rows, and over rows just invalidated."""
    result = Stampedes()
    await _slow(fleet)
    for row in range(rounds):
        result.cold.append(await _loads_of(fleet, row))
        await fleet.workers[row % PROCESSES].order("write", row=row)
        result.invalidated.append(await _loads_of(fleet, row))
    return result


async def holder_kill(fleet: Fleet, rounds: int) -> Stampedes:
    """Kill the process that loads for a crowd, in the middle of its load.

    Where that has ended before, on a busy machine, another crowd comes.
    """
    result = Stampedes()
    await _slow(fleet)
    for row in range(ROWS):
        if len(result.killed) == rounds:
            break
        before = fleet.record.loads(row)
        crowds = [asyncio.ensure_future(one) for one in _crowds(fleet, row)]
        holder = await _loading(fleet, row, before)
        await asyncio.sleep(_KILLED_AFTER)
        await fleet.workers[holder].kill()
        killed_at = time.monotonic()
        ended = await asyncio.gather(*crowds, return_exceptions=True)
        served = [one for one in ended if isinstance(one, float)]
        assert len(served) >= PROCESSES - 1, f"a crowd was not served: {ended}"
        if len(served) < PROCESSES:
            result.killed.append(sum(fleet.record.loads(row)) - sum(before))
            result.served.append(max(served) - killed_at)
        await fleet.restart(holder)
        await _slow(fleet)
    return result


async def _slow(fleet: Fleet) -> None:
    await fleet.everywhere("set_source", seconds=(LOAD_SECONDS, LOAD_SECONDS))


async def _loads_of(fleet: Fleet, row: int) -> int:
    before = sum(fleet.record.loads(row))
    await asyncio.gather(*_crowds(fleet, row))
    await asyncio.sleep(_DELIVERY)
    return sum(fleet.record.loads(row)) - before


def _crowds(fleet: Fleet, row: int) -> list[asyncio.Future[float]]:
    at = time.monotonic() + _HEAD_START
    return [
        asyncio.ensure_future(worker.order("crowd", row=row, readers=READERS // PROCESSES, at=at))
        for worker in fleet.workers
    ]


async def _loading(fleet: Fleet, row: int, before: list[int]) -> int:
    """Return the process that has begun to load the row."""
    async with asyncio.timeout(5):
        while True:
            loads = zip(fleet.record.loads(row), before, strict=True)
            for process, (now, then) in enumerate(loads):
                if now > then:
                    return process
            await asyncio.sleep(0.002)
