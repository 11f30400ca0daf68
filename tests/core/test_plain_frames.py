"""Plain frames: opened in one loop, and believed no more than those that are opened one by one."""

import math
import struct
from typing import Any, Final
from zlib import crc32

import pytest

from async_tiercache import Policy
from async_tiercache._ask import States
from async_tiercache._entry import Header
from async_tiercache._family import Family
from async_tiercache._options import MISSING, Limits
from async_tiercache._plain import PlainFrames
from async_tiercache.abc import NAMESPACE, UNREACHED
from async_tiercache.codecs import codec_for
from async_tiercache.codecs.frame import HEADER_BYTES, LEASE_BYTES, Body, digest_key, pack
from async_tiercache.tags import STATE_BYTES

NOW: Final = 1e9
STATE: Final = bytes(range(STATE_BYTES))
IDS: Final = STATE[:24]
KEY: Final = "user:42"
TAG: Final = "all"
FAMILY: Final = Family("user:{key}", Limits.of(Policy(early=0)), codec_for(str))
FRAMES: Final = PlainFrames("shop", lambda: 0.5)


def frame_of(value: str, tags: tuple[str, ...] = (), **changes: Any) -> bytes:
    """Return the frame of a value that is fresh for a day."""
    pairs = tuple((tag, IDS) for tag in tags)
    times = NOW - 1, NOW + 86_400, NOW + 90_000, 0.5
    fields = Header(bytes(16), *times, FAMILY.codec.fingerprint, namespace=IDS, tags=pairs)
    header = fields._replace(**changes)
    payload = Body.plain(FAMILY.codec.encode(value))
    return pack(header, payload, key_digest=digest_key("shop", KEY))


def states_of(*tags: str) -> States:
    """Return the states of tags, and that of the namespace."""
    states = States()
    states.update(dict.fromkeys((NAMESPACE, *tags), STATE))
    states.namespace, states.read_at = IDS, NOW
    return states


def opened(content: Any, tags: tuple[str, ...] = (), *, whole: bool = False) -> Any:
    """Return what is found in what a key holds."""
    states = states_of(*tags)
    found, left = FRAMES.open(FAMILY, [(KEY, tags, content)], states, whole=whole)
    assert left == [0] * (found[0] is MISSING)
    return found[0]


@pytest.mark.parametrize("tags", [(), (TAG,)], ids=["no tag", "a tag"])
@pytest.mark.parametrize("size", [7, 5_000])
def test_a_frame_is_opened_unless_a_byte_of_it_is_another(tags: tuple[str, ...], size: int) -> None:
    """Whatever is damaged: the short way believes no more than the long one."""
    frame = frame_of("x" * size, tags)
    start = HEADER_BYTES + len(tags) * (2 + len(TAG) + len(IDS))

    assert opened(frame, tags) == "x" * size
    for place in [*range(start), len(frame) - 1]:
        damaged = bytearray(frame)
        damaged[place] ^= 1
        assert opened(bytes(damaged), tags) is MISSING
    for cut in (0, HEADER_BYTES - 1, len(frame) - 1):
        assert opened(frame[:cut], tags) is MISSING


def test_all_of_a_frame_is_told_where_that_is_asked_for() -> None:
    """L1 keeps it."""
    value, early, pairs, fields = opened(frame_of("ada", (TAG,)), (TAG,), whole=True)

    assert (value, early, pairs) == ("ada", NOW + 86_400, ((TAG, IDS),))
    assert fields[:5] == (bytes(16), NOW - 1, NOW + 86_400, NOW + 90_000, 0.5)
    assert bytes(fields[5]) == FAMILY.codec.encode("ada")


@pytest.mark.parametrize("offset", [22, 30, 38], ids=["created", "fresh", "stale"])
@pytest.mark.parametrize("moment", [math.nan, math.inf, -math.inf, -1.0, 1e300])
def test_a_frame_with_absurd_times_is_left(offset: int, moment: float) -> None:
    """As `unpack` refuses it, though its checksums fit."""
    assert opened(_sealed(frame_of("ada"), ">d", offset, moment)) is MISSING


@pytest.mark.parametrize("load", [math.nan, math.inf, -1.0, 2e9])
def test_a_frame_with_an_absurd_load_time_is_left(load: float) -> None:
    """Early expiration is computed from it."""
    assert opened(_sealed(frame_of("ada"), ">f", 46, load)) is MISSING


@pytest.mark.parametrize(
    "content",
    [
        None,
        UNREACHED,
        b"",
        b"L" + bytes(LEASE_BYTES - 1),
        frame_of("ada", etag="1"),
        frame_of("ada", fingerprint=b"another!"),
        frame_of("ada", namespace=bytes(24)),
        frame_of("ada", fresh_until=NOW),
        frame_of("ada", ("another",)),
    ],
    ids=[
        "nothing", "unreached", "empty", "a lease", "an etag", "another schema",
        "another namespace", "stale", "another tag",
    ],
)  # fmt: skip
def test_what_is_no_plain_frame_of_the_key_is_left(content: Any) -> None:
    """The judge tells what it is."""
    assert opened(content) is MISSING


def test_rows_have_their_own_tags() -> None:
    """Those of the row before tell nothing about the next one, also where they have no state."""
    frame, tagged, states = frame_of("ada"), frame_of("eve", (TAG,)), states_of(TAG)
    rows = [
        (KEY, (), frame),
        (KEY, (TAG,), tagged),
        (KEY, ("unknown",), tagged),
        (KEY, ("unknown",), frame),
        (KEY, (), tagged),
        (KEY, (), frame),
    ]

    found, left = FRAMES.open(FAMILY, rows, states, whole=False)

    assert found == ["ada", "eve", MISSING, MISSING, MISSING, "ada"]
    assert left == [2, 3, 4]


def test_nothing_is_plain_without_evidence_of_the_namespace() -> None:
    """What was invalidated with it cannot be told from what was not."""
    states = states_of()
    states.namespace = None

    found, left = FRAMES.open(FAMILY, [(KEY, (), frame_of("ada"))], states, whole=False)

    assert (found, left) == ([MISSING], [0])


def _sealed(frame: bytes, form: str, offset: int, value: float) -> bytes:
    """Return a frame with another value in its stamp, and the checksum of that."""
    raw = bytearray(frame)
    struct.pack_into(form, raw, offset, value)
    struct.pack_into(">I", raw, 50, crc32(raw[6:50]))
    return bytes(raw)
