"""Recovery tells a tier of which a part is down all that the rest can be told."""

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from async_tiercache import Event, Invalidated
from async_tiercache._guard import Guard
from async_tiercache._ledger import Ledger
from async_tiercache._recovery import BATCH, PAUSE_SECONDS, Recovery
from async_tiercache._tasks import Tasks
from async_tiercache.abc import Invalidation
from async_tiercache.backends.null import NullRemote
from async_tiercache.errors import TierPartError
from async_tiercache.testing import FakeClock


class InParts(NullRemote):
    """An L2 of which the part that holds keys beginning with ``down`` may be out of reach."""

    __slots__ = ("down", "removed")

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(clock)
        self.down = True
        self.removed: list[str] = []

    async def invalidate(self, record: Invalidation, /) -> None:
        """Remove what can be removed, and name the rest."""
        await asyncio.sleep(0)
        failed = tuple(key for key in record.keys if self.down and key.startswith("down"))
        self.removed += [key for key in record.keys if key not in failed]
        if failed:
            raise TierPartError("a part is down", keys=failed)


class Desk:
    """A recovery and what it works with."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.ledger = Ledger()
        self.remote = InParts(clock)
        self.tasks = Tasks()
        self.events: list[Event] = []
        self.forgotten: list[str] = []
        self.recovery = Recovery(
            remote=self.remote,
            guard=Guard(self.remote.probe, clock, self.events.append, refused=print),
            ledger=self.ledger,
            forget=lambda record: self.forgotten.extend(record.keys),
            clock=clock,
            tasks=self.tasks,
            notify=self.events.append,
        )

    def hold(self, *keys: str) -> None:
        """Let keys be pending."""
        self.ledger.hold(Invalidation(b"i" * 16, keys))
        self.recovery.wake()


@pytest_asyncio.fixture
async def desk(clock: FakeClock) -> AsyncIterator[Desk]:
    """Return the desk."""
    desk = Desk(clock)
    yield desk
    await desk.recovery.stop()


async def test_what_a_part_that_is_down_would_have_to_remove_holds_nothing_else_up(
    desk: Desk,
) -> None:
    """Though it waits longer, and is more than one batch."""
    down = [f"down{number}" for number in range(BATCH + 5)]
    up = [f"up{number}" for number in range(BATCH + 5)]
    desk.hold(*down, *up)

    await desk.clock.advance(PAUSE_SECONDS)

    assert sorted(desk.remote.removed) == sorted(up)
    assert sorted(desk.forgotten) == sorted(up)
    assert desk.ledger.pending == len(down)
    confirmed = [
        key for event in desk.events if isinstance(event, Invalidated) for key in event.keys
    ]
    assert sorted(confirmed) == sorted(up)

    desk.remote.down = False
    await desk.clock.advance(PAUSE_SECONDS)

    assert sorted(desk.remote.removed) == sorted(up + down)
    assert desk.ledger.pending == 0


async def test_closing_tells_the_parts_that_answer(desk: Desk) -> None:
    """Once, and does not wait for the others."""
    desk.hold("down", "up")
    await desk.recovery.stop()

    await desk.recovery.flush()

    assert desk.remote.removed == ["up"]
    assert desk.ledger.pending == 1
