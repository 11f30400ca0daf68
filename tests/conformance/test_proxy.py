"""The proxy of the conformance suite: what the origin says, and how it fails, comes through."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.conformance.proxy import Body, Proxy

FIELDS = [(b"host", b"origin.example")]
Ask = Callable[..., Awaitable[list[Any]]]


class Origin:
    """A server that sends what a test says, and hangs up.

    Attributes:
        reply: What it sends.
        heard: What it was sent, of the last request.
    """

    def __init__(self) -> None:
        self.reply = b""
        self.heard = b""
        self.port = 0

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator["Origin"]:
        """Listen on a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        async with server:
            self.port = server.sockets[0].getsockname()[1]
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard = await reader.readuntil(b"\r\n\r\n")
        if b"chunked" in self.heard:
            self.heard += await reader.readuntil(b"0\r\n\r\n")
        writer.write(self.reply)
        writer.close()


@pytest.fixture
async def origin() -> AsyncGenerator[Origin]:
    """Return an origin server."""
    async with Origin().serving() as serving:
        yield serving


async def ask(
    port: int,
    body: Body = "streamed",
    *,
    method: str = "GET",
    fields: Sequence[tuple[bytes, bytes]] = FIELDS,
    parts: Sequence[bytes] = (b"",),
    sent: list[Any] | None = None,
) -> list[Any]:
    """Return the messages that answer a request."""
    scope = {
        "type": "http",
        "method": method,
        "raw_path": b"/a%20b",
        "query_string": b"c=d",
        "headers": fields,
    }
    messages: list[Any] = [] if sent is None else sent
    coming = [
        {"type": "http.request", "body": part, "more_body": number < len(parts)}
        for number, part in enumerate(parts, 1)
    ]

    async def receive() -> Any:
        return coming.pop(0)

    async def send(message: Any) -> None:
        messages.append(message)

    await Proxy(port, body)(scope, receive, send)
    return messages


def content_of(messages: Sequence[Any]) -> bytes:
    """Return the content that messages have brought, complete."""
    assert [message["more_body"] for message in messages[1:]][-1] is False
    return b"".join(message["body"] for message in messages[1:])


async def test_repeated_fields_come_in_their_order(origin: Origin) -> None:
    """Nothing is joined, sorted or added."""
    origin.reply = b"HTTP/1.1 200 OK\r\nB: 1\r\nA: 2 \r\nB:3\r\nContent-Length: 0\r\n\r\n"

    start, *_ = await ask(origin.port, fields=[*FIELDS, (b"x", b"1"), (b"y", b"2"), (b"x", b"3")])

    assert start["headers"] == [(b"b", b"1"), (b"a", b"2"), (b"b", b"3"), (b"content-length", b"0")]
    assert origin.heard.startswith(
        b"GET /a%20b?c=d HTTP/1.1\r\nhost: origin.example\r\nx: 1\r\ny: 2\r\nx: 3\r\nconnection:"
    )


async def test_fields_of_a_connection_stay_on_it(origin: Origin) -> None:
    """In both directions, those that `Connection` names among them."""
    origin.reply = (
        b"HTTP/1.1 200 OK\r\nConnection: close, A\r\nA: 1\r\nB: 2\r\nKeep-Alive: timeout=5\r\n\r\n"
    )

    start, *_ = await ask(
        origin.port, fields=[*FIELDS, (b"connection", b"C"), (b"c", b"1"), (b"te", b"trailers")]
    )

    assert start["headers"] == [(b"b", b"2")]
    assert origin.heard.split(b"\r\n")[1:] == [
        b"host: origin.example", b"connection: close", b"", b""
    ]  # fmt: skip


@pytest.mark.parametrize(
    "reply",
    [
        b"Content-Length: 5\r\n\r\nhello",
        b"Transfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n",
        b"Transfer-Encoding: unheard-of\r\n\r\nhello",
        b"\r\nhello",
    ],
    ids=["length", "chunked", "other coding", "until it closes"],
)
@pytest.mark.parametrize("body", ["streamed", "whole"])
async def test_content_is_whole_however_it_is_framed(
    origin: Origin, reply: bytes, body: Body
) -> None:
    """As RFC 9112, 6.3, tells its length."""
    origin.reply = b"HTTP/1.1 200 OK\r\n" + reply

    messages = await ask(origin.port, body)

    assert content_of(messages) == b"hello"
    assert body == "streamed" or len(messages) == 2


async def test_answer_to_head_has_no_content(origin: Origin) -> None:
    """Its length is that of what `GET` would bring."""
    origin.reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"

    messages = await ask(origin.port, method="HEAD")

    assert messages[0]["headers"] == [(b"content-length", b"5")]
    assert content_of(messages) == b""


async def test_interim_response_is_not_the_answer(origin: Origin) -> None:
    """Another one follows."""
    origin.reply = b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n"

    messages = await ask(origin.port)

    assert messages[0]["status"] == 204


async def test_chunked_request_stays_chunked(origin: Origin) -> None:
    """Its parts come as they were sent."""
    origin.reply = b"HTTP/1.1 204 No Content\r\n\r\n"
    fields = [*FIELDS, (b"transfer-encoding", b"chunked")]

    await ask(origin.port, method="POST", fields=fields, parts=[b"hel", b"", b"lo"])

    assert origin.heard.endswith(b"chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n")


async def test_no_connection_is_an_error() -> None:
    """It is told before any message."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]

    with pytest.raises(OSError, match="Connect call failed"):
        await ask(port)


@pytest.mark.parametrize("reply", [b"", b"HTTP/1.1 200 OK\r\nA: 1"], ids=["nothing", "half a head"])
async def test_no_answer_is_an_error(origin: Origin, reply: bytes) -> None:
    """It is told before any message."""
    origin.reply = reply
    sent: list[Any] = []

    with pytest.raises(EOFError):
        await ask(origin.port, sent=sent)

    assert sent == []


@pytest.mark.parametrize(
    "reply",
    [b"Content-Length: 9\r\n\r\nhello", b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"],
    ids=["length", "chunked"],
)
async def test_half_a_content_is_an_error(origin: Origin, reply: bytes) -> None:
    """The last message never comes."""
    origin.reply = b"HTTP/1.1 200 OK\r\n" + reply
    sent: list[Any] = []

    with pytest.raises(EOFError):
        await ask(origin.port, sent=sent)

    assert [message.get("more_body") for message in sent] == [None, True]
