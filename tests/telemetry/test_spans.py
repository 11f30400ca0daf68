"""Spans of the real SDK: which there are, and what they say."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from async_tiercache import Operation, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations.opentelemetry import OpenTelemetryTracer
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.telemetry.exported import Spans, about, is_child, linked, said

DIGEST = "a3d98ceb07e7f25d"
"""Of `KEY`; the same in every process and release, or dashboards and logs would lose their keys."""


# What has a span, and what it says.


async def test_a_miss_is_a_get_with_its_load_and_its_put(cache: TierCache, spans: Spans) -> None:
    """The value is put behind the caller, still as a part of the get."""
    await function_of(cache, Source())(1)
    await settled(cache)

    get, load, put = spans.one("cache.get"), spans.one("cache.load"), spans.one("cache.put")
    assert len(spans.ended) == 3
    assert get.parent is None
    assert is_child(load, get)
    assert is_child(put, get)
    common = {
        "cache.namespace": "test",
        "cache.family": "value:{key}",
        "cache.key": (DIGEST,),
        "cache.keys": 1,
    }
    assert said(load) == common | {"cache.operation": "load"}
    assert said(get) == common | {
        "cache.operation": "get",
        "cache.hit": False,
        "cache.tier": "loader",
        "cache.state": "fresh",
        "cache.item_size": 3,
    }
    assert said(put) == common | {
        "cache.operation": "put",
        "cache.outcome": "l2",
        "cache.item_size": 3,
    }
    assert {span.status.status_code for span in spans.ended} == {StatusCode.UNSET}


async def test_an_l2_hit_is_one_span_and_an_l1_hit_none(
    cache: TierCache, other: TierCache, spans: Spans
) -> None:
    """A span would cost more than the hit."""
    await function_of(other, Source())(1)
    await settled(other)
    before = len(spans.ended)
    value = function_of(cache, Source())

    for _ in range(5):
        await value(1)

    (get,) = spans.ended[before:]
    assert (get.name, said(get)["cache.hit"], said(get)["cache.tier"]) == ("cache.get", True, "l2")


async def test_a_lookup_by_key_is_a_get(cache: TierCache, other: TierCache, spans: Spans) -> None:
    """Also one that finds nothing: that is no hit."""
    await other.set(KEY, "v1")

    await other.set("b", "v2")
    await cache.get(KEY)
    await cache.get(KEY)
    await cache.get_many([KEY, "b", "nothing"])

    found, missed = spans.of("cache.get")
    assert (said(found)["cache.hit"], said(found)["cache.tier"]) == (True, "l2")
    assert (said(missed)["cache.hit"], said(missed)["cache.keys"]) == (False, 2)
    assert "cache.tier" not in said(missed)


async def test_a_value_that_is_set_is_a_put(cache: TierCache, spans: Spans) -> None:
    """It says what L2 said."""
    await cache.set(KEY, "v1")

    put = spans.one("cache.put")
    assert (said(put)["cache.outcome"], said(put)["cache.item_size"]) == ("done", 3)


async def test_an_invalidation_says_what_l2_said(
    cache: TierCache, server: MemoryServer, clock: FakeClock, spans: Spans
) -> None:
    """It belongs to no family, and may wait for L2."""
    await cache.invalidate(keys=[KEY])
    server.connected = False
    await cache.invalidate(keys=[KEY, "b"], tags=["t"])
    server.connected = True
    await clock.advance(1)

    done, queued = spans.of("cache.invalidate")
    assert (said(done)["cache.outcome"], said(queued)["cache.outcome"]) == ("done", "queued")
    assert (said(queued)["cache.keys"], "cache.family" in said(queued)) == (2, False)
    assert (said(queued)["cache.tags"], "cache.tags" in said(done)) == (1, False)


async def test_a_cache_of_l1_alone_has_no_span_for_what_takes_no_time(
    make_cache: MakeCache, tracer: OpenTelemetryTracer, spans: Spans
) -> None:
    """An invalidation of a dict is none, and nothing is put anywhere."""
    cache = await make_cache(client=None, tracer=tracer)
    value = function_of(cache, Source())

    await value(1)
    await value.invalidate(1)

    assert [span.name for span in spans.ended] == ["cache.load", "cache.get"]


async def test_two_caches_of_one_tracer_are_told_apart(
    make_cache: MakeCache, tracer: OpenTelemetryTracer, spans: Spans
) -> None:
    """By their namespaces."""
    for namespace in ("shop", "blog"):
        cache = await make_cache(client=None, namespace=namespace, tracer=tracer)
        await function_of(cache, Source())(1)

    assert [said(get)["cache.namespace"] for get in spans.of("cache.get")] == ["shop", "blog"]


async def test_a_call_for_many_keys_says_how_far_it_had_to_go(
    cache: TierCache, other: TierCache, spans: Spans
) -> None:
    """Keys that L1 answers are not in it."""
    await cache.set("a", 1)
    for key in ("b", "c"):
        await other.set(key, 2)

    async def load(keys: list[str]) -> Any:
        return dict.fromkeys(keys, 3)

    await cache.get_or_load_many(["a", "b"], load)
    await cache.get_or_load_many(["a", "b", "d", "c"], load)
    await settled(cache)

    near, far = spans.of("cache.get")
    assert (said(near)["cache.keys"], said(near)["cache.tier"]) == (1, "l2")
    assert (said(far)["cache.keys"], said(far)["cache.tier"]) == (2, "loader")


async def test_a_call_for_many_keys_says_how_old_the_oldest_answer_is(
    cache: TierCache, other: TierCache, clock: FakeClock, spans: Spans
) -> None:
    """One stale value among fresh ones is what a reader of the trace wants to know."""
    for key, ttl in (("a", 100), ("b", 10), ("c", 12), ("d", 100)):
        await other.set(key, 1, ttl=ttl, grace=50, jitter=0)
    await clock.advance(15)

    await cache.get_many(["a", "b", "c", "d"], stale=True)

    get = spans.one("cache.get")
    assert (said(get)["cache.state"], said(get)["cache.stale_age"]) == ("stale", about(5))


# Keys.


async def test_keys_are_shown_when_asked_for(make_cache: MakeCache, spans: Spans) -> None:
    """By default they are digests."""
    tracer = OpenTelemetryTracer(spans.provider, show_keys=True)
    cache = await make_cache(client=None, tracer=tracer)
    await function_of(cache, Source())(1)

    assert said(spans.one("cache.get"))["cache.key"] == (KEY,)


@pytest.mark.parametrize("show_keys", [False, True], ids=["digested", "shown"])
async def test_a_key_in_an_error_is_hidden_as_elsewhere(
    show_keys: bool, make_cache: MakeCache, spans: Spans
) -> None:
    """Our own errors name the key, in their message and in the stack trace."""
    cache = await make_cache(
        client=None, tracer=OpenTelemetryTracer(spans.provider, show_keys=show_keys)
    )

    def no_coroutine() -> Any:
        return 1

    with pytest.raises(Exception, match=r"user:ada@example\.org"):
        await cache.get_or_load("user:ada@example.org", no_coroutine)

    load = spans.one("cache.load")
    everything = [
        *(str((span.status.description, span.attributes)) for span in spans.ended),
        str(load.events[0].attributes),
    ]
    assert all("no awaitable" in text for text in everything)
    assert ["ada@example.org" in text for text in everything] == [show_keys] * len(everything)


async def test_of_many_keys_only_some_are_shown(cache: TierCache, spans: Spans) -> None:
    """A span is no place for a thousand digests; their number is told."""

    async def load(keys: list[str]) -> dict[str, int]:
        return dict.fromkeys(keys, 1)

    await cache.get_or_load_many([f"k{n}" for n in range(25)], load)
    await settled(cache)

    get = spans.one("cache.get")
    assert (len(said(get)["cache.key"]), said(get)["cache.keys"]) == (10, 25)


# Sampling.


class Untouched(str):
    """A key that must not be read."""

    __slots__ = ()

    def encode(self, *_arguments: Any, **_options: Any) -> bytes:
        raise AssertionError("a key was digested for a span that nobody sees")


async def test_a_span_that_is_not_sampled_costs_no_digest(no_spans: Spans) -> None:
    """What would be written into it is not even made."""
    tracer = OpenTelemetryTracer(no_spans.provider)
    operation = Operation("get", "f", (Untouched("k"),))

    with tracer.around(operation):
        operation.tier, operation.state = "l2", "fresh"

    assert no_spans.ended == ()


async def test_a_trace_that_is_not_sampled_stays_one(
    make_cache: MakeCache, no_spans: Spans
) -> None:
    """The loader runs in the caller's trace, so that what it instruments is not sampled either."""
    cache = await make_cache(tracer=OpenTelemetryTracer(no_spans.provider))
    seen: list[trace.SpanContext] = []

    async def load() -> int:
        seen.append(trace.get_current_span().get_span_context())
        return 1

    with no_spans.user("request") as request:
        await cache.get_or_load("k", load)

    assert [context.trace_id for context in seen] == [request.get_span_context().trace_id]
    assert not seen[0].trace_flags.sampled


async def test_a_load_that_is_not_sampled_is_not_linked(
    make_cache: MakeCache, spans: Spans, no_spans: Spans
) -> None:
    """The link would lead nowhere."""
    source = Source()
    source.close()
    cache = await make_cache(tracer=OpenTelemetryTracer(spans.provider))
    value = function_of(cache, source)
    with no_spans.user("not sampled"):
        first = asyncio.ensure_future(value(1))
    await soon(source.loading())
    with spans.user("sampled"):
        second = asyncio.ensure_future(value(1))
    await ticks()
    source.gate.set()
    await all_of(first, second)

    (get,) = spans.of("cache.get")
    assert is_child(get, spans.one("sampled"))
    assert linked(get) == []
