"""Hostile bytes from L2: whoever writes them takes neither the memory nor the stack of a reader.

Each payload goes the way that stored bytes go: frame, expansion, codec. Its checksums fit, as a
hostile writer's would.
"""

import random
import struct
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from async_tiercache._compression import Compression
from async_tiercache._entry import Header
from async_tiercache.codecs import codec_for
from async_tiercache.codecs.compression import Compressor
from async_tiercache.codecs.frame import Body, digest_key, pack, unpack
from async_tiercache.errors import DecodeError
from tests.codecs.families import Tree, User, same

BINDING: Any = {"key_digest": digest_key("shop", "k")}
HEADER = Header(bytes(16), 1.0, 2.0, 3.0, 0.5, b"12345678", namespace=bytes(24))
COMPRESSOR = Compressor(lambda _: None)
MIB = 1024 * 1024
ARRAY32, MAP32, EXT32, STR32 = b"\xdd", b"\xdf", b"\xc9", b"\xdb"


def opened(frame: bytes, annotation: Any = Any) -> Any:
    """Return the value of a frame, as the read path gets it."""
    _, body = unpack(frame, **BINDING)
    return codec_for(annotation).decode(COMPRESSOR.expand(body))


def framed(payload: bytes) -> bytes:
    return pack(HEADER, Body.plain(payload), **BINDING)


def claimed(kind: bytes, count: int = 2**32 - 1) -> bytes:
    return kind + struct.pack(">I", count)


def padded(payload: bytes, size: int = MIB) -> bytes:
    """Return a payload made longer, so that it may claim more."""
    return payload + b"\xc0" * (size - len(payload))


def nested_ext(depth: int) -> bytes:
    payload = b"\x90"
    for _ in range(depth):
        payload = b"\x91" + claimed(EXT32, len(payload)) + b"\x09" + payload
    return payload


PAYLOADS: dict[str, Callable[[], bytes]] = {
    "arrays, a million deep": lambda: b"\x91" * 10**6 + b"\xc0",
    "maps, a million deep": lambda: b"\x81\xc0" * 10**6 + b"\xc0",
    "keys, a million deep": lambda: b"\x81" * 10**6,
    "tuples, five thousand deep": lambda: nested_ext(5_000),
    "an array of 4e9": lambda: padded(claimed(ARRAY32)),
    "a map of 4e9": lambda: padded(claimed(MAP32)),
    "a text of 4 GiB": lambda: padded(claimed(STR32)),
    "an extension of 4 GiB": lambda: padded(claimed(EXT32) + b"\x09"),
    "an array of all that is there, in each of 900": lambda: padded(claimed(ARRAY32, MIB) * 900),
    "a map of all that is there, in each of 900": lambda: padded(claimed(MAP32, MIB // 2) * 900),
    "a set of unhashables": lambda: b"\xc7\x03\x0a\x92\x90\x90",
    "a map with a map for a key": lambda: b"\x81\x80\xc0",
}


@pytest.mark.parametrize("annotation", [Any, Tree, list[User], dict[str, int]], ids=str)
@pytest.mark.parametrize("name", PAYLOADS)
def test_a_hostile_payload_is_refused_within_its_bounds(name: str, annotation: Any) -> None:
    """Nothing is raised but a DecodeError, and what it claims is not believed."""
    frame = framed(PAYLOADS[name]())
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError):
            opened(frame, annotation)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 100 * MIB + 10 * len(frame)


@pytest.mark.parametrize("number", [1, 3], ids=["zstd", "zlib"])
def test_what_expands_to_something_hostile_is_refused(number: int) -> None:
    """Compression adds no way around."""
    plain = PAYLOADS["arrays, a million deep"]()
    packed = zstandard.compress(plain) if number == 1 else zlib.compress(plain, wbits=-15)

    with pytest.raises(DecodeError):
        opened(pack(HEADER, Body(packed, len(plain), number), **BINDING))


def test_a_recursive_model_is_as_deep_as_python_allows() -> None:
    """A chain of models that is too long is refused, and does not end the process."""
    frame = framed(b"\x92\x01\x91" * 500 + b"\x92\x01\x90")

    try:
        tree = opened(frame, Tree)
    except DecodeError:
        return
    assert isinstance(tree, Tree)


LAWFUL = [
    (Any, {"a": [1, (2, 3), {4}], "b": "text " * 300}),
    (list[User], [User(number, "Ada", ["admin"]) for number in range(50)]),
    (dict[int, list[float]], {number: [number / 3] * 5 for number in range(100)}),
]
FRAMES = [
    (
        annotation,
        value,
        pack(
            HEADER,
            COMPRESSOR.compress(codec_for(annotation).encode(value), compression),
            **BINDING,
        ),
    )
    for annotation, value in LAWFUL
    for compression in (None, *(Compression(name) for name in ("zstd", "lz4", "zlib")))
]


@settings(max_examples=600)
@given(st.sampled_from(FRAMES), st.randoms(use_true_random=False), st.integers(1, 6))
def test_a_mutated_frame_gives_its_value_or_none(
    stored: tuple[Any, Any, bytes], draw: random.Random, changes: int
) -> None:
    """Never another one, and never another error."""
    annotation, value, frame = stored
    raw = bytearray(frame)
    for _ in range(changes):
        start = draw.randrange(len(raw))
        raw[start : start + draw.choice([0, 1, 1, 4, 50])] = draw.randbytes(draw.choice([0, 1, 4]))

    try:
        found = opened(bytes(raw), annotation)
    except DecodeError:
        return
    assert same(found, value)


@settings(max_examples=600)
@given(
    st.sampled_from([annotation for annotation, _ in LAWFUL]),
    st.binary(max_size=300),
    st.integers(0, 400),
    st.integers(0, 7),
    st.integers(0, 2),
)
def test_random_payloads_with_checksums_that_fit_raise_nothing_else(
    annotation: Any, payload: bytes, size: int, compression: int, dictionary_id: int
) -> None:
    """A writer that knows the format gets no further than one that does not."""
    body = Body(payload, size if compression else len(payload), compression, dictionary_id)

    try:
        opened(pack(HEADER, body, **BINDING), annotation)
    except DecodeError:
        return


@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_random_bytes_are_no_frame(raw: bytes) -> None:
    """Nothing is taken for a value."""
    with pytest.raises(DecodeError):
        opened(raw)
