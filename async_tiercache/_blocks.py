"""Blocks: what a crash-safe write puts in the way of readers before it changes the source.

A writer that dies between its commit and its invalidation would leave the old value behind. So it
first takes away what the keys and tags hold and blocks them: what is loaded meanwhile goes to its
callers only. Several writers may block one key; the last one out opens it. A block is renewed while
its writer lives, and ends by itself a while after that.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_bytes
from typing import Final

from async_tiercache._guard import Guard
from async_tiercache._invalidator import Invalidator
from async_tiercache._ledger import Ledger
from async_tiercache._tasks import Tasks, end_of
from async_tiercache.abc import Clock, Invalidation, Remote
from async_tiercache.errors import TierError

BLOCK_SECONDS: Final = 10.0
"""How long a block outlives its writer; the writer's transaction must have ended by then."""


class Blocks:
    """Opens and ends blocks.

    Args:
        remote: The tier that holds them, or `None` if there is none.
        guard: The guard around it.
        ledger: Keeps what is not confirmed.
        forget: Lets this process forget what a record names.
        invalidator: Ends them.
        tasks: Owns renewals.
        clock: Paces them.
    """

    def __init__(
        self,
        *,
        remote: Remote | None,
        guard: Guard,
        ledger: Ledger,
        forget: Callable[[Invalidation], None],
        invalidator: Invalidator,
        tasks: Tasks,
        clock: Clock,
    ) -> None:
        self._remote = remote
        self._guard = guard
        self._ledger = ledger
        self._forget = forget
        self._invalidator = invalidator
        self._tasks = tasks
        self._clock = clock

    @asynccontextmanager
    async def invalidating(self, keys: Iterable[str], tags: Iterable[str]) -> AsyncGenerator[None]:
        """Block keys and tags while the source changes, then invalidate them.

        They are invalidated too when the block of code raises: nobody knows what was committed.
        """
        keys, tags = tuple(keys), tuple(tags)
        record, block = self._invalidator.record(keys, tags), _Block(token_bytes(16))
        self._forget(record)
        renewal: asyncio.Task[None] | None = None
        try:
            # Until it has ended nothing that L2 says of them is believed here, and nothing kept.
            self._ledger.block(record)
            if self._remote is not None:
                await end_of(self._send(self._remote, record, block))
                self._forget(record)
                renewal = self._tasks.start(
                    self._renew(self._remote, record, block), name="tiercache-renew-block"
                )
            yield
        finally:
            if renewal is not None:
                renewal.cancel()
            ending = self._invalidator.begin(keys, tags)
            self._ledger.unblock(record)
            leaving = self._tasks.start(self._leave(ending, block), name="tiercache-unblock")
            await end_of(leaving)

    def _send(
        self, remote: Remote, record: Invalidation, block: "_Block", *, renewing: bool = False
    ) -> "asyncio.Task[None]":
        async def send() -> None:
            # Without L2 there is nothing to block, and what it holds is invalidated when it is
            # back.
            with contextlib.suppress(TierError):
                await self._guard.call(
                    remote.block, record, block.token, BLOCK_SECONDS, renewing=renewing
                )

        sending = block.sending = self._tasks.start(send(), name="tiercache-block")
        return sending

    async def _renew(self, remote: Remote, record: Invalidation, block: "_Block") -> None:
        while True:
            await self._clock.sleep(BLOCK_SECONDS / 3)
            await end_of(self._send(remote, record, block, renewing=True))

    async def _leave(self, record: Invalidation, block: "_Block") -> None:
        if block.sending is not None:
            # Carried out after the end it would block what nobody changes any more.
            await asyncio.wait([block.sending])
        await self._invalidator.tell(record, block=block.token)


@dataclass(slots=True)
class _Block:
    """A block of a writer's.

    Attributes:
        token: Tells it from those of other writers.
        sending: The latest command that puts it in L2, or prolongs it.
    """

    token: bytes
    sending: "asyncio.Task[None] | None" = None
