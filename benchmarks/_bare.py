"""The least that Python takes for the same answer: no types, no promises, no deadline, no errors.

What is below is between these and the floors; what a cache of ours takes more is for what it keeps.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis
import msgpack  # type: ignore[import-untyped]

_msgpack: Final[Any] = msgpack  # it has no types
_hiredis: Final[Any] = hiredis  # its types know no longer tuples


class _Wire(asyncio.Protocol):
    """Asks in one MGET what many want in one tick; a key that several want is asked once."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()
        self._wanted: dict[str, list[asyncio.Future[Any]]] = {}
        self._asked: list[dict[str, list[asyncio.Future[Any]]]] = []
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    async def get(self, key: str) -> Any:
        """Return the value of a key."""
        loop = asyncio.get_running_loop()
        waiting = loop.create_future()
        if not self._wanted:
            loop.call_soon(self._ask)
        self._wanted.setdefault(key, []).append(waiting)
        return await waiting

    def _ask(self) -> None:
        wanted, self._wanted = self._wanted, {}
        self._asked.append(wanted)
        self._transport.write(_hiredis.pack_command(("MGET", *wanted)))

    def data_received(self, data: bytes) -> None:
        """Give each who waits an object of its own."""
        self._reader.feed(data)
        while self._asked and isinstance(reply := self._reader.gets(), list):
            for raw, waiting in zip(reply, self._asked.pop(0).values(), strict=True):
                for each in waiting:
                    each.set_result(_msgpack.unpackb(raw))


@asynccontextmanager
async def bare(url: str) -> AsyncGenerator[_Wire]:
    """Connect to the Redis at a URL."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    loop = asyncio.get_running_loop()
    transport, wire = await loop.create_connection(_Wire, parts.hostname, parts.port)
    try:
        yield wire
    finally:
        transport.close()
