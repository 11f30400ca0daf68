"""Servers for the demo's tests, where they can be had."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

pytest.importorskip("asyncpg", reason="needs the extra demo")

from async_tiercache_integrations.cli.demo import _servers
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from tests.needs import missing


@pytest_asyncio.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Return an open sandbox; closed after the test."""
    async with Sandbox() as opened:
        yield opened


@pytest.fixture
def valkey(sandbox: Sandbox) -> _servers.Valkey:
    """Return a Valkey that is not started yet."""
    try:
        return _servers.Valkey(sandbox)
    except _servers.ServerError as error:
        missing(str(error))


@pytest.fixture
def postgres(sandbox: Sandbox) -> _servers.Postgres:
    """Return a PostgreSQL that is not started yet."""
    try:
        return _servers.Postgres(sandbox)
    except _servers.ServerError as error:
        missing(str(error))
