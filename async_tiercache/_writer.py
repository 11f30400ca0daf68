"""The cache's own writes: `set`, `put` and `writing`.

A value is put where a lease of ours stands. Taking that lease removes whatever the key held, as an
invalidation does. The commit is refused when anything came between; then the key is invalidated,
because what stands there now may be older than the source.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_bytes
from typing import Any

from async_tiercache._entry import ENTRY_ID_BYTES, Entry, Header
from async_tiercache._events import Operation
from async_tiercache._family import Family
from async_tiercache._fence import Fence, Fences
from async_tiercache._invalidator import Invalidator
from async_tiercache._ledger import Ledger
from async_tiercache._options import MISSING
from async_tiercache._report import Report
from async_tiercache._tiers import Tiers
from async_tiercache._tracing import Tracing
from async_tiercache.abc import Clock, Invalidation
from async_tiercache.errors import TierError, UsageError
from async_tiercache.policies.freshness import lifetime


class Writing:
    """What the block of `writing` is given.

    Attributes:
        report: What the tiers said, once the block has ended well.
        ended: Whether the block has ended, so that nothing can be set any more.
    """

    __slots__ = ("_family", "ended", "payload", "report", "value")

    def __init__(self, family: Family) -> None:
        self._family = family
        self.value: Any = MISSING
        self.payload = b""
        self.report: Report | None = None
        self.ended = False

    def set(self, value: Any) -> None:
        """Say what the source holds now; it is put into the tiers when the block ends.

        Raises:
            EncodeError: The value cannot be stored.
            UsageError: The block has ended.
        """
        if self.ended:
            raise UsageError(
                "set() came after the block had ended", hint="Call it inside `async with`."
            )
        self.payload = self._family.codec.encode(value)
        self.value = value


class Writer:
    """Puts values into the tiers, the last writer's winning."""

    def __init__(
        self,
        *,
        invalidator: Invalidator,
        fences: Fences,
        tiers: Tiers,
        ledger: Ledger,
        clock: Clock,
        tracing: Tracing,
        enabled: bool,
    ) -> None:
        self._tiers = tiers
        self._invalidator = invalidator
        self._fences = fences
        self._ledger = ledger
        self._clock = clock
        self._tracing = tracing
        self._enabled = enabled

    async def put(self, family: Family, key: str, value: Any) -> Report:
        """Put a value that is known now.

        Raises:
            EncodeError: The value cannot be stored; nothing has changed then.
        """
        writing = Writing(family)
        writing.set(value)
        operation = Operation("put", family.name, (key,), size=len(writing.payload))
        with self._tracing.around(operation):
            async with self.writing(family, key, writing):
                pass
            assert writing.report is not None
            operation.stored = writing.report.l2
        return writing.report

    @asynccontextmanager
    async def writing(
        self, family: Family, key: str, writing: Writing | None = None
    ) -> AsyncGenerator[Writing]:
        """Fence the key while the block changes the source, then put what the block has set.

        Readers elsewhere wait for the block or load for themselves; nobody stores what was read
        before it ended. Without `set`, or when the block raises, the key is only invalidated.
        """
        writing = writing or Writing(family)
        self._tiers.forget(Invalidation(token_bytes(16), (key,)))
        fence = await self._seize(key)
        generation = self._ledger.generation(key)
        try:
            async with self._fences.renewing(fence, _nothing):
                yield writing
            stored = await self._store(family, key, fence, generation, writing)
        except BaseException:
            await self._invalidator.invalidate((key,))
            raise
        finally:
            writing.ended = True
        if stored:
            writing.report = self._invalidator.confirmed()
        else:
            writing.report = await self._invalidator.invalidate((key,))

    async def _store(
        self, family: Family, key: str, fence: Fence | None, generation: int, writing: Writing
    ) -> bool:
        """Put what the block has set, if our lease still stands."""
        if fence is None or writing.value is MISSING:
            return False
        entry = self._entry(family, writing, self._tiers.now())
        if entry is None:
            return False
        if await self._tiers.commit(fence, family, entry) != "l2":
            return False
        ours = self._ledger.may_keep(key, generation)
        # What readers have kept meanwhile was read before the block had ended.
        self._tiers.forget(Invalidation(token_bytes(16), (key,)))
        if ours:
            generation = self._ledger.generation(key)
            early = entry.header.fresh_until
            l1_ttl = family.limits.l1_ttl
            self._tiers.keep(key, family, entry, generation, l1_ttl=l1_ttl, early=early)
        return True

    def _entry(self, family: Family, writing: Writing, created_at: float) -> Entry | None:
        life = lifetime(
            now=created_at,
            limits=family.limits,
            u=self._clock.random(),
            negative=writing.value is None,
        )
        limits = family.limits
        oversized = (
            limits.max_value_bytes is not None and len(writing.payload) > limits.max_value_bytes
        )
        if life is None or oversized:
            family.counts.not_stored["oversized" if oversized else "negative"] += 1
            return None
        header = Header(
            entry_id=token_bytes(ENTRY_ID_BYTES),
            created_at=created_at,
            fresh_until=life.fresh_until,
            stale_until=life.stale_until,
            load_seconds=0.0,
            fingerprint=family.codec.fingerprint,
        )
        return Entry(writing.value, header, len(writing.payload), writing.payload)

    async def _seize(self, key: str) -> Fence | None:
        if not self._enabled:
            return None
        try:
            return await self._fences.seize(key)
        except TierError:
            return None


def _nothing() -> None:
    """The commit will say that the lease is lost."""
