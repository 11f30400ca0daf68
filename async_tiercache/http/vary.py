"""`Vary`: which of a URL's stored responses answers a request (RFC 9111, 4.1)."""

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
    request: Mapping[bytes, bytes], names: Iterable[bytes], *, salt: bytes = b""
) -> bytes:
    """Return what tells requests apart by the fields that a response depends on.

    A field that is absent is not one that is empty.

    Args:
        request: The request's fields, the lines of each joined.
        names: The fields that the response depends on.
        salt: What else the digest shall depend on.
    """
    parts = [salt]
    for name in names:
        value = request.get(name)
        if value is not None and name in _LISTS:
            value = b",".join(elements_of([value.lower() if name in _WORDS else value]))
        parts += [name, b"%d" % (value is not None), value or b""]
    return digest_of(parts)
