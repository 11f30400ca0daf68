"""Wires: the connections to one server, one for what is small and one for large values.

They are opened when there is something to send, and anew when one breaks. A turn that was on a
broken one is sent once more: every command that we send may be repeated.
"""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock
from async_tiercache.backends.redis.connections import open_connection
from async_tiercache.backends.redis.failures import is_demoted
from async_tiercache.backends.redis.runs import ASK, run_id_of
from async_tiercache.backends.redis.wire import (
    Command,
    PlainWire,
    StreamWire,
    Turn,
    Wire,
    transport_of,
)

BUSY_BYTES: Final = 32 * 1024
"""As many within the limit of a turn are not those of a server that hangs."""


class _Lane:
    """One of the two ways to the server.

    Attributes:
        wires: Its connections: one, if that carries many turns at once.
        opening: Connects another one.
        waiting: What waits for that.
    """

    __slots__ = ("opening", "waiting", "wires")

    def __init__(self) -> None:
        self.wires: list[Wire] = []
        self.opening: asyncio.Task[None] | None = None
        self.waiting: list[Turn] = []


class Wires:
    """The connections to one server.

    When one breaks, the other is left with it: the server may have been replaced by another, which
    a new connection finds, and the old one may still answer.

    Args:
        make: Returns a connection of redis-py that is not open yet.
        clock: The clock of this process.
        told_time: Is told the server's time, in seconds since the epoch, on each new connection,
            and for how many seconds that was waited for.
        told_run: Is told its run id then, before anybody has a reply; empty if that is forbidden.
        proof: A command that only a master obeys, sent first on each new connection.
        single: Whether there must be no second connection.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        *,
        clock: Clock,
        told_time: Callable[[float, float], None],
        told_run: Callable[[bytes], None],
        proof: Command | None = None,
        single: bool = False,
    ) -> None:
        self._make = make
        self._clock = clock
        self._told_time = told_time
        self._told_run = told_run
        self._proof = proof
        self._small = _Lane()
        self._large = self._small if single else _Lane()
        self._lanes = (self._small, self._large)
        self._epoch = 0
        self._retired: set[Wire] = set()
        self._telling: Wire | None = None
        self._tasks = Tasks()

    def send(self, turn: Turn) -> None:
        """Send a turn, once there is a connection; it is answered or fails."""
        lane = self._large if turn.large else self._small
        for wire in lane.wires:
            if wire.free:
                wire.send(turn)
                return
        turn.wire = None
        lane.waiting.append(turn)
        if lane.opening is None:
            lane.opening = self._tasks.start(self._open(lane), name="tiercache-connect")
            lane.opening.add_done_callback(partial(self._ended, lane))

    def give_up(self, turn: Turn) -> None:
        """Let a turn fail that takes too long, with all that go the same way.

        Replies that are still to come must not be read as those of later turns.
        """
        if turn.wire is not None:
            turn.wire.abort(TimeoutError())
            return
        for lane in self._lanes:
            if turn in lane.waiting and lane.opening is not None:
                lane.opening.cancel()

    def moving(self, turn: Turn) -> bool:
        """Return whether a connection is busy with bytes since a turn was sent, or since this."""
        wire = turn.wire
        if wire is None:
            return False
        before, turn.moved = turn.moved, wire.moved
        return turn.moved - before >= BUSY_BYTES

    def open_connections(self) -> list[Any]:
        """Return redis-py's connections that are open."""
        wires = {wire for lane in self._lanes for wire in lane.wires}
        return [wire.connection for wire in wires]

    def renew(self) -> None:
        """Let turns from now on have new connections; those on the wire keep theirs."""
        self._epoch += 1
        for lane in self._lanes:
            self._retire(lane)

    def leave(self) -> None:
        """Let every turn have a new connection: another server has taken this one's place.

        What the old one may yet confirm is lost, so what is on the wire is asked once more. The
        connection that has told of the other server leads to that.
        """
        self._epoch += 1
        telling = self._telling
        left = [*self._retired, *(wire for lane in self._lanes for wire in lane.wires)]
        for lane in self._lanes:
            lane.wires = [wire for wire in lane.wires if wire is telling]
        for wire in dict.fromkeys(left):
            if wire is not telling:
                wire.abort(RedisConnectionError("Another server has taken its place meanwhile"))

    async def aclose(self) -> None:
        """Close the connections; nothing is on the wire any more."""
        for lane in self._lanes:
            if lane.opening is not None:
                lane.opening.cancel()
        self.renew()
        await self._tasks.settle()

    def _retire(self, lane: _Lane) -> None:
        wires, lane.wires = lane.wires, []
        self._retired.update(wires)
        for wire in wires:
            wire.retire()

    async def _open(self, lane: _Lane) -> None:
        """Connect, and send what waits for that."""
        epoch, connection = self._epoch, self._make()
        try:
            await open_connection(connection)
            told: Any = {"lost": self._lost, "demoted": self.renew}
            if transport_of(connection) is None:
                wire: Wire = PlainWire(connection, **told, freed=partial(self._resume, lane))
            else:
                wire = StreamWire(connection, **told)
        except BaseException as error:
            self._hang_up(connection)
            if isinstance(error, ResponseError):
                # It refuses no command of a caller, but each of them a connection.
                raise RedisConnectionError(str(error)) from error
            raise
        lane.opening = None
        waiting, lane.waiting = lane.waiting, []
        self._begin(lane, wire, [turn for turn in waiting if not turn.over])
        if epoch != self._epoch:
            self._retire(lane)

    def _ended(self, lane: _Lane, opening: asyncio.Task[None]) -> None:
        """Give what waits its error, if there is no connection.

        A task that is cancelled before it has begun runs none of its own code.
        """
        error = TimeoutError() if opening.cancelled() else opening.exception()
        if error is not None:
            lane.opening = None
            waiting, lane.waiting = lane.waiting, []
            self._again(waiting, error if isinstance(error, Exception) else TimeoutError())

    def _begin(self, lane: _Lane, wire: Wire, waiting: Sequence[Turn]) -> None:
        lane.wires.append(wire)
        wire.send(_Greeting(self, self._proof, self._clock))
        for turn in waiting[:1]:
            wire.send(turn)
        lane.waiting += waiting[1:]
        self._resume(lane)

    def _resume(self, lane: _Lane) -> None:
        """Send what waits, as far as there are connections."""
        waiting, lane.waiting = lane.waiting, []
        for turn in waiting:
            if not turn.over:
                self.send(turn)

    def _lost(self, wire: Wire, turns: list[Turn], error: Exception) -> None:
        """Send the turns of a connection that has ended once more."""
        self._hang_up(wire.connection)
        self._retired.discard(wire)
        for lane in self._lanes:
            if wire in lane.wires:
                lane.wires.remove(wire)
                self.renew()
        self._again(turns, error)

    def _again(self, turns: Sequence[Turn], error: Exception) -> None:
        broken = isinstance(error, RedisConnectionError | OSError)
        for turn in turns:
            if turn.over:
                continue
            if broken and not isinstance(error, TimeoutError) and not turn.repeated:
                turn.repeated = True
                self.send(turn)
            else:
                turn.over = True
                turn.failed(error)

    def _hang_up(self, connection: Any) -> None:
        self._tasks.start(connection.disconnect(nowait=True), name="tiercache-hang-up")

    def greeted(self, wire: Wire, replies: list[Any], waited: float) -> None:
        """Take in what a server says of itself.

        Whatever server this is by now: the times in headers are its own, and what it holds may be
        older than what the one before it held.
        """
        time, info, proof = replies[0], replies[1], replies[-1]
        if is_demoted(proof):
            wire.abort(RedisConnectionError("The server is a replica by now"))
            return
        if not isinstance(time, Exception):
            self._told_time(seconds_of(time), waited)
        self._telling = wire
        try:
            self._told_run(run_id_of(info))
        finally:
            self._telling = None


class _Greeting(Turn):
    """What a server is asked first on each connection."""

    __slots__ = ("_asked_at", "_clock", "_wires")

    def __init__(self, wires: Wires, proof: Command | None, clock: Clock) -> None:
        super().__init__([("TIME",), ASK, *([] if proof is None else [proof])])
        # Another connection has a greeting of its own.
        self.repeated = True
        self._wires = wires
        self._clock = clock
        self._asked_at = clock.monotonic()

    def answered(self, replies: list[Any]) -> None:
        """Tell."""
        assert self.wire is not None
        self._wires.greeted(self.wire, replies, self._clock.monotonic() - self._asked_at)

    def failed(self, error: Exception) -> None:
        """Let the connection go, which must not be used before it is known where it leads."""
        assert self.wire is not None
        self.wire.abort(error)


def seconds_of(time: Sequence[Any]) -> float:
    """Return the seconds since the epoch that a reply to TIME tells."""
    return int(time[0]) + int(time[1]) / 1e6
