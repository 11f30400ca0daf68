"""What the cache did for a call: noted by an observer of the cache in the context of the caller."""

from collections.abc import Callable
from contextvars import ContextVar

from async_tiercache import Event, Invalidated, Read


class Answer:
    """Where the events of one task's calls are noted.

    Attributes:
        read: The last read that left L1, `None` when the call was an L1 hit.
        invalidated: The last invalidation; right after an update has returned it is the update's.

    Args:
        about: Only reads of keys that begin with it are noted.
    """

    __slots__ = ("about", "invalidated", "read")

    def __init__(self, about: str = "") -> None:
        self.about = about
        self.read: Read | None = None
        self.invalidated: Invalidated | None = None


current: ContextVar[Answer | None] = ContextVar("current", default=None)

confirmed: list[Callable[[Invalidated], None]] = []
"""Are told of each invalidation that L2 has confirmed, in whatever task that happens."""


def note(event: Event) -> None:
    """Observe the cache: keep what concerns the task whose call it is about."""
    answer = current.get()
    if isinstance(event, Read):
        if answer is not None and event.key.startswith(answer.about):
            answer.read = event
    elif isinstance(event, Invalidated):
        if answer is not None:
            answer.invalidated = event
        if event.l2 != "queued":
            for tell in confirmed:
                tell(event)
