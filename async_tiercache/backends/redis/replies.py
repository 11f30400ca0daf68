"""What the replies of Redis mean to the cache: contents, states and errors."""

import re
from collections.abc import Callable, Sequence
from functools import partial
from types import NoneType
from typing import Any, Final, Literal

from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    NoPermissionError,
    OutOfMemoryError,
)

from async_tiercache.abc import UNREACHED, Content, Reading
from async_tiercache.backends.redis.failures import NodeDownError, is_down
from async_tiercache.backends.redis.turns import Read
from async_tiercache.errors import TierError, TierPartError, TierRefusedError
from async_tiercache.tags import STATE_BYTES

OPERATION_LIMIT: Final = 0.25
"""How long one turn to Redis may take, in seconds."""

_CONTENT: Final = frozenset({bytes, NoneType})
_tuple: Final[Any] = tuple
_READING: Final[Callable[[tuple[Any, Any]], Reading]] = partial(_tuple.__new__, Reading)
"""Makes one without the function that its class has for that."""


def translated(
    error: BaseException, keys: tuple[str, ...] = (), tags: tuple[str, ...] = ()
) -> TierError:
    """Return what an error of redis-py means to the cache."""
    if isinstance(error, NodeDownError):
        text = f"Redis serves in part: {error}"
        return TierPartError(text, tier="l2", keys=keys, tags=tags)
    # Not what is about this one command: one text says once what is the matter.
    said = re.split(r",? (?:with args|script:)", str(error), maxsplit=1)[0].rstrip(".")
    if isinstance(error, OutOfMemoryError):
        hint = "Set maxmemory-policy allkeys-lru or allkeys-lfu, or give it more memory."
        return TierRefusedError(f"Redis is full: {said}", tier="l2", hint=hint)
    if isinstance(error, NoPermissionError):
        hint = "docs/concepts/redis.md has the commands that its user needs."
        return TierRefusedError(f"Redis refused: {said}", tier="l2", hint=hint)
    if isinstance(error, AskError | ClusterCrossSlotError):
        hint = "Use redis+cluster:// or a RedisCluster."
        return TierRefusedError("Redis refused: it is a node of a Cluster", tier="l2", hint=hint)
    if not is_down(error):
        return TierRefusedError(f"Redis refused: {said}", tier="l2")
    if isinstance(error, TypeError | ValueError):
        # No command could be made of it, whatever the server does.
        return TierRefusedError(f"Redis was not asked: {error}", tier="l2")
    if isinstance(error, TimeoutError):
        return TierError(f"Redis did not answer in {OPERATION_LIMIT} s", tier="l2")
    return TierError(f"Redis is out of reach: {error}", tier="l2")


def content_of(reply: Any) -> bytes | None:
    """Return what a key holds, if it is that."""
    if reply is None or isinstance(reply, bytes):
        return reply
    raise TierError(f"Redis answered a read with {type(reply).__name__}", tier="l2")


def contents_of(replies: list[Any]) -> list[Content]:
    """Return what keys hold."""
    return replies if _CONTENT.issuperset(map(type, replies)) else list(map(content_of, replies))


def state_in(held: Content) -> Content:
    """Return the state of a tag, if its name holds one."""
    return held if held is UNREACHED or (held is not None and len(held) == STATE_BYTES) else None


class PromptRead(Read):
    """Calls back with what was read, where a future would wait for a tick of the loop.

    Args:
        names: What is read.
        keys: How many of the names are keys; the others are tags.
        heard: Is called once.
    """

    __slots__ = ("_heard", "_keys")

    def __init__(
        self, names: Sequence[str], keys: int, heard: Callable[[Reading | TierError], None]
    ) -> None:
        super().__init__(("MGET", *names))
        self._keys = keys
        self._heard = heard

    def set_result(self, result: Any, /) -> None:
        """Hand the contents on."""
        self.told, keys = True, self._keys
        try:
            held = contents_of(result)
        except TierError as error:
            self._heard(error)
            return
        self._heard(_READING((held[:keys], [state_in(each) for each in held[keys:]])))

    def set_exception(self, exception: Exception, /) -> None:
        """Hand on what the error means."""
        self.told = True
        self._heard(translated(exception))


class PromptTake:
    """Calls back with what a key holds instead of a lease.

    Args:
        token: The lease; a repeated command finds what its lost first try has put there.
        heard: Is called once.
    """

    __slots__ = ("_heard", "_over", "_token")

    def __init__(
        self, token: bytes, heard: Callable[[bytes | TierError | Literal[False] | None], None]
    ) -> None:
        self._token = token
        self._heard = heard
        self._over = False

    def done(self) -> bool:
        """Return whether it was called."""
        return self._over

    def set_result(self, result: Any, /) -> None:
        """Hand on what the key holds."""
        self._over = True
        try:
            held = None if result == self._token else content_of(result)
        except TierError as error:
            self._heard(error)
        else:
            self._heard(held)

    def set_exception(self, exception: Exception, /) -> None:
        """Hand on what the error means."""
        self._over = True
        # Another type takes a script, which `take` sends.
        other = str(exception).startswith("WRONGTYPE")
        self._heard(False if other else translated(exception))
