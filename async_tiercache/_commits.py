"""Commits: what is changed inside a transaction is told to the tiers after its commit.

An invalidation that is sent before the commit removes a value that the next reader loads again
from the state before it.
"""

import contextlib
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from async_tiercache._family import Family
from async_tiercache._invalidator import Invalidator
from async_tiercache._report import Report
from async_tiercache._writer import Writer
from async_tiercache.abc import NAMESPACE, Invalidation
from async_tiercache.errors import UsageError

QUEUED: Final = Report("queued", "queued")


Name: TypeAlias = tuple[Literal["key", "tag"], str]


@dataclass(frozen=True, slots=True)
class Put:
    """A value that is put under a key."""

    family: Family
    value: Any
    tags: tuple[str, ...]


Change: TypeAlias = Put | float | None
"""What becomes of a key or tag: a new value; stale, to be served for so long; `None`: gone."""


class Scope:
    """What one block has collected.

    Attributes:
        home: The commits of the block's cache.
        outer: The block around it, of whatever cache.
        changes: By key or tag, the last change; what is gone does not become stale, and what is
            stale is served no longer than any of them has said.
        ended: Whether the block is over, for tasks that outlive it.
    """

    __slots__ = ("changes", "ended", "home", "outer")

    def __init__(self, home: "Commits", outer: "Scope | None") -> None:
        self.home = home
        self.outer = outer
        self.changes: dict[Name, Change] = {}
        self.ended = False

    def note(self, name: Name, change: Change) -> None:
        """Take in a change; they are told in the order in which they were last made."""
        kind, text = name
        if kind == "tag":
            for each, put in self.changes.items():
                if isinstance(put, Put) and (text == NAMESPACE or text in put.tags):
                    # All values are put after the tags have been told.
                    self.changes[each] = None
        before = self.changes.pop(name, change)
        if isinstance(change, float):
            change = min(before, change) if isinstance(before, float) else None
        self.changes[name] = change

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

    async def invalidate(
        self,
        keys: Iterable[str] = (),
        tags: Iterable[str] = (),
        *,
        soft: float | None = None,
        strict: bool = False,
    ) -> Report:
        """Remove keys and what stands under tags from every tier, now or after the commit."""
        scope = self.scope
        if scope is None:
            return await self._invalidator.invalidate(keys, tags, soft=soft, strict=strict)
        for key in keys:
            scope.note(("key", key), soft)
        for tag in tags:
            scope.note(("tag", tag), soft)
        return QUEUED

    async def put(self, family: Family, key: str, value: Any, tags: tuple[str, ...] = ()) -> Report:
        """Put a value, now or after the commit.

        Raises:
            EncodeError: The value cannot be stored; nothing has changed then.
        """
        scope = self.scope
        if scope is None:
            return await self._writer.put(family, key, value, tags)
        # What the caller does with its own until then is no part of what it has said.
        value = family.codec.decode(family.encode(key, value))
        scope.note(("key", key), Put(family, value, tags))
        return QUEUED

    def refuse_blocks(self) -> None:
        """Refuse a block of keys that would end before the commit.

        Raises:
            UsageError: It stands inside `after_commit`.
        """
        if self.scope is not None:
            raise UsageError(
                "A crash-safe invalidation inside after_commit() would end before the commit",
                hint="Open cache.invalidating(...) around the whole transaction.",
            )

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
            changes: dict[Name, Change] = scope.changes
            if cancelled:
                changes = dict.fromkeys(scope.changes)
            # The block around may have ended before this one, in a task or a dependency.
            outer = scope.around
            if outer is None:
                await self._make(changes)
            else:
                for name, change in changes.items():
                    outer.note(name, change)

    async def _make(self, changes: dict[Name, Change]) -> None:
        # All of them begin before the first is told: whoever is cancelled in between must leave
        # nothing old behind.
        begun: list[Invalidation] = []
        windows = {change for change in changes.values() if isinstance(change, float)}
        for soft in (None, *sorted(windows)):
            keys: list[str] = []
            tags: list[str] = []
            for (kind, text), change in changes.items():
                if soft == (change if isinstance(change, float) else None):
                    (keys if kind == "key" else tags).append(text)
            begun.append(self._invalidator.begin(keys, tags, soft))
        for record in begun:
            await self._invalidator.tell(record)
        for (_, key), change in changes.items():
            if isinstance(change, Put):
                await self._writer.put(change.family, key, change.value, change.tags)
