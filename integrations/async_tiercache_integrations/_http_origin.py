"""The application behind a cache, and the clients in front of it."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock
from async_tiercache.http.conditions import etag_of, validating
from async_tiercache.http.control import ResponseControl, response_control, targeted_control
from async_tiercache.http.fields import Fields, lines_of
from async_tiercache.http.rules import Profile
from async_tiercache.http.status import CacheStatus, Forwarded
from async_tiercache.http.stored import StoredResponse
from async_tiercache_integrations._http_counts import Counts
from async_tiercache_integrations._http_edge import Edge
from async_tiercache_integrations._http_keys import Keys, Scope, origin_of
from async_tiercache_integrations._http_records import tags_of
from async_tiercache_integrations._http_rules import Rule, path_of
from async_tiercache_integrations._http_variants import Offers

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
"""Of whatever framework: each spells the types of ASGI in its own way."""

START: Final = "http.response.start"
BODY: Final = "http.response.body"

Detail: TypeAlias = bool | Callable[[Scope], bool | None] | None
"""How much `Cache-Status` tells of a request."""


def fields_of(start: Message) -> list[tuple[bytes, bytes]]:
    """Return the fields of a response that begins: names in lower case, and all of it bytes.

    Some servers take texts from an application, too; what these forbid must be seen.
    """
    return [(_bytes(name).lower(), _bytes(value)) for name, value in start.get("headers", ())]


def _bytes(text: Any) -> bytes:
    return text.encode("latin-1") if isinstance(text, str) else bytes(text)


class Remarks:
    """What is said of a response while it is made.

    Attributes:
        tags: What it stands under.
        private: Whether it is for one client.
    """

    __slots__ = ("private", "tags")

    def __init__(self) -> None:
        self.tags: set[str] = set()
        self.private = False


REMARKS: ContextVar[Remarks | None] = ContextVar("tiercache_http_remarks", default=None)
"""What is said of the response that is being made, by whoever makes it."""


@dataclass
class Origin:
    """The application behind a cache, and how its responses are kept.

    Attributes:
        app: The application.
        profile: How much of what the RFCs allow is made use of.
        rules: What holds where responses are silent.
        max_body: Larger contents are not stored, in bytes.
        name: What `Cache-Status` calls the cache, if anything.
        detail: Whether it says why a response was not stored; `None` if it says nothing at all.
        edge: A CDN in front, if there is one.
        collects: Whether a response stands under the tags of what was read while it was made.
        keys: Those by which records are found.
        counts: Counts what becomes of requests.
        targets: Fields by which a response speaks to this cache, the most specific one first.
        clock: Tells the time.
        etags: Whether what is stored without an entity tag is given one.
        advise: Tells the owner of the cache something, by the name of its logger.
        tasks: Those of the cache, whose end a close waits for.
        offers: The variants that it can be asked about by their entity tags.
        groups: Whether groups that responses name count.
    """

    app: App
    profile: Profile
    rules: tuple[Rule, ...]
    max_body: int
    name: str | None
    detail: Detail
    edge: Edge | None
    collects: bool
    keys: Keys
    counts: Counts
    targets: tuple[bytes, ...]
    clock: Clock
    etags: bool
    advise: Callable[[str, str], None]
    tasks: Tasks
    groups: bool
    offers: Offers = field(default_factory=Offers)

    def control_of(self, fields: Fields) -> ResponseControl:
        """Return what a response says of caching to this cache (RFC 9213)."""
        plain = response_control(fields)
        if self.heeds(plain):
            return plain
        return targeted_control(fields, self.targets) or plain

    def heeds(self, plain: ResponseControl) -> bool:
        """Return whether `Cache-Control` counts although a field speaks to this cache."""
        # Who adds a field for a cache may not have thought of this one.
        return self.profile.strict and (
            plain.no_store or plain.private or bool(plain.private_fields)
        )

    def shown(self, fields: Fields) -> list[tuple[bytes, bytes]]:
        """Return a response's fields without what was said to this cache alone (RFC 9213, 2.2)."""
        own = self.targets[:1] if self.name is not None else ()
        return [each for each in fields if each[0] not in own]

    def tagged(self, status: int, fields: Fields, body: bytes) -> Fields:
        """Return the fields of what is stored, with an entity tag if it shall have one."""
        if not self.etags or status != 200 or lines_of(fields, b"etag"):
            return fields
        return [*fields, (b"etag", etag_of(body))]

    def validating(self, stale: StoredResponse) -> list[tuple[bytes, bytes]]:
        """Return the conditions by which to ask whether a stored response is current."""
        return validating(stale.fields, stale.body if self.etags else None)

    def tags_of(self, fields: Fields, scope: Scope) -> Iterator[str]:
        """Yield the tags that the response to a request says it stands under."""
        return tags_of(fields, origin_of(scope), groups=self.groups)

    def rule_for(self, scope: Scope) -> Rule | None:
        """Return the first rule that is for a request's path."""
        path = path_of(scope)
        return next((rule for rule in self.rules if rule.fits(path)), None)

    def detail_for(self, scope: Scope) -> bool | None:
        """Return whether a request is told why its response is not stored; `None`: nothing."""
        if self.name is None:
            return None
        return self.detail(scope) if callable(self.detail) else self.detail

    def told(
        self, scope: Scope, forwarded: Forwarded | None, *, detail: str = "", **more: Any
    ) -> list[tuple[bytes, bytes]]:
        """Return the field that says what was done for a request, if that is told at all.

        Args:
            scope: The request.
            forwarded: Why the application was asked, if it was.
            detail: Why its response is not stored, or why there is none.
            more: What else a `CacheStatus` says.
        """
        shown = self.detail_for(scope)
        if self.name is None or shown is None:
            return []
        detail = detail if shown or forwarded is None else ""
        return [
            (b"cache-status", CacheStatus(self.name, forwarded, detail=detail, **more).encode())
        ]

    def begin(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """Run something in a task that outlives its client."""
        task = self.tasks.start(work, name="tiercache-http")
        task.add_done_callback(_heard)
        return task


def _heard(task: "asyncio.Task[None]") -> None:
    if not task.cancelled():
        task.exception()  # Its client was told, if it is there still.


def read_again(received: list[Message], receive: Receive) -> Receive:
    """Return what tells once more what was received, and then goes on."""
    messages = iter([*received])

    async def again() -> Message:
        return next(messages, None) or await receive()

    return again


class Client:
    """Who is sent a response, at a speed of its own.

    Args:
        send: Sends a message.
        begin: Begins a task.

    Attributes:
        gone: Whether it reads no more.
    """

    def __init__(
        self, send: Send, begin: Callable[[Coroutine[Any, Any, None]], "asyncio.Task[None]"]
    ) -> None:
        self._send = send
        self._begin = begin
        self._posted: deque[Message] = deque()
        self._delivering: asyncio.Task[None] | None = None
        self.gone = False

    def post(self, message: Message) -> None:
        """Send a message without waiting until it is taken."""
        if self.gone:
            return
        self._posted.append(message)
        if self._delivering is None or self._delivering.done():
            self._delivering = self._begin(self._deliver())

    async def send(self, message: Message) -> None:
        """Send a message after those that were posted."""
        await self.served()
        if self.gone:
            # Who does nothing but send would not come to know that it is cancelled.
            await asyncio.sleep(0)
        else:
            await self._send(message)

    async def served(self) -> None:
        """Return when all that was posted has been taken."""
        if self._delivering is not None and not self._delivering.done():
            await asyncio.wait([self._delivering])

    def leave(self) -> None:
        """Send nothing more."""
        self.gone = True
        self._posted.clear()
        if self._delivering is not None:
            self._delivering.cancel()

    async def _deliver(self) -> None:
        while self._posted:
            await self._send(self._posted.popleft())
