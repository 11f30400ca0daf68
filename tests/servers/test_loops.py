"""One event loop after another, forked children, and what a closed cache leaves: nothing."""

import asyncio
import gc
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from redis.asyncio import Connection, Redis

from async_tiercache import L1, TierCache
from async_tiercache.errors import CacheClosedError, UsageError
from async_tiercache.testing import settled
from tests.servers.conftest import OpenCache
from tests.servers.process import Server
from tests.servers.source import NAMESPACE, POLICY, Source
from tests.servers.waiting import DEADLINE, eventually

pytestmark = pytest.mark.redis


def test_a_cache_works_on_one_loop_after_another(redis: Server, source: Source) -> None:
    """As under test runners: each loop gets connections of its own."""
    cache = TierCache(redis.url, namespace=NAMESPACE, policy=POLICY, l1=None)

    async def use(key: str) -> None:
        async with asyncio.timeout(DEADLINE):
            await source.read(cache, key)
            await source.read(cache, "shared")
            await settled(cache)

    with warnings.catch_warnings():
        # The connections of a loop that ended without `aclose` are its owner's to complain of.
        warnings.simplefilter("ignore", ResourceWarning)
        for number in range(4):
            asyncio.run(use(f"k{number}"))
            gc.collect()
        asyncio.run(cache.aclose())
        gc.collect()

    assert set(source.loads.values()) == {1}
    left = [each for each in gc.get_objects() if type(each) is Connection]
    assert not [each for each in left if each.port == redis.port], f"{cache} is closed"


def test_a_loop_that_ends_with_reads_on_the_wire_does_not_harm_the_next(
    redis: Server, source: Source
) -> None:
    """Its flights and turns are forgotten with it."""
    cache = TierCache(redis.url, namespace=NAMESPACE, policy=POLICY, l1=None)

    async def leave() -> None:
        await source.read(cache, "warm")
        redis.stop()
        for number in range(20):
            reading = asyncio.ensure_future(source.read(cache, f"k{number}"))
            reading.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.sleep(0)

    async def use() -> None:
        async with asyncio.timeout(DEADLINE):
            for number in range(20):
                await source.read(cache, f"k{number}")
            await cache.aclose()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        asyncio.run(leave())
        redis.cont()
        gc.collect()
        asyncio.run(use())
        gc.collect()


@pytest.mark.parametrize("ticks", [0, 1, 2, 4, 8, 16])
def test_a_close_that_its_loop_cuts_short_leaves_no_connection(
    redis: Server, source: Source, ticks: int
) -> None:
    """A program whose task that closes is cancelled ends, and the close with it."""

    async def leave() -> None:
        cache = TierCache(redis.url, namespace=NAMESPACE, policy=POLICY)
        async with asyncio.timeout(DEADLINE):
            await cache.__aenter__()
            await source.read(cache, "k")
        closing = asyncio.ensure_future(cache.aclose())
        for _ in range(1 + ticks):
            await asyncio.sleep(0)
        closing.cancel()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        asyncio.run(leave())
        gc.collect()

    # What lets redis-py know that its connection has ended may be cancelled as well.
    messages = [str(each.message) for each in caught if each.category is ResourceWarning]
    assert [each for each in messages if "transport" in each or "socket" in each] == []


async def test_a_close_leaves_no_connection(
    redis: Server, open_cache: OpenCache, source: Source
) -> None:
    """However many there were, and whatever was on its way."""
    cache = await open_cache(redis.url)
    await asyncio.gather(*(source.read(cache, f"k{n}") for n in range(700)))
    assert redis.connections() > 0

    await cache.aclose()

    await eventually(lambda: redis.connections() == 0, "the server has no connection")
    with pytest.raises(CacheClosedError):
        await source.read(cache, "k0")


async def test_a_close_during_a_hang_leaves_no_connection(
    redis: Server, open_cache: OpenCache, source: Source
) -> None:
    """Turns that get no answer end within their limit, and so does the close."""
    cache = await open_cache(redis.url)
    await source.read(cache, "k")
    await settled(cache)
    redis.stop()
    reads = [asyncio.create_task(source.read(cache, f"hung {n}")) for n in range(10)]
    await asyncio.sleep(0)

    async with asyncio.timeout(DEADLINE):
        await cache.aclose()
        results = await asyncio.gather(*reads, return_exceptions=True)
    redis.cont()

    assert len(results) == 10
    await eventually(lambda: redis.connections() == 0, "the server has no connection")


async def test_a_borrowed_client_stays_open(redis: Server, source: Source) -> None:
    """Who brings a client closes it; ours are gone with the cache."""
    client: Any = Redis(port=redis.port)
    await client.ping()
    async with TierCache(namespace=NAMESPACE, client=client, policy=POLICY) as cache:
        await source.read(cache, "k")
        await settled(cache)

    await eventually(lambda: redis.connections() == 1, "only the client's own is left")
    assert await client.ping()
    await client.aclose()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
async def test_a_forked_child_cannot_use_the_cache_and_does_not_harm_it(
    redis: Server, open_cache: OpenCache, source: Source
) -> None:
    """The child gets a clear error, may have a cache of its own, and the parent's goes on."""
    cache = await open_cache(redis.url)
    await asyncio.gather(*(source.read(cache, f"k{n}") for n in range(20)))
    await settled(cache)

    child = os.fork()
    if child == 0:
        os._exit(_in_the_child(redis.url, cache))
    await eventually(lambda: _ended(child), "the child has ended")

    assert _CODES.pop(child) == 0
    fresh = await open_cache(redis.url, l1=None)
    before = source.loads.total()
    for number in range(20):
        await source.read(cache, f"k{number}")
        await source.read(fresh, f"k{number}")
    assert source.loads.total() == before
    assert (await cache.invalidate(keys=["k0"])).l2 == "done"


_CODES: dict[int, int] = {}


def _ended(child: int) -> bool:
    pid, status = os.waitpid(child, os.WNOHANG)
    if pid:
        _CODES[child] = os.waitstatus_to_exitcode(status)
    return pid != 0


def _in_the_child(url: str, cache: TierCache) -> int:
    """Return 0 if all is as it should be."""
    asyncio.events._set_running_loop(None)

    async def use() -> int:
        source = Source()
        try:
            await source.read(cache, "k0")
        except CacheClosedError:
            pass
        else:
            return 1
        async with TierCache(url, namespace="child", policy=POLICY, l1=L1()) as own:
            await source.read(own, "k0")
            await settled(own)
        gc.collect()
        return 0 if source.loads["k0"] == 1 else 2

    try:
        return asyncio.run(use())
    except BaseException:
        return 3


def test_a_second_running_loop_is_refused(redis: Server, source: Source) -> None:
    """Two threads with a loop each cannot share one cache."""
    cache = TierCache(redis.url, namespace=NAMESPACE, policy=POLICY)

    async def use() -> None:
        async with cache:
            await source.read(cache, "k")
            with ThreadPoolExecutor(1) as pool:
                elsewhere = pool.submit(asyncio.run, source.read(cache, "another"))
                with pytest.raises(UsageError, match="another running event loop"):
                    await asyncio.wrap_future(elsewhere)
            await source.read(cache, "another")

    asyncio.run(use())
