"""How long a task may take to ask a server, for many tasks by one timer.

A busy loop fires its timers before it looks at the replies that wait in the socket. So a timer that
is late starts over, and one that is not still lets the socket be drained.
"""

import asyncio
from typing import Any, Final

_DRAIN: Final = 0.04  # of the limit: how long a reply that is there may take to be read
_LAG: Final = 0.2  # of the limit: a timer later than this tells of a busy loop, not of a server


class Deadlines:
    """Cancels tasks that take longer than a limit.

    All have the same limit, so they are due in the order of their begin, and one timer will do.

    Args:
        limit: How long each may take, in seconds.
    """

    __slots__ = ("_draining", "_due", "_limit", "_loop", "_running", "_timer")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._running: dict[asyncio.Task[Any], float] = {}
        self._draining: dict[asyncio.Task[Any], float] = {}
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def running(self) -> list["asyncio.Task[Any]"]:
        """The tasks that have not ended."""
        return [task for task in (*self._running, *self._draining) if not task.done()]

    def begin(self, task: "asyncio.Task[Any]") -> None:
        """Let a task take the limit from now on; it is kept alive."""
        due = self._running[task] = self._loop.time() + self._limit
        if self._timer is None:
            self._arm(due)

    def end(self, task: "asyncio.Task[Any]") -> None:
        """Let a task be: it has ended."""
        if self._running.pop(task, None) is None:
            self._draining.pop(task, None)

    def _arm(self, due: float) -> None:
        self._due = due
        self._timer = self._loop.call_at(due, self._expire)

    def _expire(self) -> None:
        now = self._loop.time()
        if now - self._due > self._limit * _LAG:
            late = [*self._draining, *_due(self._running, now)]
            self._draining.clear()
            for task in late:
                self._running.pop(task, None)
                self._running[task] = now + self._limit
        else:
            for task in _due(self._draining, now):
                del self._draining[task]
                task.cancel()
            for task in _due(self._running, now):
                del self._running[task]
                self._draining[task] = now + self._limit * _DRAIN
        self._timer = None
        first = [next(iter(each.values())) for each in (self._draining, self._running) if each]
        if first:
            self._arm(min(first))


def _due(tasks: "dict[asyncio.Task[Any], float]", now: float) -> list["asyncio.Task[Any]"]:
    """Return the tasks whose time is over."""
    found: list[asyncio.Task[Any]] = []
    for task, due in tasks.items():
        if due > now:
            break
        found.append(task)
    return found


def watch(task: "asyncio.Task[Any]", limit: float) -> None:
    """Cancel a task that takes longer to ask a server than the limit, in seconds."""
    deadlines = Deadlines(limit)
    deadlines.begin(task)
    task.add_done_callback(deadlines.end)
