"""The course of the demo: servers, rows, processes, then phase by phase; returns the results."""

import secrets
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from async_tiercache_integrations.cli.demo import _method, _stores
from async_tiercache_integrations.cli.demo._course import Course
from async_tiercache_integrations.cli.demo._fleet import Fleet
from async_tiercache_integrations.cli.demo._gates import MARGIN
from async_tiercache_integrations.cli.demo._measure import Pages, Phase, Results
from async_tiercache_integrations.cli.demo._pages import Chapter, names_of
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._setting import Setting
from async_tiercache_integrations.cli.demo._stores import Database, Redis
from async_tiercache_integrations.cli.demo._view import View
from async_tiercache_integrations.cli.demo._workload import Sizes

STALENESS_BOUND: Final = 2.0
"""The shop's `staleness_bound` in seconds: how long another process may serve its old copy."""


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
        http: Whether the chapter about HTTP is part of it.
        clients: Clients there, over all servers.
        askers: Clients of a stampede there; each takes a socket.
        changes: Price changes there.
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
    http: bool = False
    clients: int = 24
    askers: int = 300
    changes: int = 12


class Run:
    """One run of the demo."""

    def __init__(self, options: Options, view: View) -> None:
        self._options = options
        self._view = view
        self._namespace = f"tiercache-demo-{secrets.token_hex(4)}"
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
            if self._options.http:
                await self._pages(sandbox, redis, database)
            self._view.step("Stopping everything")
        self._results.finished = datetime.now().astimezone().strftime("%Y-%m-%d %H:%M %Z")
        return self._results

    async def _phases(
        self, redis: Redis, database: Database, uncached: Fleet, cached: Fleet
    ) -> None:
        names = ["No cache", "Cold", "Warm", "Stampede"]
        names += ["Redis killed", "Redis back"] * (redis.server is not None)
        if self._options.http:
            names += names_of(redis)
        self._view.planned(names)
        results, seconds = self._results, self._options.seconds
        course = Course(
            database, self._view, users=self._options.users,
            phases=results.phases, marks=results.marks,
        )  # fmt: skip
        await course.run(Phase("No cache", "every read is a statement"), uncached, seconds)
        await course.run(Phase("Cold", "the cache is on, both tiers are empty"), cached, seconds)
        await course.run(Phase("Warm", "the same load goes on"), cached, seconds)
        await self._stampedes(cached, database)
        if redis.server is not None:
            killed = Phase("Redis killed", "SIGKILL under load; each process is left with its L1")
            back = Phase("Redis back", "restarted empty on the same port, under load")
            await course.run(killed, cached, seconds, ("SIGKILL", redis.server.kill))
            await course.run(back, cached, seconds, ("restart", redis.server.start))

    async def _pages(self, sandbox: Sandbox, redis: Redis, database: Database) -> None:
        """Let the shop show pages, in processes of their own."""
        options, results = self._options, self._results
        setting = self._setting(database, sandbox, "pages")
        results.pages = Pages(bound=results.bound, margin=results.margin)
        chapter = Chapter(
            sandbox=sandbox, redis=redis, database=database, view=self._view,
            setting=setting, namespace=self._namespace,
        )  # fmt: skip
        await chapter(options, results.pages)

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
        # What a fleet without a cache read or acknowledged is nothing to the other.
        setting = self._setting(database, sandbox, str(cached))
        settings = [replace(setting, number=number) for number in range(self._options.processes)]
        environment = {
            "SHOP_REDIS_URL": redis.url,
            "SHOP_NAMESPACE": self._namespace,
            "SHOP_CACHE": "on" if cached else "off",
        }
        return Fleet(sandbox, settings, environment)

    def _setting(self, database: Database, sandbox: Sandbox, whose: str) -> Setting:
        return Setting(
            number=0,
            database_url=database.url,
            boards=str(sandbox.path / f"boards-{whose}"),
            seen=str(sandbox.path / f"seen-{whose}"),
            sizes=self._options.sizes,
            oldest=STALENESS_BOUND + MARGIN,
            think_seconds=self._options.think_seconds,
            counts_statements=not database.counts,
        )

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
        if options.http:
            pages = _method.PAGES.format(clients=options.clients)
            self._results.setting.append(("Pages", pages))
            self._results.caveats.append(_method.BEHIND_HTTP)
