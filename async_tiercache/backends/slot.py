"""The slots of L1: one entry each, in as little memory as its promises allow.

What a hit reads are attributes. The rest is packed into one int, a third of the size of its parts
or less, but for what a slot shares with others. docs/design/memory.md says what each byte is for.
"""

import contextlib
import math
import struct
from hashlib import blake2b
from typing import Any, Final, NamedTuple, TypeAlias

from async_tiercache._basis import NO_EPOCH, Epoch
from async_tiercache._entry import ENTRY_ID_BYTES, Entry, Header
from async_tiercache._family import Aliases, Family
from async_tiercache._options import MISSING, Isolation
from async_tiercache.backends.index import sign_of
from async_tiercache.errors import EncodeError
from async_tiercache.policies.eviction import Node

NEVER: Final = -math.inf
"""The soft deadline of what no hit may serve."""

# One byte of flags and of a sign, size, total, created_at. Where there is no L2, and the time from
# fresh_until on is the policy's grace, there follows how long it is fresh: these are 22 bytes, the
# most that an int of 48 takes. Else fresh_until, stale_until, load_seconds, deadline, entry id: 62,
# where 64 take 96. Then the etag, if there is one, and what ends it.
_TOTAL_BYTES: Final = 5
_SHARED: Final = f"<BI{_TOTAL_BYTES}sd"
_SHORT: Final = struct.Struct(f"{_SHARED}f")
_LONG: Final = struct.Struct(f"{_SHARED}2dfd{ENTRY_ID_BYTES}s")
_TIMES: Final = struct.Struct("<2d")
_SINGLE: Final = struct.Struct("<f")
_ETAG_END: Final = b"\1"
_DOWN: Final = 1 - 2.0**-23
_LONGEST: Final = 3e38
_SAME: Final = 1e-6  # seconds by which two sums of times may differ that should not

_ABSENT: Final = 1
_IN_MAIN: Final = 2
_IS_SHORT: Final = 4
_HAS_GRACE: Final = 8
_LARGEST_TOTAL: Final = 2 ** (8 * _TOTAL_BYTES) - 1
LARGEST: Final = 2**32 - 1
"""Bytes that a value may have, as in a frame."""


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
"""The family of an entry, the aliases that it is among or `None`, and the tags it stands under.

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

    What a hit does not read is packed into one int, a third of the size of its parts or less, but
    for what it shares with others.

    Attributes:
        value: The object that callers get.
        soft_deadline: Until when a hit may serve it unasked, monotonic.
        epoch: The ledger's epoch under which it was checked last.
        group: What it shares with the others of its function.
        table_key: Its key in its alias table, if it is in one.
        link: The text of its key; if nobody holds that, the next slot in its row of the index.
        cold: What a hit does not read.
    """

    __slots__ = ("cold", "group", "link", "table_key")

    group: Group
    table_key: Any
    link: Any
    cold: int

    def __init__(self, key: str) -> None:
        super().__init__()
        self.link = key

    @property
    def key(self) -> str:
        """The text of its key."""
        link = self.link
        text: str = link if isinstance(link, str) else self.group[1].text(self.table_key)
        return text

    @property
    def named(self) -> bool:
        """Whether it holds the text of its key."""
        return isinstance(self.link, str)

    @property
    def family(self) -> Family:
        """The family that it is of."""
        family: Family = self.group[0]
        return family

    @property
    def table(self) -> "dict[Any, Slot] | None":
        """The alias table that it is in, if any."""
        aliases: Aliases | None = self.group[1]
        return None if aliases is None else aliases.slots

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags that it stands under."""
        return self.group[2:]

    @property
    def in_main(self) -> bool:
        """Whether it is queued in the main queue."""
        return self.cold & _IN_MAIN != 0

    @in_main.setter
    def in_main(self, in_main: bool) -> None:
        self.cold = self.cold | _IN_MAIN if in_main else self.cold & ~_IN_MAIN

    @property
    def deadline(self) -> float:
        """From when on it must not be served at all, monotonic."""
        if self.cold & _IS_SHORT:
            return self.header.stale_until
        deadline: float = _LONG.unpack_from(self._bytes())[7]
        return deadline

    @property
    def size(self) -> int:
        """The encoded size of the value, in bytes."""
        return self.cold >> 8 & LARGEST

    @property
    def total(self) -> int:
        """The ledger's total for the key and the tags when the entry was put here."""
        return self.cold >> 40 & _LARGEST_TOTAL

    def _bytes(self) -> bytes:
        cold = self.cold
        return cold.to_bytes(max(_LONG.size, cold.bit_length() + 7 >> 3), "little")

    @property
    def payload(self) -> bytes:
        """The encoded value, if that is what is held."""
        return b""

    @property
    def absent(self) -> bool:
        """Whether the entry says that the source has no such thing."""
        return self.soft_deadline == NEVER and self.header.absent

    @property
    def header(self) -> Header:
        """What is stored beside the value; without an L2 its times are its id."""
        packed, family = self._bytes(), self.family
        if self.cold & _IS_SHORT:
            flags, _, _, created_at, fresh_for = _SHORT.unpack_from(packed)
            fresh_until = created_at + fresh_for
            stale_until = fresh_until + (family.limits.grace if flags & _HAS_GRACE else 0.0)
            load_seconds, entry_id = 0.0, _TIMES.pack(created_at, fresh_until)
            etag = packed[_SHORT.size :].rstrip(b"\0")
        else:
            flags, _, _, created_at, fresh_until, stale_until, load_seconds, _, entry_id = (
                _LONG.unpack_from(packed)
            )
            etag = packed[_LONG.size :]
        return Header(
            entry_id=entry_id,
            created_at=created_at,
            fresh_until=fresh_until,
            stale_until=stale_until,
            load_seconds=load_seconds,
            fingerprint=family.codec.fingerprint,
            etag=etag[: -len(_ETAG_END)].decode(),
            absent=bool(flags & _ABSENT),
        )

    def fill(
        self, group: Group, entry: Entry, cold: int, *, soft_deadline: float, epoch: Epoch
    ) -> None:
        """Take an entry in, in place of the one before."""
        self.group = group
        self.epoch = epoch
        self.hold(entry)
        # No call by key or by arguments is answered with what is absent.
        self.soft_deadline = NEVER if entry.header.absent else soft_deadline
        self.cold = cold

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


KINDS: Final[dict[Isolation, type[Slot]]] = {
    "share": Slot,
    "copy": CopiedSlot,
    "check": CheckedSlot,
}


def packed_beside_l2(
    key: str, _family: Family, entry: Entry, deadline: float, total: int, /
) -> int:
    """Return what a hit does not read.

    Args:
        key: The text of the entry's key.
        _family: The family that it is of.
        entry: The entry.
        deadline: From when on it must not be served at all, monotonic.
        total: The ledger's total for the key and the tags.
    """
    header = entry.header
    packed = _LONG.pack(
        sign_of(hash(key)) | (_ABSENT if header.absent else 0),
        entry.size,
        total.to_bytes(_TOTAL_BYTES, "little"),
        header.created_at,
        header.fresh_until,
        header.stale_until,
        header.load_seconds,
        deadline,
        header.entry_id or _TIMES.pack(header.created_at, header.fresh_until),
    )
    if header.etag:
        packed += header.etag.encode() + _ETAG_END
    return int.from_bytes(packed, "little")


def packed_alone(key: str, family: Family, entry: Entry, deadline: float, total: int, /) -> int:
    """Return what a hit does not read where there is no L2: the header's times are monotonic."""
    header = entry.header
    _, created_at, fresh_until, stale_until, *_ = header
    stale_until = min(stale_until, deadline)
    fresh_until = min(fresh_until, stale_until)
    flags = _IS_SHORT | _ABSENT if header.absent else _IS_SHORT
    if stale_until > fresh_until:
        if not -_SAME < stale_until - fresh_until - family.limits.grace < _SAME:
            return packed_beside_l2(key, family, entry, stale_until, total)
        flags |= _HAS_GRACE
    packed = _SHORT.pack(
        sign_of(hash(key)) | flags,
        entry.size,
        total.to_bytes(_TOTAL_BYTES, "little"),
        created_at,
        _rounded_down(fresh_until - created_at),
    )
    if header.etag:
        packed += header.etag.encode() + _ETAG_END
    return int.from_bytes(packed, "little")


def _rounded_down(seconds: float) -> float:
    """Return the seconds that four bytes hold, or a ten-millionth less if those were more."""
    if seconds > _LONGEST:
        return _LONGEST
    held: float = _SINGLE.unpack(_SINGLE.pack(seconds))[0]
    return held if held <= seconds else seconds * _DOWN


def _payload_of(family: Family, entry: Entry) -> bytes | memoryview:
    """Return the encoded value; what is absent has none."""
    if entry.payload or entry.header.absent:
        return entry.payload
    return family.codec.encode(entry.value)


def _digest(payload: bytes | memoryview) -> bytes:
    return blake2b(payload, digest_size=16).digest()
