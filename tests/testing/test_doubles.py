"""Recorder, MemoryServer, settled and the pytest fixture that users switch on."""

import asyncio
import importlib
import sys
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from async_tiercache import Advice, Invalidated, TierCache
from async_tiercache.errors import MissingExtraError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from async_tiercache.testing.plugin import (
    tiercache,
    tiercache_clock,
    tiercache_events,
    tiercache_server,
)
from tests.core.source import Source, function_of, soon, ticks

__all__ = ["tiercache", "tiercache_clock", "tiercache_events", "tiercache_server"]


def test_a_recorder_keeps_events_in_order() -> None:
    """And picks those of one kind."""
    recorder = Recorder()

    for event in (Advice("name", "a"), Invalidated(("k",), "off"), Advice("name", "b")):
        recorder(event)

    assert len(recorder.events) == 3
    assert recorder.of(Advice) == [Advice("name", "a"), Advice("name", "b")]


async def test_a_recorder_waits_for_events() -> None:
    """Those that have come already count."""
    recorder = Recorder()
    recorder(Advice("name", "a"))
    waiting = asyncio.create_task(recorder.wait_for(Advice, count=3))
    await ticks()

    recorder(Advice("name", "b"))
    recorder(Invalidated(("k",), "off"))
    await ticks()
    assert not waiting.done()
    recorder(Advice("name", "c"))

    assert len(await soon(waiting)) == 3


async def test_two_clients_of_a_server_see_the_same(server: MemoryServer) -> None:
    """As two processes see one Redis."""
    first: Any = server.client()
    second: Any = server.client()

    await first.set("k", "v")

    assert await second.get("k") == b"v"


async def test_two_servers_are_apart() -> None:
    """No test sees another's keys."""
    first: Any = MemoryServer().client()
    second: Any = MemoryServer().client()
    await first.set("k", "v")

    assert await second.get("k") is None


async def test_a_server_can_be_taken_down(server: MemoryServer) -> None:
    """And is back with what it held."""
    client: Any = server.client()
    await client.set("k", "v")
    server.connected = False
    with pytest.raises(RedisConnectionError):
        await client.get("k")

    server.connected = True

    assert await client.get("k") == b"v"


async def test_keys_expire_by_the_clock_of_the_server(clock: FakeClock) -> None:
    """Leases and entries end when the test says so, and not before."""
    client: Any = MemoryServer(clock).client()
    await client.set("k", "v", px=20)
    await client.set("other", "v", px=10_000)
    assert await client.pttl("k") == 20

    await clock.advance(0.021)

    assert await client.get("k") is None
    assert await client.exists("k", "other") == 1


async def test_settled_waits_for_what_is_on_its_way(cache: TierCache, other: TierCache) -> None:
    """A value is given to its callers before it is stored."""
    await function_of(cache, Source())(1)

    await soon(settled(cache))

    assert await other.get("value:1") == "v1"


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("async_tiercache.testing.contracts", "hypothesis"),
        ("async_tiercache.testing.contracts", "pytest"),
        ("async_tiercache.testing.plugin", "pytest_asyncio"),
    ],
)
def test_contracts_and_fixtures_without_a_package_name_the_extra(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever imports them is told what to install."""
    for name in [name for name in sys.modules if name.startswith(module)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtraError, match=f"need {package}") as missing:
        importlib.import_module(module)

    assert "async-tiercache[testing]" in missing.value.hint


def test_a_server_without_fakeredis_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest of the kit works without it."""
    monkeypatch.setitem(sys.modules, "fakeredis", None)

    with pytest.raises(MissingExtraError, match="needs fakeredis") as missing:
        MemoryServer()

    assert "async-tiercache[testing]" in missing.value.hint


async def test_the_fixture_is_a_cache_over_its_parts(
    tiercache: TierCache,
    tiercache_server: MemoryServer,
    tiercache_clock: FakeClock,
    tiercache_events: Recorder,
) -> None:
    """Both tiers, the clock and the observer belong together."""
    value = function_of(tiercache, Source(), ttl=60, jitter=0)
    await value(1)
    await settled(tiercache)
    await tiercache_clock.advance(60)

    client: Any = tiercache_server.client()
    assert await client.exists("test:{value:1}") == 1
    assert value.peek(1) is not None
    assert tiercache_events.events
