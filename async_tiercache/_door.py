"""The door: what nearly every call that leaves L1 passes by one comparison."""

import asyncio


class Door:
    """Stands open for the calls of one loop.

    Attributes:
        loop: On which the cache is open; `None` before that and after its close, and in a forked
            child: then `Core.admit` says what is to be done.
    """

    __slots__ = ("loop",)

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
