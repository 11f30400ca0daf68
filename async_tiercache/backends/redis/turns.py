"""Turns: the commands of one loop tick go to a server together.

A caller submits a command and awaits its future. All that was submitted in one tick is written as
one turn: the reads as one MGET, anything else pipelined behind it. The turn is a task of its own,
so a caller's cancellation never reaches a socket, and every turn ends within the limit.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

from redis.exceptions import InvalidResponse, ResponseError

from async_tiercache.backends.redis.connection import Command, Wires
from async_tiercache.backends.redis.deadlines import Deadlines

MAX_TURNS: Final = 8
"""Turns on the wire at the same time; what comes meanwhile gathers for the next one."""
MAX_READS: Final = 1024
"""Reads in one turn; of other commands, which cost more, half as many."""
LARGE_BYTES: Final = 64 * 1024
"""A value that is larger is sent in a turn of its own, so that no other waits behind it."""

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
        "_deadlines",
        "_merging",
        "_queue",
        "_rejected",
        "_scheduled",
        "_sending",
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
        self._deadlines = Deadlines(limit)
        self._width = width
        self._merging = merging
        self._rejected = rejected
        self._queue: list[tuple[Command, asyncio.Future[Any]]] = []
        self._scheduled = False
        self._sending = 0

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
            self._start()

    @property
    def whole(self) -> bool:
        """All names are on one server."""
        return self._merging

    async def servers(self) -> Sequence[Callable[..., asyncio.Future[Any]]]:
        """Return what queues a command for the server."""
        return (self.submit,)

    def connections(self) -> list[Any]:
        """Return the open connections that carry nothing."""
        return self._wires.idle()

    async def prove(self, name: Callable[[int], str]) -> None:
        """Return once the server has been written."""
        await self.submit("SET", name(0), b"", "PX", 1)

    async def aclose(self) -> None:
        """Wait for the turns on the wire, each of which ends within the limit, and hang up."""
        while turns := self._deadlines.running:
            await asyncio.wait(turns)
        await self._wires.aclose()

    def _start(self) -> None:
        """Begin a turn; it takes what has gathered by the time that the loop comes to it."""
        self._scheduled = True
        turn = asyncio.get_running_loop().create_task(self._turn(), name="tiercache-turn")
        self._deadlines.begin(turn)

    def _take(self) -> list[tuple[Command, asyncio.Future[Any]]]:
        """Take from the queue what makes the next turn, but for what nobody waits for any more."""
        batch: list[tuple[Command, asyncio.Future[Any]]] = []
        if len(self._queue) == 1:
            alone, self._queue = self._queue, batch
            return batch if alone[0][1].done() else alone
        while self._queue and not batch:
            count = self._together()
            batch, self._queue = self._queue[:count], self._queue[count:]
            batch = [(command, reply) for command, reply in batch if not reply.done()]
        return batch

    def _together(self) -> int:
        """Return how many of the queue make the next turn."""
        count, room = 0, MAX_READS
        for command, _ in self._queue:
            room -= len(command) - 1 if command[0] in _READS else 2
            if room < 0 and count:
                break
            if command[0] == "EVALSHA" and _is_large(command):
                return max(1, count)
            count += 1
        return count

    async def _turn(self) -> None:
        turn = asyncio.current_task()
        assert turn is not None
        self._scheduled = False
        batch = self._take()
        if not batch:
            self._deadlines.end(turn)
            return
        self._sending += 1
        if self._queue and self._sending < self._width:
            self._start()
        try:
            replies = await self._exchange([command for command, _ in batch])
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - nobody may hang
            # What waits behind a dead server would only wait as long again.
            batch += self._queue
            self._queue = []
            late = isinstance(error, asyncio.CancelledError)
            replies = [TimeoutError() if late else error] * len(batch)
        finally:
            self._deadlines.end(turn)
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
        if self._queue and not self._scheduled:
            self._start()

    async def _exchange(self, commands: list[Command]) -> list[Any]:
        """Send the commands as one turn and return the replies in their order."""
        if len(commands) == 1:
            command = commands[0]
            if command[0] == "MGET":
                (reply,) = await self._wires.exchange(commands)
                return [_of_many(reply, len(command) - 1)]
        reads: dict[tuple[type[Command], str], None] = {}
        others: list[Command] = []
        for command in commands:
            if command[0] in _READS:
                # What many ask for, such as the state of a tag, is read once.
                reads.update(dict.fromkeys(_names(command)))
            else:
                others.append(command)
        if not reads:
            return await self._wires.exchange(commands)
        merged = self._merging and len(reads) > 1
        first = [("MGET", *(name for _, name in reads))] if merged else list(map(_get, reads))
        answers = await self._wires.exchange([*first, *others])
        values, rest = answers[: len(first)], iter(answers[len(first) :])
        values = _each(values[0], len(reads)) if merged else list(map(_value, values))
        found = dict(zip(reads, values, strict=True))
        return [_found(each, found) if each[0] in _READS else next(rest) for each in commands]


_READS: Final = frozenset({"GET", "MGET"})


def _names(command: Command) -> list[tuple[type[Command], str]]:
    """Return what is read; what is asked for with ASKING is no other's answer."""
    kind = type(command)
    return [(kind, name) for name in command[1:]]


def _get(read: tuple[type[Command], str]) -> Command:
    kind, name = read
    return kind(("GET", name))


def _found(command: Command, found: dict[tuple[type[Command], str], Any]) -> Any:
    """Return the reply to a command from what was read for all."""
    values = [found[name] for name in _names(command)]
    if command[0] == "GET":
        return values[0]
    return next((each for each in values if isinstance(each, Exception)), values)


def _is_large(command: Command) -> bool:
    return any(isinstance(part, bytes) and len(part) > LARGE_BYTES for part in command)


def _value(reply: Any) -> Any:
    """Return the reply; a lone GET of a key of another type answers nil, as MGET does."""
    if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
        return None
    return reply


def _of_many(reply: Any, count: int) -> Any:
    """Return the reply to one MGET, or its error."""
    if isinstance(reply, Exception):
        return reply
    return _each(reply, count)


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
