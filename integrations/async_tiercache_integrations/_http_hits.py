"""Answers from memory: what most requests get, at as little as Python takes for it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from typing import Any, Final

from async_tiercache.http.fields import Fields
from async_tiercache.http.status import CacheStatus
from async_tiercache.http.stored import Answer, StoredResponse, answer_of
from async_tiercache_integrations._http_fill import Fill
from async_tiercache_integrations._http_lookup import Lookup
from async_tiercache_integrations._http_origin import BODY, START, Origin
from async_tiercache_integrations._http_terms import CONDITIONS

_TAG: Final = b"if-none-match"
_DATE: Final = b"if-modified-since"


class Hits(ABC):
    """Answers what memory answers at once, and leaves the rest to its subclass.

    Args:
        lookup: Finds the records.
        origin: The application that makes the responses.
        unusual: Fields that no request has which is answered here.
        prepares: Whether something is to be done for each request first.
        name: What `Cache-Status` calls the cache; `None` leaves that out.
    """

    def __init__(
        self,
        lookup: Lookup,
        origin: Origin,
        *,
        unusual: Collection[bytes],
        prepares: bool,
        name: str | None,
    ) -> None:
        self._lookup = lookup
        self._origin = origin
        self._prepares = prepares
        self._heeded = origin.keys.heeded
        self._special = CONDITIONS.union(unusual)
        self._urls = origin.keys.of_urls
        self._peek: Callable[..., Any] = lookup.peek
        self._peek_past: Callable[..., Any] = lookup.peek_past
        self._counts = origin.counts
        self._wall = origin.clock.wall
        self._hit = _telling_hits(name)

    @abstractmethod
    async def _prepared(self, scope: Any, receive: Any, send: Any) -> Any:
        """Return a plain request as it is looked for; `None` if another has been answered."""

    @abstractmethod
    async def _handle(self, fill: Fill) -> None:
        """Answer a request that memory alone does not answer."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: C901, PLR0912 - see below
        """Answer a request, or let the application do so."""
        if self._prepares or scope["type"] != "http" or scope["method"] != "GET":
            scope = await self._prepared(scope, receive, send)
            if scope is None:
                return
        # In one piece: each call would cost a hit a fortieth. A dict of all fields would cost it
        # more than the loop, and one with the conditions more than two names.
        heeded, special = self._heeded, self._special
        fields: dict[bytes, bytes] = {}
        tag = date = None
        for name, value in scope["headers"]:
            if name in heeded:
                if name not in special:
                    if name in fields:
                        break
                    fields[name] = value
                elif tag is None and name == _TAG:
                    tag = value
                elif date is None and name == _DATE:
                    date = value
                else:
                    break
        else:
            try:
                way = self._urls[
                    scope["scheme"], fields[b"host"], scope["raw_path"], scope["path"],
                    scope["query_string"],
                ]  # fmt: skip
            except KeyError:
                way = self._origin.keys.way(scope, fields)
            if way.record is not None and way.value == fields.get(way.name):
                held = self._peek_past(way.key, way.record, way.below)
            else:
                held = self._peek(way.key)
            if type(held) is not StoredResponse:
                held = self._lookup.below(held, way, scope, fields)
            if held is not None:
                now = self._wall()
                try:
                    ready = held.ready  # `getattr` with a default would be one
                except AttributeError:
                    ready = None
                if ready is None or ready.by is not self or now < ready.since or now >= ready.until:
                    ready = held.readied(self._hit, by=self, now=now)
                if ready is not None:
                    if (tag is None and date is None) or (
                        tag != ready.tag and not _is_unmodified(held, tag, date, now)
                    ):
                        self._counts.whole += 1
                        status, told, body = held.status, ready.fields.copy(), held.body
                    else:
                        self._counts.not_modified += 1
                        status, told, body = 304, ready.fields_of_304.copy(), b""
                    await send({"type": START, "status": status, "headers": told})
                    await send({"type": BODY, "body": body})
                    return
        await self._handle(Fill(self._origin, scope, receive, send))

    def _told(
        self,
        record: StoredResponse,
        asked: Mapping[bytes, bytes],
        said: Fields,
        *,
        method: str = "GET",
        now: float,
    ) -> Answer:
        """Count a request that is answered from what is stored, and return with what.

        Args:
            record: That.
            asked: The request's fields.
            said: What is to be said besides.
            method: The request's.
            now: The present.
        """
        status, fields, body = answer_of(record, method, asked, now=now)
        if status == 304:
            self._counts.not_modified += 1
        else:
            self._counts.whole += 1
        return status, [*fields, *said], body


def _telling_hits(name: str | None) -> Callable[[int], Fields]:
    """Return what tells of a hit which is fresh for so many seconds, if anything shall."""

    @lru_cache(maxsize=4096)
    def told(ttl: int) -> Fields:
        return () if name is None else ((b"cache-status", CacheStatus(name, ttl=ttl).encode()),)

    return told


def _is_unmodified(held: StoredResponse, tag: bytes | None, date: bytes | None, now: float) -> bool:
    """Return whether a client has what is stored, where that takes more than a look."""
    asked = {name: value for name, value in ((_TAG, tag), (_DATE, date)) if value is not None}
    return held.is_unmodified(asked, now=now)
