"""What the exporters of a test were given."""

from collections.abc import Sequence
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import DEFAULT_ON, Sampler
from opentelemetry.trace import Span


class Spans:
    """What a tracer provider has exported.

    Attributes:
        provider: The provider.
    """

    def __init__(self, sampler: Sampler = DEFAULT_ON) -> None:
        self._exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=sampler, shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))

    def user(self, name: str) -> Any:
        """Return the context of a span of the user's own, such as a request."""
        return self.provider.get_tracer("user").start_as_current_span(name)

    @property
    def ended(self) -> Sequence[ReadableSpan]:
        """The spans that have ended, in that order."""
        return self._exporter.get_finished_spans()

    def of(self, name: str) -> list[ReadableSpan]:
        """Return the spans of one name, in the order in which they ended."""
        return [span for span in self.ended if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """Return the only span of a name."""
        (span,) = self.of(name)
        return span

    def get_of(self, request: str) -> ReadableSpan:
        """Return the get that was made in a span of the user's own."""
        parent = self.one(request)
        (get,) = [span for span in self.of("cache.get") if is_child(span, parent)]
        return get


def said(span: ReadableSpan) -> dict[str, Any]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def is_child(span: ReadableSpan, parent: ReadableSpan | Span) -> bool:
    """Return whether a span is the child of another."""
    theirs = parent.get_span_context()
    return span.parent is not None and span.parent == theirs


def about(seconds: float) -> Any:
    """Return what equals an age; two processes guess the server's time a little differently."""
    return pytest.approx(seconds, abs=0.5)


def linked(span: ReadableSpan) -> list[Any]:
    """Return the contexts that a span links to."""
    return [link.context for link in span.links]


def points(reader: InMemoryMetricReader) -> dict[str, dict[tuple[tuple[str, Any], ...], Any]]:
    """Return the data points of each metric by their attributes, as they are now."""
    data = reader.get_metrics_data()
    found: dict[str, dict[tuple[tuple[str, Any], ...], Any]] = {}
    for resource in data.resource_metrics if data is not None else ():
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                found[metric.name] = {
                    tuple(sorted((point.attributes or {}).items())): point
                    for point in metric.data.data_points
                }
    return found
