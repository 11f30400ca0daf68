"""The application processes, as the demo holds them: started, told what to do, and listened to."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from async_tiercache.errors import TierCacheError
from async_tiercache_integrations.cli.demo import _worker
from async_tiercache_integrations.cli.demo._measure import Stampede, Tally
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._worker import Setting

# One line holds a whole tally; the default limit of asyncio is 64 KiB.
_LONGEST_LINE: Final = 2**22

# All processes have read the command long before; then all readers start at one instant.
_LEAD: Final = 0.3

# So long may a process take to close before it is killed; all close at the same time.
_PATIENCE: Final = 1.0


class ProcessDiedError(TierCacheError):
    """An application process ended before its time; the hint has its last words."""


class _Process:
    """One application process and the task that listens to it."""

    def __init__(self, sandbox: Sandbox, child: asyncio.subprocess.Process, log: Path) -> None:
        self._sandbox = sandbox
        self.child = child
        self.tally = Tally()
        self._log = log
        self._replies: asyncio.Queue[Any] = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen(), name=f"listen-{child.pid}")

    def tell(self, **command: Any) -> None:
        assert self.child.stdin is not None
        self.child.stdin.write(f"{json.dumps(command)}\n".encode())

    async def reply(self) -> Any:
        reply = await self._replies.get()
        if isinstance(reply, ProcessDiedError):
            raise reply
        return reply

    async def _listen(self) -> None:
        assert self.child.stdout is not None
        while line := await self.child.stdout.readline():
            message = json.loads(line)
            if "tally" in message:
                self.tally.merge(Tally.from_json(message["tally"]))
            else:
                self._replies.put_nowait(message["reply"])
        words = self._log.read_text(errors="replace").strip()[-1500:]
        self._replies.put_nowait(ProcessDiedError("An application process ended", hint=words))

    async def aclose(self) -> None:
        """Let it close its cache and its sessions, and end it when that takes long."""
        assert self.child.stdin is not None
        self.child.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.child.wait(), _PATIENCE)
        await self._sandbox.stop(self.child)
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)


class Fleet:
    """All application processes of one deployment of the shop."""

    def __init__(
        self, sandbox: Sandbox, settings: Sequence[Setting], environment: Mapping[str, str]
    ) -> None:
        self._sandbox = sandbox
        self._settings = settings
        # The children import exactly what we import, installed or not.
        path = os.pathsep.join(filter(None, sys.path))
        self._environment = {**os.environ, "PYTHONPATH": path, **environment}
        self._processes: list[_Process] = []

    async def __aenter__(self) -> Self:
        try:
            for setting in self._settings:
                self._processes.append(await self._spawn(setting))
            await self._replies()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def start(self, users: int) -> None:
        """Let so many users per process come in, with fresh tallies."""
        for process in self._processes:
            process.tally = Tally()
            process.tell(do="start", users=users)

    async def stop(self) -> None:
        """Let all users leave; afterwards the tally is complete."""
        for process in self._processes:
            process.tell(do="stop")
        await self._replies()

    def tally(self) -> Tally:
        """Return what all users saw since `start`, up to the last tick."""
        total = Tally()
        for process in self._processes:
            total.merge(process.tally)
        return total

    async def stampede(self, readers: int, region: int) -> tuple[Stampede, Tally]:
        """Let readers of all processes ask for one cold report; the loads are not yet filled in."""
        starts_at = time.monotonic() + _LEAD
        count = len(self._processes)
        for number, process in enumerate(self._processes):
            share = readers // count + (number < readers % count)
            process.tell(do="stampede", readers=share, region=region, at=starts_at)
        tally, last = Tally(), 0.0
        for reply in await self._replies():
            tally.merge(Tally.from_json(reply["tally"]))
            last = max(last, reply["seconds"])
        return Stampede(readers=readers, loads=0, seconds=last, errors=tally.failed), tally

    async def _spawn(self, setting: Setting) -> _Process:
        log = self._sandbox.path / f"application-{setting.number}.log"
        with log.open("ab") as errors:
            child = await self._sandbox.spawn(
                sys.executable, "-P", "-m", _worker.__name__, setting.as_json(),
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_LONGEST_LINE,
            )  # fmt: skip
        return _Process(self._sandbox, child, log)

    async def _replies(self) -> list[Any]:
        return [await process.reply() for process in self._processes]

    async def _close(self) -> None:
        await asyncio.gather(*(process.aclose() for process in self._processes))
