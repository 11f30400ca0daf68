"""What spans say of work that fails, and what becomes of work whose telemetry fails."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import (
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.trace import StatusCode

from async_tiercache import TierCache
from async_tiercache.errors import LoadTimeoutError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations.opentelemetry import OpenTelemetryTracer
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, SpeechlessError, function_of, soon
from tests.telemetry.exported import Spans, about, is_child, said


def failed(span: ReadableSpan) -> tuple[bool, str | None, int]:
    """Return whether a span is an error, of which kind, and how often it tells of it."""
    is_error = span.status.status_code is StatusCode.ERROR
    return is_error, said(span).get("error.type"), len(span.events)


async def test_a_loader_that_fails_is_told_by_its_span_and_by_every_call_that_fails_for_it(
    cache: TierCache, spans: Spans
) -> None:
    """The exception is recorded once, where it was raised."""
    source = Source()
    source.error = LookupError("gone")
    value = function_of(cache, source)

    await soon(asyncio.gather(value(1), value(1), return_exceptions=True))

    load = spans.one("cache.load")
    assert failed(load) == (True, "LookupError", 1)
    assert load.status.description == "LookupError: gone"
    assert [failed(get) for get in spans.of("cache.get")] == [(True, "LookupError", 0)] * 2
    assert [said(get)["cache.hit"] for get in spans.of("cache.get")] == [False] * 2


async def test_a_loader_whose_error_cannot_be_spelled_is_told_by_its_span(
    cache: TierCache, spans: Spans, caplog: pytest.LogCaptureFixture
) -> None:
    """By its class; nothing is wrong with the tracer."""
    source = Source()
    source.error = SpeechlessError()
    with pytest.raises(SpeechlessError):
        await function_of(cache, source)(1)

    load, get = spans.one("cache.load"), spans.one("cache.get")
    assert failed(load) == (True, "SpeechlessError", 1)
    assert failed(get) == (True, "SpeechlessError", 0)
    told = dict(load.events[0].attributes or {})
    assert told["exception.type"] == "tests.core.source.SpeechlessError"
    assert told["exception.message"] == "<exception str() failed>"
    assert caplog.records == []


async def test_a_stale_value_in_place_of_a_failed_load_is_no_failed_call(
    cache: TierCache, clock: FakeClock, spans: Spans
) -> None:
    """The load's span has the error, the get's says how old the answer is."""
    source = Source()
    value = function_of(cache, source, ttl=10, grace=50, jitter=0)
    await value(1)
    await settled(cache)
    source.error = OSError("down")
    await clock.advance(15)

    await value(1)

    get, load = spans.of("cache.get")[-1], spans.of("cache.load")[-1]
    assert failed(load) == (True, "OSError", 1)
    assert failed(get) == (False, None, 0)
    assert (said(get)["cache.state"], said(get)["cache.stale_age"]) == ("stale", about(5))


async def test_a_load_that_takes_too_long_fails_its_call_and_is_itself_cancelled(
    cache: TierCache, clock: FakeClock, spans: Spans
) -> None:
    """The loader raised nothing: it was cut short."""
    source = Source()
    source.close()
    reading = asyncio.ensure_future(function_of(cache, source, load_limit=5)(1))
    await soon(source.loading())
    await clock.advance(6)
    with pytest.raises(LoadTimeoutError):
        await soon(reading)

    assert failed(spans.one("cache.load")) == (False, "CancelledError", 0)
    assert failed(spans.one("cache.get")) == (True, "LoadTimeoutError", 0)


async def test_a_call_that_is_cancelled_is_no_error(cache: TierCache, spans: Spans) -> None:
    """Whoever wanted it is gone, and the load with it."""
    source = Source()
    source.close()
    reading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    reading.cancel()
    await soon(asyncio.wait([reading]))
    await settled(cache)

    assert failed(spans.one("cache.get")) == (False, "CancelledError", 0)
    assert "cache.hit" not in said(spans.one("cache.get"))
    assert failed(spans.one("cache.load")) == (False, "CancelledError", 0)


async def test_without_l2_a_put_becomes_an_invalidation_inside_it(
    cache: TierCache, server: MemoryServer, clock: FakeClock, spans: Spans
) -> None:
    """Its outcome says that L2 will be told."""
    server.connected = False
    await cache.set(KEY, "v1")
    server.connected = True
    await clock.advance(1)

    put = spans.one("cache.put")
    assert is_child(spans.one("cache.invalidate"), put)
    assert said(put)["cache.outcome"] == "queued"


class Broken(SpanProcessor):
    """A processor that raises where it is told to."""

    def __init__(self, where: str) -> None:
        self._where = where

    def on_start(self, span: Span, parent_context: Any = None) -> None:
        if self._where == "start":
            raise ZeroDivisionError

    def on_end(self, span: ReadableSpan) -> None:
        if self._where == "end":
            raise ZeroDivisionError


@pytest.mark.parametrize("where", ["start", "end"])
async def test_a_span_processor_that_raises_harms_no_call(
    where: str, make_cache: MakeCache, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged; the caller has its value and its own context back."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(Broken(where))
    cache = await make_cache(tracer=OpenTelemetryTracer(provider))

    assert await function_of(cache, Source())(1) == "v1"
    await settled(cache)

    assert trace.get_current_span() is trace.INVALID_SPAN
    assert cache.statistics().stores == 1
    assert "ZeroDivisionError" in caplog.text


class Failing(SpanExporter):
    """An exporter whose collector is gone."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        raise ZeroDivisionError


async def test_an_exporter_that_fails_harms_no_call(
    make_cache: MakeCache, caplog: pytest.LogCaptureFixture
) -> None:
    """Even one that is asked while the span ends."""
    provider = TracerProvider(shutdown_on_exit=False)
    provider.add_span_processor(SimpleSpanProcessor(Failing()))
    cache = await make_cache(tracer=OpenTelemetryTracer(provider))

    assert await function_of(cache, Source())(1) == "v1"
    assert "ZeroDivisionError" in caplog.text
