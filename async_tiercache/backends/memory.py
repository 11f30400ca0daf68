"""L1: this process's memory, a dict of slots bounded by entries and by encoded bytes.

Everything here is synchronous; time is an argument, monotonic. S3-FIFO chooses what makes room
(`policies.eviction`). A compiled call path does not come through here: it probes an alias table
and compares ``now < slot.soft_deadline``. A slot that leaves the store for whatever reason leaves
its alias table in the same step, and its soft deadline is in the past from then on.

A slot is found by the text of its key. If it is in an alias table, nobody holds that text, which
would take as much as all the rest: the index finds it, until a call by key asks for it.
"""

import math
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from itertools import islice
from math import frexp, ldexp
from typing import Any, Final

from async_tiercache._entry import Entry
from async_tiercache._family import Aliases, Family
from async_tiercache._options import L1
from async_tiercache.backends.index import Index
from async_tiercache.backends.slot import (
    KINDS,
    LARGEST,
    NEVER,
    NOWHERE,
    Group,
    Slot,
    Standing,
    packed_alone,
    packed_beside_l2,
)
from async_tiercache.policies.eviction import S3Fifo

_LARGEST_SHARE: Final = 8  # a value larger than one part in so many is not kept
_STEPS: Final = 2  # nodes looked at for expiry per insert

_GRAIN: Final = 8  # a soft deadline is rounded to so many binary digits of the time until then,
_LEAST_ROUNDED: Final = 0.001  # unless it is as near as this, in seconds
_MAX_SHARED: Final = 1_000  # soft deadlines that are known for later entries to share


class MemoryStore:
    """The slots of one cache.

    Args:
        bounds: How much may be kept.
        alone: Whether there is no L2, so that the times of entries are monotonic, too.

    Attributes:
        bounds: How much may be kept.
        slots: The slots that hold the texts of their keys, by these.
        index: The other ones, which are in an alias table.
        bytes: The encoded size of all values.
        mutated: Is told the key of a checked value that somebody has changed.
    """

    __slots__ = (
        "_instants",
        "_largest",
        "_packed",
        "_queues",
        "bounds",
        "bytes",
        "index",
        "mutated",
        "slots",
    )

    def __init__(self, bounds: L1, *, alone: bool = False) -> None:
        self.bounds = bounds
        self.slots: dict[str, Slot] = {}
        self.index = Index()
        self.bytes = 0
        self.mutated: Callable[[str], None] | None = None
        self._packed = packed_alone if alone else packed_beside_l2
        self._largest = min(bounds.max_bytes // _LARGEST_SHARE, LARGEST)
        self._queues: S3Fifo[Slot] = S3Fifo()
        self._instants: dict[float, float] = {}

    def __len__(self) -> int:
        return len(self._queues)

    def __iter__(self) -> Iterator[Slot]:
        return iter(self._queues)

    def __contains__(self, key: str) -> bool:
        return self.find(key) is not None

    def has_any(self, keys: AbstractSet[str]) -> bool:
        """Return whether there may be a slot of one of several keys."""
        return bool(self.index.length) or not keys.isdisjoint(self.slots.keys())

    def __repr__(self) -> str:
        bounds = self.bounds
        return (
            f"<MemoryStore {len(self)}/{bounds.max_entries} entries, "
            f"{self.bytes}/{bounds.max_bytes} bytes>"
        )

    def find(self, key: str) -> Slot | None:
        """Return the slot of a key."""
        slot = self.slots.get(key)
        return self.index.find(key) if slot is None else slot

    def some(self, place: int, count: int) -> tuple[list[Slot], int]:
        """Return the slots that follow a place, and the place behind them; 0 at the end.

        Args:
            place: The place.
            count: How many will do.
        """
        found: list[Slot] = []
        if place >= 0:
            found, place = self.index.some(place, count)
            place = place or -1
        if place < 0 and len(found) < count:
            start, left = -1 - place, count - len(found)
            found += islice(self.slots.values(), start, start + left)
            place = place - left if start + left < len(self.slots) else 0
        return found, place

    def get(self, key: str, now: float) -> Slot | None:
        """Return the slot of a key unless its deadline has passed; serving it is a visit.

        The caller compares `soft_deadline` and sets `visited`.
        """
        slot = self.find(key)
        if slot is None or now < slot.soft_deadline or now < slot.deadline:
            return slot
        slot.visited = True
        slot.family.counts.l1_expiries += 1
        self._remove(slot)
        return None

    def put(
        self,
        key: str,
        family: Family,
        entry: Entry,
        *,
        soft_deadline: float,
        deadline: float,
        now: float,
        standing: Standing = NOWHERE,
        new: bool = False,
    ) -> Slot | None:
        """Keep an entry in place of the key's last one, whose alias it takes over.

        Args:
            key: The key's text.
            family: The family that it is of.
            entry: What to keep.
            soft_deadline: Until when a hit may serve it unasked, monotonic.
            deadline: From when on it must not be served at all, monotonic.
            now: The monotonic time.
            standing: What it stands under.
            new: Whether it is known that the key is not here.

        Returns:
            Its slot, or `None` if the value is too large to keep; the last one is gone then, too.
        """
        size, counts = entry.size, family.counts
        if size > self._largest:
            counts.l1_oversized += 1
            self.drop(key)
            return None
        kind = KINDS[family.limits.isolation]
        slot = None if new else self.find(key)
        if slot is not None and type(slot) is not kind:
            self._remove(slot)
            slot = None
        replaces, aliases = slot is not None, None
        if slot is None:
            slot = kind(key)
        else:
            aliases = self._emptied(slot, family, standing.tags)
        self._expire(now)
        self._make_room(size, now)
        slot.fill(
            self._group(family, aliases, standing.tags),
            entry,
            self._packed(key, family, entry, deadline, standing.total),
            soft_deadline=self._shared_instant(soft_deadline, now),
            epoch=standing.epoch,
        )
        if not replaces:
            self.slots[key] = slot
        self.bytes += size
        counts.l1_bytes += size
        counts.l1_entries += 1
        # Whoever puts a key again was asked for it again.
        self._queues.push(slot, reused=replaces)
        return slot

    def _emptied(self, slot: Slot, family: Family, tags: tuple[str, ...]) -> Aliases | None:
        """Take a slot out of its queue, to be filled anew; return the aliases it stays among."""
        self._queues.remove(slot)
        self._discount(slot)
        if all(tag in tags for tag in slot.tags) and family.understands(slot.family.codec):
            aliases: Aliases | None = slot.group[1]
            return aliases
        # A call path looks for neither, and its function may have declared these tags.
        self.name(slot)
        self._unlink(slot)
        return None

    def link(self, slot: Slot, aliases: Aliases, table_key: Any) -> None:
        """Put a live slot into an alias table, where a compiled call path finds it.

        A slot has one alias and an alias one slot: where there is one already, that one stays. From
        then on the alias tells the text of the key, unless that had to be shortened.
        """
        key, group = slot.link, slot.group
        if self.slots.get(key) is not slot:  # A key that nobody holds is no key of that dict.
            return
        mine = group[1]
        if mine is None:
            if aliases.slots.setdefault(table_key, slot) is not slot:
                return
            slot.group = self._group(group[0], aliases, group[2:])
            slot.table_key, mine = table_key, aliases
        if mine.text(slot.table_key) == key:
            del self.slots[key]
            self.index.add(slot, key)

    def name(self, slot: Slot) -> None:
        """Let a live slot hold the text of its key, by which a call finds it at once then."""
        if not slot.named:
            key = slot.key
            self.index.remove(slot, key)
            slot.link = key
            self.slots[key] = slot

    def drop(self, key: str) -> bool:
        """Remove a key, and return whether it was here."""
        slot = self.find(key)
        if slot is None:
            return False
        self._remove(slot)
        return True

    def clear(self) -> None:
        """Remove every key."""
        slots = list(self._queues)
        self._queues.clear()
        self.slots.clear()
        self.index = Index()
        for slot in slots:
            self._discount(slot)
            self._unlink(slot)
            slot.soft_deadline = NEVER
            if not slot.named:
                slot.link = None

    def _group(self, family: Family, aliases: Aliases | None, tags: tuple[str, ...]) -> Group:
        if tags:
            return (family, aliases, *tags)
        return family.group if aliases is None else aliases.group_of(family)

    def _shared_instant(self, instant: float, now: float) -> float:
        """Return a soft deadline that is at most a hundredth earlier, to be shared with others.

        A float of its own would cost each entry 32 bytes.
        """
        left = instant - now
        if not _LEAST_ROUNDED < left < math.inf:
            return instant
        instant -= instant % ldexp(1.0, frexp(left)[1] - _GRAIN)
        instants = self._instants
        if len(instants) >= _MAX_SHARED:
            instants.clear()
        return instants.setdefault(instant, instant)

    def _expire(self, now: float) -> None:
        step = self._queues.step
        for _ in range(_STEPS):
            slot = step()
            if slot is not None and now >= slot.soft_deadline and now >= slot.deadline:
                slot.family.counts.l1_expiries += 1
                self._remove(slot)

    def _make_room(self, size: int, now: float) -> None:
        bounds, others = self.bounds, len(self._queues)
        while others >= bounds.max_entries or self.bytes + size > bounds.max_bytes:
            slot, key = self._queues.pop()
            counts = slot.group[0].counts
            if now < slot.soft_deadline or now < slot.deadline:
                counts.l1_evictions += 1
            else:
                counts.l1_expiries += 1
            self._forget(slot, key)
            others -= 1

    def _remove(self, slot: Slot) -> None:
        # It is the key that is popular, not this value of it.
        if slot.visited:
            self._queues.remember(slot)
        self._queues.remove(slot)
        self._forget(slot, slot.key)

    def _forget(self, slot: Slot, key: str) -> None:
        if slot.named:
            del self.slots[key]
        else:
            self.index.remove(slot, key)
        self._discount(slot)
        self._unlink(slot)
        slot.soft_deadline = NEVER

    def _discount(self, slot: Slot) -> None:
        """Count a slot's entry no more, because it goes or is replaced."""
        size, counts = slot.size, slot.group[0].counts
        self.bytes -= size
        counts.l1_bytes -= size
        counts.l1_entries -= 1
        if self.mutated is not None and not slot.is_sound():
            self.mutated(slot.key)

    @staticmethod
    def _unlink(slot: Slot) -> None:
        """Let no compiled call path find a slot any more that is filled anew or goes."""
        aliases = slot.group[1]
        if aliases is not None:
            aliases.slots.pop(slot.table_key, None)
