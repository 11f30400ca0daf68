"""Schedules that are spelled out, step by step."""

from typing import Any, NamedTuple

from tests.core.simulation.steps import KINDS, Schedule, Step


class Known(NamedTuple):
    """A schedule that is known to need a safeguard.

    Attributes:
        name: The safeguard, as `tests/mutations` calls it.
        schedule: What happens.
    """

    name: str
    schedule: Schedule


def known(name: str, rows: tuple[str, ...], *steps: Step, network: int = 0) -> Known:
    """Return a known schedule about some rows, which are read once more at its end.

    Args:
        name: The safeguard.
        rows: The rows.
        steps: What happens.
        network: From which delays are drawn; 0 for none but those of the steps.
    """
    return Known(name, Schedule(network, steps, rows))


def step(kind: str, *, then: int | str = "rest", **arguments: Any) -> Step:
    """Return a step; what is not given is the simplest choice of its kind.

    Raises:
        TypeError: The kind has no such argument.
    """
    simplest: dict[str, Any] = {}
    for name, choices in KINDS[kind].choices.items():
        if name == "target":
            simplest |= {"keys": [], "tags": []}
        else:
            simplest[name] = None if choices[0] == "fate" else choices[0]
    if unknown := arguments.keys() - simplest.keys():
        raise TypeError(f"{kind} has no {unknown}")
    return Step(kind, simplest | arguments, then)


def wait(seconds: float) -> Step:
    """Return a step that lets time go on."""
    return step("wait", seconds=seconds)
