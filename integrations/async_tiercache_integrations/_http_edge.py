"""What a CDN in front is told: for how long it may keep a response, and what ends it."""

from collections.abc import Iterable
from typing import Final
from urllib.parse import quote

from async_tiercache._options import Duration, seconds
from async_tiercache.errors import ConfigurationError
from async_tiercache.http.fields import TOKEN, Fields

_LIFETIMES: Final = (b"cdn-cache-control", b"cloudflare-cdn-cache-control", b"surrogate-control")
"""By which CDNs are told something else than clients; each knows one of them (RFC 9213)."""
_TAGS: Final = frozenset({b"surrogate-key", b"cache-tag", b"edge-cache-tag", b"cdn-tag", b"xkey"})
_SPACED: Final = frozenset({b"surrogate-key", b"xkey"})
"""In which spaces stand between tags, not commas."""
_PLAIN: Final = "!$&'()*+;=:@/?-._~"
_NO_STORE: Final = [(name, b"no-store") for name in _LIFETIMES]


def edge_tag(tag: str) -> str:
    """Return how a tag is called at a CDN: what its fields may not hold is percent-encoded.

    Example:
        >>> edge_tag("user:42"), edge_tag("a b,c")
        ('user:42', 'a%20b%2Cc')
    """
    return quote(tag, safe=_PLAIN)


class Edge:
    """A CDN in front, which keeps what is stored here, too.

    Args:
        tags: The field by which it hears what a response stands under: ``"Surrogate-Key"``
            (Fastly), ``"Cache-Tag"`` (Cloudflare, CloudFront), ``"Edge-Cache-Tag"`` (Akamai),
            ``"CDN-Tag"`` (Bunny), ``"xkey"`` (Varnish); `None` if it is not to hear that.
        ttl: For how long it may keep a response, in place of what clients are told; `None` leaves
            that to the response's own fields.
        max_tags_bytes: How long the field of tags may be. A response whose tags do not fit is not
            for the CDN, for none of them may be left out.

    Raises:
        ConfigurationError: The field is none, or a limit is not what it must be.

    Example:
        >>> edge = Edge(tags="Surrogate-Key", ttl="1h")
    """

    def __init__(
        self,
        *,
        tags: str | None = None,
        ttl: Duration | None = None,
        max_tags_bytes: int = 16_384,
    ) -> None:
        name = None if tags is None else tags.lower().encode()
        if name is not None and not TOKEN.fullmatch(name):
            raise ConfigurationError(
                f"tags={tags!r} is no field", hint='Name one, such as "Surrogate-Key".'
            )
        if max_tags_bytes < 1:
            raise ConfigurationError(
                f"max_tags_bytes={max_tags_bytes} leaves no tag", hint="Pass 1 or more."
            )
        self._field = name
        self._max_bytes = max_tags_bytes
        self._control: bytes | None = None
        if ttl is not None:
            self._control = b"max-age=%d" % seconds(ttl, name="ttl")
        own = set[bytes]() if name is None else {name, *_TAGS}
        self._replaced = frozenset(own if ttl is None else own.union(_LIFETIMES))

    def plain(self, fields: Fields) -> list[tuple[bytes, bytes]]:
        """Return a response's fields without those that speak to the CDN from here."""
        return [each for each in fields if each[0] not in self._replaced]

    def told(self, fields: Fields, tags: Iterable[str]) -> list[tuple[bytes, bytes]]:
        """Return the fields of a stored response, and what the CDN is told of it."""
        kept, added = self.plain(fields), list[tuple[bytes, bytes]]()
        if self._control is not None:
            added = [(name, self._control) for name in _LIFETIMES]
        if self._field is not None:
            separator = " " if self._field in _SPACED else ","
            text = separator.join(map(edge_tag, sorted(tags))).encode("ascii")
            if len(text) > self._max_bytes:
                return self.refused(fields)
            if text:
                added.append((self._field, text))
        return [*kept, *added]

    def refused(self, fields: Fields) -> list[tuple[bytes, bytes]]:
        """Return the fields of a response that the CDN must not keep."""
        return [*(each for each in self.plain(fields) if each[0] not in _LIFETIMES), *_NO_STORE]
