"""What a cache tells: events, statistics, its repr, and its errors."""

import asyncio
import copy
import pickle
from contextvars import ContextVar
from typing import Any

import pytest

import async_tiercache
from async_tiercache import Event, Invalidated, Loaded, Read, Statistics, TierCache, TierChanged
from async_tiercache import errors as errors_module
from async_tiercache.errors import TierCacheError, UsageError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, method_of, soon, ticks

# Events.


async def test_each_call_that_left_l1_is_one_read(cache: TierCache, events: Recorder) -> None:
    """Whichever tier answered; an L1 hit is none."""
    value = function_of(cache, Source(), l1_ttl=10)
    await value(1)
    await settled(cache)
    await value(1)
    await cache._core.clock.advance(10)  # type: ignore[attr-defined]
    await value(1)
    await value(1)

    assert [(read.tier, read.state) for read in events.of(Read)] == [
        ("loader", "fresh"),
        ("l2", "fresh"),
    ]


async def test_a_waiter_is_told_from_the_caller_that_started(
    cache: TierCache, events: Recorder
) -> None:
    """`joined` says who waited for whom."""
    source = Source()
    source.close()
    value = function_of(cache, source)
    calls = [asyncio.ensure_future(value(1)) for _ in range(3)]
    await ticks()
    source.gate.set()
    await soon(asyncio.gather(*calls))

    assert sorted(read.joined for read in events.of(Read)) == [False, True, True]


async def test_a_call_that_fails_is_no_read(cache: TierCache, events: Recorder) -> None:
    """It has no value; the load says why."""
    source = Source()
    source.error = LookupError("gone")

    with pytest.raises(LookupError):
        await function_of(cache, source)(1)

    assert events.of(Read) == []
    assert [(event.stored, event.error) for event in events.of(Loaded)] == [("error", source.error)]


WHO: ContextVar[str] = ContextVar("WHO", default="nobody")


async def test_a_read_is_told_in_the_context_of_its_caller(make_cache: MakeCache) -> None:
    """So an observer finds the trace of the request."""
    seen: list[str] = []

    def observe(event: Event) -> None:
        if isinstance(event, Read):
            seen.append(WHO.get())

    cache = await make_cache(observers=[observe])
    source = Source()
    source.close()
    value = function_of(cache, source)
    calls: list[asyncio.Future[Any]] = []
    for name in ("first", "second"):
        WHO.set(name)
        calls.append(asyncio.ensure_future(value(1)))
    WHO.set("nobody")
    await ticks()
    source.gate.set()
    await soon(asyncio.gather(*calls))

    assert sorted(seen) == ["first", "second"]


async def test_how_long_a_call_took_is_told(
    cache: TierCache, clock: FakeClock, events: Recorder
) -> None:
    """From the call to its value, and of that the loader."""
    source = Source()
    source.close()
    reading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    await clock.advance(2)
    source.gate.set()
    await soon(reading)
    await settled(cache)

    assert [read.seconds for read in events.of(Read)] == [2]
    assert [load.seconds for load in events.of(Loaded)] == [2]


async def test_an_observer_that_raises_harms_nobody(
    make_cache: MakeCache, events: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the other observers and the caller go on."""

    def broken(event: Event) -> None:
        raise ZeroDivisionError

    cache = await make_cache(observers=[broken, events])

    assert await function_of(cache, Source())(1) == "v1"
    assert len(events.of(Read)) == 1
    assert "ZeroDivisionError" in caplog.text


async def test_a_tier_that_goes_and_comes_is_told_once_each(
    cache: TierCache, server: MemoryServer, clock: FakeClock, events: Recorder
) -> None:
    """Not once per call."""
    value = function_of(cache, Source())
    server.connected = False
    for n in range(5):
        await value(n)
    server.connected = True
    await clock.advance(1)
    for n in range(10, 15):
        await value(n)

    assert [event.up for event in events.of(TierChanged)] == [False, True]


# Statistics.


async def test_the_statistics_of_the_cache_are_those_of_its_families_together(
    cache: TierCache,
) -> None:
    """Each has its own, by the name of its template."""
    value = function_of(cache, Source())
    await value(1)
    await value(2)
    await cache.get_or_load("k", Source().load)
    await settled(cache)

    assert cache.statistics("value:{key}").loads == 2
    assert cache.statistics("get_or_load").loads == 1
    assert cache.statistics().loads == 3
    assert cache.statistics().l1_entries == 3


async def test_a_family_that_does_not_exist_is_refused_with_a_guess(cache: TierCache) -> None:
    """A dashboard of zeros would be worse."""
    function_of(cache, Source())

    with pytest.raises(UsageError, match=r"Did you mean 'value:\{key\}'"):
        cache.statistics("value:{keys}")


async def test_a_get_that_joins_a_load_is_no_l2_hit(cache: TierCache) -> None:
    """L2 held nothing."""
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    getting = asyncio.ensure_future(cache.get(KEY))
    await ticks()
    source.gate.set()
    await soon(asyncio.gather(loading, getting))

    assert cache.statistics().l2_hits == 0


async def test_time_in_loaders_is_summed(cache: TierCache, clock: FakeClock) -> None:
    """Those that failed included."""
    source = Source()
    value = function_of(cache, source)
    for error in (None, LookupError("gone")):
        source.error = error
        source.close()
        reading = asyncio.ensure_future(value(1 if error is None else 2))
        await ticks()
        await clock.advance(3)
        source.gate.set()
        await soon(asyncio.gather(reading, return_exceptions=True))

    statistics = cache.statistics()
    assert (statistics.loads, statistics.load_errors, statistics.load_times.total) == (2, 1, 6)


async def test_stale_reads_are_counted(cache: TierCache, clock: FakeClock) -> None:
    """As answers, beside the tier that gave them."""
    source = Source()
    value = method_of(cache, source, ttl=10, grace=50, jitter=0, l1_ttl=5)
    await value(1)
    await settled(cache)
    source.error = OSError("down")
    await clock.advance(11)

    await value(1)

    statistics = cache.statistics()
    assert (statistics.stale_reads, statistics.l2_hits, statistics.load_errors) == (1, 1, 1)


def test_the_hit_ratio_of_nothing_is_zero() -> None:
    """No division by zero on a dashboard."""
    assert Statistics().hit_ratio == 0.0


# The repr.


async def test_the_repr_shows_the_state_and_no_values(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It is the debugging view."""
    source = Source("secret")
    value = function_of(cache, source)
    assert repr(cache) == "<TierCache [L1 0/10000 | L2 up | 0 loads in flight]>"
    await value(1)
    await settled(cache)
    source.close()
    loading = asyncio.ensure_future(value(2))
    await soon(source.loading(2))

    assert repr(cache) == "<TierCache [L1 1/10000 | L2 up | 1 loads in flight]>"
    source.gate.set()
    await soon(loading)


async def test_the_repr_of_l1_alone_says_so(make_cache: MakeCache) -> None:
    """And whether the cache was entered."""
    cache = await make_cache(client=None, entered=False)

    assert repr(cache) == "<TierCache new [L1 0/10000 | L2 off | 0 loads in flight]>"


# Errors.


def every_error() -> list[type[TierCacheError]]:
    return [
        each
        for each in vars(errors_module).values()
        if isinstance(each, type) and issubclass(each, TierCacheError)
    ]


@pytest.mark.parametrize("kind", every_error(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("how", ["pickle", "copy"])
def test_every_error_can_be_pickled_and_copied(kind: type[TierCacheError], how: str) -> None:
    """Process pools and single flight hand them on with all that they carry."""
    error = kind("It broke", hint="Mend it.")
    error.add_note("noted")

    twin = pickle.loads(pickle.dumps(error)) if how == "pickle" else copy.copy(error)

    assert type(twin) is kind
    assert str(twin) == str(error) == "It broke\nHint: Mend it."
    assert (twin.args, vars(twin)) == (error.args, vars(error))


def test_an_error_without_a_hint_is_its_message() -> None:
    """No empty line."""
    assert str(TierCacheError("It broke")) == "It broke"


def test_errors_are_what_callers_already_catch() -> None:
    """A TimeoutError is one, a wrong option is a ValueError."""
    assert issubclass(errors_module.LoadTimeoutError, TimeoutError)
    assert issubclass(errors_module.ConfigurationError, ValueError)
    assert issubclass(errors_module.UnkeyableError, TypeError)
    assert issubclass(errors_module.MissingExtraError, ImportError)


def test_the_public_names_are_those_that_are_there() -> None:
    """Sorted as ruff sorts them, and each is exported on purpose."""
    public = {name for name in vars(async_tiercache) if not name.startswith("_")}
    modules = {name for name in public if type(vars(async_tiercache)[name]).__name__ == "module"}

    assert public - modules == set(async_tiercache.__all__) - {"__version__"}


async def test_an_invalidation_tells_what_l2_said(cache: TierCache, events: Recorder) -> None:
    """With the keys as they are stored."""
    await function_of(cache, Source()).invalidate(1)

    assert events.of(Invalidated) == [Invalidated((KEY,), "done")]
