"""What share of the reads does memory answer, beside other ways to evict and the best there is?

Each row is a trace and a number of entries. Generated traces are drawn from fixed seeds, so the
figures are the same on every machine; `--traces DIR` adds files with a key on each line. Nothing is
timed, and no time passes: it is only about what is evicted.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from signal import SIG_DFL, SIGINT, signal
from statistics import mean
from typing import Final

from rich.console import Console
from rich.progress import track

from benchmarks._evictions import EVICTIONS, Ours, best_share, share_of
from benchmarks._files import folder_to_read, to_write, write_figures
from benchmarks._machine import describe
from benchmarks._suite import Found
from benchmarks._traces import GENERATED, READS, Trace, files, loop

SIZES: Final = (1_000, 10_000)
MEAN_BAR: Final = 0.83
"""Of the best share, what ours must be in the mean of all rows."""
LRU_BAR: Final = 0.03
"""How far no row of ours may be below LRU."""


@dataclass(frozen=True)
class Row:
    """What came of one trace.

    Attributes:
        trace: Its name.
        size: How many entries there may be.
        best: The share that nobody can exceed.
        shares: By way to evict.
        ghost_bytes: How much memory ours takes for keys that it has evicted.
    """

    trace: str
    size: int
    best: float
    shares: dict[str, float]
    ghost_bytes: int

    @property
    def of_best(self) -> float:
        """Ours as a share of the best."""
        return self.shares["ours"] / self.best if self.best else 1.0

    @property
    def below_lru(self) -> float:
        """How far ours is below LRU."""
        return self.shares["LRU"] - self.shares["ours"]


def row_of(name: str, trace: Trace, size: int) -> Row:
    """Return what comes of a trace."""
    made = {each: make(size) for each, make in EVICTIONS.items()}
    shares = {each: share_of(eviction, trace) for each, eviction in made.items()}
    ours = made["ours"]
    assert isinstance(ours, Ours)
    ghosts = ours.store._queues.ghosts.size_in_bytes
    return Row(name, size, best_share(trace, size), shares, ghosts)


def missed(rows: Sequence[Row]) -> list[str]:
    """Return the bars that were missed."""
    bars = [f"{row.trace}, {row.size}: {100 * row.below_lru:.1f} points below LRU"
            for row in rows if row.below_lru > LRU_BAR]  # fmt: skip
    middle = mean(row.of_best for row in rows)
    if middle < MEAN_BAR:
        bars.append(f"{middle:.3f} of the best in the mean, not {MEAN_BAR}")
    return bars


def table(rows: Sequence[Row]) -> str:
    """Return the rows as aligned text, in per cent."""
    heads = ["best", *EVICTIONS]
    lines = [f"{'':<22}{'entries':>8}" + "".join(f"{head:>11}" for head in heads)]
    for row in rows:
        shares = [row.best, *row.shares.values()]
        figures = "".join(f"{100 * share:>11.1f}" for share in shares)
        lines.append(f"{row.trace:<22}{row.size:>8,}{figures}")
    means = [
        mean(row.shares[name] / row.best if row.best else 1.0 for row in rows) for name in EVICTIONS
    ]
    figures = "".join(f"{100 * share:>11.1f}" for share in means)
    return "\n".join([*lines, f"{'of the best, in the mean':<41}{figures}"])


def command(arguments: Sequence[str]) -> int:
    """Run what the arguments say; 1 if `--check` was given and a bar was missed."""
    options = _parser().parse_args(arguments)
    results, bars = measured(quick=options.quick, folder=options.traces)
    if options.json is not None:
        report = {"bench": "ratios", "machine": describe(), "results": results}
        write_figures(options.json, report)
    return 1 if options.check and bars else 0


def measured(*, quick: bool, folder: Path | None = None) -> Found:
    """Read the traces, those of a folder too, and print what share each way to evict answers."""
    reads = READS // 25 if quick else READS
    traces = dict(_traces(reads, folder))
    cells = [(name, trace, size) for name, trace in traces.items() for size in SIZES]
    cells += [("loop", loop(reads, size), size) for size in SIZES]
    console = Console(stderr=True)
    # Ctrl-C, which reaches all, ends the others at once and without a word.
    with ProcessPoolExecutor(initializer=signal, initargs=(SIGINT, SIG_DFL)) as pool:
        made = pool.map(row_of, *zip(*cells, strict=True))
        shown = track(made, "Evicting", total=len(cells), console=console, transient=True)
        rows = list(shown)
    bars = missed(rows)
    print(table(rows))
    print("\n" + ("\n".join(bars) or "no bar is missed"))
    return Found([asdict(row) for row in rows], len(bars))


def _traces(reads: int, folder: Path | None) -> Iterator[tuple[str, Trace]]:
    for name, make in GENERATED.items():
        yield name, make(reads)
    given: Iterable[tuple[str, Trace]] = () if folder is None else files(folder)
    yield from given


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks ratios", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one read in 25")
    parser.add_argument(
        "--traces", type=folder_to_read, metavar="DIR", help="files with a key on each line"
    )
    parser.add_argument("--json", type=to_write, metavar="PATH", help="write every figure to PATH")
    parser.add_argument(
        "--check", "--strict", action="store_true", help="exit with 1 when a bar is missed"
    )
    return parser
