"""The table of the bench as aligned text: one line for each cell, and one sum for each adapter."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from benchmarks._faults.cell import Outcome, Pace
from benchmarks._faults.faults import FAULTS
from benchmarks._faults.tally import Tally
from benchmarks._faults.verdict import missed, void

_COLUMNS: Final[dict[str, Callable[[Tally], Any]]] = {
    "reads": lambda tally: tally.checked,
    "stale": lambda tally: tally.stale,
    "late": lambda tally: tally.late,
    "lag ms": lambda tally: round(tally.longest_lag * 1e3),
    "forever": lambda tally: tally.forever,
    "RYW": lambda tally: tally.ryw,
    "non-mono": lambda tally: tally.nonmonotonic,
    "errors": lambda tally: sum(tally.errors.values()),
    "hung": lambda tally: tally.hung,
    "collat": lambda tally: tally.collateral,
    "read ms": lambda tally: round(tally.longest_read * 1e3),
    "load ms": lambda tally: round(tally.longest_load * 1e3),
    "writes": lambda tally: tally.writes,
    "queued": lambda tally: tally.queued,
    "loads": lambda tally: tally.loads,
    "raced": lambda tally: tally.raced,
    "overtak": lambda tally: tally.counts.get("overtaken", 0),
    "detach": lambda tally: tally.counts.get("detached", 0),
    "bypass": lambda tally: tally.counts.get("bypassed", 0),
}
LEGEND: Final = """\
stale: older than what was acknowledged when the read began; late: by more than the bound and 0.5 s;
lag: the oldest of them; forever: rows still old at the end; RYW: older than what their own process
had invalidated; non-mono: older than an earlier read of their process; collat: cancelled with
somebody else; queued: invalidations that returned before Redis confirmed them; raced: loads during
which their row was written; overtak, detach, bypass: what the cache itself counted; c/r: commands
of Redis for each read; bars: what must be 0, and the longest read where Redis hangs."""
_NAME: Final = 24


def heading() -> str:
    """Return the line above the cells."""
    return f"{'':<{_NAME}}{_cells(_COLUMNS)} {'c/r':>6}  verdict"


def line(outcome: Outcome, pace: Pace) -> str:
    """Return the line of one cell."""
    name = f"{outcome.adapter} {outcome.fault} {outcome.seed}"
    ratio = "-" if outcome.commands_per_read is None else f"{outcome.commands_per_read:.2f}"
    values = [column(outcome.tally) for column in _COLUMNS.values()]
    return f"{name:<{_NAME}}{_cells(values)} {ratio:>6}  {_verdict(outcome, pace)}"


def summary(adapter: str, outcomes: Sequence[Outcome], pace: Pace) -> str:
    """Return what all cells of an adapter gave together."""
    total = Tally()
    for outcome in outcomes:
        total.add(outcome.tally)
    clean = sum(not missed(one) and not void(one, pace) for one in outcomes)
    values = [column(total) for column in _COLUMNS.values()]
    words = f"{clean} of {len(outcomes)} cells are clean"
    return f"{adapter + ', all':<{_NAME}}{_cells(values)} {'':>6}  {words}"


def _cells(values: Iterable[Any]) -> str:
    widths = (max(len(name), 6) for name in _COLUMNS)
    return "".join(f" {value!s:>{width}}" for value, width in zip(values, widths, strict=True))


def _verdict(outcome: Outcome, pace: Pace) -> str:
    bars, reasons = missed(outcome), void(outcome, pace)
    parts = [f"MISS {', '.join(bars)}"] if bars else []
    parts += [f"VOID {', '.join(reasons)}"] if reasons else []
    return "; ".join([*(parts or ["pass"]), *_crowds(outcome)])


def _crowds(outcome: Outcome) -> list[str]:
    crowds = outcome.stampedes
    parts: list[str] = []
    if FAULTS[outcome.fault].crowd == "stampede":
        parts.append(f"loads cold {max(crowds.cold)}, invalidated {max(crowds.invalidated)}")
    if FAULTS[outcome.fault].crowd == "holder_kill":
        parts.append(f"loads {max(crowds.killed)}, served {max(crowds.served):.2f} s after")
    return parts
