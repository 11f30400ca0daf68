"""Make telemetry.png: real spans of two servers over one Valkey and one PostgreSQL.

Run it from the root of the repository: `python docs/pictures/telemetry.py`. It needs the extra
`test`, and a `chromium` on the PATH, which takes the picture.
"""

import asyncio
import html
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from async_tiercache import TierCache
from async_tiercache.testing import settled
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._servers import Postgres, Valkey
from async_tiercache_integrations.opentelemetry import OpenTelemetryTracer

PICTURE = Path(__file__).with_suffix(".png")
SIZE = (1200, 396)
SHOWN = ("cache.tier", "cache.state", "cache.hit", "cache.outcome")
COLOURS = {"cache.load": "#d97706", "cache.wait": "#7c3aed", "cache.get": "#2563eb"}
STYLE = """
body { font: 13px system-ui, sans-serif; margin: 0; padding: 16px 20px; color: #111827 }
h1 { font-size: 15px; margin: 0 0 10px }
.row { display: grid; grid-template-columns: 270px 1fr; height: 24px; align-items: center }
.row.first { border-top: 1px solid #e5e7eb }
.name { white-space: nowrap; overflow: hidden; font-family: ui-monospace, monospace }
.time { position: relative; height: 24px }
.bar { position: absolute; top: 6px; height: 12px; border-radius: 2px; min-width: 2px }
.said { position: absolute; top: 3px; padding-left: 6px; color: #4b5563; white-space: nowrap }
"""


async def record() -> Sequence[ReadableSpan]:
    """Return the spans of five requests."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor: Any = AsyncPGInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    async with Sandbox() as sandbox:
        valkey, postgres = Valkey(sandbox), Postgres(sandbox)
        await valkey.start()
        await postgres.start()
        connection = await asyncpg.connect(postgres.url("postgres"))
        await connection.execute("CREATE TABLE users AS SELECT 42 AS id, 'Ada' AS name")
        exporter.clear()
        tracer = OpenTelemetryTracer(provider)
        a, b = (TierCache(valkey.url, namespace="shop", tracer=tracer) for _ in range(2))
        async with a, b:
            await requests(provider, a, b, connection)
        await connection.close()
    instrumentor.uninstrument()
    return exporter.get_finished_spans()


async def requests(provider: TracerProvider, a: TierCache, b: TierCache, connection: Any) -> None:
    """Serve five requests on two servers."""
    service = provider.get_tracer("service")

    def name_on(cache: TierCache) -> Any:
        @cache.cached("user:{user_id}:name")
        async def name(user_id: int) -> str:
            query = "SELECT name, pg_sleep(0.03) FROM users WHERE id = $1"
            return str(await connection.fetchval(query, user_id))

        return name

    names = {"A": name_on(a), "B": name_on(b)}

    async def get(server: str, delay: float = 0.0) -> None:
        await asyncio.sleep(delay)
        with service.start_as_current_span(f"{server}: GET /users/42"):
            await names[server](42)

    await asyncio.gather(get("A"), get("A", 0.006), get("B", 0.012))
    await settled(a)
    await get("A")
    with service.start_as_current_span("A: PUT /users/42"):
        await connection.execute("UPDATE users SET name = 'Ada L.' WHERE id = 42")
        await names["A"].invalidate(42)


def rows(spans: Sequence[ReadableSpan]) -> Iterable[tuple[int, ReadableSpan]]:
    """Yield the spans of each trace below each other, with their depth."""

    def below(parent: int | None, depth: int) -> Iterable[tuple[int, ReadableSpan]]:
        children = [s for s in spans if (s.parent.span_id if s.parent else None) == parent]
        for span in sorted(children, key=lambda span: span.start_time or 0):
            yield depth, span
            yield from below(span.get_span_context().span_id, depth + 1)

    return below(None, 0)


def said(span: ReadableSpan) -> str:
    """Return what stands beside a span's bar."""
    attributes = dict(span.attributes or {})
    words = [f"{(span.end_time - span.start_time) / 1e6:.1f} ms"]
    words += [f"{name.removeprefix('cache.')}={attributes[name]}" for name in SHOWN
              if name in attributes]  # fmt: skip
    words += ["→ linked to the load above"] * len(span.links)
    return " · ".join(words)


def page(spans: Sequence[ReadableSpan]) -> str:
    """Return the waterfall as HTML."""
    start = min(span.start_time for span in spans)
    whole = (max(span.end_time for span in spans) - start) * 1.6  # room for what is said
    lines: list[str] = []
    parents = {span.parent.span_id for span in spans if span.parent}
    for depth, span in rows(spans):
        beside = said(span)
        if depth == 0 and span.get_span_context().span_id not in parents:
            beside += " · answered by L1: no span"
        left = 100 * (span.start_time - start) / whole
        width = 100 * (span.end_time - span.start_time) / whole
        own = span.name.startswith("cache.")
        colour = COLOURS.get(span.name, "#059669" if own else "#9ca3af")
        name = "&nbsp;" * 4 * depth + html.escape(span.name)
        lines.append(
            f'<div class="row{" first" if depth == 0 else ""}"><div class="name">{name}</div>'
            f'<div class="time"><div class="bar" style="left:{left:.2f}%;width:{width:.2f}%;'
            f'background:{colour}"></div><div class="said" style="left:{left + width:.2f}%">'
            f"{html.escape(beside)}</div></div></div>"
        )
    title = "Five requests on servers A and B for one user; the query takes 30 ms"
    return f"<meta charset=utf-8><style>{STYLE}</style><h1>{title}</h1>{''.join(lines)}"


def main() -> None:
    """Record, draw, photograph."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise SystemExit("chromium is not on the PATH")
    text = page(asyncio.run(record()))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "telemetry.html"
        source.write_text(text, encoding="utf-8")
        size = "--window-size={},{}".format(*SIZE)
        options = ["--headless", "--no-sandbox", "--hide-scrollbars", size]
        command = [chromium, *options, f"--screenshot={PICTURE}", source.as_uri()]
        subprocess.run(command, check=True, capture_output=True)


if __name__ == "__main__":
    main()
