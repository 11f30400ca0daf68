"""Readers that check every version and writers that make new ones, in one process."""

import asyncio
import contextlib
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from typing import Any, Final

from benchmarks._faults.adapters import BOUND, Adapter
from benchmarks._faults.record import ROWS, Record
from benchmarks._faults.source import InjectedError, Source, version_of
from benchmarks._faults.tally import Tally, Violation

GRACE: Final = 0.5
"""How much later than promised a read may be, since other programs use the machine, in seconds."""

_WEIGHTS: Final = list(accumulate(1 / rank for rank in range(1, ROWS + 1)))
_BURST: Final = 6
_READ_PAUSE: Final = (0.0, 0.012)
_WRITE_PAUSE: Final = (0.005, 0.030)
_PATIENCE: Final = (0.0, 0.040)
_HANG_LIMIT: Final = 5.0


@dataclass(frozen=True)
class Plan:
    """What one process does in a cell.

    Attributes:
        readers: How many tasks read.
        writers: How many tasks write.
        until: When they stop, monotonic.
        cancel_rate: Which share of the reads have a caller that may lose patience.
        bound: How old a read may be, the grace apart, in seconds.
    """

    readers: int = 32
    writers: int = 2
    until: float = 0.0
    cancel_rate: float = 0.0
    bound: float = BOUND


class Traffic:
    """Reads, writes and checks.

    Args:
        adapter: The cache.
        source: The rows behind it.
        record: What all processes know.
        process: The number of this process.
        chance: Draws rows and pauses.
    """

    def __init__(
        self, adapter: Adapter, source: Source, record: Record, process: int, chance: Random
    ) -> None:
        self.tally = Tally()
        self._adapter = adapter
        self._source = source
        self._record = record
        self._process = process
        self._chance = chance
        self._seen = [0] * ROWS

    async def run(self, plan: Plan) -> None:
        """Read and write until the time is over, and count the calls that do not end."""
        loops = [self._read_on(plan) for _ in range(plan.readers)]
        loops += [self._write_on(plan) for _ in range(plan.writers)]
        tasks = [asyncio.create_task(one, name="bench: traffic") for one in loops]
        left = max(0.0, plan.until - time.monotonic())
        _, hung = await asyncio.wait(tasks, timeout=left + _HANG_LIMIT)
        self.tally.hung += len(hung)
        for task in hung:
            task.cancel()
        for result in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(result, Exception):
                raise result

    def counts(self) -> dict[str, int]:
        """Return what the cache counted of the races it went through."""
        return self._adapter.counts()

    async def check_all(self) -> None:
        """Read every row once, when all is quiet, and count those that are still old."""
        await asyncio.gather(*map(self._check_last, range(ROWS)))

    async def _check_last(self, row: int) -> None:
        floor, began = self._record.returned(row), time.monotonic()
        version = await self._guarded(self._adapter.read(row), row)
        if version is not None and version < floor:
            self.tally.forever += 1
            self._violated("forever", row, version, floor, began=began)

    async def _read_on(self, plan: Plan) -> None:
        while time.monotonic() < plan.until:
            for row in self._chance.choices(range(ROWS), cum_weights=_WEIGHTS, k=_BURST):
                if self._chance.random() < plan.cancel_rate:
                    await self._read_impatiently(row, plan.bound)
                else:
                    await self.read(row, plan.bound)
            await asyncio.sleep(self._chance.uniform(*_READ_PAUSE))

    async def _read_impatiently(self, row: int, bound: float) -> None:
        """Read for a caller who may be gone before the value is there."""
        task = asyncio.create_task(self.read(row, bound), name="bench: impatient")
        await asyncio.wait([task], timeout=self._chance.uniform(*_PATIENCE))
        self.tally.cancelled += task.cancel()
        # The patient ones among its waiters must not notice.
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def read(self, row: int, bound: float = BOUND) -> None:
        """Read a row and compare its version with all that is known when the read begins."""
        floor, own, seen = self._record.floor(row), self._record.own_floor(row), self._seen[row]
        began = time.monotonic()
        version = await self._guarded(self._adapter.read(row), row)
        if version is None:
            return
        tally = self.tally
        tally.longest_read = max(tally.longest_read, time.monotonic() - began)
        tally.checked += 1
        self._seen[row] = max(self._seen[row], version)
        if version < floor:
            age = self._record.age(row, version, floor, began)
            tally.stale += 1
            tally.longest_lag = max(tally.longest_lag, age)
            if age > bound + GRACE:
                tally.late += 1
                self._violated("late", row, version, floor, began=began, age=age)
        if version < own:
            tally.ryw += 1
            self._violated("ryw", row, version, own, began=began)
        if version < seen:
            tally.nonmonotonic += 1
            self._violated("nonmonotonic", row, version, seen, began=began)

    def _violated(
        self, kind: str, row: int, version: int, floor: int, *, began: float, age: float = 0.0
    ) -> None:
        self.tally.violate(Violation(kind, self._process, row, version, floor, began, age))

    async def _write_on(self, plan: Plan) -> None:
        while time.monotonic() < plan.until:
            (row,) = self._chance.choices(range(ROWS), cum_weights=_WEIGHTS)
            await self.write(row)
            await asyncio.sleep(self._chance.uniform(*_WRITE_PAUSE))

    async def write(self, row: int) -> None:
        """Commit a new version of a row, then invalidate it."""
        version = await self._source.bump(row)
        self.tally.writes += 1
        try:
            acknowledged = await self._adapter.invalidate(row)
        except asyncio.CancelledError:
            self._not_ours()
        except Exception as error:  # noqa: BLE001 - counted
            self.tally.fail(error)
        else:
            self._record.give_back(row, version, acknowledged=acknowledged)
            self.tally.queued += not acknowledged

    async def _guarded(self, call: Coroutine[Any, Any, Any], row: int) -> int | None:
        """Return the version that a read gives, or count how it failed."""
        try:
            return version_of(await call, row)
        except asyncio.CancelledError:
            self._not_ours()
        except InjectedError:
            self.tally.injected += 1
        except Exception as error:  # noqa: BLE001 - counted
            self.tally.fail(error)
        return None

    def _not_ours(self) -> None:
        """Count a cancellation that nobody asked for; raise it again if somebody did."""
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        self.tally.collateral += 1
