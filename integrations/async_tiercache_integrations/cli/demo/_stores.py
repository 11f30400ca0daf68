"""The database and the Redis that the demo works with: our own, or given by address."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis.asyncio

from async_tiercache_integrations.cli.demo import _database, _seed
from async_tiercache_integrations.cli.demo._database import SCHEMA, Connection
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._seed import Progress
from async_tiercache_integrations.cli.demo._servers import Postgres, ServerError, Valkey
from async_tiercache_integrations.cli.demo._workload import Sizes

_ROLE: Final = "shop_app"

_CALLS: Final = """
SELECT coalesce(sum(calls), 0)::bigint AS statements,
       coalesce(sum(total_exec_time), 0) / 1000 AS seconds
FROM pg_stat_statements
WHERE userid = (SELECT oid FROM pg_roles WHERE rolname = $1)
  AND dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND query NOT LIKE '%pg_stat_statements%'
"""


@dataclass(frozen=True, slots=True)
class Work:
    """What a database was made to do: so many statements, and the seconds spent on them."""

    statements: int
    seconds: float

    def __sub__(self, before: "Work") -> "Work":
        return Work(self.statements - before.statements, self.seconds - before.seconds)


@dataclass
class Database:
    """A seeded database.

    Attributes:
        admin: Our own session with it.
        url: Its address for the application.
        role: The role whose statements are the application's.
        version: What the server says it is.
        counts: Whether it counts statements; if not, the application has to.
    """

    admin: Connection
    url: str
    role: str
    version: str
    counts: bool

    async def work(self) -> Work:
        """Return what the application has made it do so far; nothing when it does not count."""
        row = await self.admin.fetchrow(_CALLS, self.role) if self.counts else None
        return Work(row["statements"], row["seconds"]) if row is not None else Work(0, 0.0)

    @property
    def counted_by(self) -> str:
        """How statements are counted, for people."""
        if self.counts:
            return f"pg_stat_statements.calls of the role {self.role}"
        return "the application's own sessions (pg_stat_statements is not installed there)"


@asynccontextmanager
async def own_database(
    sandbox: Sandbox, sizes: Sizes, progress: Progress
) -> AsyncGenerator[Database]:
    """Start a PostgreSQL, fill it, and give the application a role of its own."""
    server = Postgres(sandbox)
    await server.start()
    async with _database.connect(server.url("postgres")) as admin:
        await admin.execute(f"CREATE EXTENSION pg_stat_statements; CREATE ROLE {_ROLE} LOGIN")
        await _seed.create(admin, sizes, progress)
        await admin.execute(
            f"GRANT USAGE ON SCHEMA {SCHEMA} TO {_ROLE};"
            f"GRANT ALL ON ALL TABLES IN SCHEMA {SCHEMA} TO {_ROLE}"
        )
        version = await admin.fetchval("SHOW server_version")
        yield Database(admin, server.url(_ROLE), _ROLE, f"PostgreSQL {version}", counts=True)


@asynccontextmanager
async def given_database(url: str, sizes: Sizes, progress: Progress) -> AsyncGenerator[Database]:
    """Fill a schema of our own in a database that is there; drop it at the end."""
    try:
        session = _database.connect(url)
        admin = await session.__aenter__()
    except _database.errors as error:
        raise ServerError(
            f"The database of --database-url did not answer: {error}",
            hint="Pass an address such as postgresql://user:password@host/database.",
        ) from error
    try:
        role = await admin.fetchval("SELECT current_user")
        version = await admin.fetchval("SHOW server_version")
        counts = await _counts_statements(admin)
        await _seed.create(admin, sizes, progress)
        try:
            yield Database(admin, url, str(role), f"PostgreSQL {version}", counts)
        finally:
            await _seed.drop(admin)
    finally:
        await session.__aexit__(None, None, None)


async def _counts_statements(admin: Connection) -> bool:
    try:
        await admin.fetchval("SELECT count(*) FROM pg_stat_statements")
    except _database.errors:
        return False
    return True


@dataclass
class Redis:
    """A Redis or Valkey.

    Attributes:
        url: Its address.
        version: What the server says it is.
        server: The server, when it is ours to kill.
    """

    url: str
    version: str
    server: Valkey | None


@asynccontextmanager
async def own_redis(sandbox: Sandbox) -> AsyncGenerator[Redis]:
    """Start a Valkey."""
    server = Valkey(sandbox)
    await server.start()
    yield Redis(server.url, await _version(server.url), server)


@asynccontextmanager
async def given_redis(url: str, namespace: str) -> AsyncGenerator[Redis]:
    """Use a Redis that is there; remove our namespace from it at the end."""
    try:
        version = await _version(url)
    except (redis.RedisError, OSError, ValueError) as error:
        raise ServerError(
            f"The Redis of --redis-url did not answer: {error}",
            hint="Pass an address such as redis://host:6379/0.",
        ) from error
    try:
        yield Redis(url, version, None)
    finally:
        async with _client(url) as client:
            async for key in client.scan_iter(f"*{namespace}*", count=1_000):
                await client.unlink(key)


def _client(url: str) -> Any:
    return redis.asyncio.from_url(url)


async def _version(url: str) -> str:
    async with _client(url) as client:
        info = await client.info("server")
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"
