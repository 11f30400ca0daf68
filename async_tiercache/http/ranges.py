"""Ranges of a response (RFC 9110, 14): one at a time, which is what clients ask for."""

import re
from collections.abc import Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from async_tiercache.http.fields import Fields, date_of, lines_of
from async_tiercache.http.rules import made_at

_BYTES: Final = re.compile(rb"bytes=[ \t]*(\d{0,18})-(\d{0,18})[ \t]*", re.IGNORECASE)
_SPELLED: Final = re.compile(rb"bytes=(?:(0|[1-9]\d{0,17})-(0|[1-9]\d{0,17})?|-[1-9]\d{0,17})")
Whole: TypeAlias = Literal["whole"]
Outside: TypeAlias = Literal["outside"]


class Range(NamedTuple):
    """A part of a content.

    Attributes:
        first: The offset of its first byte.
        last: That of its last byte.
        size: How many bytes the whole content has.
    """

    first: int
    last: int
    size: int

    @property
    def content_range(self) -> bytes:
        """The value of `Content-Range`.

        Example:
            >>> Range(0, 9, 100).content_range
            b'bytes 0-9/100'
        """
        return b"bytes %d-%d/%d" % self


def range_of(
    request: Mapping[bytes, bytes], response: Fields, size: int, *, born_at: float
) -> Range | Whole | Outside:
    """Return what part of a stored response a request asks for.

    Args:
        request: The request's fields, the lines of each joined.
        response: The stored response's fields.
        size: How many bytes its content has.
        born_at: When it was made, if its `Date` does not say.

    Returns:
        The part; ``"whole"`` where there is no range, several ones, or one that is to be ignored;
        ``"outside"`` where it has no byte of the content, which a 416 answers.

    Example:
        >>> range_of({b"range": b"bytes=-5"}, [], 100, born_at=0.0)
        Range(first=95, last=99, size=100)
    """
    found = _BYTES.fullmatch(request.get(b"range", b"").strip(b" \t"))
    if found is None or not _is_current(request, response, born_at):
        return "whole"
    first, last = found.groups()
    if not first:
        if not last:
            return "whole"
        length = min(int(last), size)
        return Range(size - length, size - 1, size) if length else "outside"
    begin = int(first)
    if last and int(last) < begin:
        return "whole"
    if begin >= size:
        return "outside"
    return Range(begin, min(int(last), size - 1) if last else size - 1, size)


def asks_for_one_part(request: Mapping[bytes, bytes]) -> bool:
    """Return whether a request asks for one part of whatever there is, in the usual spelling of it.

    What is spelled in another way may mean something else to the application.

    Args:
        request: The request's fields, the lines of each joined.

    Example:
        >>> asks_for_one_part({b"range": b"bytes=0-99"})
        True
        >>> asks_for_one_part({b"range": b"bytes=0-99, 200-"})
        False
    """
    found = _SPELLED.fullmatch(request.get(b"range", b""))
    if found is None or b"if-range" in request:
        return False
    first, last = found.groups()
    return last is None or int(first) <= int(last)


def _is_current(request: Mapping[bytes, bytes], response: Fields, born_at: float) -> bool:
    """Return whether `If-Range` names what is stored: by a strong tag, or by its very date.

    A date says that only if it was past when the response was made: within that second there may
    have been another content (RFC 9110, 8.8.2.2).
    """
    asked = request.get(b"if-range")
    if asked is None:
        return True
    asked = asked.strip(b" \t")
    if asked.startswith((b'"', b"W/")):
        return not asked.startswith(b"W/") and lines_of(response, b"etag") == [asked]
    changed = date_of(asked, now=born_at)
    return (
        changed is not None
        and lines_of(response, b"last-modified") == [asked]
        and made_at(response, born_at) >= changed + 1
    )


def content_range_outside(size: int) -> bytes:
    """Return the `Content-Range` of a 416.

    Example:
        >>> content_range_outside(100)
        b'bytes */100'
    """
    return b"bytes */%d" % size
