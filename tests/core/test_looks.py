"""A look finds most of what L1 lacks; whatever overtakes it makes its readers ask again."""

import asyncio
import sys
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from async_tiercache import LoadContext, TierCache
from async_tiercache._ask import NOTHING
from async_tiercache._basis import Basis
from async_tiercache._family import Family
from async_tiercache._look import Home, Look
from async_tiercache._options import Limits
from async_tiercache.abc import Invalidation
from async_tiercache.backends.null import NullRemote
from async_tiercache.codecs import codec_for
from async_tiercache.errors import ConfigurationError
from async_tiercache.testing import MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import Source, function_of, soon, ticks
from tests.core.wire import Wire

BOUND = 2.0
KEYS = range(5)


@pytest_asyncio.fixture
async def stored(other: TierCache) -> None:
    """Let L2 hold a value for each key, put there by another process."""
    for key in KEYS:
        await reader_of(other)(key)
    await settled(other)


@pytest.fixture
def wire(server: MemoryServer) -> Wire:
    """Return the connections of the cache that reads."""
    return Wire(server)


@pytest_asyncio.fixture
async def cache(make_cache: MakeCache, wire: Wire, stored: None) -> AsyncIterator[TierCache]:
    """Return a cache that has nothing in L1."""
    cache = await make_cache(client=wire.client)
    await settled(cache)
    wire.sent.clear()
    yield cache


def reader_of(cache: TierCache, **options: Any) -> Any:
    """Return a cached function."""

    @cache.cached("row:{key}", **options)
    async def row(key: int) -> str:
        return f"row {key}"

    return row


async def test_readers_of_one_tick_share_a_turn(cache: TierCache, wire: Wire) -> None:
    """Each has its own value."""
    row = reader_of(cache)

    values = await soon(asyncio.gather(*map(row, KEYS)))

    assert list(values) == [f"row {key}" for key in KEYS]
    assert wire.sent == ["MGET"]
    assert cache.statistics().l2_hits == len(KEYS)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="tasks begin later there")
async def test_readers_share_a_turn_where_tasks_begin_at_once(cache: TierCache, wire: Wire) -> None:
    """On such a loop the first reader runs before the others are there."""
    row = reader_of(cache)
    factory: Any = getattr(asyncio, "eager_task_factory", None)
    asyncio.get_running_loop().set_task_factory(factory)

    values = await soon(asyncio.gather(*map(row, KEYS), row(99)))

    assert list(values) == [f"row {key}" for key in (*KEYS, 99)]
    assert wire.sent.count("MGET") == 1


async def test_a_reader_of_the_next_tick_has_a_turn_of_its_own(
    cache: TierCache, wire: Wire
) -> None:
    """It does not wait for those before."""
    row = reader_of(cache)
    held = wire.hold_reply("MGET")
    first = [asyncio.ensure_future(row(key)) for key in (0, 1)]
    await soon(held.reached.wait())

    assert await soon(row(2)) == "row 2"

    wire.let_pass("MGET")
    assert list(await soon(asyncio.gather(*first))) == ["row 0", "row 1"]


async def test_readers_of_a_key_share_its_look(cache: TierCache, wire: Wire) -> None:
    """Also one that comes while it is on the wire."""
    row = reader_of(cache)
    held = wire.hold_reply("GET")
    first = [asyncio.ensure_future(row(1)) for _ in range(2)]
    await soon(held.reached.wait())
    later = asyncio.ensure_future(row(1))
    await ticks()
    wire.let_pass("GET")

    assert list(await soon(asyncio.gather(*first, later))) == ["row 1"] * 3
    assert wire.sent == ["GET"]
    assert cache.statistics().l2_hits == 3


async def test_readers_who_share_a_look_share_no_object_that_is_copied(
    cache: TierCache, wire: Wire, other: TierCache
) -> None:
    """Each decodes the value for itself."""

    @cache.cached("list", isolation="copy")
    async def copied() -> list[int]:
        return [1]

    await other.set("list", [1])
    await other.cached("list")(copied.__wrapped__)()  # type: ignore[attr-defined]
    await settled(other)
    wire.sent.clear()

    first, second = await soon(asyncio.gather(copied(), copied()))

    assert first == second == [1]
    assert first is not second
    assert wire.sent == ["GET"]


@pytest.mark.parametrize("asked", [False, True], ids=["gathering", "on the wire"])
async def test_others_have_their_answers_when_the_first_is_cancelled(
    cache: TierCache, wire: Wire, asked: bool
) -> None:
    """It has asked for them, too, and is nobody whose end ends that."""
    row = reader_of(cache)
    held = wire.hold_reply("MGET")
    readers = [asyncio.ensure_future(row(key)) for key in KEYS]
    if asked:
        await soon(held.reached.wait())
    else:
        await asyncio.sleep(0)
    readers[0].cancel()
    await ticks()
    wire.let_pass("MGET")

    values = await soon(asyncio.gather(*readers, return_exceptions=True))

    assert isinstance(values[0], asyncio.CancelledError)
    assert values[1:] == [f"row {key}" for key in KEYS[1:]]
    assert wire.sent == ["MGET"]


async def test_a_look_without_readers_ends(cache: TierCache, wire: Wire) -> None:
    """Nothing is left of it, and what it found may be kept."""
    row = reader_of(cache)
    held = wire.hold_reply("GET")
    reader = asyncio.ensure_future(row(1))
    await soon(held.reached.wait())
    reader.cancel()
    await asyncio.wait([reader])
    wire.let_pass("GET")
    await settled(cache)

    assert row.peek(1) == "row 1"
    assert not cache._core.looks._home.by_key


@pytest.mark.parametrize("first", [True, False], ids=["first", "later"])
async def test_an_entry_that_names_tags_delays_nobody_else(
    cache: TierCache, other: TierCache, wire: Wire, first: bool
) -> None:
    """Their states cost it a second turn."""

    async def tagged(context: LoadContext = LoadContext()) -> str:
        context.tags = ["t"]
        return "tagged"

    await other.get_or_load("named", tagged)
    await settled(other)
    row = reader_of(cache)
    calls = [row(key) for key in KEYS]
    calls.insert(0 if first else 1, cache.get_or_load("named", tagged))
    readers = [asyncio.ensure_future(call) for call in calls]
    naming = readers.pop(0 if first else 1)
    states = wire.hold_reply("GET")
    await soon(states.reached.wait())

    assert list(await soon(asyncio.gather(*readers))) == [f"row {key}" for key in KEYS]
    assert not naming.done()
    wire.let_pass("GET")
    assert await soon(naming) == "tagged"


@pytest.mark.parametrize("place", [0, 3], ids=["first", "later"])
async def test_a_reader_whose_value_has_no_codec_has_an_error_of_its_own(
    cache: TierCache, place: int
) -> None:
    """Others have their values."""

    @cache.cached("row:{key}")
    async def annotated(key: int) -> "NotThereYet":  # type: ignore[name-defined]  # noqa: F821
        return key

    row = reader_of(cache)
    calls = [annotated(key) if key == place else row(key) for key in KEYS]

    values = await soon(asyncio.gather(*calls, return_exceptions=True))

    assert isinstance(values.pop(place), ConfigurationError)
    assert values == [f"row {key}" for key in KEYS if key != place]


@pytest.mark.parametrize("happens", ["invalidated", "shown"])
async def test_what_happens_while_values_are_decoded_counts(
    make_cache: MakeCache, other: TierCache, happens: str
) -> None:
    """Whether a value may be given is decided when all are decoded, not before each."""
    cache = await make_cache(l1=None)
    decoded: list[int] = []
    stored = [0, 1, 2]

    class Row(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            decoded.append(self.number)
            if decoded == [*stored, 0, 1, 2]:
                ledger = cache._core.ledger
                if happens == "invalidated":
                    ledger.overtake("row:0")
                else:
                    ledger.raise_floor("row:0", 1.0)

    readers: list[Any] = []
    for each in (other, cache):

        async def row(key: int) -> Row:
            return Row(key)

        readers.append(each.cached("row:{key}")(row))
    await soon(asyncio.gather(*map(readers[0], (0, 1, 2))))
    await settled(other)
    assert decoded == stored

    await soon(asyncio.gather(*map(readers[1], (0, 1, 2))))

    assert decoded[: len(stored) + 3] == [*stored, 0, 1, 2]
    assert set(decoded[len(stored) + 3 :]) == {0}


async def test_what_happens_while_copies_are_decoded_counts(
    make_cache: MakeCache, other: TierCache
) -> None:
    """Those that come after them in the tick are not given what was overtaken meanwhile."""
    cache = await make_cache(l1=None)
    decoded: list[int] = []

    class Row(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            decoded.append(self.number)
            if decoded == [0, 1, 0, 1, 0]:
                cache._core.ledger.overtake("row:1")

    readers: list[Any] = []
    for each in (other, cache):

        async def row(key: int) -> Row:
            return Row(key)

        readers.append(each.cached("row:{key}", isolation="copy")(row))
    await soon(asyncio.gather(*map(readers[0], (0, 1))))
    await settled(other)
    assert decoded == [0, 1]

    values = await soon(asyncio.gather(*map(readers[1], (0, 0, 1))))

    assert list(values) == [Row(0), Row(0), Row(1)]
    assert decoded[:6] == [0, 1, 0, 1, 0, 1]


async def test_what_overtakes_a_look_while_its_family_is_decoded_counts(
    make_cache: MakeCache, other: TierCache
) -> None:
    """Where looks of several families were asked together, too."""
    cache, decoded = await make_cache(l1=None), list[int]()

    class Row(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            decoded.append(self.number)
            if decoded == [0, 1, 0, 1]:
                cache._core.looks.detach("row:0")

    readers: list[Any] = []
    for each in (other, cache):

        async def row(key: int) -> Row:
            return Row(key)

        async def text(key: int) -> str:
            return f"text {key}"

        readers.append((each.cached("row:{key}")(row), each.cached("text:{key}")(text)))
    for row_of, text_of in readers:
        found = await soon(asyncio.gather(text_of(0), row_of(0), row_of(1)))
        await settled(other)

    assert [type(each) for each in found] == [str, Row, Row]
    # Only the one that was overtaken is read once more.
    assert decoded.count(1) == 2


@pytest.mark.parametrize("overtakes", ["a flight", "a get that ends at once"])
async def test_who_comes_when_a_look_was_overtaken_in_its_tick_has_another(
    cache: TierCache, overtakes: str
) -> None:
    """Those who have come before are answered all the same."""
    row, looks = reader_of(cache), cache._core.looks

    def overtake() -> None:
        if overtakes == "a flight":
            looks.detach("row:1")
        else:
            family = looks._home.by_key["row:1"].family
            looks.claim(family, cache._core.ledger.basis("row:1")).leave()

    before = [asyncio.ensure_future(row(key)) for key in (1, 2)]
    asyncio.get_running_loop().call_soon(overtake)
    after = [asyncio.ensure_future(row(key)) for key in (1, 2)]

    values = await soon(asyncio.gather(*before, *after))

    assert list(values) == ["row 1", "row 2"] * 2
    assert not looks.asking


@pytest.mark.parametrize(
    "record",
    [Invalidation(bytes(16), ("tagged:1",)), Invalidation(bytes(16), tags=("t",))],
    ids=["its key", "its tag"],
)
async def test_looks_of_one_tick_began_each_at_its_own_moment(
    cache: TierCache, record: Invalidation
) -> None:
    """What comes between them has happened to the one, and not to the other."""

    @cache.cached("tagged:{key}", tags=["t"])
    async def read(key: int) -> str:
        return f"row {key}"

    ledger, by_key = cache._core.ledger, cache._core.looks._home.by_key
    before = asyncio.ensure_future(read(1))
    asyncio.get_running_loop().call_soon(ledger.apply, record)
    after = asyncio.ensure_future(read(2))
    await asyncio.sleep(0)

    assert [ledger.holds(by_key[f"tagged:{key}"].basis) for key in (1, 2)] == [False, True]
    assert list(await soon(asyncio.gather(before, after))) == ["row 1", "row 2"]


async def test_who_was_cancelled_is_neither_answered_nor_counted(
    cache: TierCache, wire: Wire
) -> None:
    """Others who wait for the same value are."""
    row = reader_of(cache)
    held = wire.hold_reply("GET")
    readers = [asyncio.ensure_future(row(1)) for _ in range(3)]
    await soon(held.reached.wait())
    readers[1].cancel()
    await ticks()
    wire.let_pass("GET")

    values = await soon(asyncio.gather(*readers, return_exceptions=True))

    assert [type(value) for value in values] == [str, asyncio.CancelledError, str]
    assert cache.statistics().l2_hits == 2


def waiter_of(task: Any) -> Any:
    """Return the future that a task waits for."""
    return task._fut_waiter or asyncio.get_running_loop().create_future()


class Broken(NullRemote):
    """A remote tier that raises what it must not."""

    async def get_many(self, keys: Any, tags: Any = (), /) -> Any:
        """Raise."""
        raise ZeroDivisionError


class BrokenClient:
    """Leads there."""

    def tiercache_remote(self, *, namespace: str, clock: Any) -> Broken:
        """Return the remote tier."""
        del namespace
        return Broken(clock)


async def test_an_error_that_no_tier_may_raise_reaches_every_reader_of_the_tick(
    make_cache: MakeCache,
) -> None:
    """Nobody waits for an answer that does not come."""
    row = reader_of(await make_cache(client=BrokenClient(), entered=False))

    values = await soon(asyncio.gather(*map(row, KEYS), return_exceptions=True))

    assert [type(value) for value in values] == [ZeroDivisionError] * len(KEYS)


async def test_a_reader_joins_no_look_that_was_left_to_a_flight(cache: TierCache) -> None:
    """Its readers have been told already, and one that comes before they go on would wait on."""
    row = reader_of(cache)

    async def both() -> tuple[str, str]:
        # The second call comes right after the reply that answers the first.
        return await row(0), await row(99)

    first, second = await soon(asyncio.gather(both(), row(99)))

    assert (first, second) == (("row 0", "row 99"), "row 99")
    assert cache.statistics().loads == 1


def test_what_was_found_outlasts_the_question_that_comes_just_then() -> None:
    """It may be asked between a reply and the reader that the reply wakes, who needs it still."""
    home = Home()
    basis = Basis("row:1", (), 0, 0, 0)
    look = Look.at(home, Family("row", Limits.of(), codec_for(str)), basis)
    look.settle(NOTHING)

    home.leave_settled()
    assert look.current
    assert home.leaving == [look]

    home.leave_settled()
    assert not look.current
    assert not home.settled
    assert not home.leaving


async def test_a_lone_reader_waits_for_nobody_else(cache: TierCache, wire: Wire) -> None:
    """Its question goes out at once; those that come with it after all share the next turn."""
    row = reader_of(cache)
    await soon(row(0))
    wire.sent.clear()

    values = await soon(asyncio.gather(*map(row, KEYS[1:])))

    assert list(values) == [f"row {key}" for key in KEYS[1:]]
    assert wire.sent == ["GET", "MGET"]


async def test_readers_in_company_wait_for_one_another(cache: TierCache, wire: Wire) -> None:
    """As long as they come in company."""
    row = reader_of(cache)
    await soon(asyncio.gather(row(0), row(1)))
    wire.sent.clear()

    await soon(asyncio.gather(row(2), row(3), row(4)))

    assert wire.sent == ["MGET"]


@pytest.mark.parametrize("gone", ["nobody", "the first", "the first at once", "others"])
async def test_a_flight_after_a_look_is_for_all_its_readers(
    cache: TierCache, wire: Wire, gone: str
) -> None:
    """They have its value without a task of each, whoever goes meanwhile."""
    source = Source()
    source.close()
    value = function_of(cache, source)
    replies = wire.hold_reply("GET")
    readers = [asyncio.ensure_future(value(1)) for _ in range(4)]
    await soon(replies.reached.wait())
    wire.let_pass("GET")
    if gone == "the first at once":
        first: asyncio.Future[Any] = readers[0]
        while not (waiter := waiter_of(first)).done():
            await ticks(1)
        assert not waiter.cancelled()
        first.cancel()
    await soon(source.loading())
    if gone != "nobody":
        for reader in readers[:1] if gone.startswith("the first") else readers[1:3]:
            reader.cancel()
    await ticks()
    source.gate.set()

    values = await soon(asyncio.gather(*readers, return_exceptions=True))

    left = {"nobody": 4, "others": 2}.get(gone, 3)
    assert values.count("v1") == left
    assert source.loads == 1
    assert cache.statistics().misses == left


async def test_a_load_that_all_readers_of_a_look_have_left_is_cancelled(cache: TierCache) -> None:
    """As if each had waited for the flight itself."""
    source = Source()
    source.close()
    value = function_of(cache, source)
    readers = [asyncio.ensure_future(value(1)) for _ in range(3)]
    await soon(source.loading())

    for reader in readers:
        reader.cancel()
    await ticks()

    assert source.ended == 1
    source.gate.set()
    assert await soon(value(1)) == "v1"


async def test_the_last_reader_of_a_look_may_go_when_the_flight_has_just_ended(
    cache: TierCache,
) -> None:
    """The others have its outcome in the next tick only."""
    problems: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, about: problems.append(about))
    source = Source()
    source.close()
    value = function_of(cache, source)
    readers = [asyncio.ensure_future(value(1)) for _ in range(2)]
    await soon(source.loading())
    source.gate.set()
    readers[1].cancel()  # which it notices right after the flight has its outcome

    assert await soon(readers[0]) == "v1"
    await ticks()
    assert readers[1].cancelled()
    assert not problems


async def test_readers_of_a_look_have_an_error_each(cache: TierCache) -> None:
    """One may write into its own."""
    source = Source()
    source.error = ValueError("no")
    value = function_of(cache, source)

    errors = await soon(asyncio.gather(*(value(1) for _ in range(3)), return_exceptions=True))

    assert list(map(repr, errors)) == [repr(source.error)] * 3
    assert len(set(map(id, errors))) == 3
    assert source.loads == 1


async def test_a_reader_under_another_tag_joins_no_look(cache: TierCache, other: TierCache) -> None:
    """What is stored does not stand under it, so its invalidation would not have reached that."""

    async def load():  # type: ignore[no-untyped-def]  # noqa: ANN202 - as it was set
        return "loaded"

    await other.set("report", "stored", tags=["a"])
    calls = [cache.get_or_load("report", load, tags=[tag]) for tag in "ab"]

    _, under_b = await soon(asyncio.gather(*calls))

    assert under_b == "loaded"
