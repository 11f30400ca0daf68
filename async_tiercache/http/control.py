"""`Cache-Control`, of responses and of requests, parsed by its grammar (RFC 9111, 5.2).

A directive that breaks the grammar has the strictest meaning that it may have: to be served what
must not be stored is worse than to wait for it again.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from async_tiercache.http.fields import (
    LONGEST_SECONDS,
    QUOTED,
    TOKEN,
    Fields,
    elements_of,
    lines_of,
    seconds_of,
    unquoted,
)
from async_tiercache.http.structured import Item, dictionary_of

_DIRECTIVE: Final = re.compile(
    rb"(" + TOKEN.pattern + rb")(?:=(" + TOKEN.pattern + rb"|" + QUOTED.pattern + rb"))?",
    re.DOTALL,
)
_FORBIDDING: Final = (b"no-store", b"no-cache", b"private")
_MALFORMED: Final = b"\x00"
"""The argument of what is no directive by the grammar; no argument holds it."""


@dataclass(frozen=True, slots=True)
class ResponseControl:
    """What a response says of its storing and reuse; lifetimes in seconds.

    Attributes:
        no_store: It must not be stored.
        no_cache: It must not be reused without being validated.
        no_cache_fields: Fields that must not be reused without that.
        private: It is for one user.
        private_fields: Fields that are.
        public: It may be stored although the request has `Authorization`.
        must_revalidate: It must not be served stale.
        proxy_revalidate: Nor by a shared cache.
        must_understand: It is for caches that understand its status.
        immutable: It does not change while it is fresh (RFC 8246).
        max_age: Its lifetime.
        s_maxage: Its lifetime in a shared cache.
        stale_while_revalidate: For how long it may be served stale meanwhile (RFC 5861).
        stale_if_error: For how long it may be served stale in place of an error (RFC 5861).
        targeted: It was said to caches like this one alone; then `Expires` says nothing.
    """

    no_store: bool = False
    no_cache: bool = False
    no_cache_fields: frozenset[bytes] = frozenset()
    private: bool = False
    private_fields: frozenset[bytes] = frozenset()
    public: bool = False
    must_revalidate: bool = False
    proxy_revalidate: bool = False
    must_understand: bool = False
    immutable: bool = False
    max_age: int | None = None
    s_maxage: int | None = None
    stale_while_revalidate: int | None = None
    stale_if_error: int | None = None
    targeted: bool = False


@dataclass(frozen=True, slots=True)
class RequestControl:
    """What a request asks of a cache; times in seconds.

    Attributes:
        no_store: Nothing of it must be stored.
        no_cache: It must not be answered without validation.
        only_if_cached: It must not be forwarded.
        max_age: How old the answer may be.
        min_fresh: How long it must stay fresh.
        max_stale: For how long it may have been stale; `None` if it must be fresh.
    """

    no_store: bool = False
    no_cache: bool = False
    only_if_cached: bool = False
    max_age: int | None = None
    min_fresh: int | None = None
    max_stale: float | None = None


def response_control(fields: Fields) -> ResponseControl:
    """Return what the `Cache-Control` of a response says.

    Example:
        >>> response_control([(b"cache-control", b'max-age=60, Private="Set-Cookie"')]).max_age
        60
    """
    found = _directives(lines_of(fields, b"cache-control"))
    if not found:
        return _SILENT
    no_cache, no_cache_fields = _fields(found, b"no-cache")
    private, private_fields = _fields(found, b"private")
    return ResponseControl(
        no_store=b"no-store" in found,
        no_cache=no_cache,
        no_cache_fields=no_cache_fields,
        private=private,
        private_fields=private_fields,
        public=_plain(found, b"public"),
        must_revalidate=b"must-revalidate" in found,
        proxy_revalidate=b"proxy-revalidate" in found,
        must_understand=_plain(found, b"must-understand"),
        immutable=_plain(found, b"immutable"),
        max_age=_shortest(found, b"max-age"),
        s_maxage=_shortest(found, b"s-maxage"),
        stale_while_revalidate=_shortest(found, b"stale-while-revalidate"),
        stale_if_error=_shortest(found, b"stale-if-error"),
    )


def targeted_control(fields: Fields, names: Iterable[bytes]) -> ResponseControl | None:
    """Return what the first of some targeted fields says (RFC 9213); `None` if none says anything.

    One that is invalid, or empty, is not there.

    Args:
        fields: The response's.
        names: The fields that are meant for this cache, the most specific one first.

    Example:
        >>> name = b"cdn-cache-control"
        >>> found = targeted_control([(name, b"max-age=60")], [name])
        >>> found.max_age, found.targeted
        (60, True)
    """
    for name in names:
        members = dictionary_of(lines_of(fields, name))
        if members:
            return _targeted(members)
    return None


def _targeted(members: Mapping[str, Item]) -> ResponseControl:
    """Return what a dictionary says; a value of another kind than its directive has is ignored."""

    def seconds(name: str) -> int | None:
        value = members.get(name)
        return min(max(0, value), LONGEST_SECONDS) if type(value) is int else None

    def named(name: str) -> tuple[bool, frozenset[bytes]]:
        value = members.get(name, False)
        if isinstance(value, bool):
            return value, frozenset()
        text = value.encode() if isinstance(value, str) else b""
        return _fields({b"": [b'"' + text + b'"']}, b"")

    (no_cache, no_cache_fields), (private, private_fields) = named("no-cache"), named("private")
    return ResponseControl(
        no_store=members.get("no-store") is True,
        no_cache=no_cache,
        no_cache_fields=no_cache_fields,
        private=private,
        private_fields=private_fields,
        public=members.get("public") is True,
        must_revalidate=members.get("must-revalidate") is True,
        proxy_revalidate=members.get("proxy-revalidate") is True,
        must_understand=members.get("must-understand") is True,
        immutable=members.get("immutable") is True,
        max_age=seconds("max-age"),
        s_maxage=seconds("s-maxage"),
        stale_while_revalidate=seconds("stale-while-revalidate"),
        stale_if_error=seconds("stale-if-error"),
        targeted=True,
    )


def request_control(fields: Fields) -> RequestControl:
    """Return what the `Cache-Control` of a request asks for, or its `Pragma` where that is silent.

    Example:
        >>> request_control([(b"cache-control", b"max-stale")]).max_stale
        inf
    """
    lines = lines_of(fields, b"cache-control")
    if not lines:
        asked = elements_of(lines_of(fields, b"pragma"))
        return (
            RequestControl(no_cache=True)
            if b"no-cache" in map(bytes.lower, asked)
            else _ASKS_NOTHING
        )
    found = _directives(lines)
    max_stale: float | None = _shortest(found, b"max-stale")
    if found.get(b"max-stale") == [None]:
        max_stale = inf
    min_fresh = [LONGEST_SECONDS if each is None else each for each in _times(found, b"min-fresh")]
    return RequestControl(
        no_store=b"no-store" in found,
        no_cache=b"no-cache" in found,
        only_if_cached=_plain(found, b"only-if-cached"),
        max_age=_shortest(found, b"max-age"),
        min_fresh=max(min_fresh, default=None),
        max_stale=max_stale,
    )


def _directives(lines: Iterable[bytes]) -> dict[bytes, list[bytes | None]]:
    """Return the arguments of each directive, `None` for one without, over all lines."""
    found: dict[bytes, list[bytes | None]] = {}
    for element in elements_of(lines):
        whole = _DIRECTIVE.fullmatch(element)
        if whole is not None:
            name, argument = whole.groups()
            found.setdefault(name.lower(), []).append(argument)
            continue
        begin = TOKEN.match(element)
        names = {begin[0].lower()} if begin is not None else set[bytes]()
        names.update(each for each in _FORBIDDING if each in element.lower())
        for name in names:
            found.setdefault(name, []).append(_MALFORMED)
    return found


def _plain(found: dict[bytes, list[bytes | None]], name: bytes) -> bool:
    """Return whether a directive is there, as it must be spelled to permit something."""
    return None in found.get(name, ())


def _times(found: dict[bytes, list[bytes | None]], name: bytes) -> list[int | None]:
    """Return each time that a directive gives, `None` for what is none."""
    return [
        None if each is None or each == _MALFORMED else seconds_of(unquoted(each))
        for each in found.get(name, ())
    ]


def _shortest(found: dict[bytes, list[bytes | None]], name: bytes) -> int | None:
    """Return the shortest time that a directive gives; what is no time is none at all."""
    return min((each or 0 for each in _times(found, name)), default=None)


def _fields(found: dict[bytes, list[bytes | None]], name: bytes) -> tuple[bool, frozenset[bytes]]:
    """Return whether a directive concerns the whole response, and else which of its fields."""
    named: set[bytes] = set()
    for argument in found.get(name, ()):
        if argument is None or not argument.startswith(b'"'):
            return True, frozenset()
        fields = [each.lower() for each in elements_of([unquoted(argument)])]
        if not fields or not all(map(TOKEN.fullmatch, fields)):
            return True, frozenset()
        named.update(fields)
    return False, frozenset(named)


_SILENT: Final = ResponseControl()
_ASKS_NOTHING: Final = RequestControl()
