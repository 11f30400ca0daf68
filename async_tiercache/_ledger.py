"""The ledger: what this process knows of invalidations, and what follows for reads.

No method awaits, so each decision is made on one state. Applying an invalidation raises the
generations of its keys: a load that began under an older generation is kept nowhere. While Redis
has not confirmed an invalidation it is pending, and L2 is not asked for its keys.
"""

import itertools
from array import array
from collections.abc import Iterable
from typing import Final

from async_tiercache.abc import Invalidation

STRIPES: Final = 4096
"""Keys share this many generations; two keys that share one cost at most a refill."""


class Ledger:
    """Generations and pending invalidations."""

    __slots__ = ("_doubts", "_generations", "_pending")

    def __init__(self) -> None:
        self._generations = array("Q", bytes(8 * STRIPES))
        self._pending: dict[str, bytes] = {}
        self._doubts: set[str] = set()

    def generation(self, key: str) -> int:
        """Return the key's generation, to be shown to `may_keep` after the load."""
        return self._generations[hash(key) % STRIPES]

    def apply(self, record: Invalidation) -> None:
        """Raise the generations of the record's keys; idempotent in its effect."""
        for key in record.keys:
            self.overtake(key)

    def overtake(self, key: str) -> None:
        """Raise the key's generation: what is being loaded for it is not kept in L1."""
        self._generations[hash(key) % STRIPES] += 1

    @property
    def pending(self) -> int:
        """How many keys have an invalidation that Redis has not confirmed."""
        return len(self._pending)

    def hold(self, record: Invalidation) -> None:
        """Remember a record's keys until Redis confirms it, or a later record of the key."""
        for key in record.keys:
            self._pending[key] = record.id
            self._doubts.discard(key)

    def doubt(self, key: str, record_id: bytes) -> bool:
        """Remember that L2 may hold something older than this process has shown.

        Returns:
            Whether that is news: a key that is pending is removed in any case.
        """
        if key in self._pending:
            return False
        self._pending[key] = record_id
        self._doubts.add(key)
        return True

    def confirm(self, record: Invalidation) -> None:
        """Forget what Redis has confirmed; a later record of a key still waits for its own."""
        for key in record.keys:
            if self._pending.get(key) == record.id:
                del self._pending[key]
                self._doubts.discard(key)

    def postpone(self, keys: Iterable[str]) -> None:
        """Put pending keys behind the others: the part of the tier that holds them is down."""
        for key in keys:
            if key in self._pending:
                self._pending[key] = self._pending.pop(key)

    def batch(self, record_id: bytes, count: int) -> tuple[Invalidation, Invalidation]:
        """Put up to `count` pending keys under one record, those that wait longest first.

        Returns:
            The record, and what of it this process must forget once more when it is confirmed:
            not the keys that are only in doubt, of which it holds what is newer.
        """
        keys = tuple(itertools.islice(self._pending, count))
        for key in keys:
            self._pending[key] = record_id
        known = tuple(key for key in keys if key not in self._doubts)
        return Invalidation(record_id, keys), Invalidation(record_id, known)

    def may_ask(self, key: str) -> bool:
        """Return whether what L2 holds for the key may be believed."""
        return key not in self._pending

    def may_keep(self, key: str, generation: int) -> bool:
        """Return whether a value whose making began under `generation` may be kept."""
        return self._generations[hash(key) % STRIPES] == generation
