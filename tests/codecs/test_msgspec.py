"""Where msgspec is installed it unpacks, in half the time, to nothing else than msgpack does."""

import inspect
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.codecs import codec_for
from async_tiercache.codecs.msgpack import pack, quick_unpack, unpack
from async_tiercache.errors import DecodeError
from tests.codecs.families import same
from tests.codecs.test_typed_properties import PROPERTY, plain


def found_without_msgspec() -> Any:
    """Return what unpacks where msgspec is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "msgspec.msgpack", None)
        quick_unpack.cache_clear()
        found = quick_unpack()
    quick_unpack.cache_clear()
    return found


def outcome(unpack: Any, payload: bytes) -> Any:
    """Return what comes out of a payload, or the class of the error."""
    try:
        return unpack(payload)
    except Exception as error:
        return type(error)


@PROPERTY
@given(value=plain, noise=st.binary(max_size=20), cut=st.integers(0, 20))
def test_both_read_the_same(value: Any, noise: bytes, cut: int) -> None:
    """Whatever plain data was packed; bytes that nobody packed are refused by both."""
    quick = quick_unpack()
    assert quick is not unpack
    payload = pack(value)

    for each in (payload, payload + noise, payload[:cut], noise):
        first, second = outcome(unpack, each), outcome(quick, each)
        refused = isinstance(second, type) and issubclass(second, Exception)
        # A list as a key, which is never written, is a tuple for msgspec.
        assert same(first, second) or first is TypeError or refused
    assert same(outcome(quick, payload), value)


@pytest.mark.parametrize("payload", [b"\x01\x01", b"\x91" * 100_000, b"\xd4\x63\x00", b"\xa1\xff"])
def test_what_neither_reads_is_a_decode_error(payload: bytes) -> None:
    """Also what msgspec gives up on for reasons of its own."""
    with pytest.raises(DecodeError):
        codec_for(Any).decode(payload)


def test_lists_deeper_than_msgspec_reads_come_back() -> None:
    """Then msgpack reads them."""
    codec, value = codec_for(Any), list[Any]()
    for _ in range(200):
        value = [value]
    payload, limit = codec.encode(value), sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        found = codec.decode(payload)
    finally:
        sys.setrecursionlimit(limit)

    assert found == value


def test_only_plain_data_is_decoded_in_fewer_calls() -> None:
    """What is annotated is still checked to be that."""
    dynamic, typed = codec_for(Any), codec_for(dict[str, int])
    payload = typed.encode({"a": 1})

    assert dynamic.quick is quick_unpack()
    assert dynamic.quick(payload) == typed.quick(payload) == {"a": 1}
    with pytest.raises(DecodeError):
        typed.quick(pack(["a", 1]))


def test_nothing_needs_msgspec() -> None:
    """Without it all is as before."""
    codec = codec_for(dict[str, tuple[int, ...]])

    assert found_without_msgspec() is unpack
    assert unpack(codec.encode({"a": (1, 2)})) == {"a": [1, 2]}
