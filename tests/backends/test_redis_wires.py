"""Which connections are used again, and which are closed."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, Self

import hiredis
import pytest
import pytest_asyncio
from redis.asyncio import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, MasterDownError, ReadOnlyError, ResponseError

from async_tiercache._clock import SystemClock
from async_tiercache.backends.redis.wire import Command, Turn
from async_tiercache.backends.redis.wires import BUSY_BYTES, Wires

_Connection: Final[Any] = Connection

DEADLINE = 5.0
"""How long anything may take here; reached only by tests that fail."""


class Link:
    """The server's end of one connection.

    Attributes:
        number: Which connection it is.
        replies: What is answered next, as it goes over the wire; by default the number. `None`
            hangs up.
        gate: What answers wait for.
        ended: Set once it is closed.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.replies: deque[bytes | None] = deque()
        self.gate = asyncio.Event()
        self.gate.set()
        self.ended = asyncio.Event()
        self.asked: list[list[bytes]] = []


class Answerer:
    """A server that speaks the protocol of Redis, and says what it is told to.

    Attributes:
        links: Its connections, in the order in which they were opened.
        info: What it says of itself.
        proof: What it says to a proof.
        pong: What it says to the PING at the end of a turn, from the connection and what is right;
            `None` hangs up.
    """

    def __init__(self) -> None:
        self.links: list[Link] = []
        self.info = b"$10\r\nrun_id:abc\r\n"
        self.proof = b"+OK\r\n"
        self.pong: Callable[[Link, bytes], bytes | None] = lambda _, pong: pong
        self.port = 0
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        await self._server.wait_closed()

    def make(self) -> Any:
        """Return a connection to it that is not open yet."""
        return _Connection(host="127.0.0.1", port=self.port, protocol=2)

    async def closed(self, *numbers: int) -> None:
        """Return once connections were closed from the other end."""
        async with asyncio.timeout(DEADLINE):
            for number in numbers:
                await self.links[number].ended.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(len(self.links))
        self.links.append(link)
        parser: Any = hiredis.Reader()
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                parser.feed(data)
                while command := parser.gets():
                    reply = await self._reply(link, command)
                    if reply is None:
                        writer.transport.abort()
                        break
                    writer.write(reply)
        link.ended.set()
        writer.close()

    async def _reply(self, link: Link, command: list[bytes]) -> bytes | None:
        match command[0]:
            case b"CLIENT":
                return b"+OK\r\n"
            case b"TIME":
                return b"*2\r\n$1\r\n1\r\n$1\r\n0\r\n"
            case b"INFO":
                return self.info
            case b"PROOF":
                return self.proof
            case b"PING":
                return self.pong(link, b"$8\r\n%b\r\n" % command[1])
            case _:
                link.asked.append(command)
                await link.gate.wait()
                return link.replies.popleft() if link.replies else b":%d\r\n" % link.number


class Asked(Turn):
    """A turn whose end can be awaited."""

    __slots__ = ("end_of",)

    def __init__(self, *commands: Command, large: bool = False) -> None:
        super().__init__(commands, large=large)
        self.end_of: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()

    def answered(self, replies: list[Any]) -> None:
        """Take the replies."""
        self.end_of.set_result(replies)

    def failed(self, error: Exception) -> None:
        """Take the error."""
        self.end_of.set_exception(error)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[Answerer]:
    """Return the server."""
    async with Answerer() as server:
        yield server


@pytest_asyncio.fixture
async def wires(server: Answerer) -> AsyncIterator[Wires]:
    """Return wires to the server."""
    wires = wires_of(server.make)
    yield wires
    await wires.aclose()


def wires_of(make: Callable[[], Any], **options: Any) -> Wires:
    """Return wires of which nobody is told anything."""
    settings: dict[str, Any] = {
        "clock": SystemClock(),
        "told_time": lambda _seconds, _waited: None,
        "told_run": lambda _: None,
    }
    settings |= options
    return Wires(make, **settings)


async def exchange(wires: Wires, *commands: Command, large: bool = False) -> list[Any]:
    """Return the replies to one turn."""
    turn = Asked(*commands, large=large)
    wires.send(turn)
    async with asyncio.timeout(DEADLINE):
        return await turn.end_of


async def ask(wires: Wires, *large: bool) -> Sequence[int]:
    """Return the numbers of the connections that carry turns that are sent together."""
    turns = [exchange(wires, ("GET", "k"), large=each) for each in large or (False,)]
    return [turn[0] for turn in await asyncio.gather(*turns)]


async def test_turns_share_a_connection(wires: Wires, server: Answerer) -> None:
    """But for large ones, which have one of their own."""
    assert await ask(wires, False, False, False) == [0, 0, 0]
    assert await ask(wires, True, False, True) == [1, 0, 1]

    assert len(server.links) == len(wires.open_connections()) == 2


async def test_a_single_connection_may_have_to_do(server: Answerer) -> None:
    """For what is large as well."""
    wires = wires_of(server.make, single=True)

    assert await ask(wires, True, False) == [0, 0]
    await wires.aclose()


async def test_a_turn_does_not_wait_for_the_one_before(wires: Wires, server: Answerer) -> None:
    """It is on the wire already; answers come in the order of the turns."""
    await ask(wires)
    link = server.links[0]
    link.gate.clear()
    first = asyncio.ensure_future(exchange(wires, ("A", "1"), ("B", "2")))
    second = asyncio.ensure_future(exchange(wires, ("C", "3")))
    await asyncio.sleep(0)
    link.replies += [b":1\r\n", b"$-1\r\n", b"*1\r\n$1\r\nx\r\n"]
    link.gate.set()

    assert list(await asyncio.gather(first, second)) == [[1, None], [[b"x"]]]
    assert [command[0] for command in link.asked] == [b"GET", b"A", b"B", b"C"]


async def test_an_answer_may_come_in_pieces(wires: Wires, server: Answerer) -> None:
    """As large ones do."""
    large = b"x" * 1_000_000
    await ask(wires)
    server.links[0].replies.append(b"$%d\r\n%s\r\n" % (len(large), large))

    assert await exchange(wires, ("GET", "k")) == [large]


async def test_what_breaks_takes_the_other_along(wires: Wires, server: Answerer) -> None:
    """It may lead to a server that was replaced; the turn itself is repeated."""
    await ask(wires, False, True)
    server.links[1].replies.append(None)

    assert await ask(wires, True) == [2]

    await server.closed(0, 1)
    assert len(wires.open_connections()) == 1


async def test_all_that_was_on_a_wire_that_breaks_is_sent_once_more(
    wires: Wires, server: Answerer
) -> None:
    """In its order, on one new connection."""
    await ask(wires)
    server.links[0].replies.append(None)
    turns = [exchange(wires, ("GET", str(number))) for number in range(4)]

    assert await asyncio.gather(*turns) == [[1]] * 4
    assert [command[1] for command in server.links[1].asked] == [b"0", b"1", b"2", b"3"]


async def test_what_breaks_again_at_once_is_an_error(wires: Wires, server: Answerer) -> None:
    """One repetition is enough for a server that has hung up."""
    server.info = b"-LOADING it is\r\n"

    with pytest.raises(RedisConnectionError, match="it is"):
        await exchange(wires, ("GET", "k"))

    assert len(server.links) == 2
    assert wires.open_connections() == []


async def test_what_cannot_be_connected_is_an_error(unused_tcp_port: int) -> None:
    """After two refusals."""
    tried: list[Any] = []

    def make() -> Any:
        tried.append(_Connection(host="127.0.0.1", port=unused_tcp_port, protocol=2))
        return tried[-1]

    wires = wires_of(make)
    with pytest.raises(RedisConnectionError):
        await exchange(wires, ("GET", "k"))
    await wires.aclose()

    assert len(tried) == 2


@pytest.mark.parametrize(
    "garbage",
    [b"?\r\n", b":1\r\n:2\r\n", b"-MOVED\r\n", b"-ASK 1\r\n"],
    ids=["no reply", "one too many", "moved nowhere", "ask nobody"],
)
async def test_a_wire_that_says_what_it_must_not_is_closed(
    wires: Wires, server: Answerer, garbage: bytes
) -> None:
    """Whoever it was for has it, or an error; the next turn has a new one."""
    await ask(wires)
    server.links[0].replies.append(garbage)

    with contextlib.suppress(InvalidResponse):
        assert await exchange(wires, ("GET", "k")) == [1]

    assert await ask(wires) == [1]
    await server.closed(0)


async def test_what_comes_with_what_it_must_not_say_is_an_answer(
    wires: Wires, server: Answerer
) -> None:
    """It was complete before that."""
    await ask(wires)
    server.pong = lambda link, pong: pong + b"?\r\n" * (link.number == 0)

    assert await ask(wires) == [0]

    await server.closed(0)
    assert await ask(wires) == [1]


@pytest.mark.parametrize("error", [b"-READONLY r", b"-MASTERDOWN m"])
async def test_a_wire_to_a_replica_is_not_used_again(
    wires: Wires, server: Answerer, error: bytes
) -> None:
    """Nor is the other: the name may lead to another server by now."""
    await ask(wires, False, True)
    server.links[1].replies.append(error + b"\r\n")

    (reply,) = await exchange(wires, ("SET", "k", "v"), large=True)

    assert isinstance(reply, ReadOnlyError | MasterDownError)
    assert wires.open_connections() == []
    await server.closed(0, 1)


async def test_a_refused_command_leaves_its_wire_in_use(wires: Wires, server: Answerer) -> None:
    """The error is its reply."""
    await ask(wires)
    server.links[0].replies.append(b"-ERR no\r\n")

    (reply,) = await exchange(wires, ("SET", "k", "v"))

    assert isinstance(reply, ResponseError)
    assert await ask(wires) == [0]


async def test_a_new_wire_proves_that_it_leads_to_a_master(server: Answerer) -> None:
    """By a command before the others."""
    server.proof = b"-READONLY a replica\r\n"
    wires = wires_of(server.make, proof=("PROOF",))

    with pytest.raises(RedisConnectionError, match="replica"):
        await exchange(wires, ("GET", "k"))
    await wires.aclose()


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (b"$20\r\n# Server\r\nrun_id:abc\r\n", b"abc"),
        (b"+run_id:abc\r\n", b"abc"),
        (b"-NOPERM no\r\n", b""),
        (b"+nothing\r\n", b""),
        (b"$-1\r\n", b""),
    ],
)
async def test_a_new_wire_tells_the_run_id_first(
    server: Answerer, info: bytes, told: bytes
) -> None:
    """Before its turn has an answer; where that is forbidden it tells that it does not know."""
    order: list[object] = []
    server.info = info
    wires = wires_of(server.make, told_run=order.append)

    for _ in range(2):
        order += await exchange(wires, ("GET", "k"))
    await wires.aclose()

    assert order == [told, 0, 0]


async def test_wires_to_a_server_that_was_replaced_are_used_no_more(
    wires: Wires, server: Answerer
) -> None:
    """The old one may still answer, and what it confirms is lost."""
    await ask(wires, False, True)

    wires.leave()

    assert wires.open_connections() == []
    assert await ask(wires) == [2]
    await server.closed(0, 1)


async def test_what_is_on_the_wire_to_a_server_that_was_replaced_is_asked_again(
    wires: Wires, server: Answerer
) -> None:
    """It may have confirmed what the one in its place has not got."""
    await ask(wires)
    server.links[0].gate.clear()
    asked = Asked(("DEL", "k"))
    wires.send(asked)

    wires.leave()
    server.links[0].gate.set()

    assert await asked.end_of == [1]


async def test_the_wire_that_tells_of_another_server_leads_there(server: Answerer) -> None:
    """So it is not left for that."""
    wires: list[Wires] = []
    telling = wires_of(server.make, told_run=lambda _: wires[0].leave())
    wires.append(telling)

    assert await ask(telling) == [0]
    assert await ask(telling) == [0]
    await telling.aclose()


async def test_a_wire_is_busy_while_bytes_go(wires: Wires, server: Answerer) -> None:
    """Those that the server does not take yet wait here, and have not moved."""
    await ask(wires)
    server.links[0].gate.clear()
    size = 2**26
    first, large = Asked(("GET", "a")), Asked(("SET", "b", b"x" * size))
    assert not wires.moving(large)
    wires.send(first)
    wires.send(large)
    assert large.wire is not None
    assert large.moved == large.wire.moved < size

    server.links[0].gate.set()
    await large.end_of

    assert wires.moving(large)
    assert large.moved > size
    assert not wires.moving(large)


async def test_a_wire_is_busy_while_a_reply_comes(wires: Wires, server: Answerer) -> None:
    """One that is large enough."""
    await ask(wires)
    for size in (BUSY_BYTES // 2, BUSY_BYTES):
        asked = Asked(("GET", "a"))
        server.links[0].replies.append(b"$%d\r\n%b\r\n" % (size, b"y" * size))
        wires.send(asked)
        await asked.end_of

        assert wires.moving(asked) == (size == BUSY_BYTES)


async def test_a_turn_that_is_given_up_takes_those_behind_it_along(
    wires: Wires, server: Answerer
) -> None:
    """Whatever comes for them yet would be read as the replies of others."""
    await ask(wires)
    server.links[0].gate.clear()
    first, second = Asked(("GET", "a")), Asked(("GET", "b"))
    wires.send(first)
    wires.send(second)

    wires.give_up(first)

    for each in (first, second):
        with pytest.raises(TimeoutError):
            await each.end_of
    server.links[0].gate.set()
    assert await ask(wires) == [1]


async def test_what_is_on_the_wire_has_its_answer_before_that_is_closed(
    wires: Wires, server: Answerer
) -> None:
    """Though later turns go elsewhere already."""
    await ask(wires)
    server.links[0].gate.clear()
    before = Asked(("GET", "a"))
    wires.send(before)

    wires.renew()
    assert await ask(wires) == [1]
    server.links[0].gate.set()

    assert await before.end_of == [0]
    await server.closed(0)


@pytest.mark.parametrize("reply", [b"", b":7\r\n:8\r\n"], ids=["missing", "one too many"])
async def test_replies_that_are_out_of_step_are_believed_by_nobody(
    wires: Wires, server: Answerer, reply: bytes
) -> None:
    """Each would be taken for that of another command, from then on."""
    await ask(wires)
    server.links[0].replies.append(reply)
    turns = [exchange(wires, ("GET", "a")), exchange(wires, ("GET", "b"))]

    errors = await asyncio.gather(*turns, return_exceptions=True)

    assert [type(error) for error in errors] == [InvalidResponse] * 2
    assert await ask(wires) == [1]


async def test_who_may_not_ping_is_not_checked(wires: Wires, server: Answerer) -> None:
    """A user's rights may end there; the first turn tells, and those after it ask no more."""
    pinged: list[int] = []

    def refuse(link: Link, _: bytes) -> bytes:
        pinged.append(link.number)
        return b"-NOPERM no permission to run the 'ping' command\r\n"

    server.pong = refuse
    turns = [exchange(wires, ("GET", "a")), exchange(wires, ("GET", "b"))]

    assert await asyncio.gather(*turns) == [[0], [0]]
    assert await ask(wires) == [0]
    assert pinged == [0, 0, 0]  # the greeting, and the turns that were sent right behind it


async def test_an_error_in_the_place_of_a_ping_is_not_what_the_first_turn_was_told(
    wires: Wires, server: Answerer
) -> None:
    """Who may PING once may do so again."""
    await ask(wires)
    server.pong = lambda link, pong: b"-NOPERM no\r\n" if link.number == 0 else pong

    with pytest.raises(InvalidResponse):
        await ask(wires)

    assert await ask(wires) == [1]


@pytest.mark.parametrize("error", ["MISCONF no snapshot", "BUSY with a script"])
async def test_a_server_that_refuses_to_be_pinged_says_why(
    wires: Wires, server: Answerer, error: str
) -> None:
    """It does not serve, and the connection is used again once it does."""
    await ask(wires)
    answer, server.pong = server.pong, lambda *_: f"-{error}\r\n".encode()

    with pytest.raises(ResponseError, match=error):
        await ask(wires)

    server.pong = answer
    assert await ask(wires) == [0]


async def test_a_wire_that_could_not_be_greeted_is_not_used(server: Answerer) -> None:
    """It may lead to another server than before, which only the greeting tells."""
    told: list[bytes] = []
    wires = wires_of(server.make, told_run=told.append)
    answer, server.pong = server.pong, lambda *_: b"-MISCONF no snapshot\r\n"
    with pytest.raises(ResponseError, match="no snapshot"):
        await ask(wires)
    server.pong = answer

    assert await ask(wires) == [1]

    await wires.aclose()
    assert told == [b"abc"]


async def test_a_turn_that_the_server_hangs_up_for_is_refused(
    wires: Wires, server: Answerer
) -> None:
    """It would be so on the next connection; those behind it are asked there."""
    await ask(wires)
    server.links[0].replies.append(b"-ERR Protocol error: invalid bulk length\r\n")
    server.pong = lambda link, pong: pong if link.number else None
    turns = [exchange(wires, ("SET", "k", "v")), exchange(wires, ("GET", "k"))]

    (error,), answer = await asyncio.gather(*turns)

    assert isinstance(error, ResponseError)
    assert answer == [1]
    assert [command[0] for command in server.links[1].asked] == [b"GET"]
