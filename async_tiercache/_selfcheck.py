"""The self-check: an observer of the cache itself, that compares some of what it serves with L2.

It counts what L1 still serves although L2 holds something newer, by how long ago L2 got that.
Within the bound on staleness that is allowed; beyond it something is wrong, and is logged. A newer
entry of the same value is none: a refresh, or a load after an eviction, is told to nobody.
"""

import logging
from typing import Final

from async_tiercache._finder import Finder
from async_tiercache._ledger import Ledger
from async_tiercache._statistics import AGE_BUCKETS, Tally
from async_tiercache._tiers import UNPROVEN, Tiers
from async_tiercache.abc import Clock
from async_tiercache.backends.slot import Slot

KEYS: Final = 16
"""Entries that are compared each time."""

_log = logging.getLogger("async_tiercache")


class SelfCheck:
    """Compares L1 with L2 now and then.

    Args:
        every: The pause between two checks, in seconds.
        bound: How old what L1 serves may be, in seconds.
        tiers: Hold L1.
        finder: Asks L2.
        ledger: Tells what was invalidated meanwhile.
        clock: Paces the checks.

    Attributes:
        ages: Of what L1 served although L2 held something newer, how long it had held that.
        checked: How many entries have been compared.
    """

    def __init__(
        self,
        *,
        every: float,
        bound: float,
        tiers: Tiers,
        finder: Finder,
        ledger: Ledger,
        clock: Clock,
    ) -> None:
        self._every = every
        self._bound = bound
        self._tiers = tiers
        self._finder = finder
        self._ledger = ledger
        self._clock = clock
        self._place = 0
        self.ages = Tally(AGE_BUCKETS)
        self.checked = 0

    async def run(self) -> None:
        """Check again and again."""
        while True:
            await self._clock.sleep(self._every)
            await self.check()

    async def check(self) -> int:
        """Compare some entries of L1 with what L2 holds; return how many were older than the bound.

        An entry that was replaced or invalidated while L2 was asked says nothing.
        """
        slots = self._sample()
        seen = [(slot, slot.header) for slot in slots]
        bases = [self._ledger.basis(slot.key, slot.tags) for slot in slots]
        violations = 0
        for (slot, header), basis in zip(seen, bases, strict=True):
            family = slot.family
            found = await self._finder.ask(basis, None, family.codec)
            if found.entry is None:
                continue
            newer = found.entry.header
            if not (newer.absent or family.tells_apart(found.entry.value, slot.value)):
                continue
            if newer.entry_id == header.entry_id or not self._serves(slot):
                continue
            if newer.created_at > header.created_at and slot.header.entry_id == header.entry_id:
                age = self._tiers.now() - newer.created_at - newer.load_seconds
                self.ages.add(max(age, 0.0))
                if age > self._bound:
                    violations += 1
                    _log.error("L1 serves a value of %r that L2 replaced %.1f s ago", slot.key, age)
        self.checked += len(seen)
        return violations

    def _sample(self) -> list[Slot]:
        """Return the next entries, in turn, that L1 serves."""
        store = self._tiers.store
        if store is None:
            return []
        slots, self._place = store.some(self._place, KEYS)
        return list(filter(self._serves, slots))

    def _serves(self, slot: Slot) -> bool:
        now, store = self._clock.monotonic(), self._tiers.store
        return (
            store is not None
            and store.find(slot.key) is slot
            and now < slot.soft_deadline
            and now < self._ledger.proof_deadline
            and slot.epoch is not UNPROVEN
            and self._ledger.total(slot.key, slot.tags) == slot.total
        )
