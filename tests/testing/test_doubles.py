"""Recorder, MemoryServer, settled and the pytest fixture that users switch on."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from async_tiercache import Advice, Invalidated, TierCache
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

    for event in (Advice("a"), Invalidated(("k",), "off"), Advice("b")):
        recorder(event)

    assert len(recorder.events) == 3
    assert recorder.of(Advice) == [Advice("a"), Advice("b")]


async def test_a_recorder_waits_for_events() -> None:
    """Those that have come already count."""
    recorder = Recorder()
    recorder(Advice("a"))
    waiting = asyncio.create_task(recorder.wait_for(Advice, count=3))
    await ticks()

    recorder(Advice("b"))
    recorder(Invalidated(("k",), "off"))
    await ticks()
    assert not waiting.done()
    recorder(Advice("c"))

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


async def test_settled_waits_for_what_is_on_its_way(cache: TierCache, other: TierCache) -> None:
    """A value is given to its callers before it is stored."""
    await function_of(cache, Source())(1)

    await soon(settled(cache))

    assert await other.get("value:1") == "v1"


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
