"""A private temporary folder together with the processes that must not outlive it.

Cleaning up has one home: the watchdog in `_watchdog`, a process of its own. Closing the sandbox,
an exception, Ctrl-C, SIGTERM and SIGKILL all end in the same way: its pipe closes.
"""

import asyncio
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

from async_tiercache_integrations.cli.demo import _watchdog

# A Unix socket's path has room for 107 bytes; this leaves enough for ours below the folder.
_LONGEST_PARENT = 60


class Sandbox:
    """Owns a folder and child processes; use it as an async context manager.

    Attributes:
        path: The folder, removed at the end with all that is in it.
    """

    path: Path
    _watchdog: asyncio.subprocess.Process

    async def __aenter__(self) -> Self:
        self.path = _private_folder()
        try:
            self._watchdog = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", _watchdog.__file__, str(self.path),
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,
            )  # fmt: skip
        except BaseException:
            self.path.rmdir()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.shield(asyncio.ensure_future(self._close()))

    async def _close(self) -> None:
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.close()
        await self._watchdog.wait()

    def folder(self, name: str) -> Path:
        """Return a sub-folder that only we can enter, made when it is missing."""
        path = self.path / name
        path.mkdir(mode=0o700, exist_ok=True)
        return path

    async def spawn(
        self, *argv: str, stop_signal: int = signal.SIGKILL, **options: Any
    ) -> asyncio.subprocess.Process:
        """Start a process in a session of its own, so that Ctrl-C reaches only us.

        Args:
            argv: The program and its arguments.
            stop_signal: What ends it quickly and without leavings.
            options: More for `asyncio.create_subprocess_exec`.
        """
        options.setdefault("stdin", asyncio.subprocess.DEVNULL)
        process = await asyncio.create_subprocess_exec(*argv, start_new_session=True, **options)
        self._tell(f"+{process.pid} {int(stop_signal)}")
        return process

    async def stop(self, process: asyncio.subprocess.Process, number: int = signal.SIGKILL) -> None:
        """Send a signal to a process that we started, and wait for its end."""
        if process.returncode is None:
            process.send_signal(number)
        await process.wait()
        self._tell(f"-{process.pid}")

    def _tell(self, line: str) -> None:
        # Unbuffered to the kernel: a small write goes out at once, so SIGKILL cannot lose it.
        assert self._watchdog.stdin is not None
        self._watchdog.stdin.write(f"{line}\n".encode())


def _private_folder() -> Path:
    parent = tempfile.gettempdir()
    if len(parent) > _LONGEST_PARENT:
        parent = "/tmp"  # noqa: S108 - mkdtemp makes a private folder wherever it is
    return Path(tempfile.mkdtemp(prefix="tiercache-demo-", dir=parent))
