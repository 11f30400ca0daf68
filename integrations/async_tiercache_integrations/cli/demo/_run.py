"""The course of the demo: servers, rows, processes, then phase by phase; returns the results."""

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final, TypeAlias

from async_tiercache_integrations.cli.demo import _method, _stores
from async_tiercache_integrations.cli.demo._fleet import Fleet
from async_tiercache_integrations.cli.demo._gates import MARGIN
from async_tiercache_integrations.cli.demo._measure import Phase, Point, Results, Tally
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._setting import Setting
from async_tiercache_integrations.cli.demo._stores import Database, Redis, Work
from async_tiercache_integrations.cli.demo._view import View
from async_tiercache_integrations.cli.demo._workload import Sizes

STALENESS_BOUND: Final = 2.0
"""The shop's `staleness_bound` in seconds: how long another process may serve its old copy."""

SAMPLE: Final = 0.5  # seconds between two points of a chart

_INCIDENT_AT: Final = 1 / 8  # of a phase, so that the chart shows what was before

Incident: TypeAlias = tuple[str, Callable[[], Awaitable[None]]]


@dataclass(frozen=True, slots=True)
class Options:
    """How large the run is.

    Attributes:
        seconds: The length of each phase.
        users: Concurrent users in each application process.
        processes: Application processes.
        readers: Readers of a stampede, over all processes.
        rounds: Stampedes.
        redis_url: A Redis to use instead of our own.
        database_url: A database to use instead of our own.
        sizes: Rows.
        think_seconds: How long a user waits on average between two calls.
    """

    seconds: float = 18.0
    users: int = 40
    processes: int = 3
    readers: int = 1_000
    rounds: int = 5
    redis_url: str | None = None
    database_url: str | None = None
    sizes: Sizes = field(default_factory=Sizes)
    think_seconds: float = 0.025


class _Sampler:
    """Brings a running phase up to date."""

    def __init__(self, phase: Phase, database: Database, before: Work) -> None:
        self._phase = phase
        self._database = database
        self._before = before

    async def sample(self, news: Tally, elapsed: float, *, last: bool = False) -> Point:
        """Add what was seen since the last sample; return the rates since then.

        Args:
            news: What callers saw.
            elapsed: Seconds since the phase began.
            last: Whether users are leaving, so that the rates mean nothing.
        """
        phase = self._phase
        work = await self._database.work() - self._before
        counted = phase.tally.statements + news.statements
        statements = work.statements if self._database.counts else counted
        took = max(elapsed - phase.seconds, 1e-9)
        point = Point(
            at=phase.began_at + elapsed,
            requests=news.requests / took,
            statements=(statements - phase.statements) / took,
        )
        phase.tally.merge(news)
        phase.seconds, phase.statements = elapsed, statements
        phase.database_seconds = work.seconds
        if not last:
            phase.points.append(point)
        return point


class Run:
    """One run of the demo."""

    def __init__(self, options: Options, view: View) -> None:
        self._options = options
        self._view = view
        self._namespace = f"tiercache-demo-{secrets.token_hex(4)}"
        self._began = 0.0
        self._results = Results(bound=STALENESS_BOUND, margin=MARGIN)

    async def __call__(self) -> Results:
        """Do everything, and leave nothing behind.

        Raises:
            ServerError: A server could not be had.
            ProcessDiedError: An application process ended.
        """
        async with Sandbox() as sandbox, AsyncExitStack() as stack:
            self._view.step("Starting Valkey and PostgreSQL")
            redis = await stack.enter_async_context(self._redis(sandbox))
            database = await stack.enter_async_context(self._database(sandbox))
            self._describe(redis, database)
            self._view.step(f"Starting {self._options.processes} application processes")
            async with (
                self._fleet(sandbox, redis, database, cached=False) as uncached,
                self._fleet(sandbox, redis, database, cached=True) as cached,
            ):
                await self._phases(redis, database, uncached, cached)
            self._view.step("Stopping everything")
        self._results.finished = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        return self._results

    async def _phases(
        self, redis: Redis, database: Database, uncached: Fleet, cached: Fleet
    ) -> None:
        names = ["No cache", "Cold", "Warm", "Stampede"]
        self._view.planned(names + ["Redis killed", "Redis back"] * (redis.server is not None))
        self._began = time.monotonic()
        await self._load(Phase("No cache", "every read is a statement"), uncached, database)
        await self._load(Phase("Cold", "the cache is on, both tiers are empty"), cached, database)
        await self._load(Phase("Warm", "the same load goes on"), cached, database)
        await self._stampedes(cached, database)
        if redis.server is not None:
            killed = Phase("Redis killed", "SIGKILL under load; each process is left with its L1")
            back = Phase("Redis back", "restarted empty on the same port, under load")
            await self._load(killed, cached, database, ("SIGKILL", redis.server.kill))
            await self._load(back, cached, database, ("restart", redis.server.start))

    async def _load(
        self, phase: Phase, fleet: Fleet, database: Database, incident: Incident | None = None
    ) -> None:
        """Run one phase: users come in, something may happen, users leave."""
        seconds = self._options.seconds
        sampler = _Sampler(phase, database, await database.work())
        started = time.monotonic()
        phase.began_at = started - self._began
        self._view.phase_began(phase, seconds)
        await fleet.start(self._options.users)
        while (left := started + seconds - time.monotonic()) > SAMPLE / 4:
            if incident is not None and left <= seconds * (1 - _INCIDENT_AT):
                self._results.marks.append((time.monotonic() - self._began, incident[0]))
                await incident[1]()
                incident = None
            # The last sample may be longer: a very short one has no meaningful rate.
            pause = SAMPLE if left > 1.5 * SAMPLE else left
            if incident is not None:
                pause = min(pause, left - seconds * (1 - _INCIDENT_AT))
            await asyncio.sleep(pause)
            point = await sampler.sample(await fleet.tally(), time.monotonic() - started)
            self._view.sampled(phase, point)
        await sampler.sample(await fleet.stop(), time.monotonic() - started, last=True)
        self._results.phases.append(phase)
        self._view.phase_ended(phase)

    async def _stampedes(self, fleet: Fleet, database: Database) -> None:
        readers = self._options.readers
        self._view.phase_began(
            Phase("Stampede", f"{readers:,} readers at once of a key that nobody ever read"), 0.0
        )
        for region in range(1, self._options.rounds + 1):
            before = await database.work()
            stampede, tally = await fleet.stampede(readers, region)
            work = await database.work() - before
            loads = work.statements if database.counts else tally.statements
            stampede = replace(stampede, loads=loads)
            self._results.stampedes.append(stampede)
            self._view.stampeded(stampede)

    def _redis(self, sandbox: Sandbox) -> AbstractAsyncContextManager[Redis]:
        url = self._options.redis_url
        if url is None:
            return _stores.own_redis(sandbox)
        self._results.caveats.append(_method.NOT_KILLED)
        return _stores.given_redis(url, self._namespace)

    def _database(self, sandbox: Sandbox) -> AbstractAsyncContextManager[Database]:
        sizes, url = self._options.sizes, self._options.database_url
        if url is None:
            return _stores.own_database(sandbox, sizes, self._view.seeded)
        return _stores.given_database(url, sizes, self._view.seeded)

    def _fleet(
        self, sandbox: Sandbox, redis: Redis, database: Database, *, cached: bool
    ) -> AbstractAsyncContextManager[Fleet]:
        options = self._options
        settings = [
            Setting(
                number=number,
                database_url=database.url,
                # What a fleet without a cache read or acknowledged is nothing to the other.
                boards=str(sandbox.path / f"boards-{cached}"),
                seen=str(sandbox.path / f"seen-{cached}"),
                sizes=options.sizes,
                oldest=STALENESS_BOUND + MARGIN,
                think_seconds=options.think_seconds,
                counts_statements=not database.counts,
            )
            for number in range(options.processes)
        ]
        environment = {
            "SHOP_REDIS_URL": redis.url,
            "SHOP_NAMESPACE": self._namespace,
            "SHOP_CACHE": "on" if cached else "off",
        }
        return Fleet(sandbox, settings, environment)

    def _describe(self, redis: Redis, database: Database) -> None:
        options, sizes = self._options, self._options.sizes
        rows = f"{sizes.users:,} users, {sizes.orders:,} orders, {sizes.products:,} products"
        load = (
            f"{options.processes} processes with {options.users} concurrent users each; a user"
            f" calls, waits {options.think_seconds * 1e3:g} ms on average (exponential), and calls"
            " again"
        )
        self._results.setting += [
            ("Machine", _method.machine()),
            ("Versions", _method.versions(redis.version, database.version)),
            ("Rows", rows),
            ("Load", load),
            ("Mix", _method.MIX),
            ("Cache", f"staleness_bound {STALENESS_BOUND:g} s, {_method.POLICY}"),
            ("Statements", f"counted by {database.counted_by}"),
        ]
        self._results.caveats += _method.CAVEATS
