"""The read log: counts and tells how the reads that L1 could not answer at once were answered."""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Final, NamedTuple, TypeAlias

from async_tiercache._entry import Tier
from async_tiercache._events import Read, State
from async_tiercache._family import Family
from async_tiercache._outcome import Outcome
from async_tiercache.abc import Clock, Observer

Answered: TypeAlias = tuple[Tier, State]
_L2_HIT: Final[Answered] = ("l2", "fresh")
_FEW: Final = 4
"""Keys that are noted one by one."""
MAX_READS: Final = 1_000  # keys of which it is remembered how they were last read


class _Batch(NamedTuple):
    """Keys that were read one after the other.

    Attributes:
        keys: These.
        singly: How each was read; together, as hits of L2, if it is not said.
    """

    keys: Collection[str]
    singly: Mapping[str, Answered] = {}


class ReadLog:
    """How reads were answered.

    Args:
        clock: The clock of this process.
        advise: Is given advice about the set-up: the name of its logger, and a message.
        notify: Is told of each read, if anybody listens.

    Attributes:
        listened: Whether anybody is told.
    """

    __slots__ = ("_advise", "_before", "_clock", "_known", "_last", "_notify", "listened")

    def __init__(
        self,
        *,
        clock: Clock,
        advise: Callable[[str, str], None],
        notify: Observer | None,
    ) -> None:
        self._clock = clock
        self._advise = advise
        self._notify = notify
        # Its oldest are taken out again and again, which a plain dict searches for each time.
        self._last: OrderedDict[str, Answered] = OrderedDict()
        # Those before, by batches: to note each of their keys would cost more than to read it.
        self._before = deque[_Batch]()
        self._known = 0
        self.listened = notify is not None

    def last(self, key: str) -> Answered | tuple[()]:
        """Return how a key was last read, if it is one of the latest."""
        if key in self._last:
            return self._last[key]
        found = (each for each in reversed(self._before) if key in each.keys)
        batch = next(found, None)
        if batch is None:
            return ()
        return batch.singly.get(key, _L2_HIT)

    def note(
        self, family: Family, key: str, outcome: Outcome, *, joined: bool, started: float
    ) -> None:
        """Count, remember and tell how a read was answered.

        Args:
            family: The key's family.
            key: The key's text.
            outcome: The answer.
            joined: Whether it was made for another caller.
            started: When the call came, monotonic.
        """
        self.count(family, outcome)
        answered: Answered = outcome.tier, outcome.state
        self._remember(key, answered)
        if self._notify is not None:
            self._tell(family, key, answered, joined=joined, started=started)

    def note_all(self, family: Family, key: str, outcome: Outcome, readers: int) -> None:
        """Do so for several readers of one answer, while nobody is told."""
        self.count(family, outcome, readers)
        self._remember(key, (outcome.tier, outcome.state))

    def note_hit(self, family: Family, key: str, *, joined: bool, started: float) -> None:
        """Do so for a fresh value of L2."""
        self.note_hits(family, (key,), 1)
        if self._notify is not None:
            self._tell(family, key, _L2_HIT, joined=joined, started=started)

    def note_hit_keys(self, family: Family, keys: Collection[str], *, started: float) -> None:
        """Do so for the fresh values of several keys, which must stay as they are."""
        self.note_hits(family, keys, len(keys))
        for key in keys if self._notify is not None else ():
            self._tell(family, key, _L2_HIT, joined=False, started=started)

    def note_hits(self, family: Family, keys: Collection[str], readers: int) -> None:
        """Do so for all readers of several keys, while nobody is told; the keys must stay."""
        if not readers:
            return
        family.counts.l2_hits += readers
        if len(keys) < _FEW:
            for key in keys:
                self._remember(key, _L2_HIT)
            return
        if self._last:
            self._put_behind(_Batch(self._last, self._last))
            self._last = OrderedDict()
        self._put_behind(_Batch(keys))

    def _put_behind(self, batch: "_Batch") -> None:
        before = self._before
        before.append(batch)
        self._known += len(batch.keys)
        while self._known > MAX_READS and len(before) > 1:
            self._known -= len(before.popleft().keys)

    def _remember(self, key: str, answered: Answered) -> None:
        last = self._last
        last[key] = answered
        if len(last) > MAX_READS:
            last.popitem(last=False)

    def count(self, family: Family, outcome: Outcome, readers: int = 1) -> None:
        """Count an answer that left the hit path, by the tier that gave it."""
        counts = family.counts
        if outcome.tier == "l1":
            counts.count_l1_hit(readers)
        elif outcome.tier == "l2":
            counts.l2_hits += readers
        elif counts.miss(self._clock.monotonic(), family.limits.ttl, readers):
            self._advise(
                "low-hit-ratio",
                f"Most calls of {family.name} are misses: it is better off without a cache, or "
                "with a longer ttl, or with fewer arguments in its key.",
            )
        if outcome.state == "early":
            counts.early_reads += readers
        elif outcome.state == "stale":
            counts.stale_reads += readers
            counts.stale_ages.add(outcome.age, readers)

    def _tell(
        self, family: Family, key: str, answered: Answered, *, joined: bool, started: float
    ) -> None:
        assert self._notify is not None
        seconds = self._clock.monotonic() - started
        self._notify(Read(family.name, key, *answered, joined, seconds))
