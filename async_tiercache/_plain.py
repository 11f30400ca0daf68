"""Plain frames: what nearly all keys hold in L2, opened in one loop for all that is asked together.

A plain frame is of the right key, schema and namespace, under tags whose states are known, and its
value is fresh and not due. What is anything else is left to the judge, who tells what it is.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias

from async_tiercache._ask import States
from async_tiercache._entry import Entry, Header
from async_tiercache._family import Family
from async_tiercache._options import Limits
from async_tiercache.abc import Content
from async_tiercache.codecs.frame import Opened, digests_of, pack_tags, unpack_plain
from async_tiercache.policies.freshness import MAX_DRAW, early_at

Pairs: TypeAlias = tuple[tuple[str, bytes], ...]
Plain: TypeAlias = tuple[Any, float, Pairs, Opened]
"""A value, when it is due for a refresh, its tags with their ids, and what `unpack_plain` says."""
Row: TypeAlias = tuple[str, Collection[str], Content]
"""A key, the tags that its value must stand under, and what L2 holds for it."""
Terms: TypeAlias = tuple[bytes, bytes, Callable[[bytes | memoryview], Any]]
"""The fingerprint of the schema, the ids of the namespace, and what decodes."""


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
        self,
        family: Family,
        rows: Iterable[Row],
        states: States,
        found: dict[str, Any],
        *,
        whole: bool,
    ) -> list[tuple[str, Content]]:
        """Open the plain frames of some rows; return the keys of the others with what they hold.

        Args:
            family: The keys' family.
            rows: The keys, each with its tags and what L2 holds.
            states: The states of the tags.
            found: Is given by key what was found, a `Plain`.
            whole: Or only the value of each, if not, so that no more is kept of so many.
        """
        terms = _terms(family, states.namespace)
        if terms is None:
            return [(key, content) for key, _, content in rows]
        fingerprint, namespace, decode = terms
        digests, limits, now = self._digests, family.limits, states.read_at
        # Whatever is fresh for longer than this is not due, however the draw is.
        horizon, share = now + limits.l1_ttl, MAX_DRAW * limits.early
        known: Collection[str] = ()
        pairs: Pairs | None = ()
        packed = b""
        left: list[tuple[str, Content]] = []
        for key, tags, content in rows:
            try:
                if tags is not known:
                    under = states.pairs(tags)
                    packed = pack_tags(under or ())
                    known, pairs = tags, under
                if pairs is not None and isinstance(content, bytes):
                    binding = fingerprint + digests[key] + namespace
                    fields = unpack_plain(content, binding, len(pairs), packed)
                    if fields is not None:
                        _, created, early, _, load_seconds, payload = fields
                        if horizon + share * load_seconds >= early:
                            early = self._due_at(limits, created, early, load_seconds)
                        if now < early:
                            value = decode(payload)
                            found[key] = (value, early, pairs, fields) if whole else value
                            continue
            except Exception:  # noqa: BLE001, S110 - the finder tells what it is
                pass
            left.append((key, content))
        return left

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


def _terms(family: Family, namespace: bytes | None) -> Terms | None:
    """Return on what terms the frames of a family are plain; `None` if none is."""
    if namespace is None:
        return None
    try:
        return family.codec.fingerprint, namespace, family.codec.decode
    except Exception:  # noqa: BLE001 - of a user's annotation; the finder tells what it is
        return None


def entry_of(family: Family, plain: Plain, states: States) -> Entry:
    """Return the entry that a plain frame holds."""
    value, _, pairs, (entry_id, created, fresh, stale, load_seconds, payload) = plain
    header = Header(
        entry_id, created, fresh, stale, load_seconds,
        family.codec.fingerprint, "", False, states.namespace or b"", pairs,
    )  # fmt: skip
    return Entry(value, header, len(payload), payload)
