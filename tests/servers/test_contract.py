"""`RedisRemote` keeps the contract of `abc.Remote` over every server."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from async_tiercache.abc import Remote
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.testing import MemoryServer
from tests.servers.contract import Ask, HourAhead, RedisContract
from tests.servers.process import Server


class TestMemoryServer(RedisContract):
    """The L2 that users' tests have."""

    @pytest.fixture
    def server(self) -> MemoryServer:
        """Return one on this machine's time, as the contract is."""
        return MemoryServer()

    @pytest_asyncio.fixture
    async def remote(self, server: MemoryServer) -> AsyncIterator[Remote]:
        """Return the remote."""
        remote = RedisRemote(None, namespace="test", clock=HourAhead(), client=server.client())
        await remote.probe()
        yield remote
        await remote.aclose()

    @pytest_asyncio.fixture
    async def lost(self, server: MemoryServer) -> AsyncIterator[Remote]:
        """Return a remote whose server is down."""
        server.connected = False
        remote = RedisRemote(None, namespace="test", clock=HourAhead(), client=server.client())
        yield remote
        await remote.aclose()

    @pytest_asyncio.fixture
    async def ask(self, server: MemoryServer) -> AsyncIterator[Ask]:
        """Return what asks the server."""
        client: Any = server.client()
        yield client.execute_command
        await client.aclose()


@pytest.mark.redis
class TestServers(RedisContract):
    """Real servers, old and new; no test of the contract leaves more behind than keys."""

    @pytest.fixture
    def redis(self, standing: Server) -> Server:
        """Return a server of each program, for all tests."""
        return standing

    @pytest_asyncio.fixture
    async def remote(self, redis: Server) -> AsyncIterator[Remote]:
        """Return the remote."""
        remote = RedisRemote(redis.url, namespace="test", clock=HourAhead())
        await remote.probe()
        yield remote
        await remote.aclose()

    @pytest_asyncio.fixture
    async def lost(self, redis: Server) -> AsyncIterator[Remote]:
        """Return a remote whose server hangs: it takes what is sent and answers nothing."""
        remote = RedisRemote(redis.url, namespace="test", clock=HourAhead())
        redis.stop()
        yield remote
        redis.cont()
        await remote.aclose()

    @pytest.fixture
    def ask(self, redis: Server) -> Ask:
        """Return what asks the server."""

        async def ask(*words: Any) -> Any:
            return redis.command(*words)

        return ask
