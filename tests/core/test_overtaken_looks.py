"""What overtakes a look: "old" has been read for it, and others have shown "new" since."""

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon, ticks
from tests.core.wire import MESSAGE, Wire

BOUND = 2.0


@pytest.fixture
def wire(server: MemoryServer) -> Wire:
    """Return the connections of the cache that reads."""
    return Wire(server)


class Held:
    """A read whose reply with "old" is on its way, while L2 holds "new" by now."""

    def __init__(self, cache: TierCache, wire: Wire, *, get: bool) -> None:
        self.cache = cache
        self.value: Any = function_of(cache, Source("unused"))
        self._reply = wire.hold_reply("GET")
        self._reading = asyncio.ensure_future(cache.get(KEY) if get else self.value(1))

    async def begun(self) -> None:
        """Return when the old value has been read."""
        await soon(self._reply.reached.wait())

    async def end(self) -> Any:
        """Let the reply come, and return what the reader gets."""
        self._reply.open.set()
        return await soon(self._reading)


@pytest_asyncio.fixture
async def held(
    make_cache: MakeCache,
    server: MemoryServer,
    other: TierCache,
    request: pytest.FixtureRequest,
) -> Held:
    """Return such a look, or a call by key; its process has not heard of the change."""
    source = Source("old")
    stored = function_of(other, source)
    await stored(1)
    await settled(other)
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await settled(cache)
    held = Held(cache, wire, get=getattr(request, "param", "look") == "get")
    await held.begun()
    wire.let_later_pass("GET")
    wire.hold_reply(MESSAGE)
    source.value = "new"
    await other.invalidate(keys=[KEY])
    await stored(1)
    await settled(other)
    return held


async def test_a_batch_overtakes_a_look(held: Held) -> None:
    """It asks L2 for itself."""

    @held.value.batch  # type: ignore[untyped-decorator]
    async def many(keys: list[int]) -> dict[int, Any]:
        return dict.fromkeys(keys, "unused")

    assert await soon(many([1])) == {1: "new"}

    assert await held.end() == "new"


async def test_a_get_overtakes_a_look(held: Held) -> None:
    """It asks L2 for itself."""
    assert await soon(held.cache.get(KEY)) == "new"

    assert await held.end() == "new"


@pytest.mark.parametrize("held", ["get"], indirect=True)
async def test_a_get_that_was_overtaken_keeps_nothing(held: Held) -> None:
    """What others have found meanwhile is newer."""
    assert await soon(held.value(1)) == "new"

    await held.end()

    assert held.value.peek(1) == "new"


async def test_a_reader_of_another_function_overtakes_a_look(held: Held) -> None:
    """It may want other tags or another type, so it has a look of its own."""
    value = function_of(held.cache, Source("unused"))

    assert await soon(value(1)) == "new"

    assert await held.end() == "new"


async def test_a_reader_joins_no_old_look_without_a_proof(held: Held, clock: FakeClock) -> None:
    """It might be older than an invalidation of which this process has not heard."""
    await clock.advance(BOUND)

    assert await soon(held.value(1)) == "new"

    assert await held.end() == "new"


async def test_what_was_kept_nowhere_overtakes_a_look(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """An overtaken load brings what L2 does not get, and what a look has read may be older."""
    wire, source = Wire(server), Late()
    cache = await make_cache(client=wire.client)
    value = cache.cached("value:{key}")(source.load)
    loading = asyncio.ensure_future(value(1))
    await soon(source.begun.wait())
    await other.invalidate(keys=[KEY])
    await ticks()
    await function_of(other, Source("older"))(1)
    await settled(other)
    reply = wire.hold_reply("GET")
    reading = asyncio.ensure_future(value(1))
    await soon(reply.reached.wait())
    wire.let_later_pass("GET")
    commit = wire.hold("COMMIT")
    await clock.advance(0.1)

    source.go_on.set()
    assert await soon(loading) == "newer"
    reply.open.set()
    await ticks()
    commit.open.set()

    assert await soon(reading) == "newer"


class Late:
    """A loader that reads the source at its end."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.go_on = asyncio.Event()

    async def load(self, key: int) -> Any:
        """Return the value of then."""
        self.begun.set()
        await self.go_on.wait()
        return "newer"


async def test_two_readers_under_other_tags_get_nothing_of_one_another(
    cache: TierCache, other: TierCache
) -> None:
    """Asked together, the later one has the key, and what it must stand under is not there."""

    async def stored() -> str:
        return "under a"

    async def loaded() -> str:
        return "under b"

    await other.get_or_load("page", stored, tags=["a"])
    await settled(other)

    first = asyncio.ensure_future(cache.get_or_load("page", loaded, tags=["a"]))
    second = asyncio.ensure_future(cache.get_or_load("page", loaded, tags=["b"]))
    await soon(asyncio.gather(first, second))
    assert second.result() == "under b"

    await cache.invalidate(tags=["b"])
    assert await cache.get("page", "nothing") == "nothing"
