"""A request that makes a record: it runs the application, and passes on what comes."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Any, Final, TypeAlias

from async_tiercache import LoadContext
from async_tiercache.abc import Clock
from async_tiercache.errors import TierCacheError
from async_tiercache.http.conditions import is_of, updated, validating
from async_tiercache.http.control import ResponseControl, response_control, targeted_control
from async_tiercache.http.fields import Fields, lines_of
from async_tiercache.http.rules import Profile, age_of, lifetime_of, refusal, stored_fields
from async_tiercache.http.status import CacheStatus, Forwarded
from async_tiercache.http.stored import StoredResponse, stored
from async_tiercache.http.vary import vary_of
from async_tiercache.tags import MAX_TAGS
from async_tiercache_integrations._http_records import (
    NotStored,
    Record,
    Scope,
    Variants,
    host_of,
    tags_of,
)

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

START: Final = "http.response.start"
BODY: Final = "http.response.body"
KEPT_STALE: Final = 86_400.0
"""For how long a response that can be validated is kept beyond its lifetime, in seconds."""

_CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since"})
"""Fields that an application must not see whose response is stored: it might leave out the rest."""
_FAILURES: Final = frozenset({500, 502, 503, 504})
_SHORTEST: Final = 0.001

TAGS: ContextVar[set[str] | None] = ContextVar("tiercache_http_tags", default=None)
"""What the response that is being made stands under; its maker may add to it."""


@dataclass
class Origin:
    """The application behind a cache, and how its responses are kept.

    Attributes:
        app: The application.
        profile: How much of what the RFCs allow is made use of.
        max_body: Larger contents are not stored, in bytes.
        name: What `Cache-Status` calls the cache, if anything.
        targets: Fields by which a response speaks to this cache, the most specific one first.
        clock: Tells the time.
        tasks: Those in which the application runs.
    """

    app: App
    profile: Profile
    max_body: int
    name: str | None
    targets: tuple[bytes, ...]
    clock: Clock
    tasks: "set[asyncio.Task[None]]" = field(default_factory=set[Any])

    def control_of(self, fields: Fields) -> ResponseControl:
        """Return what a response says of caching to this cache (RFC 9213)."""
        plain = response_control(fields)
        if self.profile.strict and (plain.no_store or plain.private):
            # Who adds a field for a cache may not have thought of this one.
            return plain
        return targeted_control(fields, self.targets) or plain

    def begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run something in a task that outlives its client."""
        task = asyncio.get_running_loop().create_task(work, name="tiercache-http")
        self.tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # Its client was told, if it is there still.


class Client:
    """Who is sent a response, at a speed of its own.

    Args:
        send: Sends a message.
        begin: Begins a task.
    """

    def __init__(
        self, send: Send, begin: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
    ) -> None:
        self._send = send
        self._begin = begin
        self._posted: deque[Message] = deque()
        self._delivering: asyncio.Task[None] | None = None
        self._gone = False

    def post(self, message: Message) -> None:
        """Send a message without waiting until it is taken."""
        if self._gone:
            return
        self._posted.append(message)
        if self._delivering is None or self._delivering.done():
            self._delivering = self._begin(self._deliver())

    async def send(self, message: Message) -> None:
        """Send a message after those that were posted."""
        await self.served()
        await self._send(message)

    async def served(self) -> None:
        """Return when all that was posted has been taken."""
        if self._delivering is not None and not self._delivering.done():
            await asyncio.wait([self._delivering])

    def leave(self) -> None:
        """Send nothing more."""
        self._gone = True
        self._posted.clear()
        if self._delivering is not None:
            self._delivering.cancel()

    async def _deliver(self) -> None:
        while self._posted:
            await self._send(self._posted.popleft())


class Fill:
    """A request that may make a record, or validate one; most find theirs and do neither.

    Args:
        origin: The application.
        scope: The request.
        receive: Its client's.
        send: Its client's.
        names: The fields that the record's variants are told apart by; `None` for a URL's record.
        stale: The response that is to be validated, or replaced.

    Attributes:
        run: The application's answer to it, if it was asked.
    """

    def __init__(
        self,
        origin: Origin,
        scope: Scope,
        receive: Receive,
        send: Send,
        names: tuple[bytes, ...] | None,
        *,
        stale: StoredResponse | None = None,
    ) -> None:
        self.origin = origin
        self.scope = scope
        self.receive = receive
        self.send = send
        self.names = names
        self.stale = stale
        self.run: Run | None = None

    async def load(self, context: LoadContext) -> Record:
        """Ask the application."""
        self.run = Run(self)
        return await self.run.load(context)

    def again(self, stale: StoredResponse) -> "Fill":
        """Return the same request, to validate or replace a response."""
        return Fill(self.origin, self.scope, self.receive, self.send, self.names, stale=stale)


class Run:
    """The application's answer to a request that makes a record.

    Args:
        fill: The request.

    Attributes:
        response: What is stored, or was validated.
        misled: Whether the response depends on other fields than the record says.
        failed: Whether the origin has failed where a stale response will do.
        visible: Set it once others find the record; the last byte waits for that.
    """

    def __init__(self, fill: Fill) -> None:
        self.response: StoredResponse | None = None
        self.misled = False
        self.failed = False
        self.visible = asyncio.Event()
        self._scope = fill.scope
        self._origin = fill.origin
        self._receive = fill.receive
        # What is made for others, too, must not wait for one who reads slowly.
        self._client = Client(fill.send, fill.origin.begin)
        self._names = fill.names
        self._stale = fill.stale
        self._asked_at = fill.origin.clock.wall()
        # A client that has something of it already may not need the whole.
        self._teed = not {name for name, _ in fill.scope["headers"]} & _CONDITIONS
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
        # Whether the rest of what the application sends is of no use.
        self._answered = False

    # What makes the record.

    async def load(self, context: LoadContext) -> Record:
        """Run the application until it is clear what is stored."""
        self._running = self._origin.begin(self._run())
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
        response = self.response
        if response is not None and self._parts is not None:
            left = max(0.0, response.fresh_until - self._origin.clock.wall())
            tags = tuple(sorted(self._tags))
            with suppress(TierCacheError):
                # What cannot be a tag, or is one too many, may not be left out.
                context.tags = tags
                context.ttl = max(_SHORTEST, left + KEPT_STALE * bool(validating(response.fields)))
                return replace(response, tags=tags)
        context.skip()
        return NotStored()

    async def rest(self) -> StoredResponse | None:
        """Let the application end; return what answers its client, if it has not done that."""
        assert self._running is not None
        if self.failed:
            return self._stale
        if self.response is not None and not self._teed:
            return self.response
        try:
            await asyncio.wait([self._running])
            await self._client.served()
        except asyncio.CancelledError:
            self._client.leave()
            if self.response is None:
                # It was made for this client alone.
                self._running.cancel()
            raise
        self._running.result()
        return None

    def leave(self) -> None:
        """Note that the client has gone; others may wait for what is made."""
        self._client.leave()

    # The application's side.

    async def _run(self) -> None:
        TAGS.set(self._tags)
        fields = [each for each in self._scope["headers"] if each[0] not in _CONDITIONS]
        if self._stale is not None:
            fields += validating(self._stale.fields)
        try:
            await self._origin.app({**self._scope, "headers": fields}, self._hear, self._take)
            if self._parts is not None and self.response is None:
                await self._give_up()  # It has not come to its end.
        except Exception:
            if self._start or not self._may_serve_stale():
                raise
            self.failed = True
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
        if kind == START and not self._start:
            await self._begin(message)
        elif self._answered:
            return
        elif self._parts is None:
            await self._client.send(message)
        elif kind != BODY or self._size + len(message.get("body", b"")) > self._origin.max_body:
            await self._give_up()
            await self._client.send(message)
        else:
            await self._collect(message, self._parts)

    async def _begin(self, message: Message) -> None:
        self._start = message
        status = message["status"]
        self._fields = [(name.lower(), value) for name, value in message.get("headers", ())]
        if status == 304 and self._stale is not None:
            self._renew(self._stale)
            return
        if status in _FAILURES and self._may_serve_stale():
            self.failed = self._answered = True
            self._settled.set()
            return
        if self._is_kept(status, self._fields):
            self._parts = []
        else:
            self._pass()
        if self._origin.name is not None:
            forwarded = self._forwarded()
            kept = self._parts is not None
            told = CacheStatus(self._origin.name, forwarded, stored=kept).encode()
            self._start = {**message, "headers": [*self._fields, (b"cache-status", told)]}
        if self._parts is None:
            await self._client.send(self._start)
        elif self._teed:
            self._client.post(self._start)

    def _forwarded(self) -> Forwarded:
        if self._stale is not None:
            return "stale"
        return "uri-miss" if self._names is None else "vary-miss"

    def _may_serve_stale(self) -> bool:
        stale = self._stale
        return stale is not None and stale.may_replace_error(now=self._origin.clock.wall())

    def _renew(self, stale: StoredResponse) -> None:
        """Let a response live on that the origin has said is current."""
        self._teed, self._answered = False, True
        now, profile = self._origin.clock.wall(), self._origin.profile
        fields = updated(stale.fields, stored_fields(self._fields, ResponseControl()))
        control = self._origin.control_of(fields)
        lifetime = lifetime_of(stale.status, fields, control, profile=profile, now=now) or 0.0
        born_at = self._asked_at - age_of(self._fields)
        self._tags.update(stale.tags, tags_of(fields, host_of(self._scope)))
        if not is_of(self._fields, stale.fields):
            # It is about another one, and answers for this one only once.
            self.response = stale
        else:
            self.response = stale.validated(
                self._fields, control, born_at=born_at, fresh_until=born_at + lifetime
            )
            if self._reason(stale.status, fields, control, lifetime) is None:
                self._parts = []
        if self._parts is None:
            self._passing.set()
        self._settled.set()

    async def _collect(self, message: Message, parts: list[bytes]) -> None:
        body: bytes = message.get("body", b"")
        parts.append(body)
        self._size += len(body)
        if not message.get("more_body", False):
            self._complete(b"".join(parts))
            if self.response is None:
                await self._give_up(but=1)
                await self._client.send(message)
                return
            self._settled.set()
            # Who asks again on seeing the end must find it.
            await self.visible.wait()
        if self._teed:
            self._client.post(message)

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
            await self._client.send(self._start)
            for body in parts[: len(parts) - but]:
                await self._client.send({"type": BODY, "body": body, "more_body": True})

    def _pass(self) -> None:
        self._parts = None
        self._passing.set()
        self._settled.set()

    def _is_kept(self, status: int, fields: Fields) -> bool:
        """Return whether a response is to be stored, as far as its fields tell."""
        origin, control = self._origin, self._origin.control_of(fields)
        now = origin.clock.wall()
        lifetime = lifetime_of(status, fields, control, profile=origin.profile, now=now)
        if self._reason(status, fields, control, lifetime) is not None:
            return False
        names = vary_of(fields)
        self.misled = self._names is not None and names != self._names
        self._control, self._lifetime = control, lifetime or 0.0
        self._tags.update(tags_of(fields, host_of(self._scope)))
        sizes = lines_of(fields, b"content-length")
        too_large = any(size.isdigit() and int(size[:18]) > origin.max_body for size in sizes)
        return not self.misled and not too_large and len(self._tags) <= MAX_TAGS

    def _reason(
        self, status: int, fields: Fields, control: ResponseControl, lifetime: float | None
    ) -> str | None:
        """Return why a response is not stored, if it is not."""
        reason = refusal(
            "GET", self._scope["headers"], status, fields, control,
            profile=self._origin.profile, lifetime=lifetime,
        )  # fmt: skip
        if reason is not None or vary_of(fields) is None:
            return reason or "vary"
        usable = not control.no_cache and (lifetime or 0.0) > age_of(fields)
        return None if usable or validating(fields) else "lifetime"


class Made:
    """Makes a record of a response that is there already."""

    def __init__(self, run: Run) -> None:
        self._run = run

    async def load(self, context: LoadContext) -> Record:
        """Return the response."""
        return self._run.keep(context)


FILL: ContextVar[Fill | Made] = ContextVar("tiercache_http_fill")
"""The request that makes a record, in the context of whoever leads the load."""
