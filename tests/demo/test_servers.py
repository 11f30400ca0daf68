"""The demo's own servers start for any user, die, come back, and leave nothing behind."""

import asyncio
import os
import pwd
from collections.abc import Iterator

import pytest

from async_tiercache_integrations.cli.demo import _database, _servers
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._servers import Postgres, ServerError, Valkey


async def ask(port: int, command: str) -> str:
    """Send one command to a Redis and return the first line of its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{command}\r\n".encode())
        return (await reader.readline()).decode().strip()
    finally:
        writer.close()
        await writer.wait_closed()


def users() -> list[str]:
    return [entry.pw_name for entry in pwd.getpwall()]


@pytest.mark.redis
async def test_killed_valkey_refuses_and_comes_back_empty_on_its_port(valkey: Valkey) -> None:
    """A restart after SIGKILL is a new, empty server at the same address."""
    await valkey.start()
    port = valkey.port
    assert await ask(port, "SET key value") == "+OK"

    await valkey.kill()
    with pytest.raises(OSError, match="Connect call failed"):
        await ask(port, "PING")
    await valkey.start()

    assert valkey.port == port
    assert await ask(port, "EXISTS key") == ":0"


@pytest.mark.postgres
async def test_postgres_starts_and_leaves_no_user_and_no_file(postgres: Postgres) -> None:
    """It runs for root and for others, on a socket in a folder that goes with the sandbox."""
    before, mode = users(), postgres._sandbox.path.parent.stat().st_mode

    await postgres.start()
    async with _database.connect(postgres.url("postgres")) as session:
        folder = await session.fetchval("SHOW data_directory")
    await postgres.stop()

    assert folder == str(postgres._sandbox.path / "postgres" / "data")
    assert users() == before
    assert postgres._sandbox.path.parent.stat().st_mode == mode


@pytest.mark.postgres
@pytest.mark.skipif(os.geteuid() != 0, reason="only root has more than one way to run it")
@pytest.mark.parametrize("skipped", [0, 1, 2], ids=["namespace", "nobody", "copied programs"])
async def test_root_has_three_ways_to_run_postgres(
    postgres: Postgres, skipped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where user namespaces are off, or nobody cannot read the programs, the next way is taken."""
    places = [postgres._programs, *postgres._programs.parents]
    if skipped == 1 and not all(place.stat().st_mode & 0o001 for place in places):
        pytest.skip("the programs lie where nobody may not look; the third way is for that")
    accounts = list(_servers._accounts())[skipped:]
    monkeypatch.setattr(_servers, "_accounts", lambda: iter(accounts[:1]))

    await postgres.start()

    async with _database.connect(postgres.url("postgres")) as session:
        assert await session.fetchval("SELECT 1") == 1


@pytest.mark.postgres
async def test_a_way_that_fails_is_followed_by_the_next(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A way of running PostgreSQL that does not work here is not the end."""
    works = list(_servers._accounts())

    def accounts() -> Iterator[_servers._Account]:
        yield _servers._Account("a program that is not there", prefix=("/nonexistent",))
        yield from works

    monkeypatch.setattr(_servers, "_accounts", accounts)

    await postgres.start()

    async with _database.connect(postgres.url("postgres")) as session:
        assert await session.fetchval("SELECT 1") == 1


@pytest.mark.postgres
async def test_postgres_that_cannot_start_says_why(
    postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names each way that was tried, and what to do instead."""
    nowhere = _servers._Account("a program that is not there", prefix=("/nonexistent",))
    monkeypatch.setattr(_servers, "_accounts", lambda: iter([nowhere]))

    with pytest.raises(ServerError, match=r"--database-url[^$]*a program that is not there"):
        await postgres.start()


@pytest.mark.redis
@pytest.mark.postgres
async def test_servers_end_with_their_sandbox() -> None:
    """Leaving the sandbox ends both servers and removes all their files."""
    async with Sandbox() as sandbox:
        valkey, postgres = Valkey(sandbox), Postgres(sandbox)
        await valkey.start()
        await postgres.start()

    for server in (valkey, postgres):
        assert server._process is not None
        await server._process.wait()
    assert not sandbox.path.exists()
