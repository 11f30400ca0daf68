"""A client of HTTP/1.1 that has one connection, and reads no further than it is told to."""

import asyncio
import json
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import h11
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, StreamEnded, StreamReset
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, Message, Request

from tests.servers.waiting import DEADLINE

_HOST = "example.org"


@dataclass(frozen=True)
class Reply:
    """A response.

    Attributes:
        status: Its status code.
        fields: Its fields, by name in lower case.
        body: Its content, as far as it was read.
    """

    status: int
    fields: dict[str, str]
    body: bytes = b""

    @property
    def hit(self) -> bool:
        """Whether it was in the cache."""
        return "; hit" in self.fields.get("cache-status", "")

    def json(self) -> Any:
        """Return what its content says."""
        return json.loads(self.body)


class Wire:
    """One connection, which is kept from request to request.

    Args:
        port: The server's, on loopback.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._state = h11.Connection(h11.CLIENT)

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Go, with whatever is on its way."""
        self._writer.transport.abort()

    def begin(self, path: str, *fields: tuple[str, str], method: str = "GET") -> None:
        """Send a request."""
        if self._state.our_state is h11.DONE:
            self._state.start_next_cycle()
        headers = [("Host", _HOST), *fields]
        request = h11.Request(method=method, target=path, headers=headers)
        sent = (self._state.send(request) or b"", self._state.send(h11.EndOfMessage()) or b"")
        self._writer.write(b"".join(sent))

    async def start(self) -> Reply:
        """Return a response's beginning."""
        event = await self._next()
        assert isinstance(event, h11.Response), event
        fields = {name.decode(): value.decode() for name, value in event.headers}
        assert len(fields) == len(list(event.headers)), "a field came twice"
        return Reply(event.status_code, fields)

    async def part(self) -> bytes:
        """Return the next part of the content; nothing at its end."""
        event = await self._next()
        assert isinstance(event, h11.Data | h11.EndOfMessage), event
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def rest(self) -> bytes:
        """Return what is left of the content."""
        whole = b""
        while part := await self.part():
            whole += part
        return whole

    async def ask(self, path: str, *fields: tuple[str, str], method: str = "GET") -> Reply:
        """Return a whole response; the connection can be used again."""
        self.begin(path, *fields, method=method)
        start = await self.start()
        reply = Reply(start.status, start.fields, await self.rest())
        assert self._state.their_state is h11.DONE, "the server does not keep the connection"
        return reply

    async def echoed(self, path: str, text: str) -> str:
        """Return what a WebSocket sends back; the connection is of no other use after that."""
        socket = WSConnection(ConnectionType.CLIENT)
        self._writer.write(socket.send(Request(host=_HOST, target=path)))
        async with asyncio.timeout(DEADLINE):
            while True:
                socket.receive_data(await self._reader.read(4096))
                for event in socket.events():
                    if isinstance(event, AcceptConnection):
                        self._writer.write(socket.send(Message(data=text)))
                    else:
                        assert isinstance(event, Message), event
                        return str(event.data)

    async def _next(self) -> Any:
        async with asyncio.timeout(DEADLINE):
            while (event := self._state.next_event()) is h11.NEED_DATA:
                self._state.receive_data(await self._reader.read(4096))
        return event


async def body_over_http2(port: int, path: str, *fields: tuple[str, str]) -> bytes | None:
    """Return the content that answers a request of HTTP/2 as it is given; `None` if none does.

    Args:
        port: The server's, on loopback.
        path: What is asked for.
        fields: The other fields, `:authority` among them, checked by nobody but the server.
    """
    unchecked = H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False)
    state, body = H2Connection(unchecked), b""
    state.initiate_connection()
    sent = [(":method", "GET"), (":scheme", "http"), (":path", path), *fields]
    state.send_headers(1, sent, end_stream=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(DEADLINE):
            while True:
                writer.write(state.data_to_send())
                data = await reader.read(4096)
                for event in state.receive_data(data):
                    if isinstance(event, DataReceived):
                        body += event.data or b""
                    elif isinstance(event, StreamEnded):
                        return body
                    elif isinstance(event, StreamReset | ConnectionTerminated):
                        return None
                if not data:
                    return None
    finally:
        writer.transport.abort()
