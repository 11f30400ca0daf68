"""An observer that remembers."""

import asyncio
from typing import TypeVar

from async_tiercache._events import Event

E = TypeVar("E")


class Recorder:
    """Keeps every event; pass it as an observer.

    Attributes:
        events: What was observed, the oldest first.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._waiting: list[tuple[type, asyncio.Future[None]]] = []

    def __call__(self, event: Event) -> None:
        """Keep an event."""
        self.events.append(event)
        for kind, future in self._waiting:
            if isinstance(event, kind) and not future.done():
                future.set_result(None)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind."""
        return [event for event in self.events if isinstance(event, kind)]

    async def wait_for(self, kind: type[E], *, count: int = 1) -> list[E]:
        """Return the events of one kind once there are at least `count` of them."""
        while len(found := self.of(kind)) < count:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append((kind, future))
            try:
                await future
            finally:
                self._waiting.remove((kind, future))
        return found
