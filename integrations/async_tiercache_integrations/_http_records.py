"""What is kept of HTTP responses, and how it is named."""

from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from async_tiercache.http.fields import Fields, elements_of, lines_of
from async_tiercache.http.stored import StoredResponse
from async_tiercache.http.target import groups_of, url_digest
from async_tiercache.http.vary import variant_of

Scope: TypeAlias = MutableMapping[str, Any]


@dataclass(frozen=True, slots=True)
class Variants:
    """The record of a URL whose responses depend on the request.

    Attributes:
        record_id: Part of the keys of its variants.
        names: The fields that tell them apart.
    """

    record_id: str
    names: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class NotStored:
    """What a load brings that is for one client only; it is kept nowhere."""


Record: TypeAlias = StoredResponse | Variants | NotStored


def host_of(scope: Scope) -> str:
    """Return the host that a request is for, in lower case."""
    lines = lines_of(scope["headers"], b"host")
    return lines[0].decode("latin-1").lower() if lines else ""


def url_key(scope: Scope) -> str:
    """Return by what the record of a request's URL is found."""
    path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
    scheme, host = scope["scheme"].encode(), host_of(scope).encode("latin-1")
    return url_digest(scheme, host, path, scope["query_string"]).hex()


def variant_key(key: str, variants: Variants, request: Fields) -> str:
    """Return by what the response to a request is found, where its URL has variants."""
    return f"{key}:{variants.record_id}:{variant_of(request, variants.names).hex()}"


def group_tag(host: str, group: str) -> str:
    """Return the tag of a group, which is one of its origin only (RFC 9875, 2)."""
    return f"http-group:{host}:{group}"


def tags_of(response: Fields, host: str) -> Iterator[str]:
    """Yield the tags that a response says it stands under."""
    for line in lines_of(response, b"surrogate-key"):
        yield from line.decode("latin-1").split()
    for tag in elements_of(lines_of(response, b"cache-tag")):
        yield tag.decode("latin-1")
    for group in groups_of(response, b"cache-groups"):
        yield group_tag(host, group)
