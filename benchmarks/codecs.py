"""What do encoding and decoding cost, in units of msgpack by hand?

By hand there are plain dicts: nothing is checked, and an object is made of the dict that comes back
with its fields as they are. Ours checks every type, both ways; a model's fields stand in it without
their names.
"""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from async_tiercache.codecs import codec_for
from benchmarks._apart import Group
from benchmarks._harness import Case, Effort, Sweep
from benchmarks.hits import Profile, a_profile
from benchmarks.l2 import page, plain

_msgpack: Final[Any] = msgpack  # it has no types

Convert = Callable[[Any], Any]


@dataclass(frozen=True)
class Value:
    """A value, and what one would do without a codec.

    Attributes:
        annotation: What the codec is made from.
        value: The value.
        packs: Returns its bytes.
        unpacks: Returns it from these bytes.
    """

    annotation: Any
    value: Any
    packs: Convert
    unpacks: Convert


VALUES: Final = {
    "a dict of 200 B": Value(dict[str, Any], plain(1), _msgpack.packb, _msgpack.unpackb),
    "a dataclass of 200 B": Value(
        Profile,
        a_profile(1),
        lambda profile: _msgpack.packb(vars(profile)),
        lambda payload: Profile(**_msgpack.unpackb(payload)),
    ),
    "dicts of 10 KB": Value(list[dict[str, Any]], page(1), _msgpack.packb, _msgpack.unpackb),
    "dataclasses of 10 KB": Value(
        list[Profile],
        [Profile(**each) for each in page(1)],
        lambda profiles: _msgpack.packb([vars(each) for each in profiles]),
        lambda payload: [Profile(**each) for each in _msgpack.unpackb(payload)],
    ),
}


@asynccontextmanager
async def both_ways(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up both directions of each value."""
    yield [case for name, value in VALUES.items() for case in _cases(name, value, effort)]


def _cases(name: str, value: Value, effort: Effort) -> Iterator[Case]:
    codec = codec_for(value.annotation)
    ours, by_hand = codec.encode(value.value), value.packs(value.value)
    assert codec.decode(ours) == value.unpacks(by_hand) == value.value
    ways = {
        "encode": (over(codec.encode, value.value), over(value.packs, value.value)),
        "decode": (over(codec.decode, ours), over(value.unpacks, by_hand)),
    }
    for way, (subject, floor) in ways.items():
        yield Case(
            name=f"{way} {name}",
            subject=subject,
            floor=floor,
            floor_name="msgpack by hand",
            keys=range(int(1e7 * effort.scale / len(by_hand))),
            bars={"cpu": None},
            check=_nothing,
        )


def over(convert: Convert, value: Any) -> Sweep:
    """Return a sweep that converts one value again and again."""

    async def sweep(keys: Sequence[int]) -> None:
        for _ in keys:
            convert(value)

    return sweep


def _nothing() -> None:
    """Find nothing wrong: what comes out was compared before."""


GROUPS: Final[dict[str, Group]] = {"both ways": both_ways}
