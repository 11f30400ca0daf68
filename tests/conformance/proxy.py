"""A reverse proxy as an ASGI application: what the origin says, and how it fails, comes through.

Each request has a connection of its own, so that none fails because of another.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, MutableMapping
from contextlib import aclosing
from typing import Any, Final, Literal, TypeAlias

Body: TypeAlias = Literal["streamed", "whole"]
Fields: TypeAlias = list[tuple[bytes, bytes]]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]

_CHUNK: Final = 2**16
_OF_THE_CONNECTION: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization",
        b"proxy-connection", b"te", b"trailer", b"transfer-encoding", b"upgrade",
    }
)  # fmt: skip
_NO_CONTENT: Final = frozenset({204, 304})


class Proxy:
    """Asks an origin server on loopback, and passes on what it answers.

    Where there is no answer, or no end of it, an error is raised.

    Args:
        port: The origin's.
        body: Whether a content is passed on as it comes, or in one message.

    Raises:
        OSError: The origin takes no connection, or has reset it.
        EOFError: It has hung up before it answered, or in the middle; or the client has.
    """

    def __init__(self, port: int, body: Body) -> None:
        self._port = port
        self._body: Final = body

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer a request."""
        assert scope["type"] == "http", "it is of requests only"
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await _ask(writer, scope, receive)
            async with aclosing(_answer(reader, scope["method"])) as messages:
                if self._body == "streamed":
                    async for message in messages:
                        await send(message)
                else:
                    for message in _whole([message async for message in messages]):
                        await send(message)
        finally:
            writer.close()


def end_to_end(fields: Fields) -> Fields:
    """Return the fields that are not of the connection (RFC 9110, 7.6.1), without space around."""
    lines = [value for name, value in fields if name == b"connection"]
    named = {each.strip().lower() for line in lines for each in line.split(b",")}
    dropped = _OF_THE_CONNECTION | named
    return [(name, value.strip(b" \t")) for name, value in fields if name not in dropped]


async def _ask(writer: asyncio.StreamWriter, scope: Message, receive: Receive) -> None:
    query = scope["query_string"]
    target = scope["raw_path"] + (b"?" + query if query else b"")
    fields = [*end_to_end(scope["headers"]), (b"connection", b"close")]
    chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
    if chunked:
        fields.append((b"transfer-encoding", b"chunked"))
    lines = [b"%s %s HTTP/1.1" % (scope["method"].encode(), target)]
    lines += [b"%s: %s" % each for each in fields]
    writer.write(b"\r\n".join([*lines, b"", b""]))
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise EOFError("the client has hung up")
        part, more = message.get("body", b""), message.get("more_body", False)
        if part:
            writer.write(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")


async def _answer(reader: asyncio.StreamReader, method: str) -> AsyncGenerator[Message]:
    """Yield the messages of an answer; the last one says that it is."""
    status = 100
    while status < 200:
        status, fields = await _head(reader)
    yield {"type": "http.response.start", "status": status, "headers": end_to_end(fields)}
    if method != "HEAD" and status not in _NO_CONTENT:
        async for part in _content(reader, dict(fields)):
            yield {"type": "http.response.body", "body": part, "more_body": True}
    yield {"type": "http.response.body", "body": b"", "more_body": False}


async def _head(reader: asyncio.StreamReader) -> tuple[int, Fields]:
    """Return the status of a response and its fields."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")[:-2]
    pairs = (line.split(b":", 1) for line in lines)
    return int(first.split()[1]), [(name.lower(), value.strip(b" \t")) for name, value in pairs]


async def _content(
    reader: asyncio.StreamReader, fields: Mapping[bytes, bytes]
) -> AsyncGenerator[bytes]:
    """Yield the parts of a content, which ends as RFC 9112, 6.3, says."""
    coding, length = fields.get(b"transfer-encoding"), fields.get(b"content-length")
    if coding == b"chunked":
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            yield (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
    elif coding is None and length is not None:
        left = int(length)
        while left:
            part = await reader.read(min(left, _CHUNK))
            if not part:
                raise EOFError(f"the origin has hung up {left} bytes before the end")
            left -= len(part)
            yield part
    else:
        while part := await reader.read(_CHUNK):
            yield part


def _whole(messages: list[Message]) -> list[Message]:
    """Return an answer with its content in one message."""
    start, *parts = messages
    content = b"".join(part["body"] for part in parts)
    return [start, {"type": "http.response.body", "body": content, "more_body": False}]
