"""Connections: redis-py's, made by a pool of whatever client, without a patience of their own."""

from typing import Any, cast

from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff


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
