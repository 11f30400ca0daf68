"""`Vary`: which of a URL's stored responses answers a request (RFC 9111, 4.1)."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import Final

from async_tiercache.http.fields import TOKEN, Fields, elements_of, lines_of

_DIGEST_BYTES: Final = 16


def vary_of(response: Fields) -> tuple[bytes, ...] | None:
    """Return the names of the fields that a response depends on, sorted; `None` if on anything.

    What is no name might be anything.
    """
    names = {each.lower() for each in elements_of(lines_of(response, b"vary"))}
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


def variant_of(request: Fields, names: Iterable[bytes]) -> bytes:
    """Return what tells requests apart by the fields that a response depends on.

    A field that is absent is not one that is empty. Lines are joined, and the space around them is
    dropped: that changes no field's meaning.
    """
    parts: list[bytes] = []
    for name in names:
        lines = [each.strip(b" \t") for each in lines_of(request, name)]
        parts += [name, b"%d" % bool(lines), b", ".join(lines)]
    return digest_of(parts)
