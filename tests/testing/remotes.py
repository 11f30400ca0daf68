"""A remote in a dict that keeps its promises, and others that each break one."""

import asyncio
from collections.abc import Sequence

from async_tiercache._clock import SystemClock
from async_tiercache.abc import Invalidation
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET, is_lease


class DictRemote:
    """A tier in a dict; a turn to it is one tick of the loop, and then it acts at once."""

    def __init__(self) -> None:
        self.held: dict[str, tuple[bytes, float]] = {}
        self.marks: dict[str, tuple[bytes, float]] = {}

    def now(self) -> float:
        """Return seconds since the epoch."""
        return SystemClock.wall()

    async def probe(self) -> None:
        """Take a turn."""
        await self.turn()

    async def advice(self) -> Sequence[tuple[str, str]]:
        """Return nothing: it has no settings."""
        return ()

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what each key holds."""
        await self.turn()
        return [self.look(self.held, key) for key in keys]

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        """Put a lease on a key that holds nothing or `instead_of`."""
        await self.turn()
        held = self.look(self.held, key)
        if held not in {None, token, instead_of}:
            return held
        self.put(self.held, key, token, seconds)
        return None

    async def seize(self, key: str, token: bytes, seconds: float, /) -> None:
        """Put a lease in place of whatever the key holds."""
        await self.turn()
        self.put(self.held, key, token, seconds)

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

    async def commit(
        self, key: str, frame: bytes, seconds: float, /, *, fence: bytes, mark: bytes | None = None
    ) -> bool:
        """Store a frame if the key still holds what `fence` names."""
        await self.turn()
        if not self.compares(key, fence):
            return False
        self.put(self.held, key, frame, seconds)
        if mark is not None and self.look(self.marks, key) == mark:
            del self.marks[key]
        return True

    async def stamp(
        self, key: str, stamp: bytes, seconds: float, /, *, fence: bytes, mark: bytes | None = None
    ) -> bool:
        """Give an entry a new id and new times."""
        await self.turn()
        held = self.look(self.held, key)
        if held is None or not self.compares(key, fence):
            return False
        end = ENTRY_ID_OFFSET + len(stamp)
        self.put(self.held, key, held[:ENTRY_ID_OFFSET] + stamp + held[end:], seconds)
        if mark is not None and self.look(self.marks, key) == mark:
            del self.marks[key]
        return True

    async def invalidate(self, record: Invalidation, /) -> None:
        """Remove entries, leases and marks."""
        await self.turn()
        for key in record.keys:
            self.held.pop(key, None)
            self.marks.pop(key, None)

    async def aclose(self) -> None:
        """Do nothing: nothing was opened."""

    async def turn(self) -> None:
        """Let others act before the tier does."""
        await asyncio.sleep(0)

    def compares(self, key: str, fence: bytes) -> bool:
        """Return whether a key holds a lease, or the entry of an id."""
        held = self.look(self.held, key)
        if held is None:
            return False
        return fence == (held if is_lease(fence) else held[ENTRY_ID_OFFSET : ENTRY_ID_OFFSET + 16])

    def put(
        self, table: dict[str, tuple[bytes, float]], key: str, what: bytes, life: float
    ) -> None:
        """Let a key hold something for a time."""
        table[key] = (what, SystemClock.monotonic() + life)

    def look(self, table: dict[str, tuple[bytes, float]], key: str) -> bytes | None:
        """Return what a key holds, unless its time is over."""
        what, end = table.get(key, (None, 0.0))
        return what if SystemClock.monotonic() < end else None
