"""The frame: how an entry is laid out as one string in the remote tier.

Pure: no clock, no chance, no IO. All numbers are big endian, all widths fixed:

    offset  bytes
         0      2  magic, ``VT``
         2      1  version, 3
         3      1  flags
         4      1  codec, 1 = msgpack
         5      1  number of tags
         6     48  the stamp: all that changes when the times of an entry are renewed
         6     16    entry id
        22     24    created at, fresh until, stale until: float64, seconds of the remote's clock
        46      4    load seconds: float32
        50      4    CRC-32 of the stamp's bytes up to here
        54      4  CRC-32 of all bytes outside of the stamp, without these four
        58      8  fingerprint of the schema
        66     16  digest of the key
        82     24  ids of the namespace
       106      4  size of the payload before it was compressed
       110         by their flags: length of the etag (1) and the etag; id of the dictionary (4)
                   each tag: length of its text (2), the text in UTF-8, its ids (24)
                   payload

The flags, from the lowest bit:

    bit    means
    0      absent: the source has no such thing, and the payload is empty
    1      an etag is there
    2-4    how the payload is compressed: 0 not at all, 1 zstd, 2 lz4, 3 zlib
    5      the id of the dictionary is there, which both ends must have
    6      for encryption, which is not there yet
    7      for what comes

The entry id stands at a fixed offset because the Lua scripts compare it, and the stamp is one range
so that they can replace it in a stored frame. The digest binds a value to its key: a frame that was
copied to, or delivered for, another key is refused. The ids of namespace and tags are the evidence
that nothing was invalidated: `tags` has the rules. The checksums tell what broke on the way; they
are no protection against who can write to the remote tier.
"""

import re
import struct
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, NamedTuple, TypeAlias
from zlib import crc32

from async_tiercache._entry import ENTRY_ID_BYTES, Header
from async_tiercache.errors import DecodeError, EncodeError
from async_tiercache.tags import MAX_HELD, PAIR_BYTES

ENTRY_ID_OFFSET: Final = 6
STAMP_OFFSET: Final = ENTRY_ID_OFFSET
LEASE_BYTES: Final = 17
FINGERPRINT_BYTES: Final = 8
DIGEST_BYTES: Final = 16

_HEAD: Final = struct.Struct(">3s3B")
_STAMP: Final = struct.Struct(">16sdddf")
_BINDING: Final = struct.Struct(f">8s16s{PAIR_BYTES}sI")
_LAYOUT: Final = struct.Struct(f">3s3B16sdddfII8s16s{PAIR_BYTES}sI")
unpack_fields: Final = struct.Struct(f">6s16sdddfII{8 + 16 + PAIR_BYTES}sI").unpack_from
"""Returns of a frame its head, the fields and the checksum of its stamp, the checksum of the rest,
what binds it to schema, key and namespace, and the size of its payload."""
_TAG_SIZE: Final = struct.Struct(">H")
_CHECKSUM: Final = struct.Struct(">I")

STAMP_BYTES: Final = _STAMP.size + _CHECKSUM.size
HEADER_BYTES: Final = _LAYOUT.size
_STAMP_END: Final = STAMP_OFFSET + _STAMP.size
_BOUND: Final = _STAMP_END + 2 * _CHECKSUM.size
_KEPT_DIGESTS: Final = 4096
# Made once: a slice of a frame else makes one each time.
STAMPED: Final = slice(STAMP_OFFSET, _STAMP_END)
"""What the stamp's checksum is of."""
BOUND: Final = slice(_BOUND, None)
"""What the other checksum is of, after the head."""

_MAGIC: Final = b"VT"
_VERSION: Final = b"VT\x03"
_MSGPACK: Final = 1
_LEASE_PREFIX: Final = b"L"
# A token and, by the server's clock in milliseconds, the time until which it counts.
_BLOCK: Final = re.compile(rb"B(?:.{16}[0-9]{13})+", re.DOTALL)
LATEST: Final = 253_402_300_800.0  # the year 10000: no entry is created or ends later
LONGEST_LOAD: Final = 1e9
_LARGEST: Final = 2**32 - 1
_LONGEST_ETAG: Final = 255

_ABSENT: Final = 1
_ETAG: Final = 2
_COMPRESSION_SHIFT: Final = 2
_COMPRESSION: Final = 0b111 << _COMPRESSION_SHIFT
_DICTIONARY: Final = 32
_KNOWN_FLAGS: Final = _ABSENT | _ETAG | _COMPRESSION | _DICTIONARY
_EXTRAS: Final = _ETAG | _DICTIONARY
# By the number of tags: how a plain frame begins, and the checksum of that.
_PLAIN_HEADS: Final = tuple(
    (head, crc32(head))
    for head in (_VERSION + bytes((0, _MSGPACK, count)) for count in range(MAX_HELD + 1))
)
_NO_EXTRAS: Final = ("", 0, HEADER_BYTES)

Refusal: TypeAlias = Literal["frame", "key", "format", "compression", "dictionary"]


class Body(NamedTuple):
    """The payload of a frame, and how to get the plain one back.

    Attributes:
        payload: What stands in the frame.
        plain_bytes: Its size before it was compressed.
        compression: The number of the algorithm, 0 for none.
        dictionary_id: The id of the dictionary it was compressed with, 0 for none.
    """

    payload: bytes | memoryview
    plain_bytes: int
    compression: int = 0
    dictionary_id: int = 0

    @classmethod
    def plain(cls, payload: bytes | memoryview) -> "Body":
        """Return the body of a payload that stands in its frame as it is."""
        return cls(payload, len(payload))


PlainForm: TypeAlias = tuple[bytes, int, bytes, int, slice]
"""What is the same in all plain frames under the same tags, those without etag or compression: how
they begin, and the checksum of that, on which that of the rest goes on; the tags as they stand
after the header; where the payload begins, and where it is in what the rest's checksum is of."""

UNTAGGED: Final[PlainForm] = (
    *_PLAIN_HEADS[0], b"", HEADER_BYTES, slice(HEADER_BYTES - _BOUND, None),
)  # fmt: skip
NO_FORM: Final[PlainForm] = b"", 0, b"", 0, slice(0)
"""That of no frame."""


class FrameError(DecodeError):
    """Stored bytes are not a frame of the key that was asked for, or cannot be opened here.

    Attributes:
        cause: ``"frame"``: the bytes are damaged, or no frame at all. ``"key"``: they are a frame
            of another key or namespace. ``"format"``: they are a frame of another release, which
            uses what this one does not know. ``"compression"``, ``"dictionary"``: the package or
            the dictionary that the payload was compressed with is missing here.
    """

    def __init__(self, message: str, *, cause: Refusal = "frame") -> None:
        super().__init__(message)
        self.cause: Refusal = cause


class Digests(dict[str, bytes]):
    """The digests of a namespace's keys, by their texts: made when they are asked for.

    Args:
        namespace: The namespace.
    """

    __slots__ = ("_hash",)

    def __init__(self, namespace: str) -> None:
        super().__init__()
        text = namespace.encode("utf-8", "surrogatepass")
        key = blake2b(text, digest_size=DIGEST_BYTES, person=b"tiercache.ns").digest()
        # A copy is cheaper than another.
        self._hash = blake2b(digest_size=DIGEST_BYTES, key=key, person=b"tiercache.key")

    def __missing__(self, text: str) -> bytes:
        if len(self) >= _KEPT_DIGESTS:
            self.clear()
        hashed = self._hash.copy()
        hashed.update(text.encode("utf-8", "surrogatepass"))
        digest = self[text] = hashed.digest()
        return digest


@lru_cache(maxsize=64)
def digests_of(namespace: str) -> Digests:
    """Return the digests of a namespace's keys."""
    return Digests(namespace)


def digest_key(namespace: str, text: str) -> bytes:
    """Return the 16 bytes that bind a frame to its key.

    The hash is keyed by the namespace, so no two pairs of namespace and text share an input.
    """
    return digests_of(namespace)[text]


def is_lease(raw: bytes) -> bool:
    """Return whether a key's content is a lease and not a frame."""
    return len(raw) == LEASE_BYTES and raw.startswith(_LEASE_PREFIX)


def is_block(raw: bytes) -> bool:
    """Return whether a key's content says that writers are about to change its value."""
    return raw.startswith(b"B") and _BLOCK.fullmatch(raw) is not None


def stamp(header: Header) -> bytes:
    """Return the bytes from `STAMP_OFFSET` on that name an entry and its times.

    They may be written over those of a stored frame to renew it; all else of it stays as it is.

    Raises:
        EncodeError: The header holds what no frame may hold.
    """
    _, created_at, fresh_until, stale_until, load_seconds, *_ = header
    problem = _problem(created_at, fresh_until, stale_until, load_seconds)
    if len(header.entry_id) != ENTRY_ID_BYTES:
        problem = "the entry id has the wrong width"
    if problem:
        raise EncodeError(f"no frame can be made: {problem}")
    fields = _STAMP.pack(header.entry_id, created_at, fresh_until, stale_until, load_seconds)
    return fields + _CHECKSUM.pack(crc32(fields))


def pack(header: Header, body: Body, *, key_digest: bytes) -> bytes:
    """Return the frame of a body.

    Raises:
        EncodeError: The payload is 4 GiB or more, or the header holds what no frame may hold.
    """
    stamped = stamp(header)
    etag = _encoded_etag(header.etag)
    widths = len(header.fingerprint), len(key_digest), len(header.namespace)
    if widths != (FINGERPRINT_BYTES, DIGEST_BYTES, PAIR_BYTES):
        raise EncodeError("no frame can be made: a fingerprint, digest or id has the wrong width")
    if max(body.plain_bytes, len(body.payload)) > _LARGEST:
        raise EncodeError("no frame can be made: the payload is 4 GiB or more")
    if header.absent and body.plain_bytes:
        raise EncodeError("no frame can be made: what is absent has no payload")
    flags = (body.compression << _COMPRESSION_SHIFT) & _COMPRESSION
    tail = _BINDING.pack(header.fingerprint, key_digest, header.namespace, body.plain_bytes)
    if header.absent:
        flags |= _ABSENT
    if etag:
        flags |= _ETAG
        tail += bytes((len(etag),)) + etag
    if body.dictionary_id:
        flags |= _DICTIONARY
        tail += body.dictionary_id.to_bytes(4)
    tail += pack_tags(header.tags)
    head = _HEAD.pack(_VERSION, flags, _MSGPACK, len(header.tags))
    checksum = crc32(body.payload, crc32(tail, crc32(head)))
    return b"".join((head, stamped, _CHECKSUM.pack(checksum), tail, body.payload))


def unpack(frame: bytes, *, key_digest: bytes) -> tuple[Header, Body]:
    """Return the header and the body of a frame, its payload a view that copies nothing.

    Fingerprint and ids are for the caller to compare: a frame of another schema is sound.

    Raises:
        FrameError: The bytes are not a frame, or the frame of another key; nothing else is raised.
    """
    if len(frame) < HEADER_BYTES or not frame.startswith(_VERSION):
        raise _no_frame(frame)
    (
        _, flags, codec, tags,
        entry_id, created, fresh, stale, load, stamp_checksum, checksum,
        fingerprint, digest, namespace, plain_bytes,
    ) = _LAYOUT.unpack_from(frame)  # fmt: skip
    bound = memoryview(frame)[_BOUND:]
    if (
        crc32(frame[STAMP_OFFSET:_STAMP_END]) != stamp_checksum
        or crc32(bound, crc32(frame[:STAMP_OFFSET])) != checksum
    ):
        raise FrameError("the frame is damaged: a checksum does not fit")
    if flags & ~_KNOWN_FLAGS or codec != _MSGPACK or tags > MAX_HELD:
        raise FrameError("the frame uses what this release does not know", cause="format")
    if digest != key_digest:
        raise FrameError("the frame belongs to another key", cause="key")
    problem = _problem(created, fresh, stale, load)
    if problem:
        raise FrameError(problem)
    etag, dictionary_id, offset = _extras(frame, flags) if flags & _EXTRAS else _NO_EXTRAS
    pairs, offset = _unpacked_tags(frame, tags, offset) if tags else ((), offset)
    payload = bound[offset - _BOUND :]
    compression = (flags & _COMPRESSION) >> _COMPRESSION_SHIFT
    if not compression and len(payload) != plain_bytes:
        raise FrameError(f"the payload has {len(payload)} bytes, not {plain_bytes}")
    absent = bool(flags & _ABSENT)
    if absent and (compression or plain_bytes):
        raise FrameError("what is absent has a payload")
    header = Header(
        entry_id, created, fresh, stale, load, fingerprint, etag, absent, namespace, pairs
    )
    return header, Body(payload, plain_bytes, compression, dictionary_id)


def plain_form(tags: tuple[tuple[str, bytes], ...] | None) -> PlainForm:
    """Return what a plain frame under some tags looks like; `NO_FORM` for `None`."""
    if tags is None:
        return NO_FORM
    if not tags:
        return UNTAGGED
    packed, (head, checksum) = pack_tags(tags), _PLAIN_HEADS[len(tags)]
    start = HEADER_BYTES + len(packed)
    return head, checksum, packed, start, slice(start - _BOUND, None)


def _no_frame(raw: bytes) -> FrameError:
    """Return what is wrong with bytes that do not begin like a frame of this version."""
    if raw.startswith(_VERSION):
        return FrameError(f"{len(raw)} bytes are too few for a frame")
    if raw.startswith(_MAGIC) and len(raw) > len(_MAGIC):
        return FrameError(f"the frame is of version {raw[2]}", cause="format")
    return FrameError(f"the {len(raw)} bytes are not a frame")


def _extras(frame: bytes, flags: int) -> tuple[str, int, int]:
    """Return the etag, the id of the dictionary, and where the payload begins."""
    etag, dictionary_id, offset = "", 0, HEADER_BYTES
    try:
        if flags & _ETAG:
            size = frame[offset]
            raw = frame[offset + 1 : offset + 1 + size]
            if not size or len(raw) != size:
                raise FrameError("the etag is cut short")
            etag = raw.decode()
            offset += 1 + size
        if flags & _DICTIONARY:
            raw = frame[offset : offset + 4]
            if len(raw) != 4:
                raise FrameError("the id of the dictionary is cut short")
            dictionary_id = int.from_bytes(raw)
            offset += 4
    except (IndexError, UnicodeDecodeError):
        raise FrameError("the etag is cut short, or no text") from None
    return etag, dictionary_id, offset


def pack_tags(tags: tuple[tuple[str, bytes], ...]) -> bytes:
    """Return tags as they stand in a frame.

    Raises:
        EncodeError: There are too many of them, or their ids have the wrong width.
    """
    if len(tags) > MAX_HELD:
        raise EncodeError(f"no frame can be made: {len(tags)} tags are more than {MAX_HELD}")
    parts: list[bytes] = []
    for text, pair in tags:
        raw = text.encode("utf-8", "surrogatepass")
        if len(pair) != PAIR_BYTES:
            raise EncodeError("no frame can be made: the ids of a tag have the wrong width")
        parts += _TAG_SIZE.pack(len(raw)), raw, pair
    return b"".join(parts)


def _unpacked_tags(
    frame: bytes, count: int, offset: int
) -> tuple[tuple[tuple[str, bytes], ...], int]:
    """Return the tags, and where the payload begins."""
    tags: list[tuple[str, bytes]] = []
    for _ in range(count):
        start = offset + _TAG_SIZE.size
        size = int.from_bytes(frame[offset:start])
        offset = start + size + PAIR_BYTES
        if offset > len(frame):
            raise FrameError("the tags are cut short")
        try:
            text = frame[start : start + size].decode("utf-8", "surrogatepass")
        except UnicodeDecodeError:
            raise FrameError("a tag is no text") from None
        tags.append((text, frame[start + size : offset]))
    return tuple(tags), offset


def _encoded_etag(etag: str) -> bytes:
    try:
        raw = etag.encode()
    except UnicodeEncodeError:
        raise EncodeError("no frame can be made: the etag holds a lone surrogate") from None
    if len(raw) > _LONGEST_ETAG:
        raise EncodeError(
            f"no frame can be made: the etag has {len(raw)} bytes, more than {_LONGEST_ETAG}",
            hint="Give a digest of it as the etag.",
        )
    return raw


def _problem(created_at: float, fresh_until: float, stale_until: float, load: float) -> str:
    # NaN fails every comparison, so it is refused without a test of its own.
    if not 0 <= created_at <= LATEST:
        return "the time of creation is out of range"
    if not 0 <= fresh_until <= stale_until <= LATEST:
        return "the times of expiry are out of order or out of range"
    if not 0 <= load <= LONGEST_LOAD:
        return "the load time is out of range"
    return ""
