"""`RedisRemote`: the Redis or Valkey behind a cache, as `abc.Remote`.

Holds one string per key and one per tag; what else there is, and how all is called, is in `names`.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from secrets import token_bytes
from typing import Any, Final, Literal

from redis.asyncio.cluster import RedisCluster
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import (
    TryAgainError,
)

from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.abc import (
    NAMESPACE,
    TAG_EPOCH,
    UNREACHED,
    Clock,
    Content,
    Invalidation,
    Listener,
    Reading,
)
from async_tiercache.backends.redis import changes, scripts
from async_tiercache.backends.redis.advice import (
    Advice,
    about_settings,
    about_way,
    settings_of,
    way_of,
)
from async_tiercache.backends.redis.bus import Bus, bus_of
from async_tiercache.backends.redis.clients import Client, check_client, check_url, close, connect
from async_tiercache.backends.redis.cluster import Cluster
from async_tiercache.backends.redis.cluster_bus import ClusterBus
from async_tiercache.backends.redis.connections import connection_of
from async_tiercache.backends.redis.directory import Directory
from async_tiercache.backends.redis.failures import NodeDownError
from async_tiercache.backends.redis.line import WAIT_SECONDS, Line
from async_tiercache.backends.redis.names import Names
from async_tiercache.backends.redis.replies import (
    OPERATION_LIMIT,
    PromptRead,
    PromptTake,
    content_of,
    contents_of,
    state_in,
    translated,
)
from async_tiercache.backends.redis.route import Route
from async_tiercache.backends.redis.runs import Runs
from async_tiercache.backends.redis.sentinel import MasterWires
from async_tiercache.backends.redis.turns import Turns
from async_tiercache.backends.redis.wires import Wires
from async_tiercache.errors import (
    ConfigurationError,
    TierError,
    TierRefusedError,
)

MAX_TOGETHER: Final = 1024
"""Names that are read by one command."""
SECRET_BYTES: Final = 32

_SCANNED: Final = 1000  # names that a server looks at in one turn of a scan


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
        self,
        url: str | None,
        *,
        namespace: str,
        clock: Clock = SYSTEM_CLOCK,
        client: Client | None = None,
    ) -> None:
        if url is not None and client is not None:
            raise ConfigurationError(
                "url and client= both say where Redis is", hint="Pass one of them."
            )
        if client is not None:
            check_client(client)
        self._url = "" if url is None else check_url(url)
        self._clock = clock
        self._names = Names(namespace)
        self._borrowed = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = client
        self._route: Route | None = None
        self._bus: Bus | None = None
        self._runs = Runs()
        self._closed = False
        self._secret: bytes | None = None
        # Until the server has told its time, this machine's is the best guess.
        self._offset = clock.wall() - clock.monotonic()
        self._behind = 0.0

    def now(self) -> float:
        """Return the server's time, in seconds since the epoch, from the last sample of it.

        It is behind by what the reply to that took.
        """
        return self._clock.monotonic() + self._offset

    def latest(self) -> float:
        """Return the server's time as if that reply had taken all of its turn."""
        return self.now() + self._behind

    async def probe(self) -> None:
        """Connect if need be, and write keys that no cached key can be."""
        await self._ask(self._on_loop().prove(self._names.proof))

    async def advice(self) -> Sequence[Advice]:
        """Return what the server's settings, and the way to it, make advisable."""
        route = self._on_loop()
        servers = await self._ask(route.servers())
        replies = await asyncio.gather(
            *(submit("CONFIG", "GET", "maxmemory*") for submit in servers), return_exceptions=True
        )
        advice = [each for reply in replies for each in about_settings(settings_of(reply))]
        for connection in route.connections():
            advice += about_way(way_of(connection))
        return list({name: (name, message) for name, message in advice}.values())

    async def listen(self, listener: Listener, bound: float, /) -> None:
        """Tell a listener what is invalidated, whatever fails, until cancelled."""
        bus = self._bus = self._bus_of(listener, bound)
        # A Cluster's bus has a line to each master, and follows the map of slots.
        self._runs.tell(listener, bus.leave if isinstance(bus, Line) else None)
        try:
            await bus.run()
        finally:
            # One of a loop that has ended may get here long after the next one has begun.
            if self._bus is bus:
                self._bus = None
                self._runs.hush(listener)

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        """Return what keys and tags hold, read in one turn."""
        route, asked = self._on_loop(), self._names.all_of(keys, tags)
        if not route.whole or len(asked) < 2:
            held = await self._read_each(route, asked)
        elif len(asked) > MAX_TOGETHER:
            held = await self._read_in_parts(route, asked)
        else:
            try:
                held = contents_of(await route.submit("MGET", *asked))
            except Exception as error:
                raise translated(error) from error
        return Reading(held[: len(keys)], [state_in(each) for each in held[len(keys) :]])

    def begin_read(
        self,
        keys: Sequence[str],
        tags: Sequence[str],
        heard: Callable[[Reading | TierError], None],
        /,
    ) -> bool:
        """Begin a read of one command to one server."""
        route = self._on_loop()
        names = self._names.all_of(keys, tags)
        if not isinstance(route, Turns) or len(names) > MAX_TOGETHER:
            return False
        route.hasten(PromptRead(names, len(keys), heard))
        return True

    async def _read_in_parts(self, route: Route, names: list[str]) -> list[Content]:
        """Return what many names of one server hold."""
        parts = range(0, len(names), MAX_TOGETHER)
        submitted = [route.submit("MGET", *names[at : at + MAX_TOGETHER]) for at in parts]
        held: list[Content] = []
        for reply in await _all(submitted):
            if isinstance(reply, BaseException):
                raise translated(reply) from reply
            held += contents_of(reply)
        return held

    async def _read_each(self, route: Route, names: list[str]) -> list[Content]:
        """Return what names hold, each wherever it is."""
        held: list[Content] = []
        down: NodeDownError | None = None
        reached = 0
        for reply in await _all([route.submit("GET", name) for name in names]):
            if isinstance(reply, NodeDownError):
                down = reply
                held.append(UNREACHED)
            elif isinstance(reply, BaseException):
                raise translated(reply) from reply
            else:
                reached += 1
                held.append(content_of(reply))
        if down is not None and not reached:
            raise translated(down) from down
        return held

    async def ensure(self, tags: Sequence[str], seconds: float, /) -> list[bytes | None]:
        """Give each tag that has no state a new one, and return the states."""
        life = _milliseconds(seconds)
        asking = changes.ensure(list(tags), life, self._on_loop(), self._names)
        states: list[bytes | None] = await self._ask(asking)
        return states

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        """Put a lease on a key that holds nothing or `instead_of`."""
        route, name, life = self._on_loop(), self._names.key(key), _milliseconds(seconds)
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
        return None if held == token else content_of(held)

    def begin_take(
        self,
        key: str,
        token: bytes,
        seconds: float,
        heard: Callable[[bytes | TierError | Literal[False] | None], None],
        /,
    ) -> bool:
        """Begin to put a lease on a key of one server that holds nothing."""
        route = self._on_loop()
        if not isinstance(route, Turns):
            return False
        name, life = self._names.key(key), _milliseconds(seconds)
        route.enqueue(("SET", name, token, "NX", "GET", "PX", life), PromptTake(token, heard))
        return True

    async def seize(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Put a lease in place of whatever the key holds, unless it is blocked."""
        route, name, life = self._on_loop(), self._names.key(key), _milliseconds(seconds)
        return bool(await self._ask(scripts.run(route, scripts.SEIZE, [name], token, life)))

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Claim the refresh of an entry."""
        route, name = self._on_loop(), self._names.mark(key)
        life = _milliseconds(seconds)
        held = await self._ask(route.submit("SET", name, token, "NX", "GET", "PX", life))
        return held is None or held == token

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Prolong our lease or mark."""
        script, life = scripts.RENEW, _milliseconds(seconds)
        return bool(await self._ask(self._on_ours(script, key, [], token, life)))

    async def release(self, key: str, token: bytes, /) -> None:
        """Remove our lease or mark, and wake who waits for it."""
        waiters = self._names.waiters(key)
        await self._ask(self._on_ours(scripts.RELEASE, key, [waiters], token))

    async def await_fill(self, key: str, held: bytes, /) -> Content:
        """Let the end of another process's load wake us, if there is a bus; return what is held."""
        names, bus = self._names, self._bus
        route = self._on_loop()
        if bus is not None and await bus.follow(key):
            both = [names.key(key), names.waiters(key)]
            life = _milliseconds(WAIT_SECONDS)
            try:
                return content_of(
                    await self._ask(scripts.run(route, scripts.WAIT, both, held, life))
                )
            except TierRefusedError as error:
                # Their slot is on its way to another node, which has but one of them.
                if not isinstance(error.__cause__, TryAgainError):
                    raise
        return (await self.get_many((key,))).contents[0]

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
        life = _milliseconds(seconds)
        self._extend(tags, life)
        write = self._write(scripts.COMMIT, key, (fence, frame, life), mark)
        if tell is None:
            return bool(await self._ask(write))
        # In one turn. To tell of what was not stored makes others look again, and no more.
        telling = changes.tell(tell, key, self._on_loop(), self._names)
        stored, _ = await self._ask(asyncio.gather(write, telling))
        return bool(stored)

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
        life = _milliseconds(seconds)
        self._extend(tags, life)
        return bool(await self._ask(self._write(scripts.STAMP, key, (fence, stamp, life), mark)))

    async def invalidate(self, record: Invalidation, /) -> None:
        """Remove entries, leases and marks, give tags new states, and tell all listeners."""
        await self._carry_out(changes.invalidation(record, self.now()), record)

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        """Put a block in place of what keys and tags hold, beside those that are there."""
        life = _milliseconds(seconds)
        await self._carry_out(changes.block(token, life, renewing=renewing), record)

    async def unblock(self, record: Invalidation, token: bytes, /) -> None:
        """Remove a block, and what is there without one."""
        await self._carry_out(changes.unblock(token), record)

    async def scan(self, pattern: str, /) -> AsyncIterator[list[str]]:
        """Yield the texts of keys that match a glob, server by server."""
        route, match = self._on_loop(), self._names.pattern(pattern)
        for submit in await self._ask(route.servers()):
            cursor: Any = b"0"
            while True:
                asking = submit("SCAN", cursor, "MATCH", match, "COUNT", _SCANNED)
                cursor, names = await self._ask(asking)
                keys = self._names.keys_of(names)
                if keys:
                    yield keys
                if int(cursor) == 0:
                    break

    async def secret(self) -> bytes:
        """Return 32 random bytes that all servers of this namespace share."""
        # Where the server has lost it, the one that the others have is put back.
        mine = self._secret or token_bytes(SECRET_BYTES)
        submit = self._on_loop().submit
        held = content_of(await self._ask(submit("SET", self._names.secret, mine, "NX", "GET")))
        if held is not None and len(held) != SECRET_BYTES:
            raise TierRefusedError("Redis holds what is no secret of ours", tier="l2")
        self._secret = mine if held is None else held
        return self._secret

    async def aclose(self) -> None:
        """Wait for the turns on the wire and close our own connections."""
        self._closed = True  # what is asked while we wait must open none
        route, self._route = self._route, None
        if route is not None and self._loop is asyncio.get_running_loop():
            await route.aclose()
            if self._client is not None and self._borrowed is None:
                await close(self._client)
        self._loop = None
        self._runs = Runs()  # the old one holds the wires, also those of a loop that has ended

    async def _carry_out(self, change: changes.Change, record: Invalidation) -> None:
        """Change keys and tags; say which of them were not changed where others were.

        Raises:
            TierPartError: Those it names were not changed.
            TierError: Some or all were not.
        """
        outcomes = await changes.carry_out(change, record, self._on_loop(), self._names)
        failed = [outcome for outcome in outcomes if outcome.error is not None]
        for _, error in failed:
            if not isinstance(error, NodeDownError):
                assert error is not None
                raise translated(error) from error
        if failed:
            keys = tuple(key for part, _ in failed for key in part.keys)
            tags = tuple(tag for part, _ in failed for tag in part.tags)
            assert failed[0].error is not None
            raise translated(failed[0].error, keys, tags) from failed[0].error

    async def _write(
        self, script: str, key: str, arguments: tuple[Any, ...], mark: bytes | None
    ) -> Any:
        """Run a script that writes what a key holds if our mark is there, and wakes who waits."""
        route, name = self._on_loop(), self._names.key(key)
        both = [name, self._names.waiters(key)]
        marks = [] if mark is None else [self._names.mark(key)]
        try:
            return await scripts.run(route, script, both + marks, *arguments, mark or "")
        except TryAgainError:
            # Their slot is on its way to another node, which has but some of them.
            ours = mark is None or await scripts.run(route, scripts.RELEASE, marks, mark)
            written = bool(ours) and await scripts.run(route, script, [name], *arguments, "")
            await scripts.run(route, scripts.WAKE, both[1:])
            return written

    async def _on_ours(self, script: str, key: str, waiters: list[str], *arguments: Any) -> Any:
        """Run a script on a key and its mark, of which one holds what is ours."""
        route, names = self._on_loop(), [self._names.key(key), self._names.mark(key)]
        try:
            return await scripts.run(route, script, names + waiters, *arguments)
        except TryAgainError:
            # Their slot is on its way to another node, which has but some of them.
            each = [scripts.run(route, script, [name], *arguments) for name in names]
            done = any(await asyncio.gather(*each))
            for name in waiters:
                await scripts.run(route, scripts.WAKE, [name])
            return done

    def _extend(self, tags: Sequence[str], milliseconds: int) -> None:
        """Let tags live as long as what is stored with them, in the turn that stores it."""
        route = self._on_loop()
        for tag in tags:
            if tag not in {NAMESPACE, TAG_EPOCH}:
                # A tag that is lost too early makes a miss, and whoever stores need not know.
                name = self._names.tag(tag)
                route.submit("PEXPIRE", name, milliseconds, "GT").add_done_callback(_seen)

    def _set_time(self, seconds: float, waited: float) -> None:
        self._offset, self._behind = seconds - self._clock.monotonic(), waited

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
                runs=self._runs,
            )
        pool: Any = client.connection_pool
        told: Any = {
            "clock": self._clock,
            "told_time": self._set_time,
            "told_run": partial(self._runs.saw, None),
            "single": getattr(pool, "max_connections", None) == 1,
        }
        if isinstance(pool, SentinelConnectionPool):
            proof = ("SET", self._names.key("*"), b"", "PX", 1)
            wires: Wires = MasterWires(pool, proof=proof, **told)
        else:
            wires = Wires(partial(connection_of, pool), **told)
        self._runs.hold(None, wires.leave)
        return Turns(wires, limit=OPERATION_LIMIT)

    def _bus_of(self, listener: Listener, bound: float) -> Bus:
        route = self._on_loop()
        given: Any = {"clock": self._clock, "bound": bound}
        if isinstance(route, Cluster):
            return ClusterBus(route, listener, self._names, runs=self._runs, **given)
        pool: Any = getattr(self._client, "connection_pool", None)
        given["told_run"] = partial(self._runs.saw, None)
        return bus_of(pool, listener, self._names, last=self._last_message, **given)

    async def _last_message(self, instead: bytes) -> bytes | None:
        """Return the id of the last message, after putting another where there is none."""
        submit = self._on_loop().submit
        return content_of(await self._ask(submit("SET", self._names.last, instead, "NX", "GET")))

    async def _ask(self, reply: Awaitable[Any]) -> Any:
        """Await a reply and translate what redis-py raises."""
        try:
            return await reply
        except Exception as error:
            raise translated(error) from error


async def _all(replies: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """Return the results of replies to one turn, or their errors; cheaper than `gather`."""
    results: list[Any] = []
    try:
        for reply in replies:
            try:
                results.append(reply.result() if reply.done() else await reply)
            except Exception as error:  # noqa: BLE001 - is returned
                results.append(error)
    finally:
        # Only where the caller is cancelled: nobody looks at what is left.
        for reply in replies[len(results) :]:
            reply.cancel()
    return results


def _seen(reply: "asyncio.Future[Any]") -> None:
    """Look at what nobody waits for."""
    if not reply.cancelled():
        reply.exception()


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))
