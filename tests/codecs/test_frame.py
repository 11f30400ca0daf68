"""The frame: what is packed comes back, and nothing else is taken for a frame of the key."""

import math
import struct
from collections.abc import Callable
from typing import Any
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_tiercache._entry import Header
from async_tiercache.codecs.frame import (
    ENTRY_ID_OFFSET,
    HEADER_BYTES,
    LEASE_BYTES,
    STAMP_BYTES,
    STAMP_OFFSET,
    Body,
    Digests,
    FrameError,
    digest_key,
    is_lease,
    pack,
    stamp,
    unpack,
)
from async_tiercache.errors import EncodeError
from async_tiercache.tags import MAX_HELD

IDS = bytes(range(100, 124))
HEADER = Header(bytes(range(16)), 1e9, 1e9 + 60, 1e9 + 3600, 0.5, b"shape-01", namespace=IDS)
KEY = digest_key("shop", "user:42")
BINDING: Any = {"key_digest": KEY}
BODY = Body.plain(b"payload")
FRAME = pack(HEADER, BODY, **BINDING)
# With everything that is there by its flag.
FULL = pack(
    HEADER._replace(etag='W/"ž"', tags=(("user:42", IDS), ("ž", bytes(24)))),
    Body(b"payload", 99, compression=1, dictionary_id=2**31),
    **BINDING,
)
EXAMPLES = settings(max_examples=150)

_times = st.floats(0, 253_402_300_800)


_ids = st.binary(min_size=24, max_size=24)
_headers = st.builds(
    lambda entry_id, created, expiry, *rest: Header(entry_id, created, *sorted(expiry), *rest),
    st.binary(min_size=16, max_size=16),
    _times,
    st.tuples(_times, _times),
    st.floats(0, 1e9, width=32),
    st.binary(min_size=8, max_size=8),
    st.text(max_size=255).filter(lambda text: len(text.encode()) <= 255),
    st.just(value=False),
    _ids,
    st.lists(st.tuples(st.text(max_size=600), _ids), max_size=64).map(tuple),
)
_bodies = st.binary().map(Body.plain) | st.builds(
    Body, st.binary(), st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(0, 2**32 - 1)
)


@EXAMPLES
@given(_headers, _bodies)
def test_what_is_packed_comes_back(header: Header, body: Body) -> None:
    """Header and body are the same; load seconds have the precision of a float32."""
    found, opened = unpack(pack(header, body, **BINDING), **BINDING)

    assert (found, opened) == (header, body)


@EXAMPLES
@given(_headers)
def test_what_is_absent_comes_back_as_absent(header: Header) -> None:
    """It has an etag like any other, and no payload."""
    absent = header._replace(absent=True)

    assert unpack(pack(absent, Body.plain(b""), **BINDING), **BINDING) == (absent, Body.plain(b""))


@EXAMPLES
@given(_headers, _bodies, _headers)
def test_a_stamp_renews_a_stored_frame(header: Header, body: Body, later: Header) -> None:
    """Id and times are the new ones, all else is what was stored."""
    stored = bytearray(pack(header, body, **BINDING))
    stored[STAMP_OFFSET : STAMP_OFFSET + STAMP_BYTES] = stamp(later)

    found, opened = unpack(bytes(stored), **BINDING)

    expected = header._replace(
        entry_id=later.entry_id,
        created_at=later.created_at,
        fresh_until=later.fresh_until,
        stale_until=later.stale_until,
        load_seconds=later.load_seconds,
    )
    assert (found, opened) == (expected, body)


def test_the_entry_id_stands_at_its_fixed_offset() -> None:
    """The Lua scripts compare it there."""
    assert FRAME[ENTRY_ID_OFFSET : ENTRY_ID_OFFSET + 16] == HEADER.entry_id


def test_the_header_is_small() -> None:
    """At most 112 bytes before the payload."""
    assert len(FRAME) - len(b"payload") == HEADER_BYTES <= 112


def test_the_payload_is_not_copied() -> None:
    """It is a view into the frame."""
    payload = unpack(FRAME, **BINDING)[1].payload

    assert isinstance(payload, memoryview)
    assert payload.obj is FRAME


@EXAMPLES
@given(st.binary(max_size=200) | st.binary(max_size=150).map(lambda tail: FRAME[:60] + tail))
def test_random_bytes_are_refused(raw: bytes) -> None:
    """Nothing but a FrameError is ever raised, and nothing random is taken for the key's frame."""
    with pytest.raises(FrameError):
        unpack(raw, **BINDING)


@pytest.mark.parametrize("size", range(len(FULL)))
def test_a_truncated_frame_is_refused(size: int) -> None:
    """Whatever is missing at the end."""
    with pytest.raises(FrameError) as caught:
        unpack(FULL[:size], **BINDING)

    assert caught.value.cause == "frame"


def test_a_frame_with_bytes_behind_it_is_refused() -> None:
    """The payload's size is stated."""
    with pytest.raises(FrameError):
        unpack(FRAME + b"x", **BINDING)


@pytest.mark.parametrize("frame", [FRAME, FULL], ids=["plain", "full"])
def test_a_flipped_bit_is_refused(frame: bytes) -> None:
    """Wherever it is, no value or time that differs from what was stored is ever believed."""
    for bit in range(len(frame) * 8):
        raw = bytearray(frame)
        raw[bit // 8] ^= 1 << bit % 8
        with pytest.raises(FrameError) as caught:
            unpack(bytes(raw), **BINDING)
        # Where the version was, it cannot be told from a frame of another release.
        assert caught.value.cause == ("format" if bit // 8 == 2 else "frame")


@EXAMPLES
@given(st.integers(0, len(FULL) - 1), st.integers(0, len(FULL) - 1), st.binary(max_size=40))
def test_a_mutated_frame_is_what_was_stored_or_refused(start: int, end: int, new: bytes) -> None:
    """Replaced, removed and inserted bytes alike."""
    raw = FULL[: min(start, end)] + new + FULL[max(start, end) :]

    if raw != FULL:
        with pytest.raises(FrameError):
            unpack(raw, **BINDING)


FOREIGN: dict[str, Callable[[bytearray], None]] = {
    "version": lambda raw: raw.__setitem__(2, 4),
    "encryption": lambda raw: raw.__setitem__(3, 64),
    "unused flag": lambda raw: raw.__setitem__(3, 128),
    "codec": lambda raw: raw.__setitem__(4, 2),
    "tags": lambda raw: raw.__setitem__(5, MAX_HELD + 1),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_frame_of_another_release_is_told_from_damage(name: str) -> None:
    """What it uses is unknown here, and it is sound: another server can read it."""
    raw = bytearray(FRAME)
    FOREIGN[name](raw)

    with pytest.raises(FrameError) as caught:
        unpack(_sealed(raw), **BINDING)

    assert caught.value.cause == "format"


DISTORTED: dict[str, tuple[int, int, bytes]] = {
    # By the flags, the plain size, and what follows the fixed part.
    "an absent entry with a payload": (0b1, 1, b"x"),
    "an absent entry that is compressed": (0b101, 0, b""),
    "an empty etag": (0b10, 0, b"\0"),
    "an etag without its length": (0b10, 0, b""),
    "an etag that is cut short": (0b10, 0, b"\4abc"),
    "an etag that is no text": (0b10, 0, b"\1\xff"),
    "a dictionary that is cut short": (0b100100, 9, b"abc"),
}


@pytest.mark.parametrize("name", DISTORTED)
def test_a_frame_that_contradicts_itself_is_refused(name: str) -> None:
    """Also when its checksums fit, as those of a hostile frame would."""
    flags, plain_bytes, rest = DISTORTED[name]
    raw = bytearray(FRAME[:HEADER_BYTES] + rest)
    raw[3] = flags
    struct.pack_into(">I", raw, HEADER_BYTES - 4, plain_bytes)

    with pytest.raises(FrameError) as caught:
        unpack(_sealed(raw), **BINDING)

    assert caught.value.cause == "frame"


def test_another_plain_size_than_the_payload_has_is_refused() -> None:
    """When nothing is compressed they are the same."""
    raw = bytearray(FRAME)
    struct.pack_into(">I", raw, HEADER_BYTES - 4, 8)

    with pytest.raises(FrameError):
        unpack(_sealed(raw), **BINDING)


@pytest.mark.parametrize(
    ("namespace", "text"), [("shop", "user:43"), ("shop2", "user:42"), ("shop", "")]
)
def test_the_frame_of_another_key_is_refused(namespace: str, text: str) -> None:
    """A value that was copied to another key, or answered for it, is never served."""
    with pytest.raises(FrameError) as caught:
        unpack(FRAME, key_digest=digest_key(namespace, text))

    assert caught.value.cause == "key"


@pytest.mark.parametrize("offset", [22, 30, 38], ids=["created", "fresh", "stale"])
@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_absurd_times_are_refused(offset: int, moment: float) -> None:
    """A time is finite, not negative and before the year 10000."""
    raw = bytearray(FRAME)
    struct.pack_into(">d", raw, offset, moment)

    with pytest.raises(FrameError, match="time"):
        unpack(_sealed(raw), **BINDING)


@pytest.mark.parametrize("load", [math.nan, math.inf, -1.0, 2e9])
def test_an_absurd_load_time_is_refused(load: float) -> None:
    """Early expiration is computed from it."""
    raw = bytearray(FRAME)
    struct.pack_into(">f", raw, 46, load)

    with pytest.raises(FrameError, match="load time"):
        unpack(_sealed(raw), **BINDING)


@pytest.mark.parametrize(
    "change",
    [
        {"entry_id": b"short"},
        {"fingerprint": b"much too long"},
        {"created_at": math.nan},
        {"fresh_until": 2e9},
        {"stale_until": math.inf},
        {"load_seconds": -1.0},
        {"etag": "x" * 256},
        {"etag": "\ud800"},
        {"absent": True},
    ],
    ids=str,
)
def test_a_header_that_could_not_be_read_is_not_packed(change: dict[str, Any]) -> None:
    """What `unpack` refuses, `pack` does not make."""
    with pytest.raises(EncodeError):
        pack(HEADER._replace(**change), BODY, **BINDING)


def test_a_payload_too_large_for_its_size_field_is_not_packed() -> None:
    """Sizes have four bytes."""
    with pytest.raises(EncodeError, match="4 GiB"):
        pack(HEADER, Body(b"", 2**32, compression=1), **BINDING)


def test_leases_and_frames_are_never_mistaken() -> None:
    """A lease is 17 bytes that begin with L; a frame begins with V."""
    lease = b"L" + bytes(LEASE_BYTES - 1)

    assert is_lease(lease)
    assert not is_lease(FRAME)
    assert not is_lease(FRAME[:LEASE_BYTES])
    assert not is_lease(lease + b"x")
    with pytest.raises(FrameError):
        unpack(lease, **BINDING)


@EXAMPLES
@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_digests_are_unambiguous(one: tuple[str, str], other: tuple[str, str]) -> None:
    """Two pairs of namespace and key have the same digest only if they are the same."""
    assert (digest_key(*one) == digest_key(*other)) == (one == other)


def test_a_lone_surrogate_has_a_digest() -> None:
    """Whatever the characters of a key, it can be told from others."""
    assert digest_key("\ud800", "\udfff") != digest_key("\ud800", "\ud800")


def _sealed(raw: bytearray) -> bytes:
    """Return a frame with the checksums of what it holds."""
    struct.pack_into(">I", raw, 50, crc32(raw[6:50]))
    struct.pack_into(">I", raw, 54, crc32(raw[58:], crc32(raw[:6])))
    return bytes(raw)


def test_a_bounded_number_of_digests_is_kept() -> None:
    """And those that were forgotten are made again, the same."""
    digests = Digests("shop")
    first = digests["0"]
    for number in range(10_000):
        assert digests[str(number)] != KEY
        assert len(digests) <= 4_096

    assert digests["0"] == first == digest_key("shop", "0")
