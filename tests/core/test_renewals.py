"""Renewals: one sleeper for all that has to be prolonged."""

import asyncio
from contextvars import ContextVar

from async_tiercache._renewals import Renewals
from async_tiercache._tasks import Tasks
from async_tiercache.testing import FakeClock

HERE: ContextVar[str] = ContextVar("here", default="nowhere")


class Prolonged:
    """What was prolonged, and when."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.times: list[tuple[str, float]] = []
        self.contexts: set[str] = set()
        self.over: set[str] = set()
        self.answering = asyncio.Event()
        self.answering.set()

    async def renew(self, item: str) -> bool:
        self.times.append((item, round(self.clock.monotonic() - 1000.0, 3)))
        self.contexts.add(HERE.get())
        await self.answering.wait()
        return item not in self.over


def renewals_of(prolonged: Prolonged, tasks: Tasks) -> Renewals[str]:
    return Renewals(1.0, prolonged.renew, tasks=tasks, clock=prolonged.clock)


async def test_each_is_prolonged_a_period_after_its_own_begin() -> None:
    """However long the one sleeper has been asleep for another."""
    clock = FakeClock()
    prolonged = Prolonged(clock)
    renewals = renewals_of(prolonged, Tasks())
    renewals.begin(b"1", "first")
    await clock.advance(0.4)
    renewals.begin(b"2", "second")
    await clock.advance(2.1)
    await renewals.aclose()

    assert prolonged.times == [
        ("first", 1.0), ("second", 1.4), ("first", 2.0), ("second", 2.4)
    ]  # fmt: skip


async def test_what_was_let_go_before_its_time_is_not_prolonged() -> None:
    """Nor does it keep what came after it from being so."""
    clock = FakeClock()
    prolonged = Prolonged(clock)
    renewals = renewals_of(prolonged, Tasks())
    renewals.begin(b"1", "first")
    await clock.advance(0.4)
    renewals.end(b"1")
    renewals.begin(b"2", "second")
    await clock.advance(1.0)
    renewals.end(b"2")
    await clock.advance(5)
    renewals.begin(b"3", "third")
    await clock.advance(1)
    await renewals.aclose()

    assert prolonged.times == [("second", 1.4), ("third", 7.4)]


async def test_what_begins_just_when_the_sleeper_leaves_is_prolonged() -> None:
    """It has ended, and its end has been told to nobody yet."""
    clock = FakeClock()
    prolonged = Prolonged(clock)
    renewals = renewals_of(prolonged, Tasks())
    renewals.begin(b"1", "first")

    async def begin() -> None:
        await clock.sleep(1.0)  # as the sleeper does, who has come before
        renewals.begin(b"2", "second")

    beginning = asyncio.ensure_future(begin())
    renewals.end(b"1")
    await clock.advance(2.5)
    await beginning
    await renewals.aclose()

    assert prolonged.times == [("second", 2.0)]


async def test_what_is_lost_is_prolonged_no_more() -> None:
    """The others are."""
    clock = FakeClock()
    prolonged = Prolonged(clock)
    prolonged.over.add("lost")
    renewals = renewals_of(prolonged, Tasks())
    renewals.begin(b"1", "lost")
    renewals.begin(b"2", "kept")
    await clock.advance(2)
    await renewals.aclose()

    assert [item for item, _ in prolonged.times] == ["lost", "kept", "kept"]


async def test_one_whose_answer_is_late_holds_nobody_up() -> None:
    """It is not prolonged twice at a time, and is cancelled when it is let go."""
    clock, tasks = FakeClock(), Tasks()
    prolonged = Prolonged(clock)
    prolonged.answering.clear()
    renewals = renewals_of(prolonged, tasks)
    renewals.begin(b"1", "slow")
    await clock.advance(0.5)
    renewals.begin(b"2", "other")
    await clock.advance(2)
    assert [item for item, _ in prolonged.times] == ["slow", "other"]

    renewals.end(b"1")
    renewals.end(b"2")
    await tasks.settle()
    await renewals.aclose()


async def test_the_sleeper_is_in_nobodys_context() -> None:
    """It would keep what its first caller has there alive for as long as there are loads."""
    clock = FakeClock()
    prolonged = Prolonged(clock)
    renewals = renewals_of(prolonged, Tasks())
    token = HERE.set("a request")
    renewals.begin(b"1", "first")
    HERE.reset(token)
    await clock.advance(1)
    await renewals.aclose()

    assert prolonged.contexts == {"nowhere"}


async def test_nobody_sleeps_after_the_close() -> None:
    """What is still held by then ends by itself."""
    clock = FakeClock()
    prolonged = Prolonged(clock)
    renewals = renewals_of(prolonged, Tasks())
    await renewals.aclose()
    renewals.begin(b"1", "late")
    await clock.advance(5)

    assert prolonged.times == []
