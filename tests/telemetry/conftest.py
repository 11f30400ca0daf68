"""The real SDK, with exporters that keep what they are given."""

from collections.abc import Iterator

import pytest
import pytest_asyncio
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace.sampling import DEFAULT_OFF

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock
from async_tiercache_integrations.opentelemetry import OpenTelemetryTracer
from tests.conftest import MakeCache
from tests.telemetry.exported import Spans


@pytest.fixture
def spans() -> Iterator[Spans]:
    """Return the spans of the test."""
    spans = Spans()
    yield spans
    spans.provider.shutdown()


@pytest.fixture
def no_spans() -> Iterator[Spans]:
    """Return a provider whose sampler takes nothing."""
    spans = Spans(DEFAULT_OFF)
    yield spans
    spans.provider.shutdown()


@pytest.fixture
def reader() -> InMemoryMetricReader:
    """Return the reader of the test's metrics."""
    return InMemoryMetricReader()


@pytest.fixture
def meters(reader: InMemoryMetricReader) -> Iterator[MeterProvider]:
    """Return the test's meter provider."""
    provider = MeterProvider([reader], shutdown_on_exit=False)
    yield provider
    provider.shutdown()


@pytest.fixture
def tracer(spans: Spans, meters: MeterProvider, clock: FakeClock) -> OpenTelemetryTracer:
    """Return the tracer of the fixtures `cache` and `other`."""
    return OpenTelemetryTracer(spans.provider, meters, clock=clock)


@pytest_asyncio.fixture
async def cache(make_cache: MakeCache, tracer: OpenTelemetryTracer) -> TierCache:
    """Return a traced cache with both tiers."""
    return await make_cache(tracer=tracer)


@pytest_asyncio.fixture
async def other(make_cache: MakeCache, tracer: OpenTelemetryTracer) -> TierCache:
    """Return a second traced cache over the same server: another process."""
    return await make_cache(tracer=tracer)
