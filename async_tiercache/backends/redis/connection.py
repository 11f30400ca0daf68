"""Wires: connections that redis-py makes and secures, each carrying one turn at a time.

redis-py's pool, retry wrapper and timeouts are most of the cost of a command. So it makes, secures
and parses the connections, and a few of them are driven here: a turn is one write and its replies.
The deadline of a turn belongs to `turns`.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from async_tiercache.abc import Clock
from async_tiercache.backends.redis.failures import is_demoted
from async_tiercache.backends.redis.runs import ASK, run_id_of

Command: TypeAlias = tuple[Any, ...]


class Asking(tuple[Any, ...]):
    """A command for a node that is still receiving the slot of its key."""

    __slots__ = ()


pack = cast("Any", hiredis).pack_command
"""Return a command as it goes over the wire."""
_ASKING: bytes = pack(("ASKING",))


class Wires:
    """A few connections to one server.

    When one breaks, those that idle are closed with it: the server may have been replaced by
    another, which a new connection finds, and the old one may still answer.

    Args:
        make: Returns a connection of redis-py that is not open yet.
        clock: The clock of this process.
        told_time: Is told the server's time, in seconds since the epoch, on each new connection,
            and for how many seconds that was waited for.
        told_run: Is told its run id then, before anybody has a reply; empty if that is forbidden.
        proof: A command that only a master obeys, sent first on each new connection.
    """

    __slots__ = (
        "_clock",
        "_epoch",
        "_idle",
        "_left",
        "_make",
        "_proof",
        "_server",
        "_told_run",
        "_told_time",
    )

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        clock: Clock,
        told_time: Callable[[float, float], None],
        told_run: Callable[[bytes], None],
        proof: Command | None = None,
    ) -> None:
        self._make = make
        self._clock = clock
        self._told_time = told_time
        self._told_run = told_run
        self._proof = proof
        self._epoch = 0
        self._idle: list[tuple[Any, int]] = []
        self._left: list[Any] = []
        self._server = 0

    async def exchange(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and return their replies; an error reply is one of them.

        What fails is tried on a new connection, once: every command that we send may be repeated,
        and the server may have hung up since the last turn.

        Raises:
            RedisError: The server is out of reach or hung up.
        """
        if self._left:
            await self._hang_up()
        wire, epoch = self._idle.pop() if self._idle else (self._make(), self._epoch)
        try:
            try:
                replies = await self._turn(wire, commands)
            except (RedisConnectionError, OSError):
                await self._drop(wire, epoch)
                epoch = self._epoch
                replies = await self._turn(wire, commands)
        except BaseException:
            # Replies that are still to come must not be read as those of the next turn.
            await self._drop(wire, epoch)
            raise
        if epoch != self._epoch or any(map(is_demoted, replies)):
            await self._drop(wire, epoch)
        else:
            self._idle.append((wire, epoch))
        return replies

    def idle(self) -> list[Any]:
        """Return the wires that carry nothing."""
        return [wire for wire, _ in self._idle]

    async def aclose(self) -> None:
        """Close the wires that carry nothing."""
        await self._hang_up()
        while self._idle:
            wire, _ = self._idle.pop()
            await wire.disconnect()

    async def renew(self) -> None:
        """Let every wire be connected again before its next turn."""
        self._retire()
        await self._hang_up()

    def leave(self) -> None:
        """Let every wire be connected again: another server has taken this one's place.

        What the old one may yet confirm is lost, so what is on the wire is asked once more.
        """
        self._server += 1
        self._retire()

    def _retire(self) -> None:
        self._epoch += 1
        self._left += [wire for wire, _ in self._idle]
        self._idle = []

    async def _hang_up(self) -> None:
        while self._left:
            await self._left.pop().disconnect(nowait=True)

    async def _drop(self, wire: Any, epoch: int) -> None:
        """Close a wire, and with it those that idle, unless they are newer."""
        await wire.disconnect(nowait=True)
        if epoch == self._epoch:
            await self.renew()

    async def _turn(self, wire: Any, commands: Sequence[Command]) -> list[Any]:
        if wire.is_connected:
            server = self._server
            replies = await _send_all(wire, commands)
            if server != self._server:
                raise RedisConnectionError("Another server has taken this one's place meanwhile")
            return replies
        await wire.connect()
        # Whatever server this is by now: the times in headers are its own, and what it holds may
        # be older than what the one before it held.
        greeting: list[Command] = [("TIME",), ASK]
        if self._proof is not None:
            greeting.append(self._proof)
        asked_at = self._clock.monotonic()
        replies = await _send_all(wire, [*greeting, *commands])
        time, info, proof = replies[0], replies[1], replies[len(greeting) - 1]
        if is_demoted(proof):
            raise RedisConnectionError("The server is a replica by now") from proof
        if not isinstance(time, Exception):
            self._told_time(seconds_of(time), self._clock.monotonic() - asked_at)
        self._told_run(run_id_of(info))
        return replies[len(greeting) :]


def seconds_of(time: Sequence[Any]) -> float:
    """Return the seconds since the epoch that a reply to TIME tells."""
    return int(time[0]) + int(time[1]) / 1e6


async def _send_all(wire: Any, commands: Sequence[Command]) -> list[Any]:
    packed: list[bytes] = []
    for command in commands:
        if type(command) is Asking:
            packed.append(_ASKING)
        packed.append(pack(command))
    await wire.send_packed_command(packed, check_health=False)
    replies: list[Any] = []
    while len(replies) < len(packed):
        try:
            replies.append(await wire.read_response())
        except ResponseError as error:
            replies.append(error)
    if len(packed) == len(commands):
        return replies
    answers, asked = iter(replies), list[Any]()
    for command in commands:
        if type(command) is Asking:
            next(answers)
        asked.append(next(answers))
    return asked
