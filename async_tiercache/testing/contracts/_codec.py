"""The contract of `abc.Codec`: what comes back, and that no bytes and no value can break it."""

from collections.abc import Sequence
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from async_tiercache.abc import Codec
from async_tiercache.codecs.frame import FINGERPRINT_BYTES
from async_tiercache.errors import DecodeError, EncodeError

_LAW: Final = settings(
    deadline=None,  # a busy machine breaks no law
    suppress_health_check=[
        HealthCheck.differing_executors,  # these tests are there to be inherited
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)


class CodecContract:
    """The promises of `abc.Codec`, as tests.

    A subclass defines `codec` and `values`; the other methods have answers that it may sharpen.

    Attributes:
        fingerprint: What the fingerprint was when values were first stored; a codec that computes
            another one in the next process finds nothing of what it has stored.
    """

    fingerprint: bytes | None = None

    def codec(self) -> Codec:
        """Return the codec, made anew."""
        raise NotImplementedError

    def values(self) -> st.SearchStrategy[Any]:
        """Return a strategy for what it can store."""
        raise NotImplementedError

    def refused(self) -> st.SearchStrategy[Any]:
        """Return a strategy for what it must refuse."""
        return st.sampled_from([object(), object, iter(()), len])

    def reshaped(self) -> Sequence[Codec]:
        """Return codecs of other shapes: a field more, another type of one."""
        return ()

    def same(self, decoded: Any, value: Any) -> bool:
        """Return whether what was decoded is the value; for values that do not equal themselves."""
        return bool(decoded == value) and type(decoded) is type(value)

    @_LAW
    @given(data=st.data())
    def test_a_value_comes_back_as_it_was(self, data: st.DataObject) -> None:
        """Equal, and of its type; from bytes and from a view of them."""
        value = data.draw(self.values())
        payload = self.codec().encode(value)

        assert type(payload) is bytes
        assert self.same(self.codec().decode(payload), value)
        assert self.same(self.codec().decode(memoryview(payload)), value)

    @_LAW
    @given(data=st.data())
    def test_what_cannot_be_stored_is_refused(self, data: st.DataObject) -> None:
        """By an `EncodeError`, and no other error."""
        value = data.draw(self.refused())

        with pytest.raises(EncodeError):
            self.codec().encode(value)

    @_LAW
    @given(payload=st.binary(max_size=64))
    def test_any_bytes_are_a_value_or_a_decode_error(self, payload: bytes) -> None:
        """What is decoded is a value of the type: it can be stored again."""
        self._decode_or_refuse(payload)

    @_LAW
    @given(data=st.data())
    def test_damaged_bytes_are_a_value_or_a_decode_error(self, data: st.DataObject) -> None:
        """Changed, cut or longer by some bytes."""
        payload = self.codec().encode(data.draw(self.values()))
        start = data.draw(st.integers(0, len(payload)))
        stop = data.draw(st.integers(start, min(len(payload), start + 4)))
        changed = payload[:start] + data.draw(st.binary(max_size=4)) + payload[stop:]

        self._decode_or_refuse(changed)
        for end in range(min(len(payload), 64)):
            self._decode_or_refuse(payload[:end])

    def test_the_fingerprint_has_eight_bytes(self) -> None:
        """Each time the same ones, from each codec of the shape."""
        codec = self.codec()

        assert type(codec.fingerprint) is bytes
        assert len(codec.fingerprint) == FINGERPRINT_BYTES
        assert codec.fingerprint == codec.fingerprint == self.codec().fingerprint

    def test_the_fingerprint_is_the_one_of_stored_values(self) -> None:
        """Another process, with other hashes of strings, has the same."""
        if self.fingerprint is None:
            pytest.skip(f"no attribute `fingerprint`; it is {self.codec().fingerprint!r} here")

        assert self.codec().fingerprint == self.fingerprint

    def test_other_shapes_have_other_fingerprints(self) -> None:
        """Two releases side by side do not take each other's values for their own."""
        shapes = [self.codec(), *self.reshaped()]
        if len(shapes) == 1:
            pytest.skip("no method `reshaped`: codecs of other shapes")

        assert len({codec.fingerprint for codec in shapes}) == len(shapes)

    def _decode_or_refuse(self, payload: bytes) -> None:
        try:
            value = self.codec().decode(payload)
        except DecodeError:
            return
        assert self.same(self.codec().decode(self.codec().encode(value)), value)
