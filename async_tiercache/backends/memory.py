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
from typing import Any, Final, NamedTuple

from async_tiercache._entry import ENTRY_ID_BYTES, Entry, Header
from async_tiercache._family import Family
from async_tiercache._options import L1, MISSING, Isolation
from async_tiercache.errors import EncodeError
from async_tiercache.policies.eviction import Node, S3Fifo

_LARGEST_SHARE: Final = 8  # a value larger than one part in so many is not kept
_STEPS: Final = 2  # nodes looked at for expiry per insert
_NEVER: Final = -math.inf

# Deadline, size, total; created_at, fresh_until, stale_until, load_seconds, absent; then come
# the entry id and the etag. Without that they are 63 bytes, the most that take 96 of memory.
_TOTAL_BYTES: Final = 6
_COLD: Final = struct.Struct(f"<dI{_TOTAL_BYTES}s3df?")
_ETAG: Final = _COLD.size + ENTRY_ID_BYTES
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
    epoch: object = None


NOWHERE: Final = Standing()


class _Hit(Node):
    """What a hit reads: side by side, so that the processor fetches it at once."""

    __slots__ = ("epoch", "soft_deadline", "value")

    value: Any
    soft_deadline: float
    epoch: object


class Slot(_Hit):
    """One entry of L1. A hit reads `value`, `soft_deadline` and `epoch`, and sets `visited`.

    What a hit does not read is packed into one bytes object, a third of the size of its parts.

    Attributes:
        family: The family that it is of.
        value: The object that callers get.
        soft_deadline: Until when a hit may serve it unasked, monotonic.
        epoch: The ledger's epoch under which it was checked last.
        tags: The tags that it stands under.
        table: The alias table that it is in, if any.
        table_key: Its key there.
    """

    __slots__ = ("_cold", "family", "table", "table_key", "tags")

    family: Family
    tags: tuple[str, ...]
    _cold: bytes

    def __init__(self, key: str) -> None:
        self.key = key
        self.table: dict[Any, Slot] | None = None
        self.table_key: Any = None

    @property
    def deadline(self) -> float:
        """From when on it must not be served at all, monotonic."""
        deadline: float = _COLD.unpack_from(self._cold)[0]
        return deadline

    @property
    def size(self) -> int:
        """The encoded size of the value, in bytes."""
        size: int = _COLD.unpack_from(self._cold)[1]
        return size

    @property
    def total(self) -> int:
        """The ledger's total for the key and the tags when the entry was put here."""
        return int.from_bytes(_COLD.unpack_from(self._cold)[2])

    @property
    def payload(self) -> bytes:
        """The encoded value, if that is what is held."""
        return b""

    def unlink(self) -> None:
        """Be found by no compiled call path any more."""
        if self.table is not None:
            self.table.pop(self.table_key, None)
            self.table = None

    @property
    def absent(self) -> bool:
        """Whether the entry says that the source has no such thing."""
        return self.soft_deadline == _NEVER and self.header.absent

    @property
    def header(self) -> Header:
        """What is stored beside the value."""
        cold = self._cold
        _, _, _, created_at, fresh_until, stale_until, load_seconds, absent = _COLD.unpack_from(
            cold
        )
        return Header(
            entry_id=cold[_COLD.size : _ETAG],
            created_at=created_at,
            fresh_until=fresh_until,
            stale_until=stale_until,
            load_seconds=load_seconds,
            fingerprint=self.family.codec.fingerprint,
            etag=cold[_ETAG:].decode(),
            absent=absent,
        )

    def fill(
        self,
        family: Family,
        entry: Entry,
        *,
        soft_deadline: float,
        deadline: float,
        standing: Standing,
    ) -> None:
        """Take an entry in, in place of the one before."""
        header = entry.header
        self.family = family
        self.tags, total, self.epoch = standing
        self.hold(entry)
        # No call by key or by arguments is answered with what is absent.
        self.soft_deadline = _NEVER if header.absent else soft_deadline
        self._cold = (
            _COLD.pack(
                deadline,
                entry.size,
                total.to_bytes(_TOTAL_BYTES),
                header.created_at,
                header.fresh_until,
                header.stale_until,
                header.load_seconds,
                header.absent,
            )
            + header.entry_id
            + header.etag.encode()
        )

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

    __slots__ = ("_queues", "bounds", "bytes", "mutated", "slots")

    def __init__(self, bounds: L1) -> None:
        self.bounds = bounds
        self.slots: dict[str, Slot] = {}
        self.bytes = 0
        self.mutated: Callable[[str], None] | None = None
        self._queues: S3Fifo[Slot] = S3Fifo()

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
        queues = self._queues
        slot = self.slots.get(key)
        if entry.size > min(self.bounds.max_bytes // _LARGEST_SHARE, _LARGEST):
            family.counts.l1_oversized += 1
            self.drop(key)
            return None
        kind = _KINDS[family.limits.isolation]
        if slot is not None and type(slot) is not kind:
            self._remove(slot)
            slot = None
        replaces = slot is not None
        if slot is None:
            slot = kind(key)
        else:
            queues.remove(slot)
            self._discount(slot)
            if not (
                all(tag in standing.tags for tag in slot.tags)
                and family.understands(slot.family.codec)
            ):
                # A call path looks for neither, and its function may have declared these tags.
                slot.unlink()
        self._expire(now)
        self._make_room(entry.size, now)
        slot.fill(family, entry, soft_deadline=soft_deadline, deadline=deadline, standing=standing)
        self.slots[key] = slot
        self.bytes += entry.size
        family.counts.l1_bytes += entry.size
        family.counts.l1_entries += 1
        # Whoever puts a key again was asked for it again.
        queues.push(slot, reused=replaces)
        return slot

    def link(self, slot: Slot, table: dict[Any, Slot], table_key: Any) -> None:
        """Put a live slot into an alias table, where a compiled call path finds it.

        A slot has one alias and an alias one slot: where there is one already, that one stays.
        """
        if (
            slot.table is None
            and self.slots.get(slot.key) is slot
            and table.setdefault(table_key, slot) is slot
        ):
            slot.table = table
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

    def _expire(self, now: float) -> None:
        for _ in range(_STEPS):
            slot = self._queues.step()
            if slot is not None and now >= slot.soft_deadline and now >= slot.deadline:
                slot.family.counts.l1_expiries += 1
                self._remove(slot)

    def _make_room(self, size: int, now: float) -> None:
        queues, bounds = self._queues, self.bounds
        while len(queues) >= bounds.max_entries or self.bytes + size > bounds.max_bytes:
            slot = queues.pop()
            if now < slot.deadline:
                slot.family.counts.l1_evictions += 1
            else:
                slot.family.counts.l1_expiries += 1
            self._forget(slot)

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

    @staticmethod
    def _retire(slot: Slot) -> None:
        slot.soft_deadline = _NEVER
        slot.unlink()
