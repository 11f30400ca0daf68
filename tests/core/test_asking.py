"""What single readers ask of L2 in one tick of the event loop is asked together."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from async_tiercache import LoadContext, TierCache
from async_tiercache.backends.null import NullRemote
from async_tiercache.errors import ConfigurationError
from async_tiercache.testing import MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import soon, ticks
from tests.core.wire import Wire

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


@pytest.mark.parametrize("asked", [False, True], ids=["gathering", "on the wire"])
async def test_others_have_their_answers_when_the_first_is_cancelled(
    cache: TierCache, wire: Wire, asked: bool
) -> None:
    """It has asked for them, too; they are asked for once more."""
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
    assert cache.statistics().loads == 0


async def test_nobody_asks_again_for_those_that_are_cancelled_with_the_first(
    cache: TierCache, wire: Wire
) -> None:
    """As when a loop ends."""
    row = reader_of(cache)
    held = wire.hold_reply("MGET")
    readers = [asyncio.ensure_future(row(key)) for key in KEYS]
    await soon(held.reached.wait())
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    wire.let_pass("MGET")
    await settled(cache)

    assert wire.sent == ["MGET"]


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
