"""A shared cache of HTTP responses, as ASGI middleware of no framework.

The response's own fields decide whether it is stored and for how long. A URL's record in the cache
is its response, or the names of the request fields that tell its variants apart (`Vary`); those are
then under keys that carry the record's own random id, so that nothing reaches them but by a record
that is there. Whatever ends the record ends them all.
"""

import asyncio
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urljoin, urlsplit

from async_tiercache import LoadContext, TierCache
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.abc import Clock
from async_tiercache.errors import ConfigurationError
from async_tiercache.http.fields import Fields, lines_of
from async_tiercache.http.rules import ORIGIN_SAFE, RFC9111
from async_tiercache.http.status import CacheStatus
from async_tiercache.http.stored import StoredResponse, answer_of
from async_tiercache.http.target import groups_of, url_digest
from async_tiercache.tags import checked_tags
from async_tiercache_integrations._http_fill import (
    BODY,
    FILL,
    START,
    TAGS,
    App,
    Fill,
    Made,
    Message,
    Origin,
    Receive,
    Send,
)
from async_tiercache_integrations._http_records import (
    NotStored,
    Record,
    Scope,
    Variants,
    group_tag,
    host_of,
    url_key,
    variant_key,
)

ProfileName: TypeAlias = Literal["origin-safe", "rfc9111"]
_PROFILES: Final = {profile.name: profile for profile in (ORIGIN_SAFE, RFC9111)}
_READING: Final = frozenset({"GET", "HEAD"})
_SAFE: Final = _READING | {"OPTIONS", "TRACE"}
_PASSING: Final = frozenset(
    {b"authorization", b"if-match", b"if-unmodified-since", b"transfer-encoding"}
)
"""Fields of requests that are the application's alone."""
_PARTIAL: Final = frozenset({b"range", b"if-range"})
"""Fields of requests that fill nothing: what they ask for may be small, and the whole large."""
_PASSED_ON: Final = 1_000
"""URLs of which it is remembered that their responses are not stored."""
LONGEST: Final = 300.0
"""For how long an application may make a response that others wait for, in seconds."""
PASS_SECONDS: Final = 10.0
"""For how long their requests do not wait for one another."""


def http_tags(*tags: str) -> None:
    """Let the response that is being made stand under tags of the cache.

    Called anywhere below `ResponseCache`; where no response is being stored it has no effect.

    Raises:
        UnkeyableError: A text cannot be a tag.

    Example:
        >>> http_tags("user:42", "product:7")
    """
    collected = TAGS.get()
    if collected is not None:
        collected.update(checked_tags(tags))


class ResponseCache:
    """Keeps the responses of an application to `GET` that may be shared, and answers from them.

    What the client sends has no say: not its `Cache-Control`, and requests with `Authorization`
    pass by. Responses that are not stored are streamed as they come, and so are the others to the
    client that is first; all who ask meanwhile wait for that one.

    Args:
        app: The application.
        cache: Keeps the responses; open while requests come.
        profile: How much of what the RFCs allow is made use of; ``"origin-safe"`` stores only what
            was clearly meant to be shared.
        max_body: Larger contents are not stored, in bytes.
        name: What `Cache-Status` calls this cache, a token; `None` leaves that field out. A field
            of the response that begins with it, such as ``Tiercache-Cache-Control``, speaks to this
            cache alone (RFC 9213).
        clock: Tells the time.

    Raises:
        ConfigurationError: There is no such profile, or the name is no token.

    Example:
        >>> from async_tiercache import TierCache
        >>> async def app(scope, receive, send):
        ...     ...
        >>> app = ResponseCache(app, cache=TierCache(namespace="shop"))
    """

    def __init__(
        self,
        app: App,
        *,
        cache: TierCache,
        profile: ProfileName = "origin-safe",
        max_body: int = 1 << 20,
        name: str | None = "tiercache",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if profile not in _PROFILES:
            raise ConfigurationError(
                f"There is no profile {profile!r}", hint=f"Use one of {', '.join(_PROFILES)}."
            )
        if name is not None and not re.fullmatch("[A-Za-z][A-Za-z0-9-]*", name):
            raise ConfigurationError(
                f"The name {name!r} is no token", hint="Use letters, digits and hyphens."
            )
        targets = [f"{name}-cache-control"] if name is not None else []
        if profile == "rfc9111":
            targets.append("cdn-cache-control")
        of_targets = tuple(target.lower().encode() for target in targets)
        self._origin = Origin(app, _PROFILES[profile], max_body, name, of_targets, clock)
        self._passed_on: dict[str, float] = {}
        self._validating: dict[str, asyncio.Future[None]] = {}

        # What makes them is found in the context: the request of whoever leads the load.
        @cache.cached(
            "http:{key}", on_abandon="finish", load_limit=LONGEST, grace=0, early=0, jitter=0
        )
        async def record(key: str, context: LoadContext = LoadContext()) -> Record:
            del key
            return await FILL.get().load(context)

        self._record: Any = record
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do so."""
        origin = self._origin
        if scope["type"] != "http" or scope["method"] not in _READING:
            if scope["type"] == "http" and scope["method"] not in _SAFE:
                send = self._invalidating(scope, send)
            await origin.app(scope, receive, send)
            return
        names = {name for name, _ in scope["headers"]}
        fills = scope["method"] == "GET" and not names & _PARTIAL
        if names & _PASSING or lines_of(scope["headers"], b"content-length") not in ([], [b"0"]):
            found: _Found | None = _Found(NotStored())
        else:
            found = await self._look_up(scope, receive, send, fills=fills)
        if found is None:
            return
        if not isinstance(found.record, StoredResponse):
            await origin.app(scope, receive, send)
            return
        now = origin.clock.wall()
        answer = answer_of(found.record, scope["method"], scope["headers"], now=now)
        status = found.status(origin.name, ttl=int(found.record.fresh_until - now))
        await send({"type": START, "status": answer.status, "headers": [*answer.fields, *status]})
        await send({"type": BODY, "body": bytes(answer.body)})

    # Records.

    async def _look_up(
        self, scope: Scope, receive: Receive, send: Send, *, fills: bool
    ) -> "_Found | None":
        """Return what answers a request, by its URL or its variant; `None` if it is answered."""
        of_url = key = url_key(scope)
        names: tuple[bytes, ...] | None = None
        while True:
            fill = Fill(self._origin, scope, receive, send, names)
            if fills and self._is_passed_on(key):
                return _Found(NotStored())
            found = await self._loaded(fill, key) if fills else _Found(await self._held(key))
            if fill.run is not None and fill.run.misled:
                await self._record.invalidate(of_url)
            if found is None or found.made or isinstance(found.record, NotStored):
                return found
            if isinstance(found.record, StoredResponse):
                return await self._current(found.record, key, fill, names, fills=fills)
            names = found.record.names
            key = variant_key(of_url, found.record, scope["headers"])

    async def _held(self, key: str) -> Record:
        """Return a record without making one."""
        held: Record = await self._cache.get(self._record.key(key), NotStored())
        return held

    async def _loaded(self, fill: Fill, key: str) -> "_Found | None":
        """Return a record that is there, or that a request makes; `None` if it was this one."""
        token = FILL.set(fill)
        try:
            record: Record = await self._record(key)
            if fill.run is not None and isinstance(record, Variants):
                # It leads to the response that has told what it depends on.
                FILL.set(Made(fill.run))
                await self._record(variant_key(key, record, fill.scope["headers"]))
        except BaseException:
            # Gone, or told of an error.
            if fill.run is not None:
                fill.run.leave()
            raise
        finally:
            FILL.reset(token)
            if fill.run is not None:
                fill.run.visible.set()
        if isinstance(record, NotStored):
            self._pass_on(key)
        return _Found(record) if fill.run is None else _made(await fill.run.rest())

    async def _current(
        self,
        record: StoredResponse,
        key: str,
        fill: Fill,
        names: tuple[bytes, ...] | None,
        *,
        fills: bool,
    ) -> "_Found | None":
        """Return a response, validated if it must be; `None` if its client is answered."""
        reuse = record.reuse(None, now=self._origin.clock.wall())
        if reuse == "fresh":
            return _Found(record)
        if reuse == "stale-while-revalidate":
            if key not in self._validating:
                quiet = Fill(self._origin, fill.scope, _nothing, _nobody, names, stale=record)
                self._origin.begin(self._validated_quietly(quiet, key))
            return _Found(record)
        if not fills:
            return _Found(NotStored())
        if (others := self._validating.get(key)) is not None:
            await asyncio.wait([others])
            latest = await self._held(key)
            now = self._origin.clock.wall()
            if isinstance(latest, StoredResponse) and latest.reuse(None, now=now) == "fresh":
                return _Found(latest)
        return await self._validated(fill.again(record), key)

    async def _validated(self, fill: Fill, key: str) -> "_Found | None":
        """Ask the origin whether a response is current; return what answers the client."""
        ended = asyncio.get_running_loop().create_future()
        self._validating[key] = ended
        token = FILL.set(fill)
        try:
            record: Record = await self._record.refresh(key)
        finally:
            FILL.reset(token)
            if fill.run is not None:
                fill.run.visible.set()
            if self._validating.get(key) is ended:
                del self._validating[key]
            ended.set_result(None)
        run = fill.run
        if isinstance(record, NotStored) and not (run is not None and run.failed):
            self._pass_on(key)
        return _Found(record) if run is None else _made(await run.rest(), stale=run.failed)

    async def _validated_quietly(self, fill: Fill, key: str) -> None:
        await self._validated(fill, key)

    # Changes.

    def _invalidating(self, scope: Scope, send: Send) -> Send:
        """Return what ends the records that an unsafe request has made old (RFC 9111, 4.4)."""

        async def forward(message: Message) -> None:
            if message["type"] == START and 200 <= message["status"] < 400:
                fields: Fields = message["headers"]
                groups = groups_of(fields, b"cache-group-invalidation")
                tags = [group_tag(host_of(scope), group) for group in groups]
                urls = {url_key(scope), *_named(scope, fields)}
                keys = [self._record.key(url) for url in urls]
                await self._cache.invalidate(keys=keys, tags=tags)
            await send(message)

        return forward

    def _pass_on(self, key: str) -> None:
        passed = self._passed_on
        if len(passed) >= _PASSED_ON:
            del passed[next(iter(passed))]
        passed[key] = self._origin.clock.monotonic() + PASS_SECONDS

    def _is_passed_on(self, key: str) -> bool:
        deadline = self._passed_on.get(key)
        if deadline is not None and self._origin.clock.monotonic() >= deadline:
            del self._passed_on[key]
            return False
        return deadline is not None


@dataclass(frozen=True, slots=True)
class _Found:
    """A record, and how it came.

    Attributes:
        record: The record.
        made: Whether this request has made or validated it.
        stale: Whether it stands in for an error.
    """

    record: Record
    made: bool = False
    stale: bool = False

    def status(self, name: str | None, ttl: int) -> list[tuple[bytes, bytes]]:
        """Return the field that tells of it, if that is told at all."""
        if name is None:
            return []
        if not self.made:
            told = CacheStatus(name, ttl=ttl)
        elif self.stale:
            told = CacheStatus(name, "stale", ttl=ttl)
        else:
            told = CacheStatus(name, "miss", ttl=ttl, stored=True)
        return [(b"cache-status", told.encode())]


def _made(response: StoredResponse | None, *, stale: bool = False) -> _Found | None:
    return None if response is None else _Found(response, made=True, stale=stale)


async def _nothing() -> Message:
    """Be a client who has sent all, and stays."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def _nobody(_: Message) -> None:
    """Be no client."""


def _named(scope: Scope, response: Fields) -> Iterator[str]:
    """Yield the keys of other URLs of this origin that a change names as concerned."""
    origin = (scope["scheme"], host_of(scope))
    base = f"{origin[0]}://{origin[1]}{scope['path']}"
    for name in (b"location", b"content-location"):
        for line in lines_of(response, name):
            with suppress(ValueError):
                url = urlsplit(urljoin(base, line.decode("latin-1").strip()))
                if (url.scheme, url.netloc.lower()) == origin:
                    parts = (*origin, url.path or "/", url.query)
                    yield url_digest(*(part.encode("latin-1") for part in parts)).hex()
