"""`RedisRemote` keeps the contract of `abc.Remote` over every server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from async_tiercache.abc import Remote
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.testing import MemoryServer
from tests.servers.contract import Ask, HourAhead, RemoteContract
from tests.servers.process import Server


class TestMemoryServer(RemoteContract):
    """The L2 that users' tests have."""

    @pytest_asyncio.fixture
    async def remote(self, server: MemoryServer) -> AsyncIterator[Remote]:
        """Return the remote."""
        remote = RedisRemote(None, namespace="test", clock=HourAhead(), client=server.client())
        await remote.probe()
        yield remote
        await remote.aclose()

    @pytest_asyncio.fixture
    async def ask(self, server: MemoryServer) -> AsyncIterator[Ask]:
        """Return what asks the server."""
        client: Any = server.client()
        yield client.execute_command
        await client.aclose()


@pytest.mark.redis
class TestServers(RemoteContract):
    """Real servers, old and new."""

    @pytest_asyncio.fixture
    async def remote(self, redis: Server) -> AsyncIterator[Remote]:
        """Return the remote."""
        remote = RedisRemote(redis.url, namespace="test", clock=HourAhead())
        await remote.probe()
        yield remote
        await remote.aclose()

    @pytest.fixture
    def ask(self, redis: Server) -> Ask:
        """Return what asks the server."""

        async def ask(*words: Any) -> Any:
            return redis.command(*words)

        return ask
