"""asyncpg, as far as the demo uses it, with types (the package ships none)."""

from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Protocol, TypeAlias

import asyncpg  # type: ignore[import-untyped] # pyright: ignore[reportMissingTypeStubs]

_driver: Any = asyncpg

SCHEMA = "tiercache_demo"
"""Everything the demo creates in a database is in this schema."""

_PATH = f"{SCHEMA}, public"  # extensions are in `public`

Row: TypeAlias = Mapping[str, Any]

errors: tuple[type[Exception], ...] = (_driver.PostgresError, _driver.InterfaceError, OSError)
"""What a database that is not there, or not ready, raises."""


class Queries(Protocol):
    """What connections and pools have in common."""

    async def execute(self, query: str, /, *args: Any) -> str: ...
    async def fetch(self, query: str, /, *args: Any) -> list[Row]: ...
    async def fetchrow(self, query: str, /, *args: Any) -> Row | None: ...
    async def fetchval(self, query: str, /, *args: Any) -> Any: ...


class Connection(Queries, Protocol):
    """One session with the database."""

    async def copy_records_to_table(
        self,
        table: str,
        /,
        *,
        records: Iterable[Sequence[Any]],
        columns: Sequence[str],
        schema_name: str,
    ) -> str: ...
    def add_query_logger(self, callback: Any, /) -> None: ...
    async def close(self) -> None: ...


class Pool(Queries, Protocol):
    """A set of sessions; each query takes one of them."""

    async def close(self) -> None: ...


@asynccontextmanager
async def connect(dsn: str) -> AsyncGenerator[Connection]:
    """Open one session, with the demo's schema in front."""
    connection: Connection = await _driver.connect(dsn, server_settings={"search_path": _PATH})
    try:
        yield connection
    finally:
        await connection.close()


def _add_one(counter: list[int], _: object) -> None:
    counter[0] += 1


@asynccontextmanager
async def open_pool(dsn: str, *, size: int, counter: list[int] | None) -> AsyncGenerator[Pool]:
    """Open a pool of `size` sessions; each statement adds one to ``counter[0]``, if given."""

    async def watch(connection: Connection) -> None:
        if counter is not None:
            connection.add_query_logger(partial(_add_one, counter))

    async def keep(_: object) -> None:
        """Reset nothing: no statement here changes its session, and a reset is a statement."""

    pool = await _driver.create_pool(
        dsn,
        min_size=size,
        max_size=size,
        init=watch,
        reset=keep,
        server_settings={"search_path": _PATH, "application_name": "tiercache-demo"},
    )
    try:
        yield pool
    finally:
        pool.terminate()
