"""Connections: redis-py makes them, with settings that fail fast.

redis-py's own defaults cost seconds on a dead port and a minute on a hung server. The deadline of
every turn belongs to `turns`, so the sockets have none, and one immediate retry covers a pooled
connection that the server has closed meanwhile.
"""

from typing import Any, cast
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError

from async_tiercache.errors import ConfigurationError

_SCHEMES = ("redis", "rediss", "unix")


def check_url(url: str) -> str:
    """Return `url` if a client can be made from it.

    Raises:
        ConfigurationError: The scheme is unknown, or the host is missing.
    """
    parts = urlsplit(url)
    if parts.scheme not in _SCHEMES:
        raise ConfigurationError(
            f"The URL scheme {parts.scheme!r} is not supported",
            hint="Use redis://host:6379/0, rediss://host:6380/0 or unix:///path/to/socket.",
        )
    if parts.scheme != "unix" and not parts.hostname:
        raise ConfigurationError("The Redis URL names no host", hint="Use redis://host:6379/0.")
    return url


def connect(url: str, *, connect_timeout: float) -> Redis:
    """Return a client for `url`; nothing is opened yet.

    Args:
        url: ``redis://``, ``rediss://`` or ``unix://``.
        connect_timeout: How long one connection attempt may take, in seconds.
    """
    settings: dict[str, Any] = {
        "decode_responses": False,
        "socket_timeout": None,
        "retry": Retry(NoBackoff(), 1),
        "retry_on_error": [RedisConnectionError],
    }
    if not url.startswith("unix:"):
        settings |= {"socket_connect_timeout": connect_timeout, "socket_keepalive": True}
    return cast("Redis", cast("Any", Redis).from_url(url, **settings))
