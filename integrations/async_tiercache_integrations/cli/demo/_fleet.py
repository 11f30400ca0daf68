"""The application processes, as the demo holds them: started, told what to do, and listened to."""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from async_tiercache.errors import TierCacheError
from async_tiercache_integrations.cli.demo._measure import Stampede, Tally
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._setting import Setting

_PACKAGE: Final = "async_tiercache_integrations.cli.demo"

# One line holds a whole tally; the default limit of asyncio is 64 KiB.
_LONGEST_LINE: Final = 2**22

# All processes have read the command long before; then all readers start at one instant.
_LEAD: Final = 0.3

# So long may a process take to close before it is killed; all close at the same time.
_PATIENCE: Final = 1.0


class ProcessDiedError(TierCacheError):
    """An application process ended before its time; the hint has its last words."""


@dataclass(frozen=True, slots=True)
class _Reply:
    """What a process counted since its last reply.

    Attributes:
        tally: The counts.
        seconds: How long its part of a stampede took.
        port: Where it listens; told by the first reply, 0 if it does not.
    """

    tally: Tally
    seconds: float
    port: int


class _Process:
    """One application process: commands go in, and each is answered in turn."""

    def __init__(self, sandbox: Sandbox, child: asyncio.subprocess.Process, log: Path) -> None:
        self._sandbox = sandbox
        self._child = child
        self._log = log

    def tell(self, **command: Any) -> None:
        assert self._child.stdin is not None
        self._child.stdin.write(f"{json.dumps(command)}\n".encode())

    async def reply(self) -> _Reply:
        assert self._child.stdout is not None
        line = await self._child.stdout.readline()
        if not line:
            words = self._log.read_text(errors="replace").strip()[-1500:]
            raise ProcessDiedError("An application process ended", hint=words)
        message = json.loads(line)
        return _Reply(Tally.from_json(message["tally"]), message["seconds"], message["port"])

    async def aclose(self) -> None:
        """Let it close its cache and its sessions, and end it when that takes long."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._child.wait(), _PATIENCE)
        await self._sandbox.stop(self._child)


class Fleet:
    """All application processes of one deployment of the shop.

    Args:
        sandbox: Whose processes they are.
        settings: One for each.
        environment: What tells them of the cache.
        module: Which module of this package they run.

    Attributes:
        ports: Where they listen, if they do.
    """

    ports: tuple[int, ...]

    def __init__(
        self,
        sandbox: Sandbox,
        settings: Sequence[Setting],
        environment: Mapping[str, str],
        module: str = "_worker",
    ) -> None:
        self._sandbox = sandbox
        self._settings = settings
        self._module = f"{_PACKAGE}.{module}"
        # The children import exactly what we import, installed or not.
        path = os.pathsep.join(filter(None, sys.path))
        self._environment = {**os.environ, "PYTHONPATH": path, **environment}
        self._processes: list[_Process] = []

    async def __aenter__(self) -> Self:
        try:
            for setting in self._settings:
                self._processes.append(await self._spawn(setting))
            self.ports = tuple(reply.port for reply in await self._replies())
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._close()

    async def start(self, users: int) -> None:
        """Let so many users per process come in; what was counted before is forgotten."""
        await self._ask(do="start", users=users)

    async def tally(self) -> Tally:
        """Return what all users saw since the last call."""
        return _total(await self._ask(do="tally"))

    async def stop(self) -> Tally:
        """Let all users leave; return what they saw since the last call."""
        return _total(await self._ask(do="stop"))

    async def stampede(self, readers: int, region: int) -> tuple[Stampede, Tally]:
        """Let readers of all processes ask for one cold report; the loads are not yet filled in."""
        starts_at = time.monotonic() + _LEAD
        count = len(self._processes)
        for number, process in enumerate(self._processes):
            share = readers // count + (number < readers % count)
            process.tell(do="stampede", readers=share, region=region, at=starts_at)
        replies = await self._replies()
        tally, seconds = _total(replies), max(reply.seconds for reply in replies)
        return Stampede(readers=readers, loads=0, seconds=seconds, errors=tally.failed), tally

    async def _spawn(self, setting: Setting) -> _Process:
        log = self._sandbox.path / f"application-{setting.number}.log"
        with log.open("ab") as errors:
            child = await self._sandbox.spawn(
                sys.executable, "-P", "-m", self._module, setting.as_json(),
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                limit=_LONGEST_LINE,
            )  # fmt: skip
        return _Process(self._sandbox, child, log)

    async def _ask(self, **command: Any) -> list[_Reply]:
        for process in self._processes:
            process.tell(**command)
        return await self._replies()

    async def _replies(self) -> list[_Reply]:
        return [await process.reply() for process in self._processes]

    async def _close(self) -> None:
        await asyncio.gather(*(process.aclose() for process in self._processes))


def _total(replies: Sequence[_Reply]) -> Tally:
    total = Tally()
    for reply in replies:
        total.merge(reply.tally)
    return total
