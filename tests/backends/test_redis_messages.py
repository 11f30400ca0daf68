"""Messages of the bus: what was sent arrives, and whatever else arrives does no harm."""

import contextlib
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.abc import Invalidation
from async_tiercache.backends.redis import messages
from async_tiercache.errors import DecodeError

ID = b"m" * messages.MESSAGE_ID_BYTES

texts = st.lists(st.text(st.characters(codec="utf-8")), max_size=5).map(tuple)
records = st.builds(
    Invalidation,
    st.binary(min_size=16, max_size=16),
    texts,
    texts,
    st.none() | st.floats(0, 1e6),
    st.text(st.characters(codec="utf-8")),
)


@given(records)
def test_a_message_is_what_was_sent(record: Invalidation) -> None:
    """Byte by byte, behind its id."""
    message = ID + messages.encode(record)

    assert messages.decode(message) == record
    assert messages.message_id(message) == ID


@pytest.mark.parametrize("soft", [4000 * 86_400.0, 1e12], ids=["11 years", "for ever"])
def test_the_longest_window_is_understood(soft: float) -> None:
    """It is shortened where it is sent, and not refused by all who hear of it."""
    record = Invalidation(b"r" * 16, ("k",), (), soft)

    assert messages.decode(ID + messages.encode(record)).soft == messages.soft_seconds(soft)


@given(st.binary(max_size=200))
def test_whatever_arrives_is_decoded_or_refused(raw: bytes) -> None:
    """By no other error."""
    for message in (raw, ID + raw):
        try:
            assert isinstance(messages.decode(message), Invalidation)
        except DecodeError:
            continue


@given(records, st.data())
def test_a_damaged_message_is_decoded_or_refused(record: Invalidation, data: st.DataObject) -> None:
    """Wherever a byte has changed or the end is missing."""
    message = bytearray(ID + messages.encode(record))
    message[data.draw(st.integers(0, len(message) - 1))] ^= data.draw(st.integers(1, 255))
    del message[data.draw(st.integers(0, len(message))) :]
    with contextlib.suppress(DecodeError):
        assert isinstance(messages.decode(bytes(message)), Invalidation)


FIELDS: list[Any] = [1, b"r" * 16, ["k"], ["t"], 1.0, "k*"]


@pytest.mark.parametrize(
    "fields",
    [
        [],
        FIELDS[:-1],
        [*FIELDS, 0],
        [2, *FIELDS[1:]],
        [1, "r" * 16, *FIELDS[2:]],
        [1, b"r" * 15, *FIELDS[2:]],
        [1, b"r" * 16, [b"k"], [], None, ""],
        [1, b"r" * 16, "k", [], None, ""],
        [1, b"r" * 16, [], [1], None, ""],
        [1, b"r" * 16, [], [], float("nan"), ""],
        [1, b"r" * 16, [], [], -1.0, ""],
        [1, b"r" * 16, [], [], True, ""],
        [1, b"r" * 16, [], [], None, None],
        [1, b"r" * 16, ["k"] * (messages.MAX_NAMES + 1), [], None, ""],
        [[[[[[[]]]]]]],
        {"a": 1},
        msgpack.ExtType(1, b"x"),
    ],
    ids=repr,
)
def test_what_is_not_ours_is_refused(fields: Any) -> None:
    """Another release's, another sender's, or too large."""
    with pytest.raises(DecodeError):
        messages.decode(ID + msgpack.packb(fields))


def test_deep_and_long_messages_are_refused() -> None:
    """Before they cost anything."""
    for payload in (b"\x91" * 100_000, b"\xc6\xff\xff\xff\xff", b"x" * messages.MAX_BYTES):
        with pytest.raises(DecodeError):
            messages.decode(ID + payload)
