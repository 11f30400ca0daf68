"""What a developer is advised of: responses that hold what only their first client has sent."""

from collections.abc import Iterator, Mapping
from typing import Final

from async_tiercache.http.fields import Fields
from async_tiercache.http.vary import vary_of

_SHORTEST: Final = 6
"""Shorter texts are found in pages by chance, in bytes."""
_NEGOTIATING: Final = (b"accept", b"cache-control", b"connection", b"host", b"pragma", b"sec-")
"""How fields begin whose values stand in responses without being from their requests."""


def reflected(asked: Mapping[bytes, bytes], fields: Fields, body: bytes, origin: str) -> list[str]:
    """Return the request fields whose values a response holds and is not told apart by.

    Args:
        asked: The request's fields that the application was shown, by name.
        fields: The response's.
        body: Its content.
        origin: Scheme, host and port of the request, which pages link to.
    """
    keyed = vary_of(fields) or ()
    held = b"\n".join([body, *(value for _, value in fields)])
    own = origin.encode("latin-1")
    return [
        name.decode("latin-1")
        for name, value in asked.items()
        if name not in keyed
        and not name.startswith(_NEGOTIATING)
        and any(
            part in held and part not in own and own not in part for part in _parts(name, value)
        )
    ]


def _parts(name: bytes, value: bytes) -> Iterator[bytes]:
    """Yield what may be looked for: each cookie by itself."""
    pairs = value.split(b";") if name == b"cookie" else [value]
    for pair in pairs:
        part = (pair.partition(b"=")[2] if name == b"cookie" else pair).strip(b' \t"')
        if len(part) >= _SHORTEST:
            yield part


def advice_on(name: str) -> str:
    """Return what is to be said of a request field that a response holds."""
    return (
        f"A stored response holds what its first client has sent in {name!r}, by which responses"
        f" are not told apart: name it by Vary, hide it by Rule(..., strict=True), or send private"
    )
