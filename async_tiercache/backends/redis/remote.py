"""`RedisRemote`: the Redis or Valkey behind a cache, as `abc.Remote`.

Holds one string per key, ``namespace:{key}``, and beside an entry that is being refreshed its mark,
``namespace:{key}:r``. The braces make both live in one slot of a Cluster.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Any, Final

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import OutOfMemoryError, TryAgainError

from async_tiercache.abc import Clock, Invalidation
from async_tiercache.backends.redis import scripts
from async_tiercache.backends.redis.advice import (
    Advice,
    about_settings,
    about_way,
    settings_of,
    way_of,
)
from async_tiercache.backends.redis.clients import Client, check_client, check_url, close, connect
from async_tiercache.backends.redis.cluster import Cluster
from async_tiercache.backends.redis.connection import Wires
from async_tiercache.backends.redis.directory import Directory
from async_tiercache.backends.redis.failures import NodeDownError, is_down
from async_tiercache.backends.redis.route import Route
from async_tiercache.backends.redis.sentinel import MasterWires
from async_tiercache.backends.redis.turns import MAX_TURNS, Turns
from async_tiercache.errors import (
    ConfigurationError,
    TierError,
    TierPartError,
    TierRefusedError,
)

OPERATION_LIMIT: Final = 0.25
"""How long one turn to Redis may take, in seconds."""


class RedisRemote:
    """Redis or Valkey, one server or a Cluster, reached through redis-py.

    Args:
        url: Where it is, unless `client` is given.
        namespace: The first part of every key.
        clock: The clock of this process.
        client: A client of the caller's own, which is borrowed and never closed. It must not
            decode responses.
    """

    def __init__(
        self, url: str | None, *, namespace: str, clock: Clock, client: Client | None = None
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
        self._client: Client | None = client
        self._route: Route | None = None
        self._closed = False
        # Until the server has told its time, this machine's is the best guess.
        self._offset = clock.wall() - clock.monotonic()

    def now(self) -> float:
        """Return the server's time, in seconds since the epoch, from the last sample of it."""
        return self._clock.monotonic() + self._offset

    async def probe(self) -> None:
        """Connect if need be, and write keys that no cached key can be."""
        await self._ask(self._on_loop().prove(lambda number: self._key(f"*{number}")))

    async def advice(self) -> Sequence[Advice]:
        """Return what the server's settings, and the way to it, make advisable."""
        route = self._on_loop()
        replies = await asyncio.gather(
            *route.everywhere("CONFIG", "GET", "maxmemory*"), return_exceptions=True
        )
        advice = [each for reply in replies for each in about_settings(settings_of(reply))]
        for connection in route.connections():
            advice += about_way(way_of(connection))
        return list({name: (name, message) for name, message in advice}.values())

    async def get_many(self, keys: Sequence[str], /) -> list[bytes | None]:
        """Return what each key holds."""
        route = self._on_loop()
        replies = [route.submit("GET", self._key(key)) for key in keys]
        if len(replies) == 1:
            return [_content(await self._ask(replies[0]))]
        contents: list[bytes | None] = []
        down: list[NodeDownError] = []
        for reply in await asyncio.gather(*replies, return_exceptions=True):
            if isinstance(reply, NodeDownError):
                down.append(reply)
                contents.append(None)
            elif isinstance(reply, BaseException):
                raise _translated(reply) from reply
            else:
                contents.append(_content(reply))
        if down and len(down) == len(keys):
            raise _translated(down[0]) from down[0]
        return contents

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        """Put a lease on a key that holds nothing or `instead_of`."""
        route, name, life = self._on_loop(), self._key(key), _milliseconds(seconds)
        replace = partial(scripts.run, route, scripts.REPLACE, [name], token, life)
        held: bytes | None
        if instead_of is None:
            try:
                held = await self._ask(route.submit("SET", name, token, "NX", "GET", "PX", life))
            except TierRefusedError as error:
                if not str(error.__cause__).startswith("WRONGTYPE"):
                    raise
                held = await self._ask(replace(""))
        else:
            held = await self._ask(replace(instead_of))
        # A repeated command finds what its lost first try has put there.
        return None if held == token else _content(held)

    async def seize(self, key: str, token: bytes, seconds: float, /) -> None:
        """Put a lease in place of whatever the key holds."""
        route, name = self._on_loop(), self._key(key)
        await self._ask(route.submit("SET", name, token, "PX", _milliseconds(seconds)))

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Claim the refresh of an entry."""
        route, name = self._on_loop(), self._mark(key)
        life = _milliseconds(seconds)
        held = await self._ask(route.submit("SET", name, token, "NX", "GET", "PX", life))
        return held is None or held == token

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Prolong our lease or mark."""
        return bool(
            await self._ask(self._on_both(scripts.RENEW, key, token, _milliseconds(seconds)))
        )

    async def release(self, key: str, token: bytes, /) -> None:
        """Remove our lease or mark."""
        await self._ask(self._on_both(scripts.RELEASE, key, token))

    async def commit(
        self, key: str, frame: bytes, seconds: float, /, *, fence: bytes, mark: bytes | None = None
    ) -> bool:
        """Store a frame if the key still holds what `fence` names."""
        arguments = (fence, frame, _milliseconds(seconds))
        return bool(await self._ask(self._write(scripts.COMMIT, key, arguments, mark)))

    async def stamp(
        self, key: str, stamp: bytes, seconds: float, /, *, fence: bytes, mark: bytes | None = None
    ) -> bool:
        """Give an entry a new id and new times."""
        arguments = (fence, stamp, _milliseconds(seconds))
        return bool(await self._ask(self._write(scripts.STAMP, key, arguments, mark)))

    async def invalidate(self, record: Invalidation, /) -> None:
        """Remove entries, leases and marks."""
        names = [name for key in record.keys for name in (self._key(key), self._mark(key))]
        removals = self._on_loop().delete(names)
        if len(removals) == 1:
            await self._ask(removals[0])
            return
        results = await asyncio.gather(*removals, return_exceptions=True)
        failures = [result for result in results if isinstance(result, BaseException)]
        for failure in failures:
            if not isinstance(failure, NodeDownError):
                raise _translated(failure) from failure
        if failures:
            failed = dict.fromkeys(
                record.keys[index // 2]
                for index, result in enumerate(results)
                if isinstance(result, BaseException)
            )
            raise _translated(failures[0], tuple(failed)) from failures[0]

    async def aclose(self) -> None:
        """Wait for the turns on the wire and close our own connections."""
        route, self._route = self._route, None
        if route is not None and self._loop is asyncio.get_running_loop():
            await route.aclose()
            if self._client is not None and self._borrowed is None:
                await close(self._client)
        self._loop = None
        self._closed = True

    async def _write(
        self, script: str, key: str, arguments: tuple[Any, ...], mark: bytes | None
    ) -> Any:
        """Run a script that writes what a key holds and then removes our mark, if there is one."""
        route, name = self._on_loop(), self._key(key)
        if mark is None:
            return await scripts.run(route, script, [name], *arguments, "")
        both = [name, self._mark(key)]
        try:
            return await scripts.run(route, script, both, *arguments, mark)
        except TryAgainError:
            # Their slot is on its way to another node, which has but one of them.
            written = await scripts.run(route, script, [name], *arguments, "")
            if written:
                await scripts.run(route, scripts.RELEASE, both[1:], mark)
            return written

    async def _on_both(self, script: str, key: str, *arguments: Any) -> Any:
        """Run a script on a key and its mark, of which one holds what is ours."""
        route, names = self._on_loop(), [self._key(key), self._mark(key)]
        try:
            return await scripts.run(route, script, names, *arguments)
        except TryAgainError:
            # Their slot is on its way to another node, which has but one of them.
            each = [scripts.run(route, script, [name], *arguments) for name in names]
            return any(await asyncio.gather(*each))

    def _set_time(self, seconds: float) -> None:
        self._offset = seconds - self._clock.monotonic()

    def _key(self, key: str) -> str:
        return f"{self._prefix}{key}}}"

    def _mark(self, key: str) -> str:
        return f"{self._prefix}{key}}}:r"

    def _on_loop(self) -> Route:
        """Return the route of the running loop; connections of an earlier loop are left to it."""
        if self._closed:
            raise TierError("The connection to Redis was closed", tier="l2")
        loop = asyncio.get_running_loop()
        if self._route is None or self._loop is not loop:
            if self._borrowed is None:
                self._client = connect(self._url)
            assert self._client is not None
            self._loop = loop
            self._route = self._route_of(self._client)
        return self._route

    def _route_of(self, client: Client) -> Route:
        if isinstance(client, RedisCluster):
            return Cluster(
                Directory(client),
                clock=self._clock,
                limit=OPERATION_LIMIT,
                told_time=self._set_time,
            )
        pool: Any = client.connection_pool
        if isinstance(pool, SentinelConnectionPool):
            proof = ("SET", self._key("*"), b"", "PX", 1)
            wires: Wires = MasterWires(pool, told_time=self._set_time, proof=proof)
        else:
            wires = Wires(pool.make_connection, told_time=self._set_time)
        width = min(MAX_TURNS, getattr(pool, "max_connections", MAX_TURNS))
        return Turns(wires, limit=OPERATION_LIMIT, width=width)

    async def _ask(self, reply: Awaitable[Any]) -> Any:
        """Await a reply and translate what redis-py raises."""
        try:
            return await reply
        except Exception as error:
            raise _translated(error) from error


def _translated(error: BaseException, keys: tuple[str, ...] = ()) -> TierError:
    """Return what an error of redis-py means to the cache."""
    if isinstance(error, NodeDownError):
        return TierPartError(f"Redis serves in part: {error}", tier="l2", keys=keys)
    if isinstance(error, OutOfMemoryError):
        return TierRefusedError(f"Redis is full: {error}", tier="l2")
    if not is_down(error):
        return TierRefusedError(f"Redis refused: {error}", tier="l2")
    if isinstance(error, TimeoutError):
        return TierError(f"Redis did not answer in {OPERATION_LIMIT} s", tier="l2")
    return TierError(f"Redis is out of reach: {error}", tier="l2")


def _content(reply: Any) -> bytes | None:
    """Return what a key holds, if it is that."""
    if reply is None or isinstance(reply, bytes):
        return reply
    raise TierError(f"Redis answered a read with {type(reply).__name__}", tier="l2")


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
