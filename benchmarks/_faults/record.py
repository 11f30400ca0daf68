"""What all processes of a cell know at once: a file in memory that each of them maps.

Every number has one writer and is written in one piece of 8 bytes, so nothing is locked. A row's
versions are dense, given by the database, and each is made by one process: the moment at which the
invalidation of a version was acknowledged is written once. Times are `time.monotonic`, which is
the same in all processes of one Linux.
"""

import itertools
import mmap
import time
from pathlib import Path
from typing import Final

ROWS: Final = 120
VERSIONS: Final = 4_096
PROCESSES: Final = 4

_SLOTS: Final = ROWS * PROCESSES
_TABLES: Final = ("committed", "acknowledged", "returned", "loads")
_BYTES: Final = 8 * (_SLOTS * len(_TABLES) + ROWS * VERSIONS)


class Record:
    """The shared record, as one process sees it.

    Args:
        path: The file; made by `create`.
        process: The number of this process, below `PROCESSES`.
    """

    def __init__(self, path: Path, process: int = 0) -> None:
        with path.open("r+b") as file:
            view = memoryview(mmap.mmap(file.fileno(), _BYTES))
        cuts = [8 * _SLOTS * number for number in range(len(_TABLES) + 1)]
        tables = [view[start:end].cast("q") for start, end in itertools.pairwise(cuts)]
        self._committed, self._acknowledged, self._returned, self._loads = tables
        self._acknowledged_at = view[cuts[-1] :].cast("d")
        self._process = process

    @staticmethod
    def create(path: Path) -> None:
        """Make the file, all zero."""
        path.write_bytes(bytes(_BYTES))

    # What the writers of this process say.

    def commit(self, row: int, version: int) -> None:
        """The database has committed a version, whose invalidation begins only now."""
        assert version < VERSIONS, "a row has more versions than the record has room for"
        self._raise(self._committed, row, version)

    def give_back(self, row: int, version: int, *, acknowledged: bool) -> None:
        """The invalidation of a version has returned, with Redis's word for it or without."""
        if acknowledged:
            self._acknowledged_at[row * VERSIONS + version] = time.monotonic()
            self._raise(self._acknowledged, row, version)
        self._raise(self._returned, row, version)

    def count_load(self, row: int) -> None:
        """A loader of this process has begun."""
        self._loads[row * PROCESSES + self._process] += 1

    # What anybody asks.

    def committed(self, row: int) -> int:
        """Return the newest version that is committed for certain."""
        return _newest(self._committed, row)

    def floor(self, row: int) -> int:
        """Return the newest version whose invalidation was acknowledged: no read may be older."""
        return _newest(self._acknowledged, row)

    def returned(self, row: int) -> int:
        """Return the newest version whose invalidation has returned, acknowledged or queued."""
        return _newest(self._returned, row)

    def own_floor(self, row: int) -> int:
        """Return the newest version whose invalidation has returned in this very process."""
        return self._returned[row * PROCESSES + self._process]

    def age(self, row: int, version: int, floor: int, now: float) -> float:
        """Return how long ago a newer version than this, up to `floor`, was acknowledged."""
        start = row * VERSIONS
        newer = self._acknowledged_at[start + version + 1 : start + floor + 1]
        return now - min(at for at in newer if at)

    def loads(self, row: int) -> list[int]:
        """Return how many loads of a row have begun, by process."""
        return list(self._loads[row * PROCESSES : (row + 1) * PROCESSES])

    def _raise(self, table: "memoryview[int]", row: int, version: int) -> None:
        slot = row * PROCESSES + self._process
        table[slot] = max(table[slot], version)


def _newest(table: "memoryview[int]", row: int) -> int:
    return max(table[row * PROCESSES : (row + 1) * PROCESSES])
