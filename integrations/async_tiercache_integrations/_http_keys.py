"""The keys by which records are found; what was worked out for one request serves the next."""

from base64 import urlsafe_b64encode
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, Final, Generic, TypeAlias, TypeVar
from urllib.parse import quote, unquote, urljoin, urlsplit

from async_tiercache.http.fields import Fields, joined, lines_of
from async_tiercache.http.target import SearchRule, authority_of, url_digest
from async_tiercache.http.vary import variant_of
from async_tiercache.keys import KeyText
from async_tiercache_integrations._http_records import Pointer, Searches, Variants

Scope: TypeAlias = MutableMapping[str, Any]
Url: TypeAlias = tuple[str, bytes | None, bytes | None, str, bytes]
"""Scheme, host, the path as it was sent and as the application sees it, and the query."""
Selecting: TypeAlias = bytes | tuple[bytes | None, ...] | None
"""What a request has in a field, or in several."""
K = TypeVar("K")
V = TypeVar("V")

_PLAIN: Final = "/!$&'()*+,;=:@"
"""What stands in a path as it is (RFC 3986, 3.3)."""
_REMEMBERED: Final = 4096
"""Of so many URLs, and of so many records of URLs, what was worked out is kept."""
_HEEDED: Final = 64
"""So many fields by which variants are told apart are looked for in each request."""
_LONGEST: Final = 512
"""Longer texts of clients are not kept for that, in bytes; they are worked out each time."""


def host_of(scope: Scope) -> str:
    """Return the host that a request is for, in lower case.

    Two of them are none of both: who knows which one the application takes?
    """
    return b", ".join(lines_of(scope["headers"], b"host")).decode("latin-1").lower()


def origin_of(scope: Scope) -> str:
    """Return scheme, host and port that a request is for, in the one spelling of them."""
    return _origin(scope["scheme"], host_of(scope))


def _origin(scheme: str, host: str) -> str:
    authority = authority_of(scheme.encode(), host.encode("latin-1"))
    return f"{scheme}://{authority.decode('latin-1')}"


class Bounded(dict[K, V], Generic[K, V]):
    """A mapping that forgets what it was given first, when it is full."""

    def add(self, key: K, value: V) -> V:
        """Remember something, as what was given last, and return it."""
        self.pop(key, None)
        if len(self) >= _REMEMBERED:
            del self[next(iter(self))]
        self[key] = value
        return value


class Leads:
    """The keys to which a record leads: most lead to one, for which a dict would be much larger.

    Args:
        values: What the first request had in the fields that tell the variants apart.
        key: The key of its variant.

    Attributes:
        first: What the first request had in those fields.
        key: The key of its variant.
        others: The keys of the others.
    """

    __slots__ = ("first", "key", "others")

    def __init__(self, values: Selecting, key: KeyText) -> None:
        self.first = values
        self.key = key
        self.others: dict[Selecting, KeyText] | None = None

    def __len__(self) -> int:
        return 1 + len(self.others or ())

    def get(self, values: Selecting) -> KeyText | None:
        """Return the key of a variant that is known."""
        if values == self.first:
            return self.key
        return None if self.others is None else self.others.get(values)

    def add(self, values: Selecting, key: KeyText) -> KeyText:
        """Note the key of another one, and return it."""
        if self.others is None:
            self.others = {}
        self.others[values] = key
        return key


class Way:
    """Where the record of a URL is found, and where it has led the last request.

    Args:
        key: The key of the record.

    Attributes:
        key: That.
        record: The record, if it leads by one field; `None` if it does not, or is not known.
        name: The field.
        value: What the last request had there.
        below: The key to which that has led.
    """

    __slots__ = ("below", "key", "name", "record", "value")

    def __init__(self, key: KeyText) -> None:
        self.key = self.below = key
        self.record: Variants | None = None
        self.name = b""
        self.value: bytes | None = None


class Keys:
    """The keys of requests.

    Args:
        max_variants: So many variants of a URL are told apart.
        unusual: Fields that no request has whose record may be at hand.
        conditions: Those that say what is to be answered from it.
        lists: Whether blanks around commas tell no variants apart.

    Attributes:
        of_urls: The way to the response of each URL.
        of_variants: By the id of a record, the keys to which it leads.
        heeded: Both, with all by which a record in `of_variants` tells its variants apart: who
            finds records there needs no others of a request.
        searched: The keys of paths whose URLs share responses.
    """

    def __init__(
        self,
        max_variants: int,
        unusual: Iterable[bytes],
        conditions: frozenset[bytes],
        *,
        lists: bool,
    ) -> None:
        self._max_variants = max_variants
        self._lists = lists
        self.of_urls: Bounded[Url, Way] = Bounded()
        self.of_variants: Bounded[bytes, Leads] = Bounded()
        self.heeded = {b"host", *unusual, *conditions}
        self._conditions = conditions
        self._varying: set[bytes] = set()
        self._names: Bounded[str, tuple[bytes, ...]] = Bounded()
        self.searched: Bounded[str, None] = Bounded()

    def of(self, scope: Scope, fields: Mapping[bytes, bytes]) -> KeyText:
        """Return by what the record of a request's URL is found, or that of its path."""
        return self.way(scope, fields).key

    def way(self, scope: Scope, fields: Mapping[bytes, bytes]) -> Way:
        """Return the way to what answers a request."""
        host, sent, path = fields.get(b"host"), scope.get("raw_path"), scope["path"]
        query = scope["query_string"]
        url = (scope["scheme"], host, sent, path, query)
        way = self.of_urls.get(url)
        if way is None:
            key = path_key(scope)
            way = Way(key if key in self.searched else url_key(scope))
            if _size((host, sent or path, query)) <= _LONGEST:
                self.of_urls.add(url, way)
        return way

    def below(self, record: Pointer, scope: Scope, fields: Mapping[bytes, bytes]) -> KeyText | None:
        """Return the key to which a record leads a request; `None` if to one too many.

        Args:
            record: The record.
            scope: The request.
            fields: At least those of its fields that are heeded; conditions may be left out.
        """
        if type(record) is Searches:
            return _key(_digest(scope, rule=record.rule), f"{record.record_id.hex()}:")
        known, names = self.of_variants.get(record.record_id), record.names
        if known is None:
            self._heed(names)
        if known is None or not self._conditions.isdisjoint(names):
            fields = joined(scope["headers"])
        asked = [fields.get(each) for each in names]
        # Most name one field; a tuple of it, and its hash, would cost as much as the rest.
        values: Selecting = asked[0] if len(asked) == 1 else tuple(asked)
        found = None if known is None else known.get(values)
        if found is None:
            digest = variant_of(fields, names, salt=record.record_id, lists=self._lists)
            if _size(asked) > _LONGEST:
                # It counts all the same; what requests have in fields is no tuple of one.
                values = (digest,)
            found = self._led(record, values, digest)
        return found

    def lead(
        self, way: Way, record: Variants, fields: Mapping[bytes, bytes], below: KeyText
    ) -> None:
        """Let requests for a URL that have the same in one field go straight where one was led.

        Not by a condition, which is not among the fields by which they are looked for.

        Args:
            way: The way of that one.
            record: The record of the URL.
            fields: Those of its fields that are heeded.
            below: The key to which it was led.
        """
        name = record.names[0]
        value = fields.get(name)
        if name not in self._conditions and len(value or b"") <= _LONGEST:
            way.record, way.name, way.value, way.below = record, name, value, below

    def _heed(self, names: tuple[bytes, ...]) -> None:
        """Have an eye on fields of requests by which variants are told apart."""
        if not self.heeded.issuperset(names):
            if len(self._varying) + len(names) > _HEEDED:
                # An application that names ever others has no use for what was worked out.
                self.of_variants.clear()
                self.of_urls.clear()
                self.heeded -= self._varying
                self._varying.clear()
            self._varying |= {*names} - self.heeded
            self.heeded |= self._varying

    def _led(self, record: Variants, values: Selecting, digest: bytes) -> KeyText | None:
        """Return the key of a variant, if it is not one too many."""
        known = self.of_variants.get(record.record_id)
        if known is None:
            return self.of_variants.add(record.record_id, Leads(values, _key(digest))).key
        # Those of a record that is asked about are not forgotten for others': they count.
        self.of_variants.add(record.record_id, known)
        found = known.get(values)
        if found is None and len(known) < self._max_variants:
            found = known.add(values, _key(digest))
        return found

    def widen(self, key: str, names: Iterable[bytes]) -> None:
        """Note on what the responses of a record depend, of which none may name it all."""
        self._names.add(key, tuple(sorted(names)))

    def widened(self, key: str, names: tuple[bytes, ...]) -> tuple[bytes, ...]:
        """Return the fields by which the variants of a record are told apart."""
        known = self._names.get(key, ())
        return tuple(sorted({*names, *known})) if known else names

    def learn(self, scope: Scope) -> None:
        """Note that URLs of a request's path share responses."""
        self.searched.add(path_key(scope), None)
        self.of_urls.clear()

    def forget(self, key: str) -> None:
        """Note that those of a path do not, any more."""
        self.searched.pop(key, None)
        self.of_urls.clear()


def _size(texts: Iterable[bytes | str | None]) -> int:
    return sum([len(each) for each in texts if each is not None])


def url_key(scope: Scope) -> KeyText:
    """Return by what the record of a request's URL is found."""
    return _key(_digest(scope))


def path_key(scope: Scope) -> KeyText:
    """Return by what the record of a request's path is found, where URLs of it share responses."""
    return _key(_digest({**scope, "query_string": b""}), "path:")


def parts_key(scope: Scope) -> KeyText:
    """Return by what the parts are found that were made of what a request's URL stands for."""
    return _key(_digest(scope), "parts:")


def _key(digest: bytes, of: str = "") -> KeyText:
    # A sixth shorter than in hexadecimal digits; each is in memory as long as its response.
    return KeyText(f"http:{of}{urlsafe_b64encode(digest)[:-2].decode()}")


def _digest(scope: Scope, **rule: SearchRule) -> bytes:
    scheme, host = scope["scheme"].encode(), host_of(scope).encode("latin-1")
    return url_digest(scheme, host, _path(scope), scope["query_string"], **rule)


def _path(scope: Scope) -> bytes:
    """Return what tells a request's path from others.

    That is how it was sent. Where it was rewritten since, for a language or a group of clients, two
    paths may have been sent alike; no path that was sent holds the `?` between.
    """
    sent, path = _sent(scope), scope["path"]
    if _decoded(sent) == path:
        return sent
    return b"%b?%b" % (sent, quote(path, errors="surrogatepass").encode())


def _sent(scope: Scope) -> bytes:
    """Return a request's path as it was sent, or where no server tells that, as it may have been.

    Only the former may come with its query, from whose `?` one in a decoded path cannot be told.
    """
    raw: bytes | None = scope.get("raw_path")
    if raw:
        return raw.partition(b"?")[0]
    return quote(scope["path"], safe=_PLAIN, errors="surrogatepass").encode()


def _decoded(sent: bytes) -> str:
    return unquote(sent.decode("latin-1"))


def _seen(scope: Scope, sent: bytes) -> str:
    """Return how the application would see a path that was sent as another one than a request's.

    What stands outside may add something in front of all paths, or take it away.
    """
    path, before, after = _decoded(sent), _decoded(_sent(scope)), scope["path"]
    if after.endswith(before):
        return str(after.removesuffix(before) + path)
    return path.removeprefix(before.removesuffix(after)) if before.endswith(after) else path


def keys_ended(scope: Scope, response: Fields, *, parts: bool) -> list[KeyText]:
    """Return the keys of the records that a change ends.

    Args:
        scope: The request that has made the change.
        response: The fields of what has answered it.
        parts: Whether parts are kept.
    """
    keys = (url_key, path_key, parts_key) if parts else (url_key, path_key)
    return [*{key(each) for each in (scope, *_named(scope, response)) for key in keys}]


def _named(scope: Scope, response: Fields) -> Iterator[Scope]:
    """Yield requests for other URLs of this origin that a change names as concerned."""
    origin = origin_of(scope)
    base = origin + _sent(scope).decode("latin-1")
    for name in (b"location", b"content-location"):
        for line in lines_of(response, name):
            with suppress(ValueError):
                url = urlsplit(urljoin(base, line.decode("latin-1").strip()))
                if _origin(url.scheme, url.netloc) == origin:
                    path = (url.path or "/").encode("latin-1")
                    query = url.query.encode("latin-1")
                    named = {**scope, "raw_path": path, "query_string": query}
                    named["path"] = _seen(scope, path)
                    yield named
