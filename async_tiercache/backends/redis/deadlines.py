"""How long something may take that is asked of a server, for many such things by one timer.

A busy loop fires its timers before it looks at the replies that wait in the socket. So a timer that
is late starts over, some times, and one that is not still lets the socket be drained. And bytes
that came or went tell a server that hangs from a network that takes longer for so many: for those
the timer starts over as well.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

T = TypeVar("T")

_DRAIN: Final = 0.04  # of the limit: how long a reply that is there may take to be read
_LAG: Final = 0.2  # of the limit: a timer later than this tells of a busy loop, not of a server
_RESTARTS: Final = 5  # to connect takes about as many ticks, each of which may be long


class Deadlines(Generic[T]):
    """Tells what takes longer than a limit.

    All have the same limit, so they are due in the order of their begin, and one timer will do.

    Args:
        limit: How long each may take, in seconds.
        expired: Is told what has taken longer.
        moving: Returns whether many bytes have come or gone for something since it began, or since
            this was asked last.
    """

    __slots__ = (
        "_draining",
        "_due",
        "_expired",
        "_limit",
        "_loop",
        "_moving",
        "_restarts",
        "_running",
        "_timer",
    )

    def __init__(
        self,
        limit: float,
        expired: Callable[[T], object],
        moving: Callable[[T], bool] = lambda _: False,
    ) -> None:
        self._limit = limit
        self._expired = expired
        self._moving = moving
        self._loop = asyncio.get_running_loop()
        self._running: dict[T, float] = {}
        self._draining: dict[T, float] = {}
        self._restarts: dict[T, int] = {}
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def count(self) -> int:
        """How many things are running."""
        return len(self._running) + len(self._draining)

    def begin(self, item: T) -> None:
        """Let something take the limit from now on."""
        due = self._running[item] = self._loop.time() + self._limit
        if self._timer is None:
            self._arm(due)

    def end(self, item: T) -> None:
        """Let something be: it has ended."""
        if self._running.pop(item, None) is None:
            self._draining.pop(item, None)
        if self._restarts:
            self._restarts.pop(item, None)

    def _arm(self, due: float) -> None:
        self._due = due
        self._timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        late = now - self._due > self._limit * _LAG
        # The loop has looked into the socket since these are drained, however late it is.
        expired = [item for item in _due(self._draining, now) if not self._goes_on(item, now)]
        for item in _due(self._running, now):
            del self._running[item]
            if not late or not self._starts_over(item, now):
                self._draining[item] = now + self._limit * _DRAIN
        try:
            for item in expired:
                # One that has ended may have taken others along.
                if item in self._draining:
                    self.end(item)
                    self._expired(item)
        finally:
            # Not before: what begins meanwhile is due after those that are left.
            self._timer = None
            first = [next(iter(each.values())) for each in (self._draining, self._running) if each]
            if first:
                self._arm(min(first))

    def _goes_on(self, item: T, now: float) -> bool:
        """Let something start over that is not hung, but large."""
        if not self._moving(item) or not self._starts_over(item, now):
            return False
        del self._draining[item]
        return True

    def _starts_over(self, item: T, now: float) -> bool:
        """Let something have its time once more, if it has not had it too often."""
        restarts = self._restarts.get(item, 0)
        if restarts == _RESTARTS:
            return False
        self._restarts[item] = restarts + 1
        self._running[item] = now + self._limit
        return True


def _due(items: dict[T, float], now: float) -> list[T]:
    """Return those whose time is over."""
    found: list[T] = []
    for item, due in items.items():
        if due > now:
            break
        found.append(item)
    return found


def watch(task: "asyncio.Task[Any]", limit: float) -> None:
    """Cancel a task that takes longer to ask a server than the limit, in seconds."""
    deadlines = Deadlines[asyncio.Task[Any]](limit, lambda late: late.cancel())
    deadlines.begin(task)
    task.add_done_callback(deadlines.end)
