"""The ledger: what this process knows of invalidations, and what follows for reads.

No method awaits, so each decision is made on one state. Applying an invalidation raises the
generations of its keys: a load that began under an older generation is kept nowhere. While Redis
has not confirmed an invalidation it is pending, and L2 is not asked for its keys.
"""

from array import array
from typing import Final

from async_tiercache.abc import Invalidation

STRIPES: Final = 4096
"""Keys share this many generations; two keys that share one cost at most a refill."""


class Ledger:
    """Generations and pending invalidations."""

    __slots__ = ("_generations", "_pending", "_waiting")

    def __init__(self) -> None:
        self._generations = array("Q", bytes(8 * STRIPES))
        self._pending: dict[bytes, Invalidation] = {}
        self._waiting: dict[str, int] = {}

    def generation(self, key: str) -> int:
        """Return the key's generation, to be shown to `may_keep` after the load."""
        return self._generations[hash(key) % STRIPES]

    def apply(self, record: Invalidation) -> None:
        """Raise the generations of the record's keys; idempotent in its effect."""
        for key in record.keys:
            self._generations[hash(key) % STRIPES] += 1

    def hold(self, record: Invalidation) -> None:
        """Remember a record until Redis confirms it."""
        if record.id not in self._pending:
            self._pending[record.id] = record
            for key in record.keys:
                self._waiting[key] = self._waiting.get(key, 0) + 1

    def confirm(self, record: Invalidation) -> None:
        """Forget a record that Redis has confirmed."""
        if self._pending.pop(record.id, None) is not None:
            for key in record.keys:
                if self._waiting[key] == 1:
                    del self._waiting[key]
                else:
                    self._waiting[key] -= 1

    def pending(self) -> list[Invalidation]:
        """Return what Redis has not confirmed, the oldest first."""
        return list(self._pending.values())

    def may_ask(self, key: str) -> bool:
        """Return whether what L2 holds for the key may be believed."""
        return key not in self._waiting

    def may_keep(self, key: str, generation: int) -> bool:
        """Return whether a value whose making began under `generation` may be kept."""
        return self._generations[hash(key) % STRIPES] == generation
