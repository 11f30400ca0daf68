"""What is asked of a server is told of when it takes too long, many by one timer."""

import asyncio
import time
from itertools import chain, repeat

import pytest

from async_tiercache.backends.redis.deadlines import Deadlines, watch

LIMIT = 0.02
DEADLINE = 5.0
"""How long anything may take here; reached only by tests that fail."""


class Expired:
    """Takes in what has taken too long."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._more = asyncio.Event()

    def __call__(self, name: str) -> None:
        self.names.append(name)
        self._more.set()

    async def until(self, count: int) -> list[str]:
        """Return the names once there are so many."""
        async with asyncio.timeout(DEADLINE):
            while len(self.names) < count:
                self._more.clear()
                await self._more.wait()
        return self.names


async def test_all_that_takes_too_long_is_told() -> None:
    """Also what begins while others run, or after all have ended."""
    expired = Expired()
    deadlines = Deadlines(LIMIT, expired)
    deadlines.begin("first")
    await asyncio.sleep(0)
    deadlines.begin("second")
    assert deadlines.count == 2

    assert await expired.until(2) == ["first", "second"]

    deadlines.begin("third")
    assert await expired.until(3) == ["first", "second", "third"]
    assert deadlines.count == 0


async def test_what_has_its_answer_is_let_be() -> None:
    """Whatever becomes of the others."""
    expired = Expired()
    deadlines = Deadlines(LIMIT, expired)
    deadlines.begin("answered")
    deadlines.begin("late")
    deadlines.end("answered")

    assert await expired.until(1) == ["late"]


async def test_what_goes_with_another_is_told_once() -> None:
    """Who is told of one may end others that are due as well."""
    expired = Expired()

    def take_along(name: str) -> None:
        deadlines.end("second")
        expired(name)

    deadlines = Deadlines(LIMIT, take_along)
    deadlines.begin("first")
    deadlines.begin("second")
    await expired.until(1)
    deadlines.begin("third")

    assert await expired.until(2) == ["first", "third"]


async def test_a_loop_that_was_busy_takes_nothing_for_late() -> None:
    """The answer may wait in the socket; whatever is asked has its whole time again."""
    expired = Expired()
    deadlines = Deadlines(LIMIT, expired)
    deadlines.begin("asked")
    busy_until = time.monotonic() + 3 * LIMIT
    while time.monotonic() < busy_until:
        pass
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert expired.names == []
    assert deadlines.count == 1
    assert await expired.until(1) == ["asked"]


class Ticks(asyncio.SelectorEventLoop):
    """A loop whose time is what the test says."""

    now = 0.0

    def time(self) -> float:
        """Return it."""
        return self.now

    async def spend(self, seconds: float) -> None:
        """Let a tick take as long."""
        self.now += seconds
        await asyncio.sleep(0)


@pytest.mark.parametrize("tick", [1.4, 1.6, 10.0])
def test_a_loop_that_stays_busy_still_finds_what_is_late(tick: float) -> None:
    """Each timer is late; what is asked has its time some times over, and what the loop loses.

    That is two ticks for each of seven timers: the tick that it waits for, and who is before it.
    """
    loop, expired = Ticks(), Expired()

    async def stay_busy() -> None:
        deadlines = Deadlines(1.0, expired)
        deadlines.begin("asked")
        while deadlines.count and loop.now < 1_000.0:
            await loop.spend(tick)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(stay_busy())

    assert expired.names == ["asked"]
    assert loop.now < 6.0 + 14 * tick


def test_what_begins_when_another_is_late_delays_none() -> None:
    """Who is told may ask for something else at once; those before that are due first."""
    loop, expired = Ticks(), Expired()

    async def begin_two() -> None:
        def ask_again(name: str) -> None:
            expired(name)
            if name == "first":
                deadlines.begin("third")

        deadlines = Deadlines(1.0, ask_again)
        deadlines.begin("first")
        await loop.spend(0.1)
        deadlines.begin("second")
        while loop.now < 1.5:
            await loop.spend(0.05)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(begin_two())

    assert expired.names == ["first", "second"]


@pytest.mark.parametrize(("busy", "limits"), [(0, 1), (2, 3), (9, 6)])
def test_what_comes_and_goes_is_not_taken_for_hung(busy: int, limits: int) -> None:
    """It has its time some times over while bytes move, but not for ever."""
    loop, expired = Ticks(), Expired()
    answers = chain([True] * busy, repeat(False))

    async def let_move() -> None:
        deadlines = Deadlines(1.0, expired, lambda _: next(answers))
        deadlines.begin("large")
        while deadlines.count and loop.now < 1_000.0:
            await loop.spend(0.02)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(let_move())

    assert expired.names == ["large"]
    assert limits <= loop.now < limits + 1


def test_what_has_ended_while_it_was_drained_leaves_nothing() -> None:
    """Its place may be another's by then."""
    loop, expired = Ticks(), Expired()

    async def end_late() -> None:
        deadlines = Deadlines(1.0, expired)
        deadlines.begin("slow")
        await loop.spend(1.01)
        await loop.spend(0.01)
        deadlines.end("slow")
        assert deadlines.count == 0
        deadlines.begin("slow")
        while loop.now < 2.0:
            await loop.spend(0.02)

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(end_late())

    assert expired.names == []


@pytest.mark.parametrize("ends", [True, False])
async def test_one_task_may_be_watched_alone(ends: bool) -> None:
    """Until it ends."""
    gate = asyncio.Event()
    task = asyncio.create_task(gate.wait())
    watch(task, LIMIT)
    if ends:
        gate.set()

    await asyncio.wait([task], timeout=DEADLINE)

    assert task.cancelled() is not ends
