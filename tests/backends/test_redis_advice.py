"""What is said about a server's settings and the way to it, and when nothing is."""

from typing import Any

import pytest
from redis.asyncio.connection import Connection, SSLConnection, UnixDomainSocketConnection

from async_tiercache.backends.redis.advice import (
    Way,
    about_settings,
    about_way,
    settings_of,
    way_of,
)

OPEN = Way("10.0.0.1", secured=False, authenticated=False)


@pytest.mark.parametrize(
    ("connection", "names"),
    [
        pytest.param(
            Connection(host="10.0.0.1"), {"redis-without-tls", "redis-without-password"}, id="open"
        ),
        pytest.param(
            Connection(host="redis"), {"redis-without-tls", "redis-without-password"}, id="name"
        ),
        pytest.param(
            Connection(host="10.0.0.1", password="p"), {"redis-without-tls"}, id="password"
        ),
        pytest.param(SSLConnection(host="10.0.0.1"), {"redis-without-password"}, id="tls"),
        pytest.param(SSLConnection(host="10.0.0.1", password="p"), set[str](), id="both"),
        pytest.param(Connection(host="127.0.0.1"), set[str](), id="loopback"),
        pytest.param(Connection(host="::1"), set[str](), id="loopback, IPv6"),
        pytest.param(Connection(host="localhost"), set[str](), id="localhost"),
        pytest.param(UnixDomainSocketConnection(path="/tmp/s"), set[str](), id="socket"),
    ],
)
def test_the_way_to_a_server(connection: Any, names: set[str]) -> None:
    """Only what leaves the machine is to be secured."""
    assert {name for name, _ in about_way(way_of(connection))} == names


@pytest.mark.parametrize(
    ("maxmemory", "policy", "name"),
    [
        ("0", "noeviction", "redis-memory-unbounded"),
        ("0", "allkeys-lru", "redis-memory-unbounded"),
        ("1000", "noeviction", "redis-refuses-when-full"),
        ("1000", "volatile-ttl", "redis-evicts-leases"),
        ("1000", "allkeys-random", "redis-evicts-at-random"),
        ("1000", "volatile-random", "redis-evicts-at-random"),
        ("1000", "allkeys-lru", None),
        ("1000", "allkeys-lfu", None),
        ("1000", "volatile-lru", None),
        ("1000", "volatile-lfu", None),
        ("1000", "a policy of a later server", None),
    ],
)
def test_the_settings_of_a_server(maxmemory: str, policy: str, name: str | None) -> None:
    """One piece of advice at most, which names the setting and what to do."""
    advice = list(about_settings({"maxmemory": maxmemory, "maxmemory-policy": policy}))

    assert [each for each, _ in advice] == ([] if name is None else [name])
    assert all("`maxmemory" in message and "et " in message for _, message in advice)


@pytest.mark.parametrize(
    ("reply", "settings"),
    [
        ([b"maxmemory", b"0"], {"maxmemory": "0"}),
        ({b"maxmemory": b"0"}, {"maxmemory": "0"}),
        ({"maxmemory": "0"}, {"maxmemory": "0"}),
        (ValueError("unknown command"), {}),
        ([], {}),
        (None, {}),
    ],
    ids=["resp2", "resp3", "decoded", "refused", "nothing", "nil"],
)
def test_a_reply_to_config_get(reply: Any, settings: dict[str, str]) -> None:
    """Whatever the protocol; an error says nothing."""
    assert settings_of(reply) == settings
