"""The invalidation path: what is no longer true is gone when the call returns.

First this process forgets: generations rise, L1 drops, flights are detached. Then L2 is told, which
tells the other servers in the same step. Until it confirms, the record is pending: this process
reads around L2, so that nothing old is fetched from it in between, and the recovery repeats.
"""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain
from secrets import token_bytes
from typing import Final, Literal

from async_tiercache._changes import CHANGES, Changes, Told
from async_tiercache._events import Invalidated, Operation
from async_tiercache._guard import Guard
from async_tiercache._ledger import Ledger
from async_tiercache._recovery import Recovery
from async_tiercache._report import Report
from async_tiercache._tokens import Tokens
from async_tiercache._tracing import Tracing
from async_tiercache.abc import Clock, Invalidation, Observer, Remote
from async_tiercache.errors import InvalidationQueuedError, TierError, TierPartError

RECENT_SECONDS: Final = 30.0
"""For how long an own invalidation is repeated to a server that may have lost it."""


class Invalidator:
    """Invalidates keys and tags in this process and in L2."""

    def __init__(
        self,
        *,
        remote: Remote | None,
        guard: Guard,
        ledger: Ledger,
        recovery: Recovery,
        forget: Callable[[Invalidation], None],
        clock: Clock,
        tracing: Tracing,
        tokens: Tokens,
        notify: Observer,
    ) -> None:
        self._remote = remote
        self._guard = guard
        self._ledger = ledger
        self._recovery = recovery
        self._forget = forget
        self._clock = clock
        self._tracing = tracing
        self._tokens = tokens
        self._notify = notify

    def record(
        self, keys: Iterable[str], tags: Iterable[str] = (), soft: float | None = None
    ) -> Invalidation:
        """Return a new record, remembered as this process's own."""
        at = 0.0 if self._remote is None else self._remote.now()
        texts, tagged = tuple(dict.fromkeys(keys)), tuple(dict.fromkeys(tags))
        record = Invalidation(token_bytes(16), texts, tagged, soft, at=at)
        if self._remote is not None:
            self._ledger.remember(record, self._clock.monotonic(), RECENT_SECONDS)
        return record

    async def invalidate(
        self,
        keys: Iterable[str] = (),
        tags: Iterable[str] = (),
        *,
        soft: float | None = None,
        strict: bool = False,
        block: bytes | None = None,
    ) -> Report:
        """Remove keys, and all that stands under tags, from every tier.

        Args:
            keys: The texts of the keys.
            tags: The texts of the tags.
            soft: For how long it may still be served as stale, in seconds.
            strict: Raise if L2 has not confirmed.
            block: The token of a block of them that ends with this.

        Raises:
            InvalidationQueuedError: L2 has not confirmed; it will be told again.
        """
        return await self.tell(self.begin(keys, tags, soft), strict=strict, block=block)

    def begin(
        self, keys: Iterable[str], tags: Iterable[str] = (), soft: float | None = None
    ) -> Invalidation:
        """Forget keys and tags, which are pending from here on; return what is to be told."""
        keys, tags = tuple(keys), tuple(tags)
        if soft is not None and self._ledger.is_pending(keys, tags):
            # A hard one that is still to be confirmed must not be forgotten for it.
            soft = None
        record = self.record(keys, tags, soft)
        if record:
            self._forget(record)
            if self._remote is not None:
                self._ledger.hold(record)
        return record

    async def tell(
        self, record: Invalidation, *, strict: bool = False, block: bytes | None = None
    ) -> Report:
        """Tell L2 and the observers of what has begun; arguments and errors as of `invalidate`."""
        if not record:
            return self.confirmed()
        l2: Literal["done", "queued", "off"] = "off"
        if self._remote is not None:
            operation = Operation("invalidate", "", record.keys, tags=record.tags)
            with self._tracing.around(operation):
                l2 = operation.stored = await self._told(self._remote, record, block)
        self._notify(Invalidated(record.keys, l2, record.tags))
        token = "" if l2 == "off" else self._token(record, queued=l2 == "queued")
        report = Report(l2, token=token)
        if strict and l2 == "queued":
            raise InvalidationQueuedError(
                f"L2 has not confirmed the invalidation of {_first_of(record)}; it is queued and "
                "will be repeated",
                tier="l2",
                report=report,
                hint="Other processes may serve the old value until Redis answers again.",
            )
        return report

    def receive(self, record: Invalidation, *, queued: bool) -> None:
        """Take in what another process has invalidated, as its token tells.

        Args:
            record: What was invalidated.
            queued: Whether L2 had not confirmed it; then this process sees to that as well, and
                reads around L2 until it has.
        """
        if self._remote is None or self._ledger.is_own(record.id):
            return
        # The same token comes with each request.
        self._ledger.remember(record, self._clock.monotonic(), RECENT_SECONDS)
        self._forget(record)
        if queued:
            self._ledger.hold(replace(record, id=token_bytes(16)))
            self._recovery.wake()

    def confirmed(self, record: Invalidation | None = None) -> Report:
        """Return the report of what L2, if there is one, has confirmed.

        Args:
            record: What the other processes were told of it.
        """
        if self._remote is None:
            return Report("off")
        token = "" if record is None else self._token(record, queued=False)
        return Report("done", token=token)

    @contextmanager
    def changes(self) -> Generator[Changes]:
        """Note what is invalidated inside a block."""
        changes = Changes(self, self._token_of, CHANGES.get())
        reset = CHANGES.set(changes)
        try:
            yield changes
        finally:
            changes.ended = True
            CHANGES.reset(reset)

    def _token(self, record: Invalidation, *, queued: bool) -> str:
        changes = CHANGES.get()
        if changes is not None:
            changes.note(self, (record, queued))
        return self._tokens.token(record, queued=queued)

    def _token_of(self, told: list[Told]) -> str:
        """Return one token for several invalidations."""
        if not told:
            return ""
        record = told[0][0]
        if len(told) > 1:
            keys = chain.from_iterable(each.keys for each, _ in told)
            tags = chain.from_iterable(each.tags for each, _ in told)
            record = self.record(keys, tags)
        return self._tokens.token(record, queued=any(queued for _, queued in told))

    async def _told(
        self, remote: Remote, record: Invalidation, block: bytes | None
    ) -> Literal["done", "queued"]:
        try:
            if block is None:
                await self._guard.call(remote.invalidate, record)
            else:
                await self._guard.call(remote.unblock, record, block)
        except BaseException as error:
            if isinstance(error, TierPartError):
                self._ledger.confirm(record.without(error.keys, error.tags))
            # Also when the caller was cancelled: a record that is not confirmed is repeated.
            self._recovery.wake()
            if not isinstance(error, TierError):
                raise
            return "queued"
        self._ledger.confirm(record)
        return "done"


def _first_of(record: Invalidation) -> str:
    """Return what a message names of a record."""
    first, *others = (*record.keys, *record.tags)
    return f"{first!r} and {len(others)} more" if others else repr(first)
