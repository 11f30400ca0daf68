"""Fixtures with real servers; `TESTS_NEED_SERVERS=1` makes a missing one a failure.

`TESTS_LOOP=uvloop` runs the tests of this folder on uvloop.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
import pytest_asyncio

from async_tiercache import TierCache
from async_tiercache.testing import settled
from tests.needs import missing
from tests.servers.process import NoServerError, Server, find_program, server_names
from tests.servers.proxy import Proxy
from tests.servers.source import NAMESPACE, POLICY, Source
from tests.servers.topologies import ClusterGroup, SentinelGroup
from tests.servers.troubles import Trouble
from tests.servers.waiting import DEADLINE, eventually

pytest.register_assert_rewrite("tests.servers.contract")


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Return the event loop to run on."""
    if os.environ.get("TESTS_LOOP") == "uvloop":
        import uvloop

        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


ONE_SERVER = pytest.mark.parametrize("program", server_names()[:1], indirect=True)
"""For tests that wait, or that are about the cache's side alone."""


@pytest.fixture(params=server_names())
def program(request: pytest.FixtureRequest) -> Path:
    """Return a server program."""
    try:
        return find_program(request.param)
    except NoServerError as error:
        missing(str(error))


@pytest.fixture
def redis(program: Path, tmp_path: Path) -> Iterator[Server]:
    """Return a running server of the test's own."""
    server = Server(program, tmp_path)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def all_standing() -> Iterator[dict[Path, Server]]:
    """Return the servers of `standing`, by program."""
    servers: dict[Path, Server] = {}
    yield servers
    for server in servers.values():
        server.kill()


@pytest.fixture
def standing(
    program: Path, all_standing: dict[Path, Server], tmp_path_factory: pytest.TempPathFactory
) -> Server:
    """Return a running, empty server for tests that change nothing but what it holds."""
    if (server := all_standing.get(program)) is None:
        server = all_standing[program] = Server(program, tmp_path_factory.mktemp("standing"))
        server.start()
    server.command("FLUSHALL")
    server.command("SCRIPT", "FLUSH")
    return server


@pytest.fixture(scope="session")
def main_program() -> Path:
    """Return the server program that many servers are started from."""
    try:
        return find_program(server_names()[0])
    except NoServerError as error:
        missing(str(error))


@pytest.fixture(scope="session")
def whole_cluster(
    main_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ClusterGroup]:
    """Return a Cluster for all tests."""
    with ClusterGroup(main_program, tmp_path_factory.mktemp("cluster")) as group:
        yield group


@pytest.fixture
def cluster(whole_cluster: ClusterGroup) -> Iterator[ClusterGroup]:
    """Return an empty Cluster, which is put right again after the test."""
    whole_cluster.everywhere("FLUSHALL")
    yield whole_cluster
    whole_cluster.repair()


@pytest.fixture(scope="session")
def whole_sentinels(
    main_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SentinelGroup]:
    """Return a master with replicas and Sentinels for all tests."""
    with SentinelGroup(main_program, tmp_path_factory.mktemp("sentinels")) as group:
        yield group


@pytest.fixture
def sentinels(whole_sentinels: SentinelGroup) -> Iterator[SentinelGroup]:
    """Return an empty master with replicas and Sentinels, put right again after the test."""
    whole_sentinels.command("FLUSHALL")
    yield whole_sentinels
    whole_sentinels.repair()


@pytest_asyncio.fixture
async def proxy(redis: Server) -> AsyncIterator[Proxy]:
    """Return a proxy before the server."""
    async with Proxy(redis.port) as proxy:
        yield proxy


@pytest.fixture
def trouble(request: pytest.FixtureRequest) -> Trouble:
    """Return the trouble that the test is about."""
    kind: Callable[[], Trouble] = request.param
    return kind()


class OpenCache(Protocol):
    """Enters a cache over a URL, with a policy that leaves nothing to chance."""

    async def __call__(self, url: str | None = None, **options: Any) -> TierCache: ...


@pytest_asyncio.fixture
async def open_cache(redis: Server) -> AsyncIterator[OpenCache]:
    """Return a factory of caches, which are closed after the test and leave nothing behind."""
    async with _opening() as open_cache:
        yield open_cache
    if redis.answers:
        await eventually(lambda: redis.connections() == 0, "all connections are closed")


@pytest_asyncio.fixture
async def open_many() -> AsyncIterator[OpenCache]:
    """Return a factory of caches over several servers, closed after the test."""
    async with _opening() as open_cache:
        yield open_cache


@asynccontextmanager
async def _opening() -> AsyncGenerator[OpenCache]:
    opened: list[TierCache] = []

    async def open_cache(url: str | None = None, **options: Any) -> TierCache:
        settings: dict[str, Any] = {"namespace": NAMESPACE, "policy": POLICY} | options
        cache = TierCache(url, **settings)
        opened.append(cache)
        return await cache.__aenter__()

    yield open_cache

    async with asyncio.timeout(DEADLINE):
        for cache in opened:
            await settled(cache)
            await cache.aclose()
            assert not len(cache._core.flights)
    ours = [task for task in asyncio.all_tasks() if task.get_name().startswith("tiercache")]
    assert not ours


@pytest.fixture
def source() -> Source:
    """Return the source behind the caches."""
    return Source()
