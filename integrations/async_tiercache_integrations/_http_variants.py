"""The variants of URLs by whose entity tags an application may name one of them as current."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from async_tiercache.http.fields import Fields
from async_tiercache.http.negotiation import asks_for, described_by
from async_tiercache.keys import KeyText
from async_tiercache_integrations._http_keys import Bounded
from async_tiercache_integrations._http_records import Variants

_MOST: Final = 32
"""Of so many variants of a URL, those that were seen last, the tags are remembered."""
_LONGEST: Final = 512
"""What is longer is not remembered, in bytes: neither tags nor what requests have in fields."""


class _Tagged(NamedTuple):
    """A variant whose response has a strong entity tag.

    Attributes:
        tag: The tag.
        values: What its request had in the fields that tell the variants apart.
        described: What its response says that it is, of what each of these chooses.
    """

    tag: bytes
    values: tuple[bytes | None, ...]
    described: tuple[bytes | None, ...]


class Offers:
    """The tags of the variants of each record, as far as this process has seen them.

    They only say what to ask about: what is named by one is looked for anew.
    """

    def __init__(self) -> None:
        # `None` is that of a record whose application does not name what it is asked about.
        self._of_records: Bounded[bytes, dict[KeyText, _Tagged] | None] = Bounded()

    def note(
        self,
        record: Variants,
        key: KeyText,
        request: Mapping[bytes, bytes],
        response: Fields,
        conditions: Fields,
    ) -> None:
        """Remember the tag of a variant that was seen.

        Args:
            record: What leads to it.
            key: Its key.
            request: Fields by which it is found.
            response: Its own.
            conditions: Those by which the origin is asked about it.
        """
        known, names = self._of_records.get(record.record_id, {}), record.names
        if known is None:
            return
        tags = [value for name, value in conditions if name == b"if-none-match"]
        tag = tags[0].strip() if len(tags) == 1 else b""
        values = tuple([request.get(each) for each in names])
        known.pop(key, None)
        if not _is_strong(tag) or sum([len(each or b"") for each in (tag, *values)]) > _LONGEST:
            return
        if len(known) >= _MOST:
            del known[next(iter(known))]
        described = tuple([described_by(response, each) for each in names])
        known[key] = _Tagged(tag, values, described)
        self._of_records.add(record.record_id, known)

    def others(
        self, record: Variants, key: KeyText, request: Mapping[bytes, bytes]
    ) -> dict[bytes, KeyText]:
        """Return by their tags the other variants that may be what a request asks for, too.

        That is: they differ from it by what is chosen of one resource's representations, in words
        that it has chosen itself. Nobody has a cookie, or a tenant, of another's.

        Args:
            record: What leads to them.
            key: That of the variant that the request asks for.
            request: Its fields.
        """
        known, names = self._of_records.get(record.record_id), record.names
        found, asked = dict[bytes, KeyText](), [request.get(each) for each in names]
        for other, tagged in () if not known else known.items():
            compared = zip(names, asked, tagged.values, tagged.described, strict=True)
            if other != key and all(
                mine == theirs or asks_for(name, mine, described)
                for name, mine, theirs, described in compared
            ):
                found[tagged.tag] = other
        return found

    def forget(self, record: Variants, key: KeyText) -> None:
        """Forget the tag of a variant that is not there, or has another one."""
        known = self._of_records.get(record.record_id)
        if known is not None:
            known.pop(key, None)

    def mute(self, record: Variants) -> None:
        """Ask about no others any more: the application does not name which one is current."""
        self._of_records.add(record.record_id, None)


def _is_strong(tag: bytes) -> bool:
    return len(tag) > 2 and tag.startswith(b'"') and tag.endswith(b'"') and b'"' not in tag[1:-1]
