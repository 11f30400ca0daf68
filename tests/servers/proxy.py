"""A TCP proxy between a cache and its server: counts turns, and breaks the wire in every way."""

import asyncio
import contextlib
import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Self

import hiredis

from async_tiercache.backends.redis import evidence, scripts

_HANDSHAKE = {b"HELLO", b"AUTH", b"CLIENT", b"SELECT"}
_OF_THE_BUS = {b"INFO", b"PERSIST", b"PING", b"SUBSCRIBE", b"UNSUBSCRIBE", b"last"}
_CHUNK = 2**16
_SCRIPTS = {
    hashlib.sha1(text.encode()).hexdigest().encode(): name.encode()
    for module in (scripts, evidence)
    for name, text in vars(module).items()
    if name.isupper() and isinstance(text, str)
}


@dataclass(eq=False)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    requests: Any = field(default_factory=hiredis.Reader)
    replied: bool = True
    handshake: bool = True


class Proxy:
    """Forwards connections to a server on loopback.

    Attributes:
        port: Where to connect to.
        turns: What was asked, one list of command names for each request that was answered before
            the next; handshakes and what the bus asks are left out.
        bus: How often the bus has asked what.
        opened: How many connections were accepted.
        delay: How long each chunk of a reply is held back, in seconds.
        swallowing: Whether requests vanish, as on a half-open connection.
        deaf: Whether only those that begin to listen do.
        cut_after: After how many bytes of a reply its connection is cut; `None` for never.
        instead: What is sent in place of the server's replies, handshakes excepted.
        instead_of_handshakes: The same for handshakes.
    """

    def __init__(self, port: int) -> None:
        self.port = 0
        self.turns: list[list[str]] = []
        self.bus: Counter[str] = Counter()
        self.opened = 0
        self.delay = 0.0
        self.swallowing = False
        self.deaf = False
        self.cut_after: int | None = None
        self.instead: bytes | None = None
        self.instead_of_handshakes: bytes | None = None
        self._upstream = port
        self._closing = False
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._through = asyncio.Event()
        self._through.set()
        self.held = asyncio.Event()

    @property
    def url(self) -> str:
        """The URL of database 0."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def alive(self) -> int:
        """How many connections there are."""
        return len(self._links)

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        assert self._server is not None
        self._server.close()
        self._closing = True
        self._through.set()
        self.cut()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    def cut(self) -> None:
        """Abort every connection."""
        for link in list(self._links):
            link.client.transport.abort()
            link.server.transport.abort()

    def hold_replies(self) -> None:
        """Hold replies back; `held` is set once there is one."""
        self.held.clear()
        self._through.clear()

    def release_replies(self) -> None:
        """Let the held replies through."""
        self._through.set()

    def lead_to(self, port: int) -> None:
        """Lead new connections to another server, as a name that is resolved anew does."""
        self._upstream = port

    def count(self, name: str) -> int:
        """Return how often a command was asked."""
        return sum(turn.count(name) for turn in self.turns)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.opened += 1
        try:
            replies, server = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server)
        self._links.add(link)
        if self._closing:
            self.cut()
        pumps = [
            asyncio.ensure_future(self._ask(reader, link)),
            asyncio.ensure_future(self._answer(replies, link)),
        ]
        try:
            await asyncio.wait(pumps, return_when="FIRST_COMPLETED")
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
            self._links.discard(link)
            for end in (writer, server):
                end.close()
                with contextlib.suppress(OSError):
                    await end.wait_closed()

    async def _ask(self, reader: asyncio.StreamReader, link: _Link) -> None:
        while chunk := await reader.read(_CHUNK):
            link.handshake = self._note(link, chunk)
            if self.swallowing or (self.deaf and b"\r\nSUBSCRIBE\r\n" in chunk):
                continue
            instead = self.instead_of_handshakes if link.handshake else self.instead
            if instead is None:
                link.server.write(chunk)
                await link.server.drain()
            else:
                link.replied = True
                link.client.write(instead)

    def _note(self, link: _Link, chunk: bytes) -> bool:
        """Count a request; return whether it belongs to the handshake."""
        link.requests.feed(chunk)
        names: list[bytes] = []
        while (command := link.requests.gets()) is not False:
            names.append(_name(command))
        if names and all(name in _HANDSHAKE for name in names):
            link.replied = True
            return True
        self.bus.update(name.decode() for name in names if name in _OF_THE_BUS)
        names = [name for name in names if name not in _OF_THE_BUS]
        if not names:
            return False
        if link.replied or not self.turns:
            self.turns.append([])
            link.replied = False
        self.turns[-1].extend(name.decode() for name in names)
        return False

    async def _answer(self, replies: asyncio.StreamReader, link: _Link) -> None:
        while chunk := await replies.read(_CHUNK):
            if self.delay:
                await asyncio.sleep(self.delay)
            if not self._through.is_set():
                self.held.set()
                await self._through.wait()
            if self.swallowing:
                continue
            link.replied = True
            if self.cut_after is not None and not link.handshake:
                link.client.write(chunk[: self.cut_after])
                await link.client.drain()
                return
            link.client.write(chunk)
            await link.client.drain()


def _name(command: list[bytes]) -> bytes:
    """Return a command's verb, or its script's name."""
    if command[0] == b"SET" and command[1].endswith(b"}:last"):
        return b"last"
    return _SCRIPTS[command[1]] if command[0] == b"EVALSHA" else command[0]
