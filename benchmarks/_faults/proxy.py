"""A TCP proxy that breaks the wire, a process: `python -m benchmarks._faults.proxy PORT SEED`."""

import asyncio
import contextlib
import sys
from dataclasses import dataclass
from random import Random

from benchmarks._child import serve

_CHUNK = 2**16


@dataclass(eq=False)
class _Link:
    """One connection through the proxy."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter

    def abort(self) -> None:
        self.client.transport.abort()
        self.server.transport.abort()


class Proxy:
    """Forwards connections to a port on loopback, in one of several bad ways.

    Attributes:
        mode: ``"pass"``; ``"delay"``: each chunk is held back for up to `seconds`, either way;
            ``"cut"``: now and then a reply ends in its middle, and the connection with it;
            ``"half-open"``: what is sent on connections that were there vanishes either way, and
            neither side is told; new ones are accepted and as dead.
    """

    def __init__(self, upstream: int, chance: Random) -> None:
        self.mode = "pass"
        self._seconds = 0.0
        self._upstream = upstream
        self._chance = chance
        self._links: set[_Link] = set()
        self._hurt = 0

    async def listen(self) -> int:
        """Accept connections, and return on which port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    async def set_mode(self, *, mode: str, seconds: float = 0.0) -> None:
        """Behave in another way from here on; what half-open connections swallowed is lost."""
        if self.mode == "half-open":
            await self.drop()
        self.mode, self._seconds = mode, seconds

    async def lead_to(self, *, port: int) -> None:
        """Lead new connections elsewhere, as a name does that is resolved anew."""
        self._upstream = port

    async def drop(self) -> None:
        """Reset every connection."""
        self._hurt += len(self._links)
        for link in list(self._links):
            link.abort()

    async def hurt(self) -> int:
        """Return how many chunks or connections were ill-treated."""
        return self._hurt

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            replies, server = await asyncio.open_connection("127.0.0.1", self._upstream)
        except OSError:
            writer.transport.abort()
            return
        link = _Link(writer, server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, server, link, replies=False))
                group.create_task(self._pump(replies, writer, link, replies=True))
        except* OSError:
            pass  # that is its business
        finally:
            self._links.discard(link)
            link.abort()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        link: _Link,
        *,
        replies: bool,
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            if self.mode == "half-open":
                self._hurt += 1
                continue
            if self.mode == "delay":
                self._hurt += 1
                await asyncio.sleep(self._chance.uniform(0, self._seconds))
            if self.mode == "cut" and replies and len(chunk) > 1 and self._chance.random() < 0.02:
                self._hurt += 1
                writer.write(chunk[: len(chunk) // 2])
                with contextlib.suppress(OSError):
                    await writer.drain()
                break
            writer.write(chunk)
            await writer.drain()
        link.abort()


async def _main(upstream: str, seed: str) -> None:
    proxy = Proxy(int(upstream), Random(seed))
    orders = ("listen", "set_mode", "lead_to", "drop", "hurt")
    await serve({name: getattr(proxy, name) for name in orders})


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
