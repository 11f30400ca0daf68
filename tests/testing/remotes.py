"""A remote in a dict that keeps its promises, and others that each break one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from fnmatch import fnmatchcase
from math import inf
from secrets import token_bytes

from async_tiercache._clock import SYSTEM_CLOCK, SystemClock
from async_tiercache._entry import Header
from async_tiercache.abc import (
    NAMESPACE,
    TAG_EPOCH,
    Content,
    Invalidation,
    Listener,
    Reading,
)
from async_tiercache.codecs import frame as frames
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET, is_lease
from async_tiercache.tags import ID_BYTES, NEVER_SERVED, STATE_BYTES, pack_until

Table = dict[str, tuple[bytes, float]]


class DictRemote:
    """A tier in a dict; a turn to it is one tick of the loop, and then it acts at once.

    Attributes:
        held: What keys hold, and until when.
        marks: The marks of refreshers.
        states: The states of tags.
        blocks: Of keys and of tags, whose blocks there are, and until when.
        listeners: Who is told.
        awaited: The keys that are waited for.
    """

    def __init__(self) -> None:
        self.held: Table = {}
        self.marks: Table = {}
        self.states: Table = {}
        self.blocks: dict[tuple[str, str], dict[bytes, float]] = {}
        self.listeners: list[Listener] = []
        self.awaited: set[str] = set()
        self.shared = token_bytes(32)

    def now(self) -> float:
        """Return seconds since the epoch."""
        return SystemClock.wall()

    def latest(self) -> float:
        """Return the same: its clock is that of the machine."""
        return SystemClock.wall()

    async def probe(self) -> None:
        """Take a turn."""
        await self.turn()

    async def advice(self) -> Sequence[tuple[str, str]]:
        """Return nothing: it has no settings."""
        return ()

    async def listen(self, listener: Listener, bound: float, /) -> None:
        """Tell a listener what is invalidated."""
        listener.gap()
        self.listeners.append(listener)
        try:
            while True:
                listener.prove(SystemClock.monotonic() + bound)
                await SYSTEM_CLOCK.sleep(bound / 4)
        finally:
            self.listeners.remove(listener)

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        """Return what keys and tags hold."""
        await self.turn()
        return Reading([self.content(key) for key in keys], [self.state(tag) for tag in tags])

    async def ensure(self, tags: Sequence[str], seconds: float, /) -> list[bytes | None]:
        """Give each tag that has no state a new one."""
        await self.turn()
        for tag in tags:
            if not self.blocked("tag", tag) and self.state(tag) is None:
                life = inf if tag in {NAMESPACE, TAG_EPOCH} else seconds
                self.put(self.states, tag, self.new_state(), life)
        return [self.state(tag) for tag in tags]

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        """Put a lease on a key that holds nothing or `instead_of`."""
        await self.turn()
        held = self.content(key)
        if held not in {None, token, instead_of} or self.blocked("key", key):
            return held
        self.put(self.held, key, token, seconds)
        return None

    async def seize(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Put a lease in place of whatever the key holds, but a block."""
        await self.turn()
        if self.blocked("key", key):
            return False
        self.put(self.held, key, token, seconds)
        return True

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Claim the refresh of an entry."""
        await self.turn()
        if self.look(self.marks, key) not in {None, token}:
            return False
        self.put(self.marks, key, token, seconds)
        return True

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Prolong our lease or mark."""
        await self.turn()
        for table in (self.held, self.marks):
            if self.look(table, key) == token:
                self.put(table, key, token, seconds)
                return True
        return False

    async def release(self, key: str, token: bytes, /) -> None:
        """Remove our lease or mark."""
        await self.turn()
        for table in (self.held, self.marks):
            if self.look(table, key) == token:
                del table[key]
        self.wake(key)

    async def await_fill(self, key: str, held: bytes, /) -> Content:
        """Wake our listeners when another's load ends."""
        await self.turn()
        if self.content(key) == held:
            self.awaited.add(key)
        return self.content(key)

    async def commit(
        self,
        key: str,
        frame: bytes,
        seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
        tell: Invalidation | None = None,
    ) -> bool:
        """Store a frame if the key still holds what `fence` names."""
        await self.turn()
        self.wake(key)
        if tell is not None:
            self.tell(tell)
        if not self.compares(key, fence) or not self.marked(key, mark):
            return self.compares(key, frame[ENTRY_ID_OFFSET:][:16])
        self.put(self.held, key, frame, seconds)
        self.unmark(key, mark)
        self.extend(tags, seconds)
        return True

    async def stamp(
        self,
        key: str,
        stamp: bytes,
        seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
    ) -> bool:
        """Give an entry a new id and new times."""
        await self.turn()
        held = self.look(self.held, key)
        if held is None or not self.compares(key, fence) or not self.marked(key, mark):
            return self.compares(key, stamp[:16])
        self.put(self.held, key, stamped(held, stamp), seconds)
        self.unmark(key, mark)
        self.extend(tags, seconds)
        return True

    async def invalidate(self, record: Invalidation, /) -> None:
        """Remove or soften entries, remove leases and marks, and replace states."""
        await self.turn()
        self.shake(record)
        for key in record.keys:
            self.marks.pop(key, None)
            self.invalidate_key(key, record)
        for tag in record.tags:
            self.invalidate_tag(tag, record)
        self.tell(record)

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        """Let nobody store or serve what is under the keys and tags."""
        await self.turn()
        known = all(token in self.blocks_of(*name) for name in names_of(record))
        if not renewing:
            self.shake(record)
        for key in record.keys:
            self.held.pop(key, None)
            self.marks.pop(key, None)
        for tag in record.tags:
            self.states.pop(tag, None)
        for name in names_of(record):
            self.blocks.setdefault(name, {})[token] = SystemClock.monotonic() + seconds
        if not renewing or not known:
            self.tell(record)

    async def unblock(self, record: Invalidation, token: bytes, /) -> None:
        """End a block, and invalidate."""
        await self.turn()
        for name in names_of(record):
            self.blocks.get(name, {}).pop(token, None)
        await self.invalidate(record)

    async def scan(self, pattern: str, /) -> AsyncIterator[list[str]]:
        """Yield keys that match a glob, two at a time."""
        await self.turn()
        found = [key for key in self.held if fnmatchcase(key, pattern) and self.content(key)]
        for start in range(0, len(found), 2):
            yield found[start : start + 2]
            await self.turn()

    async def secret(self) -> bytes:
        """Return what all share."""
        await self.turn()
        return self.shared

    async def aclose(self) -> None:
        """Do nothing: nothing was opened."""

    async def turn(self) -> None:
        """Let others act before the tier does."""
        await asyncio.sleep(0)

    def content(self, key: str) -> bytes | None:
        """Return what a key holds, a block or something else."""
        return b"B" if self.blocked("key", key) else self.look(self.held, key)

    def state(self, tag: str) -> bytes | None:
        """Return the state of a tag that is not blocked."""
        return None if self.blocked("tag", tag) else self.look(self.states, tag)

    def blocks_of(self, kind: str, text: str) -> list[bytes]:
        """Return the tokens of the blocks there are."""
        now = SystemClock.monotonic()
        blocks = self.blocks.get((kind, text), {})
        return [token for token, deadline in blocks.items() if now < deadline]

    def blocked(self, kind: str, text: str) -> bool:
        """Return whether a key or tag is blocked."""
        return bool(self.blocks_of(kind, text))

    def new_state(self) -> bytes:
        """Return a state that no tag has had."""
        return token_bytes(2 * ID_BYTES).ljust(STATE_BYTES, b"\0")

    def shake(self, record: Invalidation) -> None:
        """Give TAG_EPOCH a new state where there are tags."""
        if record.tags and self.state(TAG_EPOCH) is not None:
            self.put(self.states, TAG_EPOCH, self.new_state(), inf)

    def invalidate_key(self, key: str, record: Invalidation) -> None:
        """Remove what a key holds, or make it stale."""
        held, end = self.held.pop(key, (b"", 0.0))
        if record.soft is not None and held.startswith(b"VT\3") and end > SystemClock.monotonic():
            now = self.now()
            times = Header(record.id, 0.0, now, now + record.soft, 0.0, b"")
            life = min(end, SystemClock.monotonic() + record.soft)
            self.held[key] = (stamped(held, frames.stamp(times)), life)

    def invalidate_tag(self, tag: str, record: Invalidation) -> None:
        """Replace a tag's ids, or its soft one."""
        old = self.state(tag)
        if old is None:
            return
        new = self.new_state()
        if record.soft is not None:
            soft, softened = new[:ID_BYTES], old[ID_BYTES : 2 * ID_BYTES]
            until = self.now() + record.soft if record.soft else NEVER_SERVED
            new = old[:ID_BYTES] + soft + softened + pack_until(until)
        self.states[tag] = (new, self.states[tag][1])

    def tell(self, record: Invalidation) -> None:
        """Tell all listeners."""
        for listener in self.listeners:
            listener.apply(record)

    def wake(self, key: str) -> None:
        """Tell all listeners that a load has ended, if somebody waits."""
        if key in self.awaited:
            self.awaited.discard(key)
            for listener in self.listeners:
                listener.wake(key)

    def marked(self, key: str, mark: bytes | None) -> bool:
        """Return whether our mark is there, if there should be one."""
        return mark is None or self.look(self.marks, key) == mark

    def unmark(self, key: str, mark: bytes | None) -> None:
        """Remove our mark."""
        if mark is not None and self.look(self.marks, key) == mark:
            del self.marks[key]

    def extend(self, tags: Sequence[str], seconds: float) -> None:
        """Let tags live as long as what is stored with them."""
        end = SystemClock.monotonic() + seconds
        for tag in tags:
            state = self.state(tag)
            if state is not None:
                self.states[tag] = (state, max(end, self.states[tag][1]))

    def compares(self, key: str, fence: bytes) -> bool:
        """Return whether a key holds a lease, or the entry of an id."""
        held = self.content(key)
        if held is None:
            return False
        return fence == (held if is_lease(fence) else held[ENTRY_ID_OFFSET : ENTRY_ID_OFFSET + 16])

    def put(self, table: Table, key: str, what: bytes, life: float) -> None:
        """Let a key hold something for a time."""
        table[key] = (what, SystemClock.monotonic() + life)

    def look(self, table: Table, key: str) -> bytes | None:
        """Return what a key holds, unless its time is over."""
        what, end = table.get(key, (None, 0.0))
        return what if SystemClock.monotonic() < end else None


def stamped(held: bytes, stamp: bytes) -> bytes:
    """Return an entry with another stamp."""
    return held[:ENTRY_ID_OFFSET] + stamp + held[ENTRY_ID_OFFSET + len(stamp) :]


def names_of(record: Invalidation) -> list[tuple[str, str]]:
    """Return what a record is about."""
    return [("key", key) for key in record.keys] + [("tag", tag) for tag in record.tags]
