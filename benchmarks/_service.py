"""A process of a service over PostgreSQL: `python -m benchmarks._service`.

Reads come when they are due, whether those before have been answered or not.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from itertools import accumulate, count, takewhile
from random import Random
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from async_tiercache import Policy, TierCache
from async_tiercache.testing import settled
from async_tiercache_integrations.cli.demo import _database
from benchmarks._child import serve

Kind: TypeAlias = Literal["item", "report"]
Row: TypeAlias = tuple[Kind, int]

ITEMS: Final = 1_000
REPORTS: Final = 20
SALES: Final = 200_000
_SESSIONS: Final = 4
_REPORT_SHARE: Final = 0.1
_COUNTS: Final[dict[Kind, int]] = {"item": ITEMS, "report": REPORTS}

SCHEMA: Final = (
    "CREATE TABLE item (id int PRIMARY KEY, name text, price bigint)",
    "CREATE TABLE sale (region int, amount bigint)",
    f"INSERT INTO item SELECT n, 'item ' || n, n FROM generate_series(0, {ITEMS - 1}) n",
    f"INSERT INTO sale SELECT n % {REPORTS}, n % 997 FROM generate_series(1, {SALES}) n",
    "VACUUM ANALYZE",
)


class Arrival(NamedTuple):
    """A call that comes at an instant, in seconds from the beginning."""

    at: float
    row: Row


def arrivals(name: str, *, rate: float, seconds: float) -> Iterator[Arrival]:
    """Return the calls of one process at fixed distances, their rows drawn by Zipf's law.

    The same for the same name, so that everybody knows what comes.
    """
    chance = Random(name)
    weights = {
        kind: list(accumulate(1 / rank for rank in range(1, rows + 1)))
        for kind, rows in _COUNTS.items()
    }
    for at in takewhile(lambda at: at < seconds, (number / rate for number in count())):
        kind: Kind = "report" if chance.random() < _REPORT_SHARE else "item"
        (number,) = chance.choices(range(_COUNTS[kind]), cum_weights=weights[kind])
        yield Arrival(at, (kind, number))


@dataclass
class Tally:
    """What a process has seen.

    Attributes:
        statements: How many statements its reads have sent to PostgreSQL.
        failed: How many reads have raised.
        late: By how much the calls came after they were due, in seconds.
        took: How long reads took, by kind, in seconds.
    """

    statements: int = 0
    failed: int = 0
    late: list[float] = field(default_factory=list[float])
    took: dict[Kind, list[float]] = field(default_factory=lambda: {"item": [], "report": []})


class Service:
    """Carries out the parent's orders."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._cached: dict[Kind, Any] = {}
        self._tally = Tally()

    async def open(self, *, url: str, dsn: str, ttl: float) -> None:
        """Connect to everything."""
        self._writing = await self._stack.enter_async_context(_database.connect(dsn))
        enter = self._stack.enter_async_context
        pool = await enter(_database.open_pool(dsn, size=_SESSIONS, counter=None))
        self._cache = await enter(TierCache(url, namespace="shop", policy=Policy(ttl=ttl)))

        @self._cache.cached("item:{number}")
        async def item(number: int) -> dict[str, Any] | None:
            self._tally.statements += 1
            row = await pool.fetchrow("SELECT id, name, price FROM item WHERE id = $1", number)
            return None if row is None else dict(row)

        @self._cache.cached("report:{number}")
        async def report(number: int) -> dict[str, int]:
            self._tally.statements += 1
            row = await pool.fetchrow(
                "SELECT count(*) AS sales, sum(amount)::bigint AS amount FROM sale"
                " WHERE region = $1",
                number,
            )
            assert row is not None
            return dict(row)

        self._cached = {"item": item, "report": report}

    async def read(self, *, name: str, rate: float, seconds: float, at: float) -> dict[str, Any]:
        """Read what arrives; return the tally once all have been answered."""
        async with asyncio.TaskGroup() as group:
            for arrival in arrivals(name, rate=rate, seconds=seconds):
                due = at + arrival.at
                await asyncio.sleep(due - time.monotonic())
                self._tally.late.append(time.monotonic() - due)
                group.create_task(self._read(arrival.row))
        await settled(self._cache)
        return asdict(self._tally)

    async def _read(self, row: Row) -> None:
        kind, number = row
        began = time.perf_counter()
        try:
            found = await self._cached[kind](number)
            assert found is not None
        except Exception:  # noqa: BLE001 - counted, and every one is too many
            self._tally.failed += 1
        self._tally.took[kind].append(time.perf_counter() - began)

    async def write(self, *, name: str, rate: float, seconds: float, at: float) -> None:
        """Write what arrives, and invalidate it."""
        for arrival in arrivals(name, rate=rate, seconds=seconds):
            await asyncio.sleep(at + arrival.at - time.monotonic())
            kind, number = arrival.row
            if kind == "item":
                text = "UPDATE item SET price = price + 1 WHERE id = $1"
                await self._writing.execute(text, number)
            else:
                await self._writing.execute("INSERT INTO sale VALUES ($1, 1)", number)
            await self._cached[kind].invalidate(number)


async def main() -> None:
    """Take orders until the parent's end of the pipe closes."""
    async with AsyncExitStack() as stack:
        service = Service(stack)
        await serve({"open": service.open, "read": service.read, "write": service.write})


if __name__ == "__main__":
    asyncio.run(main())
