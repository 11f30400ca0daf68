"""Two releases of a service at once, whose values have different shapes (P9)."""

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest

from async_tiercache import Loaded, Refused, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import all_of, soon, ticks
from tests.core.wire import Wire

WHAT: dict[str, dict[str, Any]] = {"key": {"keys": ["row:1"]}, "tag": {"tags": ["t"]}}


@dataclass
class Old:
    """The row, as the release before knows it."""

    name: str


@dataclass
class New:
    """The row, as the next release knows it."""

    name: str
    age: int = 0


class Release:
    """One process of a release.

    Attributes:
        row: Its cached function.
        name: What the next load reads.
        loads: How many loads have begun.
        gate: While it is not set, loads wait here.
    """

    def __init__(self, cache: TierCache, kind: type[Any], **options: Any) -> None:
        self.name = "v1"
        self.loads = 0
        self.gate = asyncio.Event()
        self.gate.set()

        async def load() -> Any:
            self.loads += 1
            value = kind(self.name)
            await self.gate.wait()
            return value

        given: dict[str, Any] = {"tags": ["t"], "ttl": 100, "grace": 0, "l1_ttl": 10} | options
        if kind is Old:

            @cache.cached("row:{key}", **given)
            async def old(key: int) -> Old:
                row: Old = await load()
                return row

            self.row: Any = old
        else:

            @cache.cached("row:{key}", **given)
            async def new(key: int) -> New:
                row: New = await load()
                return row

            self.row = new


@pytest.fixture
def server(clock: FakeClock) -> MemoryServer:
    """Return an L2 in which entries expire by the test's clock."""
    return MemoryServer(clock)


async def held(server: MemoryServer) -> bytes | None:
    """Return what L2 holds for the row."""
    content: Any = await server.client().get("test:{row:1}")
    return None if content is None else bytes(content)


async def both(cache: TierCache, other: TierCache) -> tuple[Release, Release]:
    """Return a process of each release; the old one has stored its row."""
    old, new = Release(cache, Old), Release(other, New)
    await old.row(1)
    await settled(cache)
    return old, new


async def test_each_gets_its_own_shape(cache: TierCache, other: TierCache) -> None:
    """And never what the other one has stored."""
    old, new = await both(cache, other)

    assert await new.row(1) == New("v1")
    assert await old.row(1) == Old("v1")


async def test_the_entry_of_the_other_is_left_alone(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """It is loaded around, and kept in L1."""
    _, new = await both(cache, other)
    before = await held(server)
    await new.row(1)
    await settled(other)
    await new.row(1)

    assert await held(server) == before
    assert new.loads == 1


async def test_they_do_not_overwrite_each_other_for_ever(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Whoever was first stays until its entry ends; the other one loads once per `l1_ttl`."""
    old, new = await both(cache, other)
    before = await held(server)
    for _ in range(5):
        await all_of(old.row(1), new.row(1))
        await settled(other)
        await clock.advance(11)

    assert await held(server) == before
    assert (old.loads, new.loads) == (1, 5)


async def test_it_is_counted(cache: TierCache, make_cache: MakeCache) -> None:
    """And told to observers."""
    events = Recorder()
    new = Release(await make_cache(observers=[events]), New)
    await Release(cache, Old).row(1)
    await settled(cache)
    await new.row(1)

    assert [(event.key, event.cause) for event in events.of(Refused)] == [("row:1", "schema")]
    assert [event.stored for event in await events.wait_for(Loaded)] == ["l1"]


async def test_no_lease_is_taken_and_nothing_asked_for_the_other_s_entry(
    cache: TierCache, make_cache: MakeCache, server: MemoryServer
) -> None:
    """One turn, as for a hit."""
    wire = Wire(server)
    new = Release(await make_cache(client=wire.client), New)
    await Release(cache, Old).row(1)
    await settled(cache)
    wire.sent.clear()
    await new.row(1)

    assert wire.sent == ["GET"]


@pytest.mark.parametrize("what", WHAT)
@pytest.mark.parametrize("by_old", [True, False], ids=["old", "new"])
async def test_an_invalidation_reaches_both(
    cache: TierCache, other: TierCache, what: str, by_old: bool
) -> None:
    """Whoever makes it."""
    old, new = await both(cache, other)
    await new.row(1)
    old.name = new.name = "v2"
    await (cache if by_old else other).invalidate(**WHAT[what])
    await ticks()

    assert await all_of(old.row(1), new.row(1)) == [Old("v2"), New("v2")]


@pytest.mark.parametrize("what", WHAT)
async def test_a_load_around_the_other_s_entry_is_overtaken(
    cache: TierCache, other: TierCache, what: str
) -> None:
    """It is kept in L1 only if nothing was invalidated meanwhile."""
    old, new = await both(cache, other)
    new.gate.clear()
    loading = asyncio.ensure_future(new.row(1))
    await ticks()
    old.name = new.name = "v2"
    await cache.invalidate(**WHAT[what])
    await ticks()
    new.gate.set()

    assert await soon(loading) == New("v1")
    assert await soon(new.row(1)) == New("v2")


@pytest.mark.parametrize("what", WHAT)
async def test_an_entry_of_the_other_that_was_invalidated_is_in_nobody_s_way(
    cache: TierCache, other: TierCache, what: str
) -> None:
    """Whoever comes first stores, whichever release that is."""
    _, new = await both(cache, other)
    new.name = "v2"
    await other.invalidate(**WHAT[what])

    assert await soon(new.row(1)) == New("v2")
    await settled(other)
    assert await other.get("row:1") == New("v2")
    assert await (await twin(other)).row(1) == New("v2")


async def twin(cache: TierCache) -> Release:
    """Return another process of the new release, which must not load."""
    core: Any = cache._core
    server = core._remote._client
    release = Release(TierCache(namespace=cache.namespace, client=server, clock=core.clock), New)
    release.name = "loaded"
    return release


async def test_an_entry_of_the_other_that_was_cleared_is_in_nobody_s_way(
    cache: TierCache, other: TierCache
) -> None:
    """Its namespace id tells."""
    _, new = await both(cache, other)
    new.name = "v2"
    await other.clear()

    assert await soon(new.row(1)) == New("v2")
    await settled(other)
    assert await (await twin(other)).row(1) == New("v2")


async def test_an_entry_of_the_other_that_has_ended_is_replaced(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """Then the new release's turn has come."""
    _, new = await both(cache, other)
    await clock.advance(101)
    new.name = "v2"

    assert await soon(new.row(1)) == New("v2")
    await settled(other)
    assert await (await twin(other)).row(1) == New("v2")


async def test_a_lease_of_the_other_is_waited_for_and_loaded_around(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """What it stores is of no use here."""
    old, new = Release(cache, Old), Release(other, New)
    old.gate.clear()
    loading = asyncio.ensure_future(old.row(1))
    await ticks()
    waiting = asyncio.ensure_future(new.row(1))
    await ticks()
    old.gate.set()
    await ticks()
    await clock.advance(1)

    assert await all_of(loading, waiting) == [Old("v1"), New("v1")]
    assert new.loads == 1


async def test_a_refresh_replaces_nothing_of_the_other_s(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """The caller has its value all the same, also later."""
    _, new = await both(cache, other)
    await new.row(1)
    new.name = "v2"

    assert await soon(new.row.refresh(1)) == New("v2")
    await settled(other)
    assert await soon(new.row(1)) == New("v2")


@pytest.mark.parametrize("way", ["put", "set"])
async def test_a_write_replaces_what_the_other_has(
    cache: TierCache, other: TierCache, way: str
) -> None:
    """It says what is true now, so what was there before is not."""
    old, new = await both(cache, other)
    old.name = "v3"
    await (new.row.put(New("v2"), 1) if way == "put" else other.set("row:1", "v2", tags=["t"]))
    await ticks()

    assert await soon(old.row(1)) == Old("v3")
