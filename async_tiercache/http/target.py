"""What a request is for: the URL by which its response is stored, and groups of responses.

Bytes as they were sent: to decode them first would let two URLs that an application tells apart
share a response.
"""

from typing import Final, NamedTuple
from urllib.parse import parse_qsl, unquote_plus

from async_tiercache.http.fields import Fields, lines_of
from async_tiercache.http.structured import Item, Token, dictionary_of, list_of
from async_tiercache.http.vary import digest_of

MAX_GROUPS: Final = 128
"""More groups than these are a mistake, or an attack: RFC 9875 asks for 32 at least."""

_DEFAULT_PORTS: Final = {b"http": b":80", b"https": b":443"}


class SearchRule(NamedTuple):
    """Which differences of a query do not matter (`No-Vary-Search`).

    Attributes:
        ordered: Whether the order of differently named parameters matters.
        ignored: The parameters that do not matter, decoded as those of a query are; `None` if
            none matters but those in `kept`.
        kept: The only ones that matter, where `ignored` is `None`.
    """

    ordered: bool = True
    ignored: frozenset[str] | None = frozenset()
    kept: frozenset[str] = frozenset()


EXACT: Final = SearchRule()


def url_digest(
    scheme: bytes, host: bytes, path: bytes, query: bytes, *, rule: SearchRule = EXACT
) -> bytes:
    """Return a digest of a URL.

    Args:
        scheme: In lower case.
        host: As in the field of that name, with its port or without.
        path: As it was sent, not decoded.
        query: Likewise.
        rule: Which of its differences do not matter.
    """
    authority = authority_of(scheme, host)
    if rule == EXACT:
        return digest_of([scheme, authority, path, query])
    pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
    ignored = rule.ignored
    if ignored is None:
        pairs = [pair for pair in pairs if pair[0] in rule.kept]
    else:
        pairs = [pair for pair in pairs if pair[0] not in ignored]
    if not rule.ordered:
        # Those of one name keep their order: it may mean something.
        pairs.sort(key=lambda pair: pair[0])
    parts = [part.encode("latin-1") for pair in pairs for part in pair]
    return digest_of([scheme, authority, path, b"", *parts])


def authority_of(scheme: bytes, host: bytes) -> bytes:
    """Return the one spelling of a host that stands for all of them.

    Example:
        >>> authority_of(b"https", b"Example.org:443"), authority_of(b"http", b"example.org:443")
        (b'example.org', b'example.org:443')
    """
    return host.lower().removesuffix(_DEFAULT_PORTS.get(scheme, b"\x00"))


def search_rule(response: Fields) -> SearchRule:
    """Return which differences of the query do not matter to a response.

    What is invalid makes all of them matter.

    Example:
        >>> search_rule([(b"no-vary-search", b'params=("utm_source")')]).ignored
        frozenset({'utm_source'})
    """
    members = dictionary_of(lines_of(response, b"no-vary-search"))
    if not members:
        return EXACT
    unordered, params, kept = (members.get(name) for name in ("key-order", "params", "except"))
    if unordered is not None and not isinstance(unordered, bool):
        return EXACT
    ordered = not unordered
    if params is None or params is False:
        return SearchRule(ordered) if kept is None else EXACT
    if params is True:
        names = frozenset[str]() if kept is None else _names(kept)
        return EXACT if names is None else SearchRule(ordered, None, names)
    names = _names(params)
    return EXACT if names is None or kept is not None else SearchRule(ordered, names)


def _names(item: Item) -> frozenset[str] | None:
    """Return the parameters that an inner list of strings names; `None` if it is no such list."""
    if not isinstance(item, tuple):
        return None
    names = [each for each in item if isinstance(each, str) and not isinstance(each, Token)]
    if len(names) != len(item):
        return None
    # As `url_digest` decodes those of a query: what is spelled differently is one parameter.
    return frozenset(unquote_plus(each, encoding="latin-1") for each in names)


def groups_of(fields: Fields, name: bytes) -> list[str]:
    """Return the groups that `Cache-Groups` or `Cache-Group-Invalidation` names (RFC 9875).

    Args:
        fields: The response's fields.
        name: The field.

    Example:
        >>> groups_of([(b"cache-groups", b'"scripts", "App"')], b"cache-groups")
        ['scripts', 'App']
    """
    members = list_of(lines_of(fields, name)) or []
    named = [each for each in members if isinstance(each, str) and not isinstance(each, Token)]
    return list(dict.fromkeys(named))[:MAX_GROUPS]
