"""Connections without a transport, as fakeredis has: each carries one turn at a time."""

import asyncio
from collections import deque
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from async_tiercache.backends.redis.wires import Wires
from tests.backends.test_redis_wires import DEADLINE, Asked, ask, exchange, wires_of


class FakeConnection:
    """A connection of redis-py to a server that answers what it is told to.

    Attributes:
        replies: What is answered next; by default the number of the connection.
        gate: What replies wait for.
    """

    info = b"run_id:abc"

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


@pytest.fixture
def fleet() -> Fleet:
    """Return the connections."""
    return Fleet()


@pytest.fixture
def wires(fleet: Fleet) -> Wires:
    """Return wires of the fleet."""
    return wires_of(fleet.make)


async def test_turns_at_once_have_a_connection_each(wires: Wires, fleet: Fleet) -> None:
    """And so have they the next time."""
    assert sorted(await ask(wires, False, False, False)) == [0, 1, 2]
    assert sorted(await ask(wires, False, False, False)) == [0, 1, 2]

    assert [each.connects for each in fleet.made] == [1, 1, 1]


async def test_what_waits_for_a_connection_takes_one_that_is_free_by_then(fleet: Fleet) -> None:
    """Not only the one that is being opened."""
    hanging = asyncio.Event()

    class Second(FakeConnection):
        async def connect(self) -> None:
            if self.number == 1:
                await hanging.wait()
            await super().connect()

    def make() -> FakeConnection:
        fleet.made.append(Second(len(fleet.made)))
        return fleet.made[-1]

    wires = wires_of(make)
    await ask(wires)

    assert await ask(wires, False, False) == [0, 0]
    hanging.set()
    await wires.aclose()


async def test_what_breaks_is_asked_again(wires: Wires, fleet: Fleet) -> None:
    """On a new connection; the others are closed with it."""
    await ask(wires, False, False)
    fleet.made[0].replies.append(RedisConnectionError("closed"))

    assert await ask(wires) == [2]
    assert [each.is_connected for each in fleet.made] == [False, False, True]


async def test_a_refused_command_is_answered(wires: Wires, fleet: Fleet) -> None:
    """By its error."""
    await ask(wires)
    error = ResponseError("no")
    fleet.made[0].replies.append(error)

    assert await exchange(wires, ("SET", "k", "v")) == [error]
    assert await ask(wires) == [0]


async def test_what_is_given_up_is_asked_no_more(wires: Wires, fleet: Fleet) -> None:
    """Its connection is closed."""
    await ask(wires)
    fleet.made[0].gate.clear()
    turn = Asked(("GET", "a"))
    wires.send(turn)
    await asyncio.sleep(0)

    wires.give_up(turn)

    with pytest.raises(TimeoutError):
        await turn.end_of
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


@pytest.mark.parametrize("resent", [False, True])
async def test_a_connection_that_is_given_up_before_it_begins_is_followed_by_another(
    wires: Wires, fleet: Fleet, resent: bool
) -> None:
    """Also for a turn whose wire has ended in the tick in which its time is over."""
    turn = Asked(("GET", "a"))
    if resent:
        await ask(wires)
        fleet.made[0].gate.clear()
    wires.send(turn)
    if resent:
        wires.leave()

    wires.give_up(turn)

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(DEADLINE):
            await turn.end_of
    assert await ask(wires) == [len(fleet.made) - 1]


async def test_a_connection_that_cannot_be_made_is_an_error_each_time(fleet: Fleet) -> None:
    """What makes it may raise as well."""
    answers: deque[Exception | None] = deque([ValueError("no"), ValueError("no"), None])

    def make() -> FakeConnection:
        answer = answers.popleft()
        if answer is not None:
            raise answer
        return fleet.make()

    wires = wires_of(make)

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            await exchange(wires, ("GET", "k"))
    assert await ask(wires) == [0]


@pytest.mark.parametrize("error", [ResponseError("no"), ValueError("no"), KeyError("no")])
async def test_what_a_connection_fails_with_refuses_no_command(error: Exception) -> None:
    """The server is out of reach, as by one that is cut; be it that nobody tells the password."""

    class Refused(FakeConnection):
        async def connect(self) -> None:
            raise error

    wires = wires_of(lambda: Refused(0))

    with pytest.raises(RedisConnectionError, match="no"):
        await exchange(wires, ("GET", "k"))
