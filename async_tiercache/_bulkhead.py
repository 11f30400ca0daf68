"""The bulkhead: bounds the loads that run at the same time, so that the source is not crushed."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


class Turn:
    """One load's turn.

    Args:
        free: Whether the load is part of one that holds a turn; it needs none of its own then.

    Attributes:
        counted: Whether the load holds a turn.
    """

    __slots__ = ("_granted", "counted", "free")

    def __init__(self, *, free: bool) -> None:
        self.free = free
        self.counted = False
        self._granted: asyncio.Future[None] | None = None

    def skip(self) -> None:
        """Let the load go without a turn: one that holds a turn waits for it."""
        self.free = True
        self.grant()

    def grant(self) -> bool:
        """Let the load go; return whether it was waiting."""
        granted = self._granted
        if granted is None or granted.done():
            return False
        granted.set_result(None)
        return True

    async def granted(self) -> None:
        """Return when the load may go."""
        self._granted = asyncio.get_running_loop().create_future()
        await self._granted


class Bulkhead:
    """Lets loads through, the longest waiting first.

    Args:
        limit: How many loads may run at the same time; `None` for any number.

    Attributes:
        running: How many run.
        waiting: How many wait for their turn.
    """

    __slots__ = ("_limit", "_queue", "_taken", "running", "waiting")

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self.restart()

    def restart(self) -> None:
        """Forget the loads of a loop that is gone."""
        self._queue: deque[Turn] = deque()
        self._taken = 0
        self.running = 0
        self.waiting = 0

    @property
    def full(self) -> bool:
        """Whether a load that comes now has to wait."""
        return self._limit is not None and self._taken >= self._limit

    @asynccontextmanager
    async def hold(self, turn: Turn) -> AsyncGenerator[None]:
        """Wait for a turn and hold it."""
        try:
            await self._enter(turn)
            self.running += 1
            try:
                yield
            finally:
                self.running -= 1
        finally:
            if turn.counted:
                self._pass_on()

    async def _enter(self, turn: Turn) -> None:
        if turn.free:
            return
        if not self.full:
            self._taken += 1
            turn.counted = True
            return
        self._queue.append(turn)
        self.waiting += 1
        try:
            await turn.granted()
        finally:
            self.waiting -= 1

    def _pass_on(self) -> None:
        """Give a turn that has ended to the next load that still waits."""
        while self._queue:
            turn = self._queue.popleft()
            if turn.grant():
                turn.counted = True
                return
        self._taken -= 1
