"""The bus as a remote has it: one line to one server, or one to each master of a Cluster."""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from redis.asyncio.sentinel import SentinelConnectionPool

from async_tiercache.abc import Clock, Invalidation, Listener
from async_tiercache.backends.redis.connections import connection_of
from async_tiercache.backends.redis.line import Line
from async_tiercache.backends.redis.names import Names


class Bus(Protocol):
    """Brings messages to a listener."""

    async def run(self) -> None:
        """Listen until cancelled."""
        ...

    async def follow(self, key: str) -> bool:
        """Let the end of a load be told; return whether that is so by now."""
        ...


class _Whole:
    """Hears all that there is on one line."""

    __slots__ = ("_listener", "gap", "prove", "replaced", "wake")

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self.prove = listener.prove
        self.gap = listener.gap
        self.replaced = listener.replaced
        self.wake = listener.wake

    def apply(self, record: Invalidation, message_id: bytes, /) -> None:
        """Hand a record on."""
        del message_id
        self._listener.apply(record)


def bus_of(
    pool: Any,
    listener: Listener,
    names: Names,
    *,
    clock: Clock,
    bound: float,
    told_run: Callable[[bytes], None],
    last: Callable[[bytes], Awaitable[bytes | None]],
) -> Bus:
    """Return the bus of one server, or of the one that Sentinels name.

    Args:
        pool: Makes connections of redis-py.
        listener: Who is told.
        names: The namespace's.
        clock: The clock of this process.
        bound: For how long a proof is good, in seconds.
        told_run: Is told the server's run id on each new connection.
        last: Returns the id of the last message, after putting the one given where there is none.
    """
    return Line(
        partial(connection_of, pool),
        names,
        _Whole(listener),
        clock=clock,
        bound=bound,
        told_run=told_run,
        last=last,
        vouch=_vouch_of(pool) if isinstance(pool, SentinelConnectionPool) else None,
    )


def _vouch_of(pool: Any) -> Callable[[Any], Awaitable[bool]]:
    """Return what asks the Sentinels whether a connection is to the master."""

    async def vouch(connection: Any) -> bool:
        host, port = await pool.sentinel_manager.discover_master(pool.service_name)
        return (str(host), int(port)) == (str(connection.host), int(connection.port))

    return vouch
