"""`RedisRemote` keeps the contract of `abc.Remote` over a Cluster and over Sentinels."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio

from async_tiercache.abc import Remote
from async_tiercache.backends.redis import RedisRemote
from tests.servers.contract import Ask, HourAhead, RedisContract
from tests.servers.topologies import ClusterGroup, SentinelGroup

pytestmark = pytest.mark.redis


@pytest_asyncio.fixture(params=[2, 3], ids=["resp2", "resp3"])
async def connect(request: pytest.FixtureRequest) -> AsyncIterator[Callable[[str], Any]]:
    """Return what makes a remote of a URL."""
    made: list[RedisRemote] = []

    async def connect(url: str) -> Remote:
        remote = RedisRemote(f"{url}?protocol={request.param}", namespace="test", clock=HourAhead())
        made.append(remote)
        await remote.probe()
        return remote

    yield connect
    for remote in made:
        await remote.aclose()


class TestCluster(RedisContract):
    """Three masters."""

    @pytest_asyncio.fixture
    async def remote(self, cluster: ClusterGroup, connect: Callable[[str], Any]) -> Remote:
        """Return the remote, with nothing in it."""
        remote: Remote = await connect(cluster.url)
        return remote

    @pytest.fixture
    def ask(self, cluster: ClusterGroup) -> Ask:
        """Return what asks the node that owns the key, or all of them."""

        async def ask(*words: Any) -> Any:
            if words[0] == "TIME":
                return cluster.masters[0].command("TIME")
            if words[0] not in {"KEYS", "SCRIPT"}:
                return cluster.command(*words)
            replies = cluster.everywhere(*words)
            return [name for reply in replies for name in reply] if words[0] == "KEYS" else replies

        return ask


class TestSentinels(RedisContract):
    """A master that Sentinels name."""

    @pytest_asyncio.fixture
    async def remote(self, sentinels: SentinelGroup, connect: Callable[[str], Any]) -> Remote:
        """Return the remote, with nothing in it."""
        remote: Remote = await connect(sentinels.url)
        return remote

    @pytest.fixture
    def ask(self, sentinels: SentinelGroup) -> Ask:
        """Return what asks the master."""
        master = sentinels.master

        async def ask(*words: Any) -> Any:
            return master.command(*words)

        return ask
