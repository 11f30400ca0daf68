"""The seams of the package, as Protocols in terms of what each side promises."""

import asyncio
import enum
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

from async_tiercache._events import Event, Operation
from async_tiercache.errors import TierError

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
    """What is no longer true; ours, a message of another server, one that waits, or is repeated.

    Attributes:
        id: 16 random bytes.
        keys: The texts of the keys.
        tags: The texts of the tags; `NAMESPACE` is the tag of all entries.
        soft: For how long what is invalidated may still be served as stale, in seconds; 0: not at
            all, but what stands under a tag is compared; `None`: never again.
        pattern: What the keys are an incomplete list of, as a glob; empty for none.
        at: When it was made, by the remote tier's clock; 0.0 if that is not known.
    """

    id: bytes
    keys: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    soft: float | None = None
    pattern: str = ""
    at: float = 0.0

    def __bool__(self) -> bool:
        """Return whether anything is invalidated."""
        return bool(self.keys or self.tags or self.pattern)

    def without(self, keys: Iterable[str], tags: Iterable[str] = ()) -> "Invalidation":
        """Return the same record without some of its keys and tags."""
        gone, untagged = frozenset(keys), frozenset(tags)
        return replace(
            self,
            keys=tuple(key for key in self.keys if key not in gone),
            tags=tuple(tag for tag in self.tags if tag not in untagged),
        )


NAMESPACE: Final = "*"
"""The tag that every entry has; no tag of a user's has this text."""
TAG_EPOCH: Final = "*te"
"""The tag whose state is replaced before that of any other."""


class Unreached(enum.Enum):
    """The type of UNREACHED: the part of a tier that holds a key did not answer."""

    UNREACHED = enum.auto()


UNREACHED: Final = Unreached.UNREACHED

Content: TypeAlias = bytes | Unreached | None
"""What a key holds; `None` for nothing."""


class Reading(NamedTuple):
    """What a remote tier holds.

    Attributes:
        contents: Of each key.
        states: Of each tag, `None` where it has none: whatever stands under it is dead. UNREACHED
            says nothing about that.
    """

    contents: Sequence[Content]
    states: Sequence[Content]


class Listener(Protocol):
    """Is told what a remote tier's bus brings; no method awaits or raises."""

    def apply(self, record: Invalidation, /) -> None:
        """Take in an invalidation that any server has made, this one included."""
        ...

    def prove(self, deadline: float, /) -> None:
        """All messages sent before a moment ago were applied: trust until `deadline`, monotonic."""
        ...

    def gap(self, /) -> None:
        """Messages may have been missed."""
        ...

    def replaced(self, /) -> None:
        """The server is another one than before, or has restarted: it may hold what is older."""
        ...

    def wake(self, key: str, /) -> None:
        """A load of the key by another server has ended."""
        ...


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
    """A tier shared by all servers. Each key holds one string: a frame, a lease, a mark of a block.

    Each tag has a *state*: a hard id, and soft ones (`tags.TagState`). Whoever invalidates a tag
    replaces its ids by such as have never been used, however often a command is carried out.

    Every turn to the server ends within the limit, and a method that needs more than one stops at
    the first that fails with `TierError`. A caller's cancellation never cuts a command short. No
    method stores a value unconditionally: `commit` compares first, so a command that runs late
    changes nothing that came after it.
    """

    def now(self) -> float:
        """Return the remote clock's time, in seconds since the epoch, without asking it.

        It may be behind that clock, by the time that its last answer took, and not ahead of it.
        """
        ...

    def latest(self) -> float:
        """Return the latest that the remote clock may show now, in seconds since the epoch.

        What has an earlier time in L2 was made before now, whoever's estimate the time is.
        """
        ...

    async def probe(self) -> None:
        """Connect if need be, and prove that the tier, or a part of it, can be read and written."""
        ...

    async def advice(self) -> Sequence[tuple[str, str]]:
        """Return what its settings make advisable, as names in kebab-case and messages.

        What cannot be asked is left out.
        """
        ...

    async def listen(self, listener: Listener, bound: float, /) -> None:
        """Tell a listener what other servers invalidate, until cancelled.

        It goes on whatever fails. `Listener.gap` is called before the first proof, and whenever
        messages may have been missed since the last one.

        Args:
            listener: Who is told.
            bound: For how long after a moment a proof that is about that moment is good, in
                seconds.
        """
        ...

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        """Return what keys and tags hold, in the orders given.

        Raises:
            TierError: Nothing answered. Where only a part did not, its keys and tags are UNREACHED.
        """
        ...

    async def ensure(self, tags: Sequence[str], seconds: float, /) -> list[bytes | None]:
        """Give each tag that has no state a new one, and return the states.

        Args:
            tags: The texts of the tags.
            seconds: How long a new state is kept at least; that of NAMESPACE and TAG_EPOCH is kept
                for good.

        Returns:
            The states; `None` for a tag that is blocked.
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

    async def seize(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Put a lease in place of whatever the key holds; False if that is a block.

        What was there is gone.
        """
        ...

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Claim the refresh of an entry; False when another process has claimed it."""
        ...

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Prolong our lease or mark; False when it is no longer ours."""
        ...

    async def release(self, key: str, token: bytes, /) -> None:
        """Remove our lease or mark, if it is still there, and wake who waits for it."""
        ...

    async def await_fill(self, key: str, held: bytes, /) -> Content:
        """Let the end of another process's load be told to our listener, by `wake`.

        Args:
            key: The key's text.
            held: The lease of that load.

        Returns:
            What the key holds; a wake comes only if that is `held` still.
        """
        ...

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
        """Store a frame if the key still holds what `fence` names, and wake who waits for it.

        Args:
            key: The key's text.
            frame: What to store.
            seconds: When the server may forget it.
            fence: Our lease, or the 16-byte id of the entry that is refreshed.
            mark: The refresh mark, which must be there too, and which is removed.
            tags: Tags whose states shall be kept as long as the frame, if they are there.
            tell: What all listeners are told after that, stored or not: another writer's value may
                stand there, and that writer may tell nobody any more.

        Returns:
            Whether it was stored, be it by this very command that is repeated; False when an
            invalidation or another writer came between.
        """
        ...

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
        """Give an entry a new id and new times and leave its value where it is.

        Args:
            key: The key's text.
            stamp: The bytes to put in place of those that begin with the entry's id.
            seconds: When the server may forget the entry.
            fence: The 16-byte id of the entry.
            mark: The refresh mark, which must be there too, and which is removed.
            tags: Tags whose states shall be kept as long as the entry, if they are there.

        Returns:
            Whether the key still held that entry, and our mark was there; or the new id is there
            already, since this very command is repeated.
        """
        ...

    async def invalidate(self, record: Invalidation, /) -> None:
        """Remove what the keys hold, give the tags new states, and tell all listeners.

        A block stays. TAG_EPOCH gets a new state before any tag does. With `record.soft` an entry
        becomes stale instead: its stamp is replaced, with `record.id` as its new id, and a tag gets
        only a new soft id; leases and marks are gone all the same.

        Raises:
            TierPartError: The keys and tags that it names were not invalidated, the others were.
            TierError: Some or all were not.
        """
        ...

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        """Let nobody store or serve what is under the keys and tags until all blocks have ended.

        Args:
            record: Whose keys and tags; all listeners are told.
            token: 16 bytes that name this block.
            seconds: When it ends unless it is renewed.
            renewing: Whether it is there already, so that nobody need be told.

        Raises:
            TierError: Some or all are not blocked.
        """
        ...

    async def unblock(self, record: Invalidation, token: bytes, /) -> None:
        """End a block, invalidate its keys and tags, and tell all listeners.

        Raises:
            TierError: Some or all may still be blocked.
        """
        ...

    def scan(self, pattern: str, /) -> AsyncIterator[list[str]]:
        """Yield the texts of keys that match a glob over texts, in batches, some more than once.

        Keys that are written meanwhile may be left out.

        Raises:
            TierError: A part of the tier did not answer.
        """
        ...

    async def secret(self) -> bytes:
        """Return 32 random bytes that all servers of this namespace share."""
        ...

    async def aclose(self) -> None:
        """Close the connections that this object opened."""
        ...


@runtime_checkable
class PromptRemote(Protocol):
    """A remote tier that can also be asked without a coroutine, which saves much time."""

    def begin_read(
        self,
        keys: Sequence[str],
        tags: Sequence[str],
        heard: Callable[[Reading | TierError], None],
        /,
    ) -> bool:
        """Begin what `Remote.get_many` does, and return before the answer is there.

        Args:
            keys: The texts of the keys.
            tags: The texts of the tags.
            heard: Is called once, with the answer or with what `get_many` would raise.

        Returns:
            False if this is none of the reads that can be done so: then nothing has begun.

        Raises:
            TierError: The tier was closed.
        """
        ...

    def begin_take(
        self,
        key: str,
        token: bytes,
        seconds: float,
        heard: Callable[[bytes | TierError | Literal[False] | None], None],
        /,
    ) -> bool:
        """Begin what `Remote.take` does for a key that holds nothing, without waiting for it.

        It goes with what is asked next, and takes effect behind that, but where they part ways.

        Args:
            key: The text of the key.
            token: The lease.
            seconds: How long it lasts.
            heard: Is called once, with the answer or with why there is none; with False if `take`
                has to be asked, as for what stands there that is not bytes.

        Returns:
            False if this cannot be done so: then nothing has begun.

        Raises:
            TierError: The tier was closed.
        """
        ...


@runtime_checkable
class Remoting(Protocol):
    """Makes a remote tier that is no Redis; pass it as ``client=``."""

    def tiercache_remote(self, *, namespace: str, clock: Clock) -> Remote:
        """Return the tier of a namespace."""
        ...
