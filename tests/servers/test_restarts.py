"""Servers that come back with what they held long ago: nobody gets to see it."""

import asyncio
from pathlib import Path

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import settled
from tests.servers.conftest import OpenCache
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.servers.source import Source, believes, name_of
from tests.servers.waiting import eventually

pytestmark = pytest.mark.redis

KEYS = [f"k{number}" for number in range(20)]


async def fill(source: Source, cache: TierCache, *keys: str) -> None:
    """Let L2 hold keys."""
    await asyncio.gather(*(source.read(cache, key) for key in keys))
    await settled(cache)


async def overtake(source: Source, cache: TierCache, *keys: str) -> None:
    """Change keys and invalidate them."""
    for key in keys:
        source.change(key)
    assert (await cache.invalidate(keys=keys)).l2 == "done"


async def repeated(writer: TierCache, gaps: int) -> None:
    """Return once a writer that had so many gaps has noticed another one, and told all again."""
    await eventually(lambda: writer._core.bus.gaps > gaps, "the bus has noticed")
    await eventually(lambda: believes(writer), "the writer has repeated what it invalidated")


@pytest.mark.parametrize("protocol", [2, 3])
async def test_the_first_read_of_a_server_with_old_data_is_not_old(
    redis: Server, proxy: Proxy, open_cache: OpenCache, source: Source, protocol: int
) -> None:
    """The bus has not noticed; the connection that reads has. Nobody is left who would repeat."""
    cache = await open_cache(f"{proxy.url}?protocol={protocol}", l1=None)
    writer = await open_cache(redis.url)
    await fill(source, cache, *KEYS)
    redis.command("SAVE")
    await overtake(source, writer, *KEYS)
    await writer.aclose()

    proxy.deaf = True
    redis.restart()
    assert name_of("k0") in redis.entries()
    await asyncio.gather(*(source.read(cache, key) for key in KEYS))

    await eventually(lambda: believes(cache), "what was seen to be old is removed")
    await asyncio.gather(*(source.read(cache, key) for key in KEYS))


async def test_who_may_not_ask_for_the_run_id_reads_all_the_same(
    redis: Server, open_cache: OpenCache, source: Source
) -> None:
    """New connections do without."""
    redis.command("ACL", "SETUSER", "default", "-info")
    cache = await open_cache(redis.url, l1=None)
    await fill(source, cache, *KEYS)
    redis.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await fill(source, cache, *KEYS)

    assert set(source.loads.values()) == {1}


async def test_a_restart_from_an_old_dump_is_healed_by_live_writers(
    redis: Server, open_cache: OpenCache, source: Source, tmp_path: Path
) -> None:
    """They repeat what they invalidated; until they have, nobody believes the server."""
    reader, writer = await open_cache(redis.url, l1=None), await open_cache(redis.url)
    await fill(source, reader, *KEYS, "untouched")
    redis.command("SAVE")
    dump = (tmp_path / "dump.rdb").read_bytes()
    await overtake(source, writer, *KEYS)
    await fill(source, reader, *KEYS)

    gaps = writer._core.bus.gaps
    redis.kill()
    assert (tmp_path / "dump.rdb").read_bytes() == dump
    redis.start()
    old = {name: redis.command("GET", name) for name in map(name_of, KEYS)}
    assert all(old.values())
    await asyncio.gather(*(source.read(reader, key) for key in KEYS))
    await repeated(writer, gaps)
    await eventually(lambda: believes(reader), "the reader believes the server again")

    assert not any(redis.command("GET", name) == frame for name, frame in old.items())
    late = await open_cache(redis.url)
    await asyncio.gather(*(source.read(late, key) for key in KEYS))
    loads = source.loads["untouched"]
    await source.read(late, "untouched")
    assert source.loads["untouched"] == loads


async def test_a_restart_from_an_old_dump_forgets_no_tag(
    redis: Server, open_cache: OpenCache, source: Source
) -> None:
    """The states of tags are as old as the entries under them, and are renewed as well."""
    reader, writer = await open_cache(redis.url, l1=None), await open_cache(redis.url)
    load = source.loader("k")
    assert await reader.get_or_load("k", load, tags=["t"]) == source.truth("k")
    await settled(reader)
    redis.command("SAVE")
    source.change("k")
    assert (await writer.invalidate(tags=["t"])).l2 == "done"

    gaps = writer._core.bus.gaps
    redis.restart()
    assert await reader.get_or_load("k", load, tags=["t"]) == source.truth("k")
    await repeated(writer, gaps)

    late = await open_cache(redis.url)
    assert await late.get_or_load("k", load, tags=["t"]) == source.truth("k")
