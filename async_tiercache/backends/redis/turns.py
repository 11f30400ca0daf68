"""Turns: the commands of one loop tick go to the server together.

A caller submits a command and awaits its future. All that was submitted in one tick is written as
one turn: the reads as one MGET, anything else pipelined behind it. The turn is a task of its own,
so a caller's cancellation never reaches a socket, and every turn ends within the limit.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError, ResponseError

from async_tiercache._tasks import Tasks

MAX_TURNS: Final = 8
"""Turns on the wire at the same time; what comes meanwhile gathers for the next one."""
MAX_COMMANDS: Final = 512

_LAG: Final = 0.2  # of the limit: a timer later than this tells of a busy loop, not of a server

Command = tuple[Any, ...]


class Turns:
    """Gathers commands and sends them, a loop tick at a time.

    Args:
        client: The redis-py client that carries them.
        limit: How long one turn may take, in seconds.
    """

    __slots__ = ("_client", "_limit", "_queue", "_scheduled", "_sending", "_tasks")

    def __init__(self, client: Redis, *, limit: float) -> None:
        self._client: Any = client
        self._limit = limit
        self._queue: list[tuple[Command, asyncio.Future[Any]]] = []
        self._scheduled = False
        self._sending = 0
        self._tasks = Tasks()

    def submit(self, *command: Any) -> asyncio.Future[Any]:
        """Queue a command for the next turn and return the future of its reply.

        The future raises what redis-py raises, or `TimeoutError`.
        """
        loop = asyncio.get_running_loop()
        reply: asyncio.Future[Any] = loop.create_future()
        self._queue.append((command, reply))
        if not self._scheduled and self._sending < MAX_TURNS:
            self._scheduled = True
            loop.call_soon(self._send)
        return reply

    async def run(self, script: str, keys: Sequence[str], *arguments: Any) -> Any:
        """Run a Lua script by its digest; send its text when the server does not know it."""
        digest = _digest(script)
        try:
            return await self.submit("EVALSHA", digest, len(keys), *keys, *arguments)
        except NoScriptError:
            return await self.submit("EVAL", script, len(keys), *keys, *arguments)

    async def aclose(self) -> None:
        """Wait for the turns on the wire; each ends within the limit."""
        await self._tasks.settle()

    def _send(self) -> None:
        """Start turns with what has gathered."""
        self._scheduled = False
        while self._queue and self._sending < MAX_TURNS:
            batch, self._queue = self._queue[:MAX_COMMANDS], self._queue[MAX_COMMANDS:]
            batch = [(command, reply) for command, reply in batch if not reply.done()]
            if batch:
                self._sending += 1
                self._tasks.start(self._turn(batch), name="tiercache-turn")

    async def _turn(self, batch: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        try:
            async with _PatientTimeout(self._limit):
                replies = await self._exchange([command for command, _ in batch])
        except (RedisError, OSError, TimeoutError, asyncio.CancelledError) as error:
            # What waits behind a dead server would only wait as long again.
            batch += self._queue
            self._queue = []
            replies = [error] * len(batch)
        finally:
            self._sending -= 1
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, asyncio.CancelledError):
                future.cancel()
            elif isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
        self._send()

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        """Send the commands as one turn and return the replies in their order."""
        reads = [command[1] for command in commands if command[0] == "GET"]
        others = [command for command in commands if command[0] != "GET"]
        if not others:
            return await self._read(reads)
        pipeline = self._client.pipeline(transaction=False)
        if reads:
            pipeline.execute_command("MGET", *reads)
        for command in others:
            # Without `get`, redis-py makes a bool of what SET returns.
            pipeline.execute_command(*command, **({"get": True} if command[0] == "SET" else {}))
        replies = iter(await pipeline.execute(raise_on_error=False))
        values = iter(_each(next(replies), len(reads)) if reads else ())
        return [next(values if command[0] == "GET" else replies) for command in commands]

    async def _read(self, keys: list[str]) -> list[Any]:
        if len(keys) > 1:
            return _each(await self._client.execute_command("MGET", *keys), len(keys))
        try:
            return [await self._client.execute_command("GET", keys[0])]
        except ResponseError as error:
            # MGET answers nil for a key of another type; a lone read must not differ.
            if str(error).startswith("WRONGTYPE"):
                return [None]
            raise


class _PatientTimeout:
    """Raises `TimeoutError` after `limit` seconds in which the loop could have seen a reply.

    When the loop itself was blocked, its timers fire before the replies that wait in the socket
    are seen; so a timer that is late starts over.
    """

    __slots__ = ("_limit", "_loop", "_timeout", "_timer")

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._timeout = asyncio.timeout(None)
        self._timer = self._start()

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        await self._timeout.__aexit__(kind, error, traceback)

    def _start(self) -> asyncio.TimerHandle:
        return self._loop.call_later(self._limit, self._expire, self._loop.time() + self._limit)

    def _expire(self, due: float) -> None:
        if self._loop.time() - due > self._limit * _LAG:
            self._timer = self._start()
        else:
            self._timeout.reschedule(self._loop.time())


def _each(reply: Any, count: int) -> list[Any]:
    """Return one reply for each key of an MGET, whose error stands for all."""
    return [reply] * count if isinstance(reply, Exception) else list(reply)


_DIGESTS: dict[str, str] = {}


def _digest(script: str) -> str:
    digest = _DIGESTS.get(script)
    if digest is None:
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        _DIGESTS[script] = digest
    return digest
