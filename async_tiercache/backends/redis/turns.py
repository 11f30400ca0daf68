"""Turns: the commands of one loop tick go to a server together.

A caller submits a command and awaits its future. All that was submitted in one tick is written as
one turn: the reads as one MGET, anything else pipelined behind it. The turn is a task of its own,
so a caller's cancellation never reaches a socket, and every turn ends within the limit.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

from redis.exceptions import InvalidResponse, ResponseError

from async_tiercache._tasks import Tasks
from async_tiercache.backends.redis.connection import Command, Wires

MAX_TURNS: Final = 8
"""Turns on the wire at the same time; what comes meanwhile gathers for the next one."""
MAX_READS: Final = 1024
"""Reads in one turn; of other commands, which cost more, half as many."""
LARGE_BYTES: Final = 64 * 1024
"""A value that is larger is sent in a turn of its own, so that no other waits behind it."""

_DRAIN: Final = 0.04  # of the limit: how long a reply that is there may take to be read
_LAG: Final = 0.2  # of the limit: a timer later than this tells of a busy loop, not of a server

Rejected: TypeAlias = Callable[[Command, "asyncio.Future[Any]", Exception], bool]


class Turns:
    """Gathers commands for one server and sends them, a loop tick at a time.

    Args:
        wires: The connections that carry them.
        limit: How long one turn may take, in seconds.
        width: How many turns are on the wire at the same time.
        merging: Whether reads are merged into one MGET, which only keys of one slot can be.
        rejected: Is shown each command that failed, its future and its error; returns whether it
            sees to the future.
    """

    __slots__ = (
        "_limit",
        "_merging",
        "_queue",
        "_rejected",
        "_scheduled",
        "_sending",
        "_tasks",
        "_width",
        "_wires",
    )

    def __init__(
        self,
        wires: Wires,
        *,
        limit: float,
        width: int = MAX_TURNS,
        merging: bool = True,
        rejected: Rejected | None = None,
    ) -> None:
        self._wires = wires
        self._limit = limit
        self._width = width
        self._merging = merging
        self._rejected = rejected
        self._queue: list[tuple[Command, asyncio.Future[Any]]] = []
        self._scheduled = False
        self._sending = 0
        self._tasks = Tasks()

    def submit(self, *command: Any) -> asyncio.Future[Any]:
        """Queue a command for the next turn and return the future of its reply.

        The future raises what redis-py raises, or `TimeoutError`.
        """
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.enqueue(command, reply)
        return reply

    def enqueue(self, command: Command, reply: asyncio.Future[Any]) -> None:
        """Queue a command whose reply somebody waits for already."""
        self._queue.append((command, reply))
        if not self._scheduled and self._sending < self._width:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._send)

    def delete(self, names: Sequence[str]) -> list[asyncio.Future[Any]]:
        """Queue the removal of names."""
        return [self.submit("DEL", *names)]

    def everywhere(self, *command: Any) -> list[asyncio.Future[Any]]:
        """Queue a command for the server."""
        return [self.submit(*command)]

    def connections(self) -> list[Any]:
        """Return the open connections that carry nothing."""
        return self._wires.idle()

    async def prove(self, name: Callable[[int], str]) -> None:
        """Return once the server has been written."""
        await self.submit("SET", name(0), b"", "PX", 1)

    async def aclose(self) -> None:
        """Wait for the turns on the wire, each of which ends within the limit, and hang up."""
        await self._tasks.settle()
        await self._wires.aclose()

    def _send(self) -> None:
        """Start turns with what has gathered."""
        self._scheduled = False
        while self._queue and self._sending < self._width:
            count = self._together()
            batch, self._queue = self._queue[:count], self._queue[count:]
            batch = [(command, reply) for command, reply in batch if not reply.done()]
            if batch:
                self._sending += 1
                turn = self._tasks.start(self._turn(batch), name="tiercache-turn")
                watch(turn, self._limit)

    def _together(self) -> int:
        """Return how many of the queue make the next turn."""
        count, room = 0, MAX_READS
        for command, _ in self._queue:
            room -= 1 if command[0] == "GET" else 2
            if room < 0:
                break
            if command[0] == "EVALSHA" and _is_large(command):
                return max(1, count)
            count += 1
        return count

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
        for (command, future), reply in zip(batch, replies, strict=True):
            failed = isinstance(reply, Exception)
            if failed and self._rejected is not None and self._rejected(command, future, reply):
                continue
            if future.done():
                continue
            if failed:
                future.set_exception(reply)
            else:
                future.set_result(reply)
        if self._queue:
            self._send()

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        """Send the commands as one turn and return the replies in their order."""
        reads = [command[1] for command in commands if command[0] == "GET"]
        if len(reads) < 2 or not self._merging:
            replies = await self._wires.exchange(commands)
            return [_value(*each) for each in zip(commands, replies, strict=True)]
        others = [command for command in commands if command[0] != "GET"]
        answers = iter(await self._wires.exchange([("MGET", *reads), *others]))
        values = iter(_each(next(answers), len(reads)))
        return [next(values if command[0] == "GET" else answers) for command in commands]


def watch(turn: "asyncio.Task[Any]", limit: float) -> None:
    """Cancel a task that takes longer to ask a server than the limit, in seconds.

    A busy loop fires its timers before it looks at the replies that wait in the socket. So a timer
    that is late starts over, and one that is not still lets the socket be drained.
    """
    loop = asyncio.get_running_loop()
    timers: list[asyncio.TimerHandle] = []

    def wait(seconds: float, *, drained: bool) -> None:
        due = loop.time() + seconds
        timers[:] = [loop.call_at(due, partial(expire, due, drained=drained))]

    def expire(due: float, *, drained: bool) -> None:
        if loop.time() - due > limit * _LAG:
            wait(limit, drained=False)
        elif not drained:
            wait(limit * _DRAIN, drained=True)
        else:
            turn.cancel()

    wait(limit, drained=False)
    turn.add_done_callback(lambda _: timers[0].cancel())


def _is_large(command: Command) -> bool:
    return any(isinstance(part, bytes) and len(part) > LARGE_BYTES for part in command)


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
