"""The bus, as this process hears it: what others invalidate, and the proof that all was heard.

The remote tier tells a `Listener`; this is ours. It is a task of its own that is started again
whatever ends it, and L1 is served only as long as the latest proof is good.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from async_tiercache._ledger import Ledger
from async_tiercache._statistics import LAG_BUCKETS, Tally
from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock, Invalidation, Remote
from async_tiercache.errors import TierError, TierRefusedError

RESTART_SECONDS: Final = 0.1
"""How long a task that should never have ended stays away."""

_log = logging.getLogger("async_tiercache")


class Bus:
    """Hears what other servers invalidate, as `abc.Listener`.

    Args:
        remote: The tier that tells, or `None` if there is none.
        bound: For how long a proof is good, in seconds.
        ledger: Holds the proof.
        forget: Lets this process forget what a record names.
        replay: Repeats what a server that was replaced may have lost.
        clock: The clock of this process.
        tasks: Owns the task that listens.

    Attributes:
        lags: How long messages of other servers took, in seconds.
        gaps: How often messages may have been missed.
    """

    def __init__(
        self,
        remote: Remote | None,
        *,
        bound: float,
        ledger: Ledger,
        forget: Callable[[Invalidation], None],
        replay: Callable[[], None],
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._remote = remote
        self._bound = bound
        self._ledger = ledger
        self._forget = forget
        self._replay = replay
        self._clock = clock
        self._tasks = tasks
        self._proven = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._waiting: dict[str, set[asyncio.Future[None]]] = {}
        self.lags = Tally(LAG_BUCKETS)
        self.gaps = 0

    @property
    def alive(self) -> bool:
        """Whether messages are known to arrive."""
        return self._task is not None and self._clock.monotonic() < self._ledger.proof_deadline

    def start(self) -> None:
        """Listen from now on."""
        if self._remote is not None:
            self._ledger.join_seconds = self._bound
            self._task = self._tasks.start(self._listen(self._remote), name="tiercache-bus")

    def restart(self) -> None:
        """Listen on another loop than before, if there was one."""
        self._proven = asyncio.Event()
        self._waiting.clear()
        if self._task is not None:
            self._ledger.lapse()
            self.start()

    async def first_proof(self, seconds: float) -> None:
        """Return when L1 may be served, or after some seconds."""
        # By the loop's time: nobody turns a test's clock while it waits for this.
        waiting = self._tasks.start(self._proven.wait(), name="tiercache-first-proof")
        await asyncio.wait([waiting], timeout=seconds)
        waiting.cancel()

    async def stop(self) -> None:
        """Listen no more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def woken(self, key: str, lease: bytes, seconds: float) -> bool:
        """Return when another process's load has ended, its lease has, or after some seconds.

        Args:
            key: The key's text.
            lease: The lease of that load.
            seconds: How long to wait at most.

        Returns:
            False if the tier refuses to tell of it; then this has not waited.
        """
        assert self._remote is not None
        wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting = self._waiting.setdefault(key, set())
        waiting.add(wake)
        limit: asyncio.Task[None] | None = None
        try:
            held = await self._remote.await_fill(key, lease)
            if held == lease:
                limit = self._tasks.start(self._clock.sleep(seconds), name="tiercache-wake")
                await asyncio.wait([wake, limit], return_when=asyncio.FIRST_COMPLETED)
        except TierRefusedError:
            # It serves all the same: one that is full refuses this, and answers reads.
            return False
        except TierError:
            # Who asks for the key next learns what is the matter.
            return True
        else:
            return True
        finally:
            wake.cancel()
            if limit is not None:
                limit.cancel()
            waiting.discard(wake)
            if not waiting and self._waiting.get(key) is waiting:
                del self._waiting[key]

    def wake_all(self) -> None:
        """Let all go on who wait for loads of other processes: nobody may tell them any more."""
        for key in list(self._waiting):
            self.wake(key)

    # What the remote tier tells.

    def apply(self, record: Invalidation) -> None:
        """Forget what another server has invalidated."""
        if self._ledger.is_own(record.id):
            return
        self._forget(record)
        for key in record.keys if self._waiting else ():
            # The lease that is waited for has gone.
            self.wake(key)
        if record.at and self._remote is not None:
            self.lags.add(max(self._remote.now() - record.at, 0.0))

    def prove(self, deadline: float) -> None:
        """Serve L1 until a monotonic time."""
        self._ledger.proof_deadline = deadline
        self._proven.set()

    def gap(self) -> None:
        """Trust nothing that this process holds: it may have missed what ended it."""
        self.gaps += 1
        self._ledger.lapse()

    def replaced(self) -> None:
        """Repeat what a server may have lost, and do not believe it before others have, too."""
        self._replay()

    def wake(self, key: str) -> None:
        """Let those go on who wait for another process's load."""
        for waiting in self._waiting.get(key, ()):
            if not waiting.done():
                waiting.set_result(None)

    async def _listen(self, remote: Remote) -> None:
        while True:
            try:
                await remote.listen(self, self._bound)
            except Exception:  # noqa: BLE001 - whatever it is, the bus goes on
                _log.exception("The bus failed, and is started again")
            self.gap()
            await self._clock.sleep(RESTART_SECONDS)
