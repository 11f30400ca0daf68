"""The course of the demo: servers, rows, processes, then phase by phase; returns what was measured."""

import asyncio
import os
import platform
import secrets
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from async_tiercache._version import __version__
from async_tiercache_integrations.cli.demo import _stores
from async_tiercache_integrations.cli.demo._fleet import Fleet
from async_tiercache_integrations.cli.demo._measure import Phase, Point, Results
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._stores import Database, Redis, Work
from async_tiercache_integrations.cli.demo._view import View
from async_tiercache_integrations.cli.demo._worker import Setting
from async_tiercache_integrations.cli.demo._workload import Sizes

L1_TTL: Final = 2.0
"""The shop's `l1_ttl` in seconds: how long another process may serve its old copy."""

SAMPLE: Final = 0.5  # seconds between two points of a chart

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


class Run:
    """One run of the demo."""

    def __init__(self, options: Options, view: View) -> None:
        self._options = options
        self._view = view
        self._namespace = f"tiercache-demo-{secrets.token_hex(4)}"
        self._began = 0.0
        self._results = Results(bound=L1_TTL)

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
        before = await database.work()
        started = time.monotonic()
        phase.began_at = started - self._began
        self._view.phase_began(phase, seconds)
        await fleet.start(self._options.users)
        sampling = asyncio.create_task(self._sample(phase, fleet, database, before))
        try:
            if incident is not None:
                await asyncio.sleep(seconds / 8)
                self._results.marks.append((time.monotonic() - self._began, incident[0]))
                await incident[1]()
            await asyncio.sleep(max(0.0, started + seconds - time.monotonic()))
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)
        await fleet.stop()
        phase.seconds = time.monotonic() - started
        phase.tally = fleet.tally()
        work = await database.work() - before
        phase.statements = work.statements if database.counts else phase.tally.statements
        phase.database_seconds = work.seconds
        self._results.phases.append(phase)
        self._view.phase_ended(phase)

    async def _sample(
        self, phase: Phase, fleet: Fleet, database: Database, before: Work
    ) -> None:
        at, requests, statements = time.monotonic(), 0, 0
        while True:
            await asyncio.sleep(SAMPLE)
            now, tally = time.monotonic(), fleet.tally()
            work = await database.work() - before
            counted = work.statements if database.counts else tally.statements
            point = Point(
                at=now - self._began,
                requests=(tally.requests - requests) / (now - at),
                statements=(counted - statements) / (now - at),
            )
            at, requests, statements = now, tally.requests, counted
            phase.tally, phase.seconds = tally, now - self._began - phase.began_at
            phase.statements = counted
            phase.points.append(point)
            self._view.sampled(phase, point)

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
        self._results.caveats.append(
            "The Redis was given by --redis-url. It is not ours to kill, so the two phases that"
            " kill and restart it were left out."
        )
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
                # A fleet without a cache acknowledges nothing that the other should know.
                board=str(sandbox.path / f"board-{cached}"),
                sizes=options.sizes,
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
        think = f"{options.think_seconds * 1e3:g} ms"
        self._results.setting += [
            ("Machine", machine()),
            ("Versions", f"async-tiercache {__version__}, Python {platform.python_version()},"
                         f" {redis.version}, {database.version}"),
            ("Rows", f"{sizes.users:,} users, {sizes.orders:,} orders, {sizes.products:,} products"),
            ("Load", f"{options.processes} processes with {options.users} concurrent users each;"
                     f" a user calls, waits {think} on average (exponential), and calls again"),
            ("Mix", "70 % point reads, 20 % joins, 8 % aggregates over all orders, 2 % updates that"
                    " invalidate; keys by Zipf's law with exponent 1.0"),
            ("Cache", f"ttl 1 min, l1_ttl {L1_TTL:g} s, grace 1 min, at most 10,000 entries in L1"),
            ("Statements", f"counted by {database.counted_by}"),
        ]  # fmt: skip
        self._results.caveats += [
            "One machine runs everything: the database, the cache server and the application"
            " processes share its cores, and loopback replaces the network.",
            "The load is a closed loop with think time: a user who waits sends nothing, so a slow"
            " phase gets fewer requests, and its latencies look better than they would to users"
            " who arrive regardless.",
            "Latency is from the call of a repository method to its value, in the event loop of a"
            " busy process. Reads that joined another call's load count for the tier that"
            " answered.",
            "Sales reports carry no version: only point reads and joins are checked for age.",
        ]


def machine() -> str:
    """Describe this machine in a line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    info = Path("/proc/cpuinfo")
    model = platform.processor() or platform.machine()
    if info.exists():
        names = (line for line in info.read_text().splitlines() if line.startswith("model name"))
        model = next(names, f": {model}").split(":", 1)[1].strip()
    return f"{cores} cores, {model}, {platform.system()} {platform.release()}"
