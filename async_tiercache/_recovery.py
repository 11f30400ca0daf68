"""Recovery: repeats the invalidations that L2 has not confirmed until it does."""

import asyncio
import contextlib
from collections.abc import Callable
from secrets import token_bytes
from typing import Final

from async_tiercache._guard import Guard
from async_tiercache._ledger import Ledger
from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock, Invalidation, Remote
from async_tiercache.errors import TierError

PAUSE_SECONDS: Final = 0.1
BATCH: Final = 512
"""Keys that are told in one turn."""


class Recovery:
    """Runs while something is pending.

    Args:
        remote: The tier to be told, or `None` if there is none.
        guard: The guard around it.
        ledger: Holds what is pending.
        forget: Lets this process forget a record's keys.
        clock: Paces the attempts.
        tasks: Owns the task.
    """

    def __init__(
        self,
        *,
        remote: Remote | None,
        guard: Guard,
        ledger: Ledger,
        forget: Callable[[Invalidation], None],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._remote = remote
        self._guard = guard
        self._ledger = ledger
        self._forget = forget
        self._clock = clock
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Start repeating, if something is pending and nobody does."""
        if self._ledger.pending and (self._task is None or self._task.done()):
            self._task = self._tasks.start(self._repeat(), name="tiercache-recovery")

    async def stop(self) -> None:
        """Stop repeating; what is pending stays so."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def flush(self) -> None:
        """Tell L2 now what is pending; stop at the first sign that it does not answer."""
        if self._remote is None:
            return
        with contextlib.suppress(TierError):
            while keys := self._ledger.held(BATCH):
                record = Invalidation(token_bytes(16), keys)
                self._ledger.hold(record)
                await self._guard.call(self._remote.invalidate, record)
                self._forget(record)
                self._ledger.confirm(record)

    async def _repeat(self) -> None:
        while self._ledger.pending:
            await self._clock.sleep(PAUSE_SECONDS)
            await self.flush()
