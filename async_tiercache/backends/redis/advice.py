"""Advice: settings of a server, or of the way to it, that do not suit a cache."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from redis.asyncio.connection import SSLConnection

Advice: TypeAlias = tuple[str, str]

_PREFER: Final = "Set `maxmemory-policy allkeys-lru` or `allkeys-lfu`"

_POLICIES: Final[dict[str, Advice]] = {
    "noeviction": (
        "redis-refuses-when-full",
        (
            "`maxmemory-policy` is `noeviction`: once `maxmemory` is reached nothing more is "
            f"stored and every process loads for itself. {_PREFER}."
        ),
    ),
    "volatile-ttl": (
        "redis-evicts-leases",
        (
            "`maxmemory-policy` is `volatile-ttl`: what expires soonest goes first, and those are "
            "the leases of loads in progress, so a full server stores hardly anything. "
            f"{_PREFER}, or `volatile-lru` if the server also holds what must stay."
        ),
    ),
    "allkeys-random": (
        "redis-evicts-at-random",
        (
            "`maxmemory-policy` is `allkeys-random`: what is read most goes as soon as what nobody "
            f"reads. {_PREFER}."
        ),
    ),
    "volatile-random": (
        "redis-evicts-at-random",
        (
            "`maxmemory-policy` is `volatile-random`: what is read most goes as soon as what "
            f"nobody reads. {_PREFER}, or `volatile-lru` if the server also holds what must stay."
        ),
    ),
}


@dataclass(frozen=True, slots=True)
class Way:
    """How a server is reached.

    Attributes:
        host: Its name or address; empty for a socket of this machine.
        secured: Whether by TLS.
        authenticated: Whether with a password or another secret.
    """

    host: str
    secured: bool
    authenticated: bool


def way_of(connection: Any) -> Way:
    """Return how a connection of redis-py, open or not, reaches its server."""
    secrets = ("password", "credential_provider")
    return Way(
        host=getattr(connection, "host", None) or "",
        secured=isinstance(connection, SSLConnection),
        authenticated=any(getattr(connection, name, None) for name in secrets),
    )


def about_way(way: Way) -> Iterator[Advice]:
    """Yield what to say about how a server is reached."""
    if not way.host or _is_loopback(way.host):
        return
    if not way.secured:
        yield (
            "redis-without-tls",
            (
                f"{way.host} is reached without TLS: who is on the way can read and change what is "
                "cached. Use rediss://, or silence this where the network itself is encrypted."
            ),
        )
    if not way.authenticated:
        yield (
            "redis-without-password",
            (
                f"{way.host} asks for no password: who reaches it can change what is served. Set "
                "`requirepass` or a user by `ACL SETUSER`, and put it into the URL."
            ),
        )


def about_settings(settings: Mapping[str, str]) -> Iterator[Advice]:
    """Yield what to say about the settings of a server, as CONFIG GET tells them."""
    if settings.get("maxmemory") == "0":
        yield (
            "redis-memory-unbounded",
            (
                "`maxmemory` is 0: what is cached may take all memory of the machine. Set it, and "
                "`maxmemory-policy allkeys-lru` or `allkeys-lfu`."
            ),
        )
    elif "maxmemory" in settings:
        advice = _POLICIES.get(settings.get("maxmemory-policy", ""))
        if advice is not None:
            yield advice


def settings_of(reply: Any) -> dict[str, str]:
    """Return the settings in a reply to CONFIG GET, of RESP2 or RESP3; none for an error."""
    pairs: Iterable[tuple[Any, Any]] = ()
    if hasattr(reply, "items"):
        pairs = reply.items()
    elif hasattr(reply, "__getitem__"):
        pairs = zip(reply[::2], reply[1::2], strict=False)
    return {_text(name): _text(value) for name, value in pairs}


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
