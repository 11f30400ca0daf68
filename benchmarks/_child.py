"""A process of ours that takes orders: one JSON line in for each, one JSON line out when done."""

import asyncio
import itertools
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

from async_tiercache_integrations.cli.demo._sandbox import Sandbox

Handler: TypeAlias = Callable[..., Awaitable[Any]]
"""Carries out an order; its keywords are the order's details, its result goes back as JSON."""

_ROOT: Final = Path(__file__).parents[1]
_LINE_LIMIT: Final = 2**24


class ChildError(Exception):
    """An order failed in the child, or the child ended before it was done."""


class Child:
    """The parent's end of a process that takes orders.

    Args:
        sandbox: What ends the process whatever happens to us.
        module: Its module, run with ``python -m``; it calls `serve`.
        arguments: Its command line.
    """

    def __init__(self, sandbox: Sandbox, module: str, *arguments: str) -> None:
        self._sandbox = sandbox
        # Without the working folder in front: what is measured is what we ourselves would import.
        self._command = (sys.executable, "-P", "-m", module, *arguments)
        self._numbers = itertools.count()
        self._results: dict[int, asyncio.Future[Any]] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._listening: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the process; its first order may be given at once."""
        paths = [os.environ.get("PYTHONPATH", ""), str(_ROOT), str(_ROOT / "integrations")]
        self._process = await self._sandbox.spawn(
            *self._command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            cwd=_ROOT,
            limit=_LINE_LIMIT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        self._listening = asyncio.create_task(self._listen(self._process), name="bench: child")

    async def order(self, do: str, **details: Any) -> Any:
        """Give an order and return its result.

        Raises:
            ChildError: It failed, or the process has ended.
        """
        assert self._process is not None
        assert self._process.stdin is not None
        if self._process.returncode is not None:
            raise ChildError(f"{do}: the process has ended with {self._process.returncode}")
        number = next(self._numbers)
        self._results[number] = result = asyncio.get_running_loop().create_future()
        line = json.dumps({"id": number, "do": do, "details": details})
        self._process.stdin.write(line.encode() + b"\n")
        return await result

    def send(self, number: signal.Signals) -> None:
        """Send a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    async def kill(self) -> None:
        """End it at once, by SIGKILL; what it was doing fails with `ChildError`."""
        if self._process is None:
            return
        await self._sandbox.stop(self._process)
        assert self._listening is not None
        await self._listening

    async def _listen(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            report = json.loads(line)
            result = self._results.pop(report["id"])
            if result.done():
                continue
            if "error" in report:
                result.set_exception(ChildError(report["error"]))
            else:
                result.set_result(report["result"])
        for result in self._results.values():
            if not result.done():
                result.set_exception(ChildError("the process has ended"))
                result.exception()  # nobody may be waiting any more
        self._results.clear()


async def serve(handlers: Mapping[str, Handler]) -> None:
    """Carry out what standard input orders, side by side, until it ends."""
    orders = asyncio.StreamReader(limit=_LINE_LIMIT)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with asyncio.TaskGroup() as group:
        async for line in orders:
            group.create_task(_carry_out(handlers, json.loads(line)))


async def _carry_out(handlers: Mapping[str, Handler], order: dict[str, Any]) -> None:
    try:
        answer = {"result": await handlers[order["do"]](**order["details"])}
    except Exception as error:  # noqa: BLE001 - the parent is told
        answer = {"error": f"{order['do']}: {error!r}"}
    _write_all(json.dumps({"id": order["id"], **answer}).encode() + b"\n")


def _write_all(line: bytes) -> None:
    while line:
        line = line[os.write(1, line) :]
