"""A server of HTTP as a process of its own, on a free port of loopback."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.servers.process import free_port, leashed
from tests.servers.waiting import until

_ROOT: Final = Path(__file__).parents[2]
_APP: Final = "tests.frameworks.served:app"
_UVICORN: Final = ("uvicorn", "--ws", "wsproto", "--lifespan", "on", "--port", "{port}")
KINDS: Final = {
    "uvicorn-h11": (*_UVICORN, "--http", "h11"),
    "uvicorn-httptools": (*_UVICORN, "--http", "httptools"),
    "hypercorn": ("hypercorn", "--workers", "0", "--bind", "127.0.0.1:{port}"),
    "granian": ("granian", "--interface", "asgi", "--port", "{port}"),
}
"""The servers, and how each is told where to listen."""


class Service:
    """One server, with all its processes.

    Args:
        kind: One of `KINDS`.
        url: Its Redis.
        namespace: That of its cache.
        folder: Where its log is.
    """

    def __init__(self, kind: str, url: str, namespace: str, folder: Path) -> None:
        self.port = free_port()
        self.kind = kind
        self._log = folder / f"{self.port}.log"
        told = {"TESTS_URL": url, "TESTS_NAMESPACE": namespace}
        words = [word.format(port=self.port) for word in KINDS[kind]]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                leashed(sys.executable, "-m", *words, _APP),
                cwd=_ROOT,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), **told},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<Service {self.kind} on {self.port}>"

    def wait(self) -> None:
        """Return once it listens."""
        until(self._listens, f"{self} listens: {self._log}")

    def kill(self) -> None:
        """End all its processes at once, by SIGKILL."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _listens(self) -> bool:
        assert self._process.poll() is None, self._log.read_text("utf-8")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False
