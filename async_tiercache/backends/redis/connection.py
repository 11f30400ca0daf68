"""Connections: redis-py makes them, with settings that fail fast.

redis-py's own defaults cost seconds on a dead port and a minute on a hung server, and its pool,
retry wrapper and timeouts are most of the cost of a command. So it makes, secures and parses the
connections, and a few of them are driven here: a turn is one write and its replies. The deadline of
a turn belongs to `turns`.
"""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast
from urllib.parse import urlsplit

import hiredis
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from async_tiercache.errors import ConfigurationError

_SCHEMES = ("redis", "rediss", "unix")


def check_client(client: Any) -> None:
    """Refuse a borrowed client that cannot carry our commands.

    Raises:
        ConfigurationError: It is not redis-py's asyncio client of one server, or decodes replies.
    """
    pool: Any = getattr(client, "connection_pool", None)
    connect = getattr(getattr(pool, "connection_class", None), "connect", None)
    if pool is None or (connect is not None and not inspect.iscoroutinefunction(connect)):
        raise ConfigurationError(
            f"client= is a {type(client).__module__}.{type(client).__qualname__}",
            hint="Pass a redis.asyncio.Redis; Cluster clients are not in this release.",
        )
    if getattr(pool, "connection_kwargs", {}).get("decode_responses"):
        raise ConfigurationError(
            "client= decodes responses, and stored values are bytes",
            hint="Make the client with decode_responses=False, its default.",
        )


def check_url(url: str) -> str:
    """Return `url` if a client can be made from it.

    Raises:
        ConfigurationError: The scheme is unknown, or the host is missing.
    """
    parts = urlsplit(url if isinstance(url, str) else "")
    if parts.scheme not in _SCHEMES:
        # The URL itself may hold a password.
        raise ConfigurationError(
            f"The URL scheme {parts.scheme!r} is not supported",
            hint="Use redis://host:6379/0, rediss://host:6380/0 or unix:///path/to/socket.",
        )
    if parts.scheme != "unix" and not parts.hostname:
        raise ConfigurationError("The Redis URL names no host", hint="Use redis://host:6379/0.")
    return url


def connect(url: str) -> Redis:
    """Return a client for ``redis://``, ``rediss://`` or ``unix://``; nothing is opened yet."""
    settings: dict[str, Any] = {
        "decode_responses": False,
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 0),
    }
    if not url.startswith("unix:"):
        # Connecting is part of a turn, whose limit knows a busy loop from a dead server.
        settings |= {"socket_connect_timeout": None, "socket_keepalive": True}
    return cast("Redis", cast("Any", Redis).from_url(url, **settings))


Command: TypeAlias = tuple[Any, ...]

_pack = cast("Any", hiredis).pack_command


class Wires:
    """A few connections of a client, each carrying one turn at a time.

    Args:
        client: The client whose settings they have.
        told_time: Is told the server's time, in seconds since the epoch, on each new connection.
    """

    __slots__ = ("_idle", "_pool", "_told_time")

    def __init__(self, client: Redis, *, told_time: Callable[[float], None]) -> None:
        self._pool: Any = client.connection_pool
        self._idle: list[Any] = []
        self._told_time = told_time

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and return their replies; an error reply is one of them.

        A wire that the server has closed since its last turn is connected again, once: every
        command that we send may be repeated.

        Raises:
            RedisError: The server is out of reach or hung up.
        """
        wire = self._idle.pop() if self._idle else self._pool.make_connection()
        may_be_closed = wire.is_connected
        try:
            try:
                replies = await self._turn(wire, commands)
            except (RedisConnectionError, OSError):
                if not may_be_closed:
                    raise
                await wire.disconnect(nowait=True)
                replies = await self._turn(wire, commands)
        except BaseException:
            # Replies that are still to come must not be read as those of the next turn.
            await wire.disconnect(nowait=True)
            raise
        self._idle.append(wire)
        return replies

    async def aclose(self) -> None:
        """Close the wires that carry nothing."""
        while self._idle:
            await self._idle.pop().disconnect()

    async def _turn(self, wire: Any, commands: Sequence[Command]) -> list[Any]:
        if wire.is_connected:
            return await _send_all(wire, commands)
        await wire.connect()
        # Whatever server this is by now: the times in headers are its own.
        time, *replies = await _send_all(wire, [("TIME",), *commands])
        if not isinstance(time, Exception):
            self._told_time(int(time[0]) + int(time[1]) / 1e6)
        return replies


async def _send_all(wire: Any, commands: Sequence[Command]) -> list[Any]:
    packed: list[bytes] = [_pack(command) for command in commands]
    await wire.send_packed_command(packed, check_health=False)
    replies: list[Any] = []
    for _ in commands:
        try:
            replies.append(await wire.read_response())
        except ResponseError as error:
            replies.append(error)
    return replies
