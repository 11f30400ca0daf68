"""NullRemote: what an L2 that is not there promises, and what of the contract it does not."""

import asyncio

import pytest

from async_tiercache.abc import Invalidation, Remote
from async_tiercache.backends.null import NullRemote
from async_tiercache.errors import TierRefusedError
from async_tiercache.tags import state_of
from async_tiercache.testing import FakeClock
from async_tiercache.testing.contracts import RemoteContract
from async_tiercache.testing.contracts._heard import Heard
from tests.testing.runs import fails, names_of

LEASE, FRAME = b"L" + b"l" * 16, b"V" + b"f" * 40


@pytest.fixture
def null(clock: FakeClock) -> Remote:
    """Return a null remote."""
    return NullRemote(clock)


async def test_reads_are_refused(null: Remote) -> None:
    """That it holds nothing must not be taken for a statement about the key."""
    with pytest.raises(TierRefusedError):
        await null.get_many(["k"])


async def test_every_right_is_granted(null: Remote) -> None:
    """Flights and the ledger decide, as there is nobody else to compete with."""
    assert await null.take("k", LEASE, 1) is None
    assert await null.take("k", LEASE, 1, instead_of=FRAME) is None
    assert await null.mark("k", LEASE, 1)
    assert await null.renew("k", LEASE, 1)
    assert await null.commit("k", FRAME, 1, fence=LEASE)
    assert await null.commit("k", FRAME, 1, fence=FRAME[6:22], mark=LEASE)


async def test_everything_else_is_done_at_once(null: Remote) -> None:
    """There is nothing to write and nothing to close."""
    await null.probe()
    await null.seize("k", LEASE, 1)
    await null.release("k", LEASE)
    await null.invalidate(Invalidation(b"i" * 16, ("k",)))
    await null.aclose()


async def test_tags_have_states_that_are_never_the_same(null: Remote) -> None:
    """Of the usual length, so that entries are as large as ever."""
    states = [*await null.ensure(["t", "t"], 1), *await null.ensure(["t"], 1)]

    assert len(set(states)) == 3
    assert all(state_of(state) for state in states)


async def test_nobody_else_is_there(null: Remote) -> None:
    """To wait for, to hear from or to find."""
    record = Invalidation(b"i" * 16, ("k",))
    await null.block(record, b"t" * 16, 1)
    await null.unblock(record, b"t" * 16)
    assert await null.await_fill("k", LEASE) is None
    assert [batch async for batch in null.scan("*")] == []
    heard = Heard()

    listening = asyncio.ensure_future(null.listen(heard, 1))
    await asyncio.sleep(0)
    assert not listening.done()
    listening.cancel()
    await asyncio.wait([listening])

    assert heard.events == []


class Impatient(RemoteContract):
    """For a backend that is known to tell nothing."""

    deadline = 0.05


def test_its_clock_is_the_process_s(null: Remote, clock: FakeClock) -> None:
    """No header leaves the process, so its time need not be that of the epoch."""
    assert null.now() == clock.monotonic()


async def test_of_the_contract_it_keeps_what_asks_no_key(clock: FakeClock) -> None:
    """It holds nothing, so what the contract says about what a key holds is not promised.

    Two processes never share it: no promise between them is needed, and none is made. What is left
    is that a repeated claim is granted again.
    """

    def fixtures() -> dict[str, Remote]:
        return {"remote": NullRemote(clock), "lost": NullRemote(clock)}

    kept = [
        name for name in names_of(RemoteContract) if not await fails(Impatient(), name, fixtures)
    ]

    assert kept == [
        "mark_repeated_finds_its_own_mark",
        "take_repeated_finds_its_own_lease",
        "the_secret_is_shared",
    ]
