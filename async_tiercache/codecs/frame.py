"""The frame: how an entry is laid out as one string in the remote tier.

Pure: no clock, no chance, no IO. All numbers are big endian, all widths fixed:

    offset  bytes
         0      2  magic, ``VT``
         2      1  version, 1
         3      1  flags, 0
         4      1  codec, 1 = msgpack
         5      1  number of tags, 0
         6     16  entry id
        22     24  created at, fresh until, stale until: float64, epoch seconds of the remote clock
        46      4  load seconds: float32
        50      8  fingerprint of the schema
        58     16  digest of the key
        74     16  namespace id
        90      4  size of the payload
        94         payload

The entry id stands at a fixed offset because the Lua scripts compare it. The digest binds a value
to its key: a frame that was copied to, or delivered for, another key is refused.
"""

import struct
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal

from async_tiercache._entry import ENTRY_ID_BYTES, Header
from async_tiercache.errors import DecodeError, EncodeError

ENTRY_ID_OFFSET: Final = 6
LEASE_BYTES: Final = 17
FINGERPRINT_BYTES: Final = 8
DIGEST_BYTES: Final = 16

_LAYOUT: Final = struct.Struct(">6s16sdddf8s16s16sI")
HEADER_BYTES: Final = _LAYOUT.size
_PREFIX: Final = b"VT\x01\x00\x01\x00"
_LEASE_PREFIX: Final = b"L"
_LATEST: Final = 253_402_300_800.0  # the year 10000: no entry is created or ends later
_LONGEST_LOAD: Final = 1e9
_LARGEST: Final = 2**32 - 1


class FrameError(DecodeError):
    """Stored bytes are not a frame of the key that was asked for.

    Attributes:
        cause: ``"frame"``: the bytes are damaged or of an unknown format. ``"key"``: they are a
            frame of another key or namespace.
    """

    def __init__(
        self, message: str, *, cause: Literal["frame", "key"] = "frame", hint: str = ""
    ) -> None:
        super().__init__(message, hint=hint)
        self.cause: Literal["frame", "key"] = cause


@lru_cache(maxsize=256)
def namespace_id(namespace: str) -> bytes:
    """Return the 16 bytes that stand for a namespace in every frame of it."""
    text = namespace.encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=DIGEST_BYTES, person=b"tiercache.ns").digest()


def digest_key(namespace: str, text: str) -> bytes:
    """Return the 16 bytes that bind a frame to its key.

    The hash is keyed by the namespace, so no two pairs of namespace and text share an input.
    """
    return blake2b(
        text.encode("utf-8", "surrogatepass"),
        digest_size=DIGEST_BYTES,
        key=namespace_id(namespace),
        person=b"tiercache.key",
    ).digest()


def is_lease(raw: bytes) -> bool:
    """Return whether a key's content is a lease and not a frame."""
    return len(raw) == LEASE_BYTES and raw.startswith(_LEASE_PREFIX)


def pack(header: Header, payload: bytes, *, key_digest: bytes, namespace_id: bytes) -> bytes:
    """Return the frame of a payload.

    Raises:
        EncodeError: The payload is 4 GiB or more, or the header holds what no frame may hold.
    """
    problem = _problem(header.created_at, header.fresh_until, header.stale_until)
    if not 0 <= header.load_seconds <= _LONGEST_LOAD:
        problem = "the load time is out of range"
    if len(payload) > _LARGEST:
        problem = "the payload is 4 GiB or more"
    widths = len(header.entry_id), len(header.fingerprint), len(key_digest), len(namespace_id)
    if widths != (ENTRY_ID_BYTES, FINGERPRINT_BYTES, DIGEST_BYTES, DIGEST_BYTES):
        problem = "an id, fingerprint or digest has the wrong width"
    if problem:
        raise EncodeError(f"no frame can be made: {problem}")
    head = _LAYOUT.pack(
        _PREFIX,
        header.entry_id,
        header.created_at,
        header.fresh_until,
        header.stale_until,
        header.load_seconds,
        header.fingerprint,
        key_digest,
        namespace_id,
        len(payload),
    )
    return head + payload


def unpack(frame: bytes, *, key_digest: bytes, namespace_id: bytes) -> tuple[Header, memoryview]:
    """Return the header and the payload of a frame, the payload without a copy.

    The fingerprint is for the caller to compare: a frame of another schema is sound.

    Raises:
        FrameError: The bytes are not a frame, or the frame of another key; nothing else is raised.
    """
    if len(frame) < HEADER_BYTES:
        raise FrameError(f"{len(frame)} bytes are too few for a frame")
    prefix, entry_id, created, fresh, stale, load, fingerprint, digest, namespace, size = (
        _LAYOUT.unpack_from(frame)
    )
    if prefix != _PREFIX:
        raise FrameError("the bytes are not a frame, or one of an unknown version")
    if size != len(frame) - HEADER_BYTES:
        raise FrameError(f"the payload has {len(frame) - HEADER_BYTES} bytes, not {size}")
    problem = _problem(created, fresh, stale)
    if problem or not 0 <= load <= _LONGEST_LOAD:
        raise FrameError(problem or "the load time is out of range")
    if digest != key_digest or namespace != namespace_id:
        raise FrameError("the frame belongs to another key", cause="key")
    header = Header(entry_id, created, fresh, stale, load, fingerprint)
    return header, memoryview(frame)[HEADER_BYTES:]


def _problem(created_at: float, fresh_until: float, stale_until: float) -> str:
    # NaN fails every comparison, so it is refused without a test of its own.
    if not 0 <= created_at <= _LATEST:
        return "the time of creation is out of range"
    if not 0 <= fresh_until <= stale_until <= _LATEST:
        return "the times of expiry are out of order or out of range"
    return ""
