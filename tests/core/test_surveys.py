"""A batch asks L2 with one look for all its keys; a key that is anybody else's gets its own."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final

import msgspec
import pytest
import pytest_asyncio

from async_tiercache import LoadContext, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import soon, ticks
from tests.core.wire import MESSAGE, Wire

KEYS: Final = (0, 1, 2)
ALL: Final = "all"


class Rows:
    """A family of one cache, in both forms.

    Attributes:
        one: The single form.
        many: That of batches.
        word: What each row says if it is loaded now.
        loaded: The ids that were.
    """

    def __init__(self, cache: TierCache, word: str, **options: Any) -> None:
        self.word = word
        self.loaded: list[int] = []

        @cache.cached("row:{key}", **options)
        async def one(key: int, context: LoadContext) -> list[str]:
            return self._load(key)

        @one.batch
        async def many(keys: list[int]) -> dict[int, list[str]]:
            return {key: self._load(key) for key in keys}

        self.one: Any = one
        self.many: Any = many

    def _load(self, key: int) -> list[str]:
        self.loaded.append(key)
        return [self.word, str(key)]


def rows(word: str, keys: Iterable[int] = KEYS) -> dict[int, list[str]]:
    """Return what a batch gets."""
    return {key: [word, str(key)] for key in keys}


@pytest_asyncio.fixture
async def others(other: TierCache, request: pytest.FixtureRequest) -> Rows:
    """Return the family in another process, which has put its rows into L2."""
    others = Rows(other, "old", **getattr(request, "param", {}))
    await others.many(list(KEYS))
    await settled(other)
    return others


class Reading:
    """A batch whose reply is on its way, with what the others have stored."""

    def __init__(self, cache: TierCache, wire: Wire, **options: Any) -> None:
        self.cache = cache
        self.wire = wire
        self.mine = Rows(cache, "mine", **options)
        wire.sent.clear()
        self._reply = wire.hold_reply("MGET")
        self.task = asyncio.ensure_future(self.mine.many(list(KEYS)))

    async def begun(self) -> "Reading":
        """Return when L2 has been read."""
        await soon(self._reply.reached.wait())
        self.wire.let_later_pass("MGET")
        return self

    async def end(self) -> Any:
        """Let the reply come, and return what the batch gets."""
        self._reply.open.set()
        return await soon(self.task)


@pytest_asyncio.fixture
async def reading(
    make_cache: MakeCache, server: MemoryServer, others: Rows, request: pytest.FixtureRequest
) -> Reading:
    """Return such a batch."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await settled(cache)
    return await Reading(cache, wire, **getattr(request, "param", {})).begun()


async def test_a_reader_joins_the_question_of_a_batch(reading: Reading) -> None:
    """Its key is asked for once."""
    reader = asyncio.ensure_future(reading.mine.one(1))
    await ticks()

    assert await reading.end() == rows("old")
    assert await soon(reader) == ["old", "1"]
    assert reading.wire.sent == ["MGET"]
    assert reading.cache.statistics().l2_hits == len(KEYS) + 1


async def test_a_batch_keeps_the_order_of_its_ids_whoever_has_joined(reading: Reading) -> None:
    """The value of a key that a reader has joined is found after the others."""
    reader = asyncio.ensure_future(reading.mine.one(0))
    await ticks()

    assert list((await reading.end()).items()) == list(rows("old").items())
    await soon(reader)


@pytest.mark.parametrize("reading", [{"isolation": "copy"}], indirect=True)
async def test_a_reader_who_has_joined_a_batch_has_a_copy(reading: Reading) -> None:
    """Each decodes the value for itself."""
    reader = asyncio.ensure_future(reading.mine.one(1))
    await ticks()

    answers = await reading.end()

    assert await soon(reader) == answers[1]
    assert await soon(reader) is not answers[1]


async def test_a_reader_outlives_the_batch_that_it_has_joined(reading: Reading) -> None:
    """It asks for itself when that is cancelled."""
    reader = asyncio.ensure_future(reading.mine.one(1))
    await ticks()
    reading.task.cancel()

    assert await soon(reader) == ["old", "1"]
    assert not reading.cache._core.looks.asking
    assert not reading.cache._core.looks._home.by_key
    assert not reading.cache._core.looks._home.surveys


async def test_what_l2_lacks_is_loaded_without_another_question(reading: Reading) -> None:
    """The batch has heard that it is not there."""
    await reading.end()
    reading.wire.sent.clear()

    answers = await soon(reading.mine.many([7, 8]))

    assert answers == rows("mine", [7, 8])
    assert reading.wire.sent.count("MGET") == 1
    assert "GET" not in reading.wire.sent


async def test_a_key_that_is_invalidated_meanwhile_is_asked_for_again(
    reading: Reading, others: Rows
) -> None:
    """The others are believed: nothing has happened to them."""
    others.word = "new"
    await reading.cache.invalidate(keys=["row:1"])
    await others.one(1)

    assert await reading.end() == {**rows("old"), 1: ["new", "1"]}
    assert not reading.mine.loaded


@pytest.mark.parametrize("others", [{"tags": [ALL]}], indirect=True)
@pytest.mark.parametrize("reading", [{"tags": [ALL]}], indirect=True)
async def test_keys_whose_tag_is_invalidated_meanwhile_are_asked_for_again(
    reading: Reading, others: Rows
) -> None:
    """What was read is from before."""
    others.word = "new"
    await reading.cache.invalidate(tags=[ALL])
    await others.many(list(KEYS))

    assert await reading.end() == rows("new")


@pytest.mark.parametrize("others", [{"tags": [ALL]}], indirect=True)
@pytest.mark.parametrize("reading", [{"tags": [ALL]}], indirect=True)
async def test_a_batch_of_tagged_keys_is_answered_in_one_turn(reading: Reading) -> None:
    """The states of their tags are asked for with them."""
    assert await reading.end() == rows("old")
    assert reading.wire.sent == ["MGET"]


async def test_whoever_asks_later_overtakes_a_key_of_a_batch(
    reading: Reading, others: Rows
) -> None:
    """What the batch was told is older, although this process has not heard of that."""
    reading.wire.hold_reply(MESSAGE)
    others.word = "new"
    await others.one.invalidate(1)
    await others.one(1)

    assert await soon(reading.cache.get("row:1")) == ["new", "1"]

    assert await reading.end() == {**rows("old"), 1: ["new", "1"]}


async def test_two_batches_at_once_answer_a_key_of_both(reading: Reading) -> None:
    """The later one asks for it, too, and the first has that answer."""
    later = await soon(reading.mine.many([1, 2]))

    assert later == rows("old", [1, 2])
    assert await reading.end() == rows("old")
    assert not reading.mine.loaded


async def test_what_is_invalidated_while_a_batch_is_decoded_is_not_kept(
    cache: TierCache, other: TierCache
) -> None:
    """The code of a user's class may do anything between the look and L1."""
    ledger = cache._core.ledger

    class Row(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            if self.number == 1:
                ledger.overtake("row:1")
                ledger.overtake("row:2")

    many: list[Any] = []
    for each in (other, cache):

        async def one(key: int) -> Row:
            return Row(key)

        async def all_of(keys: list[int]) -> dict[int, Row]:
            return {key: Row(key) for key in keys}

        many.append(each.cached("row:{key}")(one).batch(all_of))
    await many[0](list(KEYS))
    await settled(other)

    await many[1](list(KEYS))

    store = cache._core.store
    assert store is not None
    assert "row:0" in store
    assert "row:1" not in store


async def test_a_key_that_a_batch_has_an_answer_for_is_asked_for_anew_while_it_loads(
    make_cache: MakeCache, server: MemoryServer, others: Rows
) -> None:
    """Nobody waits for the loads of its other keys, nor joins a question that was answered."""
    cache, loading, release = await make_cache(), asyncio.Event(), asyncio.Event()

    @cache.cached("row:{key}", l1_ttl=0)
    async def one(key: int) -> list[str]:
        return ["mine", str(key)]

    @one.batch
    async def many(keys: list[int]) -> dict[int, list[str]]:
        loading.set()
        await release.wait()
        return {key: ["mine", str(key)] for key in keys}

    batch = asyncio.ensure_future(many([1, 7]))
    await soon(loading.wait())
    others.word = "new"
    await others.one.invalidate(1)
    await others.one(1)

    assert await soon(one(1)) == ["new", "1"]
    release.set()
    assert await soon(batch) == {1: ["old", "1"], 7: ["mine", "7"]}


async def test_a_batch_does_not_follow_what_was_shown_while_it_asked(
    reading: Reading, clock: FakeClock
) -> None:
    """What it finds then may be older than that, which is kept nowhere."""
    await clock.advance(0.1)
    reading.cache._core.tiers.raise_floor("row:1")

    assert await reading.end() == {**rows("old"), 1: ["mine", "1"]}


@pytest.mark.parametrize("others", [{"tags": [ALL]}], indirect=True)
@pytest.mark.parametrize("reading", [{"tags": [ALL]}], indirect=True)
async def test_a_batch_learns_no_state_of_a_tag_that_was_invalidated_meanwhile(
    reading: Reading,
) -> None:
    """It is that from before."""
    cache = reading.cache
    reading.wire.hold("INVALIDATE")
    invalidating = asyncio.ensure_future(cache.invalidate(tags=[ALL]))
    await ticks()

    await reading.end()

    assert cache._core.ledger.known(ALL, cache._core.clock.monotonic()) is None
    reading.wire.let_pass("INVALIDATE")
    await soon(invalidating)


async def test_a_batch_learns_no_state_of_a_tag_that_l2_has_yet_to_invalidate(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """It asks for it with those of its other keys, and must not believe the answer."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    both: list[Any] = []
    for each in (other, cache):

        async def one(key: int) -> int:
            return key

        async def all_of(keys: list[int]) -> dict[int, int]:
            return {key: key for key in keys}

        both.append(each.cached("row:{key}", tags=["tag:{key}"])(one).batch(all_of))
    await both[0](list(KEYS))
    await settled(other)
    wire.hold("INVALIDATE")
    invalidating = asyncio.ensure_future(cache.invalidate(tags=["tag:1"]))
    await ticks()

    await soon(both[1](list(KEYS)))

    ledger, now = cache._core.ledger, cache._core.clock.monotonic()
    assert ledger.known("tag:0", now) is not None
    assert ledger.known("tag:1", now) is None
    wire.let_pass("INVALIDATE")
    await soon(invalidating)


async def test_what_is_invalidated_while_a_batch_is_decoded_is_asked_for_again(
    cache: TierCache, other: TierCache
) -> None:
    """Whether a value counts is decided when all are decoded, not before each."""
    decoded: list[int] = []

    class Row(msgspec.Struct):
        number: int

        def __post_init__(self) -> None:
            decoded.append(self.number)
            if decoded == [0, 1, 2]:
                cache._core.ledger.overtake("row:0")

    many: list[Any] = []
    for each in (other, cache):

        async def one(key: int) -> Row:
            return Row(key)

        async def all_of(keys: list[int]) -> dict[int, Row]:
            return {key: Row(key) for key in keys}

        many.append(each.cached("row:{key}")(one).batch(all_of))
    await many[0](list(KEYS))
    await settled(other)
    decoded.clear()

    await many[1](list(KEYS))

    assert decoded[:3] == list(KEYS)
    assert set(decoded[3:]) == {0}
