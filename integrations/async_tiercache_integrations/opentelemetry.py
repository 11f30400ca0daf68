"""Spans and metrics for OpenTelemetry, with nothing of it on an L1 hit.

`OpenTelemetryTracer` sees the work that takes time: it makes a span of each piece, and records how
long it took. `instrument` lets a cache's statistics be read whenever metrics are collected.

Durations are recorded by the tracer, because an observable instrument cannot be a histogram.
"""

import asyncio
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import AbstractContextManager
from contextvars import Token
from traceback import format_exception
from types import TracebackType
from typing import Any, Final, TypeAlias
from weakref import WeakKeyDictionary

from async_tiercache import Histogram, Operation, Statistics, TierCache, __version__
from async_tiercache._canonical import type_name
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache._statistics import AGE_BUCKETS, LOAD_BUCKETS
from async_tiercache.abc import Clock
from async_tiercache.errors import MissingExtraError
from async_tiercache_integrations._http_counts import HttpStatistics
from async_tiercache_integrations._keys import Keys
from async_tiercache_integrations._metrics import (
    DURATION,
    DURATIONS_OF_CACHE,
    FAMILY,
    L2_UP,
    NAMESPACE,
    OF_CACHE,
    OF_FAMILY,
    OF_HTTP,
    OPERATION,
    STALE_AGE,
    Caches,
    Durations,
    Kind,
    Metric,
    since,
)

try:
    from opentelemetry import context as context_api
    from opentelemetry import metrics, trace
    from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
    from opentelemetry.trace import Span, Status, StatusCode, TracerProvider
except ImportError as error:
    raise MissingExtraError(
        "Spans and metrics need the package opentelemetry-api, which is not installed",
        hint='pip install "async-tiercache[opentelemetry]"',
    ) from error

_SCOPE: Final = "async_tiercache"
_HIT: Final = frozenset({"l1", "l2"})
_Observe: TypeAlias = Callable[[CallbackOptions], Iterable[Observation]]


class OpenTelemetryTracer:
    """Makes a span of each piece of work: ``cache.get`` and its kin, and times it.

    A load's span is the child of the call that started it, wherever the load runs, and the loader's
    own spans are its children. Other calls that got its value link to it. Attributes and metrics
    stand in docs/concepts/telemetry.md. One tracer may serve several caches.

    Args:
        tracer_provider: Where spans go; by default to the global one.
        meter_provider: Where durations go; by default to the global one.
        show_keys: Whether keys stand in spans as they are, and not as digests.
        clock: Times the work, for tests.

    Example:
        >>> cache = TierCache(namespace="shop", tracer=OpenTelemetryTracer())
    """

    def __init__(
        self,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        *,
        show_keys: bool = False,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.tracer = trace.get_tracer(_SCOPE, __version__, tracer_provider)
        self.keys = Keys(show=show_keys)
        self.clock = clock
        meter = metrics.get_meter(_SCOPE, __version__, meter_provider)
        self.durations = meter.create_histogram(
            DURATION,
            unit="s",
            description="How long operations took; an L1 hit is none",
            explicit_bucket_boundaries_advisory=LOAD_BUCKETS,
        )
        self.stale_ages = meter.create_histogram(
            STALE_AGE,
            unit="s",
            description="How long past its time a stale value was when it was served",
            explicit_bucket_boundaries_advisory=AGE_BUCKETS,
        )

    def around(self, operation: Operation, /) -> AbstractContextManager[object]:
        """Return the context in which an operation is traced."""
        return _Traced(self, operation)


class _Traced(AbstractContextManager[None]):
    """One operation while it goes on."""

    __slots__ = ("_attributes", "_operation", "_span", "_started", "_token", "_tracer")

    _span: Span
    _started: float
    _token: Token[Any]

    def __init__(self, tracer: OpenTelemetryTracer, operation: Operation) -> None:
        self._tracer = tracer
        self._operation = operation
        self._attributes: dict[str, str] = {
            OPERATION: operation.name,
            NAMESPACE: operation.namespace,
        }
        if operation.family:
            self._attributes[FAMILY] = operation.family

    def __enter__(self) -> None:
        operation, tracer = self._operation, self._tracer
        # A sampler sees these, so what costs more is left for spans that are recorded.
        span = tracer.tracer.start_span(f"cache.{operation.name}", attributes=self._attributes)
        operation.span = self._span = span
        self._token = context_api.attach(trace.set_span_in_context(span))
        self._started = tracer.clock.monotonic()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Whatever fails here, the context is left and the span ended.
        try:
            self._measure(error)
            if self._span.is_recording():
                self._describe(error)
        finally:
            try:
                context_api.detach(self._token)
            finally:
                self._span.end()

    def _measure(self, error: BaseException | None) -> None:
        """Record how long it took, while the span is the current one: exemplars name it."""
        operation, tracer = self._operation, self._tracer
        seconds = tracer.clock.monotonic() - self._started
        attributes = dict(self._attributes)
        if operation.tier is not None:
            attributes["cache.tier"] = operation.tier
        if error is not None:
            attributes["error.type"] = type(error).__name__
        tracer.durations.record(seconds, attributes)
        for age in operation.stale_ages:
            of_family = {NAMESPACE: operation.namespace, FAMILY: operation.family}
            tracer.stale_ages.record(age, of_family)

    def _describe(self, error: BaseException | None) -> None:
        """Write what is known at the end into the span."""
        operation, span, keys = self._operation, self._span, self._tracer.keys
        attributes: dict[str, Any] = {
            "cache.key": keys.shown_of(operation.keys),
            "cache.keys": len(operation.keys),
        }
        if operation.tags:
            attributes["cache.tag"] = keys.shown_of(operation.tags)
            attributes["cache.tags"] = len(operation.tags)
        if operation.name == "get" and (error is None or operation.tier is not None):
            attributes["cache.hit"] = operation.tier in _HIT
        if operation.stale_ages:
            attributes["cache.stale_age"] = max(operation.stale_ages)
        known = {
            "cache.tier": operation.tier,
            "cache.state": operation.state,
            "cache.item_size": operation.size,
            "cache.outcome": operation.stored or None,
        }
        attributes |= {name: value for name, value in known.items() if value is not None}
        span.set_attributes(attributes)
        for load in operation.loads:
            if load.span is not None and load.span.get_span_context().trace_flags.sampled:
                span.add_link(load.span.get_span_context())
        if error is not None:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Write into the span how it failed."""
        operation, span, keys = self._operation, self._span, self._tracer.keys
        kind = type(error).__name__
        span.set_attribute("error.type", kind)
        if isinstance(error, asyncio.CancelledError):
            # Whoever wanted it is gone; the work itself did not fail.
            return
        named = (*operation.keys, *operation.tags)
        message = keys.message_of(error, named)
        span.set_status(Status(StatusCode.ERROR, f"{kind}: {message}"))
        if operation.name == "load":
            # Once, where it began: every call that gets it is its parent or has a link to it.
            stack = keys.hidden_in("".join(format_exception(error)), named)
            said = {
                "exception.type": type_name(type(error)).removeprefix("builtins."),
                "exception.message": message,
                "exception.stacktrace": stack,
            }
            # `record_exception` asks the error once more for its message, which may raise.
            span.add_event("exception", said)


class _Global:
    """Stands for the global meter provider, which may be set after it was asked for."""


_GLOBAL: Final = _Global()
_instrumented: Final[MutableMapping[object, Caches]] = WeakKeyDictionary()
"""The caches that are read, by meter provider: an instrument can be made only once in each."""


def instrument(*caches: TierCache, meter_provider: MeterProvider | None = None) -> None:
    """Let the statistics of caches be read whenever metrics are collected.

    Nothing is counted twice and nothing is done on a call: the cache counts in plain integers
    anyway. A cache that nobody else holds any more is left out.

    Args:
        caches: The caches.
        meter_provider: Where metrics go; by default to the global one.

    Example:
        >>> cache = TierCache(namespace="shop")
        >>> instrument(cache)
    """
    current = metrics.get_meter_provider()
    provider = current if meter_provider is None else meter_provider
    read = _instrumented.get(provider)
    if read is None and provider is current:
        # What stands in for the global one until that is set has handed over what was made of it.
        read = _instrumented.get(_GLOBAL)
    if read is None:
        read = Caches()
        _make_instruments(metrics.get_meter(_SCOPE, __version__, provider), read)
    _instrumented[provider] = read
    if provider is current:
        _instrumented[_GLOBAL] = read
    for cache in caches:
        read.add(cache)


def _make_instruments(meter: Meter, caches: Caches) -> None:
    """Make an observable instrument for each metric."""
    make: dict[Kind, Callable[..., object]] = {
        "counter": meter.create_observable_counter,
        "updown": meter.create_observable_up_down_counter,
        "gauge": meter.create_observable_gauge,
    }
    observed: list[tuple[Metric[Any], _Observe]] = [
        *((metric, _of_families(metric, caches)) for metric in OF_FAMILY),
        *((metric, _of_wholes(metric, caches)) for metric in OF_CACHE),
        *((metric, _of_responses(metric, caches)) for metric in OF_HTTP),
    ]
    for metric, observe in observed:
        make[metric.kind](metric.name, [observe], metric.unit, metric.description)
    # An observable instrument cannot be a histogram, so one that can is told at each collection.
    recorders = [_recorded(meter, durations, caches) for durations in DURATIONS_OF_CACHE]
    make[L2_UP.kind](L2_UP.name, [_l2_up(caches), *recorders], L2_UP.unit, L2_UP.description)


def _of_responses(metric: Metric[HttpStatistics], caches: Caches) -> _Observe:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for cache, statistics in caches.responses():
            for own, value in metric.read(statistics).items():
                attributes = {NAMESPACE: cache.namespace} | ({metric.label: own} if own else {})
                yield Observation(value, attributes)

    return observe


def _of_families(metric: Metric[Statistics], caches: Caches) -> _Observe:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for cache, family, statistics in caches.families():
            attributes = {NAMESPACE: cache.namespace, FAMILY: family}
            for own, value in metric.read(statistics).items():
                yield Observation(value, attributes | ({metric.label: own} if own else {}))

    return observe


def _of_wholes(metric: Metric[Statistics], caches: Caches) -> _Observe:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for cache, statistics in caches.wholes():
            for value in metric.read(statistics).values():
                yield Observation(value, {NAMESPACE: cache.namespace})

    return observe


def _recorded(meter: Meter, durations: Durations, caches: Caches) -> _Observe:
    """Return what records what the statistics have counted since it was called last."""
    histogram = meter.create_histogram(
        durations.name,
        unit="s",
        description=durations.description,
        explicit_bucket_boundaries_advisory=durations.bounds,
    )
    last: MutableMapping[TierCache, Histogram] = WeakKeyDictionary()

    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for cache, statistics in caches.wholes():
            now = durations.read(statistics)
            for seconds in since(last.get(cache, Histogram()), now):
                histogram.record(seconds, {NAMESPACE: cache.namespace})
            last[cache] = now
        return ()

    return observe


def _l2_up(caches: Caches) -> _Observe:
    def observe(_options: CallbackOptions) -> Iterable[Observation]:
        for cache in caches:
            if cache.l2 != "off":
                yield Observation(int(cache.l2 == "up"), {NAMESPACE: cache.namespace})

    return observe
