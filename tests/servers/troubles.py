"""What keeps a server from serving, and is put right again."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from typing import Any, Protocol

import pytest
import redis as redis_py
from redis.exceptions import BusyLoadingError

from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.servers.waiting import eventually


class Trouble(Protocol):
    """Something that keeps a server from serving."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        """Let it happen."""

    async def end(self, server: Server, proxy: Proxy) -> None:
        """Put it right."""


class Refused(Trouble):
    """Nobody listens on the port."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        server.kill()

    async def end(self, server: Server, proxy: Proxy) -> None:
        server.start()


class Hung(Trouble):
    """The process is stopped; the kernel still takes connections."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        server.stop()

    async def end(self, server: Server, proxy: Proxy) -> None:
        server.cont()


class HalfOpen(Trouble):
    """Requests vanish, connections stand."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        proxy.swallowing = True

    async def end(self, server: Server, proxy: Proxy) -> None:
        proxy.swallowing = False


class CutMidReply(Trouble):
    """Each reply is cut after its first byte."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        proxy.cut_after = 1

    async def end(self, server: Server, proxy: Proxy) -> None:
        proxy.cut_after = None


class Replica(Trouble):
    """A failover made it a replica: it refuses writes."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        server.command("REPLICAOF", "127.0.0.1", "1")

    async def end(self, server: Server, proxy: Proxy) -> None:
        server.command("REPLICAOF", "NO", "ONE")


class MasterDown(Replica):
    """A replica without its master, which refuses reads too."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        server.configure(replica_serve_stale_data="no")
        await super().begin(server, proxy)


class Full(Trouble):
    """Every connection slot is taken: our connections are closed and no new one is accepted."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        self._holder: Any = redis_py.Redis(port=server.port, single_connection_client=True)
        self._holder.config_set("maxclients", 1)
        self._holder.client_kill_filter(_type="normal", skipme=True)

    async def end(self, server: Server, proxy: Proxy) -> None:
        self._holder.config_set("maxclients", 100)
        self._holder.close()


class Locked(Trouble):
    """It wants a password that we do not have."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        server.configure(requirepass="secret")
        server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes", password="secret")

    async def end(self, server: Server, proxy: Proxy) -> None:
        server.command("CONFIG", "SET", "requirepass", "", password="secret")


class Busy(Trouble):
    """A script of somebody else does not end."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        server.configure(busy_reply_threshold=1)
        # Nobody reads the reply: the connection stays open until the script is killed.
        _, self._wire = await asyncio.open_connection("127.0.0.1", server.port)
        self._wire.write(b'EVAL "while true do end" 0\r\n')
        await eventually(lambda: _is_busy(server), "the server is busy")

    async def end(self, server: Server, proxy: Proxy) -> None:
        server.command("SCRIPT", "KILL")
        await eventually(lambda: not _is_busy(server), "the script has ended")
        self._wire.close()
        await self._wire.wait_closed()


class Loading(Trouble):
    """It reads its dump, for as long as the test wants."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        server.command("DEBUG", "POPULATE", "20000")
        server.command("SAVE")
        server.restart(
            "--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"
        )

    async def end(self, server: Server, proxy: Proxy) -> None:
        server.configure(key_load_delay=0)
        await eventually(lambda: not _is_loading(server), "the server has loaded its dump")
        server.command("FLUSHALL")


class OutOfMemory(Trouble):
    """It refuses whatever would take memory, and answers reads."""

    async def begin(self, server: Server, proxy: Proxy) -> None:
        server.configure(maxmemory=1, maxmemory_policy="noeviction")

    async def end(self, server: Server, proxy: Proxy) -> None:
        server.configure(maxmemory=0)


def _is_busy(server: Server) -> bool:
    try:
        server.command("GET", "x")
    except redis_py.ResponseError as error:
        return "BUSY" in str(error)
    return False


def _is_loading(server: Server) -> bool:
    try:
        server.command("GET", "x")
    except BusyLoadingError:
        return True
    return False


TROUBLES = [
    pytest.param(kind, id=kind.__name__.lower())
    for kind in (
        Refused, Hung, HalfOpen, CutMidReply, Replica, MasterDown, Full, Locked, Busy, Loading,
    )
]  # fmt: skip
"""Those that are as good as no server."""


@contextlib.asynccontextmanager
async def during(trouble: Trouble, server: Server, proxy: Proxy) -> AsyncGenerator[None]:
    """Have trouble inside of the block."""
    await trouble.begin(server, proxy)
    try:
        yield
    finally:
        await trouble.end(server, proxy)
