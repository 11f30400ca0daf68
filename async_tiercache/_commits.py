"""Commits: what is changed inside a transaction is told to the tiers after its commit.

An invalidation that is sent before the commit removes a value that the next reader loads again
from the state before it.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

from async_tiercache._family import Family
from async_tiercache._invalidator import Invalidator
from async_tiercache._report import Report
from async_tiercache._writer import Writer

QUEUED: Final = Report("queued", "queued")


class Scope:
    """What one block has collected.

    Attributes:
        home: The commits of the block's cache.
        outer: The block around it, of whatever cache.
        changes: By key, the last change: a family and the value put, or `None` when invalidated.
        ended: Whether the block is over, for tasks that outlive it.
    """

    __slots__ = ("changes", "ended", "home", "outer")

    def __init__(self, home: "Commits", outer: "Scope | None") -> None:
        self.home = home
        self.outer = outer
        self.changes: dict[str, tuple[Family, Any] | None] = {}
        self.ended = False

    def innermost(self, home: "Commits") -> "Scope | None":
        """Return the innermost block of a cache that is still open, this one or one around it."""
        scope: Scope | None = self
        while scope is not None and (scope.home is not home or scope.ended):
            scope = scope.outer
        return scope

    @property
    def around(self) -> "Scope | None":
        """The next block of the same cache around this one that is still open."""
        return None if self.outer is None else self.outer.innermost(self.home)


_SCOPE: Final[ContextVar[Scope | None]] = ContextVar("tiercache_commits", default=None)


class Commits:
    """Changes of one cache: at once, or at the end of the block that they are made in."""

    def __init__(self, invalidator: Invalidator, writer: Writer) -> None:
        self._invalidator = invalidator
        self._writer = writer

    async def invalidate(self, keys: Iterable[str]) -> Report:
        """Remove keys from every tier, now or after the commit."""
        scope = self.scope
        if scope is None:
            return await self._invalidator.invalidate(keys)
        for key in keys:
            # Told in the order in which they were last changed.
            scope.changes.pop(key, None)
            scope.changes[key] = None
        return QUEUED

    async def put(self, family: Family, key: str, value: Any) -> Report:
        """Put a value, now or after the commit.

        Raises:
            EncodeError: The value cannot be stored; nothing has changed then.
        """
        scope = self.scope
        if scope is None:
            return await self._writer.put(family, key, value)
        family.codec.encode(value)
        scope.changes.pop(key, None)
        scope.changes[key] = family, value
        return QUEUED

    @property
    def scope(self) -> Scope | None:
        """The innermost block of this cache that is still open."""
        scope = _SCOPE.get()
        return None if scope is None else scope.innermost(self)

    @asynccontextmanager
    async def after_commit(self) -> AsyncGenerator[None]:
        """Collect changes; make them when the block ends well, drop them when it raises.

        A block inside another one hands its changes to that one. One that is cancelled may have
        been committed or not, so what it has changed is invalidated.
        """
        scope = Scope(self, _SCOPE.get())
        token = _SCOPE.set(scope)
        cancelled = False
        try:
            yield
        except Exception:
            scope.changes.clear()
            raise
        except BaseException:
            cancelled = True
            raise
        finally:
            scope.ended = True
            with contextlib.suppress(ValueError):  # entered in another context, which is gone
                _SCOPE.reset(token)
            changes = dict.fromkeys(scope.changes) if cancelled else scope.changes
            # The block around may have ended before this one, in a task or a dependency.
            outer = scope.around
            if outer is None:
                await self._make(changes)
            else:
                for key, change in changes.items():
                    outer.changes.pop(key, None)
                    outer.changes[key] = change

    async def _make(self, changes: dict[str, tuple[Family, Any] | None]) -> None:
        # All of them first: whoever is cancelled in between must leave nothing old behind.
        await self._invalidator.invalidate(changes)
        for key, change in changes.items():
            if change is not None:
                family, value = change
                await self._writer.put(family, key, value)
