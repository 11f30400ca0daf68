"""A shared cache of HTTP responses, as ASGI middleware of no framework.

The response's own fields decide whether it is stored and for how long. A URL's record in the cache
is its response, or the names of the request fields that tell its variants apart (`Vary`); those are
then under keys that carry the record's own random id, so that nothing reaches them but by a record
that is there. Whatever ends the record ends them all.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final, Literal, TypeAlias
from urllib.parse import urljoin, urlsplit

from async_tiercache import LoadContext, TierCache
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.abc import Clock
from async_tiercache.errors import ConfigurationError, TierCacheError
from async_tiercache.http.control import ResponseControl, response_control
from async_tiercache.http.fields import Fields, elements_of, lines_of
from async_tiercache.http.rules import ORIGIN_SAFE, RFC9111, age_of, lifetime_of, refusal
from async_tiercache.http.status import CacheStatus, Forwarded
from async_tiercache.http.stored import StoredResponse, answer_of, stored
from async_tiercache.http.target import groups_of, url_digest
from async_tiercache.http.vary import variant_of, vary_of
from async_tiercache.tags import MAX_TAGS, checked_tags

Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

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
_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since"})
"""Fields that an application must not see whose response is stored: it might leave out the rest."""
_START: Final = "http.response.start"
_BODY: Final = "http.response.body"
_PASSED_ON: Final = 1_000
"""URLs of which it is remembered that their responses are not stored."""
_SHORTEST: Final = 0.001
PASS_SECONDS: Final = 10.0
"""For how long their requests do not wait for one another."""


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

_TAGS: ContextVar[set[str] | None] = ContextVar("tiercache_http_tags", default=None)


def http_tags(*tags: str) -> None:
    """Let the response that is being made stand under tags of the cache.

    Called anywhere below `ResponseCache`; where no response is being stored it has no effect.

    Example:
        >>> http_tags("user:42", "product:7")
    """
    collected = _TAGS.get()
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
        name: What `Cache-Status` calls this cache, a token; `None` leaves that field out.
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
        if name is not None and not name.replace("-", "").isalnum():
            raise ConfigurationError(
                f"The name {name!r} is no token", hint="Use letters, digits and hyphens."
            )
        self.app = app
        self.profile = _PROFILES[profile]
        self.max_body = max_body
        self.name = name
        self.clock = clock
        self._passed_on: dict[str, float] = {}
        self._tasks: set[asyncio.Task[None]] = set()

        # What makes them is found in the context: the request of whoever leads the load.
        @cache.cached("http:{key}", on_abandon="finish", grace=0, early=0, jitter=0)
        async def record(key: str, context: LoadContext = LoadContext()) -> Record:
            del key
            return await _FILL.get().load(context)

        self._record: Any = record
        self._cache = cache

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application do so."""
        if scope["type"] != "http" or scope["method"] not in _READING:
            if scope["type"] == "http" and scope["method"] not in _SAFE:
                send = self._invalidating(scope, send)
            await self.app(scope, receive, send)
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
            await self.app(scope, receive, send)
            return
        now = self.clock.wall()
        answer = answer_of(found.record, scope["method"], scope["headers"], now=now)
        status = found.status(self.name, ttl=int(found.record.fresh_until - now))
        await send({"type": _START, "status": answer.status, "headers": [*answer.fields, *status]})
        await send({"type": _BODY, "body": bytes(answer.body)})

    async def _look_up(
        self, scope: Scope, receive: Receive, send: Send, *, fills: bool
    ) -> "_Found | None":
        """Return what is known of a request's URL, or of its variant; `None` if it is answered."""
        url_key = key = self._key(scope).hex()
        names: tuple[bytes, ...] | None = None
        while True:
            if not fills:
                found: _Found | None = _Found(await self._held(key))
            elif self._is_passed_on(key):
                return _Found(NotStored())
            else:
                fill = _Fill(self, scope, receive, send, names)
                found = await self._loaded(fill, key)
                if fill.misled:
                    await self._record.invalidate(url_key)
            if found is None or not isinstance(found.record, Variants):
                return found
            names = found.record.names
            key = _key_of_variant(url_key, found.record, scope["headers"])

    async def _held(self, key: str) -> Record:
        """Return a record without making one."""
        held: Record = await self._cache.get(self._record.key(key), NotStored())
        return held

    async def _loaded(self, fill: "_Fill", key: str) -> "_Found | None":
        """Return a record that is there, or that a request makes; `None` if it was this one."""
        token = _FILL.set(fill)
        try:
            record: Record = await self._record(key)
            if fill.led and isinstance(record, Variants):
                # It leads to the response that has told what it depends on.
                _FILL.set(_Made(fill))
                await self._record(_key_of_variant(key, record, fill.scope["headers"]))
        finally:
            _FILL.reset(token)
            fill.visible.set()
        if isinstance(record, NotStored):
            self._pass_on(key)
        if not fill.led:
            return _Found(record)
        return await fill.rest()

    def _invalidating(self, scope: Scope, send: Send) -> Send:
        """Return what ends the records that an unsafe request has made old (RFC 9111, 4.4)."""

        async def forward(message: Message) -> None:
            if message["type"] == _START and 200 <= message["status"] < 400:
                fields: Fields = message["headers"]
                groups = groups_of(fields, b"cache-group-invalidation")
                tags = [_group_tag(_host(scope), group) for group in groups]
                urls = {self._key(scope), *self._named(scope, fields)}
                keys = [self._record.key(url.hex()) for url in urls]
                await self._cache.invalidate(keys=keys, tags=tags)
            await send(message)

        return forward

    def _key(self, scope: Scope) -> bytes:
        path = (scope.get("raw_path") or scope["path"].encode()).partition(b"?")[0]
        scheme, host = scope["scheme"].encode(), _host(scope).encode("latin-1")
        return url_digest(scheme, host, path, scope["query_string"])

    def _named(self, scope: Scope, response: Fields) -> Iterator[bytes]:
        """Yield other URLs of this origin that a change has concerned, as its answer says."""
        scheme, host = scope["scheme"], _host(scope)
        origin, base = (scheme, host), f"{scheme}://{host}{scope['path']}"
        for name in (b"location", b"content-location"):
            for line in lines_of(response, name):
                with suppress(ValueError):
                    url = urlsplit(urljoin(base, line.decode("latin-1").strip()))
                    if (url.scheme, url.netloc.lower()) == origin:
                        parts = (*origin, url.path or "/", url.query)
                        yield url_digest(*(part.encode("latin-1") for part in parts))

    def begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run the application in a task that outlives its client."""
        task = asyncio.get_running_loop().create_task(work, name="tiercache-http")
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Its client was told, if it is there still.

    def _pass_on(self, key: str) -> None:
        passed = self._passed_on
        if len(passed) >= _PASSED_ON:
            del passed[next(iter(passed))]
        passed[key] = self.clock.monotonic() + PASS_SECONDS

    def _is_passed_on(self, key: str) -> bool:
        deadline = self._passed_on.get(key)
        if deadline is not None and self.clock.monotonic() >= deadline:
            del self._passed_on[key]
            return False
        return deadline is not None


@dataclass(frozen=True, slots=True)
class _Found:
    """A record, and how it came.

    Attributes:
        record: The record.
        made: Whether this request has made it.
    """

    record: Record
    made: bool = False

    def status(self, name: str | None, ttl: int) -> list[tuple[bytes, bytes]]:
        """Return the field that tells of it, if that is told at all."""
        if name is None:
            return []
        made = CacheStatus(name, "uri-miss" if self.made else None, ttl=ttl, stored=self.made)
        return [(b"cache-status", made.encode())]


class _Fill:
    """A request that may make a record: it runs the application, and passes on what comes.

    Args:
        owner: The middleware.
        scope: The request.
        receive: Its client's.
        send: Its client's.
        names: The fields that the record's variants are told apart by; `None` for a URL's record.

    Attributes:
        led: Whether it is this request that makes the record.
        response: What is stored.
        misled: Whether the response depends on other fields than the record says.
        visible: Set it once others find the record; the last byte waits for that.
    """

    def __init__(
        self,
        owner: ResponseCache,
        scope: Scope,
        receive: Receive,
        send: Send,
        names: tuple[bytes, ...] | None,
    ) -> None:
        self.scope = scope
        self.led = False
        self.response: StoredResponse | None = None
        self.misled = False
        self.visible = asyncio.Event()
        self._owner = owner
        self._receive = receive
        self._send = send
        self._names = names
        self._asked_at = owner.clock.wall()
        # A client that has something of it already may not need the whole.
        self._teed = not {name for name, _ in scope["headers"]} & _CONDITIONS
        self._tags: set[str] = set()
        self._settled = asyncio.Event()
        self._passing = asyncio.Event()
        self._running: asyncio.Task[None] | None = None
        self._start: Message = {}
        self._fields: Fields = ()
        self._control = ResponseControl()
        self._lifetime = 0.0
        self._parts: list[bytes] | None = None
        self._size = 0

    # What makes the record.

    async def load(self, context: LoadContext) -> Record:
        """Run the application until it is clear what is stored."""
        self.led = True
        self._running = self._owner.begin(self._run())
        try:
            await self._settled.wait()
        except asyncio.CancelledError:
            self._running.cancel()
            raise
        if self._running.done():
            self._running.result()
        names = () if self.response is None else vary_of(self.response.fields)
        record = self.keep(context)
        if names and self._names is None and isinstance(record, StoredResponse):
            return Variants(token_hex(16), names)
        return record

    def keep(self, context: LoadContext) -> Record:
        """Say how the response is kept, and return it."""
        if self.response is not None:
            left = self.response.fresh_until - self._owner.clock.wall()
            with suppress(TierCacheError):
                # What cannot be a tag, or is one too many, may not be left out.
                context.tags = sorted(self._tags)
                context.ttl = max(left, _SHORTEST)
                return self.response
        context.skip()
        return NotStored()

    async def rest(self) -> _Found | None:
        """Let the application end; return what its client is to be answered with, if not by it."""
        assert self._running is not None
        if self.response is not None and not self._teed:
            return _Found(self.response, made=True)
        try:
            await asyncio.wait([self._running])
        finally:
            # A client that has gone ends what is made for it alone.
            if self.response is None:
                self._running.cancel()
        self._running.result()
        return None

    # The application's side.

    async def _run(self) -> None:
        _TAGS.set(self._tags)
        fields = [each for each in self.scope["headers"] if each[0] not in _CONDITIONS]
        try:
            await self._owner.app({**self.scope, "headers": fields}, self._hear, self._take)
            if self._parts is not None and self.response is None:
                await self._give_up()  # It has not come to its end.
        finally:
            self._settled.set()

    async def _hear(self) -> Message:
        """Return what the client sends, but not that it has gone while others wait."""
        message = await self._receive()
        if message["type"] == "http.disconnect":
            await self._passing.wait()
        return message

    async def _take(self, message: Message) -> None:
        """Keep what the application sends, and pass it on."""
        kind = message["type"]
        if kind == _START and not self._start:
            await self._begin(message)
        elif self._parts is None:
            await self._send(message)
        elif kind != _BODY or self._size + len(message.get("body", b"")) > self._owner.max_body:
            await self._give_up()
            await self._send(message)
        else:
            await self._collect(message, self._parts)

    async def _begin(self, message: Message) -> None:
        self._start = message
        fields = [(name.lower(), value) for name, value in message.get("headers", ())]
        self._fields = fields
        if self._is_kept(message["status"], fields):
            self._parts = []
        else:
            self._pass()
        if self._owner.name is not None:
            forwarded: Forwarded = "uri-miss" if self._names is None else "vary-miss"
            kept = self._parts is not None
            status = CacheStatus(self._owner.name, forwarded, stored=kept)
            self._start = {**message, "headers": [*fields, (b"cache-status", status.encode())]}
        if self._teed or self._parts is None:
            await self._send(self._start)

    async def _collect(self, message: Message, parts: list[bytes]) -> None:
        body: bytes = message.get("body", b"")
        parts.append(body)
        self._size += len(body)
        if not message.get("more_body", False):
            self._complete(b"".join(parts))
            if self.response is None:
                await self._give_up(but=1)
                await self._send(message)
                return
            self._parts = []
            self._settled.set()
            # Who asks again on seeing the end must find it.
            await self.visible.wait()
        if self._teed:
            await self._send(message)

    def _complete(self, body: bytes) -> None:
        """Make the response that is stored, unless something of it is missing."""
        if lines_of(self._fields, b"content-length") in ([], [b"%d" % len(body)]):
            self.response = stored(
                self._start["status"],
                self._fields,
                body,
                self._control,
                lifetime=self._lifetime,
                asked_at=self._asked_at,
            )

    async def _give_up(self, but: int = 0) -> None:
        """Store nothing, and pass on what was held back; `but` the last parts of it."""
        parts = self._parts or []
        self._pass()
        if not self._teed:
            await self._send(self._start)
            for body in parts[: len(parts) - but]:
                await self._send({"type": _BODY, "body": body, "more_body": True})

    def _pass(self) -> None:
        self._parts = None
        self._passing.set()
        self._settled.set()

    def _is_kept(self, status: int, fields: Fields) -> bool:
        """Return whether a response is to be stored, as far as its fields tell."""
        owner, now = self._owner, self._owner.clock.wall()
        control = response_control(fields)
        lifetime = lifetime_of(status, fields, control, profile=owner.profile, now=now)
        reason = refusal(
            "GET", self.scope["headers"], status, fields, control,
            profile=owner.profile, lifetime=lifetime,
        )  # fmt: skip
        names = vary_of(fields)
        # There is no validation yet, so what must be validated is of no use.
        stale = control.no_cache or (lifetime or 0.0) <= age_of(fields)
        if reason is not None or names is None or stale:
            return False
        self.misled = self._names is not None and names != self._names
        self._control, self._lifetime = control, lifetime or 0.0
        self._tags.update(_tags_of(fields, _host(self.scope)))
        sizes = lines_of(fields, b"content-length")
        too_large = any(size.isdigit() and int(size[:18]) > owner.max_body for size in sizes)
        return not self.misled and not too_large and len(self._tags) <= MAX_TAGS


class _Made:
    """Makes a record of a response that is there already."""

    def __init__(self, fill: _Fill) -> None:
        self._fill = fill

    async def load(self, context: LoadContext) -> Record:
        """Return the response."""
        return self._fill.keep(context)


_FILL: ContextVar[_Fill | _Made] = ContextVar("tiercache_http_fill")


def _host(scope: Scope) -> str:
    lines = lines_of(scope["headers"], b"host")
    return lines[0].decode("latin-1").lower() if lines else ""


def _tags_of(fields: Fields, host: str) -> Iterable[str]:
    """Yield the tags that a response says it stands under."""
    for line in lines_of(fields, b"surrogate-key"):
        yield from line.decode("latin-1").split()
    for tag in elements_of(lines_of(fields, b"cache-tag")):
        yield tag.decode("latin-1")
    for group in groups_of(fields, b"cache-groups"):
        yield _group_tag(host, group)


def _group_tag(host: str, group: str) -> str:
    # A group is one of its origin's only (RFC 9875, 2).
    return f"http-group:{host}:{group}"


def _key_of_variant(key: str, variants: Variants, request: Fields) -> str:
    return f"{key}:{variants.record_id}:{variant_of(request, variants.names).hex()}"
