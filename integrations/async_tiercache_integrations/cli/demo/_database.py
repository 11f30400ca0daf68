"""asyncpg, as far as the demo uses it, with types (the package ships none)."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeAlias, cast

import asyncpg  # type: ignore[import-untyped] # pyright: ignore[reportMissingTypeStubs]

SCHEMA = "tiercache_demo"
"""Everything the demo creates in a database is in this schema."""

_PATH = f"{SCHEMA}, public"  # extensions are in `public`

Row: TypeAlias = Mapping[str, Any]

errors = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError)
"""What a database that is not there, or not ready, raises."""


class Queries(Protocol):
    """What connections and pools have in common."""

    async def execute(self, query: str, /, *args: Any) -> str: ...  # noqa: D102
    async def fetch(self, query: str, /, *args: Any) -> list[Row]: ...  # noqa: D102
    async def fetchrow(self, query: str, /, *args: Any) -> Row | None: ...  # noqa: D102
    async def fetchval(self, query: str, /, *args: Any) -> Any: ...  # noqa: D102


class Connection(Queries, Protocol):
    """One session with the database."""

    async def copy_records_to_table(  # noqa: D102
        self,
        table: str,
        /,
        *,
        records: Iterable[Sequence[Any]],
        columns: Sequence[str],
        schema_name: str,
    ) -> str: ...
    def transaction(self) -> AbstractAsyncContextManager[object]: ...  # noqa: D102
    def add_query_logger(self, callback: Any, /) -> None: ...  # noqa: D102
    async def close(self) -> None: ...  # noqa: D102


class Pool(Queries, Protocol):
    """A set of sessions; each query takes one of them."""

    async def close(self) -> None: ...  # noqa: D102


@asynccontextmanager
async def connect(dsn: str) -> AsyncIterator[Connection]:
    """Open one session, with the demo's schema in front."""
    connection = cast(
        "Connection", await asyncpg.connect(dsn, server_settings={"search_path": _PATH})
    )
    try:
        yield connection
    finally:
        await connection.close()


def _add_one(counter: list[int]) -> None:
    counter[0] += 1


@asynccontextmanager
async def open_pool(dsn: str, *, size: int, counter: list[int] | None) -> AsyncIterator[Pool]:
    """Open a pool of `size` sessions; each statement adds one to ``counter[0]``, if given."""

    async def watch(connection: Connection) -> None:
        if counter is not None:
            connection.add_query_logger(lambda _: _add_one(counter))

    async def keep(_: object) -> None:
        """Reset nothing: no statement here changes its session, and a reset is a statement."""

    pool = await asyncpg.create_pool(
        dsn,
        min_size=size,
        max_size=size,
        init=watch,
        reset=keep,
        server_settings={"search_path": _PATH, "application_name": "tiercache-demo"},
    )
    try:
        yield cast("Pool", pool)
    finally:
        pool.terminate()
