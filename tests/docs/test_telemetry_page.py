"""docs/concepts/telemetry.md names every statistic, metric and attribute, and no other."""

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

from async_tiercache import Statistics, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations._metrics import (
    DURATION,
    DURATIONS_OF_CACHE,
    L2_UP,
    OF_CACHE,
    OF_FAMILY,
    OF_HTTP,
    STALE_AGE,
    Metric,
    prometheus_name,
)
from async_tiercache_integrations.opentelemetry import OpenTelemetryTracer
from tests.core.source import Source, all_of, function_of
from tests.telemetry.exported import Spans, said

PAGE = (Path(__file__).parents[2] / "docs" / "concepts" / "telemetry.md").read_text("utf-8")


def section(title: str) -> str:
    """Return the text below a heading."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def test_every_statistic_is_on_the_page() -> None:
    """Fields and properties, each in code."""
    names = [each.name for each in fields(Statistics)]
    names += [name for name, value in vars(Statistics).items() if isinstance(value, property)]

    assert [name for name in names if f"`{name}`" not in section("Statistics")] == []


def test_the_table_of_metrics_is_the_one_that_exporters_read() -> None:
    """By both names and the unit; its rows name every field but ratios."""
    rows = re.findall(
        r"^\| (.+?) \| `(tiercache[\w.]+)`.*? \| (?:`(.+?)`)? ?\| `(tiercache\w+)` \|$",
        section("Metrics"),
        re.MULTILINE,
    )

    every: list[Metric[Any]] = [*OF_FAMILY, *OF_CACHE, *OF_HTTP, L2_UP]
    metrics = [(each.name, each.unit, each.kind) for each in every]
    expected = [(name, unit, prometheus_name(name, unit, kind)) for name, unit, kind in metrics]
    expected += [
        (name, "s", prometheus_name(name, "s", "histogram"))
        for name in (DURATION, STALE_AGE, *(each.name for each in DURATIONS_OF_CACHE))
    ]
    assert [row[1:] for row in rows] == expected
    named = re.findall(r"`(\w+)`", " ".join(row[0] for row in rows))
    assert {each.name for each in fields(Statistics)} <= set(named)


async def test_the_table_of_attributes_has_what_spans_say() -> None:
    """Each attribute that any span has, and none that no span has."""
    spans = Spans()
    tracer = OpenTelemetryTracer(spans.provider)
    source, clock = Source(), FakeClock()
    client = MemoryServer(clock).client()
    async with TierCache(namespace="docs", client=client, tracer=tracer, clock=clock) as cache:
        value = function_of(cache, source, ttl=10, grace=60, jitter=0)
        await all_of(value(1), value(1))
        await settled(cache)
        source.error = OSError("down")
        await clock.advance(11)
        await value(1)
        await cache.invalidate(keys=["value:1"], tags=["t"])

    stated = re.findall(r"^\| `([a-z_]+\.[a-z_]+)` \| ", section("Spans"), re.MULTILINE)
    names = [name for name in stated if name != "cache.get"]
    spans_named = {span.name for span in spans.ended}
    found = {name for span in spans.ended for name in said(span)}
    assert set(names) - spans_named - {"cache.wait"} == found
