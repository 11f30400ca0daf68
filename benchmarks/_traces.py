"""Traces: in which order keys are read, drawn from fixed seeds or read from files."""

import sys
from bisect import bisect
from collections.abc import Callable, Iterator
from functools import partial
from heapq import heappop, heappush
from itertools import accumulate
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

Trace: TypeAlias = list[int]

KEYS: Final = 100_000
READS: Final = 500_000
VISIT: Final = 150
"""How many reads there are between two of one visit, in the mean."""


def zipf(skew: float, reads: int, *, seed: int = 1) -> Trace:
    """Return reads whose keys are the less likely the higher their number."""
    draw = Random(seed)
    weights = list(accumulate(1 / rank**skew for rank in range(1, KEYS + 1)))
    return [bisect(weights, draw.random() * weights[-1]) for _ in range(reads)]


def zipf_with_scans(reads: int) -> Trace:
    """Return such reads between which rows are read in order, each once: a third of all."""
    draw, trace, scanned = Random(2), Trace(), KEYS
    popular = iter(zipf(0.9, reads))
    while len(trace) < reads:
        if draw.random() < 1 / 20_000:
            trace += range(scanned, scanned + 10_000)
            scanned += 10_000
        trace.append(next(popular))
    return trace[:reads]


def shifting(reads: int) -> Trace:
    """Return reads whose favourites change a little all the time."""
    return [(key + number // 50) % KEYS for number, key in enumerate(zipf(0.9, reads))]


def replaced(reads: int) -> Trace:
    """Return reads whose favourites are all others, four times."""
    quarter = reads // 4
    return [key + number // quarter * KEYS for number, key in enumerate(zipf(0.9, reads))]


def visits(reads: int) -> Trace:
    """Return reads two thirds of which are of keys that come three times in a while, then never."""
    draw, trace, due, fresh = Random(5), Trace(), list[tuple[int, int]](), KEYS
    popular = iter(zipf(0.9, reads))
    while len(trace) < reads:
        now = len(trace)
        if due and due[0][0] <= now:
            trace.append(heappop(due)[1])
        elif draw.random() < 0.6:
            trace.append(next(popular))
        else:
            fresh += 1
            trace.append(fresh)
            for part in (1, 2):
                heappush(due, (now + int(part * draw.expovariate(1 / VISIT)) + 1, fresh))
    return trace


def loop(reads: int, size: int) -> Trace:
    """Return reads that go round in a circle which is a fifth larger than memory."""
    return [number % (size * 6 // 5) for number in range(reads)]


GENERATED: Final[dict[str, Callable[[int], Trace]]] = {
    **{f"zipf {skew}": partial(zipf, skew) for skew in (0.7, 0.8, 0.9, 1.0, 1.1)},
    "zipf 0.9 with scans": zipf_with_scans,
    "shifting": shifting,
    "replaced at once": replaced,
    "visits": visits,
}
"""By name, what makes a trace of so many reads, whatever the size of memory."""


def files(folder: Path) -> Iterator[tuple[str, Trace]]:
    """Yield the traces of a folder: files with a key on each line, whatever its bytes are.

    Raises:
        SystemExit: One has none.
    """
    for path in sorted(folder.iterdir()):
        if path.is_file():
            numbers: dict[bytes, int] = {}
            lines = path.read_bytes().splitlines()
            if not lines:
                sys.exit(f"{path} holds no key: one is expected on each line")
            yield path.name, [numbers.setdefault(line, len(numbers)) for line in lines]
