"""An L2 in this process's memory, by fakeredis."""

from typing import TYPE_CHECKING, Any, cast

from async_tiercache.errors import MissingExtraError

if TYPE_CHECKING:
    from redis.asyncio import Redis


class MemoryServer:
    """A Redis that lives in memory; each cache of a test gets a client of its own.

    Two caches over one server are as two processes over one Redis.

    Raises:
        MissingExtraError: fakeredis is not installed.

    Example:
        >>> server = MemoryServer()
        >>> from async_tiercache import TierCache
        >>> cache = TierCache(namespace="test", client=server.client())
    """

    def __init__(self) -> None:
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
        return cast("Redis", client)
