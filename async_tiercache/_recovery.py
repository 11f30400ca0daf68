"""Recovery: repeats the invalidations that L2 has not confirmed until it does."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace
from secrets import token_bytes
from typing import Final

from async_tiercache._events import Invalidated
from async_tiercache._guard import Guard
from async_tiercache._ledger import Ledger, Pattern
from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock, Invalidation, Observer, Remote
from async_tiercache.errors import TierError, TierPartError, TierRefusedError

PAUSE_SECONDS: Final = 0.1
BATCH: Final = 512
"""Keys that are told in one turn."""
QUARANTINE_SECONDS: Final = 0.4
"""For how long a server that was replaced is not believed, so that all may repeat what it lost."""
ECHO_SECONDS: Final = 5.0
"""For how long a repeated record is known as this process's own."""
MAX_DOUBTS: Final = 100_000
"""With more keys pending than this, loads around L2 are no longer remembered."""

_log = logging.getLogger("async_tiercache")


class Recovery:
    """Runs while something is pending.

    Attributes:
        sweep: Carries out a pending pattern.

    Args:
        remote: The tier to be told, or `None` if there is none.
        guard: The guard around it.
        ledger: Holds what is pending.
        forget: Lets this process forget a record's keys.
        clock: Paces the attempts.
        tasks: Owns the task.
        notify: Is told what has been confirmed.
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
        notify: Observer,
    ) -> None:
        self._remote = remote
        self._guard = guard
        self._ledger = ledger
        self._forget = forget
        self._clock = clock
        self._tasks = tasks
        self._notify = notify
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self.sweep: Callable[[Pattern], Awaitable[None]] | None = None

    def wake(self) -> None:
        """Start repeating, if something is pending and nobody does."""
        if self._remote is None or not self._owing:
            return
        if self._stopped:
            # What changes the source may end after the close; it has been changed all the same.
            count = self._ledger.pending
            _log.warning("Ended after the close: L2 is not told to remove %d keys any more", count)
        elif self._task is None or self._task.done():
            work = self._repeat(self._remote)
            self._task = self._tasks.start(work, name="tiercache-recovery")

    @property
    def _owing(self) -> bool:
        """Whether there is something to repeat; a pattern that is under way is not."""
        return bool(self._ledger.names or self._ledger.owed)

    def restart(self) -> None:
        """Start repeating on another loop than before."""
        self._task = None
        self._ledger.abandon_blocks()
        self.wake()

    async def stop(self) -> None:
        """Stop repeating for good; what is pending stays so."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def replay(self) -> None:
        """Repeat what a server that was replaced may have lost, and do not believe it before.

        The other processes do the same, within the quarantine.
        """
        now = self._clock.monotonic()
        self._ledger.quarantine_deadline = now + QUARANTINE_SECONDS
        for record in self._ledger.recent(now):
            self._ledger.hold(replace(record, id=token_bytes(16)))
        self.wake()

    def doubt(self, key: str) -> None:
        """Remove what L2 holds for a key as soon as it answers again.

        This process has shown a value that was loaded around L2; what L2 holds may be older.
        """
        if self._remote is None or self._ledger.pending >= MAX_DOUBTS:
            return
        if self._ledger.doubt(key, token_bytes(16)) and not self._stopped:
            self.wake()

    async def flush(self) -> None:
        """Tell L2 what is pending, whatever the breaker says; stop if it does not answer."""
        if self._remote is not None:
            with contextlib.suppress(TierError):
                await self._tell(self._remote.invalidate)

    async def _tell(self, tell: Callable[[Invalidation], Awaitable[None]]) -> None:
        stuck: set[tuple[str, str]] = set()
        while self._ledger.names > len(stuck):
            record, known = self._ledger.batch(token_bytes(16), BATCH)
            self._ledger.remember(record, self._clock.monotonic(), ECHO_SECONDS)
            try:
                await tell(record)
            except TierPartError as error:
                self._ledger.postpone(error.keys, error.tags)
                stuck.update(("key", key) for key in error.keys)
                stuck.update(("tag", tag) for tag in error.tags)
                record = record.without(error.keys, error.tags)
                known = known.without(error.keys, error.tags)
            self._forget(known)
            self._ledger.confirm(record)
            if known:
                self._notify(Invalidated(known.keys, "done", known.tags))

    async def _repeat(self, remote: Remote) -> None:
        async def guarded(record: Invalidation) -> None:
            await self._guard.call(remote.invalidate, record)

        while self._owing:
            await self._clock.sleep(PAUSE_SECONDS)
            with contextlib.suppress(TierError):
                await self._tell(guarded)
                sweep = self.sweep
                for pattern in self._ledger.owed if sweep is not None else ():
                    assert sweep is not None
                    # One that is refused time and again must not hold up the others.
                    with contextlib.suppress(TierPartError, TierRefusedError):
                        await self._guard.call(sweep, pattern)
