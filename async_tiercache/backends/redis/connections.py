"""Connections: redis-py's, made by a pool of whatever client, without a patience of their own."""

from typing import Any, cast

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError


def no_retry() -> Retry:
    """Return what lets a connection try once."""
    return Retry(cast("Any", NoBackoff)(), 0)


def connection_of(pool: Any) -> Any:
    """Return a connection that is not open yet.

    A turn has a limit, and is sent once more on another connection. To try again inside of one,
    after a pause, would let a server that refuses connections cost the whole limit each time.
    """
    connection = pool.make_connection()
    connection.retry = no_retry()
    return connection


async def open_connection(connection: Any) -> None:
    """Open a connection of redis-py.

    Raises:
        RedisError: There is none, be it that nobody tells the password.
        OSError: The same, for reasons of the network.
    """
    try:
        await connection.connect()
    except (RedisError, OSError):
        raise
    except Exception as error:
        # Whatever a provider of credentials raises, the server is as good as down.
        raise RedisConnectionError(f"{type(error).__name__}: {error}") from error
