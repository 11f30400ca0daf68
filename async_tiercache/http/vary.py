"""`Vary`: which of a URL's stored responses answers a request (RFC 9111, 4.1)."""

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from async_tiercache.http.fields import TOKEN, Fields, elements_of, lines_of

_DIGEST_BYTES: Final = 16
_WORDS: Final = frozenset({b"accept-charset", b"accept-encoding", b"accept-language"})
"""Lists of words in which neither case nor the space around them means anything."""
_LISTS: Final = _WORDS | {b"accept"}
"""Those in which the space means nothing; a parameter of a media type may heed case."""
_NO_LISTS: Final = frozenset(
    {
        b"authorization", b"cookie", b"date", b"from", b"host", b"if-modified-since", b"if-range",
        b"if-unmodified-since", b"proxy-authorization", b"referer", b"user-agent",
    }
)  # fmt: skip
"""Those in which a comma does not end an element; all others are taken for lists where that is
allowed."""
# A quoted string that does not end takes in all that follows it.
_COMMA: Final = re.compile(rb'("(?:[^"\\]|\\.)*(?:"|\\?\Z))|[ \t]*,[ \t]*', re.DOTALL)


def vary_of(response: Fields) -> tuple[bytes, ...] | None:
    """Return the names of the fields that a response depends on, sorted; `None` if on anything.

    What is no name might be anything.
    """
    return _names(tuple(lines_of(response, b"vary")))


@lru_cache(maxsize=1024)
def _names(lines: tuple[bytes, ...]) -> tuple[bytes, ...] | None:
    names = {each.lower() for each in elements_of(lines)}
    if not all(TOKEN.fullmatch(each) for each in names) or b"*" in names:
        return None
    return tuple(sorted(names))


def digest_of(parts: Iterable[bytes]) -> bytes:
    """Return a digest of parts, each with its length: two lists share one by chance only."""
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(len(part).to_bytes(8))
        digest.update(part)
    return digest.digest()


def variant_of(
    request: Mapping[bytes, bytes],
    names: Iterable[bytes],
    *,
    salt: bytes = b"",
    lists: bool = False,
) -> bytes:
    """Return what tells requests apart by the fields that a response depends on.

    A field that is absent is not one that is empty.

    Args:
        request: The request's fields, the lines of each joined.
        names: The fields that the response depends on.
        salt: What else the digest shall depend on.
        lists: Whether blanks around commas mean nothing in fields that are not known to be no list.
    """
    parts = [salt]
    for name in names:
        value, read = request.get(name), 0
        if value is not None:
            read = 1
            if name in _LISTS:
                value = b",".join(elements_of([value.lower() if name in _WORDS else value]))
            elif lists and name not in _NO_LISTS:
                # Who takes each by its letters must not be given the variant of another spelling.
                value, read = _COMMA.sub(_plain_comma, value), 2
        parts += [name, b"%d" % read, value or b""]
    return digest_of(parts)


def _plain_comma(found: re.Match[bytes]) -> bytes:
    return found[1] or b","
