"""Stored payloads and frames keep being read, and today's encoder still writes the same bytes.

`python -m tests.codecs.test_wire` adds what is missing in `tests/wire` and changes nothing else.
"""

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from async_tiercache import Compression, Dictionary
from async_tiercache._entry import Header
from async_tiercache.codecs import codec_for
from async_tiercache.codecs.compression import Compressor
from async_tiercache.codecs.frame import (
    Body,
    FrameError,
    digest_key,
    pack,
    unpack,
)
from tests.codecs.families import (
    Access,
    Account,
    Color,
    Item,
    Level,
    Order,
    Page,
    Pair,
    Point,
    Row,
    Tree,
    Unit,
    User,
    same,
)

WIRE = Path(__file__).parent.parent / "wire"
MANIFEST = WIRE / "manifest.json"
USER = User(1, "Ada", ["admin"])

STORED: Mapping[str, tuple[Any, Any]] = {
    "none": (None, None),
    "bool": (bool, True),
    "int": (int, -42),
    "int-beyond-64-bits": (int, -(2**100)),
    "float": (float, -0.5),
    "complex": (complex, complex(1, -2)),
    "str": (str, "žluťoučký 🐎"),
    "bytes": (bytes, b"\x00\xff"),
    "bytearray": (bytearray, bytearray(b"\x00\xff")),
    "decimal": (Decimal, Decimal("-12.3400")),
    "uuid": (UUID, UUID(int=2**127 + 1)),
    "datetime-naive": (datetime, datetime(2024, 2, 29, 12, 30, 59, 123456)),  # noqa: DTZ001
    "datetime-utc": (datetime, datetime(2024, 2, 29, tzinfo=UTC)),
    "datetime-offset": (datetime, datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-3)))),
    "datetime-zone": (
        datetime,
        datetime(2024, 10, 27, 2, 30, tzinfo=ZoneInfo("Europe/Prague"), fold=1),
    ),
    "date": (date, date(2024, 2, 29)),
    "time": (time, time(23, 59, 59, 999999)),
    "timedelta": (timedelta, timedelta(days=-1, seconds=3, microseconds=5)),
    "enum": (Color, Color.BLUE),
    "int-enum": (Level, Level.HIGH),
    "str-enum": (Unit, Unit.KILO),
    "flag": (Access, Access.READ | Access.WRITE),
    "literal": (Literal["a", 1, Color.RED], Color.RED),
    "list": (list[int], [1, 2, 300]),
    "tuple": (tuple[int, ...], (1, 2)),
    "tuple-fixed": (tuple[int, str], (1, "a")),
    "set": (set[int], {7}),
    "frozenset": (frozenset[str], frozenset({"a"})),
    "dict": (dict[int, list[str]], {1: ["a"], 2: []}),
    "dict-of-tuples": (dict[tuple[int, str], bool], {(1, "a"): True}),
    "optional": (User | None, None),
    "union-tagged": (User | Order | Row | None, USER),
    "any": (Any, {"a": [1, (2, {3}, frozenset({4}))], 5: None, (6,): Decimal("7.0")}),
    "dataclass": (User, USER),
    "dataclass-frozen": (Order, Order(total=Decimal("9.90"), user=USER)),
    "dataclass-generic": (Page[User], Page([USER], Page([]))),
    "dataclass-recursive": (Tree, Tree(1, [Tree(2)])),
    "pydantic": (Account, Account(id=1, email="a@b.c", children=[])),
    "pydantic-unset": (Account, Account(id=1)),
    "struct": (Item, Item("sku", 2.5)),
    "attrs": (Point, Point(1, 2)),
    "namedtuple": (Pair, Pair(1, Color.BLUE)),
    "typeddict": (Row, {"id": 1, "note": "x"}),
    "typeddict-partial": (Row, {"id": 1}),
    "list-of-models": (list[User], [USER, User(2, "Bob")]),
}
HEADER = Header(bytes(range(16)), 1.7e9, 1.7e9 + 60, 1.7e9 + 3600.5, 0.25, b"12345678")._replace(
    namespace=bytes(range(24))
)
FRAMES: Mapping[str, tuple[Header, Body]] = {
    "frame-v3": (HEADER, Body.plain(b"payload")),
    "frame-v3-etag": (HEADER._replace(etag='W/"žluť"'), Body.plain(b"payload")),
    "frame-v3-absent": (HEADER._replace(absent=True), Body.plain(b"")),
    "frame-v3-tags": (
        HEADER._replace(tags=(("user:42", bytes(range(24, 48))), ("žluť", bytes(24)))),
        Body.plain(b"payload"),
    ),
    "frame-v3-zstd": (
        HEADER,
        Body(b"(\xb5/\xfd \xb4\x85\x00\x00Hpayload, \x01\x00(R\xe5\x08", 180, 1),
    ),
    "frame-v3-lz4": (HEADER, Body(b"\x9fpayload, \t\x00\x93Poad, ", 180, 2)),
    "frame-v3-zlib": (HEADER, Body(b"+H\xac\xcc\xc9OL\xd1Q(\x18:\x0c\x00", 180, 3)),
    "frame-v3-dictionary": (
        HEADER,
        Body(
            b"(\xb5/\xfd F}\x00\x00\x10ad\x03\xfc\xfe\x11\xb0M\xb0\x13\xf5\xb1\xc2\x07",
            70,
            1,
            1180157913,
        ),
    ),
}
PLAIN: Mapping[str, bytes] = {
    "frame-v3": b"payload",
    "frame-v3-zstd": b"payload, " * 20,
    "frame-v3-lz4": b"payload, " * 20,
    "frame-v3-zlib": b"payload, " * 20,
    "frame-v3-dictionary": (
        b'{"id": 7, "email": "ada@example.org", "plan": "monthly, paid by card"}'
    ),
}
# What an older release wrote is told from damage, and left alone until it expires.
REFUSED = ("frame-v1", "frame-v2")
BINDING: Any = {"key_digest": digest_key("shop", "user:42:profile")}


def test_every_stored_payload_is_known() -> None:
    """The manifest, the files and the cases above list the same names."""
    files = {path.stem for path in WIRE.glob("*.bin")}

    assert files == set(_manifest()) == {*STORED, *FRAMES, *REFUSED}


@pytest.mark.parametrize("name", STORED)
def test_a_stored_payload_is_read_for_ever(name: str) -> None:
    """What an older release wrote is what it was."""
    annotation, value = STORED[name]
    codec = codec_for(annotation)

    assert _manifest()[name]["fingerprint"] == codec.fingerprint.hex()
    assert same(codec.decode(_stored(name)), value)


@pytest.mark.parametrize("name", STORED)
def test_the_encoder_still_writes_the_stored_bytes(name: str) -> None:
    """An older release reads what this one writes, on every version of Python."""
    annotation, value = STORED[name]

    assert codec_for(annotation).encode(value) == _stored(name)


@pytest.mark.parametrize("name", FRAMES)
def test_a_stored_frame_is_read_for_ever(name: str) -> None:
    """Layout and key digest stay as they are."""
    assert unpack(_stored(name), **BINDING) == FRAMES[name]
    assert pack(*FRAMES[name], **BINDING) == _stored(name)


@pytest.mark.parametrize("name", PLAIN)
def test_a_stored_payload_is_expanded_for_ever(name: str) -> None:
    """Whichever release of zstandard, lz4 or zlib made it."""
    reader = Compressor(print)
    reader.learn(Compression(also_read=[Dictionary.load(WIRE / "rows.dict")]))

    assert reader.expand(unpack(_stored(name), **BINDING)[1]) == PLAIN[name]


@pytest.mark.parametrize("name", REFUSED)
def test_a_frame_of_an_older_version_is_refused_as_such(name: str) -> None:
    """It is a counted miss, and never misread."""
    with pytest.raises(FrameError) as caught:
        unpack(_stored(name), **BINDING)

    assert caught.value.cause == "format"


def _stored(name: str) -> bytes:
    return (WIRE / f"{name}.bin").read_bytes()


def _manifest() -> dict[str, dict[str, str]]:
    loaded: dict[str, dict[str, str]] = json.loads(MANIFEST.read_text("utf-8"))
    return loaded


def _add_missing() -> None:
    manifest = _manifest() if MANIFEST.exists() else {}
    for name, (annotation, value) in STORED.items():
        if name not in manifest:
            codec = codec_for(annotation)
            (WIRE / f"{name}.bin").write_bytes(codec.encode(value))
            manifest[name] = {
                "schema": codec.schema,
                "fingerprint": codec.fingerprint.hex(),
                "value": repr(value),
            }
    for name, frame in FRAMES.items():
        if name not in manifest:
            (WIRE / f"{name}.bin").write_bytes(pack(*frame, **BINDING))
            manifest[name] = {"key": "user:42:profile", "namespace": "shop", "value": repr(frame)}
    MANIFEST.write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    _add_missing()
