"""The life of a cache: new, open, closed; loops, forks, and what it refuses."""

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from async_tiercache import MISSING, Advice, TierCache
from async_tiercache.errors import CacheClosedError, LoadCancelledError, UsageError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from async_tiercache.testing._faults import Operation
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon, ticks


async def test_before_it_is_entered_a_cache_keeps_nothing_in_memory(
    make_cache: MakeCache, events: Recorder
) -> None:
    """It hears of nobody's invalidations; L2 is asked each time, and one event says so."""
    cache = await make_cache(entered=False, observers=[events])
    value = function_of(cache, Source())

    for _ in range(3):
        await value(1)
        await settled(cache)

    statistics = cache.statistics()
    assert (statistics.loads, statistics.l2_hits, statistics.l1_hits) == (1, 2, 0)
    assert [advice.message[:40] for advice in events.of(Advice)] == [
        "The cache is used before it was entered:"
    ]


async def test_l1_alone_serves_before_it_is_entered(make_cache: MakeCache) -> None:
    """There is nobody to connect to."""
    cache = await make_cache(entered=False, client=None)
    value = function_of(cache, Source())
    await value(1)
    await ticks()

    assert value.peek(1) == "v1"


async def test_entering_with_redis_down_is_no_error(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The service starts; the cache catches up."""
    server.connected = False
    cache = await make_cache()
    value = function_of(cache, Source())

    assert await value(1) == "v1"
    assert "L2 down" in repr(cache)
    server.connected = True
    await clock.advance(1)
    await cache.get("any", None)
    assert "L2 up" in repr(cache)


async def test_a_cache_is_entered_once(cache: TierCache) -> None:
    """A second owner would close it under the first."""
    with pytest.raises(UsageError, match="entered already"):
        await cache.__aenter__()


async def test_a_closed_cache_is_not_entered_again(make_cache: MakeCache) -> None:
    """The error says what happened to it."""
    cache = await make_cache()
    await cache.aclose()

    with pytest.raises(UsageError, match="was closed"):
        await cache.__aenter__()


ENTERING: list[Operation] = ["probe", "ensure", "secret", "listen"]
"""What entering a cache waits for."""


async def _entering(
    make_cache: MakeCache, server: MemoryServer, operation: Operation
) -> "tuple[TierCache, asyncio.Future[TierCache]]":
    """Return a cache that is being entered, which waits for an operation that hangs."""
    cache = await make_cache(entered=False)
    server.faults.hang(operation)
    entering = asyncio.ensure_future(cache.__aenter__())
    await soon(server.faults.reached())
    return cache, entering


@pytest.mark.parametrize("operation", ENTERING)
async def test_entering_that_is_cancelled_leaves_nothing_behind(
    make_cache: MakeCache, server: MemoryServer, operation: Operation
) -> None:
    """Nobody leaves what was not entered, so nobody else would end the bus."""
    cache, entering = await _entering(make_cache, server, operation)

    entering.cancel()
    server.faults.clear()
    await soon(asyncio.wait([entering]))

    assert entering.cancelled()
    assert "closed" in repr(cache)
    assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("tiercache")]


@pytest.mark.parametrize("operation", ENTERING)
async def test_a_close_while_a_cache_is_entered_is_its_end(
    make_cache: MakeCache, server: MemoryServer, operation: Operation
) -> None:
    """As a shutdown hook may that comes early: nothing is begun after it."""
    cache, entering = await _entering(make_cache, server, operation)

    closing = asyncio.ensure_future(cache.aclose())
    await asyncio.sleep(0)
    server.faults.clear()
    await soon(closing)

    with pytest.raises(CacheClosedError):
        await soon(entering)
    assert cache._core.tiers.store is None
    assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("tiercache")]


async def test_closing_twice_is_harmless(make_cache: MakeCache) -> None:
    """`async with` and a shutdown hook may both do it."""
    cache = await make_cache()

    await cache.aclose()
    await cache.aclose()

    assert "closed" in repr(cache)


@pytest.mark.parametrize(
    "call", ["read", "get", "get_or_load", "set", "invalidate", "writing", "refresh", "put"]
)
@pytest.mark.parametrize("tiers", ["both", "l1"])
async def test_every_call_of_a_closed_cache_raises(
    make_cache: MakeCache, call: str, tiers: str
) -> None:
    """None hangs, none silently does nothing."""
    cache = await (make_cache() if tiers == "both" else make_cache(client=None))
    value = function_of(cache, Source())
    await value(1)
    await ticks()
    await cache.aclose()

    async def write() -> None:
        async with cache.writing("k"):
            pass

    calls: dict[str, Any] = {
        "read": lambda: value(1),
        "get": lambda: cache.get(KEY),
        "get_or_load": lambda: cache.get_or_load(KEY, Source().load),
        "set": lambda: cache.set(KEY, 1),
        "invalidate": lambda: cache.invalidate(keys=[KEY]),
        "writing": write,
        "refresh": lambda: value.refresh(1),
        "put": lambda: value.put("v", 1),
    }
    with pytest.raises(CacheClosedError):
        await soon(calls[call]())
    assert value.peek(1) is MISSING


async def test_closing_cancels_loads_in_the_background(make_cache: MakeCache) -> None:
    """Their callers are told, and nothing runs on."""
    cache = await make_cache()
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())

    await soon(cache.aclose())

    with pytest.raises(LoadCancelledError, match="was cancelled\nHint: The cache was closed"):
        await soon(loading)
    assert source.ended == 1


async def test_closing_cancels_loads_that_were_detached(make_cache: MakeCache) -> None:
    """An invalidation in between does not keep them alive, nor the close waiting."""
    cache = await make_cache()
    source = Source()
    source.close()
    value = function_of(cache, source)
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await value.invalidate(1)
    closing = asyncio.ensure_future(cache.aclose())
    await ticks()

    assert source.ended == 1
    await soon(asyncio.gather(closing, loading, return_exceptions=True))


async def test_closing_lets_stores_finish(make_cache: MakeCache, other: TierCache) -> None:
    """A value that was loaded is not lost on the way to L2."""
    cache = await make_cache()
    await function_of(cache, Source())(1)

    await cache.aclose()

    assert await other.get(KEY) == "v1"


async def test_closing_lets_a_crash_safe_change_end(
    make_cache: MakeCache, other: TierCache, server: MemoryServer
) -> None:
    """Its caller is not cancelled, L2 is told, and no block is left there."""
    cache = await make_cache()
    changed = asyncio.Event()

    @cache.invalidates(keys=[KEY], crash_safe=True)
    async def change() -> str:
        await changed.wait()
        return "changed"

    changing = asyncio.ensure_future(change())
    await ticks()
    closing = asyncio.ensure_future(cache.aclose())
    await ticks()
    changed.set()

    assert await soon(changing) == "changed"
    await soon(closing)
    assert cache._core.ledger.pending == 0
    await other.get_or_load(KEY, Source().load)
    await settled(other)
    assert other.statistics().not_stored == {}


@pytest.mark.parametrize("name", ["tiercache-claim", "tiercache-block", "tiercache-unblock"])
@pytest.mark.leaves_pending
async def test_what_a_close_breaks_off_does_not_cancel_its_caller(
    cache: TierCache, server: MemoryServer, name: str
) -> None:
    """As it does with what takes longer than a second: the caller goes on without L2."""
    server.faults.hang("seize", "block", "unblock")

    async def change() -> str:
        async with cache.writing("w") as writing:
            writing.set(1)
        async with cache.invalidating(keys=[KEY]):
            pass
        return "changed"

    changing = asyncio.ensure_future(change())
    while not (named := [each for each in asyncio.all_tasks() if each.get_name() == name]):
        await ticks(1)
    for task in named:
        task.cancel()

    assert await soon(changing) == "changed"


async def test_a_close_whose_caller_is_cancelled_goes_on_to_its_end(make_cache: MakeCache) -> None:
    """Who closes again waits for that."""
    cache = await make_cache()
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    closing = asyncio.ensure_future(cache.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    await soon(asyncio.wait([closing]))

    await soon(cache.aclose())

    assert closing.cancelled()
    assert source.ended == 1
    assert loading.done()
    assert not [each for each in asyncio.all_tasks() if each.get_name().startswith("tiercache")]


# Loops.


@pytest.mark.parametrize("entered", [False, True], ids=["never entered", "never closed"])
def test_one_loop_after_another_works(entered: bool) -> None:
    """Test runners and scripts make a loop per run."""
    cache = TierCache(namespace="test")
    source = Source()
    value = function_of(cache, source)

    async def run(n: int) -> Any:
        if entered and n == 0:
            await cache.__aenter__()
        return await value(n), await value(0)

    assert [asyncio.run(run(n)) for n in range(3)] == [("v1", "v1")] * 3
    assert source.loads == 3
    asyncio.run(cache.aclose())


def test_a_load_that_its_loop_took_along_is_started_anew() -> None:
    """A flight of a loop that is gone is joined by nobody."""
    cache = TierCache(namespace="test")
    source = Source()
    value = function_of(cache, source)

    left: list[asyncio.Future[Any]] = []

    async def leave() -> None:
        source.close()
        left.append(asyncio.ensure_future(value(1)))
        await source.loading()

    asyncio.run(leave())
    source.gate.set()

    assert asyncio.run(value(1)) == "v1"
    asyncio.run(cache.aclose())


def test_a_cache_may_be_closed_on_a_later_loop() -> None:
    """By a shutdown hook that runs on a loop of its own."""
    server = MemoryServer()
    cache = TierCache(namespace="test", client=server.client())

    async def run() -> None:
        async with asyncio.timeout(5):
            await cache.__aenter__()
            await function_of(cache, Source())(1)

    asyncio.run(run())
    asyncio.run(cache.aclose())

    assert "closed" in repr(cache)


def test_what_was_pending_on_an_earlier_loop_is_repeated_on_the_next() -> None:
    """Otherwise nobody would tell Redis until the next invalidation."""
    server = MemoryServer()
    clock = FakeClock()
    cache = TierCache(namespace="test", client=server.client(), clock=clock)

    async def invalidate() -> None:
        server.connected = False
        await cache.invalidate(keys=["k"])

    async def read() -> int:
        server.connected = True
        await clock.advance(1)
        await cache.get("other", None)
        await clock.advance(1)
        return cache.statistics().pending

    asyncio.run(invalidate())

    assert asyncio.run(read()) == 0
    asyncio.run(cache.aclose())


async def test_a_second_running_loop_is_refused(cache: TierCache) -> None:
    """Futures of one loop cannot be awaited on another."""
    value = function_of(cache, Source())
    await value(1)
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(value(2))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    await asyncio.to_thread(thread.join)

    assert [type(error) for error in errors] == [UsageError]
    assert "another running event loop" in str(errors[0])


FORK = """
    import asyncio, os, sys
    from async_tiercache import TierCache
    from async_tiercache.errors import CacheClosedError

    cache = TierCache(namespace="test")

    @cache.cached("value:{n}")
    async def value(n: int) -> int:
        return n

    def child() -> None:
        for n in (1, 2):
            try:
                asyncio.run(value(n))
            except CacheClosedError as error:
                print(str(error).splitlines()[0], flush=True)
            except BaseException as error:
                print(repr(error), flush=True)
        os._exit(0)

    async def main() -> None:
        for _ in range(3):
            await value(1)
        if {inside}:
            pid = os.fork()
            if pid == 0:
                child()
            os.waitpid(pid, 0)

    asyncio.run(main())
    if not {inside}:
        pid = os.fork()
        if pid == 0:
            child()
        os.waitpid(pid, 0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
@pytest.mark.parametrize("inside", [False, True], ids=["between loops", "inside a loop"])
def test_a_forked_child_is_refused(inside: bool) -> None:
    """The parent's connections and entries are not the child's."""
    script = textwrap.dedent(FORK).replace("{inside}", str(inside))

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True
    )

    assert done.stderr == ""
    assert (
        done.stdout.splitlines() == ["The cache belongs to the parent of this forked process"] * 2
    )


FORKED_BEFORE_USE = """
    import asyncio, os
    from async_tiercache import TierCache

    made, used = TierCache(namespace="test"), TierCache(namespace="test")

    async def load() -> int:
        return 1

    async def enter(cache: TierCache) -> str:
        try:
            async with cache:
                return str([await cache.get_or_load("key", load) for _ in range(2)])
        except BaseException as error:
            return str(error).splitlines()[0]

    asyncio.run(used.get("key", None))
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    for cache in (made, used):
        print("parent" if pid else "child", asyncio.run(enter(cache)), flush=True)
    if not pid:
        os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform cannot fork")
def test_a_cache_that_was_only_made_before_a_fork_is_entered_on_both_sides() -> None:
    """A server may import its application before it forks; nothing is the parent's then."""
    script = textwrap.dedent(FORKED_BEFORE_USE)

    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=20, check=True
    )

    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "child [1, 1]",
        "child The cache belongs to the parent of this forked process",
        "parent [1, 1]",
        "parent [1, 1]",
    ]
