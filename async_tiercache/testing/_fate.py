"""What happens to commands and messages on their way through a simulated network."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, TypeAlias

LIMIT: Final = 0.25
"""Seconds after which the sender of a command gives it up."""
NEVER: Final = float("inf")


class Journey(NamedTuple):
    """A command or message on its way.

    Attributes:
        process: The number of the process that sends or gets it.
        operation: The name of the method of `abc.Remote`; ``"message"`` for one of the bus,
            ``"ping"`` for its heartbeat.
        keys: The texts of the keys, and tags, that it is about.
    """

    process: int
    operation: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fate:
    """What happens to a command on its way; by default it arrives at once, once.

    Attributes:
        request: Seconds until it reaches the server; `NEVER` if it does not.
        reply: Seconds until its reply reaches the sender; `NEVER` if that does not. A message
            takes both times.
        again: Seconds after the first time until it is carried out a second time, which is answered
            if the first one never is.
        broken: Whether the sender learns at once that the connection is broken.
        refused: The server carries nothing out and answers with this error.
        kills: The process ends before the command leaves it, or when it has been carried out.
    """

    request: float = 0.0
    reply: float = 0.0
    again: float | None = None
    broken: bool = False
    refused: str = ""
    kills: Literal["before", "after"] | None = None


CALM: Final = Fate()
Rule: TypeAlias = Callable[[Journey], Fate | None]
"""Decides the fate of a journey; `None` leaves it to chance."""
