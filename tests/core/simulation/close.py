"""Schedules of few kinds of steps, close to each other: what Hypothesis spreads meets here.

A step of each kind is cheap to name and they come within a few milliseconds of each other, so that
replies, messages and renewals of one row overtake one another all the time.
"""

from collections.abc import Callable
from random import Random
from typing import Any, Final

from tests.core.simulation.spelled import step, wait
from tests.core.simulation.steps import Schedule, Step

_FOCI: Final = (
    ("raw:0",),
    ("row:0:0",),
    ("met:0",),
    ("doc:0",),
    ("row:0:0", "page:0"),
    ("doc:0", "sheet:0"),
    ("raw:0", "label/raw:0"),
)
_TAGS: Final = {
    "row:0:0": "g:0",
    "page:0": "g:0",
    "met:0": "m",
    "doc:0": "d:0",
    "sheet:0": "d:0",
    "label/raw:0": "l",
}
_PROCESSES: Final = (0, 0, 0, 1, 1, 2)
_STRUCK: Final = (
    "commits",
    "reads",
    "reads",
    "messages",
    "leases",
    "invalidations",
    "renewals",
    "states",
)
_FATES: Final = (
    "are slow",
    "have slow replies",
    "come late",
    "are lost",
    "are not answered",
    "are refused",
)
_PAUSES: Final = (0.01, 0.05, 0.1, 0.1, 0.2)
_LONG_WAITS: Final = (0.35, 1.2, 2.5)


def draw(number: int) -> Schedule:
    """Return the schedule of a number."""
    chance = Random(number)
    names = chance.choice(_FOCI)
    steps: list[Step] = []
    for _ in range(chance.randint(5, 14)):
        make = chance.choices(list(_KINDS), weights=list(_KINDS.values()))[0]
        steps += make(chance, chance.choice(names))
        if chance.random() < 0.75:
            steps.append(wait(chance.choice(_PAUSES)))
    return Schedule(0, tuple(steps), names)


def shrink(schedule: Schedule, fails: Callable[[Schedule], bool]) -> Schedule:
    """Return a schedule that fails as well, and from which no step can be left out."""
    steps = schedule.steps
    at = 0
    while at < len(steps):
        less = schedule._replace(steps=steps[:at] + steps[at + 1 :])
        if fails(less):
            steps, at = less.steps, 0
        else:
            at += 1
    return schedule._replace(steps=steps)


def _read(chance: Random, name: str) -> list[Step]:
    how = chance.choice(("one", "one", "one", "many", "look", "refresh"))
    return [
        step(
            "read",
            process=chance.choice(_PROCESSES),
            name=name,
            how=how,
            takes=chance.choice((0.0, 0.0, 0.05, 0.1, 0.3, 0.5, 0.9)),
            reads=chance.choice(("early", "late")),
            ends=chance.choice((*("well",) * 6, "raises", "is cancelled")),
            then=chance.choice(("rest", "rest", "rest", 0, 1, 3)),
        )
    ]


def _invalidate(chance: Random, name: str) -> list[Step]:
    target: dict[str, Any] = {"keys": [name]}
    if "/" in name or (name in _TAGS and chance.random() < 0.4):
        target = {"tags": [_TAGS[name]]}
    soft = chance.choice((None, None, None, 2.0))
    return [step("invalidate", process=chance.choice(_PROCESSES), soft=soft, **target)]


def _change(_chance: Random, name: str) -> list[Step]:
    return [] if "/" in name else [step("change", name=name)]


def _strike(chance: Random, _name: str) -> list[Step]:
    return [
        step(
            "strike",
            process=chance.choice(_PROCESSES),
            what=chance.choice(_STRUCK),
            fate=chance.choice(_FATES),
            times=chance.choice((1, 1, 2, 9)),
        )
    ]


def _lose(chance: Random, name: str) -> list[Step]:
    row = name.rpartition("/")[2]
    return [step("lose", what=chance.choice(("key", "mark")), name=row)]


def _cancel(chance: Random, _name: str) -> list[Step]:
    return [step("cancel", which=chance.randrange(4))]


def _cut(chance: Random, _name: str) -> list[Step]:
    how = chance.choice(("silently", "loudly"))
    return [step("cut", process=chance.choice(_PROCESSES), how=how)]


def _pause(chance: Random, _name: str) -> list[Step]:
    process, then = chance.choice(_PROCESSES), chance.choice((0, "rest"))
    stopped = wait(chance.choice((0.1, 0.5, 2.5)))
    return [step("pause", process=process), stopped, step("resume", process=process, then=then)]


def _block(chance: Random, name: str) -> list[Step]:
    if "/" in name:
        return []
    takes, ends = chance.choice((0.0, 0.1, 0.5)), chance.choice(("well", "raises"))
    process = chance.choice(_PROCESSES)
    return [step("invalidating", process=process, keys=[name], takes=takes, ends=ends)]


def _write(chance: Random, name: str) -> list[Step]:
    if name != "raw:0":
        return []
    takes, ends = chance.choice((0.0, 0.1, 0.5)), chance.choice(("sets", "well"))
    return [step("write", process=chance.choice(_PROCESSES), name=name, takes=takes, ends=ends)]


def _wait(chance: Random, _name: str) -> list[Step]:
    return [wait(chance.choice(_LONG_WAITS))]


_KINDS: Final[dict[Callable[[Random, str], list[Step]], int]] = {
    _read: 42,
    _invalidate: 13,
    _change: 7,
    _strike: 20,
    _lose: 4,
    _cancel: 2,
    _cut: 1,
    _pause: 1,
    _block: 2,
    _write: 3,
    _wait: 5,
}
