"""The cache's own writes: `set`, `put` and `writing`.

A value is put where a lease of ours stands. Taking that lease removes whatever the key held, as an
invalidation does. The commit is refused when anything came between. After a block that has changed
the source the key is invalidated then, because what stands there may have been read before the
change. A value that was known before the lease was taken gives way to it: its making began later.
"""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from secrets import token_bytes
from typing import Any

from async_tiercache._basis import Basis
from async_tiercache._entry import ENTRY_ID_BYTES, Entry, Header
from async_tiercache._events import Operation
from async_tiercache._family import Family
from async_tiercache._fence import Fence, Fences
from async_tiercache._finder import Finder, has_evidence, with_evidence
from async_tiercache._flights import Flights
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

    __slots__ = ("_family", "_key", "ended", "payload", "report", "told", "value")

    def __init__(self, family: Family, key: str) -> None:
        self._family = family
        self._key = key
        self.value: Any = MISSING
        self.payload = b""
        # What others are told of a value that was known before the block. It is remembered from
        # then on: a server that is replaced meanwhile may hold what is older.
        self.told: Invalidation | None = None
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
                f"set() of {self._key!r} came after the block had ended",
                hint="Call it inside `async with`.",
            )
        self.payload = self._family.encode(self._key, value)
        self.value = value


class Writer:
    """Puts values into the tiers, the last writer's winning."""

    def __init__(
        self,
        *,
        invalidator: Invalidator,
        fences: Fences,
        tiers: Tiers,
        flights: Flights,
        finder: Finder,
        ledger: Ledger,
        clock: Clock,
        tracing: Tracing,
        enabled: bool,
    ) -> None:
        self._tiers = tiers
        self._flights = flights
        self._invalidator = invalidator
        self._fences = fences
        self._finder = finder
        self._ledger = ledger
        self._clock = clock
        self._tracing = tracing
        self._enabled = enabled

    async def put(self, family: Family, key: str, value: Any, tags: tuple[str, ...] = ()) -> Report:
        """Put a value that is known now under some tags.

        Raises:
            EncodeError: The value cannot be stored; nothing has changed then.
        """
        writing = Writing(family, key)
        writing.set(value)
        writing.told = self._invalidator.record((key,))
        operation = Operation("put", family.name, (key,), size=len(writing.payload))
        with self._flights.put(key), self._tracing.around(operation):
            async with self.writing(family, key, tags, writing):
                pass
            assert writing.report is not None
            operation.stored = writing.report.l2
        return writing.report

    @asynccontextmanager
    async def writing(
        self,
        family: Family,
        key: str,
        tags: tuple[str, ...] = (),
        writing: Writing | None = None,
    ) -> AsyncGenerator[Writing]:
        """Fence the key while the block changes the source, then put what the block has set.

        Readers elsewhere wait for the block or load for themselves; nobody stores what was read
        before it ended. Without `set`, or when the block raises, the key is only invalidated.
        """
        writing = writing or Writing(family, key)
        self._tiers.forget(writing.told or Invalidation(token_bytes(16), (key,)))
        basis = self._ledger.basis(key, tags)
        try:
            # Also when it is cancelled here: what `put` was given tells of a change that was made.
            fence = await self._finder.with_states(self._seize(key), basis, family)
            if fence is not None:
                self._fences.hold(fence, _nothing)
            try:
                yield writing
            finally:
                if fence is not None:
                    self._fences.let_go(fence)
            told = await self._store(family, fence, basis, writing)
        except BaseException:
            await self._invalidator.invalidate((key,))
            raise
        finally:
            writing.ended = True
        if told is not None:
            writing.report = self._invalidator.confirmed(told)
        else:
            writing.report = await self._invalidator.invalidate((key,))

    async def _store(
        self, family: Family, fence: Fence | None, basis: Basis, writing: Writing
    ) -> Invalidation | None:
        """Put what the block has set, if our lease still stands; return what others were told.

        They were told, too, if what stands there in place of it is no older.
        """
        if fence is None or writing.value is MISSING:
            return None
        entry = self._entry(family, writing, self._tiers.now())
        if entry is None:
            return None
        key, header = basis.key, with_evidence(entry.header, basis)
        if self._tiers.has_remote and not has_evidence(header, basis):
            return None
        entry = entry._replace(header=header)
        tell = writing.told or self._invalidator.record((key,))
        stored = await self._tiers.commit(fence, family, entry, tell=tell)
        yielded = stored == "overtaken" and writing.told is not None
        if stored != "l2" and not (yielded and self._tiers.now() < header.stale_until):
            return None
        ours = self._ledger.holds(basis)
        if writing.told is None or ours or self._tiers.has_remote:
            # What readers have kept meanwhile was read before the block had ended, or from L2
            # before the key was fenced. Another writer's value in L1 alone was not.
            self._tiers.forget(tell)
        if ours and not yielded:
            basis = self._ledger.basis(key, tuple(basis.tags))
            early = entry.header.fresh_until
            self._tiers.keep(basis, family, entry, l1_ttl=family.limits.l1_ttl, early=early)
        return tell

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
