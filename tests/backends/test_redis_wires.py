"""Which connections are used again, and which are closed."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

from async_tiercache._clock import SystemClock
from async_tiercache.backends.redis.wire import Command, Turn
from async_tiercache.backends.redis.wires import Wires

DEADLINE = 5.0
"""How long anything may take here; reached only by tests that fail."""


class FakeConnection:
    """A connection of redis-py to a server that answers what it is told to.

    Attributes:
        replies: What is answered next; by default the number of the connection.
        gate: What replies wait for.
    """

    info: Any = b"# Server\r\nrun_id:abc\r\n"

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_connected = False
        self.connects = 0
        self.asked: list[Any] = []
        self.replies: deque[Any] = deque()
        self.gate = asyncio.Event()
        self.gate.set()

    async def connect(self) -> None:
        """Be open."""
        self.connects += 1
        self.is_connected = True
        self.replies += [[b"1", b"0"], self.info]

    async def disconnect(self, nowait: bool = False) -> None:
        """Be closed."""
        self.is_connected = False
        self.replies.clear()

    async def send_packed_command(self, packed: Any, check_health: bool = True) -> None:
        """Take anything."""
        self.asked.append(packed)
        await asyncio.sleep(0)

    async def read_response(self) -> Any:
        """Return or raise what comes next."""
        await self.gate.wait()
        reply = self.replies.popleft() if self.replies else self.number
        if isinstance(reply, Exception):
            raise reply
        return reply


class Fleet:
    """Makes connections, and counts them."""

    def __init__(self) -> None:
        self.made: list[FakeConnection] = []

    def make(self) -> FakeConnection:
        """Return a new one."""
        self.made.append(FakeConnection(len(self.made)))
        return self.made[-1]


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


@pytest.fixture
def fleet() -> Fleet:
    """Return the connections."""
    return Fleet()


@pytest.fixture
def wires(fleet: Fleet) -> Wires:
    """Return wires of the fleet."""
    return wires_of(fleet.make)


def wires_of(make: Callable[[], FakeConnection], **options: Any) -> Wires:
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


async def test_turns_share_a_connection(wires: Wires, fleet: Fleet) -> None:
    """But for large ones, which have one of their own."""
    assert await ask(wires, False, False, False) == [0, 0, 0]
    assert await ask(wires, True, False, True) == [1, 0, 1]

    assert [each.connects for each in fleet.made] == [1, 1]
    assert len(wires.open_connections()) == 2


async def test_a_single_connection_may_have_to_do(fleet: Fleet) -> None:
    """For what is large as well."""
    assert await ask(wires_of(fleet.make, single=True), True, False) == [0, 0]


async def test_what_breaks_takes_the_other_along(wires: Wires, fleet: Fleet) -> None:
    """It may lead to a server that was replaced; the turn itself is repeated."""
    await ask(wires, False, True)
    fleet.made[1].replies.append(RedisConnectionError("closed"))

    assert await ask(wires, True) == [2]

    assert [each.is_connected for each in fleet.made] == [False, False, True]
    assert len(wires.open_connections()) == 1


async def test_all_that_was_on_a_wire_that_breaks_is_sent_once_more(
    wires: Wires, fleet: Fleet
) -> None:
    """In its order, on one new connection."""
    await ask(wires)
    fleet.made[0].gate.clear()
    asking = asyncio.ensure_future(ask(wires, *[False] * 4))
    await asyncio.sleep(0)
    fleet.made[0].replies.append(RedisConnectionError("closed"))
    fleet.made[0].gate.set()

    assert await asking == [1, 1, 1, 1]
    assert len(fleet.made) == 2


async def test_what_breaks_again_at_once_is_an_error() -> None:
    """One repetition is enough for a server that has hung up."""

    class Stubborn(FakeConnection):
        async def read_response(self) -> Any:
            raise RedisConnectionError("always closed")

    broken = wires_of(lambda: Stubborn(0))

    with pytest.raises(RedisConnectionError, match="always"):
        await exchange(broken, ("GET", "k"))

    assert broken.open_connections() == []


async def test_what_cannot_be_connected_is_an_error() -> None:
    """After two refusals."""
    tried: list[FakeConnection] = []

    class Refused(FakeConnection):
        async def connect(self) -> None:
            tried.append(self)
            raise RedisConnectionError("refused")

    with pytest.raises(RedisConnectionError, match="refused"):
        await exchange(wires_of(lambda: Refused(0)), ("GET", "k"))

    assert len(tried) == 2


@pytest.mark.parametrize("error", [ReadOnlyError("r"), MasterDownError("m")])
async def test_a_wire_to_a_replica_is_not_used_again(
    wires: Wires, fleet: Fleet, error: Exception
) -> None:
    """Nor is the other: the name may lead to another server by now."""
    await ask(wires, False, True)
    fleet.made[1].replies.append(error)

    (reply,) = await exchange(wires, ("SET", "k", "v"), large=True)
    await wires.aclose()

    assert reply is error
    assert wires.open_connections() == []
    assert not any(each.is_connected for each in fleet.made)


async def test_a_refused_command_leaves_its_wire_in_use(wires: Wires, fleet: Fleet) -> None:
    """The error is its reply."""
    await ask(wires)
    error = ResponseError("no")
    fleet.made[0].replies.append(error)

    assert await exchange(wires, ("SET", "k", "v")) == [error]

    assert await ask(wires) == [0]
    assert fleet.made[0].connects == 1


async def test_a_new_wire_proves_that_it_leads_to_a_master() -> None:
    """By a command before the others."""

    class Replica(FakeConnection):
        async def connect(self) -> None:
            await super().connect()
            self.replies.append(ReadOnlyError("a replica"))

    wires = wires_of(lambda: Replica(0), proof=("SET", "p", ""))

    with pytest.raises(RedisConnectionError, match="replica"):
        await exchange(wires, ("GET", "k"))


@pytest.mark.parametrize(
    ("info", "told"),
    [
        (b"# Server\r\nrun_id:abc\r\n", b"abc"),
        ("run_id:abc", b"abc"),
        (ResponseError("NOPERM"), b""),
        (b"nothing", b""),
        (None, b""),
    ],
)
async def test_a_new_wire_tells_the_run_id_first(info: Any, told: bytes) -> None:
    """Before its turn has an answer; where that is forbidden it tells that it does not know."""
    order: list[object] = []

    class Server(FakeConnection):
        def __init__(self) -> None:
            super().__init__(7)
            self.info = info

    wires = wires_of(Server, told_run=order.append)
    for _ in range(2):
        order += await exchange(wires, ("GET", "k"))

    assert order == [told, 7, 7]


async def test_wires_to_a_server_that_was_replaced_are_used_no_more(
    wires: Wires, fleet: Fleet
) -> None:
    """The old one may still answer, and what it confirms is lost."""
    await ask(wires, False, True)

    wires.leave()

    assert wires.open_connections() == []
    assert await ask(wires) == [2]
    assert not any(each.is_connected for each in fleet.made[:2])


async def test_what_is_on_the_wire_to_a_server_that_was_replaced_is_asked_again(
    wires: Wires, fleet: Fleet
) -> None:
    """It may have confirmed what the one in its place has not got."""
    await ask(wires)
    fleet.made[0].gate.clear()
    asking = asyncio.ensure_future(ask(wires))
    await asyncio.sleep(0)

    wires.leave()
    fleet.made[0].gate.set()

    assert await asking == [1]


async def test_the_wire_that_tells_of_another_server_leads_there(fleet: Fleet) -> None:
    """So it is not left for that."""
    wires: list[Wires] = []
    telling = wires_of(fleet.make, told_run=lambda _: wires[0].leave())
    wires.append(telling)

    assert await ask(telling) == [0]
    assert await ask(telling) == [0]


async def test_a_turn_that_is_given_up_takes_those_behind_it_along(
    wires: Wires, fleet: Fleet
) -> None:
    """Whatever comes for them yet would be read as the replies of others."""
    await ask(wires)
    fleet.made[0].gate.clear()
    first, second = Asked(("GET", "a")), Asked(("GET", "b"))
    wires.send(first)
    wires.send(second)

    wires.give_up(first)

    for each in (first, second):
        with pytest.raises(TimeoutError):
            await each.end_of
    assert await ask(wires) == [1]


async def test_a_connection_that_takes_too_long_is_given_up(fleet: Fleet) -> None:
    """With all that waits for it."""

    class Hanging(FakeConnection):
        async def connect(self) -> None:
            await asyncio.Event().wait()

    wires = wires_of(lambda: Hanging(0))
    first, second = Asked(("GET", "a")), Asked(("GET", "b"))
    wires.send(first)
    wires.send(second)
    await asyncio.sleep(0)

    wires.give_up(second)

    for each in (first, second):
        with pytest.raises(TimeoutError):
            await each.end_of
