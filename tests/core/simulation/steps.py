"""Steps of a schedule: what they are, how Hypothesis draws them, and how they are run."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from hypothesis import strategies as st

from async_tiercache.testing._fate import Fate
from tests.core.simulation.process import (
    NAMES,
    TAGS,
)
from tests.core.simulation.world import FATES, OPERATIONS, World

WAITS: Final = (0.001, 0.004, 0.02, 0.02, 0.1, 0.1, 0.1, 0.3, 0.3, 0.6, 1.2, 2.5, 6.0)
PAUSES: Final = ("rest", "rest", "rest", 0, 1, 2, 3, 5, 8)
"""What comes after a step: everything comes to rest, or so many ticks of the loop pass."""
_TAKES: Final = (0.0, 0.01, 0.1, 0.1, 0.5, 0.5, 3.0)
_ENDS: Final = ("well",) * 10 + ("raises", "is cancelled")


class Focus(NamedTuple):
    """What a schedule is about: few things, so that they meet.

    Attributes:
        names: Which rows are read.
        targets: Which keys and tags are invalidated.
    """

    names: tuple[str, ...]
    targets: tuple[dict[str, Any], ...]


def _focus(*names: str, tags: Sequence[str] = ()) -> Focus:
    keys = [{"keys": [name], "tags": []} for name in names if "/" not in name]
    tagged = [{"keys": [], "tags": [tag]} for tag in tags]
    return Focus(names, (*keys, *tagged))


FOCI: Final = (
    _focus("row:0:0"),
    _focus("raw:0"),
    _focus("met:0", tags=["m"]),
    _focus("row:0:0", tags=["g:0", "g:0"]),
    _focus("row:0:0", "row:0:1", "row:1:0", tags=["g:0", "g:1"]),
    _focus("page:0", "row:0:0", tags=["g:0", "g:0"]),
    _focus("doc:0", tags=["d:0", "d:0"]),
    _focus("raw:0", "raw:1"),
    _focus("met:0", "met:1", tags=["m"]),
    _focus("sheet:0", "doc:0", tags=["d:0"]),
    _focus("label/raw:0", "raw:0", tags=["l", "l"]),
    _focus(*NAMES, tags=TAGS),
)


class Kind(NamedTuple):
    """A kind of step.

    Attributes:
        weight: How often it comes, relative to others; 0 if only where it is spelled out.
        choices: By argument, what it may be, the simplest first.
        group: Schedules have all kinds of a group, or none.
    """

    weight: int
    choices: dict[str, Sequence[Any]]
    group: str = ""


_OWN_FATES: Final = (
    *(None,) * 8,
    "are refused",
    "are refused",
    "are lost",
    "are not answered",
    "break",
    "come late",
    "come very late",
    "come again late",
    "is heard late",
    "is heard late",
)
"""What an invalidation itself meets."""
_PROCESS: Final = ("process",)
_NAME: Final = ("name",)
_TARGET: Final = ("target",)
KINDS: Final[dict[str, Kind]] = {
    "wait": Kind(16, {"seconds": WAITS}),
    "read": Kind(
        26,
        {
            "process": _PROCESS,
            "name": _NAME,
            "how": ("one", "one", "one", "one", "one", "many", "look", "refresh"),
            "takes": _TAKES,
            "reads": ("early", "early", "early", "late"),
            "ends": _ENDS,
        },
    ),
    "invalidate": Kind(
        12,
        {
            "process": _PROCESS,
            "target": _TARGET,
            "soft": (None, None, None, None, 0.5, 2.0),
            "fate": ("fate",),
        },
    ),
    "hand_over": Kind(4, {"process": _PROCESS}, "tokens"),
    "clear": Kind(3, {"process": _PROCESS}, "clears"),
    "after_commit": Kind(
        5,
        {
            "process": _PROCESS,
            "target": _TARGET,
            "takes": (0.0, 0.1, 0.5),
            "ends": ("well", "well", "raises"),
        },
        "commits",
    ),
    "invalidating": Kind(
        8,
        {
            "process": _PROCESS,
            "target": _TARGET,
            "takes": (0.0, 0.1, 0.5, 2.0),
            "ends": ("well", "well", "raises"),
        },
        "blocks",
    ),
    "put": Kind(5, {"process": _PROCESS, "name": _NAME}, "puts"),
    "write": Kind(
        8,
        {
            "process": _PROCESS,
            "name": _NAME,
            "takes": (0.0, 0.1, 0.5, 2.0),
            "ends": ("sets", "sets", "well", "raises"),
        },
        "puts",
    ),
    "change": Kind(2, {"name": _NAME}),
    "cancel": Kind(5, {"which": tuple(range(8))}, "cancels"),
    "strike": Kind(
        14,
        {
            "process": (None, "process"),
            "what": (*OPERATIONS, "leases", "commits", "invalidations", "invalidations"),
            "fate": (*FATES, "are lost", "are not answered", "come late", "come very late"),
            "times": (1, 1, 2, 4),
        },
        "network",
    ),
    "server": Kind(4, {"what": ("goes down", "hangs", "restarts")}, "server"),
    "evict": Kind(8, {"which": tuple(range(8))}, "server"),
    "lose": Kind(4, {"what": ("key", "key", "mark", "epoch", "last"), "name": _NAME}, "server"),
    "remember": Kind(3, {}, "copies"),
    "replace": Kind(2, {}, "copies"),
    "cut": Kind(6, {"process": _PROCESS, "how": ("loudly", "silently")}, "bus"),
    "pause": Kind(4, {"process": _PROCESS}, "processes"),
    "resume": Kind(3, {"process": _PROCESS}, "processes"),
    "kill": Kind(2, {"process": _PROCESS}, "processes"),
    "copy": Kind(0, {"name": _NAME, "to": _NAME}),
    "lag": Kind(0, {"process": _PROCESS, "seconds": (0.1, 0.2)}),
    "heal": Kind(3, {}),
}
_GROUPS: Final = tuple(dict.fromkeys(kind.group for kind in KINDS.values() if kind.group))
_MOST: Final = 2**23


class Step(NamedTuple):
    """One step of a schedule.

    Attributes:
        kind: Which method of `World` is called.
        arguments: With what.
        then: What comes after it.
    """

    kind: str
    arguments: dict[str, Any]
    then: int | str

    def __repr__(self) -> str:
        """Return it as a call."""
        spelled = ", ".join(f"{name}={value!r}" for name, value in self.arguments.items())
        pause = "" if self.then == "rest" else f".then({self.then})"
        return f"{self.kind}({spelled}){pause}"


class Schedule(NamedTuple):
    """What happens, in order.

    Attributes:
        network: From which the delays of the network are drawn; 0 for none.
        steps: The steps.
        names: The rows that they are about.
    """

    network: int
    steps: tuple[Step, ...]
    names: tuple[str, ...]

    def __repr__(self) -> str:
        """Return it as one step per line."""
        return "\n    ".join([f"network {self.network}", *map(repr, self.steps)])


def schedule_of(network: int, number: int, drawn: Sequence[tuple[int, int]]) -> Schedule:
    """Return the schedule that numbers stand for; lower ones are simpler.

    Args:
        network: From which the delays of the network are drawn.
        number: Says what the schedule is about, and which groups of kinds it has.
        drawn: For each step, which kind it is, and the rest.
    """
    number, which = divmod(number, len(FOCI))
    number, processes = divmod(number, 3)
    groups = {"", *(group for at, group in enumerate(_GROUPS) if number >> at & 1)}
    kinds = [
        name for name, kind in KINDS.items() for _ in range(kind.weight) if kind.group in groups
    ]
    focus = FOCI[which]
    choices: dict[str, Sequence[Any]] = {
        "process": tuple(range(3 if processes == 2 else 2)),
        "name": focus.names,
        "fate": _OWN_FATES if "network" in groups else (None,),
        "target": focus.targets,
    }
    steps = [_step_of(kinds[kind % len(kinds)], rest, choices) for kind, rest in drawn if kind]
    return Schedule(network, tuple(steps), focus.names)


def _step_of(kind: str, number: int, choices: Mapping[str, Sequence[Any]]) -> Step:
    number, pause = divmod(number, len(PAUSES))
    arguments: dict[str, Any] = {}
    for name, own in KINDS[kind].choices.items():
        number, at = divmod(number, len(own))
        chosen = own[at]
        if isinstance(chosen, str) and chosen in choices:
            number, at = divmod(number, len(choices[chosen]))
            chosen = choices[chosen][at]
        arguments |= chosen if name == "target" else {name: chosen}
    return Step(kind, arguments, "rest" if kind == "wait" else PAUSES[pause])


_NUMBERS: Final = st.tuples(st.integers(0, 999), st.integers(0, _MOST - 1))
SCHEDULES: Final = st.builds(
    schedule_of,
    st.integers(0, 1_000),
    st.integers(0, len(FOCI) * 3 * 2 ** len(_GROUPS) - 1),
    # Hypothesis draws lists of about twice the least size; what shrinks to nothing is left out.
    st.lists(_NUMBERS, min_size=14, max_size=40),
)
"""Schedules; `schedule_of` says what the numbers are."""


async def run(schedule: Schedule) -> World:
    """Run a schedule to its end, or to its first problem."""
    world = World(schedule.network, schedule.names)
    try:
        await world.begin()
        for step in schedule.steps:
            if step.kind == "wait":
                await world.clock.advance(step.arguments["seconds"])
                continue
            getattr(world, step.kind)(**step.arguments)
            await world.pause_for(step.then)
            if world.model.problems:
                return world
        await world.end()
    finally:
        await world.dispose()
    return world


def story_of(world: World) -> str:
    """Return what went wrong, and what had happened before."""
    problems = world.model.problems
    lines = [
        f"{at:9.3f}  {text}  {_told(about)}"
        for at, text, about in world.simulator.notes
        if at <= problems[0][0]
    ]
    return "\n".join([*(f"{at:9.3f}  {text}" for at, text in problems), "", *lines])


def _told(about: Any) -> str:
    match about:
        case (tuple(), Fate() as fate):
            changed = [f"{name}={value!r}" for name, value in _changed(fate).items()]
            return f"{_told(about[0])}: {', '.join(changed)}"
        case (tuple(), bytes() as raw):
            return f"{_told(about[0])} -> {raw[:22]!r}"
        case _:
            return str(about)[:300]


def _changed(fate: Fate) -> dict[str, Any]:
    calm = Fate()
    names = Fate.__dataclass_fields__
    values = {name: getattr(fate, name) for name in names}
    return {name: value for name, value in values.items() if value != getattr(calm, name)}
