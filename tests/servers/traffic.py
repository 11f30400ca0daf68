"""Traffic: two processes' worth of reads and invalidations, checked as they go."""

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from functools import partial

from async_tiercache import TierCache
from tests.servers.waiting import eventually


class Traffic:
    """One cache writes and reads, another one reads.

    A read must not get what was overtaken before it began: in the process that invalidated, by any
    invalidation that has returned; in the other one, by those that Redis has confirmed.

    Attributes:
        reads: How many reads have ended.
        loads: How often each key was loaded.
        queued: How many invalidations Redis has not confirmed at once.
        overtaken: What reads got that they must not.
    """

    def __init__(self, writer: TierCache, reader: TierCache, keys: Sequence[str]) -> None:
        self.reads = 0
        self.loads: Counter[str] = Counter()
        self.queued = 0
        self.overtaken: list[str] = []
        self._writer = writer
        self._reader = reader
        self._keys = keys
        self._versions: Counter[str] = Counter()
        self._own: Counter[str] = Counter()
        self._confirmed: Counter[str] = Counter()

    @asynccontextmanager
    async def flowing(self) -> AsyncGenerator[None]:
        """Let it flow for as long as the context lasts; errors of reads and writes surface."""
        async with asyncio.TaskGroup() as group:
            tasks = [
                *(group.create_task(self._read(self._writer, self._own, n)) for n in range(4)),
                *(
                    group.create_task(self._read(self._reader, self._confirmed, n))
                    for n in range(4)
                ),
                *(group.create_task(self._write(n)) for n in range(2)),
            ]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()

    async def more(self, reads: int) -> None:
        """Return after so many more reads."""
        target = self.reads + reads
        await eventually(lambda: self.reads >= target, f"{reads} more reads")

    async def _read(self, cache: TierCache, floors: "Counter[str]", offset: int) -> None:
        for key in itertools.islice(itertools.cycle(self._keys), 7 * offset, None):
            floor = floors[key]
            value = await cache.get_or_load(key, partial(self._load, key))
            if value < floor:
                self.overtaken.append(f"{key} in version {value}, not {floor}")
            self.reads += 1

    async def _load(self, key: str) -> int:
        version = self._versions[key]
        self.loads[key] += 1
        await asyncio.sleep(0)
        return version

    async def _write(self, offset: int) -> None:
        for key in itertools.islice(itertools.cycle(self._keys), 11 * offset, None, 3):
            self._versions[key] += 1
            version = self._versions[key]
            report = await self._writer.invalidate(keys=[key])
            self._own[key] = max(self._own[key], version)
            if report.l2 == "done":
                self._confirmed[key] = max(self._confirmed[key], version)
            else:
                self.queued += 1
