"""Messages: what goes over the bus about an invalidation.

A message is 16 bytes that name this one execution of the command which sent it, and a msgpack list:
version, id of the record, keys, tags, the seconds of a soft invalidation or nil, pattern, and when
it was made. Whoever may publish there can send anything, so what is decoded is checked.
"""

import math
from typing import Any, Final, TypeGuard, cast

import msgpack  # type: ignore[import-untyped]

from async_tiercache.abc import Invalidation
from async_tiercache.errors import DecodeError

MESSAGE_ID_BYTES: Final = 16
MAX_NAMES: Final = 512
"""Keys and tags that one message may be about."""
MAX_BYTES: Final = 2**21
"""No message is longer."""

_msgpack: Final[Any] = msgpack
_VERSION: Final = 1
_RECORD_ID_BYTES: Final = 16
_LONGEST: Final = 10 * 366 * 86400.0


def encode(record: Invalidation) -> bytes:
    """Return what stands in a message behind its id."""
    soft = None if record.soft is None else soft_seconds(record.soft)
    fields = [_VERSION, record.id, record.keys, record.tags, soft, record.pattern, record.at]
    return cast("bytes", _msgpack.packb(fields))


def message_id(message: bytes) -> bytes | None:
    """Return the id of a message; `None` if it is too short to have one."""
    return message[:MESSAGE_ID_BYTES] if len(message) >= MESSAGE_ID_BYTES else None


def decode(message: bytes) -> Invalidation:
    """Return the record that a message is about.

    Raises:
        DecodeError: It is no message of ours, or of another release; no other error is raised.
    """
    if not MESSAGE_ID_BYTES < len(message) <= MAX_BYTES:
        raise DecodeError(f"a message of {len(message)} bytes is none of ours")
    try:
        version, record_id, keys, tags, soft, pattern, at = _msgpack.unpackb(
            memoryview(message)[MESSAGE_ID_BYTES:],
            max_array_len=MAX_NAMES,
            max_map_len=0,
            max_ext_len=0,
        )
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise DecodeError(f"a message cannot be decoded: {error}") from error
    if version != _VERSION:
        raise DecodeError("a message has another form than ours")
    if not (
        isinstance(record_id, bytes)
        and len(record_id) == _RECORD_ID_BYTES
        and _are_texts(keys)
        and _are_texts(tags)
        and (soft is None or (type(soft) is float and 0 <= soft <= _LONGEST))
        and isinstance(pattern, str)
        and type(at) is float
    ):
        raise DecodeError("a message has fields of other types than ours")
    return Invalidation(record_id, tuple(keys), tuple(tags), soft, pattern, at)


def soft_seconds(seconds: float) -> float:
    """Return for how long what is soft may be served, as a message can say it."""
    return min(max(float(seconds), 0.0), _LONGEST) if not math.isnan(seconds) else 0.0


def _are_texts(names: list[Any] | bytes | str | float | None) -> TypeGuard[list[str]]:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)
