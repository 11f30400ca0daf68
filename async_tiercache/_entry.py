"""The entry: a stored value with its header, as every tier hands it around."""

from typing import Any, Final, Literal, NamedTuple, TypeAlias

ENTRY_ID_BYTES: Final = 16

Tier: TypeAlias = Literal["l1", "l2", "loader"]


class Header(NamedTuple):
    """What is stored beside a value; all times are the remote tier's clock, in epoch seconds.

    Attributes:
        entry_id: 16 random bytes that name this stored state and no other.
        created_at: When the load that made the value began.
        fresh_until: From here on the entry is stale.
        stale_until: From here on the entry is dead.
        load_seconds: How long the loader took; early expiration is scaled by it.
        fingerprint: 8 bytes naming the schema of the value.
        etag: What the loader said identifies this state of the source, up to 255 bytes of UTF-8.
        absent: Whether the entry says that the source has no such thing; it has no value then.
        namespace: The ids that the namespace had before the load; none where there is no L2.
        tags: Each tag with the ids that it had before the load.
    """

    entry_id: bytes
    created_at: float
    fresh_until: float
    stale_until: float
    load_seconds: float
    fingerprint: bytes
    etag: str = ""
    absent: bool = False
    namespace: bytes = b""
    tags: tuple[tuple[str, bytes], ...] = ()


class Entry(NamedTuple):
    """A value with its header.

    Attributes:
        value: The object that callers get; MISSING when the header says that there is none.
        header: What is stored beside it.
        size: The encoded size of the value, in bytes.
        payload: The encoded value, for those who want an object of their own.
    """

    value: Any
    header: Header
    size: int
    payload: bytes | memoryview = b""
