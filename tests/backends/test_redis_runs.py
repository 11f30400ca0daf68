"""Which servers are taken for others than before, and who is told."""

import asyncio

import pytest

from async_tiercache.backends.redis import RedisRemote
from async_tiercache.backends.redis.runs import Runs
from async_tiercache.testing import MemoryServer
from async_tiercache.testing.contracts._heard import Heard


@pytest.fixture
def heard() -> Heard:
    """Return a listener."""
    return Heard()


@pytest.fixture
def runs(heard: Heard) -> Runs:
    """Return the runs that a listener is told of."""
    runs = Runs()
    runs.tell(heard)
    return runs


def test_another_run_is_told_once(runs: Runs, heard: Heard) -> None:
    """However many connections find out, and again when it changes again, be it back."""
    for run in (b"a", b"a", b"b", b"b", b"a"):
        runs.saw(None, run)

    assert heard.names() == ["replaced"] * 2


def test_each_server_has_runs_of_its_own(runs: Runs, heard: Heard) -> None:
    """Two nodes never have the same."""
    for where, run in ((1, b"a"), (2, b"b"), (1, b"a"), (2, b"b")):
        runs.saw(where, run)

    assert heard.names() == []


def test_a_run_that_is_not_told_says_nothing(runs: Runs, heard: Heard) -> None:
    """Neither that the server is the same nor that it is not."""
    for run in (b"", b"a", b"", b"a"):
        runs.saw(None, run)

    assert heard.names() == []


def test_what_happens_while_nobody_listens_is_told_later(runs: Runs, heard: Heard) -> None:
    """Once, to whoever listens next."""
    runs.hush(heard)
    for run in (b"a", b"b", b"c"):
        runs.saw(None, run)
    assert heard.names() == []

    later = Heard()
    runs.tell(later)
    runs.tell(heard)

    assert later.names() == ["replaced"]
    assert heard.names() == []


def test_a_server_that_was_forgotten_is_met_anew(runs: Runs, heard: Heard) -> None:
    """Who takes it in again says what that means."""
    runs.saw(1, b"a")
    runs.forget(1)
    runs.saw(1, b"b")

    assert heard.names() == []


def test_connections_to_the_server_of_before_are_left_first(runs: Runs, heard: Heard) -> None:
    """What is repeated once that is told must not go to the old one."""
    order: list[list[str]] = []
    runs.hold(1, lambda: order.append(heard.names()))
    runs.saw(1, b"a")
    assert order == []

    runs.saw(1, b"b")
    assert (order, heard.names()) == ([[]], ["replaced"])

    runs.forget(1)
    assert order == [[], ["replaced"]]


async def test_who_is_let_go_late_takes_no_listener_along(heard: Heard) -> None:
    """As a loop that has ended lets its tasks go long after the next one has begun to listen."""
    remote = RedisRemote(None, namespace="test", client=MemoryServer().client())
    earlier = asyncio.ensure_future(remote.listen(heard, 2.0))
    later = asyncio.ensure_future(remote.listen(heard, 2.0))
    await asyncio.sleep(0)

    earlier.cancel()
    await asyncio.wait([earlier])
    remote._runs.replaced()

    assert heard.names().count("replaced") == 1
    later.cancel()
    await asyncio.wait([later])
    await remote.aclose()
