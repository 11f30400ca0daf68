"""A client's connection to a server of pages: HTTP/1.1, kept alive, no more than that takes.

A client library would cost more than the servers that are measured.
"""

import asyncio
import contextlib
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

TIER: Final = b"x-tier"
"""The field in which a server says who answered."""


class PageError(Exception):
    """A server answered with an error, or with what cannot be read."""


@dataclass(frozen=True, slots=True)
class Response:
    """What a server answered.

    Attributes:
        status: Its status.
        fields: Its fields, by name in lower case.
        body: Its content.
    """

    status: int
    fields: dict[bytes, bytes]
    body: bytes

    @property
    def version(self) -> int:
        """The version of the article that a page shows: its `ETag` begins with it."""
        return int(self.fields[b"etag"].strip(b'"').partition(b".")[0])


class Connection:
    """One connection at a time to a server, made when it is needed; a context manager.

    Args:
        port: Where the server listens on the loopback device.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Connect, if that is not done."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return self._streams

    async def get(self, path: str, etag: bytes | None = None) -> Response:
        """Ask for a page, with `If-None-Match` if its tag is known.

        Raises:
            PageError: The answer is an error, or none.
            OSError: The connection broke.
        """
        condition = b"" if etag is None else b"If-None-Match: %b\r\n" % etag
        return await self._asked(b"GET %b HTTP/1.1\r\n%b" % (path.encode(), condition), b"")

    async def post(self, path: str, body: bytes) -> Response:
        """Send JSON.

        Raises:
            PageError: The answer is an error, or none.
            OSError: The connection broke.
        """
        fields = b"Content-Type: application/json\r\nContent-Length: %d\r\n" % len(body)
        return await self._asked(b"POST %b HTTP/1.1\r\n%b" % (path.encode(), fields), body)

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            _, writer = self._streams
            self._streams = None
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _asked(self, head: bytes, body: bytes) -> Response:
        try:
            reader, writer = await self.open()
            # All servers are one host to the clients, so its pages are the same on each.
            writer.write(b"%bHost: shop.example\r\n\r\n%b" % (head, body))
            return await _response(reader)
        except BaseException:
            # What may still come is no answer to what is asked next.
            await self.close()
            raise


async def _response(reader: asyncio.StreamReader) -> Response:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        line, *lines = head[:-4].split(b"\r\n")
        status = int(line.split(b" ", 2)[1])
        fields: dict[bytes, bytes] = {}
        for each in lines:
            name, _, value = each.partition(b":")
            fields[name.lower()] = value.strip()
        length = 0 if status == 304 else int(fields[b"content-length"])
        body = await reader.readexactly(length) if length else b""
    except (asyncio.IncompleteReadError, LookupError, ValueError) as error:
        raise PageError("A server hung up, or said what cannot be read") from error
    if status >= 400:
        raise PageError(f"A server answered with {status}")
    return Response(status, fields, body)
