"""What a listener has heard, in order."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from async_tiercache.abc import Invalidation, Remote

BOUND: Final = 0.8
"""For how long a proof is good, in seconds."""


class Heard:
    """An `abc.Listener` that remembers.

    Attributes:
        events: Names and arguments, the oldest first: ``("apply", record)``, ``("gap", None)``.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, object]] = []
        self._news = asyncio.Event()

    def apply(self, record: Invalidation, /) -> None:
        """Remember a record."""
        self._hear("apply", record)

    def prove(self, deadline: float, /) -> None:
        """Remember a proof."""
        self._hear("prove", deadline)

    def gap(self, /) -> None:
        """Remember a gap."""
        self._hear("gap", None)

    def replaced(self, /) -> None:
        """Remember that the server is another one."""
        self._hear("replaced", None)

    def wake(self, key: str, /) -> None:
        """Remember that a load has ended."""
        self._hear("wake", key)

    def names(self) -> list[str]:
        """Return what was heard but for proofs, by name."""
        return [name for name, _ in self.events if name != "prove"]

    def records(self) -> list[Invalidation]:
        """Return the records."""
        return [what for _, what in self.events if isinstance(what, Invalidation)]

    def proofs(self) -> list[float]:
        """Return the deadlines of all proofs."""
        return [what for _, what in self.events if isinstance(what, float)]

    async def until(self, condition: Callable[[], bool], deadline: float) -> None:
        """Return once a condition on what was heard holds.

        Raises:
            TimeoutError: It does not within the deadline, in seconds.
        """
        async with asyncio.timeout(deadline):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def proof(self, after: float, deadline: float) -> None:
        """Return once a proof is about a moment that is later than `after`, monotonic.

        Raises:
            TimeoutError: There is none within the deadline, in seconds.
        """
        await self.until(lambda: max(self.proofs(), default=0.0) > after + BOUND, deadline)

    def _hear(self, name: str, what: object) -> None:
        self.events.append((name, what))
        self._news.set()


@asynccontextmanager
async def listening(remote: Remote, deadline: float) -> AsyncGenerator[Heard]:
    """Listen to a remote from its first proof on, for as long as the context lasts."""
    heard = Heard()
    task = asyncio.ensure_future(remote.listen(heard, BOUND))
    try:
        await heard.until(lambda: bool(heard.proofs()) or task.done(), deadline)
        yield heard
        assert not task.done(), "listen has ended"
    finally:
        task.cancel()
        await asyncio.wait([task])
