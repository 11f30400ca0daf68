"""What shares a turn, and what has one of its own."""

import asyncio
from typing import Any

import pytest
from redis.exceptions import InvalidResponse, ResponseError

from async_tiercache.backends.redis.turns import LARGE_BYTES, MAX_READS, READ_BYTES, Read, Turns
from async_tiercache.backends.redis.wire import Command, Turn
from async_tiercache.backends.redis.wires import Wires


class RecordingWires(Wires):
    """Answer each command with its last word.

    Attributes:
        turns: The commands of each turn.
        large: Which of them go where they delay nobody.
        instead: What is answered instead.
    """

    def __init__(self) -> None:
        self.turns: list[list[Command]] = []
        self.large: list[bool] = []
        self.instead: list[Any] | None = None

    def send(self, turn: Turn) -> None:
        """Answer soon."""
        self.turns.append(list(turn.commands))
        self.large.append(turn.large)
        asyncio.get_running_loop().call_soon(self._answer, turn)

    def _answer(self, turn: Turn) -> None:
        turn.over = True
        turn.answered(
            [
                list(command[1:]) if command[0] == "MGET" else command[-1]
                for command in turn.commands
            ]
            if self.instead is None
            else self.instead
        )


@pytest.fixture
def wires() -> RecordingWires:
    """Return wires that record."""
    return RecordingWires()


async def test_a_large_value_has_a_turn_of_its_own(wires: RecordingWires) -> None:
    """Those before and after it share one, and each has its own answer."""
    turns = Turns(wires, limit=1.0)
    small, large = b"s" * LARGE_BYTES, b"l" * (LARGE_BYTES + 1)

    answers = await asyncio.gather(
        turns.submit("GET", "a"),
        turns.submit("EVALSHA", "digest", 1, "k", small),
        turns.submit("EVALSHA", "digest", 1, "k", large),
        turns.submit("EVALSHA", "digest", 1, "k", large),
        turns.submit("GET", "b"),
        turns.submit("GET", "c"),
    )

    assert list(answers) == ["a", small, large, large, "b", "c"]
    assert [[command[0] for command in turn] for turn in wires.turns] == [
        ["MGET", "EVALSHA"],
        ["EVALSHA"],
        ["EVALSHA"],
    ]
    assert wires.large == [False, True, True]


@pytest.mark.parametrize("instead", [["not a list"], [["one", "too", "many"]], [None]])
async def test_values_that_are_none_are_an_error(wires: RecordingWires, instead: list[Any]) -> None:
    """For all who have asked."""
    turns, wires.instead = Turns(wires, limit=1.0), instead

    answers = await asyncio.gather(
        turns.submit("GET", "a"), turns.submit("GET", "b"), return_exceptions=True
    )

    assert [type(each) for each in answers] == [InvalidResponse] * 2


@pytest.mark.parametrize(
    ("verb", "count", "sizes"),
    [
        ("GET", MAX_READS, [MAX_READS]),
        ("GET", MAX_READS + 2, [MAX_READS, 2]),
        ("SET", MAX_READS // 2, [MAX_READS // 2]),
        ("SET", MAX_READS + 1, [MAX_READS // 2, MAX_READS // 2, 1]),
    ],
)
async def test_a_turn_is_bounded(
    wires: RecordingWires, verb: str, count: int, sizes: list[int]
) -> None:
    """Reads cost less than other commands."""
    turns = Turns(wires, limit=1.0, merging=False)

    answers = await asyncio.gather(*(turns.submit(verb, str(n)) for n in range(count)))

    assert answers == [str(n) for n in range(count)]
    assert [len(turn) for turn in wires.turns] == sizes


async def test_a_turn_is_bounded_by_what_its_commands_carry(wires: RecordingWires) -> None:
    """Else a burst of values that are just small enough would take longer than a turn may."""
    turns = Turns(wires, limit=1.0)

    await asyncio.gather(
        *(turns.submit("EVALSHA", "digest", 1, "k", b"s" * LARGE_BYTES) for _ in range(20))
    )

    assert [len(turn) for turn in wires.turns] == [7, 7, 6]
    assert 7 * LARGE_BYTES <= MAX_READS * READ_BYTES < 8 * LARGE_BYTES + READ_BYTES


async def test_no_more_turns_are_on_the_wire_than_it_is_wide(wires: RecordingWires) -> None:
    """What comes meanwhile gathers for the next one."""
    turns = Turns(wires, limit=1.0, width=1)

    first = turns.submit("GET", "a")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    answers = await asyncio.gather(first, turns.submit("GET", "b"), turns.submit("GET", "c"))

    assert list(answers) == ["a", "b", "c"]
    assert wires.turns == [[("GET", "a")], [("MGET", "b", "c")]]


class HoldingWires(RecordingWires):
    """Answer nothing by itself.

    Attributes:
        held: What was sent.
    """

    def __init__(self) -> None:
        super().__init__()
        self.held: list[Turn] = []

    def send(self, turn: Turn) -> None:
        """Keep it."""
        self.held.append(turn)


async def test_what_is_small_neither_waits_behind_what_is_large_nor_fails_with_it() -> None:
    """However many large values are under way, and whatever waits for its own turn."""
    wires, large = HoldingWires(), b"l" * (LARGE_BYTES + 1)
    turns = Turns(wires, limit=5.0, width=1)
    stores = [turns.submit("EVALSHA", "digest", 1, "k", large) for _ in range(2)]
    await asyncio.sleep(0)
    reads = [turns.submit("GET", "a")]
    await asyncio.sleep(0)
    reads.append(turns.submit("GET", "b"))
    store, read = wires.held

    store.failed(TimeoutError())
    read.answered(["a"])
    await asyncio.sleep(0)
    wires.held[-1].answered(["b"])

    assert [type(each) for each in await asyncio.gather(*stores, return_exceptions=True)] == [
        TimeoutError,
        TimeoutError,
    ]
    assert await asyncio.gather(*reads) == ["a", "b"]


class BusyWires(HoldingWires):
    """Say once that bytes move, and answer nothing.

    Attributes:
        looked_at: Who was asked about.
    """

    def __init__(self) -> None:
        super().__init__()
        self.looked_at: list[Turn] = []

    def moving(self, turn: Turn) -> bool:
        """Return whether this is the first time."""
        self.looked_at.append(turn)
        return len(self.looked_at) == 1

    def give_up(self, turn: Turn) -> None:
        """Let it be."""


async def test_a_turn_is_not_given_up_while_bytes_move() -> None:
    """It has its limit once more."""
    wires = BusyWires()
    turns = Turns(wires, limit=0.01)

    with pytest.raises(TimeoutError):
        await turns.submit("GET", "a")

    assert wires.looked_at == [wires.held[0]] * 2


class Hastened(Read):
    """A read that hastens, and its reply."""

    __slots__ = ("reply",)

    def __init__(self, *names: str) -> None:
        super().__init__(("MGET", *names))
        self.reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def set_result(self, result: Any, /) -> None:
        """Take the values."""
        self.reply.set_result(result)

    def set_exception(self, exception: Exception, /) -> None:
        """Take the error."""
        self.reply.set_exception(exception)


async def test_what_hastens_is_sent_with_what_has_gathered(wires: RecordingWires) -> None:
    """No tick later, and each has its answer."""
    turns = Turns(wires, limit=1.0)
    gathered, hastened = turns.submit("GET", "a"), Hastened("b", "c")

    turns.hasten(hastened)

    assert wires.turns == [[("MGET", "a", "b", "c")]]
    assert [await gathered, await hastened.reply] == ["a", ["b", "c"]]


async def test_what_hastens_waits_while_the_wires_are_full() -> None:
    """No turn is begun beyond the width; it goes as soon as there is room."""
    wires = HoldingWires()
    turns = Turns(wires, limit=5.0, width=1)
    reads = [Hastened(name, "t") for name in "ab"]

    for read in reads:
        turns.hasten(read)
    sent = len(wires.held)
    wires.held[0].answered([["1", "t"]])
    await asyncio.sleep(0)
    wires.held[1].answered([["2", "t"]])

    assert sent == 1
    assert [await read.reply for read in reads] == [["1", "t"], ["2", "t"]]


@pytest.mark.parametrize("instead", [["not a list"], [["one", "too", "many"]], [None]])
async def test_what_hastens_is_given_nothing_but_values(
    wires: RecordingWires, instead: list[Any]
) -> None:
    """Who waits behind it has the same error: the replies are out of step."""
    turns, wires.instead = Turns(wires, limit=1.0, width=1), instead
    first, second = Hastened("a", "b"), Hastened("c", "d")

    turns.hasten(first)
    turns.hasten(second)

    for read in (first, second):
        with pytest.raises(InvalidResponse):
            await read.reply


async def test_an_error_reply_to_what_hastens_is_its_own(wires: RecordingWires) -> None:
    """What waits behind it is asked."""
    turns, wires.instead = Turns(wires, limit=1.0, width=1), [ResponseError("NOPERM")]
    first, second = Hastened("a", "b"), Hastened("c", "d")

    turns.hasten(first)
    turns.hasten(second)
    with pytest.raises(ResponseError):
        await first.reply
    wires.instead = None

    assert await second.reply == ["c", "d"]
