"""Clients: redis-py's, made from a URL with settings that fail fast, or borrowed and checked.

redis-py's own defaults cost seconds on a dead port and a minute on a hung server. Only the settings
of a client are used: its connections are driven by `wires`, and a Cluster's map is kept by
`cluster`. Whatever a URL cannot say can be said by a client of the caller's own.
"""

import inspect
from typing import Any, Final, TypeAlias, cast
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

from redis.asyncio import Redis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.connection import parse_url
from redis.exceptions import RedisClusterException, RedisError

from async_tiercache.backends.redis.connections import no_retry
from async_tiercache.backends.redis.sentinel import VotingSentinel
from async_tiercache.backends.redis.wire import transport_of
from async_tiercache.errors import ConfigurationError

Client: TypeAlias = Redis | RedisCluster

_SCHEMES: Final = (
    "redis",
    "rediss",
    "unix",
    "redis+sentinel",
    "rediss+sentinel",
    "redis+cluster",
    "rediss+cluster",
)
_FORMS: Final = (
    "Use redis://host:6379/0, rediss://host:6380/0 (TLS), unix:///path/to/socket, "
    "redis+sentinel://host:26379,host:26379/service/0 or redis+cluster://host:6379,host:6379; "
    "rediss+sentinel:// and rediss+cluster:// are those with TLS."
)
_ESCAPES: Final = "In a password, write /, ?, #, @ and : as %2F, %3F, %23, %40 and %3A."

# What is no text, as parameters are; and what would let replies be text, as none may be.
_NOT_FOR_URLS: Final = frozenset(
    {"credential_provider", "decode_responses", "redis_connect_func", "retry", "retry_on_error"}
)


def check_client(client: Any) -> None:
    """Refuse a borrowed client that cannot carry our commands.

    Raises:
        ConfigurationError: It is not redis-py's asyncio client of a server or a Cluster, decodes
            replies, or reads from replicas.
    """
    pool: Any = getattr(client, "connection_pool", None)
    connect = getattr(getattr(pool, "connection_class", None), "connect", None)
    blocking = connect is not None and not inspect.iscoroutinefunction(connect)
    if not isinstance(client, RedisCluster) and (pool is None or blocking):
        raise ConfigurationError(
            f"client= is a {type(client).__module__}.{type(client).__qualname__}",
            hint="Pass a redis.asyncio.Redis, one of Sentinel.master_for() too, "
            "or a redis.asyncio.RedisCluster.",
        )
    if getattr(pool, "is_master", True) is False:
        raise ConfigurationError(
            "client= reads from replicas, which may hold what was invalidated",
            hint="Pass Sentinel.master_for().",
        )
    settings = client if isinstance(client, RedisCluster) else pool
    if getattr(settings, "connection_kwargs", {}).get("decode_responses"):
        raise ConfigurationError(
            "client= decodes responses, and stored values are bytes",
            hint="Make the client with decode_responses=False, its default.",
        )


def check_url(url: str) -> str:
    """Return `url` if a client and its connections can be made from it; nothing is opened.

    Raises:
        ConfigurationError: The scheme or a parameter is unknown, or something is missing.
    """
    scheme = str(url).partition("://")[0].lower()
    if not isinstance(url, str) or scheme not in _SCHEMES:
        # The URL itself may hold a password.
        shown = scheme if "@" not in scheme else "..."
        raise ConfigurationError(f"The URL scheme {shown!r} is not supported", hint=_FORMS)
    try:
        _check_parameters(urlsplit(url).query)
        client: Any = connect(url)
        if isinstance(client, RedisCluster):
            node = next(iter(cast("Any", client).nodes_manager.startup_nodes.values()))
            node.connection_class(**node.connection_kwargs)
        else:
            client.connection_pool.make_connection()
    except ConfigurationError:
        raise
    except (
        AttributeError, TypeError, ValueError, OSError, RedisError, RedisClusterException,
    ) as error:  # fmt: skip
        if str(error).startswith("Port "):
            # What stands for a port may be the half of a password.
            raise ConfigurationError(
                "The port in the Redis URL is no number from 0 to 65535", hint=_ESCAPES
            ) from None
        raise ConfigurationError(
            f"The Redis URL cannot be used: {error}",
            hint="Its parameters are those of redis-py's connections, such as ssl_ca_certs, "
            "ssl_certfile, protocol or max_connections.",
        ) from error
    return url


def connect(url: str) -> Client:
    """Return the client of a URL; nothing is opened yet.

    Raises:
        ConfigurationError: The URL lacks something.
        Exception: What redis-py raises for parameters that it does not know.
    """
    parts = urlsplit(url)
    if parts.scheme.endswith("+sentinel"):
        return _sentinel(parts)
    if parts.scheme.endswith("+cluster"):
        return _cluster(parts)
    settings: dict[str, Any] = {"decode_responses": False} | _fast()
    if parts.scheme == "unix":
        settings.pop("socket_keepalive")
        settings.pop("socket_connect_timeout")
        if not parts.path:
            raise ConfigurationError("The Redis URL names no socket", hint=_FORMS)
    elif not parts.hostname:
        raise _no_host()
    else:
        _database(parts.path)  # redis-py takes 0 for what is no number
    if parts.scheme == "rediss":
        settings["ssl_check_hostname"] = True
    return cast("Redis", cast("Any", Redis).from_url(url, **settings))


async def close(client: Client) -> None:
    """Close a client that `connect` has made."""
    if isinstance(client, RedisCluster):
        return  # It has opened nothing.
    sentinel: Any = getattr(client.connection_pool, "sentinel_manager", None)
    await client.aclose()
    for each in () if sentinel is None else sentinel.sentinels:
        pool = each.connection_pool
        for connection in (*pool._available_connections, *pool._in_use_connections):  # noqa: SLF001
            transport = transport_of(connection)
            if transport is not None:
                # Over TLS a Sentinel that hangs would be waited for.
                transport.abort()
        await each.aclose()


def _sentinel(parts: SplitResult) -> Redis:
    """Return the client of the master that Sentinels name."""
    hosts, settings = _hosts(parts, 26379), _settings(parts)
    service, _, database = unquote(parts.path).strip("/").partition("/")
    if not service:
        raise ConfigurationError("The Redis URL names no service of the Sentinels", hint=_FORMS)
    # As in the URL of a server, the parameter counts where both are given.
    number = settings.pop("db", _database(database))
    # Sentinels have users of their own; else they are reached like the servers.
    login = ("username", "password")
    watchers = {name: value for name, value in settings.items() if name not in login}
    # Older versions of redis-py cannot read what a Sentinel says in RESP3.
    watchers["protocol"] = 2
    watchers.pop("max_connections", None)
    for name in login:
        own = settings.pop(f"sentinel_{name}", None)
        watchers.pop(f"sentinel_{name}", None)
        if own is not None:
            watchers[name] = own
    sentinel: Any = cast("Any", VotingSentinel)(hosts, sentinel_kwargs=watchers)
    master = sentinel.master_for(service, **settings, db=number)
    return cast("Redis", master)


def _cluster(parts: SplitResult) -> RedisCluster:
    """Return a client that holds what reaching the nodes of a Cluster takes."""
    settings = _settings(parts)
    if parts.path.strip("/") not in {"", "0"} or settings.pop("db", 0):
        raise ConfigurationError("A Cluster has database 0 only", hint=_FORMS)
    nodes = [ClusterNode(host, port) for host, port in _hosts(parts, 6379)]
    cluster = cast("Any", RedisCluster)(startup_nodes=nodes, **settings)
    return cast("RedisCluster", cluster)


def _check_parameters(query: str) -> None:
    refused = sorted(_NOT_FOR_URLS & parse_qs(query).keys())
    if refused:
        raise ConfigurationError(
            f"{refused[0]!r} cannot stand in a Redis URL",
            hint="Stored values are bytes, so responses are never decoded; what is no text can be "
            "said by a client of your own: pass client=.",
        )


def _settings(parts: SplitResult) -> dict[str, Any]:
    """Return what a URL of several hosts says about each connection, by redis-py's rules."""
    scheme = parts.scheme.partition("+")[0]
    login, at, _ = parts.netloc.rpartition("@")
    given: dict[str, Any] = dict(parse_url(f"{scheme}://{login}{at}host/?{parts.query}"))
    for name in ("host", "connection_class"):
        given.pop(name, None)
    secure = {"ssl": True, "ssl_check_hostname": True} if scheme == "rediss" else {}
    return _fast() | secure | given


def _fast() -> dict[str, Any]:
    # Connecting is part of a turn, whose limit knows a busy loop from a dead server.
    return {
        "socket_timeout": None,
        "socket_connect_timeout": None,
        "socket_keepalive": True,
        "retry": no_retry(),
    }


def _hosts(parts: SplitResult, default_port: int) -> list[tuple[str, int]]:
    listed = parts.netloc.rpartition("@")[2]
    hosts = [urlsplit(f"//{each}") for each in listed.split(",") if each]
    if not hosts or not all(host.hostname for host in hosts):
        raise _no_host()
    return [(host.hostname or "", host.port or default_port) for host in hosts]


def _database(path: str) -> int:
    text = unquote(path).strip("/")
    if text and not text.isdecimal():
        # What stands for it may be the half of a password as well.
        raise ConfigurationError(
            "The database in the Redis URL is no number", hint=f"End it in /0. {_ESCAPES}"
        )
    return int(text or 0)


def _no_host() -> ConfigurationError:
    return ConfigurationError("The Redis URL names no host", hint=_FORMS)
