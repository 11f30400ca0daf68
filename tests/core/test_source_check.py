"""The self-check against the source: what was changed and not invalidated is found."""

import asyncio
import logging
from contextvars import ContextVar
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import ConfigurationError
from async_tiercache.testing import FakeClock, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, method_of, soon

LONG: dict[str, Any] = {"ttl": 1000, "l1_ttl": 900}
BOUND = 2.0


async def check(cache: TierCache, clock: FakeClock) -> int:
    """Let a cache check itself, for as long as that takes; return what it has found."""
    assert cache._core.source_check is not None
    checking = asyncio.ensure_future(cache._core.source_check.check())
    await clock.advance(BOUND)
    return await soon(checking)


async def watched(make_cache: MakeCache, **options: Any) -> TierCache:
    """Return a cache that is told when to check."""
    return await make_cache(self_check="1d", check_source=True, **options)


@pytest.mark.parametrize("kind", ["both", "alone"])
async def test_a_change_that_nobody_has_invalidated_is_found(
    make_cache: MakeCache, clock: FakeClock, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """With its key and its age; the cache still serves what it has."""
    cache = await watched(make_cache, **({} if kind == "both" else {"client": None}))
    source = Source("old")
    value = function_of(cache, source, **LONG)
    await value(1)
    await settled(cache)
    await clock.advance(5)
    source.value = "new"

    with caplog.at_level(logging.WARNING):
        assert await check(cache, clock) == 1

    assert "The source has another value of 'value:1' than the one of 7.0 s ago" in caplog.text
    assert cache.statistics().unannounced.count == 1
    assert await soon(value(1)) == "old"
    assert source.loads == 2


async def test_an_invalidation_that_comes_within_the_bound_is_in_time(
    make_cache: MakeCache, other: TierCache, clock: FakeClock
) -> None:
    """The source changes first."""
    cache = await watched(make_cache)
    source = Source("old")
    await function_of(cache, source, **LONG)(1)
    await settled(cache)
    source.value = "new"
    assert cache._core.source_check is not None
    checking = asyncio.ensure_future(cache._core.source_check.check())
    await clock.advance(BOUND / 2)
    await other.invalidate(keys=[KEY])
    await clock.advance(BOUND)

    assert await soon(checking) == 0
    assert cache.statistics().unannounced.count == 0


async def test_an_equal_value_is_no_change(make_cache: MakeCache, clock: FakeClock) -> None:
    """Though it is another object."""
    cache = await watched(make_cache)
    source = Source([1])
    await function_of(cache, source, **LONG)(1)
    await settled(cache)
    source.value = [1]

    assert await check(cache, clock) == 0
    assert cache._core.source_check is not None
    assert cache._core.source_check.checked == 1


@pytest.mark.parametrize(
    ("before", "after"),
    [({8, 0}, {0, 8}), ({"a": 1, "b": 2}, {"b": 2, "a": 1})],
    ids=["set", "dict"],
)
async def test_another_order_is_no_change(
    make_cache: MakeCache, clock: FakeClock, before: Any, after: Any
) -> None:
    """Of a set it is chance, and of a dict it says nothing."""
    cache = await watched(make_cache)
    source = Source(before)
    await function_of(cache, source, **LONG)(1)
    await settled(cache)
    source.value = after

    assert await check(cache, clock) == 0


async def test_what_cannot_be_stored_says_nothing(make_cache: MakeCache, clock: FakeClock) -> None:
    """Nor does it end the checks."""
    cache = await watched(make_cache)
    source = Source("old")
    await function_of(cache, source, **LONG)(1)
    await settled(cache)
    source.value = object()

    assert await check(cache, clock) == 0


async def test_a_source_that_fails_says_nothing(make_cache: MakeCache, clock: FakeClock) -> None:
    """The next check takes the next reads."""
    cache = await watched(make_cache)
    source = Source("old")
    value = function_of(cache, source, **LONG)
    await value(1)
    await settled(cache)
    source.error = OSError("down")
    assert await check(cache, clock) == 0

    source.error, source.value = None, "new"
    assert await check(cache, clock) == 0
    await value.invalidate(1)
    source.value = "newer"
    assert await soon(value(1)) == "newer"
    await settled(cache)
    source.value = "newest"
    assert await check(cache, clock) == 1


async def test_what_is_loaded_by_its_callers_object_is_left_out(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """That may be closed by now."""
    cache = await watched(make_cache)
    source = Source("old")
    await method_of(cache, source, **LONG)(1)
    await settled(cache)
    source.value = "new"

    assert await check(cache, clock) == 0
    assert source.loads == 1


async def test_a_loader_runs_in_the_context_of_the_call(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """It may depend on that."""
    cache = await watched(make_cache)
    database: ContextVar[str] = ContextVar("database")
    seen: list[str] = []

    @cache.cached("value:{key}", **LONG)
    async def value(key: int) -> str:
        seen.append(database.get())
        return "v"

    async def call() -> None:
        database.set("mine")
        await value(1)

    await asyncio.create_task(call())
    await settled(cache)

    assert await check(cache, clock) == 0
    assert seen == ["mine", "mine"]


async def test_it_goes_on_by_itself(make_cache: MakeCache, clock: FakeClock) -> None:
    """As often as was said."""
    cache = await make_cache(self_check=60, check_source=True)
    source = Source("old")
    await function_of(cache, source, **LONG)(1)
    await settled(cache)
    source.value = "new"

    await clock.advance(60)
    await clock.advance(BOUND)

    assert cache.statistics().unannounced.count == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"check_source": True}, "check_source=True says nothing of how often"),
        ({"check_source": "1m", "self_check": "1m"}, "check_source='1m' is no bool"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], message: str) -> None:
    """With what to write instead."""
    with pytest.raises(ConfigurationError, match=message):
        TierCache(namespace="test", **options)
