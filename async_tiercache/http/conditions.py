"""Conditional requests answered from what is stored (RFC 9110, 13), and stored responses validated.

Only `If-None-Match` and `If-Modified-Since` are a cache's to answer; what protects a change goes to
the origin.
"""

import re
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from async_tiercache.http.fields import Fields, date_of, elements_of, lines_of

_TAG: Final = re.compile(rb'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')

KEPT_IN_304: Final = frozenset(
    {b"cache-control", b"content-location", b"date", b"etag", b"expires", b"vary"}
)
"""What a 304 says again of the response that it stands for (RFC 9110, 15.4.5), beside what caches
add themselves."""
_NOT_UPDATED: Final = frozenset(
    {b"content-encoding", b"content-range", b"content-length", b"content-md5", b"content-digest"}
)
"""What describes the content as it is stored."""


def is_unmodified(request: Mapping[bytes, bytes], response: Fields, *, now: float) -> bool:
    """Return whether the client has what is stored, so that a 304 answers it.

    Args:
        request: The request's fields, the lines of each joined.
        response: The stored ones.
        now: The present.
    """
    tags = request.get(b"if-none-match")
    if tags is not None:
        # Most clients send the one that they have.
        known = [tags] if _TAG.fullmatch(tags) else elements_of([tags])
        return _matches(known, lines_of(response, b"etag"))
    since = request.get(b"if-modified-since")
    # What does not say when it was changed was no later than it was made (RFC 9111, 4.3.2).
    modified = lines_of(response, b"last-modified") or lines_of(response, b"date")
    if since is None or len(modified) != 1:
        return False
    asked, changed = (date_of(each.strip(), now=now) for each in (since, modified[0]))
    return asked is not None and changed is not None and changed <= asked


def _matches(asked: Iterable[bytes], stored: list[bytes]) -> bool:
    """Compare entity tags weakly; one that breaks the grammar matches only its very text."""
    if len(stored) != 1:
        return b"*" in asked
    tag = _opaque(stored[0].strip())
    return any(each == b"*" or _opaque(each) == tag for each in asked)


def _opaque(tag: bytes) -> bytes:
    return tag.removeprefix(b"W/") if _TAG.fullmatch(tag) else tag


def fields_of_304(stored: Fields) -> list[tuple[bytes, bytes]]:
    """Return what a 304 carries of a stored response: no field of its content.

    A length beside no content breaks connections.
    """
    return [(name, value) for name, value in stored if name in KEPT_IN_304]


def etag_of(body: bytes) -> bytes:
    """Return a strong entity tag for a content, the same in every process.

    Example:
        >>> etag_of(b"hello")
        b'"x-46fb7408d4f285228f4af516ea25851b"'
    """
    return b'"x-%b"' % blake2b(body, digest_size=16).hexdigest().encode()


def validating(stored: Fields, body: bytes | None = None) -> list[tuple[bytes, bytes]]:
    """Return the conditions by which to ask an origin whether a stored response is current.

    Args:
        stored: Its fields.
        body: Its content, if its tag may be one that was made of that, which no origin knows.
    """
    names = {b"etag": b"if-none-match", b"last-modified": b"if-modified-since"}
    made = None if body is None else etag_of(body)
    return [(names[name], value) for name, value in stored if name in names and value != made]


def is_of(validated: Fields, stored: Fields) -> bool:
    """Return whether a 304 is about a stored response (RFC 9111, 4.3.4).

    One with a strong entity tag is about a response with that very tag only, one with a weak tag
    about what that matches weakly.
    """
    tag, held = (lines_of(fields, b"etag") for fields in (validated, stored))
    weak = bool(tag) and tag[0].startswith(b"W/")
    return not tag or (_matches(tag, held) if weak else tag == held)


def updated(stored: Fields, validated: Fields) -> list[tuple[bytes, bytes]]:
    """Return the fields of a stored response as a 304 has renewed them (RFC 9111, 3.2).

    Those that say how the content is written stay: it is what is stored.
    """
    new = [(name, value) for name, value in validated if name not in _NOT_UPDATED]
    renewed = {name for name, _ in new}
    return [*((name, value) for name, value in stored if name not in renewed), *new]
