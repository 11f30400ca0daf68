"""Plain frames: what nearly all keys hold in L2, opened in one loop for all that is asked together.

A plain frame is of the right key, schema and namespace, under tags whose states are known, and its
value is fresh and not due. What is anything else is left to the judge, who tells what it is.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final, TypeAlias
from zlib import crc32

from async_tiercache._ask import States
from async_tiercache._entry import Entry, Header
from async_tiercache._family import Family
from async_tiercache._options import MISSING, Limits
from async_tiercache.codecs.frame import (
    BOUND,
    HEADER_BYTES,
    LATEST,
    LONGEST_LOAD,
    STAMPED,
    UNTAGGED,
    digests_of,
    plain_form,
    unpack_fields,
)
from async_tiercache.policies.freshness import MAX_DRAW, early_at

Pairs: TypeAlias = tuple[tuple[str, bytes], ...]
Plain: TypeAlias = tuple[
    Any, float, Pairs, tuple[bytes, float, float, float, float, bytes | memoryview]
]
"""A value, when it is due for a refresh, its tags with their ids, and of its frame the entry id,
when it was created, until when it is fresh and stale, the load seconds, and the payload."""
Row: TypeAlias = tuple[str, Collection[str], Any]
"""A key, the tags that its value must stand under, and what L2 holds for it, a `Content`."""
Terms: TypeAlias = tuple[bytes, bytes, Callable[[bytes | memoryview], Any], float, float]
"""The fingerprint of the schema, the ids of the namespace, what decodes, and until when a frame is
fresh that is surely not due, beside so many times what its load has taken."""

_LITTLE: Final = 4096  # bytes


class PlainFrames:
    """Opens plain frames.

    Args:
        namespace: The cache's namespace.
        random: Draws when a value is due.
    """

    __slots__ = ("_digests", "_random")

    def __init__(self, namespace: str, random: Callable[[], float]) -> None:
        self._digests = digests_of(namespace)
        self._random = random

    def open(
        self, family: Family, rows: Iterable[Row], states: States, *, whole: bool
    ) -> tuple[list[Any], list[int]]:
        """Return what the plain frames of some rows hold, and the places of other rows.

        Args:
            family: The keys' family.
            rows: The keys, each with its tags and what L2 holds.
            states: The states of the tags.
            whole: Whether a `Plain` of each is returned, and not only its value, so that no more
                is kept of so many; for other rows it is `MISSING`.
        """
        fingerprint, namespace, decode, horizon, share = _terms(family, states)
        digests, limits, now = self._digests, family.limits, states.read_at
        known: Collection[str] = ()
        pairs: Pairs | None = ()
        # With their types in the call they would take longer than a frame.
        left: list[int] = []
        opened: list[Any] = []
        head, head_checksum, packed, start, paid = UNTAGGED
        for key, tags, frame in rows:
            try:
                if tags is not known:
                    pairs = states.pairs(tags)
                    head, head_checksum, packed, start, paid = plain_form(pairs)
                    known = tags
                if frame is not None:
                    # What is no bytes, or too few, raises.
                    begin, entry_id, created, fresh, stale, load, stamped, checksum, bound, size = (
                        unpack_fields(frame)
                    )
                    # A view costs more than a copy of little.
                    rest = (frame if size <= _LITTLE else memoryview(frame))[BOUND]
                    if (
                        begin == head
                        and bound == fingerprint + digests[key] + namespace
                        and len(frame) - start == size
                        and crc32(frame[STAMPED]) == stamped
                        and crc32(rest, head_checksum) == checksum
                        and (not packed or frame.startswith(packed, HEADER_BYTES))
                        # Floats, for an int compares more slowly.
                        and 0.0 <= created <= fresh <= stale <= LATEST
                        and 0.0 <= load <= LONGEST_LOAD
                    ):
                        early = fresh
                        if horizon + share * load >= fresh:
                            early = self._due_at(limits, created, fresh, load)
                        if now < early:
                            payload = rest[paid]
                            value = decode(payload)
                            if whole:
                                fields = entry_id, created, fresh, stale, load, payload
                                value = value, early, pairs, fields
                            opened.append(value)
                            continue
            except Exception:  # noqa: BLE001, S110 - the finder tells what it is
                pass
            left.append(len(opened))
            opened.append(MISSING)
        return opened, left

    def _due_at(
        self, limits: Limits, created_at: float, fresh_until: float, load_seconds: float
    ) -> float:
        return early_at(
            created_at=created_at,
            fresh_until=fresh_until,
            load_seconds=load_seconds,
            beta=limits.early,
            u=self._random(),
        )


def _terms(family: Family, states: States) -> Terms:
    """Return on what terms the frames of a family are plain.

    Without a fingerprint, or the ids of the namespace, none is: what binds one is longer.
    """
    limits = family.limits
    # Whatever is fresh for longer than this is not due, however the draw is.
    horizon, share = states.read_at + limits.l1_ttl, MAX_DRAW * limits.early
    codec = family.codec
    fingerprint, decode = b"", codec.decode
    try:
        fingerprint = codec.fingerprint
        decode = getattr(codec, "quick", decode)
    except Exception:  # noqa: BLE001, S110 - of a user's annotation; the finder tells what it is
        pass
    return fingerprint, states.namespace or b"", decode, horizon, share


def entry_of(family: Family, plain: Plain, states: States) -> Entry:
    """Return the entry that a plain frame holds."""
    value, _, pairs, (entry_id, created, fresh, stale, load_seconds, payload) = plain
    header = Header(
        entry_id, created, fresh, stale, load_seconds,
        family.codec.fingerprint, "", False, states.namespace or b"", pairs,
    )  # fmt: skip
    return Entry(value, header, len(payload), payload)
