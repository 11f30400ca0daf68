"""CodecContract: a codec that keeps its promises passes, one that breaks any does not."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any, ClassVar, cast

import pytest
from hypothesis import strategies as st

from async_tiercache.abc import Codec
from async_tiercache.errors import DecodeError, EncodeError
from async_tiercache.testing.contracts import CodecContract
from tests.testing.runs import fails, names_of


@dataclass(frozen=True)
class Point:
    x: int
    y: int


class PointCodec:
    """As users write one.

    Attributes:
        found_by: For a broken one, the tests that must fail, without their ``test_``.
    """

    fingerprint = b"point-v1"
    found_by: ClassVar[tuple[str, ...]] = ()

    def encode(self, value: Any, /) -> bytes:
        """Return the bytes of a point."""
        if type(value) is not Point:
            raise EncodeError(f"{value!r} is no point")
        return json.dumps([value.x, value.y]).encode()

    def decode(self, payload: bytes | memoryview, /) -> Any:
        """Return the point."""
        try:
            x, y = json.loads(bytes(payload))
            if (type(x), type(y)) != (int, int):
                raise DecodeError("not two integers")
        except (TypeError, ValueError, RecursionError) as error:
            raise DecodeError("not a point") from error
        return Point(x, y)


class LosesTheType(PointCodec):
    found_by = ("a_value_comes_back_as_it_was",)

    def decode(self, payload: bytes | memoryview, /) -> Any:
        point = super().decode(payload)
        return point.x, point.y


class WantsBytes(PointCodec):
    """Has no use for a view of them."""

    found_by = ("a_value_comes_back_as_it_was",)

    def decode(self, payload: bytes | memoryview, /) -> Any:
        return super().decode(payload) if isinstance(payload, bytes) else None


class StoresAnything(PointCodec):
    found_by = ("what_cannot_be_stored_is_refused",)

    def encode(self, value: Any, /) -> bytes:
        return super().encode(value) if type(value) is Point else repr(value).encode()


class RaisesItsOwnError(PointCodec):
    found_by = ("what_cannot_be_stored_is_refused",)

    def encode(self, value: Any, /) -> bytes:
        return json.dumps([value.x, value.y]).encode()


class CrashesOnOtherBytes(PointCodec):
    found_by = ("any_bytes_are_a_value_or_a_decode_error",)

    def decode(self, payload: bytes | memoryview, /) -> Any:
        return Point(*json.loads(bytes(payload)))


class BelievesWhatItReads(PointCodec):
    """Gives out points without a second coordinate, which it would not store."""

    found_by = ("damaged_bytes_are_a_value_or_a_decode_error",)

    def encode(self, value: Any, /) -> bytes:
        super().encode(value)
        if value.y is None:
            raise EncodeError(f"{value!r} is no point")
        return f"{value.x},{value.y}".encode()

    def decode(self, payload: bytes | memoryview, /) -> Any:
        try:
            x, y = bytes(payload).decode().split(",")
            return Point(int(x), int(y) if y else cast("int", None))
        except ValueError as error:
            raise DecodeError("not a point") from error


class DrawsItsFingerprint(PointCodec):
    found_by = ("the_fingerprint_has_eight_bytes",)

    def __init__(self) -> None:
        self.fingerprint = token_bytes(8)


class HasALongFingerprint(PointCodec):
    found_by = ("the_fingerprint_has_eight_bytes",)
    fingerprint = b"point, version 1"


class HashesItsName(PointCodec):
    """Python hashes a text differently in every process."""

    found_by = ("the_fingerprint_is_the_one_of_stored_values",)
    fingerprint = hash("point").to_bytes(8, signed=True)


class KnowsNoShapes(PointCodec):
    """Says the same whatever its values hold."""

    found_by = ("other_shapes_have_other_fingerprints",)


BROKEN: tuple[type[PointCodec], ...] = tuple(PointCodec.__subclasses__())


class PointContract(CodecContract):
    """The contract over points.

    Attributes:
        made: The class of the codec.
    """

    fingerprint = b"point-v1"
    made: type[PointCodec] = PointCodec

    def codec(self) -> Codec:
        """Return the codec."""
        return self.made()

    def values(self) -> st.SearchStrategy[Point]:
        """Return points."""
        return st.builds(Point, st.integers(), st.integers())


class TestPointCodec(PointContract):
    """A codec as users write one keeps the contract."""

    def reshaped(self) -> Sequence[Codec]:
        """Return the codec of points in space."""
        codec = PointCodec()
        codec.fingerprint = b"point-v2"
        return [codec]


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
async def test_a_broken_promise_is_found(broken: type[PointCodec]) -> None:
    """By each of the tests that are named for it."""

    class Contract(PointContract):
        made = broken

        def reshaped(self) -> Sequence[Codec]:
            return [broken()]

    passed = [name for name in broken.found_by if not await fails(Contract(), name, dict)]

    assert broken.found_by
    assert passed == []


def test_every_test_of_the_contract_can_fail() -> None:
    """Each is named by a codec that fails it."""
    named = {name for broken in BROKEN for name in broken.found_by}

    assert sorted(named) == names_of(CodecContract)
