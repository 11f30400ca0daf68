"""What is true: the source, what was acknowledged of it, and what no read may return any more."""

import asyncio
from collections.abc import Generator, Iterable
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final, NamedTuple

from async_tiercache.testing import SimulatedClock

Value = tuple[str, int, str]
"""What a loader returns: the name of the row, its version, and who put it (nobody: a load)."""


_LEASING: Final = 1.0
"""Seconds within which a load begins after its lease was taken."""


_PATIENT: Final = 8.0
"""Seconds for which a read waits for the loads of other processes, at least."""


_LASTS: Final = {"doc": 12.0 + 12.0, "met": 106.0 + 12.0}
"""For how long what was read is served at all, by kinds of rows, with the time of two loads."""


class SourceError(Exception):
    """The source has failed."""


class Plan(NamedTuple):
    """How loads go that a read begins.

    Attributes:
        takes: How long, in seconds.
        reads: Whether the source is looked at before or after that.
        ends: In which way.
    """

    takes: float = 0.0
    reads: str = "early"
    ends: str = "well"


def _row_of(name: str) -> str:
    """Return which row is read under a name."""
    return name.rpartition("/")[2]


def _is_whole(name: str) -> bool:
    """Return whether a name is that of the row itself, not of its part in something else."""
    return name.partition("/")[0] in {name, "label"}


_AT_ONCE: Final = Plan()
PLAN: Final[ContextVar[Plan]] = ContextVar("plan", default=_AT_ONCE)


@dataclass
class Claim:
    """An invalidation that was acknowledged: reads that begin later return nothing older.

    Attributes:
        process: Who made it.
        begun: When its call began.
        at: When that returned, or when it is as good as that.
        versions: By row, what the source held when it began.
        done: Whether the remote tier has confirmed it, so that other processes are bound, too.
        soft: For how long what is older may still be served.
        blocked: Whether it is not one yet: a block says that it will be, whatever happens.
        lost: Whether the server has forgotten it, by becoming an older copy of itself.
    """

    process: int
    begun: float
    at: float
    versions: dict[str, int]
    done: bool
    soft: float = 0.0
    blocked: bool = False
    lost: bool = False


class Floor(NamedTuple):
    """A version below which a read must not be.

    Attributes:
        version: The version.
        begun: Only what was put by an older call than this is bound by it.
        why: Where it comes from.
        claim: The claim that it is of, which a server that is replaced meanwhile may forget.
    """

    version: int
    begun: float
    why: str
    claim: Claim | None = None


@dataclass
class Seen:
    """What a process has shown."""

    version: int
    at: float


@dataclass
class _Put:
    begun: float
    ended: float | None = None


@dataclass
class Model:
    """The source, and the promises about it.

    Attributes:
        clock: The time of all.
        bound: How long other processes may be behind, in seconds.
        versions: By row, what the source holds.
        problems: What has gone wrong, and when that was seen.
        replaced_at: When the server has last become an older copy of itself.
        reads: When the reads that go on have begun.
        calm: Whether nothing has gone wrong with server, network, processes or callers so far.
    """

    clock: SimulatedClock
    bound: float
    versions: dict[str, int] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)
    problems: list[tuple[float, str]] = field(default_factory=list)
    calm: bool = True
    monotonic: bool = True
    replaced_at: float = -inf
    reads: list[float] = field(default_factory=list)
    seen: dict[tuple[int, str], Seen] = field(default_factory=dict)
    _changes: dict[str, list[tuple[float, int]]] = field(default_factory=dict)
    _puts: dict[str, _Put] = field(default_factory=dict)
    _loading: dict[str, list[float]] = field(default_factory=dict)
    _disturbers: dict[str, int] = field(default_factory=dict)
    _disturbed: dict[str, float] = field(default_factory=dict)

    def problem(self, text: str) -> None:
        """Note what has gone wrong."""
        self.problems.append((self.clock.monotonic(), text))

    # The source.

    def version(self, name: str) -> int:
        """Return what the source holds."""
        return self.versions.get(name, 0)

    def change(self, names: Iterable[str]) -> dict[str, int]:
        """Change rows; return their new versions, by all the names under which they are read."""
        found: dict[str, int] = {}
        names = tuple(names)
        for row in dict.fromkeys(_row_of(name) for name in names if _is_whole(name)):
            self.versions[row] = self.version(row) + 1
            self._changes.setdefault(row, []).append((self.clock.monotonic(), self.version(row)))
        for name in names:
            found[name] = self.version(_row_of(name))
        return found

    @contextmanager
    def disturbing(self, names: Iterable[str]) -> Generator[None]:
        """Let loads of rows be begun anew while others run, for as long as the context lasts."""
        rows = {name.rpartition("/")[2] for name in names} | {name.split("/")[0] for name in names}
        for name in rows:
            self._disturbers[name] = self._disturbers.get(name, 0) + 1
        try:
            yield
        finally:
            for name in rows:
                self._disturbers[name] -= 1
                self._disturbed[name] = self.clock.monotonic()

    def is_quiet(self, name: str, *, since: float, but: int = 0) -> bool:
        """Return whether nothing has gone wrong, and nobody else has disturbed a row.

        Args:
            name: The row.
            since: From when on.
            but: How many disturbers do not count.
        """
        alone = self._disturbers.get(name, 0) == but
        return self.calm and alone and self._disturbed.get(name, -1.0) < since

    @property
    def loads(self) -> bool:
        """Whether anything is being loaded."""
        return any(self._loading.values())

    @contextmanager
    def reading(self) -> Generator[None]:
        """Count a read."""
        begun = self.clock.monotonic()
        self.reads.append(begun)
        try:
            yield
        finally:
            self.reads.remove(begun)

    @contextmanager
    def loading(self, name: str) -> Generator[None]:
        """Count a load of a row; while nothing goes wrong there is one at a time."""
        begun = self.clock.monotonic()
        running = self._loading.setdefault(name, [])
        disturbed = self._disturbed.get(name, -_LEASING)
        calm = self.calm and not self._disturbers.get(name)
        patient = not self.reads or begun - min(self.reads) < _PATIENT
        if calm and patient and any(disturbed + _LEASING < each for each in running):
            self.problem(f"{name} is loaded twice at the same time")
        running.append(begun)
        try:
            yield
        finally:
            running.remove(begun)
            if not calm or begun <= disturbed + _LEASING:
                # It may have gone around the remote tier, and what that holds is then removed.
                self._disturbed[name] = self.clock.monotonic()

    async def look(self, clock: Any, *names: str) -> list[Value]:
        """Read rows as the plan of the load says."""
        plan, early = PLAN.get(), [self.version(name) for name in names]
        if plan.takes:
            await clock.sleep(plan.takes)
        if plan.ends == "raises":
            raise SourceError(names)
        if plan.ends == "is cancelled":
            raise asyncio.CancelledError
        late = [self.version(name) for name in names]
        versions = late if plan.reads == "late" else early
        return [(name, version, "") for name, version in zip(names, versions, strict=True)]

    async def load(self, clock: Any, *names: str) -> list[Value]:
        """Load rows that have no parts, together."""
        with ExitStack() as stack:
            for name in names:
                stack.enter_context(self.loading(name))
            return await self.look(clock, *names)

    def put(self, name: str) -> Value:
        """Return what a call may put under a name; `put_ended` is told of its end."""
        origin = f"put {len(self._puts) + 1}"
        self._puts[origin] = _Put(self.clock.monotonic())
        return name, self.version(name), origin

    def put_ended(self, value: Value) -> None:
        """Note that a call which has put a value has returned."""
        self._puts[value[2]].ended = self.clock.monotonic()

    # The promises.

    def claim(self, claim: Claim) -> None:
        """Note what was acknowledged."""
        self.claims.append(claim)

    def floors(
        self,
        process: int,
        name: str,
        *,
        all_done: bool = False,
        nested: bool = False,
        around: bool = False,
    ) -> list[Floor]:
        """Return below which versions a read that begins now must not be.

        Args:
            process: The process that reads.
            name: The row.
            all_done: Whether every claim binds every process by now.
            nested: Whether it reads for a load, which nothing that is confirmed may escape.
            around: Whether the process does not believe the server, so that it may forget nothing.
        """
        now = self.clock.monotonic()
        floors = []
        for claim in self.claims:
            if name not in claim.versions or (claim.lost and not around):
                continue
            ours = claim.process == process or all_done
            delay = claim.soft + (0.0 if ours or (nested and claim.done) else self.bound)
            if (ours or claim.done) and claim.at + delay <= now:
                why = f"process {claim.process} was told at {claim.at:.3f}"
                kept = None if around else claim
                floors.append(Floor(claim.versions[name], claim.begun, why, kept))
        floors += self._oldest(name, now)
        seen = self.seen.get((process, name))
        if seen is not None and self.monotonic:
            why = f"the process had shown it at {seen.at:.3f}"
            # Of two that put, the last one wins, whatever it puts.
            floors.append(Floor(seen.version, 0.0, why))
        return floors

    def _oldest(self, name: str, now: float) -> list[Floor]:
        """Return what a read must not be below because of the time that its row is kept."""
        limit = _LASTS.get(_row_of(name).partition(":")[0])
        if limit is None:
            return []
        begun = now - limit
        passed = [version for at, version in self._changes.get(_row_of(name), ()) if at < begun]
        return [Floor(passed[-1], begun, f"that is older than {limit} s")] if passed else []

    def check(
        self,
        process: int,
        name: str,
        value: Any,
        floors: list[Floor],
        begun: float,
        *,
        nested: bool = False,
    ) -> None:
        """Note it if a read has returned what it must not."""
        row = _row_of(name)
        at = f"process {process} reads {name} from {begun:.3f} to {self.clock.monotonic():.3f}"
        if value is None or value[0] != row:
            self.problem(f"{at}: got {value}")
            return
        _, version, origin = value
        if version > self.version(row):
            self.problem(f"{at}: got {value}, now {self.version(row)}")
        for floor in floors:
            forgotten = floor.claim is not None and floor.claim.lost
            if version < floor.version and not forgotten and not self._excused(origin, floor):
                message = f"{at}: got {value}, not {floor.version} or later: {floor.why}"
                self.problem(message)
                return
        seen = self.seen.get((process, name))
        if not nested and (seen is None or seen.version < version):
            self.seen[process, name] = Seen(version, self.clock.monotonic())

    def _excused(self, origin: str, floor: Floor) -> bool:
        """Return whether a value was put by a call that no promise has come after."""
        put = self._puts.get(origin)
        return put is not None and (put.ended is None or put.ended >= floor.begun)
