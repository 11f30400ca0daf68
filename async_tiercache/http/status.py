"""`Cache-Status` (RFC 9211): what a cache has done with a request, for whoever looks into it."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

Forwarded: TypeAlias = Literal[
    "bypass", "method", "uri-miss", "vary-miss", "miss", "request", "stale"
]
"""Why a request went to the origin (RFC 9211, 2.2)."""


@dataclass(frozen=True, slots=True)
class CacheStatus:
    """What a cache has done.

    Attributes:
        name: The cache's, a token.
        forwarded: Why the request went on; `None` if it did not.
        refused: Whether it did not although nothing here answers it: its client had forbidden that.
        forwarded_status: What the origin has answered, where that is not the response's status.
        ttl: For how long the response is still fresh, in seconds; less than none if it is stale.
        stored: Whether the response was stored.
        collapsed: Whether the request did not go on by itself, for it has waited for one that did.
        detail: What else there is to say, a token.
    """

    name: str
    forwarded: Forwarded | None = None
    forwarded_status: int | None = None
    ttl: int | None = None
    stored: bool = False
    collapsed: bool = False
    detail: str = ""
    refused: bool = False

    def encode(self) -> bytes:
        """Return the member that the cache appends to the list.

        Example:
            >>> CacheStatus("shop", ttl=30).encode()
            b'shop; hit; ttl=30'
            >>> CacheStatus("shop", "stale", forwarded_status=304, ttl=60, stored=True).encode()
            b'shop; fwd=stale; fwd-status=304; ttl=60; stored'
            >>> CacheStatus("shop", "uri-miss", ttl=60, collapsed=True).encode()
            b'shop; fwd=uri-miss; ttl=60; collapsed'
        """
        parts = [self.name]
        if self.forwarded is not None:
            parts.append(f"fwd={self.forwarded}")
        elif not self.refused:
            parts.append("hit")
        if self.forwarded_status is not None:
            parts.append(f"fwd-status={self.forwarded_status}")
        if self.ttl is not None:
            parts.append(f"ttl={self.ttl}")
        if self.stored:
            parts.append("stored")
        if self.collapsed:
            parts.append("collapsed")
        if self.detail:
            parts.append(f"detail={self.detail}")
        return "; ".join(parts).encode("ascii")
