"""The rows behind the caches: a table in PostgreSQL whose only column of interest is a version."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from async_tiercache_integrations.cli.demo import _database
from benchmarks._faults.record import ROWS, Record

SESSIONS: Final = 8
LOAD_SECONDS: Final = (0.010, 0.060)
PADDING: Final = "x" * 1_000

_TABLE: Final = "public.fault_row"


class InjectedError(Exception):
    """A loader failed because the fault says so."""


class WrongRowError(Exception):
    """A read gave the value of another row."""


async def reset(dsn: str) -> None:
    """Give every row version 0."""
    async with _database.connect(dsn) as connection:
        await connection.execute(f"DROP TABLE IF EXISTS {_TABLE}")
        await connection.execute(
            f"CREATE TABLE {_TABLE} (id int PRIMARY KEY, version bigint NOT NULL)"
        )
        await connection.execute(
            f"INSERT INTO {_TABLE} SELECT id, 0 FROM generate_series(0, $1::int - 1) AS id", ROWS
        )


@dataclass
class Source:
    """Loads and bumps rows.

    Attributes:
        pool: Sessions with the database.
        record: Where loads and commits are noted.
        chance: Draws how long loads take.
        seconds: Between which bounds.
        error_rate: Which share of the loads fails.
        loads: How many loads have begun.
        raced: During how many of them a newer version was committed: their values must be stored
            nowhere.
        longest: How long the longest load took, in seconds.
    """

    pool: _database.Pool
    record: Record
    chance: Random
    seconds: tuple[float, float] = LOAD_SECONDS
    error_rate: float = 0.0
    loads: int = 0
    raced: int = 0
    longest: float = field(default=0.0)

    async def load(self, row: int) -> dict[str, Any]:
        """Return what the database holds; most of the time passes after it was asked."""
        began = time.monotonic()
        self.loads += 1
        self.record.count_load(row)
        version = await self.pool.fetchval(f"SELECT version FROM {_TABLE} WHERE id = $1", row)
        await asyncio.sleep(self.chance.uniform(*self.seconds))
        if self.chance.random() < self.error_rate:
            raise InjectedError
        self.raced += self.record.committed(row) > version
        self.longest = max(self.longest, time.monotonic() - began)
        return {"row": row, "version": version, "padding": PADDING}

    async def bump(self, row: int) -> int:
        """Commit a new version of a row and return it."""
        version: int = await self.pool.fetchval(
            f"UPDATE {_TABLE} SET version = version + 1 WHERE id = $1 RETURNING version", row
        )
        self.record.commit(row, version)
        return version


@asynccontextmanager
async def open_source(dsn: str, record: Record, chance: Random) -> AsyncGenerator[Source]:
    """Open the sessions of one process."""
    async with _database.open_pool(dsn, size=SESSIONS, counter=None) as pool:
        yield Source(pool, record, chance)


def version_of(value: Any, row: int) -> int:
    """Return the version of a value.

    Raises:
        WrongRowError: It is not the row's.
    """
    if value["row"] != row:
        raise WrongRowError(f"asked for {row}, got {value['row']}")
    version: int = value["version"]
    return version
