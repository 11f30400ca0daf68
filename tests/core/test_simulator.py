"""Schedules of several processes over a simulated L2: nothing old, nothing lost, nothing left.

Some are known, each for one safeguard. Others Hypothesis draws, and shrinks those that fail to a
short list of steps. ``TESTS_LONG`` multiplies their number, and adds others each time: what they
find is not of the change at hand.
"""

import asyncio
import logging
import os
from collections.abc import Iterator
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, find, given, seed, settings

from async_tiercache.tags import STATE_BYTES
from async_tiercache.testing._simulated_server import SimulatedServer
from tests.core.simulation.known import KNOWN
from tests.core.simulation.spelled import Known
from tests.core.simulation.steps import SCHEDULES, Schedule, run, story_of

LONG: Final = int(os.environ.get("TESTS_LONG", "1"))
_SETTINGS: Final = settings(
    max_examples=500 * LONG,
    database=None,
    suppress_health_check=list(HealthCheck),
)
_UNTIL_FOUND: Final = settings(
    _SETTINGS, max_examples=1_000, derandomize=True, phases=[Phase.generate]
)


@pytest.fixture(scope="module", autouse=True)
def quiet() -> Iterator[None]:
    """Log nothing of what goes wrong on purpose."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """Return a loop for all schedules."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.mark.parametrize("known", KNOWN, ids=[known.name for known in KNOWN])
def test_a_known_schedule_keeps_every_promise(
    loop: asyncio.AbstractEventLoop, known: Known
) -> None:
    """Without the safeguard of its name it does not."""
    _holds(loop, known.schedule)


@pytest.mark.timeout(0 if LONG > 1 else 300)
@seed(4)
@settings(_SETTINGS)
@given(schedule=SCHEDULES)
def test_drawn_schedules_keep_every_promise(
    loop: asyncio.AbstractEventLoop, schedule: Schedule
) -> None:
    """By one seed."""
    _holds(loop, schedule)


@pytest.mark.timeout(0 if LONG > 1 else 300)
@settings(_SETTINGS, derandomize=True)
@given(schedule=SCHEDULES)
def test_other_schedules_of_each_tree_keep_every_promise(
    loop: asyncio.AbstractEventLoop, schedule: Schedule
) -> None:
    """Hypothesis draws them by what the sources hold: the same again until one is changed."""
    _holds(loop, schedule)


@pytest.mark.skipif("TESTS_LONG" not in os.environ, reason="TESTS_LONG is not set")
@pytest.mark.timeout(0)
@settings(_SETTINGS)
@given(schedule=SCHEDULES)
def test_random_schedules_keep_every_promise(
    loop: asyncio.AbstractEventLoop, schedule: Schedule
) -> None:
    """Others each time."""
    _holds(loop, schedule)


def _always(*_arguments: object) -> bool:
    return True


def _overwrite(server: SimulatedServer, key: str, token: bytes, seconds: float, _: object) -> None:
    server.held["key", key] = token, server.time() + seconds


def _used_before(_server: SimulatedServer) -> bytes:
    return bytes(STATE_BYTES)


def _tell_nobody(_server: SimulatedServer, _record: object) -> None:
    """Publish nothing."""


@pytest.mark.parametrize(
    ("method", "broken"),
    [
        ("_compares", _always),
        ("take", _overwrite),
        ("_new_state", _used_before),
        ("_publish", _tell_nobody),
    ],
    ids=["commits do not compare", "takes overwrite", "ids are used again", "nobody is told"],
)
def test_a_server_that_breaks_a_promise_is_found(
    loop: asyncio.AbstractEventLoop, monkeypatch: pytest.MonkeyPatch, method: str, broken: object
) -> None:
    """So the schedules above can fail."""
    monkeypatch.setattr(SimulatedServer, method, broken)

    def fails(schedule: Schedule) -> bool:
        return bool(loop.run_until_complete(run(schedule)).model.problems)

    find(SCHEDULES, fails, settings=_UNTIL_FOUND)


def _holds(loop: asyncio.AbstractEventLoop, schedule: Schedule) -> None:
    world = loop.run_until_complete(run(schedule))
    assert not world.model.problems, story_of(world)
