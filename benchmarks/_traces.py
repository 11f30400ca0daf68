"""Traces: in which order keys are read, drawn from fixed seeds or read from files."""

from bisect import bisect
from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

Trace: TypeAlias = list[int]

KEYS: Final = 10_000
READS: Final = 100_000


def zipf(skew: float, reads: int = READS, *, keys: int = KEYS, seed: int = 1) -> Trace:
    """Return reads whose keys are the less likely the higher their number."""
    draw = Random(seed)
    weights = list(accumulate(1 / rank**skew for rank in range(1, keys + 1)))
    return [bisect(weights, draw.random() * weights[-1]) for _ in range(reads)]


def zipf_with_scans(reads: int = READS) -> Trace:
    """Return such reads between which rows are read in order, each once: a third of all."""
    draw, trace, scanned = Random(2), Trace(), KEYS
    popular = iter(zipf(0.9, reads))
    while len(trace) < reads:
        if draw.random() < 1 / 2_000:
            trace += range(scanned, scanned + 1_000)
            scanned += 1_000
        trace.append(next(popular))
    return trace[:reads]


def shifting(reads: int = READS) -> Trace:
    """Return reads whose favourites change a little all the time."""
    return [(key + number // 50) % KEYS for number, key in enumerate(zipf(0.9, reads))]


def replaced(reads: int = READS) -> Trace:
    """Return reads whose favourites are all others, four times."""
    quarter = reads // 4
    return [key + number // quarter * KEYS for number, key in enumerate(zipf(0.9, reads))]


def loop(reads: int = READS) -> Trace:
    """Return reads that go round in a circle, of twice as many keys as a tenth of them."""
    return [number % (KEYS // 5) for number in range(reads)]


GENERATED: Final[dict[str, Callable[[int], Trace]]] = {
    **{f"zipf {skew}": partial(zipf, skew) for skew in (0.7, 0.8, 0.9, 1.0, 1.1)},
    "zipf 0.9 with scans": zipf_with_scans,
    "shifting": shifting,
    "replaced at once": replaced,
    "loop": loop,
}
"""By name, what makes a trace of so many reads."""


def files(folder: Path) -> Iterator[tuple[str, Trace]]:
    """Yield the traces of a folder: text files with a key on each line."""
    for path in sorted(folder.iterdir()):
        if path.is_file():
            numbers: dict[str, int] = {}
            lines = path.read_text(encoding="utf-8").splitlines()
            yield path.name, [numbers.setdefault(line, len(numbers)) for line in lines]
