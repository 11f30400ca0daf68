"""Fences: the right to put one value into L2.

A fence is a lease on a key that held nothing, or the id of the entry that is being refreshed beside
its mark. It is renewed while the loader runs; whoever dies holding it delays others by a second at
most. The commit names the fence and L2 compares: what an invalidation has overtaken is refused.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from secrets import token_bytes
from typing import Any, Final, Generic, Literal, TypeVar, cast

from async_tiercache._guard import Guard
from async_tiercache._renewals import Renewals
from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock, Invalidation, PromptRemote, Remote
from async_tiercache.errors import TierError

R = TypeVar("R")

LEASE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to put one value into L2.

    Attributes:
        key: The key's text.
        compared: What L2 must still hold at the commit: the lease, or the id of the old entry.
        token: What is renewed and released: the lease, or the mark.
    """

    key: str
    compared: bytes
    token: bytes

    @classmethod
    def of_lease(cls, key: str, lease: bytes) -> "Fence":
        """Return the fence of a load that replaces nothing."""
        return cls(key, lease, lease)

    @property
    def mark(self) -> bytes | None:
        """The refresh mark, if this is the fence of a refresh."""
        return None if self.compared is self.token else self.token


class Claim(Generic[R]):
    """A fence that was asked for; who waits for it may be cancelled without it.

    Attributes:
        fence: What it will be.
        over: Whether it is known what L2 says of it.
    """

    __slots__ = ("_answer", "_waiter", "fence", "over")

    def __init__(self, fence: Fence) -> None:
        self.fence = fence
        self.over = False
        self._answer: R | BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    def hear(self, answer: R | BaseException) -> None:
        """Take in what L2 says, or why that is not known."""
        self._answer, self.over = answer, True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def ended(self) -> None:
        """Return when it is over; the last one to wait does."""
        if not self.over:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    @property
    def won(self) -> bool:
        """Whether it is known that the key held nothing, and now holds the lease."""
        return self.over and self._answer is None

    def answer(self) -> R:
        """Return what L2 has said.

        Raises:
            TierError: It is out of reach or full, or a close has broken the claim off.
        """
        if isinstance(self._answer, BaseException):
            raise self._answer
        return cast("R", self._answer)


class Fences:
    """Takes, renews, uses and gives back fences.

    Attributes:
        releasing: By key, fences that are on their way back.
    """

    __slots__ = ("_guard", "_prompt", "_remote", "_renewals", "_tasks", "releasing")

    def __init__(self, remote: Remote, guard: Guard, tasks: Tasks, clock: Clock) -> None:
        self._remote = remote
        self._prompt = remote if isinstance(remote, PromptRemote) else None
        self._guard = guard
        self._tasks = tasks
        self._renewals = Renewals[tuple[Fence, Callable[[], None]]](
            LEASE_SECONDS / 3, self._renew, tasks=tasks, clock=clock
        )
        self.releasing: dict[str, asyncio.Task[None]] = {}

    async def take(self, key: str, *, instead_of: bytes | None) -> Fence | bytes:
        """Take a lease on a key that holds nothing or `instead_of`; else return what it holds.

        Raises:
            TierError: L2 is out of reach or full.
        """
        return await self.taken(self.begin_to_take(key, instead_of=instead_of))

    def begin_to_take(self, key: str, *, instead_of: bytes | None = None) -> Claim[bytes | None]:
        """Ask for a lease as `take` does; its turn is that of what is asked now."""
        lease = _token()
        claim: Claim[bytes | None] = Claim(Fence.of_lease(key, lease))
        if instead_of is None and self._prompt is not None and self._guard.up:
            try:
                heard = partial(self._heard, claim)
                if self._prompt.begin_take(key, lease, LEASE_SECONDS, heard):
                    return claim
            except TierError as error:
                claim.hear(error)
                return claim
        return self._take_by_task(claim, instead_of)

    def _take_by_task(
        self, claim: Claim[bytes | None], instead_of: bytes | None
    ) -> Claim[bytes | None]:
        key, lease = claim.fence.key, claim.fence.token
        take = partial(self._remote.take, key, lease, LEASE_SECONDS, instead_of=instead_of)
        return self._claim(claim, take)

    def _heard(
        self, claim: Claim[bytes | None], held: bytes | TierError | Literal[False] | None
    ) -> None:
        """Take in what a key holds instead of a lease, if anything."""
        if held is False:
            self._take_by_task(claim, None)
            return
        if isinstance(held, TierError):
            self._guard.note(held)
        claim.hear(held)

    async def taken(self, claim: Claim[bytes | None]) -> Fence | bytes:
        """Return the lease that was asked for, or what the key holds instead.

        Raises:
            TierError: L2 is out of reach or full.
        """
        held = await self._answer(claim)
        return claim.fence if held is None else held

    async def seize(self, key: str) -> Fence | None:
        """Put a lease in place of whatever the key holds; `None` if a writer has blocked it.

        Raises:
            TierError: L2 is out of reach or full.
        """
        lease = _token()
        fence = Fence.of_lease(key, lease)
        seize = partial(self._remote.seize, key, lease, LEASE_SECONDS)
        return fence if await self._answer(self._claim(Claim(fence), seize)) else None

    async def mark(self, key: str, entry_id: bytes) -> Fence | None:
        """Claim the refresh of an entry; `None` when another process has.

        Raises:
            TierError: L2 is out of reach or full.
        """
        fence = Fence(key, entry_id, _token())
        mark = partial(self._remote.mark, key, fence.token, LEASE_SECONDS)
        return fence if await self._answer(self._claim(Claim(fence), mark)) else None

    def _claim(self, claim: Claim[R], ask: Callable[[], Awaitable[R]]) -> Claim[R]:
        """Ask for a fence in a task of its own."""
        asking = self._tasks.start(self._guard.call(ask), name="tiercache-claim")

        def ended(_: object) -> None:
            if asking.cancelled():
                claim.hear(TierError("The cache was closed", tier="l2"))
            else:
                claim.hear(asking.exception() or asking.result())

        asking.add_done_callback(ended)
        return claim

    async def _answer(self, claim: Claim[R]) -> R:
        """Return what a claim brings; if the caller is cancelled that is given back.

        Raises:
            TierError: L2 is out of reach or full, or a close has broken the claim off.
        """
        try:
            await claim.ended()
        except asyncio.CancelledError:
            self.give_up(claim)
            raise
        return claim.answer()

    def give_up(self, claim: Claim[Any]) -> None:
        """Wait no longer for a claim; it may still be won, and is given back then."""
        self.release_soon(claim.fence, after=claim)

    async def commit(
        self,
        fence: Fence,
        frame: bytes,
        tags: Sequence[str],
        seconds: float,
        *,
        tell: Invalidation | None = None,
    ) -> bool:
        """Store a frame if L2 still holds what the fence names.

        Raises:
            TierError: L2 is out of reach or full.
        """
        return await self._guard.call(
            self._remote.commit,
            fence.key,
            frame,
            seconds,
            fence=fence.compared,
            mark=fence.mark,
            tags=tags,
            tell=tell,
        )

    async def stamp(self, fence: Fence, stamp: bytes, tags: Sequence[str], seconds: float) -> bool:
        """Write a new stamp over that of the entry which the fence names.

        Raises:
            TierError: L2 is out of reach or full.
        """
        return await self._guard.call(
            self._remote.stamp,
            fence.key,
            stamp,
            seconds,
            fence=fence.compared,
            mark=fence.mark,
            tags=tags,
        )

    def release_soon(self, fence: Fence, *, after: Claim[Any] | None = None) -> None:
        """Give a fence back in the background; it ends by itself if that fails.

        Args:
            fence: What is given back.
            after: The claim, if its answer is still to come.
        """
        work = self._release(fence, after)
        releasing = self._tasks.start(work, name="tiercache-release")
        self.releasing[fence.key] = releasing

        def forget(_: object) -> None:
            if self.releasing.get(fence.key) is releasing:
                del self.releasing[fence.key]

        releasing.add_done_callback(forget)

    def forget(self) -> None:
        """Give back and prolong nothing more of a loop that is gone."""
        self.releasing.clear()
        self._renewals.forget()

    async def aclose(self) -> None:
        """Prolong nothing any more."""
        await self._renewals.aclose()

    async def released(self, key: str) -> None:
        """Return when no fence of ours is on its way back: nobody waits for what is given up."""
        releasing = self.releasing.get(key)
        if releasing is not None:
            await asyncio.wait([releasing])

    async def _release(self, fence: Fence, after: Claim[Any] | None) -> None:
        if after is not None:
            await after.ended()
        with contextlib.suppress(TierError):
            await self._guard.call(self._remote.release, fence.key, fence.token)

    def hold(self, fence: Fence, lost: Callable[[], None]) -> None:
        """Prolong a fence three times per lease, until `let_go`.

        Args:
            fence: What is prolonged.
            lost: Is called if it turns out to be ours no longer.
        """
        self._renewals.begin(fence.token, (fence, lost))

    def let_go(self, fence: Fence) -> None:
        """Prolong a fence no longer."""
        self._renewals.end(fence.token)

    async def _renew(self, held: tuple[Fence, Callable[[], None]]) -> bool:
        """Prolong a fence; return whether it is ours still, as far as that is known."""
        fence, lost = held
        try:
            ours = await self._guard.call(self._remote.renew, fence.key, fence.token, LEASE_SECONDS)
        except TierError:
            # Out of reach for a moment is no reason to stop.
            return True
        if not ours:
            lost()
        return ours


def _token() -> bytes:
    return b"L" + token_bytes(16)
