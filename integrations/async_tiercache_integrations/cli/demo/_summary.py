"""The table at the end of the run, and the wording of figures that it shares with the report."""

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table

from async_tiercache_integrations.cli.demo._measure import (
    Answerer,
    Histogram,
    Phase,
    Results,
    Tally,
)

NONE = "\N{EN DASH}"


def duration(seconds: float) -> str:
    """Return a duration with the unit that fits it; a dash for none.

    Example:
        >>> duration(0.01234), duration(0.0000021)
        ('12.3 ms', '2.1 µs')
    """
    if seconds <= 0:
        return NONE
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.2g} µs" if seconds < 1e-4 else f"{seconds * 1e6:.0f} µs"


def percent(share: float) -> str:
    """Return a share of 0..1 in per cent, rounded down, so that only all is 100 %.

    Example:
        >>> percent(0.9996), percent(0.5), percent(0.00012)
        ('99.9 %', '50 %', '0.012 %')
    """
    if 0 < share < 0.001:
        return f"{share * 100:.2g} %"
    return f"{int(share * 1_000 + 1e-9) / 10:g} %"


def quantiles(histogram: Histogram) -> str:
    """Return the median and the 99th percentile."""
    if not histogram.count:
        return NONE
    return f"{duration(histogram.quantile(0.5))} / {duration(histogram.quantile(0.99))}"


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
    return Group("", rates, latencies, *(f"[bold]·[/] {line}" for line in sentences(results)), "")


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
        loads = ", ".join(str(stampede.loads) for stampede in results.stampedes)
        slowest = max(stampede.seconds for stampede in results.stampedes)
        lines.append(
            f"Stampede: {results.stampedes[0].readers:,} readers of one cold key cost {loads}"
            f" load(s) in {len(results.stampedes)} rounds; the last reader had its value after"
            f" {duration(slowest)}."
        )
    if (saved := results.database_time_saved) is not None:
        lines.append(f"The warm cache saves {percent(saved)} of the database's time for a request.")
    total = results.cached
    lines += [
        f"Errors seen by callers: {results.errors:,}.",
        f"Reads older than the last acknowledged invalidation: {total.old_other.count:,} of"
        f" {total.checked:,} ({percent(total.old_share)})" + _ages(total.old_other) + "."
        f" l1_ttl is {results.bound:g} s. After an invalidation in the same process:"
        f" {total.old_own:,}.",
    ]
    return lines


def _ages(ages: Histogram) -> str:
    if not ages.count:
        return ""
    return (
        f", by {duration(ages.quantile(0.5))} at the median, {duration(ages.quantile(0.99))} at"
        f" p99 and {duration(ages.highest)} at most"
    )
