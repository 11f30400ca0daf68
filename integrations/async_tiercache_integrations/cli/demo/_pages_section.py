"""The chapter about HTTP in the report."""

from collections.abc import Iterable
from html import escape
from typing import Final

from async_tiercache_integrations.cli.demo import _charts
from async_tiercache_integrations.cli.demo._charts import tag
from async_tiercache_integrations.cli.demo._measure import Answerer, Histogram, Pages
from async_tiercache_integrations.cli.demo._pages import CACHED, PLAIN, STATEMENTS
from async_tiercache_integrations.cli.demo._pages_words import (
    COLUMNS,
    not_modified,
    row,
    sentences,
    statements,
)
from async_tiercache_integrations.cli.demo._parts import card, keys, table, tile
from async_tiercache_integrations.cli.demo._wording import duration, percent

_TITLE: Final = "Pages over HTTP"
_LABELS: Final[dict[Answerer, str]] = {
    "l1": "L1, this server",
    "l2": "L2, Redis",
    "loader": "made by the application",
}
_SHORT: Final[dict[Answerer, str]] = {"l1": "from L1", "l2": "from L2", "loader": "made"}


def section(pages: Pages) -> str:
    """Return the whole chapter."""
    about = (
        "The same shop as JSON pages of a FastAPI application on three servers; its repositories"
        " are cached on both sides, and on one of them ResponseCache stands in front of it."
    )
    return tag(
        "section",
        tag("h2", _TITLE),
        tag("p", escape(about), class_="muted"),
        tag("div", *_tiles(pages), class_="tiles"),
        tag("div", *_cards(pages), class_="cards"),
        table("All phases of pages", COLUMNS, map(row, pages.phases)),
        tag("ul", *(tag("li", escape(line)) for line in sentences(pages))),
        class_="chapter",
    )


def _tiles(pages: Pages) -> Iterable[str]:
    plain, cached = pages.phase(PLAIN), pages.phase(CACHED)
    if cached is not None and plain is not None:
        yield tile(f"{cached.rate / plain.rate:.1f}\N{MULTIPLICATION SIGN}", "the requests served",
                   f"{plain.rate:,.0f} → {cached.rate:,.0f} a second, same clients")  # fmt: skip
        made = cached.tally.share("loader")
        yield tile(percent(1 - made), "of the requests were spared the application",
                   f"{percent(not_modified(cached))} were answered with 304")  # fmt: skip
        without = f"{statements(plain)} without ResponseCache, {STATEMENTS} without any cache"
        yield tile(statements(cached), "statements for a request", without)
    if pages.stampedes:
        loads = max(stampede.loads for stampede in pages.stampedes)
        yield tile(f"{loads}", "run of the application per stampede" if loads == 1
                   else "runs of the application per stampede",
                   f"of {pages.stampedes[0].readers:,} clients on all servers")  # fmt: skip
    if pages.changes:
        delays = pages.delays()
        most = f"{duration(delays.highest)} at most; the one that changed it at once"
        median = duration(delays.quantile(0.5))
        yield tile(median, "until other servers show a price, median", most)
    yield tile(f"{pages.errors:,}", "requests failed",
               "while Redis was killed, too" if pages.marks else "in all phases")  # fmt: skip


def _cards(pages: Pages) -> Iterable[str]:
    yield card(
        "Pages per second",
        "What the same clients got, without pause. Each side was warmed up before.",
        _charts.time_chart(pages.phases, pages.marks, "Pages per second",
                           lambda point: point.requests, "requests"),
    )  # fmt: skip
    yield card(
        "Latency of pages",
        "From the median (large dot) to the 99th percentile (small dot); logarithmic.",
        _charts.spans_chart("Latency of pages", list(_rows(pages))),
    )
    yield card(
        "Who answered with a page",
        keys(*_LABELS.items()),
        _charts.share_chart(pages.phases, _LABELS, "Who answered with a page"),
        raw=True,
    )


def _rows(pages: Pages) -> Iterable[tuple[Answerer, str, Histogram]]:
    if (plain := pages.phase(PLAIN)) is not None:
        yield "database", "without ResponseCache", plain.tally.all_reads()
    if (cached := pages.phase(CACHED)) is not None:
        for answerer, label in _SHORT.items():
            if (histogram := cached.tally.latency[answerer]).count:
                yield answerer, f"with it, {label}", histogram
