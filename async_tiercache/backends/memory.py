"""L1: this process's memory, a dict of slots bounded by entries and by encoded bytes.

Everything here is synchronous; time is an argument, monotonic. S3-FIFO chooses what makes room
(`policies.eviction`). A compiled call path does not come through here: it probes an alias table
and compares ``now < slot.soft_deadline``. A slot that leaves the store for whatever reason leaves
its alias table in the same step, and its soft deadline is in the past from then on.
"""

import contextlib
import math
import struct
from collections.abc import Callable
from hashlib import blake2b
from math import frexp, ldexp
from typing import Any, Final, NamedTuple, TypeAlias

from async_tiercache._basis import NO_EPOCH, Epoch
from async_tiercache._entry import ENTRY_ID_BYTES, Entry, Header
from async_tiercache._family import Family
from async_tiercache._options import L1, MISSING, Isolation
from async_tiercache.errors import EncodeError
from async_tiercache.policies.eviction import Node, S3Fifo

_LARGEST_SHARE: Final = 8  # a value larger than one part in so many is not kept
_STEPS: Final = 2  # nodes looked at for expiry per insert
_NEVER: Final = -math.inf

_GRAIN: Final = 8  # a soft deadline is rounded to so many binary digits of the time until then,
_LEAST_ROUNDED: Final = 0.001  # unless it is as near as this, in seconds
_MAX_SHARED: Final = 1_000  # objects of each kind that are known for later entries to share

# Flags, deadline, size, total; created_at, fresh_until, stale_until, load_seconds, entry id; then
# comes the etag. Without that they are 63 bytes, the most that take 96 of memory.
_TOTAL_BYTES: Final = 6
_COLD: Final = struct.Struct(f"<BdI{_TOTAL_BYTES}s3df{ENTRY_ID_BYTES}s")
_DEADLINE: Final = struct.Struct("<xd")
_SIZE: Final = struct.Struct("<9xI")
_ABSENT: Final = 1
_IN_MAIN: Final = 2
_LARGEST: Final = 2**32 - 1  # as in a frame


class Standing(NamedTuple):
    """What an entry of L1 stands under, by the ledger.

    Attributes:
        tags: Its tags.
        total: The ledger's total for its key and its tags.
        epoch: The ledger's epoch.
    """

    tags: tuple[str, ...] = ()
    total: int = 0
    epoch: Epoch = NO_EPOCH


NOWHERE: Final = Standing()

Group: TypeAlias = tuple[Any, ...]
"""The family of an entry, the alias table that it is in or `None`, and the tags it stands under.

Those without tags have the same as the others of their function, a tuple that they share.
"""


class _Hit(Node):
    """What a hit reads: side by side, so that the processor fetches it at once."""

    __slots__ = ("epoch", "soft_deadline", "value")

    value: Any
    soft_deadline: float
    epoch: Epoch


class Slot(_Hit):
    """One entry of L1. A hit reads `value`, `soft_deadline` and `epoch`, and sets `visited`.

    What a hit does not read is packed into one bytes object, a third of the size of its parts, but
    for what it shares with others.

    Attributes:
        value: The object that callers get.
        soft_deadline: Until when a hit may serve it unasked, monotonic.
        epoch: The ledger's epoch under which it was checked last.
        group: What it shares with the others of its function.
        table_key: Its key in its alias table, if it is in one.
    """

    __slots__ = ("_cold", "group", "table_key")

    group: Group
    table_key: Any
    _cold: bytes

    @property
    def family(self) -> Family:
        """The family that it is of."""
        family: Family = self.group[0]
        return family

    @property
    def table(self) -> "dict[Any, Slot] | None":
        """The alias table that it is in, if any."""
        table: dict[Any, Slot] | None = self.group[1]
        return table

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that it stands under."""
        return self.group[2:]

    @property
    def in_main(self) -> bool:
        """Whether it is queued in the main queue."""
        return bool(self._cold[0] & _IN_MAIN)

    @in_main.setter
    def in_main(self, in_main: bool) -> None:
        cold = self._cold
        flags = cold[0] | _IN_MAIN if in_main else cold[0] & ~_IN_MAIN
        self._cold = bytes((flags,)) + cold[1:]

    @property
    def deadline(self) -> float:
        """From when on it must not be served at all, monotonic."""
        deadline: float = _DEADLINE.unpack_from(self._cold)[0]
        return deadline

    @property
    def size(self) -> int:
        """The encoded size of the value, in bytes."""
        size: int = _SIZE.unpack_from(self._cold)[0]
        return size

    @property
    def total(self) -> int:
        """The ledger's total for the key and the tags when the entry was put here."""
        return int.from_bytes(_COLD.unpack_from(self._cold)[3])

    @property
    def payload(self) -> bytes:
        """The encoded value, if that is what is held."""
        return b""

    @property
    def absent(self) -> bool:
        """Whether the entry says that the source has no such thing."""
        return self.soft_deadline == _NEVER and self.header.absent

    @property
    def header(self) -> Header:
        """What is stored beside the value."""
        cold = self._cold
        flags, _, _, _, created_at, fresh_until, stale_until, load_seconds, entry_id = (
            _COLD.unpack_from(cold)
        )
        return Header(
            entry_id=entry_id,
            created_at=created_at,
            fresh_until=fresh_until,
            stale_until=stale_until,
            load_seconds=load_seconds,
            fingerprint=self.family.codec.fingerprint,
            etag=cold[_COLD.size :].decode(),
            absent=bool(flags & _ABSENT),
        )

    def fill(
        self,
        group: Group,
        entry: Entry,
        *,
        soft_deadline: float,
        deadline: float,
        standing: Standing,
    ) -> None:
        """Take an entry in, in place of the one before."""
        header = entry.header
        self.group = group
        _, total, self.epoch = standing
        self.hold(entry)
        # No call by key or by arguments is answered with what is absent.
        self.soft_deadline = _NEVER if header.absent else soft_deadline
        self._cold = _COLD.pack(
            _ABSENT if header.absent else 0,
            deadline,
            entry.size,
            total.to_bytes(_TOTAL_BYTES),
            header.created_at,
            header.fresh_until,
            header.stale_until,
            header.load_seconds,
            header.entry_id,
        )
        if header.etag:
            self._cold += header.etag.encode()

    def hold(self, entry: Entry) -> None:
        """Keep the value of an entry in the form that its family wants."""
        self.value = entry.value

    def is_sound(self) -> bool:
        """Return whether the value is still what was put here, as far as that can be told."""
        return True


class CopiedSlot(Slot):
    """Holds the encoded value, and makes an object of each reader's own from it."""

    __slots__ = ("_payload",)

    _payload: bytes

    def hold(self, entry: Entry) -> None:
        """Keep the encoded value."""
        self._payload = bytes(_payload_of(self.family, entry))

    @property
    def payload(self) -> bytes:
        """The encoded value."""
        return self._payload

    @property
    def value(self) -> Any:
        """A new object that is equal to what was loaded."""
        return self.family.codec.decode(self._payload)


class CheckedSlot(Slot):
    """Holds the shared object, and a digest by which to tell whether somebody has changed it."""

    __slots__ = ("_digest",)

    _digest: bytes

    def hold(self, entry: Entry) -> None:
        """Keep the value and the digest of its encoded form."""
        self.value = entry.value
        payload, codec = _payload_of(self.family, entry), self.family.codec
        with contextlib.suppress(EncodeError):
            again = payload if entry.header.absent else codec.encode(entry.value)
            if again != payload and codec.decode(payload) == entry.value:
                # A set that was read back may have another order than the one that was stored.
                payload = again
        self._digest = _digest(payload)

    def is_sound(self) -> bool:
        """Return whether the value still encodes to the same bytes."""
        if self.value is MISSING:
            return True
        try:
            return _digest(self.family.codec.encode(self.value)) == self._digest
        except EncodeError:
            return False


_KINDS: Final[dict[Isolation, type[Slot]]] = {
    "share": Slot,
    "copy": CopiedSlot,
    "check": CheckedSlot,
}


def _payload_of(family: Family, entry: Entry) -> bytes | memoryview:
    """Return the encoded value; what is absent has none."""
    if entry.payload or entry.header.absent:
        return entry.payload
    return family.codec.encode(entry.value)


def _digest(payload: bytes | memoryview) -> bytes:
    return blake2b(payload, digest_size=16).digest()


class MemoryStore:
    """The slots of one cache, by the text of their keys.

    Attributes:
        bounds: How much may be kept.
        slots: Every live slot.
        bytes: The encoded size of all values.
        mutated: Is told the key of a checked value that somebody has changed.
    """

    __slots__ = (
        "_groups",
        "_instants",
        "_largest",
        "_queues",
        "bounds",
        "bytes",
        "mutated",
        "slots",
    )

    def __init__(self, bounds: L1) -> None:
        self.bounds = bounds
        self.slots: dict[str, Slot] = {}
        self.bytes = 0
        self.mutated: Callable[[str], None] | None = None
        self._largest = min(bounds.max_bytes // _LARGEST_SHARE, _LARGEST)
        self._queues: S3Fifo[Slot] = S3Fifo()
        self._groups: dict[tuple[Family, int], Group] = {}
        self._instants: dict[float, float] = {}

    def __len__(self) -> int:
        return len(self.slots)

    def __repr__(self) -> str:
        bounds = self.bounds
        return (
            f"<MemoryStore {len(self)}/{bounds.max_entries} entries, "
            f"{self.bytes}/{bounds.max_bytes} bytes>"
        )

    def get(self, key: str, now: float) -> Slot | None:
        """Return the slot of a key unless its deadline has passed; serving it is a visit.

        The caller compares `soft_deadline` and sets `visited`.
        """
        slot = self.slots.get(key)
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

        Returns:
            Its slot, or `None` if the value is too large to keep; the last one is gone then, too.
        """
        size, counts = entry.size, family.counts
        if size > self._largest:
            counts.l1_oversized += 1
            self.drop(key)
            return None
        kind = _KINDS[family.limits.isolation]
        slot = self.slots.get(key)
        if slot is not None and type(slot) is not kind:
            self._remove(slot)
            slot = None
        replaces, table = slot is not None, None
        if slot is None:
            slot = kind(key)
        else:
            table = self._emptied(slot, family, standing.tags)
        self._expire(now)
        others, bounds = len(self.slots) - replaces, self.bounds
        if others >= bounds.max_entries or self.bytes + size > bounds.max_bytes:
            self._make_room(size, now, others=others)
        slot.fill(
            self._group(family, table, standing.tags),
            entry,
            soft_deadline=self._shared_instant(soft_deadline, now),
            deadline=deadline,
            standing=standing,
        )
        self.slots[key] = slot
        self.bytes += size
        counts.l1_bytes += size
        counts.l1_entries += 1
        # Whoever puts a key again was asked for it again.
        self._queues.push(slot, reused=replaces)
        return slot

    def _emptied(self, slot: Slot, family: Family, tags: tuple[str, ...]) -> dict[Any, Slot] | None:
        """Take a slot out of its queue, to be filled anew; return the alias table it stays in."""
        self._queues.remove(slot)
        self._discount(slot)
        if all(tag in tags for tag in slot.tags) and family.understands(slot.family.codec):
            return slot.table
        # A call path looks for neither, and its function may have declared these tags.
        self._unlink(slot)
        return None

    def link(self, slot: Slot, table: dict[Any, Slot], table_key: Any) -> None:
        """Put a live slot into an alias table, where a compiled call path finds it.

        A slot has one alias and an alias one slot: where there is one already, that one stays.
        """
        if (
            slot.table is None
            and self.slots.get(slot.key) is slot
            and table.setdefault(table_key, slot) is slot
        ):
            slot.group = self._group(slot.family, table, slot.tags)
            slot.table_key = table_key

    def drop(self, key: str) -> bool:
        """Remove a key, and return whether it was here."""
        slot = self.slots.get(key)
        if slot is None:
            return False
        self._remove(slot)
        return True

    def clear(self) -> None:
        """Remove every key."""
        self._queues.clear()
        for slot in self.slots.values():
            self._discount(slot)
            self._retire(slot)
        self.slots.clear()
        self._groups.clear()

    def _group(self, family: Family, table: dict[Any, Slot] | None, tags: tuple[str, ...]) -> Group:
        if tags:
            return (family, table, *tags)
        identity, groups = (family, id(table)), self._groups
        group = groups.get(identity)
        if group is None:
            if len(groups) >= _MAX_SHARED:
                groups.clear()
            # It holds the table, whose id cannot become another's while it is known.
            group = groups[identity] = (family, table)
        return group

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

    def _make_room(self, size: int, now: float, *, others: int) -> None:
        bounds = self.bounds
        while others >= bounds.max_entries or self.bytes + size > bounds.max_bytes:
            slot = self._queues.pop()
            counts = slot.family.counts
            if now < slot.soft_deadline or now < slot.deadline:
                counts.l1_evictions += 1
            else:
                counts.l1_expiries += 1
            self._forget(slot)
            others -= 1

    def _remove(self, slot: Slot) -> None:
        # It is the key that is popular, not this value of it.
        if slot.visited:
            self._queues.remember(slot)
        self._queues.remove(slot)
        self._forget(slot)

    def _forget(self, slot: Slot) -> None:
        del self.slots[slot.key]
        self._discount(slot)
        self._retire(slot)

    def _discount(self, slot: Slot) -> None:
        """Count a slot's entry no more, because it goes or is replaced."""
        size, counts = slot.size, slot.family.counts
        self.bytes -= size
        counts.l1_bytes -= size
        counts.l1_entries -= 1
        if self.mutated is not None and not slot.is_sound():
            self.mutated(slot.key)

    @classmethod
    def _retire(cls, slot: Slot) -> None:
        slot.soft_deadline = _NEVER
        cls._unlink(slot)

    @staticmethod
    def _unlink(slot: Slot) -> None:
        """Let no compiled call path find a slot any more that is filled anew or goes."""
        table = slot.table
        if table is not None:
            table.pop(slot.table_key, None)
