"""Compression: what is compressed comes back, and nothing hostile expands, allocates or escapes."""

import random
import struct
import sys
import threading
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import lz4.block  # type: ignore[import-untyped]
import msgpack  # type: ignore[import-untyped]
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from async_tiercache import Compression, Dictionary, Policy
from async_tiercache._compression import Algorithm
from async_tiercache._options import Limits
from async_tiercache.codecs.compression import MAX_PLAIN_BYTES, Compressor
from async_tiercache.codecs.frame import Body, FrameError
from async_tiercache.errors import ConfigurationError, DecodeError, MissingExtraError

ALGORITHMS: list[Algorithm] = ["zstd", "lz4", "zlib"]
NUMBERS = {"zstd": 1, "lz4": 2, "zlib": 3}
EXAMPLES = settings(max_examples=150)
_lz4: Any = lz4.block
_msgpack: Any = msgpack


def a_row(number: int) -> bytes:
    """Return about 150 bytes of msgpack, as a query's row is."""
    draw = random.Random(number)
    name = draw.choice(["Ada", "Grace", "Edsger", "Barbara"])
    row: bytes = _msgpack.packb(
        {
            "id": number,
            "name": name,
            "email": f"{name.lower()}.{number}@example.org",
            "street": "St James's Square 12",
            "score": draw.random(),
            "roles": draw.sample(["reader", "author", "editor", "admin"], 2),
        }
    )
    return row


ROWS = [a_row(number) for number in range(2_000)]
DICTIONARY = Dictionary.train(ROWS[:1_500], size=4_096)
OLDER = Dictionary.train(ROWS[:1_000], size=2_048)
LAWS = [
    *(Compression(algorithm, min_bytes=1) for algorithm in ALGORITHMS),
    Compression("zstd", level=1, min_bytes=1),
    Compression("lz4", level=9, min_bytes=1),
    Compression("zlib", level=9, min_bytes=1),
    Compression(dictionary=DICTIONARY, min_bytes=1),
]
VALUE = b"ABCDEFGH" * 1_000


def compressor(*known: Dictionary) -> Compressor:
    """Return a compressor that knows some dictionaries, and fails the test that needs advice."""

    def advise(message: str) -> None:
        raise AssertionError(message)

    made = Compressor(advise)
    made.learn(Compression(also_read=known))
    return made


WORKING = compressor(DICTIONARY)


# The law.


@pytest.mark.parametrize("compression", LAWS, ids=lambda each: f"{each.algorithm}-{each.level}")
@EXAMPLES
@given(
    payload=st.binary(max_size=300)
    | st.builds(lambda part, times: part * times, st.binary(max_size=50), st.integers(0, 500))
    | st.sampled_from(ROWS)
)
def test_what_is_compressed_comes_back(compression: Compression, payload: bytes) -> None:
    """By every algorithm, and it is never stored larger than it is."""
    body = WORKING.compress(payload, compression)

    assert WORKING.expand(body) == payload
    assert body.plain_bytes == len(payload) >= len(body.payload)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_repeats_gets_smaller(algorithm: Algorithm) -> None:
    """And its body says by what."""
    body = WORKING.compress(VALUE, Compression(algorithm))

    assert len(body.payload) < len(VALUE) / 10
    assert body.compression == NUMBERS[algorithm]
    assert body.dictionary_id == 0


def test_families_of_one_cache_have_their_own_levels() -> None:
    """The objects that are kept for one are not taken for another."""
    payload = b"".join(ROWS[:200])
    mine = compressor()
    sizes = [
        [len(mine.compress(payload, Compression("zlib", level=level)).payload) for level in levels]
        for levels in ((1, 9), (9, 1))
    ]

    assert sizes[0] == sizes[1][::-1]
    assert sizes[0][1] < sizes[0][0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_what_gets_hardly_smaller_stays_as_it_is(algorithm: Algorithm) -> None:
    """A tenth is what expanding it on every read is worth."""
    noise = random.Random(1).randbytes(4_000)
    half, tenth = bytes(4_000) + noise, bytes(200) + noise

    assert WORKING.compress(half, Compression(algorithm)).compression == NUMBERS[algorithm]
    for payload in (noise, tenth):
        assert WORKING.compress(payload, Compression(algorithm)) == Body.plain(payload)


@pytest.mark.parametrize(("size", "compressed"), [(1_023, False), (1_024, True)])
def test_small_values_stay_as_they_are(size: int, compressed: bool) -> None:
    """Below a kilobyte there is little to gain without a dictionary."""
    assert bool(WORKING.compress(bytes(size), Compression()).compression) is compressed


def test_none_compresses_nothing() -> None:
    """The default."""
    assert WORKING.compress(VALUE, None) == Body.plain(VALUE)


def test_what_could_not_be_read_again_is_not_compressed() -> None:
    """Readers expand nothing beyond the limit."""
    payload = bytes(MAX_PLAIN_BYTES + 1)

    assert WORKING.compress(payload, Compression("lz4")) == Body.plain(payload)
    assert WORKING.expand(WORKING.compress(payload[1:], Compression("lz4"))) == payload[1:]


# Dictionaries.


def test_a_dictionary_shrinks_single_rows() -> None:
    """Which are too small to hold repetitions of their own."""
    rows = ROWS[1_500:]
    alone = sum(len(WORKING.compress(row, Compression(min_bytes=1)).payload) for row in rows)
    trained = sum(
        len(WORKING.compress(row, Compression(dictionary=DICTIONARY)).payload) for row in rows
    )

    assert trained * 2 < alone


def test_an_older_dictionary_is_still_read() -> None:
    """For as long as it is named in `also_read`."""
    old = compressor().compress(ROWS[7], Compression(dictionary=OLDER))
    reader = Compressor(print)
    reader.learn(Compression(dictionary=DICTIONARY, also_read=[OLDER]))

    assert old.dictionary_id == OLDER.id != DICTIONARY.id
    assert reader.expand(old) == ROWS[7]


def test_an_unknown_dictionary_is_told_from_damage() -> None:
    """Other servers can read it; the owner is told once, however many there are."""
    advice: list[str] = []
    reader = Compressor(advice.append)
    body = WORKING.compress(ROWS[7], Compression(dictionary=DICTIONARY))

    with pytest.raises(FrameError) as caught:
        reader.expand(body)

    assert caught.value.cause == "dictionary"
    assert "also_read" in advice[0]
    reader.learn(Compression(dictionary=DICTIONARY))
    assert reader.expand(body) == ROWS[7]


def test_dictionaries_that_share_zstds_id_are_told_apart() -> None:
    """Whoever trains one may choose that id; ours is a digest of its bytes."""
    trained = [
        Dictionary(zstandard.train_dictionary(2_048, [*ROWS[:end]], dict_id=7).as_bytes())
        for end in (1_000, 1_500)
    ]
    reader = compressor(*trained)

    assert trained[0].id != trained[1].id
    for dictionary in trained:
        body = reader.compress(ROWS[7], Compression(dictionary=dictionary))
        assert reader.expand(body) == ROWS[7]


def test_a_dictionary_comes_back_from_its_file(tmp_path: Path) -> None:
    """The file is the dictionary as zstd's own tools read it; its id is made of its bytes."""
    path = tmp_path / "rows.dict"
    path.write_bytes(DICTIONARY.data)

    assert Dictionary.load(path) == DICTIONARY
    assert Dictionary.load(str(path)).id == DICTIONARY.id
    assert zstandard.ZstdCompressionDict(path.read_bytes()).dict_id() != 0


def test_a_file_that_is_no_dictionary_is_refused(tmp_path: Path) -> None:
    """With its name, and what to do."""
    path = tmp_path / "rows.json"
    path.write_bytes(b'{"not": "a dictionary"}')

    with pytest.raises(ConfigurationError, match=r"rows.json.*not a trained zstd dictionary"):
        Dictionary.load(path)


@pytest.mark.parametrize("samples", [[], ROWS[:3]], ids=["none", "few"])
def test_too_little_to_train_from_is_refused(samples: list[bytes]) -> None:
    """With what to do about it."""
    with pytest.raises(ConfigurationError, match="more samples"):
        Dictionary.train(samples)


def test_the_bytes_of_a_dictionary_are_not_shown() -> None:
    """They hold pieces of the samples, and a policy's repr lands in logs."""
    assert "data" not in repr(Policy(compression=Compression(dictionary=DICTIONARY)))


# What is missing.


@pytest.mark.parametrize(("algorithm", "module"), [("zstd", "zstandard"), ("lz4", "lz4.block")])
def test_a_missing_package_is_named_when_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm, module: str
) -> None:
    """At construction, with the extra; not at the first request."""
    monkeypatch.setitem(sys.modules, module, None)

    for construct in (lambda: Compression(algorithm), lambda: Policy(compression=algorithm)):
        with pytest.raises(MissingExtraError, match=rf"async-tiercache\[{algorithm}\]"):
            construct()


@pytest.mark.parametrize(("algorithm", "module"), [("zstd", "zstandard"), ("lz4", "lz4.block")])
def test_a_missing_package_is_told_from_damage(
    monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm, module: str
) -> None:
    """Other servers have it; the owner is told once."""
    body = WORKING.compress(VALUE, Compression(algorithm))
    monkeypatch.setitem(sys.modules, module, None)
    advice: list[str] = []
    reader = Compressor(advice.append)

    for _ in range(3):
        with pytest.raises(FrameError) as caught:
            reader.expand(body)
        assert caught.value.cause == "compression"

    assert len(advice) == 1
    assert f"async-tiercache[{algorithm}]" in advice[0]


@pytest.mark.parametrize(
    "body",
    [
        Body(b"x", 9, compression=4),
        Body(b"x", 9, compression=7),
        Body(b"x", 9, compression=2, dictionary_id=5),
    ],
    ids=["algorithm", "algorithm", "a dictionary for lz4"],
)
def test_what_another_release_does_is_told_from_damage(body: Body) -> None:
    """An algorithm that is not known yet may be known to other servers."""
    with pytest.raises(FrameError) as caught:
        WORKING.expand(body)

    assert caught.value.cause == "format"


# What hostile bytes can do.


def zstd_claiming(size: int) -> bytes:
    """Return the beginning of a stream with the largest window, which claims a size."""
    return b"\x28\xb5\x2f\xfd" + bytes([0b11000000, 0xFF]) + struct.pack("<Q", size) + b"\x01\0\0"


def raw_deflate(plain: bytes) -> bytes:
    return zlib.compress(plain, 9, wbits=-15)


def lz4_block(plain: bytes) -> bytes:
    packed: bytes = _lz4.compress(plain, store_size=False)
    return packed


BOMB = bytes(8 * 1024 * 1024)
HOSTILE = {
    "zstd: more than it says": Body(zstandard.compress(BOMB), 100, 1),
    "zstd: less than it says": Body(zstandard.compress(b"x" * 99), 100, 1),
    "zstd: claims 4 GiB": Body(zstd_claiming(2**32 - 1), 2**32 - 1, 1),
    "zstd: claims 16 EiB": Body(zstd_claiming(2**64 - 2), 100, 1),
    "zstd: the largest window": Body(zstd_claiming(1000), 1000, 1),
    "zstd: no size": Body(
        zstandard.ZstdCompressor(write_content_size=False).compress(BOMB), 100, 1
    ),
    "zstd: a second stream": Body(
        zstandard.compress(b"x" * 100) + zstandard.compress(BOMB), 100, 1
    ),
    "zstd: nothing": Body(b"", 100, 1),
    "zstd: garbage": Body(b"\xff" * 50, 100, 1),
    "lz4: more than it says": Body(lz4_block(BOMB), 100, 2),
    "lz4: less than it says": Body(lz4_block(b"x" * 99), 100, 2),
    "lz4: claims 4 GiB": Body(lz4_block(BOMB), 2**32 - 1, 2),
    "lz4: nothing": Body(b"", 100, 2),
    "lz4: garbage": Body(b"\xff" * 50, 100, 2),
    "zlib: more than it says": Body(raw_deflate(BOMB), 100, 3),
    "zlib: less than it says": Body(raw_deflate(b"x" * 99), 100, 3),
    "zlib: claims 4 GiB": Body(raw_deflate(BOMB), 2**32 - 1, 3),
    "zlib: a second stream": Body(raw_deflate(b"x" * 100) + raw_deflate(BOMB), 100, 3),
    "zlib: nothing": Body(b"", 100, 3),
    "zlib: garbage": Body(b"\xff" * 50, 100, 3),
    "nothing, compressed": Body(zstandard.compress(b""), 0, 1),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_payload_is_refused_without_taking_memory(name: str) -> None:
    """It is damage, and no more is taken than its claim, which is bounded, allows."""
    tracemalloc.start()
    try:
        with pytest.raises(DecodeError) as caught:
            WORKING.expand(HOSTILE[name])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert not isinstance(caught.value, FrameError)
    assert peak < 1_000_000


@pytest.mark.parametrize("compression", LAWS[:3], ids=lambda each: each.algorithm)
def test_a_truncated_payload_is_refused(compression: Compression) -> None:
    """Wherever it ends."""
    body = WORKING.compress(b"".join(ROWS[:20]), compression)

    for size in range(len(body.payload)):
        with pytest.raises(DecodeError):
            WORKING.expand(body._replace(payload=body.payload[:size]))


@pytest.mark.parametrize("compression", LAWS, ids=lambda each: f"{each.algorithm}-{each.level}")
@EXAMPLES
@given(data=st.data())
def test_a_mutated_payload_raises_nothing_else(
    compression: Compression, data: st.DataObject
) -> None:
    """Whatever comes out has the size that was stated."""
    body = WORKING.compress(b"".join(ROWS[:20]), compression)
    raw = bytearray(body.payload)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))

    try:
        plain = WORKING.expand(body._replace(payload=bytes(raw)))
    except DecodeError:
        return
    assert len(plain) == body.plain_bytes


@EXAMPLES
@given(st.binary(max_size=200), st.integers(0, 2**32 - 1), st.integers(0, 7), st.integers(0, 9))
def test_random_bodies_raise_nothing_else(
    payload: bytes, size: int, number: int, dictionary_id: int
) -> None:
    """Nothing but a DecodeError, whatever the frame said."""
    try:
        plain = Compressor(lambda _: None).expand(Body(payload, size, number, dictionary_id))
    except DecodeError:
        return
    assert len(plain) == (size if number else len(payload))


def test_caches_in_several_threads_share_a_policy() -> None:
    """Each has its own compressor: the objects of zstandard do not bear two threads at once."""
    shared = Compression(dictionary=DICTIONARY, min_bytes=1)
    payload = b"".join(ROWS[:500])
    errors: list[BaseException] = []
    together = threading.Barrier(4)

    def work() -> None:
        try:
            mine = compressor(DICTIONARY)
            together.wait(10)
            for _ in range(20):
                assert mine.expand(mine.compress(payload, shared)) == payload
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)

    assert errors == []


# The option.


@pytest.mark.parametrize(
    ("given", "resolved"),
    [
        (None, None),
        ("zstd", Compression("zstd", level=3, min_bytes=1_024)),
        ("lz4", Compression("lz4", level=0)),
        ("zlib", Compression("zlib", level=1)),
        (Compression(dictionary=DICTIONARY), Compression(dictionary=DICTIONARY, min_bytes=64)),
    ],
    ids=["none", "zstd", "lz4", "zlib", "dictionary"],
)
def test_a_policy_says_how_to_compress(given: Any, resolved: Compression | None) -> None:
    """A name, or a Compression for more."""
    limits = Limits.of(Policy(compression=given), Policy(compression="zlib"))

    assert limits.compression == resolved
    assert Limits.of(Policy()).compression is None


@pytest.mark.parametrize(
    ("construct", "message"),
    [
        (lambda: Compression("gzip"), "compression='gzip' is unknown"),  # type: ignore[arg-type]
        (lambda: Policy(compression=True), "compression=True is unknown"),  # type: ignore[arg-type]
        (lambda: Compression("zstd", level=23), "level=23"),
        (lambda: Compression("zlib", level=0), "level=0"),
        (lambda: Compression("lz4", level=True), "level=True"),
        (lambda: Compression(min_bytes=0), "min_bytes=0"),
        (lambda: Compression(min_bytes=1.5), "min_bytes=1.5"),  # type: ignore[arg-type]
        (lambda: Compression("lz4", dictionary=DICTIONARY), "lz4 takes no dictionary"),
        (lambda: Compression("zlib", also_read=[DICTIONARY]), "zlib takes no dictionary"),
        (lambda: Compression(dictionary=b"x"), "is no dictionary"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_work_is_refused_when_it_is_made(construct: Any, message: str) -> None:
    """With a hint where one helps."""
    with pytest.raises(ConfigurationError) as caught:
        construct()

    assert message in str(caught.value)
