"""The frame: what is packed comes back, and nothing else is taken for a frame of the key."""

import math
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from async_tiercache._entry import Header
from async_tiercache.codecs.frame import (
    ENTRY_ID_OFFSET,
    HEADER_BYTES,
    LEASE_BYTES,
    FrameError,
    digest_key,
    is_lease,
    namespace_id,
    pack,
    unpack,
)
from async_tiercache.errors import EncodeError

HEADER = Header(bytes(range(16)), 1e9, 1e9 + 60, 1e9 + 3600, 0.5, b"shape-01")
KEY, NAMESPACE = digest_key("shop", "user:42"), namespace_id("shop")
BINDING: Any = {"key_digest": KEY, "namespace_id": NAMESPACE}
FRAME = pack(HEADER, b"payload", **BINDING)
EXAMPLES = settings(max_examples=150, deadline=None)

_times = st.floats(0, 253_402_300_800)


@EXAMPLES
@given(
    st.builds(
        lambda entry_id, created, expiry, *rest: Header(entry_id, created, *sorted(expiry), *rest),
        st.binary(min_size=16, max_size=16),
        _times,
        st.tuples(_times, _times),
        st.floats(0, 1e9, width=32),
        st.binary(min_size=8, max_size=8),
    ),
    st.binary(),
)
def test_what_is_packed_comes_back(header: Header, payload: bytes) -> None:
    """Header and payload are the same; load seconds have the precision of a float32."""
    found, view = unpack(pack(header, payload, **BINDING), **BINDING)

    assert (found, bytes(view)) == (header, payload)


def test_the_entry_id_stands_at_its_fixed_offset() -> None:
    """The Lua scripts compare it there."""
    assert FRAME[ENTRY_ID_OFFSET : ENTRY_ID_OFFSET + 16] == HEADER.entry_id


def test_the_header_is_small() -> None:
    """At most 112 bytes before the payload."""
    assert len(FRAME) - len(b"payload") == HEADER_BYTES <= 112


def test_the_payload_is_not_copied() -> None:
    """It is a view into the frame."""
    assert unpack(FRAME, **BINDING)[1].obj is FRAME


@EXAMPLES
@given(st.binary(max_size=200) | st.binary(max_size=150).map(lambda tail: FRAME[:60] + tail))
def test_random_bytes_are_refused(raw: bytes) -> None:
    """Nothing but a FrameError is ever raised, and nothing random is taken for the key's frame."""
    with pytest.raises(FrameError):
        unpack(raw, **BINDING)


@pytest.mark.parametrize("size", range(len(FRAME)))
def test_a_truncated_frame_is_refused(size: int) -> None:
    """Whatever is missing at the end."""
    with pytest.raises(FrameError) as caught:
        unpack(FRAME[:size], **BINDING)

    assert caught.value.cause == "frame"


def test_a_frame_with_bytes_behind_it_is_refused() -> None:
    """The payload's size is stated."""
    with pytest.raises(FrameError):
        unpack(FRAME + b"x", **BINDING)


@EXAMPLES
@given(st.integers(0, HEADER_BYTES * 8 - 1))
def test_a_flipped_bit_never_crashes(bit: int) -> None:
    """The frame is refused, or a field without a check has another value."""
    try:
        header, payload = unpack(_flipped(bit), **BINDING)
    except FrameError:
        return
    assert header != HEADER
    assert bytes(payload) == b"payload"


@pytest.mark.parametrize("bit", range(58 * 8, 90 * 8))
def test_no_flip_in_digest_or_namespace_is_accepted(bit: int) -> None:
    """Every one of the 256 bits that bind the value to its key counts."""
    with pytest.raises(FrameError) as caught:
        unpack(_flipped(bit), **BINDING)

    assert caught.value.cause == "key"


@pytest.mark.parametrize("offset", range(6))
def test_an_unknown_format_is_refused(offset: int) -> None:
    """Magic, version, flags, codec and the number of tags must be the known ones."""
    raw = bytearray(FRAME)
    raw[offset] += 1

    with pytest.raises(FrameError) as caught:
        unpack(bytes(raw), **BINDING)

    assert caught.value.cause == "frame"


@pytest.mark.parametrize(
    ("namespace", "text"), [("shop", "user:43"), ("shop2", "user:42"), ("shop", "")]
)
def test_the_frame_of_another_key_is_refused(namespace: str, text: str) -> None:
    """A value that was copied to another key, or answered for it, is never served."""
    with pytest.raises(FrameError) as caught:
        unpack(FRAME, key_digest=digest_key(namespace, text), namespace_id=namespace_id(namespace))

    assert caught.value.cause == "key"


@pytest.mark.parametrize("offset", [22, 30, 38], ids=["created", "fresh", "stale"])
@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_absurd_times_are_refused(offset: int, moment: float) -> None:
    """A time is finite, not negative and before the year 10000."""
    raw = bytearray(FRAME)
    struct.pack_into(">d", raw, offset, moment)

    with pytest.raises(FrameError):
        unpack(bytes(raw), **BINDING)


@pytest.mark.parametrize("load", [math.nan, math.inf, -1.0, 2e9])
def test_an_absurd_load_time_is_refused(load: float) -> None:
    """Early expiration is computed from it."""
    raw = bytearray(FRAME)
    struct.pack_into(">f", raw, 46, load)

    with pytest.raises(FrameError):
        unpack(bytes(raw), **BINDING)


@pytest.mark.parametrize(
    "change",
    [
        {"entry_id": b"short"},
        {"fingerprint": b"much too long"},
        {"created_at": math.nan},
        {"fresh_until": 2e9},
        {"stale_until": math.inf},
        {"load_seconds": -1.0},
    ],
    ids=str,
)
def test_a_header_that_could_not_be_read_is_not_packed(change: dict[str, Any]) -> None:
    """What `unpack` refuses, `pack` does not make."""
    with pytest.raises(EncodeError):
        pack(HEADER._replace(**change), b"", **BINDING)


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


def _flipped(bit: int) -> bytes:
    raw = bytearray(FRAME)
    raw[bit // 8] ^= 1 << bit % 8
    return bytes(raw)
