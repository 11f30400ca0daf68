"""Which tier answered a call: noted by an observer of the cache in the context of the caller."""

from contextvars import ContextVar

from async_tiercache import Event, Read


class Answer:
    """Where the events of one task's calls are noted.

    Attributes:
        read: The last read that left L1, `None` when the call was an L1 hit.
    """

    __slots__ = ("read",)

    def __init__(self) -> None:
        self.read: Read | None = None


current: ContextVar[Answer | None] = ContextVar("current", default=None)


def note(event: Event) -> None:
    """Observe the cache: keep each `Read` for the task whose call it answers."""
    if isinstance(event, Read):
        answer = current.get()
        if answer is not None:
            answer.read = event
