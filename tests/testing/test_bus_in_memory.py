"""The bus over `MemoryServer`, on a clock that a test turns, and what goes wrong there."""

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from async_tiercache.abc import Invalidation
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.errors import TierError, TierRefusedError
from async_tiercache.testing import FakeClock, MemoryServer
from async_tiercache.testing.contracts._heard import Heard

BOUND = 2.0
RECORD = Invalidation(b"r" * 16, ("k",))
LEASE = b"L" + b"l" * 16
TOKEN = b"t" * 16


@pytest.fixture
def server(clock: FakeClock) -> MemoryServer:
    """Return a server whose time the test turns."""
    return MemoryServer(clock)


@pytest_asyncio.fixture
async def connect(
    server: MemoryServer, clock: FakeClock
) -> AsyncIterator[Callable[[], RedisRemote]]:
    """Return what makes a remote of another process."""
    made: list[RedisRemote] = []

    def connect() -> RedisRemote:
        made.append(RedisRemote(None, namespace="test", clock=clock, client=server.client()))
        return made[-1]

    yield connect
    server.faults.clear()
    for remote in made:
        await remote.aclose()


@pytest.fixture
def other(connect: Callable[[], RedisRemote]) -> RedisRemote:
    """Return the remote of a process that invalidates."""
    return connect()


@pytest.fixture
def remote(connect: Callable[[], RedisRemote]) -> RedisRemote:
    """Return the remote of a process that listens."""
    return connect()


@pytest_asyncio.fixture
async def heard(remote: RedisRemote, clock: FakeClock) -> AsyncIterator[Heard]:
    """Return what is heard; the first gap is over."""
    heard = Heard()
    task = asyncio.ensure_future(remote.listen(heard, BOUND))
    await clock.advance(0)
    assert heard.names() == ["gap"]
    heard.events.clear()
    yield heard
    assert not task.done()
    task.cancel()
    await asyncio.wait([task])


def trusted(heard: Heard, clock: FakeClock) -> bool:
    """Return whether a proof is good now."""
    return max(heard.proofs(), default=0.0) > clock.monotonic()


async def tell(other: RedisRemote, clock: FakeClock) -> None:
    """Invalidate, and let it be heard."""
    await other.invalidate(RECORD)
    await clock.advance(0)


async def test_trust_goes_on(heard: Heard, clock: FakeClock) -> None:
    """As long as pings are answered."""
    for _ in range(20):
        await clock.advance(0.9)
        assert trusted(heard, clock)

    assert heard.names() == []


async def test_a_message_is_heard(heard: Heard, other: RedisRemote, clock: FakeClock) -> None:
    """As it was told."""
    await tell(other, clock)

    assert heard.records() == [RECORD]


async def test_a_cut_in_which_nothing_was_told_is_no_gap(
    heard: Heard, server: MemoryServer, other: RedisRemote, clock: FakeClock
) -> None:
    """The last message is the one that was heard last; it may have been none at all."""
    for _ in range(2):
        server.hang_up()
        await clock.advance(1)
        await tell(other, clock)

    assert heard.records() == [RECORD, RECORD]
    assert heard.names() == ["apply", "apply"]
    assert trusted(heard, clock)


async def test_a_cut_in_which_something_was_told_is_a_gap(
    heard: Heard, server: MemoryServer, other: RedisRemote, clock: FakeClock
) -> None:
    """Said before the next proof."""
    server.hang_up()
    await clock.advance(0)
    heard.events.clear()
    await tell(other, clock)
    await clock.advance(1)

    assert heard.events[0] == ("gap", None)
    assert trusted(heard, clock)


async def test_a_server_that_has_restarted_is_another(
    heard: Heard, server: MemoryServer, clock: FakeClock
) -> None:
    """Although it holds what it held."""
    server.restart(keep=True)
    await clock.advance(1)

    assert heard.names() == ["replaced", "gap"]
    assert trusted(heard, clock)


async def test_a_lost_id_of_the_last_message_is_a_gap(
    heard: Heard, server: MemoryServer, other: RedisRemote, clock: FakeClock
) -> None:
    """It was evicted, say; the next cut is none."""
    await tell(other, clock)
    await server.client().execute_command("DEL", "test:{*}:last")  # type: ignore[no-untyped-call]
    for _ in range(2):
        server.hang_up()
        await clock.advance(1)

    assert heard.names() == ["apply", "gap"]


async def test_a_server_that_is_down_is_not_trusted(
    heard: Heard, server: MemoryServer, clock: FakeClock
) -> None:
    """Once the bound is over, and until it is up again."""
    server.connected = False
    await clock.advance(BOUND + 0.1)
    assert not trusted(heard, clock)
    await clock.advance(60)

    server.connected = True
    await clock.advance(1.1)

    assert trusted(heard, clock)


async def test_a_garbled_message_is_a_gap(
    heard: Heard, server: MemoryServer, clock: FakeClock
) -> None:
    """At once, and the bus goes on."""
    for garbage in (b"", b"x" * 16, b"x" * 16 + b"\xc1", b"x" * 16 + b"\x96\x01"):
        await server.client().execute_command("PUBLISH", "test:bus", garbage)  # type: ignore[no-untyped-call]
    await clock.advance(1)

    assert heard.names() == ["gap"] * 4
    assert trusted(heard, clock)


async def test_a_listener_that_fails_is_told_of_a_gap(
    remote: RedisRemote, other: RedisRemote, clock: FakeClock
) -> None:
    """What it has not taken in counts as missed, and listening goes on."""

    class Failing(Heard):
        def apply(self, record: Invalidation, /) -> None:
            super().apply(record)
            raise RuntimeError

    heard = Failing()
    task = asyncio.ensure_future(remote.listen(heard, BOUND))
    await clock.advance(0)
    await tell(other, clock)
    await clock.advance(1)

    assert heard.names() == ["gap", "apply", "gap", "gap"]
    assert trusted(heard, clock)
    task.cancel()
    await asyncio.wait([task])


# Faults.


async def test_a_dropped_message_breaks_the_bus(
    heard: Heard, server: MemoryServer, other: RedisRemote, clock: FakeClock
) -> None:
    """A connection loses nothing but by breaking."""
    server.faults.drop("listen", times=1)
    await tell(other, clock)
    await clock.advance(1)

    assert heard.names() == ["gap"]
    assert trusted(heard, clock)


async def test_a_bus_that_is_dropped_stays_away(
    heard: Heard, server: MemoryServer, clock: FakeClock
) -> None:
    """Until faults are cleared."""
    server.faults.drop("listen")
    await clock.advance(10)
    assert not trusted(heard, clock)

    server.faults.clear()
    await clock.advance(1.1)

    assert trusted(heard, clock)


async def test_a_bus_that_hangs_proves_nothing(
    heard: Heard, server: MemoryServer, other: RedisRemote, clock: FakeClock
) -> None:
    """Messages come once faults are cleared, before the next proof."""
    server.faults.hang("listen")
    await tell(other, clock)
    await clock.advance(BOUND)
    assert not trusted(heard, clock)
    assert heard.names() == []
    heard.events.clear()

    server.faults.clear()
    await clock.advance(1)

    assert heard.events[0] == ("apply", RECORD)
    assert trusted(heard, clock)


@pytest.mark.usefixtures("heard")
async def test_waiting_can_fail(
    server: MemoryServer, remote: RedisRemote, other: RedisRemote
) -> None:
    """As any other operation."""
    await other.seize("k", LEASE, 10)
    server.faults.drop("await_fill", times=1)
    server.faults.refuse("await_fill", times=1)

    with pytest.raises(TierError):
        await remote.await_fill("k", LEASE)
    with pytest.raises(TierRefusedError):
        await remote.await_fill("k", LEASE)

    assert await remote.await_fill("k", LEASE) == LEASE
    assert server.faults.struck == ["await_fill"] * 2


async def test_blocking_can_fail(server: MemoryServer, remote: RedisRemote) -> None:
    """Whether it has happened or not."""
    server.faults.drop("block", times=1)
    server.faults.lose("block", times=1)

    with pytest.raises(TierError):
        await remote.block(RECORD, TOKEN, 10)
    assert await remote.seize("k", LEASE, 10)
    with pytest.raises(TierError):
        await remote.block(RECORD, TOKEN, 10)

    assert not await remote.seize("k", LEASE, 10)


async def test_blocks_end_by_the_clock(remote: RedisRemote, clock: FakeClock) -> None:
    """Each at its own time, although they stand together."""
    await remote.block(RECORD, TOKEN, 10)
    await remote.block(RECORD, b"u" * 16, 100)
    await clock.advance(11)

    await remote.unblock(RECORD, b"u" * 16)

    assert await remote.seize("k", LEASE, 10)
