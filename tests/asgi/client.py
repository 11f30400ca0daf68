"""Applications and clients that speak ASGI message by message: a test may stop in between."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.core.source import DEADLINE

Pairs = Sequence[tuple[str, str]]


def raw(fields: Pairs) -> list[tuple[bytes, bytes]]:
    """Return fields as ASGI has them."""
    return [(name.lower().encode(), value.encode()) for name, value in fields]


class Origin:
    """An application that answers as a test says.

    Attributes:
        status: Of the next responses.
        fields: Their fields.
        parts: Their content, as it is sent.
        gate: While it is not set, the last part waits here.
        error: What is raised after the first part.
        seen: The scope of each request.
        follow: Is asked for the fields in place of `fields`, if it is there.
        within: Is awaited before the response begins.
    """

    def __init__(self, *fields: tuple[str, str], parts: Sequence[bytes] = (b"hel", b"lo")) -> None:
        self.status = 200
        self.fields: Pairs = fields
        self.parts = parts
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None
        self.seen: list[Any] = []
        self.follow: Callable[[Any], Pairs] | None = None
        self.within: Callable[[], Awaitable[None]] | None = None
        self.hears: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer."""
        self.seen.append(scope)
        if self.within is not None:
            await self.within()
        fields = self.fields if self.follow is None else self.follow(scope)
        start = {"type": "http.response.start", "status": self.status, "headers": raw(fields)}
        await send(start)
        for number, part in enumerate(self.parts, 1):
            more = number < len(self.parts)
            if not more:
                await self.gate.wait()
                if self.error is not None:
                    raise self.error
            await send({"type": "http.response.body", "body": part, "more_body": more})

    @property
    def calls(self) -> int:
        """How many requests there were."""
        return len(self.seen)


@dataclass
class Exchange:
    """A request and what has come back.

    Attributes:
        messages: What was sent to the client.
        came: Set with each message.
        task: The server's side.
        at_end: Is awaited when the last message has come.
        reads: While it is not set, no message is taken.
        over: Set with the last message.
    """

    messages: list[Any] = field(default_factory=list[Any])
    came: asyncio.Event = field(default_factory=asyncio.Event)
    task: "asyncio.Task[None] | None" = None
    at_end: Callable[[], Awaitable[None]] | None = None
    reads: asyncio.Event = field(default_factory=asyncio.Event)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, message: Any) -> None:
        """Take a message."""
        await self.reads.wait()
        self.messages.append(message)
        self.came.set()
        if self.ended:
            self.over.set()
            if self.at_end is not None:
                await self.at_end()

    @property
    def ended(self) -> bool:
        """Whether the response is complete."""
        last = self.messages[-1]
        return last["type"] == "http.response.body" and not last.get("more_body", False)

    async def done(self) -> "Exchange":
        """Return when the server's side has ended."""
        assert self.task is not None
        async with asyncio.timeout(DEADLINE):
            await self.task
        return self

    async def begun(self, messages: int = 1) -> None:
        """Return when so many messages have come."""
        async with asyncio.timeout(DEADLINE):
            while len(self.messages) < messages:
                self.came.clear()
                await self.came.wait()

    @property
    def status(self) -> int:
        """The status code."""
        return int(self.messages[0]["status"])

    @property
    def fields(self) -> dict[str, str]:
        """The fields, each of which came once, by name in lower case."""
        pairs = self.messages[0]["headers"]
        found = {name.decode().lower(): value.decode() for name, value in pairs}
        assert len(found) == len(pairs)
        return found

    @property
    def body(self) -> bytes:
        """The content."""
        return b"".join(each.get("body", b"") for each in self.messages[1:])

    @property
    def hit(self) -> bool:
        """Whether the response was in the cache."""
        return "; hit" in self.fields["cache-status"]


def scope_of(
    path: str, method: str, fields: Pairs, query: str = "", host: str | None = "example.org"
) -> dict[str, Any]:
    """Return the scope of a request."""
    hosts = [] if host is None else [("host", host)]
    return {
        "type": "http",
        "method": method,
        "scheme": "https",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": raw([*hosts, *fields]),
    }


def begin(
    app: Any,
    *fields: tuple[str, str],
    path: str = "/",
    method: str = "GET",
    query: str = "",
    host: str | None = "example.org",
    at_end: Callable[[], Awaitable[None]] | None = None,
    reads: bool = True,
    stays: bool = True,
) -> Exchange:
    """Begin a request; its client stays until it is cancelled, unless it goes at once."""
    exchange = Exchange(at_end=at_end)
    if reads:
        exchange.reads.set()
    sent: list[Any] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Any:
        if sent:
            return sent.pop()
        if not stays:
            return {"type": "http.disconnect"}
        # As servers do: what has been answered is over, whether or not its client is still there.
        await exchange.over.wait()
        return {"type": "http.disconnect"}

    scope = scope_of(path, method, fields, query, host)
    exchange.task = asyncio.ensure_future(app(scope, receive, exchange.send))
    return exchange


async def fetch(app: Any, *fields: tuple[str, str], **options: Any) -> Exchange:
    """Return a whole exchange."""
    return await begin(app, *fields, **options).done()
