"""The table at the end of the run, and the wording of figures that it shares with the report."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from async_tiercache._statistics import LAG_BUCKETS
from async_tiercache_integrations.cli.demo import _pages_words
from async_tiercache_integrations.cli.demo._claims import COMMAND, ELSEWHERE, claims
from async_tiercache_integrations.cli.demo._measure import (
    Answerer,
    Histogram,
    Pages,
    Phase,
    Results,
    Stampede,
    Tally,
)
from async_tiercache_integrations.cli.demo._wording import (
    NONE,
    duration,
    loads,
    percent,
    quantiles,
)


def paid(tally: Tally) -> Histogram:
    """Return the durations of reads that the database answered, through a loader or without."""
    answerer: Answerer = "database" if tally.latency["database"].count else "loader"
    return tally.latency[answerer]


def summary(results: Results) -> Group:
    """Return the figures of all phases in two narrow tables, and the sentences below them."""
    rates = _table("requests/s", "from L1", "from L2", "statements/s", "saved", "errors")
    latencies = _table("L1, p50 / p99", "L2, p50 / p99", "database, p50 / p99")
    for phase in results.phases:
        name, requests, l1, l2, by_l1, by_l2, by_database, statements, saved, errors = cells(phase)
        rates.add_row(name, requests, l1, l2, statements, saved, errors)
        latencies.add_row(name, by_l1, by_l2, by_database)
    lines = (f"[bold]·[/] {line}" for line in sentences(results))
    return Group("", rates, latencies, *lines, "", *_pages(results.pages), *_restated(results))


def _pages(pages: Pages | None) -> Iterator[RenderableType]:
    """Yield the chapter about HTTP, in two narrow tables and its sentences."""
    if pages is None:
        return
    rows = list(map(_pages_words.row, pages.phases))
    for columns in (slice(1, 5), slice(5, None)):
        table = _table(*_pages_words.COLUMNS[columns])
        for row in rows:
            table.add_row(row[0], *row[columns])
        yield table
    for line in _pages_words.sentences(pages):
        yield f"[bold]·[/] {line}"
    yield ""


def _restated(results: Results) -> Iterator[RenderableType]:
    restated = claims(results)
    if not restated:
        return
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title="The classical figures, restated")
    table.add_column("", ratio=1)
    for column in ("bar", "measured", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for claim in restated:
        what = Text(f"{claim.classical}\n").append(claim.words, style="dim")
        verdict = Text(claim.verdict, style="green" if claim.holds else "bold red")
        table.add_row(what, claim.requirement, claim.figure, verdict)
    yield table
    yield f"[bold]·[/] {ELSEWHERE} [bold]{COMMAND}[/].\n"


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True, min_width=12)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def cells(phase: Phase) -> list[str]:
    """Return a phase as a row of a table."""
    tally = phase.tally
    return [
        phase.name,
        f"{tally.requests / phase.seconds:,.0f}",
        *(percent(tally.share(tier)) if tally.share(tier) else NONE for tier in ("l1", "l2")),
        quantiles(tally.latency["l1"]),
        quantiles(tally.latency["l2"]),
        quantiles(paid(tally)),
        f"{phase.statements / phase.seconds:,.0f}",
        percent(phase.saved) if phase.cached else NONE,
        f"{tally.failed:,}",
    ]


def sentences(results: Results) -> list[str]:
    """Return in sentences what the table does not show."""
    lines: list[str] = []
    if results.stampedes:
        slowest = max(stampede.seconds for stampede in results.stampedes)
        lines.append(
            f"Stampede: {results.stampedes[0].readers:,} readers of one cold key cost"
            f" {_cost(results.stampedes)}; the slowest reader had its value after"
            f" {duration(slowest)}."
        )
    if (saved := results.database_time_saved) is not None:
        lines.append(f"The warm cache saves {percent(saved)} of the database's time for a request.")
    total = results.cached
    bound = f"{results.bound:g} s, with {results.margin:g} s for a busy machine"
    lines += [
        f"Errors seen by callers: {results.errors:,}.",
        f"Stale reads past the bound of {bound}: {total.past_bound:,}.",
        f"Reads older than the last acknowledged invalidation: {total.old_other.count:,} of"
        f" {total.checked:,} ({percent(total.old_share)})" + _ages(total.old_other) + "."
        f" After an update in the same process: {total.old_own:,}.",
    ]
    if total.queued:
        lines.append(
            f"Invalidations that were queued, Redis being down: {total.queued:,}. Until they were"
            f" confirmed {total.old_queued.count:,} reads in other processes were older"
            + _ages(total.old_queued)
            + "."
        )
    lines.append(_bus(results))
    return lines


def _bus(results: Results) -> str:
    total, killed = results.cached, results.phase("Redis killed")
    meanwhile = f", {killed.tally.l1_bypasses:,} of them while Redis was killed" if killed else ""
    lags = "no messages"
    if total.bus_lags:
        lags = (
            f"messages of other processes took {_within(total.lag(0.5))} at the median and"
            f" {_within(total.lag(1.0))} at most"
        )
    return (
        f"The bus: {lags}; they may have been missed {total.bus_gaps:,} times; L1 was passed over"
        f" {total.l1_bypasses:,} times for want of a proof{meanwhile}."
    )


def _within(bound: float) -> str:
    longest = LAG_BUCKETS[-1]
    return f"more than {longest:g} s" if bound > longest else f"up to {duration(bound)}"


def _cost(stampedes: Sequence[Stampede]) -> str:
    counts = [stampede.loads for stampede in stampedes]
    if len(set(counts)) > 1:
        return f"{', '.join(map(str, counts))} loads in {len(counts)} rounds"
    rounds = f" in each of {len(counts)} rounds" if len(counts) > 1 else ""
    return f"{loads(counts[0])}{rounds}"


def _ages(ages: Histogram) -> str:
    if not ages.count:
        return ""
    return (
        f", by {duration(ages.quantile(0.5))} at the median, {duration(ages.quantile(0.99))} at"
        f" p99 and {duration(ages.highest)} at most"
    )
