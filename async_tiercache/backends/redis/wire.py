"""Wire: one connection that carries many turns at once, each answered when its replies are there.

redis-py makes and secures a connection. Its stream, its reader's coroutines and its timeouts are
most of the cost of a command, so they are left behind then: what is sent goes to the transport, and
what comes is parsed by hiredis as it comes. The deadline of a turn belongs to `turns`.

Replies have no numbers. One that is missing, or one too many, would give each later caller the
reply to another's command; so each turn ends with a PING of its own, whose reply must come in its
place, and nothing of the turn is believed before.
"""

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from types import NoneType
from typing import Any, Final, TypeAlias, cast

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, NoPermissionError, ResponseError

from async_tiercache.backends.redis.failures import is_cut_off, is_demoted, is_down

Command: TypeAlias = tuple[Any, ...]


class Asking(tuple[Any, ...]):
    """A command for a node that is still receiving the slot of its key."""

    __slots__ = ()


pack = cast("Any", hiredis).pack_command
"""Return a command as it goes over the wire."""
_ASKING: bytes = pack(("ASKING",))
_PING: Final = b"*2\r\n$4\r\nPING\r\n$8\r\n"  # and then a sentinel of eight bytes
_END: Final = b"\r\n"
_FIRST: Final = (1).to_bytes(8)
_MORE: Final = object()
_PUSH: Any = getattr(hiredis, "PushNotification", None)
_VALUES: Final = frozenset({list, bytes, int, NoneType})
"""Of these classes are nearly all replies; another may be an error, or no reply."""


class Turn:
    """Commands that are written together and answered together.

    No `ABC`, though a base class: with its metaclass each read would take longer to make its turn.

    Attributes:
        commands: What is asked, in order.
        large: Whether it takes long to be sent, so that others should not wait behind it.
        over: Whether it was answered or has failed.
        repeated: Whether it was sent to another connection before, which broke.
        wire: Which one carries it; `None` as long as it waits for one.
        moved: How many bytes that had moved when it was sent, or when somebody looked last.
        replies: Those that have come since it has begun, one for each ASKING and for the sentinel
            included.
        expected: How many there will be.
        sentinel: What the last of them must be, if the connection is checked.
    """

    __slots__ = (
        "commands",
        "expected",
        "large",
        "moved",
        "over",
        "repeated",
        "replies",
        "sentinel",
        "wire",
    )

    replies: list[Any]
    expected: int
    sentinel: bytes

    def __init__(self, commands: Sequence[Command], *, large: bool = False) -> None:
        self.commands = commands
        self.large = large
        self.over = False
        self.repeated = False
        self.wire: Wire | None = None
        self.moved = 0

    def answered(self, replies: list[Any]) -> None:
        """Take the replies in the order of the commands; an error reply is one of them."""
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """Take in why there are none."""
        raise NotImplementedError

    def begin(self, wire: "Wire") -> list[bytes]:
        """Expect the replies of a connection; return what is written to it."""
        packed: list[bytes] = []
        for command in self.commands:
            if type(command) is Asking:
                packed.append(_ASKING)
            packed.append(pack(command))
        self.wire, self.replies, self.expected, self.sentinel = wire, [], len(packed), b""
        return packed

    def end(self) -> None:
        """Be answered by the replies that have come."""
        self.over = True
        replies = self.replies
        if self.sentinel:
            replies.pop()
        if len(replies) != len(self.commands):
            replies = self._own(replies)
        self.answered(replies)

    def _own(self, replies: list[Any]) -> list[Any]:
        """Return the replies to the commands, without those to what was asked in front of some."""
        answers, own = iter(replies), replies[:0]
        for command in self.commands:
            if type(command) is Asking:
                next(answers)
            own.append(next(answers))
        return own


Lost: TypeAlias = "Callable[[Wire, list[Turn], Exception], None]"


class Wire(ABC):
    """One connection.

    Args:
        connection: redis-py's, which is open.
        lost: Is told once that it has ended, and which turns have got no answer.
        demoted: Is told when the server has said that it is a replica.

    Attributes:
        connection: What was given.
        turns: Those whose replies are to come.
        over: Whether it has ended.
    """

    def __init__(self, connection: Any, *, lost: Lost, demoted: Callable[[], None]) -> None:
        self.connection = connection
        self.turns: deque[Turn] = deque()
        self.over = False
        self._lost = lost
        self._demoted = demoted
        self._retired = False

    @property
    @abstractmethod
    def free(self) -> bool:
        """Whether another turn may be sent by now, so that no other connection is needed."""

    @property
    def moved(self) -> int:
        """How many bytes have come and gone, where that is known."""
        return 0

    @abstractmethod
    def send(self, turn: Turn) -> None:
        """Send a turn behind those that were sent before."""

    def is_unchecked(self, reply: Any) -> bool:
        """Return whether a reply in the place of a sentinel tells nothing.

        Args:
            reply: The reply, which is not the sentinel.
        """
        del reply
        return False

    @abstractmethod
    def hang_up(self) -> None:
        """Close the connection at once."""

    def retire(self) -> None:
        """Be closed once the turns that are on the wire have their answers."""
        self._retired = True
        if not self.turns:
            self.abort(RedisConnectionError("The connection is used no more"))

    def abort(self, error: Exception) -> None:
        """Be closed at once; `lost` is told of the turns that are on the wire."""
        if not self.over:
            self.over = True
            self.hang_up()
            turns = list(self.turns)
            self.turns.clear()
            self._lost(self, turns, error)

    def take(self, replies: Iterable[Any]) -> None:
        """Take the next replies, and answer the turns that are complete with them."""
        turns = self.turns
        for reply in replies:
            if reply.__class__ not in _VALUES and self._is_seen_to(reply):
                continue
            try:
                turn = turns[0]
            except IndexError:
                self.abort(InvalidResponse("a reply that nobody has asked for"))
                return
            taken = turn.replies
            taken.append(reply)
            if len(taken) == turn.expected:
                if reply != turn.sentinel and turn.sentinel and not self.is_unchecked(reply):
                    self._missed(turn, reply)
                    continue
                turns.popleft()
                turn.end()
                if self._retired and not turns:
                    self.retire()

    def _is_seen_to(self, reply: Any) -> bool:
        """Return whether no turn has to see a reply, after doing what else it asks for."""
        if isinstance(reply, Exception):
            if is_demoted(reply):
                self._demoted()
            elif isinstance(reply, RedisConnectionError):
                self.abort(reply)
            elif is_cut_off(reply) and self.turns:
                self._cut_off(reply)
        return self.over or type(reply) is _PUSH

    def _cut_off(self, reply: Exception) -> None:
        """Refuse the turn that the server hangs up for, which it would do each time."""
        turn = self.turns.popleft()
        turn.replies = [reply] * turn.expected
        turn.end()
        self.abort(RedisConnectionError("The server has hung up"))

    def _missed(self, turn: Turn, reply: Any) -> None:
        """Give up a turn whose sentinel did not come, and all others unless it is known why."""
        if not isinstance(reply, Exception) or not is_down(reply):
            self.abort(InvalidResponse("the replies are out of step with the commands"))
            return
        # A server that does not serve may refuse to be pinged.
        self.turns.popleft()
        turn.over = True
        turn.failed(reply)
        if self._retired and not self.turns:
            self.retire()


class StreamWire(Wire, asyncio.Protocol):
    """A connection whose transport is taken over from redis-py.

    Args:
        connection: redis-py's, which is open.
        lost: Is told once that it has ended, and which turns have got no answer.
        demoted: Is told when the server has said that it is a replica.

    Raises:
        RedisConnectionError: The server has hung up meanwhile.
    """

    def __init__(self, connection: Any, *, lost: Lost, demoted: Callable[[], None]) -> None:
        super().__init__(connection, lost=lost, demoted=demoted)
        self._transport: Any = transport_of(connection)
        if self._transport.is_closing() or connection._reader.at_eof():  # noqa: SLF001
            raise RedisConnectionError("The server has hung up")
        reader: Any = hiredis.Reader
        self._reader = reader(
            protocolError=InvalidResponse,
            replyError=connection._parser.parse_error,  # noqa: SLF001
            notEnoughData=_MORE,
        )
        self._sent = 0
        self._moved = 0
        self._checked = True
        # Who closes redis-py's stream waits until that knows of the end.
        self._stream: Any = self._transport.get_protocol()
        self._transport.set_protocol(self)

    @property
    def free(self) -> bool:
        """It carries many."""
        return True

    @property
    def moved(self) -> int:
        """How many bytes have come, and have gone to the socket."""
        return self._moved - int(self._transport.get_write_buffer_size())

    def send(self, turn: Turn) -> None:
        """Write a turn; the transport keeps what the socket does not take yet."""
        packed, transport = turn.begin(self), self._transport
        if self._checked:
            self._sent = sent = self._sent + 1
            turn.sentinel = sentinel = sent.to_bytes(8)
            turn.expected += 1
            packed += (_PING, sentinel, _END)
        self.turns.append(turn)
        if turn.large:
            size = sum(map(len, packed))
            transport.writelines(packed)
        else:
            # To copy what is small costs less than to write it in pieces.
            data = b"".join(packed)
            size = len(data)
            transport.write(data)
        self._moved = moved = self._moved + size
        turn.moved = moved - transport.get_write_buffer_size()

    def is_unchecked(self, reply: Any) -> bool:
        """Return whether this user may not PING, as the first turn has told."""
        if self.turns[0].sentinel == _FIRST:
            self._checked = not isinstance(reply, NoPermissionError)
        return not self._checked and isinstance(reply, NoPermissionError)

    def hang_up(self) -> None:
        """Close the transport, whatever it has not sent yet."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Take the replies that are complete."""
        self._moved += len(data)
        reader = self._reader
        reader.feed(data)
        replies: list[Any] = []
        try:
            replies += iter(reader.gets, _MORE)
        except Exception as error:  # noqa: BLE001 - also of an error reply in no known form
            self.take(replies)
            self.abort(InvalidResponse(str(error)))
        else:
            self.take(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        """Let the turns that are on the wire be asked elsewhere."""
        self._stream.connection_lost(exc)
        self.abort(exc or RedisConnectionError("The server has hung up"))


class PlainWire(Wire):
    """A connection without a transport, as fakeredis has: redis-py drives it, turn by turn.

    Args:
        connection: redis-py's, which is open.
        lost: Is told once that it has ended, and which turns have got no answer.
        demoted: Is told when the server has said that it is a replica.
        freed: Is told when another turn may be sent.
    """

    def __init__(
        self,
        connection: Any,
        *,
        lost: Lost,
        demoted: Callable[[], None],
        freed: Callable[[], None],
    ) -> None:
        super().__init__(connection, lost=lost, demoted=demoted)
        self._freed = freed
        self._asking: asyncio.Task[None] | None = None

    @property
    def free(self) -> bool:
        """It carries one turn, beside its greeting."""
        return not self.turns

    def send(self, turn: Turn) -> None:
        """Ask once those before have their answers."""
        self.turns.append(turn)
        turn.wire = self
        if self._asking is None:
            # Not by the loop's factory, which may begin it before it is known here.
            loop = asyncio.get_running_loop()
            self._asking = asyncio.Task(self._ask(), loop=loop, name="tiercache-turn")

    def hang_up(self) -> None:
        """Ask no more."""
        if self._asking is not None and self._asking is not asyncio.current_task():
            self._asking.cancel()

    async def _ask(self) -> None:
        connection = self.connection
        try:
            while self.turns:
                turn = self.turns[0]
                await connection.send_packed_command(turn.begin(self), check_health=False)
                while not turn.over and not self.over:
                    try:
                        reply = await connection.read_response()
                    except ResponseError as error:
                        reply = error
                    self.take((reply,))
        except Exception as error:  # noqa: BLE001 - those that wait have to know
            self.abort(error)
        except asyncio.CancelledError:
            self.abort(TimeoutError())
            raise
        finally:
            self._asking = None
        self._freed()


def transport_of(connection: Any) -> Any:
    """Return the transport of an open connection of redis-py, `None` if it has none."""
    return getattr(getattr(connection, "_writer", None), "transport", None)
