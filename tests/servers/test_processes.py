"""Fences between processes, over one real server; the test decides what happens when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial

import pytest
import pytest_asyncio

from tests.servers.conftest import ONE_SERVER
from tests.servers.process import Server
from tests.servers.source import name_of
from tests.servers.waiting import eventually, eventually_so
from tests.servers.workers import WorkerProcess, within

pytestmark = pytest.mark.redis


@pytest_asyncio.fixture
async def workers(redis: Server) -> AsyncIterator[tuple[WorkerProcess, WorkerProcess]]:
    """Return two processes of the service, started at the same time."""
    async with AsyncExitStack() as stack:
        starting = [stack.enter_async_context(WorkerProcess(redis.url)) for _ in range(2)]
        one, two = await asyncio.gather(*starting)
        yield one, two


@pytest.fixture
def one(workers: tuple[WorkerProcess, WorkerProcess]) -> WorkerProcess:
    """Return a process of the service."""
    return workers[0]


@pytest.fixture
def two(workers: tuple[WorkerProcess, WorkerProcess]) -> WorkerProcess:
    """Return another process of the service."""
    return workers[1]


async def _stored(redis: Server) -> object:
    """Return what a process that has shown nothing yet gets from L2."""
    async with WorkerProcess(redis.url) as three:
        return await three.done("read", key="k")


async def _loads(*workers: WorkerProcess) -> float:
    return sum([float((await worker.done("statistics"))["loads"]) for worker in workers])


async def test_a_stampede_in_two_processes_is_one_load(
    redis: Server, one: WorkerProcess, two: WorkerProcess
) -> None:
    """A hundred callers miss one key at once, half of them in each process."""
    reads = [worker.order("read", key="k", count=50) for worker in (one, two)]
    loading = [asyncio.create_task(worker.loading()) for worker in (one, two)]
    await asyncio.wait(loading, return_when="FIRST_COMPLETED")
    loser = 0 if loading[1].done() else 1
    winner = (one, two)[1 - loser]
    # The other process has asked for the lease and waits.
    loading[loser].cancel()
    await winner.done("finish", key="k", value="v")

    assert [await within(each) for each in reads] == [["v"] * 50, ["v"] * 50]
    assert await _loads(one, two) == 1


async def test_a_load_that_another_process_overtook_is_stored_nowhere(
    redis: Server, one: WorkerProcess, two: WorkerProcess
) -> None:
    """The other process invalidates while the loader runs: its caller alone gets the value."""
    read = one.order("read", key="k")
    await one.loading()
    assert await two.done("invalidate", key="k") == "done"

    await one.done("finish", key="k", value="old")

    assert await within(read) == ["old"]
    await one.done("settle")
    assert redis.entries() == set()
    assert await one.done("peek", key="k") is None
    assert (await one.done("statistics"))["overtaken"] == 1


async def test_a_load_overtaken_by_a_newer_one_does_not_replace_it(
    redis: Server, one: WorkerProcess, two: WorkerProcess
) -> None:
    """Invalidated and loaded anew elsewhere: the old load finds its lease gone, not its key."""
    read = one.order("read", key="k")
    await one.loading()
    await two.done("invalidate", key="k")
    newer = two.order("read", key="k")
    await two.loading()
    await two.done("finish", key="k", value="new")
    assert await within(newer) == ["new"]
    await two.done("settle")

    await one.done("finish", key="k", value="old")
    assert await within(read) == ["old"]
    await one.done("settle")

    assert await _stored(redis) == ["new"]
    assert await _loads(one, two) == 2


async def test_an_older_load_does_not_use_the_lease_of_a_newer_one(
    redis: Server, one: WorkerProcess, two: WorkerProcess
) -> None:
    """Both loads run when the older one ends: only the newer one's value is stored."""
    read = one.order("read", key="k")
    await one.loading()
    await two.done("invalidate", key="k")
    newer = two.order("read", key="k")
    await two.loading()

    await one.done("finish", key="k", value="old")
    await within(read)
    await one.done("settle")
    assert await one.done("peek", key="k") is None
    await two.done("finish", key="k", value="new")
    await within(newer)
    await two.done("settle")

    assert await _stored(redis) == ["new"]


async def test_own_readers_after_an_invalidation_do_not_join_the_older_load(
    redis: Server, one: WorkerProcess
) -> None:
    """A read that begins after `invalidate` returned has a load of its own."""
    read = one.order("read", key="k")
    await one.loading()
    await one.done("invalidate", key="k")
    newer = one.order("read", key="k")
    await one.loading()

    await one.done("finish", key="k", value="old")
    await one.done("finish", key="k", value="new")
    assert await within(newer) == ["new"]
    assert await within(read) == ["new"]
    await one.done("settle")

    assert await one.done("peek", key="k") == "new"


async def test_a_killed_holder_delays_others_by_its_lease_and_one_of_them_loads(
    redis: Server, one: WorkerProcess, two: WorkerProcess
) -> None:
    """The lease ends by itself within a second; then there is one load, not fifty."""
    read = one.order("read", key="k")
    await one.loading()
    one.kill()
    waiting = two.order("read", key="k", count=50)

    assert redis.command("PTTL", name_of("k")) <= 1000
    assert await two.loading() == "k"
    await two.done("finish", key="k", value="v")

    assert await within(waiting) == ["v"] * 50
    assert await _loads(two) == 1
    assert not read.done()


@ONE_SERVER
async def test_a_renewed_lease_outlives_its_first_second(
    redis: Server, one: WorkerProcess, two: WorkerProcess
) -> None:
    """While the loader of a live process runs, nobody else begins to load."""
    read = one.order("read", key="k")
    await one.loading()
    lease = redis.command("GET", name_of("k"))
    waiting = two.order("read", key="k")
    renewals = 0
    last: int = redis.command("PTTL", name_of("k"))

    def renewed() -> bool:
        nonlocal renewals, last
        now: int = redis.command("PTTL", name_of("k"))
        renewals += now > last
        last = now
        return renewals >= 4

    await eventually(renewed, "the lease is prolonged, a third of a second at a time")
    assert redis.command("GET", name_of("k")) == lease
    assert two.loads_begun == 0
    await one.done("finish", key="k", value="v")

    assert await within(read) == ["v"]
    assert await within(waiting) == ["v"]


@ONE_SERVER
@pytest.mark.parametrize("refilled", [True, False], ids=["refilled", "empty"])
async def test_a_stopped_holder_cannot_store_once_its_lease_has_ended(
    redis: Server, one: WorkerProcess, two: WorkerProcess, refilled: bool
) -> None:
    """A process that slept through its lease stores nothing, whether the key was filled or not."""
    read = one.order("read", key="k")
    await one.loading()
    one.stop()
    await eventually(lambda: redis.command("EXISTS", name_of("k")) == 0, "the lease has ended")
    if refilled:
        newer = two.order("read", key="k")
        await two.loading()
        await two.done("finish", key="k", value="new")
        await within(newer)
        await two.done("settle")

    finishing = one.order("finish", key="k", value="old")
    one.cont()
    await within(finishing)
    assert await within(read) == ["old"]
    await one.done("settle")

    assert await one.done("peek", key="k") is None
    if refilled:
        assert await _stored(redis) == ["new"]
    else:
        assert redis.entries() == set()


@ONE_SERVER
async def test_a_writer_killed_inside_its_block_leaves_nothing_old(
    redis: Server, one: WorkerProcess, two: WorkerProcess
) -> None:
    """`writing` fences first: what stood there is gone, and others load after a lease."""
    read = two.order("read", key="k")
    await two.loading()
    await two.done("finish", key="k", value="old")
    await within(read)
    await two.done("settle")
    assert redis.entries() == {name_of("k")}
    held = redis.command("GET", name_of("k"))

    one.order("write", key="k")
    await one.loading()
    one.kill()
    assert redis.command("GET", name_of("k")) != held
    assert redis.command("PTTL", name_of("k")) <= 1000
    async with WorkerProcess(redis.url) as three:
        newer = three.order("read", key="k")
        assert await three.loading() == "k"
        await three.done("finish", key="k", value="new")

        assert await within(newer) == ["new"]


@ONE_SERVER
async def test_a_writer_killed_between_commit_and_invalidation_leaves_nothing_old(
    redis: Server, one: WorkerProcess, two: WorkerProcess
) -> None:
    """Crash-safe, it has blocked the key and the tag; once that has ended all read what is new."""
    pages: dict[str, list[str]] = {"page:1": ["shop:1"], "page:2": ["shop:1"], "page:3": []}
    changed = ["page:1", "page:2"]
    for key, tags in pages.items():
        read = two.order("read", key=key, tags=tags)
        await two.loading()
        await two.done("finish", key=key, value="old")
        await within(read)
    await two.done("settle")
    held = {key: redis.command("GET", name_of(key)) for key in pages}
    assert all(held.values())

    one.order("change", page="1", shop="1")
    await one.loading()
    # The source has changed by now, and nobody will ever tell.
    one.kill()
    for key in changed:
        # Until the message of the block is there, memory may answer.
        await eventually_so(partial(two.done, "peek", key=key), None)
        during = two.order("read", key=key, tags=pages[key])
        assert await two.loading() == key
        await two.done("finish", key=key, value="either")
        assert await within(during) == ["either"]
    await two.done("settle")
    assert redis.command("GET", name_of("page:1")) != held["page:1"]

    blocked = (name_of("page:1"), f"{name_of('shop:1')}:t")
    await eventually(lambda: redis.command("EXISTS", *blocked) == 0, "the block has ended")
    async with WorkerProcess(redis.url) as three:
        for key in changed:
            newer = three.order("read", key=key, tags=pages[key])
            assert await three.loading() == key
            await three.done("finish", key=key, value="new")
            assert await within(newer) == ["new"]
        await three.done("settle")
        for worker in (two, three):
            for key in changed:
                assert await worker.done("read", key=key, tags=pages[key]) == ["new"]
            assert await worker.done("read", key="page:3") == ["old"]


async def test_an_invalidation_reaches_another_process_at_its_next_read_of_l2(
    redis: Server, one: WorkerProcess, two: WorkerProcess
) -> None:
    """What one has stored the other reads, until it is invalidated: then it loads."""
    read = one.order("read", key="k")
    await one.loading()
    await one.done("finish", key="k", value="old")
    await within(read)
    await one.done("settle")
    await one.done("invalidate", key="k")

    newer = two.order("read", key="k")
    assert await two.loading() == "k"
    await two.done("finish", key="k", value="new")

    assert await within(newer) == ["new"]
    await two.done("settle")
    assert await one.done("read", key="k") == ["new"]
