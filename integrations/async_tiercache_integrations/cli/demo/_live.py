"""The live view: what the run is doing, redrawn a few times a second in a terminal."""

from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from async_tiercache_integrations.cli.demo._measure import (
    ANSWERERS,
    Answerer,
    Phase,
    Point,
    Stampede,
)
from async_tiercache_integrations.cli.demo._wording import NONE, duration, loads, percent

_COLOURS: Final[dict[Answerer, str]] = {
    "l1": "green",
    "l2": "cyan",
    "loader": "yellow",
    "database": "red",
}
_LABELS: Final[dict[Answerer, str]] = {
    "l1": "L1",
    "l2": "L2",
    "loader": "loader",
    "database": "database",
}
_BLOCKS: Final = " ▁▂▃▄▅▆▇█"
_HISTORY: Final = 60
_BAR: Final = 40


def sparkline(values: Sequence[float]) -> str:
    """Return one block character for each value, the highest being full.

    Example:
        >>> sparkline([0, 1, 2, 4])
        ' ▂▄█'
    """
    top = max(values, default=0) or 1
    return "".join(_BLOCKS[round(value / top * (len(_BLOCKS) - 1))] for value in values)


class LiveView:
    """Draws the phases, the rates, who answers, and how fast; a context manager."""

    def __init__(self, console: Console) -> None:
        self._step = ""
        self._tables: dict[str, tuple[int, int]] = {}
        self._names: list[str] = []
        self._done: list[str] = []
        self._phase: Phase | None = None
        self._seconds = 0.0
        self._found: list[str] = []
        self._requests: deque[float] = deque(maxlen=_HISTORY)
        self._statements: deque[float] = deque(maxlen=_HISTORY)
        # The last: it draws at once.
        self._live = Live(console=console, get_renderable=self._draw, refresh_per_second=8)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._live.stop()

    def step(self, text: str) -> None:
        self._step = text

    def seeded(self, table: str, done: int, total: int) -> None:
        self._step = "Filling the shop"
        self._tables[table] = (done, total)

    def planned(self, names: list[str]) -> None:
        self._names = names
        self._step = ""

    def phase_began(self, phase: Phase, seconds: float) -> None:
        self._phase, self._seconds, self._step = phase, seconds, ""
        if not seconds:
            self._done.append(phase.name)
            self._found = []

    def sampled(self, phase: Phase, point: Point) -> None:
        self._phase = phase
        self._requests.append(point.requests)
        self._statements.append(point.statements)

    def phase_ended(self, phase: Phase) -> None:
        self._done.append(phase.name)

    def stampeded(self, stampede: Stampede) -> None:
        self._found.append(
            f"{stampede.readers:,} readers: {loads(stampede.loads)},"
            f" the last one served after {duration(stampede.seconds)}"
        )

    def told(self, words: str) -> None:
        self._found.append(words)

    def _draw(self) -> RenderableType:
        parts: list[RenderableType] = []
        if self._names:
            parts.append(self._progress())
        if self._step:
            parts.append(Text(f"{self._step} …", style="bold"))
        if not self._names:
            parts.extend(self._seeding())
        elif self._phase is not None and not self._step:
            parts.append(Text(f"{self._phase.name}: {self._phase.about}", style="bold"))
            found = Group(*map(Text, self._found))
            parts.append(self._measured(self._phase) if self._seconds else found)
        return Panel(Group(*parts), title="tiercache demo", title_align="left", padding=(1, 2))

    def _progress(self) -> RenderableType:
        line = Text()
        current = self._phase.name if self._phase is not None else ""
        for name in self._names:
            if name == current:
                line.append(f" {name} ", style="reverse bold")
            else:
                done = name in self._done
                line.append(f" {'✓ ' if done else ''}{name} ", style="green" if done else "dim")
            line.append(" ")
        line.append("\n")
        return line

    def _seeding(self) -> list[RenderableType]:
        grid = Table.grid(padding=(0, 2))
        for table, (done, total) in self._tables.items():
            grid.add_row(table, ProgressBar(total, done, width=_BAR), f"{done:,} of {total:,}")
        return [grid] if self._tables else []

    def _measured(self, phase: Phase) -> RenderableType:
        rates = Table.grid(padding=(0, 2))
        rates.add_column(min_width=13)
        rates.add_column(justify="right", min_width=8)
        for label, values in (("requests/s", self._requests), ("statements/s", self._statements)):
            latest = f"{values[-1]:,.0f}" if values else NONE
            rates.add_row(label, latest, Text(sparkline(values), style="blue"))
        if phase.cached and phase.tally.reads:
            saved = percent(phase.saved)
            rates.add_row("saved", saved, "of the statements that these reads cost without a cache")
        rates.add_row("errors", f"{phase.tally.failed:,}", "")
        length = ProgressBar(self._seconds, min(phase.seconds, self._seconds), width=_BAR)
        return Group(length, "", rates, "", self._tiers(phase))

    def _tiers(self, phase: Phase) -> RenderableType:
        table = Table.grid(padding=(0, 2))
        table.add_column(min_width=13)
        table.add_column(width=_BAR)
        for _ in range(3):
            table.add_column(justify="right", min_width=8)
        table.add_row("answered by", "", "", "p50", "p99", style="dim")
        for name in ANSWERERS:
            histogram, share = phase.tally.latency[name], phase.tally.share(name)
            if not histogram.count:
                continue
            bar = Text("█" * round(share * _BAR), style=_COLOURS[name])
            table.add_row(
                _LABELS[name], bar, percent(share),
                duration(histogram.quantile(0.5)), duration(histogram.quantile(0.99)),
            )  # fmt: skip
        return table
