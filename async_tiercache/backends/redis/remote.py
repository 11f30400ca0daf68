"""`RedisRemote`: the Redis or Valkey behind a cache, as `abc.Remote`.

Holds one string per key, ``namespace:{key}``, and beside an entry that is being refreshed its mark,
``namespace:{key}:r``. The braces make both live in one slot of a Cluster.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from async_tiercache.abc import Clock, Invalidation
from async_tiercache.backends.redis import scripts
from async_tiercache.backends.redis.connection import Wires, check_client, check_url, connect
from async_tiercache.backends.redis.turns import Turns
from async_tiercache.errors import ConfigurationError, TierError, TierRefusedError

OPERATION_LIMIT: Final = 0.25
"""How long one turn to Redis may take, in seconds."""

# Not every version of redis-py has a class for each of these.
_DOWN_ANSWERS = (
    "BUSY ",
    "CLUSTERDOWN ",
    "LOADING ",
    "MASTERDOWN ",
    "MISCONF ",
    "NOAUTH ",
    "READONLY ",
)
_DOWN = (
    AuthenticationError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
)


class RedisRemote:
    """One Redis or Valkey server, reached through redis-py.

    Args:
        url: Where it is, unless `client` is given.
        namespace: The first part of every key.
        clock: The clock of this process.
        client: A client of the caller's own, which is borrowed and never closed. It must not
            decode responses.
    """

    def __init__(
        self, url: str | None, *, namespace: str, clock: Clock, client: "Redis | None" = None
    ) -> None:
        if url is not None and client is not None:
            raise ConfigurationError(
                "url and client= both say where Redis is", hint="Pass one of them."
            )
        if client is not None:
            check_client(client)
        self._url = "" if url is None else check_url(url)
        self._clock = clock
        self._prefix = f"{namespace}:{{"
        self._borrowed = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Redis | None = client
        self._turns: Turns | None = None
        self._closed = False
        # Until the server has told its time, this machine's is the best guess.
        self._offset = clock.wall() - clock.monotonic()

    def now(self) -> float:
        """Return the server's time, in seconds since the epoch, from the last sample of it."""
        return self._clock.monotonic() + self._offset

    async def probe(self) -> None:
        """Connect if need be, and write a key that no cached key can be."""
        await self._ask(self._on_loop().submit("SET", self._key("~"), b"", "PX", 1))

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what each key holds."""
        turns = self._on_loop()
        replies = [turns.submit("GET", self._key(key)) for key in keys]
        if len(replies) == 1:
            return [_content(await self._ask(replies[0]))]
        return [_content(reply) for reply in await self._ask(asyncio.gather(*replies))]

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        """Put a lease on a key that holds nothing or `instead_of`."""
        turns, name, life = self._on_loop(), self._key(key), _milliseconds(seconds)
        held: bytes | None
        if instead_of is None:
            try:
                held = await self._ask(turns.submit("SET", name, token, "NX", "GET", "PX", life))
            except TierRefusedError as error:
                if not str(error.__cause__).startswith("WRONGTYPE"):
                    raise
                held = await self._ask(turns.run(scripts.REPLACE, [name], token, life, ""))
        else:
            held = await self._ask(turns.run(scripts.REPLACE, [name], token, life, instead_of))
        # A repeated command finds what its lost first try has put there.
        return None if held == token else _content(held)

    async def seize(self, key: str, token: bytes, seconds: float, /) -> None:
        """Put a lease in place of whatever the key holds."""
        turns, name = self._on_loop(), self._key(key)
        await self._ask(turns.submit("SET", name, token, "PX", _milliseconds(seconds)))

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Claim the refresh of an entry."""
        turns, name = self._on_loop(), self._mark(key)
        life = _milliseconds(seconds)
        held = await self._ask(turns.submit("SET", name, token, "NX", "GET", "PX", life))
        return held is None or held == token

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Prolong our lease or mark."""
        names, life = [self._key(key), self._mark(key)], _milliseconds(seconds)
        return bool(await self._ask(self._on_loop().run(scripts.RENEW, names, token, life)))

    async def release(self, key: str, token: bytes, /) -> None:
        """Remove our lease or mark."""
        names = [self._key(key), self._mark(key)]
        await self._ask(self._on_loop().run(scripts.RELEASE, names, token))

    async def commit(
        self, key: str, frame: bytes, seconds: float, /, *, fence: bytes, mark: bytes | None = None
    ) -> bool:
        """Store a frame if the key still holds what `fence` names."""
        names = [self._key(key), self._mark(key)]
        arguments = (fence, frame, _milliseconds(seconds), mark or b"")
        return bool(await self._ask(self._on_loop().run(scripts.COMMIT, names, *arguments)))

    async def invalidate(self, record: Invalidation, /) -> None:
        """Remove entries, leases and marks."""
        names = [name for key in record.keys for name in (self._key(key), self._mark(key))]
        await self._ask(self._on_loop().submit("DEL", *names))

    async def aclose(self) -> None:
        """Wait for the turns on the wire and close our own connections."""
        turns, self._turns = self._turns, None
        if turns is not None and self._loop is asyncio.get_running_loop():
            await turns.aclose()
            if self._client is not None and self._borrowed is None:
                await self._client.aclose()
        self._loop = None
        self._closed = True

    def _set_time(self, seconds: float) -> None:
        self._offset = seconds - self._clock.monotonic()

    def _key(self, key: str) -> str:
        return f"{self._prefix}{key}}}"

    def _mark(self, key: str) -> str:
        return f"{self._prefix}{key}}}:r"

    def _on_loop(self) -> Turns:
        """Return the turns of the running loop; connections of an earlier loop are left to it."""
        if self._closed:
            raise TierError("The connection to Redis was closed", tier="l2")
        loop = asyncio.get_running_loop()
        if self._turns is None or self._loop is not loop:
            if self._borrowed is None:
                self._client = connect(self._url)
            assert self._client is not None
            self._loop = loop
            wires = Wires(self._client, told_time=self._set_time)
            self._turns = Turns(wires, limit=OPERATION_LIMIT)
        return self._turns

    async def _ask(self, reply: Awaitable[Any]) -> Any:
        """Await a reply and translate what redis-py raises."""
        try:
            return await reply
        except _DOWN as error:
            raise TierError(f"Redis cannot serve: {error}", tier="l2") from error
        except OutOfMemoryError as error:
            raise TierRefusedError(f"Redis is full: {error}", tier="l2") from error
        except ResponseError as error:
            if str(error).startswith(_DOWN_ANSWERS):
                raise TierError(f"Redis cannot serve: {error}", tier="l2") from error
            raise TierRefusedError(f"Redis refused: {error}", tier="l2") from error
        except TimeoutError as error:
            raise TierError(f"Redis did not answer in {OPERATION_LIMIT} s", tier="l2") from error
        except Exception as error:
            raise TierError(f"Redis is out of reach: {error}", tier="l2") from error


def _content(reply: Any) -> bytes | None:
    """Return what a key holds, if it is that."""
    if reply is None or isinstance(reply, bytes):
        return reply
    raise TierError(f"Redis answered a read with {type(reply).__name__}", tier="l2")


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
