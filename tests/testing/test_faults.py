"""Faults: each does what it says to the operation that it names, and to no other."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from random import Random
from typing import Any, get_args

import pytest
import pytest_asyncio

from async_tiercache.abc import Invalidation, Remote
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.errors import ConfigurationError, TierError, TierRefusedError
from async_tiercache.testing import FakeClock, MemoryServer
from async_tiercache.testing._faults import Operation
from tests.core.source import soon

LEASE, OTHER_LEASE = b"L" + b"l" * 16, b"L" + b"o" * 16
ID = b"i" * 16
FRAME, NEW_FRAME = b"VT....%bold" % ID, b"VT....%bnew" % (b"n" * 16)
ENTRY, MARK = "test:{k}", "test:{k}:r"

CALLS: dict[Operation, Callable[[Remote], Awaitable[object]]] = {
    "probe": lambda remote: remote.probe(),
    "get_many": lambda remote: remote.get_many(["k", "l"]),
    "take": lambda remote: remote.take("k", LEASE, 10),
    "seize": lambda remote: remote.seize("k", LEASE, 10),
    "mark": lambda remote: remote.mark("k", LEASE, 10),
    "renew": lambda remote: remote.renew("k", OTHER_LEASE, 100),
    "release": lambda remote: remote.release("k", OTHER_LEASE),
    "commit": lambda remote: remote.commit("k", FRAME, 10, fence=OTHER_LEASE),
    "stamp": lambda remote: remote.stamp("k", b"n" * 16, 10, fence=ID),
    "invalidate": lambda remote: remote.invalidate(Invalidation(ID, ("k",))),
    "ensure": lambda remote: remote.ensure(["t"], 10),
    "await_fill": lambda remote: remote.await_fill("k", OTHER_LEASE),
    "block": lambda remote: remote.block(Invalidation(ID, ("k",)), b"b" * 16, 10),
    "unblock": lambda remote: remote.unblock(Invalidation(ID, ("k",)), b"b" * 16),
    "scan": lambda remote: anext(remote.scan("*"), None),
    "secret": lambda remote: remote.secret(),
}
CHANGES: dict[Operation, dict[str, bytes]] = {
    "take": {ENTRY: LEASE},
    "seize": {ENTRY: LEASE},
    "mark": {ENTRY: OTHER_LEASE, MARK: LEASE},
    "release": {},
    "commit": {ENTRY: FRAME},
    "stamp": {ENTRY: FRAME.replace(ID, b"n" * 16)},
    "invalidate": {},
    "unblock": {},
}
"""What stands in the server after it; before, another's lease stands there, but for `take`."""

# What only listening, or waiting while it listens, meets is in test_bus_in_memory.py.
every_operation = pytest.mark.parametrize(
    "operation", [each for each in CALLS if each not in {"await_fill", "block"}]
)


@pytest_asyncio.fixture
async def remote(server: MemoryServer, clock: FakeClock) -> AsyncIterator[Remote]:
    """Return a remote that is connected."""
    remote = RedisRemote(None, namespace="test", clock=clock, client=server.client())
    await remote.probe()
    yield remote
    server.faults.clear()
    await remote.aclose()


class Past:
    """Looks at the server past its faults."""

    def __init__(self, server: MemoryServer) -> None:
        self.client: Any = server.client()

    async def prepare(self, operation: str) -> None:
        """Let the key hold another's lease, or an entry to be stamped."""
        if operation != "take":
            held = FRAME if operation == "stamp" else OTHER_LEASE
            await self.client.execute_command("SETEX", ENTRY, 50, held)

    async def contents(self) -> dict[str, bytes]:
        """Return what stands in the server."""
        names = [name for name in (ENTRY, MARK) if await self.client.exists(name)]
        return {name: await self.client.getrange(name, 0, -1) for name in names}


@pytest.fixture
def past(server: MemoryServer) -> Past:
    """Return what looks at the server past its faults."""
    return Past(server)


def test_every_operation_of_a_remote_can_fail() -> None:
    """But for those that ask nothing of what it stores."""
    methods = {name for name in vars(Remote) if not name.startswith("_")}

    assert set(get_args(Operation)) == methods - {"now", "latest", "advice", "aclose"}
    assert set(CALLS) == set(get_args(Operation)) - {"listen"}


@every_operation
async def test_what_is_dropped_has_failed_and_not_happened(
    server: MemoryServer, remote: Remote, past: Past, operation: Operation
) -> None:
    """On a connection that was in use as well, which is made anew otherwise."""
    await past.prepare(operation)
    before = await past.contents()
    server.faults.drop(operation, times=1)

    with pytest.raises(TierError) as raised:
        await CALLS[operation](remote)

    assert not isinstance(raised.value, TierRefusedError)
    assert await past.contents() == before
    assert server.faults.struck == [operation]
    await CALLS[operation](remote)


@every_operation
async def test_what_is_lost_has_failed_and_happened(
    server: MemoryServer, remote: Remote, past: Past, operation: Operation
) -> None:
    """Once: whoever repeats it finds it done."""
    await past.prepare(operation)
    before = await past.contents()
    server.faults.lose(operation, times=1)

    with pytest.raises(TierError) as raised:
        await CALLS[operation](remote)

    assert not isinstance(raised.value, TierRefusedError)
    assert await past.contents() == CHANGES.get(operation, before)
    await CALLS[operation](remote)


@every_operation
async def test_what_is_refused_has_not_happened(
    server: MemoryServer, remote: Remote, past: Past, operation: Operation
) -> None:
    """The server answers, so the tier is not down."""
    await past.prepare(operation)
    before = await past.contents()
    server.faults.refuse(operation, times=1)

    with pytest.raises(TierRefusedError, match="Redis is full"):
        await CALLS[operation](remote)

    assert await past.contents() == before
    await CALLS[operation](remote)


@every_operation
async def test_what_hangs_happens_late(
    server: MemoryServer, remote: Remote, past: Past, operation: Operation
) -> None:
    """The caller is told within the limit that nobody answers."""
    await past.prepare(operation)
    before = await past.contents()
    server.faults.hang(operation, times=1)

    with pytest.raises(TierError, match="did not answer"):
        await soon(CALLS[operation](remote))

    assert await past.contents() == before
    server.faults.clear()
    assert await past.contents() == CHANGES.get(operation, before)


async def test_who_still_waits_when_faults_are_cleared_is_answered(
    server: MemoryServer, remote: Remote, past: Past
) -> None:
    """A server that hung for a moment was only slow."""
    server.faults.hang("seize")
    seizing = asyncio.ensure_future(remote.seize("k", LEASE, 10))
    await soon(server.faults.reached())

    server.faults.clear()

    await soon(seizing)
    assert await past.contents() == {ENTRY: LEASE}


async def test_what_hangs_is_lost_with_its_server(
    server: MemoryServer, remote: Remote, past: Past
) -> None:
    """A server that died meanwhile carries nothing out."""
    server.faults.hang("seize")
    with pytest.raises(TierError):
        await soon(remote.seize("k", LEASE, 10))

    server.connected = False
    server.faults.clear()
    server.connected = True

    assert await past.contents() == {}


async def test_a_late_commit_changes_nothing_that_came_after_it(
    server: MemoryServer, remote: Remote, past: Past
) -> None:
    """It finds neither its lease nor the entry that it refreshes."""
    await remote.take("k", LEASE, 10)
    server.faults.hang("commit")
    with pytest.raises(TierError):
        await soon(remote.commit("k", FRAME, 10, fence=LEASE))
    await remote.invalidate(Invalidation(ID, ("k",)))
    await remote.take("k", OTHER_LEASE, 10)

    server.faults.clear()

    assert await past.contents() == {ENTRY: OTHER_LEASE}


async def test_an_error_says_what_the_test_says(server: MemoryServer, remote: Remote) -> None:
    """A server that has become a replica is down, for one."""
    server.faults.refuse("take", error="READONLY You can't write against a read only replica.")

    with pytest.raises(TierError, match="read only replica") as raised:
        await remote.take("k", LEASE, 10)

    assert not isinstance(raised.value, TierRefusedError)


async def test_a_refusal_leaves_what_travels_with_it(server: MemoryServer, remote: Remote) -> None:
    """Each command of a turn has its own reply."""
    server.faults.refuse("take")

    taken, read, sought = await asyncio.gather(
        remote.take("k", LEASE, 10),
        remote.get_many(["k"]),
        remote.seize("l", LEASE, 10),
        return_exceptions=True,
    )

    assert isinstance(taken, TierRefusedError)
    assert (read, sought) == (([None], []), True)


async def test_a_fault_without_names_strikes_all_operations(
    server: MemoryServer, remote: Remote
) -> None:
    """Until it is cleared."""
    server.faults.drop()

    for operation, call in CALLS.items():
        with pytest.raises(TierError):
            await call(remote)
        # Without a bus there is nothing to wait for: the key is read.
        struck = "get_many" if operation == "await_fill" else operation
        assert server.faults.struck[-1] == struck

    server.faults.clear()
    await remote.seize("k", LEASE, 10)


async def test_faults_strike_in_the_order_in_which_they_were_added(
    server: MemoryServer, remote: Remote
) -> None:
    """One that has struck often enough makes room for the next."""
    server.faults.drop("take", times=1)
    server.faults.refuse("take", times=2)

    errors: list[type[TierError]] = []
    for _ in range(3):
        with pytest.raises(TierError) as raised:
            await remote.take("k", LEASE, 10)
        errors.append(raised.type)

    assert errors == [TierError, TierRefusedError, TierRefusedError]
    assert await remote.take("k", LEASE, 10) is None


async def test_other_commands_are_not_struck(server: MemoryServer) -> None:
    """A test that looks at the server sees it as it is."""
    server.faults.drop()
    client: Any = server.client()

    assert await client.ping()
    assert await client.exists(ENTRY) == 0
    assert server.faults.struck == []


async def test_chance_repeats_itself(server: MemoryServer, remote: Remote) -> None:
    """The same draws make the same faults."""
    outcomes: list[list[str]] = []
    for _ in range(2):
        server.faults.at_random(0.5, Random(7).random)
        outcome: list[str] = []
        for _ in range(40):
            try:
                await remote.get_many(["k"])
                outcome.append("answered")
            except TierError as error:
                outcome.append(type(error).__name__)
        outcomes.append(outcome)

    assert outcomes[0] == outcomes[1]
    assert set(outcomes[0]) == {"answered", "TierError", "TierRefusedError"}


async def test_reached_waits_for_faults_to_strike(server: MemoryServer, remote: Remote) -> None:
    """Those that have struck already count."""
    server.faults.refuse("seize")
    reached = asyncio.ensure_future(server.faults.reached(2))

    for _ in range(2):
        assert not reached.done()
        with pytest.raises(TierRefusedError):
            await remote.seize("k", LEASE, 10)

    await soon(reached)


def test_what_can_never_strike_is_refused(server: MemoryServer) -> None:
    """A test with such a fault would prove nothing."""
    misspelt: Any = "comit"

    with pytest.raises(ConfigurationError, match="Did you mean 'commit'"):
        server.faults.drop(misspelt)
    with pytest.raises(ConfigurationError, match="times=0"):
        server.faults.drop("commit", times=0)
    with pytest.raises(ConfigurationError, match="chance=30"):
        server.faults.at_random(30, Random(7).random)
