"""An invalidation that Redis has not confirmed: nothing old here, repeated until it is."""

import asyncio
import logging

import pytest

from async_tiercache import Invalidated, TierChanged
from async_tiercache.testing import Recorder, settled
from tests.servers.conftest import OpenCache
from tests.servers.process import Server
from tests.servers.proxy import Proxy
from tests.servers.source import Source, name_of
from tests.servers.waiting import DEADLINE, eventually

pytestmark = pytest.mark.redis


async def test_an_invalidation_during_a_hang_is_queued_and_repeated(
    redis: Server, open_cache: OpenCache, events: Recorder, source: Source
) -> None:
    """Own reads go around the old value in Redis; others stop seeing it when Redis is told."""
    cache = await open_cache(redis.url, observers=[events])
    other = await open_cache(redis.url, l1=None)
    await source.read(cache, "k")
    await settled(cache)
    old = source.truth("k")

    redis.stop()
    source.change("k")
    report = await cache.invalidate(keys=["k"])
    assert report.l2 == "queued"
    for _ in range(5):
        await source.read(cache, "k")
    assert cache.statistics().pending == 1
    redis.cont()

    await eventually(lambda: cache.statistics().pending == 0, "Redis has been told")
    assert old not in await asyncio.gather(*(other.get("k", None) for _ in range(5)))
    await source.read(other, "k")
    await source.read(cache, "k")
    assert [event.l2 for event in events.of(Invalidated)] == ["queued", "done"]
    assert [event.up for event in events.of(TierChanged)] == [False, True]


async def test_own_reads_do_not_believe_redis_while_something_is_pending(
    redis: Server, proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """Redis answers reads again before it has been told: its old value is not taken."""
    cache = await open_cache(proxy.url, l1=None)
    await source.read(cache, "k")
    await source.read(cache, "bystander")
    await settled(cache)
    source.change("k")
    proxy.hold_replies()

    invalidating = asyncio.create_task(cache.invalidate(keys=["k"]))
    async with asyncio.timeout(DEADLINE):
        await proxy.held.wait()
    for _ in range(3):
        await source.read(cache, "k")
    proxy.release_replies()
    assert (await invalidating).l2 == "done"

    await source.read(cache, "k")
    await source.read(cache, "bystander")
    assert source.loads["bystander"] == 1


async def test_many_invalidations_of_an_outage_are_all_repeated(
    redis: Server, open_cache: OpenCache, source: Source
) -> None:
    """None is lost, none is left, and each key is loaded anew by others."""
    cache = await open_cache(redis.url)
    other = await open_cache(redis.url, l1=None)
    keys = [f"k{n}" for n in range(200)]
    await asyncio.gather(*(source.read(cache, key) for key in keys))
    await settled(cache)

    redis.stop()
    for key in keys:
        source.change(key)
    reports = await asyncio.gather(*(cache.invalidate(keys=[key]) for key in keys))
    assert {report.l2 for report in reports} == {"queued"}
    await asyncio.gather(*(source.read(cache, key) for key in keys))
    redis.cont()

    await eventually(lambda: cache.statistics().pending == 0, "Redis has been told")
    await asyncio.gather(*(source.read(other, key) for key in keys))
    await asyncio.gather(*(source.read(cache, key) for key in keys))


async def test_a_store_sent_before_a_hang_does_not_survive_the_invalidation(
    redis: Server, open_cache: OpenCache, source: Source
) -> None:
    """The commit that Redis runs only after the hang finds its lease gone, or is removed."""
    cache = await open_cache(redis.url)
    other = await open_cache(redis.url, l1=None)

    async def load() -> str:
        redis.stop()
        return source.truth("k")

    await cache.get_or_load("k", load)
    source.change("k")
    assert (await cache.invalidate(keys=["k"])).l2 == "queued"
    redis.cont()

    await eventually(lambda: cache.statistics().pending == 0, "Redis has been told")
    await settled(cache)
    await source.read(other, "k")
    await source.read(cache, "k")


async def test_a_set_during_a_hang_is_queued_and_leaves_nothing_old(
    redis: Server, open_cache: OpenCache, source: Source
) -> None:
    """`set` that Redis did not confirm is an invalidation that is repeated."""
    cache = await open_cache(redis.url)
    other = await open_cache(redis.url, l1=None)
    await source.read(cache, "k")
    await settled(cache)

    redis.stop()
    source.change("k")
    report = await cache.set("k", source.truth("k"))
    assert report.l2 == "queued"
    await source.read(cache, "k")
    redis.cont()

    await eventually(lambda: cache.statistics().pending == 0, "Redis has been told")
    await source.read(other, "k")
    await source.read(cache, "k")


async def test_a_close_tells_redis_what_is_pending(
    redis: Server, proxy: Proxy, open_cache: OpenCache, source: Source
) -> None:
    """Redis is back, the recovery has not run yet: closing runs it."""
    cache = await open_cache(proxy.url)
    await source.read(cache, "k")
    await settled(cache)
    proxy.swallowing = True
    assert (await cache.invalidate(keys=["k"])).l2 == "queued"
    proxy.swallowing = False
    assert redis.entries() == {name_of("k")}

    # The breaker may still be open: what matters is the last word to Redis, not the reads.
    await cache.aclose()

    assert redis.entries() == set()


async def test_a_close_during_an_outage_warns_of_what_is_pending(
    redis: Server, open_cache: OpenCache, source: Source, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody will repeat it, so the log says so; closing neither hangs nor raises."""
    cache = await open_cache(redis.url)
    await source.read(cache, "k")
    await settled(cache)
    redis.kill()
    assert (await cache.invalidate(keys=["k"])).l2 == "queued"

    with caplog.at_level(logging.WARNING, "async_tiercache"):
        async with asyncio.timeout(DEADLINE):
            await cache.aclose()

    assert "1 keys that L2 has yet to remove" in caplog.text


async def test_a_question_mark_in_a_pattern_is_one_character(
    redis: Server, open_cache: OpenCache
) -> None:
    """To Redis it is one byte, of which other letters than those of English have more."""
    cache = await open_cache(redis.url)
    keys = ["user:x", "user:é", "user:😀", "user:", "user:xy", "user:éx"]
    for key in keys:
        await cache.set(key, key)

    report = await cache.invalidate_pattern("user:?")

    assert report.l2 == "done"
    assert list(await cache.get_many(keys)) == ["user:", "user:xy", "user:éx"]
