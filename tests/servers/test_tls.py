"""TLS: the authority, the client's certificate and the name are checked, for every topology."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import pytest_asyncio

from async_tiercache import TierCache
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.backends.redis import RedisRemote, remote
from async_tiercache.errors import TierError
from tests.needs import missing
from tests.servers.process import NoServerError, Server, find_program, free_port
from tests.servers.source import NAMESPACE, POLICY
from tests.servers.tls import Certificates, TlsProxy
from tests.servers.topologies import SERVICE, ready
from tests.servers.waiting import DEADLINE

pytestmark = pytest.mark.redis


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give handshakes seconds: on a busy machine a refused one takes longer than a turn may."""
    monkeypatch.setattr(remote, "OPERATION_LIMIT", 5.0)


class Secured(NamedTuple):
    """A URL, and the server that is met first by it."""

    url: str
    server: Server


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Return certificates."""
    return Certificates.make(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def debian() -> Path:
    """Return a server program that speaks TLS."""
    try:
        return find_program("redis-server")
    except NoServerError as error:
        missing(str(error))


@pytest_asyncio.fixture
async def proxied(redis: Server, certificates: Certificates) -> AsyncIterator[str]:
    """Return the URL of a server behind a proxy that ends TLS."""
    async with TlsProxy(redis.port, certificates.server, certificates.authority) as proxy:
        yield f"rediss://127.0.0.1:{proxy.port}/0"


@pytest.fixture
def single(debian: Path, certificates: Certificates, tmp_path: Path) -> Iterator[Secured]:
    """Return a server that speaks TLS itself."""
    server, port = Server(debian, tmp_path), free_port()
    server.start("--tls-port", str(port), *certificates.server_options())
    yield Secured(f"rediss://127.0.0.1:{port}/0", server)
    server.kill()


@pytest.fixture
def cluster_of_one(debian: Path, certificates: Certificates, tmp_path: Path) -> Iterator[Secured]:
    """Return a Cluster of one node that speaks TLS."""
    server, port = Server(debian, tmp_path), free_port()
    options = certificates.server_options()
    server.start(
        "--cluster-enabled", "yes", "--tls-cluster", "yes", "--tls-port", str(port), *options
    )
    server.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    ready(lambda: b"cluster_state:ok" in server.command("CLUSTER", "INFO"), "it serves")
    yield Secured(f"rediss+cluster://127.0.0.1:{port}", server)
    server.kill()


@pytest.fixture
def watched(debian: Path, certificates: Certificates, tmp_path: Path) -> Iterator[Secured]:
    """Return the Sentinel of a master, both of which speak TLS."""
    settings = tmp_path / "sentinel.conf"
    settings.touch()
    options = certificates.server_options()
    server, sentinel = (
        Server(debian, tmp_path),
        Server(debian, tmp_path, str(settings), "--sentinel"),
    )
    ports = free_port(), free_port()
    server.start("--tls-port", str(ports[0]), *options)
    sentinel.start("--tls-port", str(ports[1]), "--tls-replication", "yes", *options)
    sentinel.command("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", ports[0], 1)
    yield Secured(f"rediss+sentinel://127.0.0.1:{ports[1]}/{SERVICE}", sentinel)
    sentinel.kill()
    server.kill()


async def test_the_way_to_a_proxy_is_secured(proxied: str, certificates: Certificates) -> None:
    """By both certificates; without them nothing is sent, and the reason is told."""
    await _check(proxied, certificates)


@pytest.mark.parametrize("server", ["single", "cluster_of_one", "watched"])
async def test_the_way_to_a_server_is_secured(
    request: pytest.FixtureRequest, certificates: Certificates, server: str
) -> None:
    """The same, with servers that speak TLS themselves."""
    secured: Secured = request.getfixturevalue(server)
    await _check(secured.url, certificates)


@pytest.mark.parametrize("server", ["single", "cluster_of_one", "watched"])
def test_a_close_waits_for_no_farewell_over_tls(
    request: pytest.FixtureRequest, certificates: Certificates, server: str
) -> None:
    """A server or Sentinel that hangs would owe it for half a minute; no connection is left."""
    secured: Secured = request.getfixturevalue(server)
    cache = TierCache(
        f"{secured.url}?{certificates.query()}", namespace=NAMESPACE, policy=POLICY, l1=None
    )

    async def use() -> None:
        async with asyncio.timeout(2 * DEADLINE), cache:
            while not cache._core.bus.alive:
                await cache.set("k", 1)
            secured.server.stop()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(use())
        gc.collect()
    secured.server.cont()

    assert [str(each.message) for each in caught if each.category is ResourceWarning] == []


async def test_a_certificate_of_another_server_is_refused(
    redis: Server, certificates: Certificates
) -> None:
    """Whatever redis-py's default is; unless the URL says otherwise."""
    async with TlsProxy(redis.port, certificates.elsewhere, certificates.authority) as proxy:
        url = f"rediss://127.0.0.1:{proxy.port}/0?{certificates.query()}"

        with pytest.raises(TierError, match=r"(?i)certificate[ _]verify[ _]failed"):
            await _use(url)
        await _use(f"{url}&ssl_check_hostname=false")


async def _check(url: str, certificates: Certificates) -> None:
    await _use(f"{url}?{certificates.query()}")
    with pytest.raises(TierError, match="out of reach"):
        await _use(f"{url}?{certificates.query(client=False)}")
    with pytest.raises(TierError, match=r"(?i)certificate[ _]verify[ _]failed"):
        await _use(url)


async def _use(url: str) -> None:
    """Let a remote write and read."""
    remote = RedisRemote(url, namespace="test", clock=SYSTEM_CLOCK)
    lease = b"L" + b"a" * 16
    try:
        await remote.probe()
        assert await remote.take("k", lease, 10) is None
        assert (await remote.get_many(["k", "none"])).contents == [lease, None]
        await remote.release("k", lease)
    finally:
        await remote.aclose()
