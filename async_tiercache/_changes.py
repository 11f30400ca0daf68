"""What is invalidated inside a block, as one token."""

from collections.abc import Callable
from contextvars import ContextVar
from typing import Final, TypeAlias

from async_tiercache.abc import Invalidation

Told: TypeAlias = tuple[Invalidation, bool]
"""An invalidation, and whether L2 had not confirmed it."""


class Changes:
    """What one cache is told inside a block that is no longer true.

    Args:
        home: The cache's.
        token_of: Makes the token of invalidations.
        outer: The block around it, of whatever cache.

    Attributes:
        ended: Whether the block is over, for tasks that outlive it.
    """

    __slots__ = ("_home", "_outer", "_token_of", "_told", "ended")

    def __init__(
        self, home: object, token_of: Callable[[list[Told]], str], outer: "Changes | None"
    ) -> None:
        self._home = home
        self._token_of = token_of
        self._outer = outer
        self._told: list[Told] = []
        self.ended = False

    @property
    def token(self) -> str:
        """What `TierCache.apply` takes in another process; empty if there is nothing to tell."""
        return self._token_of(self._told)

    def note(self, home: object, told: Told) -> None:
        """Take in what a cache has been told; so do the blocks around this one."""
        if home is self._home and not self.ended:
            self._told.append(told)
        if self._outer is not None:
            self._outer.note(home, told)


CHANGES: Final[ContextVar[Changes | None]] = ContextVar("tiercache_changes", default=None)
"""The innermost block in which this runs."""
