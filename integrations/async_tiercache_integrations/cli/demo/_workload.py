"""Who reads what: Zipf's law, the mix of operations, what was acknowledged, and what was read."""

import bisect
import math
import mmap
import os
from array import array
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["profile", "product", "orders", "sales", "update"]

MIX: Final[tuple[tuple[Kind, float], ...]] = (
    ("profile", 0.45),
    ("product", 0.25),
    ("orders", 0.20),
    ("sales", 0.08),
    ("update", 0.02),
)
"""The share of each operation: 70 % point reads, 20 % joins, 8 % aggregates, 2 % updates."""

_KINDS: Final[tuple[Kind, ...]] = tuple(kind for kind, _ in MIX)
_MIX_UP_TO: Final = tuple(accumulate(share for _, share in MIX))


def kind_of(u: float) -> Kind:
    """Return the operation for a uniform random number in [0, 1)."""
    return _KINDS[min(bisect.bisect_right(_MIX_UP_TO, u), len(_KINDS) - 1)]


class Zipf:
    """Draws ids from 1 to `count`; the one of popularity rank k has a chance proportional to 1/k.

    Neighbours in popularity are not neighbours in id, so that they share no page by accident.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._up_to = array("d", accumulate(1 / rank for rank in range(1, count + 1)))
        self._stride = next(
            stride for stride in range(max(1, int(count * 0.618)), 2 * count + 2)
            if math.gcd(stride, count) == 1
        )  # fmt: skip

    def rank(self, u: float) -> int:
        """Return a popularity rank from 1 for a uniform random number in [0, 1)."""
        return min(bisect.bisect_right(self._up_to, u * self._up_to[-1]), self._count - 1) + 1

    def draw(self, u: float) -> int:
        """Return an id for a uniform random number in [0, 1)."""
        return self.id_of(self.rank(u))

    def id_of(self, rank: int) -> int:
        """Return the id that has a popularity rank; each id has exactly one."""
        return rank * self._stride % self._count + 1


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many rows the shop has."""

    users: int = 50_000
    products: int = 10_000
    orders: int = 200_000


def board_keys(sizes: Sizes) -> int:
    """Return how many keys the board must have room for."""
    return 2 * sizes.users + sizes.products


class Board:
    """The last acknowledged version of each key and when it was, shared by all processes.

    A file mapped into memory. An update is acknowledged after its commit, when its invalidation
    has returned. A reader compares: it looks here *before* it reads, so a lower version in its
    answer is older than an invalidation that was already acknowledged.
    """

    # So many acknowledgements of one key are remembered; far more than fall into the bound.
    _KEPT: Final = 64

    def __init__(self, path: Path, keys: int) -> None:
        column, kept = keys * 8, keys * 8 * self._KEPT
        size = column + 2 * kept
        with path.open("r+b" if path.exists() else "w+b") as file:
            os.truncate(file.fileno(), size)  # sparse: untouched keys take no room
            self._map = mmap.mmap(file.fileno(), size)
        self._view = memoryview(self._map)
        self._latest = self._view[:column].cast("q")
        self._versions = self._view[column : column + kept].cast("q")
        self._times = self._view[column + kept :].cast("d")

    def acknowledge(self, key: int, version: int, now: float) -> None:
        """Note that readers starting after `now` should see `version` or a later one."""
        slot = key * self._KEPT + version % self._KEPT
        self._times[slot] = now
        self._versions[slot] = version
        # Two processes may pass here at once; a lower number only makes the check milder.
        self._latest[key] = max(self._latest[key], version)

    def version(self, key: int) -> int:
        """Return the highest acknowledged version, 0 when there is none."""
        return self._latest[key]

    def age(self, key: int, seen: int, acknowledged: int, started: float) -> float:
        """Return for how long a version had been out of date when a read of it started.

        Args:
            key: The key.
            seen: The version that the read returned.
            acknowledged: What `version` said before the read.
            started: When the read started.
        """
        missed = range(max(seen + 1, acknowledged - self._KEPT + 1), acknowledged + 1)
        slots = ((version, key * self._KEPT + version % self._KEPT) for version in missed)
        # An update that another process is still acknowledging has not filled its slot yet.
        times = (self._times[slot] for version, slot in slots if self._versions[slot] == version)
        return max((started - at for at in times if at <= started), default=0.0)

    def close(self) -> None:
        """Unmap the file."""
        for view in (self._latest, self._versions, self._times, self._view):
            view.release()
        self._map.close()


class Seen:
    """Which keys were ever read, shared by all processes: a file mapped into memory."""

    def __init__(self, path: Path, keys: int) -> None:
        with path.open("r+b" if path.exists() else "w+b") as file:
            os.truncate(file.fileno(), keys)
            self._map = mmap.mmap(file.fileno(), keys)

    def first(self, key: int) -> bool:
        """Return whether nobody said before that this key was read; from now on somebody did."""
        # Two processes may both be told yes; they would have to read within the same instant.
        unseen = not self._map[key]
        self._map[key] = 1
        return unseen

    def close(self) -> None:
        """Unmap the file."""
        self._map.close()
