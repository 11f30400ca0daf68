"""A clock of many processes: all see the same time, and each can be stopped alone."""

import asyncio
import heapq
import itertools
from collections.abc import Callable
from functools import partial
from typing import Any, Final, Literal, TypeAlias

from async_tiercache.abc import Clock
from async_tiercache.testing._clock import FakeClock

_MOST_TICKS: Final = 50_000
"""Loop ticks at one instant after which something is held to run for ever."""

Call: TypeAlias = Callable[[], object]


class SimulatedClock(FakeClock):
    """A `FakeClock` that lets everything come to rest before time goes on, and no longer.

    Args:
        draw: What `random` returns, from 0 to below 1.

    Example:
        >>> import asyncio
        >>> clock = SimulatedClock()
        >>> called: list[float] = []
        >>> clock.call_later(2, lambda: called.append(clock.monotonic()))
        >>> asyncio.run(clock.advance(5))
        >>> called
        [1002.0]
    """

    def __init__(self, *, draw: float = 0.0) -> None:
        super().__init__(draw=draw)
        self._calls: list[tuple[float, int, Call]] = []
        self._number = itertools.count()

    def call_later(self, seconds: float, call: Call) -> None:
        """Call something once the clock has been advanced by `seconds`.

        Args:
            seconds: How long to wait.
            call: Returns False if it had nothing to do, so that nothing can have come of it.
        """
        heapq.heappush(self._calls, (self._now + seconds, next(self._number), call))

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been advanced by `seconds`."""
        await _sleep(self.call_later, seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """Return a context that raises `TimeoutError` once the clock has passed `seconds`."""
        return _timeout(self.call_later, seconds)

    async def advance(self, seconds: float) -> None:
        """Move the clock, and let whoever it wakes act, in the order of their deadlines."""
        calls, end = self._calls, self._now + seconds
        await self.settle()
        while calls and calls[0][0] <= end:
            self._now = max(self._now, calls[0][0])
            acted = False
            while calls and calls[0][0] <= self._now:
                acted |= heapq.heappop(calls)[2]() is not False
            if acted:
                await self.settle()
        self._now = end

    async def settle(self) -> None:
        """Return when nobody can act before time goes on.

        Raises:
            AssertionError: Somebody acts for ever.
        """
        # A loop of asyncio's own says what is to run; other loops get a number of ticks.
        loop: Any = asyncio.get_running_loop()
        ready = getattr(loop, "_ready", None)
        if ready is None:
            await super().advance(0)
            return
        for _ in range(_MOST_TICKS):
            if not ready:
                return
            await asyncio.sleep(0)
        raise AssertionError(f"something runs for ever: {list(ready)[:3]}")


class ProcessClock:
    """The clock of one simulated process; while that stands still, so does whatever waits for it.

    Whatever reaches the process goes through here, too: time that has come, and what others send.

    Args:
        clock: The time of all processes.

    Attributes:
        state: Whether the process runs, is paused, goes on but has not seen what came meanwhile, or
            is gone for good.
    """

    __slots__ = ("_arrived", "_clock", "_due", "monotonic", "state", "wall")

    def __init__(self, clock: SimulatedClock) -> None:
        self.state: Literal["running", "paused", "waking", "gone"] = "running"
        self.monotonic = clock.monotonic
        self.wall = clock.wall
        self._clock = clock
        self._arrived: list[Call] = []
        self._due: list[Call] = []

    def random(self) -> float:
        """Return what the clock of all processes draws."""
        return self._clock.random()

    async def sleep(self, seconds: float) -> None:
        """Return once the clock has been advanced by `seconds`, and the process runs."""
        await _sleep(self.call_later, seconds)

    def timeout(self, seconds: float | None) -> asyncio.Timeout:
        """Return a context that raises `TimeoutError` after `seconds`, while the process runs."""
        return _timeout(self.call_later, seconds)

    def call_later(self, seconds: float, call: Call) -> None:
        """Call something in the process after `seconds`, once it runs."""
        self._clock.call_later(seconds, partial(self._fire, call))

    def arrive(self, call: Call) -> object:
        """Call something in the process that comes from outside, once it runs."""
        if self.state == "running":
            return call()
        if self.state != "gone":
            self._arrived.append(call)
        return False

    def pause(self) -> None:
        """Stop the process: nothing reaches it any more, and its timers do not go off."""
        if self.state != "gone":
            self.state = "paused"

    def resume(self, late: float = 0.0) -> None:
        """Let the process go on: it sees what has arrived, and then what time it is.

        Args:
            late: Seconds in which it can be called already, and has seen nothing of that yet.
        """
        if self.state == "paused":
            self.state = "waking"
            if late:
                self._clock.call_later(late, self._wake_up)
            else:
                self._wake_up()

    def _wake_up(self) -> None:
        if self.state == "waking":
            self.state = "running"
            calls = self._arrived + self._due
            self._arrived, self._due = [], []
            for call in calls:
                call()

    def stop(self) -> None:
        """End the process: nothing ever reaches it again."""
        self.state = "gone"
        self._arrived, self._due = [], []

    def _fire(self, call: Call) -> object:
        if self.state == "running":
            return call()
        if self.state != "gone":
            self._due.append(call)
        return False


def after(clock: Clock, seconds: float, call: Call) -> None:
    """Call something after `seconds` of any clock."""
    if isinstance(clock, SimulatedClock | ProcessClock):
        clock.call_later(seconds, call)
        return
    task = asyncio.get_running_loop().create_task(_after(clock, seconds, call))
    _TASKS.add(task)
    task.add_done_callback(_TASKS.discard)


async def _after(clock: Clock, seconds: float, call: Call) -> None:
    await clock.sleep(seconds)
    call()


_TASKS: Final[set[asyncio.Task[None]]] = set()


async def _sleep(call_later: Callable[[float, Call], None], seconds: float) -> None:
    wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    call_later(seconds, partial(_wake, wake))
    await wake


def _wake(wake: "asyncio.Future[None]") -> bool:
    if wake.done():
        return False
    wake.set_result(None)
    return True


def _timeout(call_later: Callable[[float, Call], None], seconds: float | None) -> asyncio.Timeout:
    timeout = asyncio.timeout(None)
    if seconds is not None:
        call_later(seconds, partial(_expire, timeout, asyncio.get_running_loop()))
    return timeout


def _expire(timeout: asyncio.Timeout, loop: asyncio.AbstractEventLoop) -> bool:
    # Only a timeout that is being waited in can expire; others have ended before.
    if timeout.when() is not None or timeout.expired():
        return False
    try:
        timeout.reschedule(loop.time())
    except (RuntimeError, AssertionError):  # the latter on 3.11, if never entered
        return False
    return True
