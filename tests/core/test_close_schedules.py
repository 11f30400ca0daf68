"""Schedules that are close together keep every promise; ``TESTS_LONG`` multiplies their number."""

import asyncio
import logging
import os
from typing import Final

import pytest

from async_tiercache.testing._simulated_server import SimulatedServer
from tests.core.simulation.close import draw, shrink
from tests.core.simulation.steps import Schedule, run, story_of

COUNT: Final = 500
LONG: Final = int(os.environ.get("TESTS_LONG", "1"))
FIRST: Final = int(os.environ.get("TESTS_SEED", "0"))
"""The number of the first schedule; others are others."""


def _fails(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> bool:
    return bool(loop.run_until_complete(run(schedule)).model.problems)


@pytest.fixture
def loop(caplog: pytest.LogCaptureFixture) -> asyncio.AbstractEventLoop:
    """Return a loop for all schedules, of which nothing is logged."""
    caplog.set_level(logging.CRITICAL)
    return asyncio.new_event_loop()


@pytest.mark.timeout(0)
def test_close_schedules_keep_every_promise(loop: asyncio.AbstractEventLoop) -> None:
    """What does not is shrunk, and told with all that has happened."""
    for number in range(FIRST, FIRST + COUNT * LONG):
        schedule = draw(number)
        if _fails(loop, schedule):
            least = shrink(schedule, lambda each: _fails(loop, each))
            world = loop.run_until_complete(run(least))
            pytest.fail(f"number {number}: {least!r}\n\n{story_of(world)}")
    loop.close()


def test_a_server_that_tells_nobody_is_found(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the schedules above can fail, and are short when they do."""
    monkeypatch.setattr(SimulatedServer, "_publish", lambda _server, _record: None)

    number = next(each for each in range(COUNT) if _fails(loop, draw(each)))
    least = shrink(draw(number), lambda each: _fails(loop, each))

    assert len(least.steps) <= 4
    assert _fails(loop, least)
    loop.close()
