"""Turns: the commands of one loop tick go to the server together.

A caller submits a command and awaits its future. All that was submitted in one tick is written as
one turn: the reads as one MGET, anything else pipelined behind it. The turn is a task of its own,
so a caller's cancellation never reaches a socket, and every turn ends within the limit.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import InvalidResponse, NoScriptError, ResponseError

from async_tiercache._tasks import Tasks
from async_tiercache.backends.redis.connection import Command, Wires

MAX_TURNS: Final = 8
"""Turns on the wire at the same time; what comes meanwhile gathers for the next one."""
MAX_COMMANDS: Final = 512

_DRAIN: Final = 0.04  # of the limit: how long a reply that is there may take to be read
_LAG: Final = 0.2  # of the limit: a timer later than this tells of a busy loop, not of a server


class Turns:
    """Gathers commands and sends them, a loop tick at a time.

    Args:
        wires: The connections that carry them.
        limit: How long one turn may take, in seconds.
    """

    __slots__ = ("_limit", "_queue", "_scheduled", "_sending", "_tasks", "_wires")

    def __init__(self, wires: Wires, *, limit: float) -> None:
        self._wires = wires
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
        """Wait for the turns on the wire, each of which ends within the limit, and hang up."""
        await self._tasks.settle()
        await self._wires.aclose()

    def _send(self) -> None:
        """Start turns with what has gathered."""
        self._scheduled = False
        while self._queue and self._sending < MAX_TURNS:
            batch, self._queue = self._queue[:MAX_COMMANDS], self._queue[MAX_COMMANDS:]
            batch = [(command, reply) for command, reply in batch if not reply.done()]
            if batch:
                self._sending += 1
                self._watch(self._tasks.start(self._turn(batch), name="tiercache-turn"))

    def _watch(self, turn: asyncio.Task[None]) -> None:
        """Cancel a turn that takes longer than the limit.

        A busy loop fires its timers before it looks at the replies that wait in the socket. So a
        timer that is late starts over, and one that is not still lets the socket be drained.
        """
        loop = asyncio.get_running_loop()
        timers: list[asyncio.TimerHandle] = []

        def wait(seconds: float, *, drained: bool) -> None:
            due = loop.time() + seconds
            timers[:] = [loop.call_at(due, partial(expire, due, drained=drained))]

        def expire(due: float, *, drained: bool) -> None:
            if loop.time() - due > self._limit * _LAG:
                wait(self._limit, drained=False)
            elif not drained:
                wait(self._limit * _DRAIN, drained=True)
            else:
                turn.cancel()

        wait(self._limit, drained=False)
        turn.add_done_callback(lambda _: timers[0].cancel())

    async def _turn(self, batch: list[tuple[Command, asyncio.Future[Any]]]) -> None:
        try:
            replies = await self._exchange([command for command, _ in batch])
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - nobody may hang
            # What waits behind a dead server would only wait as long again.
            batch += self._queue
            self._queue = []
            late = isinstance(error, asyncio.CancelledError)
            replies = [TimeoutError() if late else error] * len(batch)
        finally:
            self._sending -= 1
        for (_, future), reply in zip(batch, replies, strict=True):
            if future.done():
                continue
            if isinstance(reply, Exception):
                future.set_exception(reply)
            else:
                future.set_result(reply)
        if self._queue:
            self._send()

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        """Send the commands as one turn and return the replies in their order."""
        reads = [command[1] for command in commands if command[0] == "GET"]
        if len(reads) < 2:
            replies = await self._wires.exchange(commands)
            return [_value(*each) for each in zip(commands, replies, strict=True)]
        others = [command for command in commands if command[0] != "GET"]
        answers = iter(await self._wires.exchange([("MGET", *reads), *others]))
        values = iter(_each(next(answers), len(reads)))
        return [next(values if command[0] == "GET" else answers) for command in commands]


def _value(command: Command, reply: Any) -> Any:
    """Return the reply; a lone GET of a key of another type answers nil, as MGET does."""
    if command[0] == "GET" and isinstance(reply, ResponseError):
        return None if str(reply).startswith("WRONGTYPE") else reply
    return reply


def _each(reply: Any, count: int) -> list[Any]:
    """Return one reply for each key of an MGET, whose error stands for all."""
    if isinstance(reply, Exception):
        return [reply] * count
    values: list[Any] = []
    if isinstance(reply, list):
        values += reply
    if len(values) != count:
        raise InvalidResponse("MGET was answered with something else than its values")
    return values


_DIGESTS: dict[str, str] = {}


def _digest(script: str) -> str:
    digest = _DIGESTS.get(script)
    if digest is None:
        digest = hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
        _DIGESTS[script] = digest
    return digest
