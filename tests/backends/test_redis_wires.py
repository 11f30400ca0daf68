"""Which wires are used again, and which are closed."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import MasterDownError, ReadOnlyError, ResponseError

from async_tiercache._clock import SystemClock
from async_tiercache.backends.redis.connection import Wires


class FakeConnection:
    """A connection of redis-py to a server that answers what it is told to.

    Attributes:
        replies: What is answered next; by default the number of the connection.
    """

    info: Any = b"# Server\r\nrun_id:abc\r\n"

    def __init__(self, number: int) -> None:
        self.number = number
        self.is_connected = False
        self.connects = 0
        self.replies: deque[Any] = deque()

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
        await asyncio.sleep(0)

    async def read_response(self) -> Any:
        """Return or raise what comes next."""
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


async def ask(wires: Wires, count: int = 1) -> list[int]:
    """Return the numbers of the connections that carry so many turns at once."""
    turns = await asyncio.gather(*(wires.exchange([("GET", "k")]) for _ in range(count)))
    return [turn[0] for turn in turns]


async def test_wires_are_used_again(wires: Wires, fleet: Fleet) -> None:
    """As many as there are turns at once."""
    assert sorted(await ask(wires, 3)) == [0, 1, 2]
    assert sorted(await ask(wires, 3)) == [0, 1, 2]

    assert [each.connects for each in fleet.made] == [1, 1, 1]


async def test_what_breaks_takes_those_along_that_idle(wires: Wires, fleet: Fleet) -> None:
    """They may lead to a server that was replaced; the turn itself is repeated."""
    await ask(wires, 3)
    fleet.made[2].replies.append(RedisConnectionError("closed"))

    assert await ask(wires) == [2]

    assert [each.is_connected for each in fleet.made] == [False, False, True]
    assert len(wires.idle()) == 1


async def test_what_is_newer_than_what_breaks_stays(wires: Wires, fleet: Fleet) -> None:
    """Eight wires that break together are not closed eight times."""
    await ask(wires, 4)
    for each in fleet.made:
        each.replies.append(RedisConnectionError("closed"))

    await ask(wires, 4)

    assert len(wires.idle()) == 4
    assert sum(each.connects for each in fleet.made) == 8


async def test_what_breaks_again_at_once_is_an_error() -> None:
    """One repetition is enough for a server that has hung up."""
    broken = wires_of(Stubborn)

    with pytest.raises(RedisConnectionError, match="always"):
        await broken.exchange([("GET", "k")])

    assert broken.idle() == []


class Stubborn(FakeConnection):
    """Never answers."""

    def __init__(self) -> None:
        super().__init__(0)

    async def read_response(self) -> Any:
        """Fail."""
        raise RedisConnectionError("always closed")


@pytest.mark.parametrize("error", [ReadOnlyError("r"), MasterDownError("m")])
async def test_a_wire_to_a_replica_is_not_used_again(
    wires: Wires, fleet: Fleet, error: Exception
) -> None:
    """Nor are those that idle: the name may lead to another server by now."""
    await ask(wires, 2)
    fleet.made[1].replies.append(error)

    (reply,) = await wires.exchange([("SET", "k", "v")])

    assert reply is error
    assert wires.idle() == []
    assert not any(each.is_connected for each in fleet.made)


async def test_a_refused_command_leaves_its_wire_in_use(wires: Wires, fleet: Fleet) -> None:
    """The error is its reply."""
    await ask(wires)
    error = ResponseError("no")
    fleet.made[0].replies.append(error)

    assert await wires.exchange([("SET", "k", "v")]) == [error]

    assert await ask(wires) == [0]
    assert fleet.made[0].connects == 1


async def test_a_new_wire_proves_that_it_leads_to_a_master(fleet: Fleet) -> None:
    """By a command before the others."""

    class Replica(FakeConnection):
        def __init__(self) -> None:
            super().__init__(0)

        async def connect(self) -> None:
            await super().connect()
            self.replies.append(ReadOnlyError("a replica"))

    wires = wires_of(Replica, proof=("SET", "p", ""))

    with pytest.raises(RedisConnectionError, match="replica"):
        await wires.exchange([("GET", "k")])


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
        order += await wires.exchange([("GET", "k")])

    assert order == [told, 7, 7]


async def test_wires_to_a_server_that_was_replaced_are_used_no_more(
    wires: Wires, fleet: Fleet
) -> None:
    """The old one may still answer, and what it confirms is lost."""
    await ask(wires, 2)

    wires.leave()

    assert wires.idle() == []
    assert await ask(wires) == [2]
    assert not any(each.is_connected for each in fleet.made[:2])


async def test_what_is_on_the_wire_to_a_server_that_was_replaced_is_asked_again() -> None:
    """It has confirmed what the one in its place has not got."""

    class Overtaken(FakeConnection):
        async def read_response(self) -> Any:
            reply = await super().read_response()
            if self.connects == 1 and reply == b"confirmed":
                server.leave()
            return reply

    old = Overtaken(7)
    server = wires_of(lambda: old)
    await server.exchange([("GET", "k")])
    old.replies.append(b"confirmed")

    assert await server.exchange([("DEL", "k")]) == [7]

    assert old.connects == 2
