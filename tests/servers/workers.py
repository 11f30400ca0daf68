"""Drives worker processes: orders go in, and the test waits for what they report."""

import asyncio
import itertools
import json
import signal
import sys
from pathlib import Path
from typing import Any, Self

from tests.servers.source import NAMESPACE
from tests.servers.waiting import DEADLINE

_ROOT = Path(__file__).parents[2]


class WorkerProcess:
    """One worker process.

    Args:
        url: Its Redis.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count()
        self._results: dict[int, asyncio.Future[Any]] = {}
        self._loading: asyncio.Queue[str] = asyncio.Queue()
        self._ready = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.servers.worker", self._url, NAMESPACE,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, cwd=_ROOT,
        )  # fmt: skip
        self._listening = asyncio.create_task(self._listen())
        async with asyncio.timeout(DEADLINE):
            await self._ready.wait()
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._process is not None
        assert self._listening is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self._listening

    @property
    def loads_begun(self) -> int:
        """How many loads have begun that the test has not waited for."""
        return self._loading.qsize()

    def order(self, do: str, **details: Any) -> asyncio.Future[Any]:
        """Give an order and return the future of its result."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._results[number] = result
        line = json.dumps({"id": number, "do": do} | details)
        self._process.stdin.write(line.encode() + b"\n")
        return result

    async def done(self, do: str, **details: Any) -> Any:
        """Give an order and return its result."""
        return await within(self.order(do, **details))

    async def loading(self) -> str:
        """Return the key of the next load that begins."""
        async with asyncio.timeout(DEADLINE):
            return await self._loading.get()

    def kill(self) -> None:
        """End it at once, by SIGKILL."""
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        """Let it hang, by SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on, by SIGCONT."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    async def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            report = json.loads(line)
            if "ready" in report:
                self._ready.set()
            elif "loading" in report:
                self._loading.put_nowait(report["loading"])
            else:
                result = self._results.pop(report["id"])
                if "error" in report:
                    result.set_exception(AssertionError(report["error"]))
                else:
                    result.set_result(report["result"])


async def within(result: asyncio.Future[Any]) -> Any:
    """Return a result, which must come within the deadline."""
    async with asyncio.timeout(DEADLINE):
        return await result
