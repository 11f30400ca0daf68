"""The read log: counts and tells how the reads that L1 could not answer at once were answered."""

from collections.abc import Callable
from typing import Final, TypeAlias

from async_tiercache._entry import Tier
from async_tiercache._events import Read, State
from async_tiercache._family import Family
from async_tiercache._flight import Outcome
from async_tiercache.abc import Clock, Observer

Answered: TypeAlias = tuple[Tier, State]
_L2_HIT: Final[Answered] = ("l2", "fresh")
MAX_READS: Final = 1_000  # keys of which it is remembered how they were last read


class ReadLog:
    """How reads were answered.

    Args:
        clock: The clock of this process.
        advise: Is given advice about the set-up: the name of its logger, and a message.
        notify: Is told of each read, if anybody listens.

    Attributes:
        last: By key, how it was last read; of the latest ones.
    """

    __slots__ = ("_advise", "_clock", "_notify", "last")

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
        self.last: dict[str, Answered] = {}

    @property
    def listened(self) -> bool:
        """Whether anybody is told."""
        return self._notify is not None

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
        last = self.last
        answered: Answered = outcome.tier, outcome.state
        last[key] = answered
        if len(last) > MAX_READS:
            del last[next(iter(last))]
        if self._notify is not None:
            self._tell(family, key, answered, joined=joined, started=started)

    def note_hit(self, family: Family, key: str, *, joined: bool, started: float) -> None:
        """Do so for a fresh value of L2."""
        family.counts.l2_hits += 1
        last = self.last
        last[key] = _L2_HIT
        if len(last) > MAX_READS:
            del last[next(iter(last))]
        if self._notify is not None:
            self._tell(family, key, _L2_HIT, joined=joined, started=started)

    def count(self, family: Family, outcome: Outcome) -> None:
        """Count an answer that left the hit path, by the tier that gave it."""
        counts = family.counts
        if outcome.tier == "l1":
            counts.count_l1_hit()
        elif outcome.tier == "l2":
            counts.l2_hits += 1
        elif counts.miss(self._clock.monotonic(), family.limits.ttl):
            self._advise(
                "low-hit-ratio",
                f"Most calls of {family.name} are misses: it is better off without a cache, or "
                "with a longer ttl, or with fewer arguments in its key.",
            )
        if outcome.state == "early":
            counts.early_reads += 1
        elif outcome.state == "stale":
            counts.stale_reads += 1
            counts.stale_ages.add(outcome.age)

    def _tell(
        self, family: Family, key: str, answered: Answered, *, joined: bool, started: float
    ) -> None:
        assert self._notify is not None
        seconds = self._clock.monotonic() - started
        self._notify(Read(family.name, key, *answered, joined, seconds))
