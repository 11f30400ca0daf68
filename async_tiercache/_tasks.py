"""Background tasks with an owner: named, kept alive, awaited on close."""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

R = TypeVar("R")


async def end_of(task: "asyncio.Task[R]") -> R | None:
    """Return what a task returns, `None` if it was cancelled, as by a close.

    It goes on if the caller is cancelled; the one is not cancelled with the other.
    """
    await asyncio.wait([task])
    return None if task.cancelled() else task.result()


class Tasks:
    """The background tasks of one cache.

    Attributes:
        closing: Whether all of them were cancelled, so that none shall be followed by another.
    """

    __slots__ = ("_running", "closing")

    def __init__(self) -> None:
        self.closing = False
        self._running: set[asyncio.Task[Any]] = set()

    def __len__(self) -> int:
        return len(self._running)

    def start(self, work: Coroutine[Any, Any, R], *, name: str) -> asyncio.Task[R]:
        """Run `work` as a task of its own, in a copy of the current context.

        It begins after its caller has gone on, also on a loop whose task factory begins at once.
        """
        task = asyncio.Task(work, loop=asyncio.get_running_loop(), name=name)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    def forget(self) -> None:
        """Drop tasks that belong to a loop that is gone."""
        self._running.clear()

    async def settle(self) -> None:
        """Return when nothing runs any more, whatever the tasks end with."""
        while self._running:
            await asyncio.wait(self._running)

    async def cancel(self) -> None:
        """Cancel what runs and return when it has ended."""
        self.closing = True
        for task in self._running:
            task.cancel()
        await self.settle()

    async def finish(self, seconds: float = 1.0) -> None:
        """Give what runs, and what follows it, some time to end; then cancel the rest."""
        if self._running:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self.settle()
            await self.cancel()
