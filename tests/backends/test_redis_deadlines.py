"""Tasks that ask a server are cancelled when they take too long, many by one timer."""

import asyncio
import time

import pytest

from async_tiercache.backends.redis.deadlines import Deadlines, watch

LIMIT = 0.02
DEADLINE = 5.0
"""How long anything may take here; reached only by tests that fail."""


def hanging() -> "asyncio.Task[object]":
    """Return a task that does not end by itself."""
    return asyncio.create_task(asyncio.Event().wait())


async def cancelled(*tasks: "asyncio.Task[object]") -> bool:
    """Return whether tasks are cancelled, once they have ended."""
    await asyncio.wait(tasks, timeout=DEADLINE)
    return all(task.cancelled() for task in tasks)


async def test_all_that_take_too_long_are_cancelled() -> None:
    """Also those that begin while others run, or after all have ended."""
    deadlines = Deadlines(LIMIT)
    first, second = hanging(), hanging()
    deadlines.begin(first)
    await asyncio.sleep(0)
    deadlines.begin(second)
    assert deadlines.running == [first, second]

    assert await cancelled(first, second)

    third = hanging()
    deadlines.begin(third)
    assert await cancelled(third)
    assert deadlines.running == []


async def test_a_task_that_has_its_answer_is_let_be() -> None:
    """It goes on with what it does then."""
    deadlines = Deadlines(LIMIT)
    answered, late = hanging(), hanging()
    deadlines.begin(answered)
    deadlines.begin(late)
    deadlines.end(answered)

    assert await cancelled(late)
    assert not answered.done()
    answered.cancel()


async def test_a_loop_that_was_busy_takes_nothing_for_late() -> None:
    """The answer may wait in the socket; the task has its whole time again."""
    deadlines = Deadlines(LIMIT)
    task = hanging()
    deadlines.begin(task)
    busy_until = time.monotonic() + 3 * LIMIT
    while time.monotonic() < busy_until:
        pass
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    assert not task.done()
    assert deadlines.running == [task]
    assert await cancelled(task)


@pytest.mark.parametrize("ends", [True, False])
async def test_one_task_may_be_watched_alone(ends: bool) -> None:
    """Until it ends."""
    gate = asyncio.Event()
    task = asyncio.create_task(gate.wait())
    watch(task, LIMIT)
    if ends:
        gate.set()

    assert await cancelled(task) is not ends
