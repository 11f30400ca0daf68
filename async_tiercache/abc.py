"""The seams of the package, as Protocols in terms of what each side promises."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias

from async_tiercache._events import Event, Operation

Observer: TypeAlias = Callable[[Event], None]
"""Receives every event, synchronously: it must not block and should not raise."""


class Tracer(Protocol):
    """Sees the work that takes time while it goes on; `Observer` is told of it afterwards."""

    def around(self, operation: Operation, /) -> AbstractContextManager[object]:
        """Return a context that is entered where the work is done.

        What the work calls runs in that context, so that spans of a loader's own nest. An error
        of the work passes through it. An error of the tracer's own is logged and harms nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Invalidation:
    """What is no longer true; ours, one that waits for Redis, or one that is repeated.

    Attributes:
        id: 16 random bytes.
        keys: The texts of the keys.
    """

    id: bytes
    keys: tuple[str, ...]

    def without(self, keys: Iterable[str]) -> "Invalidation":
        """Return the same record without some of its keys."""
        left_out = frozenset(keys)
        return Invalidation(self.id, tuple(key for key in self.keys if key not in left_out))


class Clock(Protocol):
    """Time and chance; `SystemClock` outside tests."""

    def monotonic(self) -> float:
        """Return seconds on a clock that never goes back."""
        ...

    def wall(self) -> float:
        """Return seconds since the epoch."""
        ...

    def random(self) -> float:
        """Return a number drawn from [0, 1)."""
        ...

    async def sleep(self, seconds: float, /) -> None:
        """Return after `seconds`."""
        ...

    def timeout(self, seconds: float | None, /) -> asyncio.Timeout:
        """Return a context that raises `TimeoutError` when it lasts longer than `seconds`."""
        ...


class Codec(Protocol):
    """Turns values of one type into bytes and back.

    `decode(encode(value))` equals `value` and has its type.
    """

    @property
    def fingerprint(self) -> bytes:
        """8 bytes that change whenever the type's shape does."""
        ...

    def encode(self, value: Any, /) -> bytes:
        """Return the bytes of `value`.

        Raises:
            EncodeError: The value is not of the type, or cannot be stored.
        """
        ...

    def decode(self, payload: bytes | memoryview, /) -> Any:
        """Return the value.

        Raises:
            DecodeError: The bytes are not a value of the type; no other error is raised.
        """
        ...


class Remote(Protocol):
    """A tier shared by all servers, holding one string per key: a frame or a lease.

    Every turn to the server ends within the limit, and a method that needs more than one stops at
    the first that fails with `TierError`. A caller's cancellation never cuts a command short. No
    method stores a value unconditionally: `commit` compares first, so a command that runs late
    changes nothing that came after it.
    """

    def now(self) -> float:
        """Return the remote clock's time, in seconds since the epoch, without asking it."""
        ...

    async def probe(self) -> None:
        """Connect if need be, and prove that the tier, or a part of it, can be read and written."""
        ...

    async def advice(self) -> Sequence[tuple[str, str]]:
        """Return what its settings make advisable, as names in kebab-case and messages.

        What cannot be asked is left out.
        """
        ...

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what each key holds, in the order of `keys`, `None` for nothing.

        Where a part of the tier does not answer, what it would hold is `None` as well, unless that
        is all that was asked for: who then claims the key learns what is the matter.
        """
        ...

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        """Put a lease on a key that holds nothing, or that holds exactly `instead_of`.

        Args:
            key: The key's text.
            token: The lease, from `_fence`.
            seconds: When the lease ends unless it is renewed.
            instead_of: Dead or undecodable bytes to replace in the same step.

        Returns:
            `None` when the lease is ours, else what the key holds.
        """
        ...

    async def seize(self, key: str, token: bytes, seconds: float, /) -> None:
        """Put a lease in place of whatever the key holds: what was there is gone."""
        ...

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Claim the refresh of an entry; False when another process has claimed it."""
        ...

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Prolong our lease or mark; False when it is no longer ours."""
        ...

    async def release(self, key: str, token: bytes, /) -> None:
        """Remove our lease or mark, if it is still there."""
        ...

    async def commit(
        self, key: str, frame: bytes, seconds: float, /, *, fence: bytes, mark: bytes | None = None
    ) -> bool:
        """Store a frame if the key still holds what `fence` names.

        Args:
            key: The key's text.
            frame: What to store.
            seconds: When the server may forget it.
            fence: Our lease, or the 16-byte id of the entry that is refreshed.
            mark: The refresh mark to remove with it.

        Returns:
            Whether it was stored; False when an invalidation or another writer came between.
        """
        ...

    async def stamp(
        self, key: str, stamp: bytes, seconds: float, /, *, fence: bytes, mark: bytes | None = None
    ) -> bool:
        """Give an entry a new id and new times and leave its value where it is.

        Args:
            key: The key's text.
            stamp: The bytes to put in place of those that begin with the entry's id.
            seconds: When the server may forget the entry.
            fence: The 16-byte id of the entry.
            mark: The refresh mark to remove with it.

        Returns:
            Whether the key still held that entry.
        """
        ...

    async def invalidate(self, record: Invalidation, /) -> None:
        """Remove what the keys hold: entries, leases and marks.

        Raises:
            TierPartError: The keys that it names were not removed, the others were.
            TierError: Some or all were not removed.
        """
        ...

    async def aclose(self) -> None:
        """Close the connections that this object opened."""
        ...
