"""Header fields as ASGI has them: pairs of bytes, names in lower case, repeated ones in order.

What is malformed is told apart from what is absent, for who asks takes the strict reading then.
"""

import calendar
import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, TypeAlias

Fields: TypeAlias = Sequence[tuple[bytes, bytes]]

LONGEST_SECONDS: Final = 2**31
"""What is longer counts as this long (RFC 9111, 1.2.2)."""

_TOKEN_TEXT: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
TOKEN: Final = re.compile(_TOKEN_TEXT)
QUOTED: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
# A quoted string that does not end takes in all that follows it.
_ELEMENT: Final = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*(?:"|\\?\Z))+', re.DOTALL)
_ESCAPED: Final = re.compile(rb"\\(.)", re.DOTALL)

_LONGEST_DATE: Final = len(b"Wednesday, 09-Nov-94 08:49:37 GMT")
_DAY_SECONDS: Final = 86_400
_MONTHS: Final = b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()
_DAY: Final = rb"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_MONTH: Final = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME: Final = rb"(?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)"
_DATES: Final = (
    re.compile(
        _DAY + rb", (?P<day>\d\d) " + _MONTH + rb" (?P<year>\d{4}) " + _TIME + rb" GMT",
        re.IGNORECASE,
    ),
    re.compile(
        rb"(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day, (?P<day>\d\d)-"
        + _MONTH
        + rb"-(?P<year>\d\d) "
        + _TIME
        + rb" GMT",
        re.IGNORECASE,
    ),
    re.compile(
        _DAY + rb" " + _MONTH + rb" (?P<day>\d\d| \d) " + _TIME + rb" (?P<year>\d{4})",
        re.IGNORECASE,
    ),
)


_OWN: Final = frozenset(
    {
        b"cache-tag",
        b"content-digest",
        b"content-location",
        b"etag",
        b"last-modified",
        b"link",
        b"location",
        b"repr-digest",
        b"surrogate-key",
    }
)
"""Fields that hardly two responses have with the same value."""
_LONGEST_SHARED: Final = 1024
"""Longer values are not held for others, in bytes."""


def shared(fields: Fields) -> tuple[tuple[bytes, bytes], ...]:
    """Return equal fields in which thousands of responses hold the same names and values once."""
    return tuple(
        [
            (_name(name), value)
            if name in _OWN or len(value) > _LONGEST_SHARED
            else _pair(name, value)
            for name, value in fields
        ]
    )


# What is of one response alone leaves it soon; what most have is asked for again and again.
@lru_cache(maxsize=4096)
def _pair(name: bytes, value: bytes) -> tuple[bytes, bytes]:
    return name, value


@lru_cache(maxsize=1024)
def _name(name: bytes) -> bytes:
    return name


def lines_of(fields: Fields, name: bytes) -> list[bytes]:
    """Return the values of all lines of a field."""
    return [value for each, value in fields if each == name]


def joined(fields: Fields) -> dict[bytes, bytes]:
    """Return fields by name, the lines of each joined, which changes no list's meaning.

    Example:
        >>> joined([(b"accept", b"a"), (b"host", b"shop"), (b"accept", b"b")])
        {b'accept': b'a, b', b'host': b'shop'}
    """
    found: dict[bytes, bytes] = {}
    for name, value in fields:
        value = value.strip(b" \t")  # noqa: PLW2901 - space around it means nothing
        found[name] = found[name] + b", " + value if name in found else value
    return found


def elements_of(lines: Iterable[bytes]) -> list[bytes]:
    """Return the elements of a list (RFC 9110, 5.6.1) over all its lines; empty ones are none.

    Example:
        >>> elements_of([b'a, "b, c" ,', b"d=1"])
        [b'a', b'"b, c"', b'd=1']
    """
    found = (each.strip(b" \t") for line in lines for each in _ELEMENT.findall(line))
    return [each for each in found if each]


def unquoted(text: bytes) -> bytes:
    """Return the content of a quoted string, or a token as it is."""
    return _ESCAPED.sub(rb"\1", text[1:-1]) if text.startswith(b'"') else text


def seconds_of(text: bytes) -> int | None:
    """Return delta-seconds (RFC 9111, 1.2.2); `None` if the text is none.

    Example:
        >>> seconds_of(b"0060"), seconds_of(b"9" * 99), seconds_of(b"1.5"), seconds_of(b"-1")
        (60, 2147483648, None, None)
    """
    if not text.isdigit():
        return None
    digits = text.lstrip(b"0")
    return LONGEST_SECONDS if len(digits) > 10 else min(int(digits or b"0"), LONGEST_SECONDS)


def date_of(text: bytes, *, now: float) -> float | None:
    """Return an HTTP-date (RFC 9110, 5.6.7) as seconds since the epoch; `None` if it is none.

    Args:
        text: In any of the three formats, spelled exactly but for its case, which means nothing to
            a cache (RFC 9111, 4.2).
        now: The present, which says what century two digits of a year are in.

    Example:
        >>> date_of(b"Sun, 06 Nov 1994 08:49:37 GMT", now=0.0)
        784111777.0
        >>> date_of(b"Sun, 06 Nov 1994 08:49:37 UTC", now=0.0) is None
        True
    """
    return _date_of(text, int(now // _DAY_SECONDS)) if len(text) <= _LONGEST_DATE else None


# Clients ask with the dates that they were told, again and again.
@lru_cache(maxsize=1024)
def _date_of(text: bytes, today: int) -> float | None:
    for pattern in _DATES:
        found = pattern.fullmatch(text)
        if found is not None:
            break
    else:
        return None
    year, month = int(found["year"]), _MONTHS.index(found["month"].title()) + 1
    if len(found["year"]) == 2:
        # More than 50 years ahead is the century before.
        present = datetime.fromtimestamp(today * _DAY_SECONDS, UTC).year
        year += present - present % 100
        year -= 100 * (year > present + 50)
    day, hour, minute, second = (int(found[part]) for part in ("day", "hour", "minute", "second"))
    try:
        # A leap second is the first one of the next minute.
        datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return (
        float(calendar.timegm((year, month, day, hour, minute, second))) if second <= 60 else None
    )
