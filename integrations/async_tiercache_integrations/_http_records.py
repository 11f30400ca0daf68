"""What is kept of HTTP responses."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias, final
from urllib.parse import quote

from async_tiercache.http.fields import Fields, elements_of, lines_of
from async_tiercache.http.stored import StoredResponse
from async_tiercache.http.target import SearchRule, groups_of


@dataclass(frozen=True, slots=True)
class Variants:
    """The record of a URL whose responses depend on the request.

    Attributes:
        record_id: Part of the keys of its variants.
        names: The fields that tell them apart.
    """

    record_id: bytes
    names: tuple[bytes, ...]

    def __post_init__(self) -> None:
        """Hold them once from the beginning."""
        self.share()

    def share(self) -> None:
        """Hold the names that many records have in common once."""
        object.__setattr__(self, "names", _shared(self.names))


@final
@dataclass(frozen=True, slots=True)
class Searches:
    """The record of a path whose URLs share responses where their queries differ in nothing much.

    Attributes:
        record_id: Part of the keys of its responses.
        rule: What tells the queries apart (`No-Vary-Search`).
    """

    record_id: bytes
    rule: SearchRule


@dataclass(frozen=True, slots=True)
class NotStored:
    """What a load brings that is for one client only; it is kept nowhere."""


@lru_cache(maxsize=256)
def _shared(names: tuple[bytes, ...]) -> tuple[bytes, ...]:
    return names


Pointer: TypeAlias = Variants | Searches
"""What leads on to a response: that is under a key which carries the id, so that whatever ends
this record ends all to which it leads."""
Record: TypeAlias = StoredResponse | Variants | Searches | NotStored

NOT_STORED = NotStored()


def group_tag(origin: str, group: str) -> str:
    """Return the tag of a group, which is one of its origin only (RFC 9875, 2).

    No group holds the slash that ends the origin, so that no two of them share a tag.
    """
    return f"http-group:{quote(origin, safe=':/')}/{quote(group, safe='')}"


def tags_of(response: Fields, origin: str, *, groups: bool) -> Iterator[str]:
    """Yield the tags that a response says it stands under.

    Args:
        response: Its fields.
        origin: The origin that it is of.
        groups: Whether its groups are among them.
    """
    for line in lines_of(response, b"surrogate-key"):
        yield from line.decode("latin-1").split()
    for tag in elements_of(lines_of(response, b"cache-tag")):
        yield tag.decode("latin-1")
    for group in groups_of(response, b"cache-groups") if groups else ():
        yield group_tag(origin, group)
