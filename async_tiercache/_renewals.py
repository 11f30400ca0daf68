"""Renewals: what has to be prolonged again and again while it is held, all by one sleeper.

Most is held for less than a period. A task, or a timer, for each would cost more than all else that
is done for it; so one task sleeps until the first of all is due.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import Context
from typing import Generic, TypeVar

from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock

T = TypeVar("T")


class _Held(Generic[T]):
    """Something that is held.

    Attributes:
        name: Names it.
        item: What that is.
        due: When it is prolonged next, monotonic.
        renewing: The task that does so, once it does.
    """

    __slots__ = ("due", "item", "name", "renewing")

    def __init__(self, name: bytes, item: T, due: float) -> None:
        self.name = name
        self.item = item
        self.due = due
        self.renewing: asyncio.Task[None] | None = None


class Renewals(Generic[T]):
    """Prolongs what is held, each a period after it was begun or prolonged.

    Args:
        period: That, in seconds.
        renew: Prolongs one of them; returns whether to go on.
        tasks: Own the tasks in which it does.
        clock: The clock of this process.
    """

    __slots__ = ("_by_name", "_clock", "_keeper", "_keepers", "_period", "_renew", "_tasks")

    def __init__(
        self,
        period: float,
        renew: Callable[[T], Awaitable[bool]],
        *,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self._period = period
        self._renew = renew
        self._tasks = tasks
        self._clock = clock
        # In the order in which they are due, as each waits for as long as any other.
        self._by_name: dict[bytes, _Held[T]] = {}
        # Nobody waits for the one who sleeps: he may do so with nothing left to prolong.
        self._keepers = Tasks()
        self._keeper: asyncio.Task[None] | None = None

    def begin(self, name: bytes, item: T) -> None:
        """Prolong something from now on, until `end`.

        Args:
            name: Names it.
            item: What `renew` is given.
        """
        self._by_name[name] = _Held(name, item, self._clock.monotonic() + self._period)
        # One that has ended is of no use, although nobody may have been told of that yet.
        awake = self._keeper is not None and not self._keeper.done()
        if not awake and not self._keepers.closing:
            # Not in the context of a caller, which would be kept alive for as long as any load.
            self._keeper = Context().run(
                self._keepers.start, self._keep(), name="tiercache-renewals"
            )

    def end(self, name: bytes) -> None:
        """Prolong it no longer."""
        held = self._by_name.pop(name, None)
        if held is not None and held.renewing is not None:
            held.renewing.cancel()

    def forget(self) -> None:
        """Drop what belongs to a loop that is gone."""
        self._by_name.clear()
        self._keepers.forget()
        self._keeper = None

    async def aclose(self) -> None:
        """Prolong nothing any more."""
        await self._keepers.cancel()

    async def _keep(self) -> None:
        """Sleep until the first is due, as long as there is one."""
        by_name = self._by_name
        # What he was begun for is over by now, most often; the next will come within the period.
        await self._clock.sleep(self._period)
        while by_name:
            now = self._clock.monotonic()
            while (held := next(iter(by_name.values()))).due <= now:
                self._start(held, now)
            await self._clock.sleep(held.due - now)

    def _start(self, held: _Held[T], now: float) -> None:
        # To the end: all others are due before.
        del self._by_name[held.name]
        self._by_name[held.name], held.due = held, now + self._period
        if held.renewing is None:
            held.renewing = self._tasks.start(self._prolong(held), name="tiercache-renew")

    async def _prolong(self, held: _Held[T]) -> None:
        goes_on = await self._renew(held.item)
        held.renewing = None
        if not goes_on:
            self.end(held.name)
