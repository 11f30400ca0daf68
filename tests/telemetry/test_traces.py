"""Whose children spans are, and what they link to: each call is in the trace of its request."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.core.source import KEY, Source, all_of, function_of, method_of, soon, ticks
from tests.telemetry.exported import Spans, about, is_child, linked, said


async def test_a_load_is_the_child_of_its_first_caller_and_linked_from_the_others(
    cache: TierCache, spans: Spans
) -> None:
    """Each call is in the trace of its own request, wherever the load runs."""
    source = Source()
    source.close()
    value = function_of(cache, source)
    calls: list[asyncio.Future[Any]] = []
    for request in ("first", "second", "third"):
        with spans.user(request):
            calls.append(asyncio.ensure_future(value(1)))
    await soon(source.loading())
    source.gate.set()
    await all_of(*calls)

    load = spans.one("cache.load")
    first, *others = (spans.get_of(name) for name in ("first", "second", "third"))
    assert is_child(load, first)
    assert linked(first) == []
    assert [linked(get) for get in others] == [[load.context]] * 2


async def test_a_call_that_joined_before_the_load_began_is_linked_too(
    cache: TierCache, server: MemoryServer, spans: Spans
) -> None:
    """L2 is asked first, and calls join meanwhile."""
    value = function_of(cache, Source())

    await all_of(value(1), value(1))

    own, joined = sorted(spans.of("cache.get"), key=lambda get: len(get.links))
    assert (linked(own), linked(joined)) == ([], [spans.one("cache.load").context])


async def test_a_lookup_that_waits_for_a_load_is_linked_to_it(
    cache: TierCache, spans: Spans
) -> None:
    """`get` starts no load, but joins one."""
    source = Source()
    source.close()
    loading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    looking = asyncio.ensure_future(cache.get(KEY))
    await ticks()
    source.gate.set()
    await all_of(loading, looking)

    assert [linked(get) for get in spans.of("cache.get") if get.links] == [
        [spans.one("cache.load").context]
    ]


@pytest.mark.parametrize(
    ("age", "state", "tier"), [(95, "early", "l1"), (101, "stale", "l2")], ids=["early", "stale"]
)
async def test_a_refresh_in_the_background_is_the_child_of_the_call_that_triggered_it(
    age: float, state: str, tier: str, cache: TierCache, clock: FakeClock, spans: Spans
) -> None:
    """That call has long ended, and did not wait."""
    source = Source()
    value = function_of(
        cache, source, ttl=100, l1_ttl=1000, jitter=0, early=10, grace=50, soft_timeout=0
    )
    clock.draw = 0.9
    source.close()
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await clock.advance(1)
    source.gate.set()
    await soon(loading)
    await settled(cache)
    source.close()
    await clock.advance(age - 1)
    with spans.user("request"):
        await soon(value(1))
    await soon(source.loading(2))
    assert len(spans.of("cache.get")) == 2
    assert len(spans.of("cache.load")) == 1

    source.gate.set()
    await settled(cache)

    get = spans.get_of("request")
    load, put = spans.of("cache.load")[-1], spans.of("cache.put")[-1]
    assert is_child(load, get)
    assert is_child(put, get)
    assert (said(get)["cache.state"], said(get)["cache.tier"]) == (state, tier)
    assert said(get).get("cache.stale_age") == (about(1) if state == "stale" else None)


async def test_a_batch_is_one_load_linked_from_whoever_waited_for_one_of_its_keys(
    cache: TierCache, spans: Spans
) -> None:
    """It says how many keys it was for."""
    source = Source()
    source.close()

    @cache.cached("value:{key}")
    async def value(key: int) -> Any:
        return await source.load()

    @value.batch
    async def values(keys: list[int]) -> dict[int, Any]:
        return dict.fromkeys(keys, await source.load())

    with spans.user("many"):
        many = asyncio.ensure_future(values([1, 2, 3]))
    await soon(source.loading())
    with spans.user("one"):
        one = asyncio.ensure_future(value(2))
    with spans.user("some"):
        some = asyncio.ensure_future(values([2, 3]))
    await ticks()
    source.gate.set()
    await all_of(many, one, some)
    await settled(cache)

    load = spans.one("cache.load")
    of_many, of_one, of_some = (spans.get_of(name) for name in ("many", "one", "some"))
    assert said(load)["cache.keys"] == 3
    assert is_child(load, of_many)
    assert (linked(of_one), linked(of_some)) == ([load.context], [load.context])


async def test_waiting_for_another_process_is_a_span(
    cache: TierCache, other: TierCache, clock: FakeClock, spans: Spans
) -> None:
    """It is a part of the get that waits; what it waits for is in another process."""
    source = Source()
    source.close()
    leading = asyncio.ensure_future(function_of(other, source)(1))
    await soon(source.loading())
    with spans.user("request"):
        waiting = asyncio.ensure_future(function_of(cache, source)(1))
    await clock.advance(0.1)
    source.gate.set()
    await ticks()
    await clock.advance(1)
    await all_of(leading, waiting)

    wait = spans.one("cache.wait")
    (get,) = [get for get in spans.of("cache.get") if is_child(wait, get)]
    assert is_child(get, spans.one("request"))
    assert (said(get)["cache.tier"], said(get)["cache.hit"]) == ("l2", True)


async def test_spans_of_the_loader_are_children_of_the_load(cache: TierCache, spans: Spans) -> None:
    """A query that is instrumented shows up where it was made."""

    async def load() -> int:
        with spans.user("query"):
            return 1

    await cache.get_or_load("k", load)

    assert is_child(spans.one("query"), spans.one("cache.load"))


async def test_a_cached_call_inside_a_loader_is_a_child_of_the_outer_load(
    cache: TierCache, spans: Spans
) -> None:
    """A page and its parts are one trace."""
    part = function_of(cache, Source())

    async def page() -> Any:
        return await part(1)

    await cache.get_or_load("page", page)

    inner, outer = spans.of("cache.load")
    (get,) = [get for get in spans.of("cache.get") if is_child(inner, get)]
    assert is_child(get, outer)


async def test_a_load_in_the_life_of_its_caller_is_its_child(
    cache: TierCache, spans: Spans
) -> None:
    """And the caller's span is the current one again afterwards."""
    with spans.user("request"):
        await method_of(cache, Source())(1)
        after = trace.get_current_span().get_span_context()

    get = spans.one("cache.get")
    assert is_child(spans.one("cache.load"), get)
    assert is_child(get, spans.one("request"))
    assert after == spans.one("request").context
