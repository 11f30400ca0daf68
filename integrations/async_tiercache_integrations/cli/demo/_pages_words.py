"""What the chapter about HTTP found, in rows and sentences; terminal and report share them."""

from collections.abc import Sequence
from typing import Final

from async_tiercache_integrations.cli.demo._measure import Pages, Phase, Stampede, Tally
from async_tiercache_integrations.cli.demo._pages import KILLED
from async_tiercache_integrations.cli.demo._wording import NONE, duration, percent, quantiles

COLUMNS: Final = (
    "Phase",
    "requests/s",
    "p50 / p99",
    "from L1",
    "from L2",
    "made",
    "304",
    "statements each",
    "errors",
)
"""The columns of `row`."""


def row(phase: Phase) -> list[str]:
    """Return a phase as a row of a table."""
    tally = phase.tally
    return [
        phase.name,
        f"{phase.rate:,.0f}",
        quantiles(tally.all_reads()),
        *(percent(tally.share(tier)) if tally.share(tier) else NONE for tier in ("l1", "l2")),
        percent(tally.share("loader")),
        percent(not_modified(phase)),
        statements(phase),
        f"{tally.failed:,}",
    ]


def not_modified(phase: Phase) -> float:
    """Return which share of the reads was answered with 304, in 0..1."""
    return phase.tally.not_modified / phase.tally.reads if phase.tally.reads else 0.0


def statements(phase: Phase) -> str:
    """Return how many statements a request cost."""
    return f"{phase.statements / phase.tally.requests:.2f}" if phase.tally.requests else NONE


def runs(count: int) -> str:
    """Return how often the application ran.

    Example:
        >>> runs(1), runs(2)
        ('once', '2 times')
    """
    return "once" if count == 1 else f"{count:,} times"


def sentences(pages: Pages) -> list[str]:
    """Return in sentences what the table does not show."""
    lines: list[str] = []
    if pages.stampedes:
        lines.append(_stampede(pages.stampedes))
    if pages.changes:
        lines.append(_changes(pages))
    lines.append(_old(pages))
    lines.append(
        f"Requests that failed: {pages.errors:,}{', Redis killed meanwhile' * bool(pages.marks)}."
    )
    lines.append(f"The clients took {percent(busy(pages))} of the one core that they can use.")
    return lines


def busy(pages: Pages) -> float:
    """Return which share of a core the clients took at most, in 0..1."""
    shares = (phase.tally.busy_ms / 1e3 / phase.seconds for phase in pages.phases if phase.seconds)
    return max(shares, default=0.0)


def _stampede(stampedes: Sequence[Stampede]) -> str:
    counts = [stampede.loads for stampede in stampedes]
    same = len(set(counts)) == 1
    times = f"{runs(counts[0])} each time" if same else ", ".join(map(runs, counts))
    slowest = max(stampede.seconds for stampede in stampedes)
    return (
        f"Stampede: {stampedes[0].readers:,} clients asked all servers at once for a report that"
        f" was in no tier, {len(counts):,} times over: the application ran {times}; the"
        f" slowest client was answered after {duration(slowest)}."
    )


def _changes(pages: Pages) -> str:
    delays = pages.delays()
    own_old = sum(change.own_old for change in pages.changes)
    others_old = sum(change.others_old for change in pages.changes)
    return (
        f"{len(pages.changes):,} price changes: after its answer the server that made a change sent"
        f" {own_old:,} old pages; the others showed it within {duration(delays.quantile(0.5))} at"
        f" the median and {duration(delays.highest)} at most, and sent {others_old:,} old ones"
        " until then."
    )


def _old(pages: Pages) -> str:
    killed = [phase for phase in pages.phases if phase.name == KILLED]
    others = [phase for phase in pages.phases if phase.name != KILLED]
    dead = f", with Redis killed {_older(killed)}" if killed else ""
    return (
        "Pages under load that were older than a change that some server had answered before:"
        f" {_older(others)}{dead}. Older than one of the same server: {pages.old_own:,}. Past the"
        f" bound of {pages.bound:g} s, with {pages.margin:g} s for a busy machine:"
        f" {pages.past_bound:,}."
    )


def _older(phases: Sequence[Phase]) -> str:
    total = Tally()
    for phase in phases:
        total.merge(phase.tally)
    old = total.old_other
    by = f", by {duration(old.highest)} at most" if old.count else ""
    return f"{old.count:,} of {total.checked:,}{by}"
