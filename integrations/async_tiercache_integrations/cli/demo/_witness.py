"""Judges what a read returned by what was invalidated before it, in all processes."""

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from async_tiercache import Invalidated
from async_tiercache.abc import NAMESPACE
from async_tiercache_integrations.cli.demo._measure import Tally
from async_tiercache_integrations.cli.demo._workload import Board


@dataclass(frozen=True, slots=True)
class Expected:
    """What a read should return at least, as was known before it began.

    Attributes:
        key: The key's number on the boards.
        confirmed: The highest version whose invalidation L2 had confirmed to any process.
        made: The highest version whose update had returned in any process.
        own: The highest version whose update had returned in this process.
    """

    key: int
    confirmed: int
    made: int
    own: int


class Witness:
    """Judges the reads of one process by the updates of all.

    An update whose invalidation was queued is acknowledged to nobody but its own process. To the
    others it is when L2 has confirmed it; what they read before that is counted apart.

    Args:
        folder: Holds the boards, shared with the other processes.
        keys: How many keys have a version.
        limit: A read that is older than this is past the bound, in seconds.
        clock: Tells the time, monotonic and the same in all processes.
    """

    def __init__(
        self,
        folder: Path,
        keys: int,
        *,
        limit: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        folder.mkdir(exist_ok=True)
        self._confirmed = Board(folder / "confirmed", keys)
        self._made = Board(folder / "made", keys)
        self._own = array("q", bytes(8 * keys))
        self._limit: Final = limit
        self._clock: Final = clock
        # What waits for L2: by the text of a key or tag, keys on the board with versions.
        self._queued: dict[str, list[tuple[int, int]]] = {}

    def expected(self, key: int) -> Expected:
        """Return what a read that begins now should return at least."""
        confirmed, made = self._confirmed.version(key), self._made.version(key)
        return Expected(key, confirmed, made, self._own[key])

    def judge(
        self, tally: Tally, started: float, expected: Sequence[Expected], seen: Sequence[int]
    ) -> None:
        """Count a read, and how old it was if it was older than an update.

        Args:
            tally: Where it is counted.
            started: When the read began, monotonic.
            expected: What was known before it began, one for each version that it returned.
            seen: Those versions.
        """
        pairs = list(zip(expected, seen, strict=True))
        tally.checked += 1
        tally.old_own += any(version < each.own for each, version in pairs)
        ages = [
            self._confirmed.age(each.key, version, each.confirmed, started)
            for each, version in pairs
            if version < each.confirmed
        ]
        if ages:
            tally.old_other.add(max(ages))
            tally.past_bound += max(ages) > self._limit
            return
        ages = [
            self._made.age(each.key, version, each.made, started)
            for each, version in pairs
            if version < each.made
        ]
        if ages:
            tally.old_queued.add(max(ages))

    def updated(self, tally: Tally, key: int, version: int, report: Invalidated | None) -> None:
        """Take in an update that has just returned.

        Args:
            tally: Where it is counted.
            key: The key's number on the boards.
            version: Its new version.
            report: What became of the invalidation; `None` if there was nothing to invalidate.
        """
        now = self._clock()
        tally.updates += 1
        self._own[key] = max(self._own[key], version)
        self._made.acknowledge(key, version, now)
        if report is None or report.l2 != "queued":
            self._confirmed.acknowledge(key, version, now)
            return
        tally.queued += 1
        for text in (*report.keys, *report.tags):
            self._queued.setdefault(text, []).append((key, version))

    def confirm(self, report: Invalidated) -> None:
        """Take in that L2 has confirmed an invalidation: what was queued of it is acknowledged.

        What is queued while its confirmation is on the way is acknowledged some milliseconds
        early: that makes the judgement stricter.
        """
        if not self._queued:
            return
        texts = list(self._queued) if NAMESPACE in report.tags else (*report.keys, *report.tags)
        now = self._clock()
        for text in texts:
            for key, version in self._queued.pop(text, ()):
                self._confirmed.acknowledge(key, version, now)

    def close(self) -> None:
        """Give back the shared files."""
        self._confirmed.close()
        self._made.close()
