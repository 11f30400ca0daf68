"""Runs the schedules of the simulator, the same ones each time, and tells which break a promise.

The known ones come first, then those that are drawn. `tests/core/test_simulator.py` shrinks what it
finds; here it is enough that there is one. Ends with 1 if so.
"""

import argparse
import asyncio
import logging
import sys
from typing import Final

from hypothesis import HealthCheck, Phase, given, settings

from tests.core.simulation.known import KNOWN
from tests.core.simulation.steps import SCHEDULES, Schedule, run

BROKEN: Final = 1


def main(count: int, left_out: frozenset[int], *, every: bool) -> int:
    """Run schedules.

    Args:
        count: How many are drawn.
        left_out: The numbers of those of them that prove nothing.
        every: Go on after the first that breaks a promise.
    """
    logging.disable(logging.CRITICAL)
    loop = asyncio.new_event_loop()
    number, broken = 0, 0
    for name, schedule in KNOWN:
        problems = loop.run_until_complete(run(schedule)).model.problems
        if problems and (every or not broken):
            broken += 1
            print(f"known {name}: {problems[0]}", flush=True)  # noqa: T201 - a command

    @settings(
        max_examples=count,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(schedule=SCHEDULES)
    def hold(schedule: Schedule) -> None:
        # Nothing is raised here, so that the same schedules come whatever they break.
        nonlocal number, broken
        number += 1
        if number in left_out or (broken and not every):
            return
        problems = loop.run_until_complete(run(schedule)).model.problems
        if problems:
            broken += 1
            print(f"schedule {number}: {problems[0]}", flush=True)  # noqa: T201 - a command

    if every or not broken:
        hold()
    loop.close()
    return BROKEN if broken else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.mutations.schedules")
    parser.add_argument("count", type=int)
    parser.add_argument("--without", default="", metavar="NUMBER,...")
    parser.add_argument("--every", action="store_true")
    given_options = parser.parse_args()
    numbers = frozenset(map(int, filter(None, given_options.without.split(","))))
    sys.exit(main(given_options.count, numbers, every=given_options.every))
