"""Turns: the commands of one loop tick go to a server together.

A caller submits a command and awaits its future. All that was submitted in one tick is written as
one turn: the reads as one MGET, anything else pipelined behind it. A caller's cancellation never
reaches a socket, and every turn ends: within the limit, unless a lot of bytes is on its way.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol, TypeAlias

from redis.exceptions import InvalidResponse, ResponseError

from async_tiercache.backends.redis.deadlines import Deadlines
from async_tiercache.backends.redis.wire import Command, Turn, Wire, pack
from async_tiercache.backends.redis.wires import Wires

MAX_TURNS: Final = 8
"""Turns on the wire at the same time; what comes meanwhile gathers for the next one."""
MERGED_NAMES: Final = 64
"""Reads of more names are sent as they are: to find out which of them others ask for costs more."""
MAX_READS: Final = 1024
"""Reads in one turn; of other commands, which cost more, half as many."""
READ_BYTES: Final = 512
"""So many bytes that a command carries cost as much as a read, so that turns end soon."""
LARGE_BYTES: Final = 64 * 1024
"""A value that is larger is sent in a turn of its own, so that no other waits behind it."""


class Reply(Protocol):
    """Takes the reply to a command, or why there is none: a future, or what calls back at once."""

    def done(self) -> bool:
        """Return whether nobody waits for it any more."""
        ...

    def set_result(self, result: Any, /) -> None:
        """Take the reply."""
        ...

    def set_exception(self, exception: Exception, /) -> None:
        """Take the error."""
        ...


Submitted: TypeAlias = tuple[Command, Reply]
Rejected: TypeAlias = Callable[[Command, Any, Exception], bool]


class _Lane:
    """What has gathered for one of the connections, and what is on it.

    Attributes:
        queue: What has gathered.
        deadlines: Those of the turns on the wire.
        large: Whether it is for large values, each of which has a turn of its own.
    """

    __slots__ = ("deadlines", "large", "queue")

    def __init__(self, deadlines: "Deadlines[_Sent]", *, large: bool) -> None:
        self.queue: list[Submitted] = []
        self.deadlines = deadlines
        self.large = large


class Turns:
    """Gathers commands for one server and sends them, a loop tick at a time.

    Args:
        wires: The connections that carry them.
        limit: How long one turn may take, in seconds.
        width: How many turns are on each wire at the same time.
        merging: Whether reads are merged into one MGET, which only keys of one slot can be.
        rejected: Is shown each command that failed, its future and its error; returns whether it
            sees to the future.
    """

    __slots__ = (
        "_ended",
        "_lanes",
        "_large",
        "_loop",
        "_merging",
        "_rejected",
        "_scheduled",
        "_small",
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
        self._loop = asyncio.get_running_loop()
        self._small, self._large = (
            _Lane(Deadlines[_Sent](limit, self._expired, wires.moving), large=large)
            for large in (False, True)
        )
        self._lanes = (self._small, self._large)
        self._width = width
        self._merging = merging
        self._rejected = rejected
        self._scheduled = False
        self._ended: asyncio.Future[None] | None = None

    def submit(self, *command: Any) -> asyncio.Future[Any]:
        """Queue a command for the next turn and return the future of its reply.

        The future raises what redis-py raises, or `TimeoutError`.
        """
        reply: asyncio.Future[Any] = self._loop.create_future()
        self.enqueue(command, reply)
        return reply

    def enqueue(self, command: Command, reply: Reply) -> None:
        """Queue a command whose reply somebody waits for already."""
        lane = self._large if _is_large(command) else self._small
        lane.queue.append((command, reply))
        self._schedule(lane)

    def hasten(self, read: "Read") -> None:
        """Send a read, and what has gathered before it, without waiting for the next tick."""
        lane = self._small
        if lane.queue or lane.deadlines.count >= self._width:
            lane.queue.append((read.commands[0], read))
            self._flush()
        else:
            read.turns, read.lane = self, lane
            lane.deadlines.begin(read)
            self._wires.send(read)

    @property
    def whole(self) -> bool:
        """All names are on one server."""
        return self._merging

    async def servers(self) -> Sequence[Callable[..., asyncio.Future[Any]]]:
        """Return what queues a command for the server."""
        return (self.submit,)

    def connections(self) -> list[Any]:
        """Return the open connections."""
        return self._wires.open_connections()

    async def prove(self, name: Callable[[int], str]) -> None:
        """Return once the server has been written."""
        await self.submit("SET", name(0), b"", "PX", 1)

    @property
    def busy(self) -> bool:
        """Whether anything is queued or on the wire."""
        return any(lane.queue or lane.deadlines.count for lane in self._lanes)

    async def settle(self) -> None:
        """Return when nothing is; each turn ends."""
        while self.busy:
            self._ended = self._loop.create_future()
            await self._ended

    async def aclose(self) -> None:
        """Wait for the turns on the wire, each of which ends, and hang up."""
        await self.settle()
        await self._wires.aclose()

    def _schedule(self, lane: _Lane) -> None:
        """Let the next turn be what has gathered by the time that the loop comes to it."""
        if not self._scheduled and lane.deadlines.count < self._width:
            self._scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """Send what has gathered, in as many turns as it takes and as may be on the wires."""
        self._scheduled = False
        for lane in self._lanes:
            while lane.queue and lane.deadlines.count < self._width:
                batch = _take(lane)
                if len(batch) > 1:
                    self._send(_Batch(self, lane, batch))
                elif batch:
                    self._send(_Lone(self, lane, *batch[0]))
        self._rest()

    def _send(self, turn: "_Sent") -> None:
        turn.lane.deadlines.begin(turn)
        self._wires.send(turn)

    def answered(self, turn: "_Sent", replies: Sequence[Any]) -> None:
        """Give everybody the reply to a command."""
        turn.lane.deadlines.end(turn)
        for (command, future), reply in zip(turn.batch, replies, strict=True):
            self.hand_on(command, future, reply)
        self.go_on()

    def failed(self, turn: "_Sent", error: Exception) -> None:
        """Tell everybody why there are no replies."""
        lane = turn.lane
        lane.deadlines.end(turn)
        # What waits behind a dead server would only wait as long again.
        batch, lane.queue = [*turn.batch, *lane.queue], []
        for command, future in batch:
            self.hand_on(command, future, error)
        self.go_on()

    def hand_on(self, command: Command, future: Reply, reply: Any) -> None:
        """Give one the reply to its command, or the error instead."""
        if isinstance(reply, Exception):
            rejected = self._rejected
            if (rejected is None or not rejected(command, future, reply)) and not future.done():
                future.set_exception(reply)
        elif not future.done():
            future.set_result(reply)

    def go_on(self) -> None:
        """Let what has gathered meanwhile be sent, and a close go on."""
        if self._small.queue or self._large.queue:
            for lane in self._lanes:
                if lane.queue:
                    self._schedule(lane)
        if self._ended is not None:
            self._rest()

    def _expired(self, turn: "_Sent") -> None:
        self._wires.give_up(turn)
        if not turn.over:
            turn.over = True
            self.failed(turn, TimeoutError())

    def _rest(self) -> None:
        """Let a close go on, if nothing is queued or on the wire."""
        ended = self._ended
        if ended is not None and not ended.done() and not self.busy:
            ended.set_result(None)


def _take(lane: _Lane) -> list[Submitted]:
    """Take from the queue what makes the next turn, but for what nobody waits for any more."""
    batch: list[Submitted] = []
    if len(lane.queue) == 1:
        alone, lane.queue = lane.queue, batch
        return batch if alone[0][1].done() else alone
    while lane.queue and not batch:
        count = 1 if lane.large else _together(lane.queue)
        batch, lane.queue = lane.queue[:count], lane.queue[count:]
        batch = [(command, reply) for command, reply in batch if not reply.done()]
    return batch


def _together(queue: Sequence[Submitted]) -> int:
    """Return how many of the queue make the next turn."""
    count, room = 0, MAX_READS
    for command, _ in queue:
        room -= len(command) - 1 if command[0] in _READS else 2 + _bytes_of(command) // READ_BYTES
        if room < 0 and count:
            break
        count += 1
    return count


class _Lone(Turn):
    """One command, sent as it was submitted.

    Attributes:
        lane: Where it was submitted.
        reply: Takes the reply.
    """

    __slots__ = ("_turns", "lane", "reply")

    def __init__(self, turns: Turns, lane: _Lane, command: Command, reply: Reply) -> None:
        super().__init__((command,), large=lane.large)
        self._turns = turns
        self.lane = lane
        self.reply = reply

    @property
    def batch(self) -> list[Submitted]:
        """What was submitted."""
        return [(self.commands[0], self.reply)]

    def answered(self, replies: list[Any]) -> None:
        """Hand the reply on."""
        command, turns = self.commands[0], self._turns
        try:
            reply = _plain(command, replies[0])
        except InvalidResponse as error:
            turns.failed(self, error)
            return
        self.lane.deadlines.end(self)
        turns.hand_on(command, self.reply, reply)
        turns.go_on()

    def failed(self, error: Exception) -> None:
        """Hand the error on."""
        self._turns.failed(self, error)


class Read(Turn):
    """One MGET, for who has gathered himself what there is to ask: a turn that takes its reply.

    Where it must wait for others it is no turn, but what takes the reply to its part of theirs.

    Args:
        command: The MGET.

    Attributes:
        turns: Those it is one of.
        lane: Where.
        told: Whether it has taken the reply, or an error.
    """

    __slots__ = ("lane", "told", "turns")

    lane: _Lane
    turns: Turns

    def __init__(self, command: Command) -> None:
        # Not by the base class, which would cost each read a call more.
        self.commands = (command,)
        self.large = self.over = self.repeated = self.told = False
        self.wire = None
        self.moved = 0

    @property
    def batch(self) -> list[Submitted]:
        """What was submitted."""
        return [(self.commands[0], self)]

    def begin(self, wire: Wire) -> list[bytes]:
        """Expect one reply of a connection; return what is written to it."""
        self.wire, self.replies, self.expected, self.sentinel = wire, [], 1, b""
        return [pack(self.commands[0])]

    def end(self) -> None:
        """Be answered by the reply that has come; what is behind it was looked at by the wire."""
        self.over = True
        self.answered(self.replies)

    def answered(self, replies: list[Any]) -> None:
        """Take the reply, or the error."""
        turns, reply = self.turns, replies[0]
        if reply.__class__ is list and len(reply) == len(self.commands[0]) - 1:
            self.lane.deadlines.end(self)
            self.set_result(reply)
            turns.go_on()
        elif isinstance(reply, Exception):
            turns.answered(self, [reply])
        else:
            turns.failed(self, InvalidResponse(_NO_VALUES))

    def failed(self, error: Exception) -> None:
        """Take the error."""
        self.turns.failed(self, error)

    def done(self) -> bool:
        """Return whether it has taken its reply."""
        return self.told

    def set_result(self, result: Any, /) -> None:
        """Take the values."""
        raise NotImplementedError

    def set_exception(self, exception: Exception, /) -> None:
        """Take the error."""
        raise NotImplementedError


class _Batch(Turn):
    """What has gathered: its reads are asked for once each, and merged if they may be.

    Attributes:
        lane: Where it has gathered.
        batch: The commands, as they were submitted.
    """

    __slots__ = ("_merged", "_reads", "_turns", "batch", "lane")

    def __init__(self, turns: Turns, lane: _Lane, batch: list[Submitted]) -> None:
        self._turns = turns
        self.lane = lane
        self.batch = batch
        self._reads: dict[tuple[type[Command], str], None] = {}
        self._merged = False
        super().__init__(self._gathered(), large=lane.large)

    def _gathered(self) -> list[Command]:
        """Return the commands with the reads of all in front."""
        reads = self._reads
        others: list[Command] = []
        for command, _ in self.batch:
            if _is_merged(command):
                # What many ask for, such as the state of a tag, is read once.
                reads.update(dict.fromkeys(_names(command)))
            else:
                others.append(command)
        self._merged = self._turns.whole and len(reads) > 1
        if self._merged:
            return [("MGET", *(name for _, name in reads)), *others]
        return [*map(_get, reads), *others]

    def answered(self, replies: list[Any]) -> None:
        """Hand the replies on, in the order of what was submitted."""
        try:
            answers = self._answers(replies)
        except InvalidResponse as error:
            self._turns.failed(self, error)
        else:
            self._turns.answered(self, answers)

    def failed(self, error: Exception) -> None:
        """Hand the error on."""
        self._turns.failed(self, error)

    def _answers(self, replies: list[Any]) -> list[Any]:
        reads = self._reads
        if self._merged:
            values, rest = _each(replies[0], len(reads)), iter(replies[1:])
        else:
            values, rest = list(map(_value, replies[: len(reads)])), iter(replies[len(reads) :])
        found = dict(zip(reads, values, strict=True))
        return [
            _found(each, found) if _is_merged(each) else _plain(each, next(rest))
            for each, _ in self.batch
        ]


_Sent: TypeAlias = _Lone | _Batch | Read
_READS: Final = frozenset({"GET", "MGET"})
_NO_VALUES: Final = "MGET was answered with something else than its values"


def _is_merged(command: Command) -> bool:
    return command[0] in _READS and len(command) <= MERGED_NAMES + 1


def _plain(command: Command, reply: Any) -> Any:
    """Return the reply to a command that was sent as it is.

    Raises:
        InvalidResponse: It is none to this command.
    """
    if command[0] == "MGET" and reply.__class__ is list and len(reply) == len(command) - 1:
        return reply
    if isinstance(reply, Exception):
        return _value(reply) if command[0] == "GET" else reply
    if command[0] == "MGET":
        raise InvalidResponse(_NO_VALUES)
    return reply


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
    return command[0] not in _READS and any(
        isinstance(part, bytes) and len(part) > LARGE_BYTES for part in command
    )


def _bytes_of(command: Command) -> int:
    """Return how many bytes of values a command carries."""
    return sum(len(part) for part in command if isinstance(part, bytes))


def _value(reply: Any) -> Any:
    """Return the reply; a lone GET of a key of another type answers nil, as MGET does."""
    if isinstance(reply, ResponseError) and str(reply).startswith("WRONGTYPE"):
        return None
    return reply


def _each(reply: Any, count: int) -> list[Any]:
    """Return one reply for each key of an MGET, whose error stands for all."""
    if isinstance(reply, Exception):
        return [reply] * count
    if reply.__class__ is not list or len(reply) != count:
        raise InvalidResponse(_NO_VALUES)
    values: list[Any] = reply
    return values
