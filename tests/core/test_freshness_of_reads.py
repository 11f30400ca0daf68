"""Freshness in the read path: who is served what while an entry ages."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from async_tiercache import MISSING, BoundCached, Read, TierCache
from async_tiercache.errors import LoadTimeoutError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, cached_names, function_of, method_of, soon, ticks
from tests.core.wire import Wire

Form = Callable[..., BoundCached[[int], Any]]

both_forms = pytest.mark.parametrize(
    "form",
    [pytest.param(function_of, id="function"), pytest.param(method_of, id="method")],
)

AGING: dict[str, Any] = {"ttl": 100, "l1_ttl": 1000, "jitter": 0, "early": 10, "grace": 50}
"""With a load of 1 s and a draw of 0.9: early from 77 s, stale from 100 s, dead from 150 s."""

EARLY, STALE, DEAD = 80, 110, 160


class Slow(Source):
    """A source that takes a second."""

    def __init__(self, clock: FakeClock, value: Any = "v1") -> None:
        super().__init__(value)
        self._clock = clock
        clock.draw = 0.9

    async def load(self) -> Any:
        await self._clock.advance(1)
        return await super().load()


async def aged(
    form: Form, cache: TierCache, clock: FakeClock, age: float, **options: Any
) -> tuple[BoundCached[[int], Any], Slow]:
    """Return a cached coroutine whose value 1 was loaded `age` seconds ago."""
    source = Slow(clock, "old")
    value = form(cache, source, **(AGING | options))
    await value(1)
    await settled(cache)
    await clock.advance(age - 1)
    source.value = "new"
    return value, source


@both_forms
async def test_a_fresh_value_is_served_without_a_load(
    cache: TierCache, clock: FakeClock, form: Form
) -> None:
    """Until its early time nobody asks."""
    value, source = await aged(form, cache, clock, 70)

    assert await value(1) == "old"
    assert source.loads == 1


async def test_a_function_is_refreshed_early_in_the_background(
    cache: TierCache, clock: FakeClock, events: Recorder
) -> None:
    """The caller that is due has the old value at once, the next ones have the new one."""
    value, source = await aged(function_of, cache, clock, EARLY)
    source.close()

    assert await soon(value(1)) == "old"
    assert await soon(value(1)) == "old"
    source.gate.set()
    await soon(settled(cache))

    assert await value(1) == "new"
    assert source.loads == 2
    assert [(read.tier, read.state) for read in events.of(Read)][1:] == [("l1", "early")] * 2


async def test_a_method_is_refreshed_early_by_its_caller(
    cache: TierCache, clock: FakeClock
) -> None:
    """Nothing runs in the background on the caller's session; others are served at once."""
    value, source = await aged(method_of, cache, clock, EARLY)
    source.close()
    refreshing = asyncio.ensure_future(value(1))
    await soon(source.loading(2))

    assert await soon(value(1)) == "old"
    assert not refreshing.done()
    source.gate.set()

    assert await soon(refreshing) == "new"


async def test_one_process_refreshes_early_for_all(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """The mark beside the entry lets one refresher in."""
    value, source = await aged(function_of, cache, clock, 70)
    elsewhere = function_of(other, source, **AGING)
    await elsewhere(1)
    await clock.advance(10)
    source.close()

    assert [await soon(value(1)), await soon(elsewhere(1))] == ["old", "old"]
    await soon(source.loading(2))
    source.gate.set()
    await soon(settled(cache))
    await soon(settled(other))

    assert source.loads == 2


async def test_an_early_refresh_can_be_switched_off(cache: TierCache, clock: FakeClock) -> None:
    """`early=0` leaves the whole ttl to be served."""
    value, source = await aged(function_of, cache, clock, 99, early=0)

    assert await value(1) == "old"
    await settled(cache)
    assert source.loads == 1


async def test_a_fast_loader_is_hardly_refreshed_early(cache: TierCache, clock: FakeClock) -> None:
    """The head start is scaled by how long the load took."""
    source = Source()
    clock.draw = 0.9
    value = function_of(cache, source, **AGING)
    await value(1)
    await settled(cache)
    await clock.advance(99)

    await value(1)
    await settled(cache)

    assert source.loads == 1


@both_forms
async def test_others_are_served_stale_while_one_refreshes(
    cache: TierCache, clock: FakeClock, form: Form
) -> None:
    """Within the grace one caller waits for the new value, nobody else."""
    value, source = await aged(form, cache, clock, STALE)
    source.close()
    refreshing = asyncio.ensure_future(value(1))
    await soon(source.loading(2))

    assert await soon(value(1)) == "old"
    source.gate.set()

    assert await soon(refreshing) == "new"


async def test_another_process_is_served_stale_while_one_refreshes(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """The refresh mark holds for the cluster."""
    value, source = await aged(function_of, cache, clock, STALE)
    source.close()
    refreshing = asyncio.ensure_future(value(1))
    await soon(source.loading(2))

    assert await soon(function_of(other, source, **AGING)(1)) == "old"
    source.gate.set()
    assert await soon(refreshing) == "new"
    assert source.loads == 2


@pytest.mark.parametrize("tiers", ["both", "l1"])
@both_forms
async def test_a_value_that_was_refreshed_is_never_followed_by_the_old_one(
    cache: TierCache, alone: TierCache, clock: FakeClock, form: Form, tiers: str
) -> None:
    """Monotonic reads (G4): the new value has been seen, though it is still on its way."""
    value, _ = await aged(form, cache if tiers == "both" else alone, clock, STALE)

    assert [await soon(value(1)), await soon(value(1))] == ["new", "new"]


@pytest.mark.parametrize("age", [EARLY, STALE], ids=["early", "stale"])
async def test_a_refresh_that_was_overtaken_is_not_followed_by_the_old_value(
    cache: TierCache, other: TierCache, clock: FakeClock, age: int
) -> None:
    """Monotonic reads (G4): what was refreshed is gone, so nobody may be served it meanwhile."""
    value, source = await aged(method_of, cache, clock, age)
    source.close()
    refreshing = asyncio.ensure_future(value(1))
    await soon(source.loading(2))
    await other.invalidate(keys=[KEY])
    source.gate.set()
    assert await soon(refreshing) == "new"
    await soon(settled(cache))

    source.close()
    readers = [asyncio.ensure_future(value(1)) for _ in range(3)]
    await soon(source.loading(3))
    source.gate.set()

    assert await all_of(*readers) == ["new"] * 3


@both_forms
async def test_a_failing_refresh_is_answered_stale(
    cache: TierCache, clock: FakeClock, events: Recorder, form: Form
) -> None:
    """Within the grace a source that is down costs no reader an error."""
    value, source = await aged(form, cache, clock, STALE)
    source.error = OSError("the database is down")

    assert await soon(value(1)) == "old"
    assert events.of(Read)[-1].state == "stale"


async def test_a_failing_refresh_is_tried_again_after_a_second(
    cache: TierCache, clock: FakeClock
) -> None:
    """Not each reader tries a source that has just failed."""
    value, source = await aged(function_of, cache, clock, STALE)
    source.error = OSError("the database is down")
    for _ in range(5):
        assert await soon(value(1)) == "old"
    assert source.loads == 2
    await settled(cache)

    source.error = None
    await clock.advance(1)

    assert await soon(value(1)) == "new"


@both_forms
async def test_a_source_that_stays_down_is_answered_stale_without_l2(
    alone: TierCache, clock: FakeClock, form: Form
) -> None:
    """The grace holds for L1 alone, for as many failures as fit into it."""
    value, source = await aged(form, alone, clock, STALE)
    source.error = OSError("the database is down")

    for _ in range(3):
        assert await soon(value(1)) == "old"
        await clock.advance(2)

    assert source.loads == 4


async def test_a_source_and_an_l2_that_are_down_are_answered_stale(
    cache: TierCache, clock: FakeClock, server: MemoryServer
) -> None:
    """This process's own copy is what is left, while it is known to be no older than the bound."""
    value, source = await aged(function_of, cache, clock, STALE)
    source.error = OSError("the database is down")
    server.connected = False

    assert await soon(value(1)) == "old"

    await clock.advance(2)
    with pytest.raises(OSError, match="down"):
        await soon(value(1))

    server.connected = True
    await clock.advance(1)


@both_forms
@pytest.mark.parametrize("tiers", ["both", "l1"])
async def test_after_the_grace_an_error_is_an_error(
    cache: TierCache, alone: TierCache, clock: FakeClock, form: Form, tiers: str
) -> None:
    """A dead value is never served."""
    value, source = await aged(form, cache if tiers == "both" else alone, clock, DEAD)
    source.error = OSError("the database is down")

    with pytest.raises(OSError, match="database"):
        await soon(value(1))


async def test_without_grace_an_error_is_an_error(cache: TierCache, clock: FakeClock) -> None:
    """Stale values are opt-in."""
    value, source = await aged(function_of, cache, clock, STALE, grace=0)
    source.error = OSError("the database is down")

    with pytest.raises(OSError, match="database"):
        await soon(value(1))


async def test_an_entry_that_is_dead_but_present_is_replaced(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """The server has not expired it yet; the lease takes its place in one step."""
    wire = Wire(MemoryServer())  # whose time stands nearly still
    cache = await make_cache(client=wire.client)
    value, _ = await aged(function_of, cache, clock, DEAD)
    wire.sent.clear()

    assert await soon(value(1)) == "new"
    await settled(cache)

    assert [name for name in wire.sent if name != "RENEW"] == ["GET", "REPLACE", "COMMIT"]


async def test_a_slow_refresh_is_answered_stale_after_the_soft_timeout(
    cache: TierCache, clock: FakeClock
) -> None:
    """The load goes on, and the next reader has its value."""
    value, source = await aged(function_of, cache, clock, STALE, soft_timeout=0.5)
    source.close()
    reading = asyncio.ensure_future(value(1))
    await ticks()
    await clock.advance(2)

    assert await soon(reading) == "old"
    source.gate.set()
    await soon(settled(cache))

    assert await soon(value(1)) == "new"


async def test_a_refresh_within_the_soft_timeout_is_waited_for(
    cache: TierCache, clock: FakeClock
) -> None:
    """A new value is better than a stale one."""
    value, _ = await aged(function_of, cache, clock, STALE, soft_timeout=5)

    assert await soon(value(1)) == "new"


async def test_a_refresh_beyond_the_load_limit_is_answered_stale(
    cache: TierCache, clock: FakeClock
) -> None:
    """A loader that hangs is as one that fails."""
    value, source = await aged(function_of, cache, clock, STALE, load_limit=5)
    source.close()
    reading = asyncio.ensure_future(value(1))
    await soon(source.loading(2))

    await clock.advance(5)

    assert await soon(reading) == "old"


async def test_a_first_load_beyond_the_load_limit_is_an_error(
    cache: TierCache, clock: FakeClock
) -> None:
    """Nothing old is there to be served; the limit is in the message."""
    source = Source()
    source.close()
    reading = asyncio.ensure_future(function_of(cache, source, load_limit=5)(1))
    await soon(source.loading())

    await clock.advance(5)

    with pytest.raises(LoadTimeoutError, match="longer than 5"):
        await soon(reading)


# None, jitter, l1_ttl.


async def test_none_is_cached_like_any_value(cache: TierCache, other: TierCache) -> None:
    """An absence is worth knowing."""
    source = Source(None)
    value = function_of(cache, source)

    assert [await value(1), await value(1)] == [None, None]
    await settled(cache)

    assert await other.get(KEY, "nothing") is None
    assert source.loads == 1


async def test_none_is_kept_for_its_own_time(cache: TierCache, clock: FakeClock) -> None:
    """`negative_ttl` is usually shorter, and has no grace."""
    source = Source(None)
    value = function_of(cache, source, ttl=100, grace=50, negative_ttl=5, jitter=0)
    await value(1)
    await settled(cache)
    assert value.peek(1) is None

    await clock.advance(5)
    source.value = "v1"

    assert await value(1) == "v1"


async def test_none_is_not_kept_at_all_under_a_negative_ttl_of_zero(
    cache: TierCache, server: MemoryServer
) -> None:
    """0 counts as given; the lease is gone, too."""
    source = Source(None)
    value = function_of(cache, source, negative_ttl=0)

    assert await value(1) is None
    await settled(cache)

    assert value.peek(1) is MISSING
    assert await cached_names(server) == []


async def test_jitter_shortens_the_ttl(cache: TierCache, clock: FakeClock) -> None:
    """By up to its share, never longer."""
    clock.draw = 0.5
    value = function_of(cache, Source(), ttl=100, jitter=0.2, l1_ttl=1000)
    await value(1)
    await settled(cache)
    await clock.advance(89)
    assert value.peek(1) == "v1"

    await clock.advance(2)

    assert value.peek(1) is MISSING


async def test_l1_asks_l2_again_after_l1_ttl(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """A change that no message tells of is seen then."""
    source = Source("old")
    value = function_of(cache, source, ttl=100, l1_ttl=5)
    await value(1)
    await settled(cache)
    await server.client().delete("test:{value:1}")
    source.value = "new"
    assert await value(1) == "old"

    await clock.advance(5)

    assert await value(1) == "new"


async def test_l1_ttl_is_capped_by_what_is_left_of_ttl(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """A copy taken late does not outlive the entry."""
    source = Source("old")
    await function_of(other, source, ttl=100, jitter=0)(1)
    await settled(other)
    await clock.advance(90)
    value = function_of(cache, source, ttl=100, l1_ttl=60)
    assert await value(1) == "old"

    source.value = "new"
    await clock.advance(11)

    assert await value(1) == "new"


async def test_an_l1_ttl_of_zero_asks_l2_each_time(cache: TierCache, other: TierCache) -> None:
    """0 counts as given."""
    value = function_of(cache, Source("old"), l1_ttl=0)
    await value(1)
    await settled(cache)

    await other.set(KEY, "new")

    assert await value(1) == "new"


async def test_get_returns_a_value_that_is_due_for_a_refresh(
    alone: TierCache, clock: FakeClock
) -> None:
    """Early is still fresh, also where there is no L2 to ask."""
    await aged(function_of, alone, clock, EARLY)

    assert await alone.get(KEY, "nothing") == "old"


@pytest.mark.parametrize("tiers", ["both", "l1"])
async def test_get_returns_a_stale_value_only_if_asked_to(
    cache: TierCache, alone: TierCache, clock: FakeClock, tiers: str
) -> None:
    """Within its grace, in both set-ups."""
    chosen = cache if tiers == "both" else alone
    await aged(function_of, chosen, clock, STALE)

    assert await chosen.get(KEY, "nothing") == "nothing"
    assert await chosen.get(KEY, "nothing", stale=True) == "old"


async def test_get_takes_no_fence_and_loads_nothing(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """A missing key stays missing."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.sent.clear()

    assert await cache.get(KEY, "nothing") == "nothing"
    assert wire.sent == ["GET"]


async def test_get_waits_for_a_load_in_progress(cache: TierCache) -> None:
    """Otherwise reads could go back in time."""
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    getting = asyncio.ensure_future(cache.get(KEY, "nothing"))
    await ticks()
    assert not getting.done()

    source.gate.set()

    assert await soon(getting) == await soon(loading) == "v1"


async def test_get_answers_from_l1_after_it_has_asked_l2(
    make_cache: MakeCache, server: MemoryServer, other: TierCache
) -> None:
    """For a moment only: it knows no policy of the key."""
    await other.set(KEY, "v1")
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    wire.sent.clear()

    assert [await cache.get(KEY), await cache.get(KEY)] == ["v1", "v1"]
    assert wire.sent == ["GET"]
