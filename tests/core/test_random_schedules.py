"""Random schedules: two processes, their batches, writes, faults and cancellations, by seed.

A schedule is a function of its seed, so what fails is repeated by ``TESTS_SEED``. ``TESTS_LONG``
multiplies the number of schedules.
"""

import asyncio
import os
import random
from collections.abc import Callable, Coroutine, Iterable
from contextlib import suppress
from typing import Any, Final

import pytest
from redis.exceptions import RedisError

from async_tiercache import MISSING, LoadContext, Policy, TierCache
from async_tiercache.errors import LoadCancelledError, LoadTimeoutError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache.testing._faults import Operation
from tests.conftest import _broken
from tests.core.source import ticks

SCHEDULES: Final = 24 * int(os.environ.get("TESTS_LONG", "1"))
FIRST: Final = int(os.environ.get("TESTS_SEED", "0"))
STEPS: Final = 100
KEYS: Final = 3
PATIENCE: Final = 40  # seconds of the clock in which everything must end

Value = tuple[str, int, int]
"""What a loader returns: family, key and version."""


class SourceError(Exception):
    """The source has failed."""


ALLOWED: Final = (SourceError, LookupError, LoadCancelledError, LoadTimeoutError)
"""What a read may raise: errors of the loaders here, and that one was cancelled or late."""


class Source:
    """Versions of rows by family and key; a row of which the version ends in 4 or 9 is absent."""

    def __init__(self, clock: FakeClock, rnd: random.Random) -> None:
        self.versions: dict[tuple[str, int], int] = {}
        self._clock = clock
        self._rnd = rnd

    def version(self, family: str, key: int) -> int:
        return self.versions.get((family, key), 0)

    def change(self, family: str, key: int) -> int:
        version = self.versions[family, key] = self.version(family, key) + 1
        return version

    async def read(self, family: str, keys: Iterable[int]) -> dict[int, Value]:
        """Read the rows before, while or after it takes its time; fail now and then."""
        rnd, found = self._rnd, {key: (family, key, self.version(family, key)) for key in keys}
        if rnd.random() < 0.7:
            await self._clock.sleep(rnd.choice([0.01, 0.03, 0.1, 0.1, 0.5, 2.0, 12.0]))
        else:
            await ticks(rnd.randrange(4))
        what = rnd.random()
        if what < 0.05:
            raise SourceError(family)
        if what < 0.07:
            raise asyncio.CancelledError
        if what < 0.3:
            found = {key: (family, key, self.version(family, key)) for key in found}
        return found


def is_absent(version: int) -> bool:
    return version % 5 == 4


class Process:
    """One cache with families of several kinds, and what it must not show any more.

    Attributes:
        floors: By family and key, the version whose invalidation has returned here.
    """

    def __init__(self, cache: TierCache, source: Source, rnd: random.Random) -> None:
        self.cache = cache
        self.floors: dict[tuple[str, int], int] = {}
        self.single: dict[str, Any] = {}
        self.many: dict[str, Any] = {}
        self._declare_functions(source, rnd)
        self._declare_methods(source, rnd)

    def _declare_functions(self, source: Source, rnd: random.Random) -> None:
        @self.cache.cached("fun:{key}", negative_ttl=20, early=2, soft_timeout=1)
        async def fun(key: int) -> Value:
            return present((await source.read("fun", [key]))[key])

        @fun.batch
        async def funs(keys: list[int]) -> dict[int, Value]:
            return with_errors(await source.read("fun", keys), rnd)

        @self.cache.cached("nm:{key}", grace=1000, ttl=8, on_abandon="finish", isolation="copy")
        async def nm(key: int, context: LoadContext = LoadContext()) -> Value:
            value = (await source.read("nm", [key]))[key]
            if context.etag == str(value[2]):
                return context.not_modified()
            context.etag = str(value[2])
            return value

        self.single |= {"fun": fun, "nm": nm}
        self.many |= {"fun": funs}

    def _declare_methods(self, source: Source, rnd: random.Random) -> None:
        class Repository:
            @self.cache.cached("met:{key}", isolation="check", negative_ttl=20)
            async def met(self, key: int) -> Value:
                return present((await source.read("met", [key]))[key])

            @met.batch
            async def mets(self, keys: list[int]) -> dict[int, Value]:
                return with_errors(await source.read("met", keys), rnd)

        repository = Repository()
        self.single["met"] = repository.met
        self.many["met"] = repository.mets


def present(value: Value) -> Value:
    if is_absent(value[2]) and value[0] != "nm":
        raise LookupError(value)
    return value


def with_errors(found: dict[int, Value], rnd: random.Random) -> dict[int, Any]:
    """Leave out what is absent; let single ids fail."""
    answer: dict[int, Any] = {key: each for key, each in found.items() if not is_absent(each[2])}
    if answer and rnd.random() < 0.05:
        answer[rnd.choice(list(answer))] = SourceError("one")
    return answer


class Schedule:
    """One run of random steps, and its checks."""

    def __init__(self, seed: int) -> None:
        self.rnd = rnd = random.Random(seed)
        self.clock = FakeClock()
        self.server = MemoryServer(self.clock)
        self.source = Source(self.clock, rnd)
        policy = Policy(ttl=1000, l1_ttl=5, load_limit=10, jitter=0.1)
        self.processes = [
            Process(
                TierCache(
                    namespace="test",
                    client=self.server.client(),
                    clock=self.clock,
                    policy=policy,
                    max_loads=rnd.choice([None, 1, 3]),
                ),
                self.source,
                rnd,
            )
            for _ in range(2)
        ]
        # One family, or all: what they share, and what only happens where many meet.
        self.families = rnd.choice([["fun"], ["met"], ["nm"], ["fun", "met", "nm"]])
        self.running: list[asyncio.Task[None]] = []
        self.problems: list[str] = []
        self.steps: list[tuple[int, Callable[[], Any]]] = [
            (20, self.read_one),
            (15, self.read_many),
            (6, self.look),
            (5, self.refresh),
            (12, self.invalidate),
            (5, self.invalidate_after_commit),
            (4, self.write),
            (12, self.cancel),
            (10, self.break_something),
            (4, self.heal),
            (2, self.lose_everything),
        ]

    async def run(self) -> None:
        for process in self.processes:
            await process.cache.__aenter__()
        weights = [weight for weight, _ in self.steps]
        for _ in range(STEPS):
            (step,) = self.rnd.choices(self.steps, weights)
            step[1]()
            self.clock.draw = self.rnd.random() * 0.999
            if self.rnd.random() < 0.3:
                await self.clock.advance(self.rnd.choice([0.01, 0.01, 0.05, 0.1, 0.4, 1.5, 6.0]))
            else:
                await ticks(self.rnd.randrange(12))
        await self.end()

    # Steps.

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        self.running.append(asyncio.ensure_future(work))

    def pick(self) -> tuple[Process, str, int]:
        process = self.rnd.choice(self.processes)
        return process, self.rnd.choice(self.families), self.rnd.randrange(KEYS)

    def read_one(self) -> None:
        process, family, key = self.pick()
        self.start(self._read(process, family, key, process.single[family]))

    def refresh(self) -> None:
        process, family, key = self.pick()
        self.start(self._read(process, family, key, process.single[family].refresh))

    async def _read(self, process: Process, family: str, key: int, call: Any) -> None:
        floor = process.floors.get((family, key), 0)
        with suppress(*ALLOWED):
            self.check(family, key, floor, await call(key))

    def read_many(self) -> None:
        process = self.rnd.choice(self.processes)
        family = self.rnd.choice(self.families)
        keys = self.rnd.sample(range(KEYS), self.rnd.randint(1, KEYS))
        if family in process.many:
            self.start(self._read_many(process, family, keys))

    async def _read_many(self, process: Process, family: str, keys: list[int]) -> None:
        floors = {key: process.floors.get((family, key), 0) for key in keys}
        with suppress(*ALLOWED):
            found = await process.many[family](keys)
            for key in keys:
                self.check(family, key, floors[key], found.get(key))

    def look(self) -> None:
        process = self.rnd.choice(self.processes)
        self.start(self._look(process, self.rnd.choice(self.families)))

    async def _look(self, process: Process, family: str) -> None:
        floors = {key: process.floors.get((family, key), 0) for key in range(KEYS)}
        found = await process.cache.get_many([f"{family}:{key}" for key in range(KEYS)])
        for key in range(KEYS):
            value = found.get(f"{family}:{key}", MISSING)
            if value is not MISSING:
                self.check(family, key, floors[key], tuple(value))

    def invalidate(self) -> None:
        self.start(self._invalidate(*self.pick()))

    async def _invalidate(self, process: Process, family: str, key: int) -> None:
        version = self.source.change(family, key)
        await process.single[family].invalidate(key)
        self.raise_floor(process, family, key, version)

    def invalidate_after_commit(self) -> None:
        self.start(self._invalidate_after_commit(*self.pick()))

    async def _invalidate_after_commit(self, process: Process, family: str, key: int) -> None:
        other, fails = (key + 1) % KEYS, self.rnd.random() < 0.2
        versions: dict[int, int] = {}
        with suppress(SourceError):
            async with process.cache.after_commit():
                for each in (key, other):
                    await process.single[family].invalidate(each)
                if fails:
                    raise SourceError
                await ticks(self.rnd.randrange(6))
                versions = {each: self.source.change(family, each) for each in (key, other)}
        for each, version in versions.items():
            self.raise_floor(process, family, each, version)

    def write(self) -> None:
        self.start(self._write(*self.pick()))

    async def _write(self, process: Process, family: str, key: int) -> None:
        async with process.cache.writing(f"{family}:{key}"):
            await ticks(self.rnd.randrange(6))
            version = self.source.change(family, key)
        self.raise_floor(process, family, key, version)

    def raise_floor(self, process: Process, family: str, key: int, version: int) -> None:
        process.floors[family, key] = max(process.floors.get((family, key), 0), version)

    def cancel(self) -> None:
        left = [task for task in self.running if not task.done()]
        if left:
            self.rnd.choice(left).cancel()

    def break_something(self) -> None:
        faults, rnd = self.server.faults, self.rnd
        kind = rnd.choice([faults.drop, faults.lose, faults.refuse])
        groups: list[tuple[Operation, ...]] = [
            ("get_many",),
            ("take", "mark"),
            ("commit", "stamp"),
            ("invalidate",),
            ("invalidate",),
            ("release", "renew"),
        ]
        if rnd.random() < 0.1:
            self.server.connected = False
        elif rnd.random() < 0.1:
            faults.at_random(0.1, rnd.random)
        else:
            kind(*rnd.choice(groups), times=rnd.randint(1, 4))

    def heal(self) -> None:
        self.server.faults.clear()
        self.server.connected = True

    def lose_everything(self) -> None:
        self.start(self._lose_everything())

    async def _lose_everything(self) -> None:
        if self.server.connected:
            with suppress(RedisError, OSError):
                await self.server.client().flushall()

    # Checks.

    def check(self, family: str, key: int, floor: int, value: Any) -> None:
        """Note a value that is of another key, or older than it may be."""
        now = self.source.version(family, key)
        if value is None:
            if not any(is_absent(version) for version in range(floor, now + 1)):
                self.problems.append(f"{family}:{key} is absent, floor {floor}, now {now}")
        elif tuple(value[:2]) != (family, key):
            self.problems.append(f"{family}:{key} got {value}")
        elif not floor <= value[2] <= now:
            self.problems.append(f"{family}:{key} got {value}, floor {floor}, now {now}")

    async def end(self) -> None:
        """Heal all, let everything end, and look at what is left."""
        self.heal()
        for _ in range(PATIENCE):
            await self.clock.advance(1)
            pending = sum(each.cache._core.ledger.pending for each in self.processes)
            if all(task.done() for task in self.running) and not pending:
                break
        self.problems += [f"hangs: {task}" for task in self.running if not task.done()]
        for task in self.running:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self.problems.append(f"raised: {task.exception()!r}")
        await self._run_out()
        await self._read_all()
        for process in self.processes:
            self.problems += self.left_by(process)
        await self._run_out()
        self.problems += await self._leases()
        for process in self.processes:
            await process.cache.aclose()
        assert self.problems == []

    async def _run_out(self) -> None:
        """Let background loads, leases and the copies in L1 come to their end."""
        for _ in range(4):
            await self.clock.advance(PATIENCE / 4)
        for process in self.processes:
            async with asyncio.timeout(5):
                await settled(process.cache)

    async def _read_all(self) -> None:
        """Whatever was invalidated by anybody is gone for all."""
        for process in self.processes:
            for family in process.single:
                for key in range(KEYS):
                    reading = asyncio.ensure_future(
                        self._read_now(process, family, key, self.source.version(family, key))
                    )
                    for _ in range(PATIENCE):
                        if reading.done():
                            break
                        await self.clock.advance(1)
                    await asyncio.gather(reading, return_exceptions=True)

    async def _read_now(self, process: Process, family: str, key: int, version: int) -> None:
        with suppress(*ALLOWED):
            if family in process.many:
                self.check(family, key, version, (await process.many[family]([key])).get(key))
            else:
                self.check(family, key, version, await process.single[family](key))

    def left_by(self, process: Process) -> list[str]:
        """Return what a cache with nothing to do has left."""
        core, counts = process.cache._core, process.cache._families.counts.values()
        statistics = process.cache.statistics()
        store = core.store
        assert store is not None
        rules = {
            "no flights": not len(core.flights),
            "no tasks": not len(core.tasks) and not len(core.loads),
            "nothing pending": not core.ledger.pending,
            "no turns held": not statistics.loads_running and not core.bulkhead.full,
            "nobody waits": not statistics.loads_waiting,
            "no refreshes counted": not core.runner._refreshes,
            "entries counted": sum(each.l1_entries for each in counts) == len(store),
            "bytes counted": sum(each.l1_bytes for each in counts) == store.bytes,
            "no negative counts": all(each.l1_entries >= 0 <= each.l1_bytes for each in counts),
        }
        return [f"not so: {rule}" for rule, holds in rules.items() if not holds] + _broken(core)

    async def _leases(self) -> list[str]:
        """Return which leases and marks L2 still holds."""
        client = self.server.client()
        held = {name: await client.get(name) async for name in client.scan_iter()}
        return [f"left in L2: {name}" for name, raw in held.items() if raw and len(raw) == 17]


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SCHEDULES))
def test_nothing_older_is_shown_and_nothing_is_left(seed: int) -> None:
    """Whatever the order of reads, writes, cancellations and faults."""
    asyncio.run(Schedule(seed).run())
