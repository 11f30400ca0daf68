"""An L2 in this process's memory, by fakeredis."""

from typing import TYPE_CHECKING, Any, cast

from async_tiercache.abc import Clock
from async_tiercache.errors import MissingExtraError

if TYPE_CHECKING:
    from redis.asyncio import Redis


class MemoryServer:
    """A Redis that lives in memory; each cache of a test gets a client of its own.

    Two caches over one server are as two processes over one Redis.

    Args:
        clock: What the server's TIME tells; this machine's by default. Keys expire by this
            machine's time in any case, but entries say themselves how long they are good.

    Raises:
        MissingExtraError: fakeredis is not installed.

    Example:
        >>> server = MemoryServer()
        >>> from async_tiercache import TierCache
        >>> cache = TierCache(namespace="test", client=server.client())
    """

    def __init__(self, clock: Clock | None = None) -> None:
        try:
            import fakeredis
            import lupa  # type: ignore[import-untyped]  # noqa: F401 - for the scripts
        except ImportError as error:
            raise MissingExtraError(
                "MemoryServer needs fakeredis with Lua",
                hint='pip install "async-tiercache[testing]"',
            ) from error
        self._fakeredis = fakeredis
        self._server = fakeredis.FakeServer(version=(7,))
        self._clock = clock

    @property
    def connected(self) -> bool:
        """Whether the server answers; set it to False to take it down."""
        return self._server.connected

    @connected.setter
    def connected(self, value: bool) -> None:
        self._server.connected = value

    def client(self) -> "Redis":
        """Return a new redis-py client of the server."""
        client: Any = self._fakeredis.FakeAsyncRedis(server=self._server)
        clock = self._clock
        if clock is not None:
            pool = client.connection_pool
            pool.connection_class = _with_time(pool.connection_class, clock)
        return cast("Redis", client)


def _with_time(connection: Any, clock: Clock) -> Any:
    """Return a connection class whose server tells the time of `clock`."""

    class Connection(connection):  # type: ignore[misc]
        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            """Ask for the clock's time instead of the server's."""
            told = [_tell(clock.wall()) if part == _TIME else part for part in command]
            await connection.send_packed_command(self, told, check_health)

    return Connection


_TIME = b"*1\r\n$4\r\nTIME\r\n"


def _tell(seconds: float) -> bytes:
    whole = int(seconds)
    parts = (str(whole), str(int((seconds - whole) * 1e6)))
    script = f"return {{'{parts[0]}', '{parts[1]}'}}"
    return f"*3\r\n$4\r\nEVAL\r\n${len(script)}\r\n{script}\r\n$1\r\n0\r\n".encode()
