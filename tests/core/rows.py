"""A table of rows: a single and a batch loader that a test counts, gates and changes."""

import asyncio
from collections.abc import Iterable
from typing import Any

from async_tiercache import BoundBatch, BoundCached, TierCache


class Rows:
    """What the loaders read: row n is ``"row n"`` unless it is said otherwise.

    Attributes:
        rows: By id, what differs: a value, or an exception as the error of that id.
        absent: Ids that do not exist.
        error: What a whole batch load raises instead.
        calls: The ids of each batch load, in the order of the loads.
        singles: The ids of loads of one.
        gate: While it is not set, loads wait here.
        cancelled: How many batch loads were cancelled.
    """

    def __init__(self) -> None:
        self.rows: dict[int, Any] = {}
        self.absent: set[int] = set()
        self.error: Exception | None = None
        self.calls: list[list[int]] = []
        self.singles: list[int] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled = 0
        self._called = asyncio.Event()

    async def called(self, count: int = 1) -> None:
        """Return when so many batch loads have begun."""
        while len(self.calls) < count:
            self._called.clear()
            await self._called.wait()

    async def one(self, row_id: int) -> Any:
        """Read one row."""
        self.singles.append(row_id)
        await self.gate.wait()
        if row_id in self.absent:
            raise LookupError(row_id)
        return self.rows.get(row_id, f"row {row_id}")

    async def many(self, row_ids: Iterable[int]) -> dict[int, Any]:
        """Read several."""
        ids = list(row_ids)
        self.calls.append(ids)
        self._called.set()
        found = {n: self.rows.get(n, f"row {n}") for n in ids if n not in self.absent}
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error is not None:
            raise self.error
        return found


def functions_of(
    cache: TierCache, rows: Rows, **options: Any
) -> tuple[BoundCached[[int], Any], BoundBatch[[list[int]], dict[int, Any]]]:
    """Return the cached functions that read the rows: for one and for many."""

    @cache.cached("row:{row_id}", **options)
    async def row(row_id: int) -> Any:
        return await rows.one(row_id)

    @row.batch
    async def many(row_ids: list[int]) -> dict[int, Any]:
        return await rows.many(row_ids)

    return row, many


def methods_of(
    cache: TierCache, rows: Rows, **options: Any
) -> tuple[BoundCached[[int], Any], BoundBatch[[list[int]], dict[int, Any]]]:
    """Return the same as methods of one object, whose loads run in their callers' lives."""

    class Repository:
        @cache.cached("row:{row_id}", **options)
        async def row(self, row_id: int) -> Any:
            return await rows.one(row_id)

        @row.batch
        async def many(self, row_ids: list[int]) -> dict[int, Any]:
            return await rows.many(row_ids)

    repository = Repository()
    return repository.row, repository.many


def named(*row_ids: int) -> dict[int, str]:
    """Return the rows of some ids."""
    return {row_id: f"row {row_id}" for row_id in row_ids}
