"""The wire: msgpack, with extension types for what msgpack has no form for.

Every codec ends here. Values of the types below are packed as they are and unpacked as what they
were, wherever they stand. Nothing is ever looked up by a name from the wire but time zones.

    code  type       data
       1  int        beyond 64 bits: two's complement
       2  Decimal    its text, in ASCII
       3  UUID       16 bytes
       4  datetime   year (2 bytes), month, day, hour, minute, second, microsecond (4), fold, zone
       5  date       year (2 bytes), month, day
       6  time       hour, minute, second, microsecond (4), fold, zone
       7  timedelta  days, seconds, microseconds (4 each)
       8  complex    real and imaginary part, float64
       9  tuple      a msgpack array
      10  set        a msgpack array
      11  frozenset  a msgpack array

Numbers are big endian. A zone is nothing (naive), ``+`` and the offset in microseconds (8 bytes),
or ``@`` and the key of a `ZoneInfo`. A time zone of any other class comes back as the fixed offset
(`datetime.timezone`, without a name) that it had at that instant, if the two are equal.

Tuples and sets inside each other, where no annotation describes them, may be 16 deep; lists and
dicts as deep as msgpack allows.
"""

import struct
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from functools import cache
from importlib import import_module
from types import NoneType
from typing import Any, Final, Self, TypeAlias, cast
from uuid import UUID
from zoneinfo import ZoneInfo

import msgpack  # type: ignore[import-untyped]

from async_tiercache.codecs._nodes import Kinds, MismatchError, Node, Side, misfit

_msgpack: Final[Any] = msgpack  # it has no types
Unpack: TypeAlias = Callable[[bytes | memoryview], Any]
SCALARS: Final[Kinds] = frozenset(
    {
        NoneType, bool, int, float, complex, str, bytes,
        Decimal, UUID, datetime, date, time, timedelta,
    }
)  # fmt: skip
_CONTAINERS: Final[Kinds] = frozenset({dict, list, tuple, set, frozenset})
_DEPTH: Final = 16
_KEPT_BYTES: Final = 1 << 20

_new: Final = cast("Any", tuple).__new__

_DATETIME: Final = struct.Struct(">HBBBBBIB")
_DATE: Final = struct.Struct(">HBB")
_TIME: Final = struct.Struct(">BBBIB")
_TIMEDELTA: Final = struct.Struct(">iII")
_COMPLEX: Final = struct.Struct(">dd")
_OFFSET: Final = struct.Struct(">q")
_MICROSECOND: Final = timedelta(microseconds=1)


def _zone(value: datetime | time) -> bytes:
    zone = value.tzinfo
    if zone is None:
        return b""
    if type(zone) is ZoneInfo and zone.key:
        return b"@" + zone.key.encode()
    offset = value.utcoffset()
    if offset is None:
        raise MismatchError(
            "a time zone with an offset", type(zone).__name__, hint="Use zoneinfo or timezone."
        )
    if type(zone) is not timezone and value.replace(tzinfo=timezone(offset)) != value:
        raise MismatchError(
            "a time that equals itself at its offset",
            f"one of {type(zone).__name__} in a repeated hour",
            hint="Use zoneinfo, or convert the value to UTC.",
        )
    return b"+" + _OFFSET.pack(offset // _MICROSECOND)


def _zone_of(data: bytes) -> tzinfo | None:
    if not data:
        return None
    if data.startswith(b"@"):
        return ZoneInfo(data[1:].decode())
    if data.startswith(b"+"):
        return timezone(timedelta(microseconds=_OFFSET.unpack(data[1:])[0]))
    raise MismatchError("a time zone", "other bytes")


def _pack_int(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, signed=True)


def _unpack_int(data: bytes) -> int:
    return int.from_bytes(data, signed=True)


def _pack_decimal(value: Decimal) -> bytes:
    return str(value).encode("ascii")


def _unpack_decimal(data: bytes) -> Decimal:
    return Decimal(data.decode("ascii"))


def _pack_uuid(value: UUID) -> bytes:
    return value.bytes


def _unpack_uuid(data: bytes) -> UUID:
    return UUID(bytes=data)


def _pack_datetime(value: datetime) -> bytes:
    return _zoned(
        _DATETIME.pack(
            value.year,
            value.month,
            value.day,
            value.hour,
            value.minute,
            value.second,
            value.microsecond,
            value.fold,
        ),
        value,
    )


def _unpack_datetime(data: bytes) -> datetime:
    year, month, day, hour, minute, second, microsecond, fold = _DATETIME.unpack_from(data)
    zone = _zone_of(data[_DATETIME.size :])
    return datetime(year, month, day, hour, minute, second, microsecond, zone, fold=fold)


def _pack_date(value: date) -> bytes:
    return _DATE.pack(value.year, value.month, value.day)


def _unpack_date(data: bytes) -> date:
    return date(*_DATE.unpack(data))


def _pack_time(value: time) -> bytes:
    return _zoned(
        _TIME.pack(value.hour, value.minute, value.second, value.microsecond, value.fold), value
    )


def _unpack_time(data: bytes) -> time:
    hour, minute, second, microsecond, fold = _TIME.unpack_from(data)
    return time(hour, minute, second, microsecond, _zone_of(data[_TIME.size :]), fold=fold)


def _zoned(fields: bytes, value: datetime | time) -> bytes:
    return fields if value.tzinfo is None else fields + _zone(value)


def _pack_timedelta(value: timedelta) -> bytes:
    return _TIMEDELTA.pack(value.days, value.seconds, value.microseconds)


def _unpack_timedelta(data: bytes) -> timedelta:
    return timedelta(*_TIMEDELTA.unpack(data))


def _pack_complex(value: complex) -> bytes:
    return _COMPLEX.pack(value.real, value.imag)


def _unpack_complex(data: bytes) -> complex:
    return complex(*_COMPLEX.unpack(data))


_PACK: Final[dict[type, tuple[int, Callable[[Any], bytes]]]] = {
    int: (1, _pack_int),
    Decimal: (2, _pack_decimal),
    UUID: (3, _pack_uuid),
    datetime: (4, _pack_datetime),
    date: (5, _pack_date),
    time: (6, _pack_time),
    timedelta: (7, _pack_timedelta),
    complex: (8, _pack_complex),
}
_UNPACK: Final[dict[int, Callable[[bytes], Any]]] = {
    1: _unpack_int,
    2: _unpack_decimal,
    3: _unpack_uuid,
    4: _unpack_datetime,
    5: _unpack_date,
    6: _unpack_time,
    7: _unpack_timedelta,
    8: _unpack_complex,
}
_NESTED: Final[dict[type, int]] = {tuple: 9, set: 10, frozenset: 11}
_NESTING: Final[dict[int, Callable[[Any], Any]]] = {9: tuple, 10: set, 11: frozenset}


class _Level:
    """Packing and unpacking at one depth of tuples and sets inside each other.

    msgpack's unpacker takes 40 KB of C stack and its packer cannot be entered twice, so the depth
    is bounded and each depth has packers of its own.
    """

    __slots__ = ("_deeper", "_idle", "unpack")

    def __init__(self, deeper: Self | None) -> None:
        self._deeper = deeper
        self._idle: list[Any] = []
        # timestamp=3: msgpack's own timestamp, which is never written, reads as a datetime too.
        # A partial would make a dict of these at each call, which costs more than one more call.
        unpackb, restore = _msgpack.unpackb, self.restore

        def unpack(payload: bytes | memoryview) -> Any:
            return unpackb(payload, ext_hook=restore, strict_map_key=False, timestamp=3)

        self.unpack: Unpack = unpack

    def pack(self, value: Any) -> bytes:
        # A packer is taken out while it works: another thread, or a property that encodes, makes
        # its own. One that failed holds half a value and is dropped.
        try:
            packer = self._idle.pop()
        except IndexError:
            packer = _msgpack.Packer(default=self._extend, strict_types=True, buf_size=4096)
        payload: bytes = packer.pack(value)
        if len(payload) <= _KEPT_BYTES:
            self._idle.append(packer)
        return payload

    def _extend(self, value: Any) -> Any:
        kind: Any = cast("Any", type(value))
        if kind in _PACK:
            code, pack = _PACK[kind]
            # ExtType's own constructor takes three times as long to check what is known here.
            return _new(_msgpack.ExtType, (code, pack(value)))
        if kind not in _NESTED:
            raise misfit("plain data", value)
        if self._deeper is None:
            raise MismatchError(
                f"tuples and sets at most {_DEPTH} deep",
                "deeper ones",
                hint="Annotate what is returned, or use lists.",
            )
        return _msgpack.ExtType(_NESTED[kind], self._deeper.pack(list(value)))

    def restore(self, code: int, data: bytes) -> Any:
        """Return the value of an extension type."""
        if code in _UNPACK:
            return _UNPACK[code](data)
        if code not in _NESTING or self._deeper is None:
            raise MismatchError("a known extension type", f"code {code}")
        items: Any = self._deeper.unpack(data)
        if type(items) is not list:
            raise MismatchError("list", type(items).__name__)
        return _NESTING[code](items)


def _levels() -> _Level:
    level: _Level | None = None
    for _ in range(_DEPTH):
        level = _Level(level)
    return _Level(level)


_OUTERMOST: Final = _levels()
pack: Final = _OUTERMOST.pack
"""Return the bytes of plain data; raises `MismatchError` or what msgpack raises."""


unpack: Final = _OUTERMOST.unpack
"""Return the plain data of a payload; raises whatever the bytes provoke."""


@cache
def quick_unpack() -> Unpack:
    """Return what does the same in half the time where msgspec is installed.

    It refuses more, such as lists that are nested deeper than it can; `unpack` judges that.
    """
    try:
        msgspec: Any = import_module("msgspec.msgpack")
    except ImportError:
        return unpack

    def restore(code: int, data: memoryview) -> Any:
        return _OUTERMOST.restore(code, bytes(data))

    decode: Unpack = msgspec.Decoder(ext_hook=restore).decode
    return decode


def _check(value: Any) -> Any:
    """Raise unless a value is plain data through and through; return it."""
    kind: Any = cast("Any", type(value))
    if kind in SCALARS:
        return value
    if kind not in _CONTAINERS:
        raise misfit("plain data", value, _ANYTHING)
    if not SCALARS.issuperset(map(type, value)):
        for index, item in enumerate(value):
            if type(item) not in SCALARS:
                _check_part(item, index if kind is not dict else ...)
    if kind is dict and not SCALARS.issuperset(map(type, value.values())):
        for key, item in value.items():
            if type(item) not in SCALARS:
                _check_part(item, key)
    return value


def _check_part(value: Any, place: Any) -> None:
    try:
        _check(value)
    except MismatchError as mismatch:
        mismatch.path.append("[key]" if place is ... else f"[{place!r}]")
        raise


_ANYTHING: Final = SCALARS | _CONTAINERS
DYNAMIC: Final = Node(
    "Any", Side(_ANYTHING, _check, SCALARS, judges=True), Side(_ANYTHING, None, _ANYTHING)
)
"""The node of `Any`: plain data of the types above, nested as they like."""
