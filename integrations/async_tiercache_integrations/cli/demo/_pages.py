"""The chapter about HTTP: pages from three servers, without and with `ResponseCache`."""

import asyncio
import json
import random
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.util import find_spec
from typing import Final, Protocol

from async_tiercache.errors import MissingExtraError
from async_tiercache_integrations.cli.demo._connection import Connection
from async_tiercache_integrations.cli.demo._course import Course
from async_tiercache_integrations.cli.demo._fleet import Fleet
from async_tiercache_integrations.cli.demo._measure import Change, Pages, Phase, Tally
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._setting import Setting
from async_tiercache_integrations.cli.demo._stores import Database, Redis
from async_tiercache_integrations.cli.demo._view import View
from async_tiercache_integrations.cli.demo._visitors import price_of, reserved
from async_tiercache_integrations.cli.demo._wording import duration

PLAIN: Final = "Pages, plain"
CACHED: Final = "Pages, cached"
KILLED: Final = "Pages, no Redis"
_STAMPEDE: Final = "Pages, stampede"
_CHANGES: Final = "Price changes"

STATEMENTS: Final = 3
"""What a page costs without any cache: an article, others like it, and its category."""

_PART: Final = 1 / 4  # of the length of the other phases: more happens in a second
_WARM_UP: Final = 1 / 6  # of that length, too
_KILLED: Final = 1 / 2  # and this; with --quick long enough for the staleness bound to end

_NEEDED: Final = ("fastapi", "uvicorn")


def check_packages() -> None:
    """Refuse to begin what could not be ended.

    Raises:
        MissingExtraError: A package is not installed.
    """
    for name in _NEEDED:
        if find_spec(name) is None:
            raise MissingExtraError(
                f"The demo's option --http needs the package {name!r}, which is not installed",
                hint='pip install "async-tiercache[demo]"',
            )


def names_of(redis: Redis) -> list[str]:
    """Return the names of the phases, in the order in which they run."""
    return [PLAIN, CACHED, _STAMPEDE, _CHANGES, *[KILLED] * (redis.server is not None)]


class Extent(Protocol):
    """How large the run is, as far as the chapter asks."""

    @property
    def seconds(self) -> float: ...
    @property
    def clients(self) -> int: ...
    @property
    def processes(self) -> int: ...
    @property
    def rounds(self) -> int: ...
    @property
    def askers(self) -> int: ...
    @property
    def changes(self) -> int: ...


class _Site:
    """The servers and their clients as one load."""

    def __init__(self, servers: Fleet, visitors: Fleet) -> None:
        self.servers = servers
        self.visitors = visitors

    async def start(self, users: int) -> None:
        await self.servers.tally()  # what was made before is no part of it
        await self.visitors.start(users)

    async def tally(self) -> Tally:
        return await self._with_servers(await self.visitors.tally())

    async def stop(self) -> Tally:
        return await self._with_servers(await self.visitors.stop())

    async def _with_servers(self, seen: Tally) -> Tally:
        seen.merge(await self.servers.tally())
        return seen


class Chapter:
    """Runs the chapter.

    Args:
        sandbox: Holds the processes.
        redis: The Redis; killed at the end, if it is ours.
        database: The database.
        view: Is told of all.
        setting: What the processes have in common.
        namespace: What the namespaces of their caches begin with.
    """

    def __init__(
        self,
        *,
        sandbox: Sandbox,
        redis: Redis,
        database: Database,
        view: View,
        setting: Setting,
        namespace: str,
    ) -> None:
        self._sandbox = sandbox
        self._redis = redis
        self._database = database
        self._view = view
        self._setting = setting
        self._namespace = namespace

    async def __call__(self, extent: Extent, pages: Pages) -> None:
        """Run all phases; what they measure goes into `pages`."""
        course = Course(
            self._database, self._view, users=extent.clients,
            phases=pages.phases, marks=pages.marks, joined=True,
        )  # fmt: skip
        seconds = extent.seconds * _PART
        async with AsyncExitStack() as stack:
            site = await self._site(stack, extent, "off")
            await self._warm_up(site, extent)
            about = "FastAPI over cached repositories, without ResponseCache"
            await course.run(Phase(PLAIN, about, price=STATEMENTS), site, seconds)
        async with AsyncExitStack() as stack:
            site = await self._site(stack, extent, "on")
            await self._warm_up(site, extent)
            about = "the same application behind ResponseCache"
            await course.run(Phase(CACHED, about, price=STATEMENTS), site, seconds)
            await self._stampedes(site, extent, pages)
            await self._change_prices(site, extent, pages)
            if (server := self._redis.server) is not None:
                phase = Phase(KILLED, "SIGKILL under load, and no restart", price=STATEMENTS)
                seconds = extent.seconds * _KILLED
                await course.run(phase, site, seconds, ("SIGKILL", server.kill))

    async def _site(self, stack: AsyncExitStack, extent: Extent, responses: str) -> _Site:
        """Start servers, and then their clients."""
        self._view.step(f"Starting {extent.processes} servers of pages")
        # Each side begins with empty tiers: what the other has cached is nothing to it.
        setting = replace(self._setting, boards=f"{self._setting.boards}-{responses}")
        environment = {
            "SHOP_REDIS_URL": self._redis.url,
            "SHOP_NAMESPACE": f"{self._namespace}-pages-{responses}",
            "SHOP_RESPONSES": responses,
        }
        settings = [replace(setting, number=number) for number in range(extent.processes)]
        fleet = Fleet(self._sandbox, settings, environment, "_server")
        servers = await stack.enter_async_context(fleet)
        told = [replace(setting, ports=servers.ports)]
        visitors = await stack.enter_async_context(Fleet(self._sandbox, told, {}, "_visitors"))
        return _Site(servers, visitors)

    async def _warm_up(self, site: _Site, extent: Extent) -> None:
        """Let clients fill the tiers, unmeasured: both sides are compared warm."""
        self._view.step("Warming up")
        await site.start(extent.clients)
        await asyncio.sleep(extent.seconds * _WARM_UP)
        await site.stop()

    async def _stampedes(self, site: _Site, extent: Extent, pages: Pages) -> None:
        about = f"{extent.askers:,} clients at once of a report that nobody ever asked for"
        self._view.phase_began(Phase(_STAMPEDE, about), 0.0)
        for number in range(1, extent.rounds + 1):
            await site.servers.tally()
            stampede, _ = await site.visitors.stampede(extent.askers, number)
            stampede = replace(stampede, loads=(await site.servers.tally()).made)
            pages.stampedes.append(stampede)
            self._view.stampeded(stampede)

    async def _change_prices(self, site: _Site, extent: Extent, pages: Pages) -> None:
        about = f"{extent.changes:,} changes, and all servers asked until they show them"
        self._view.phase_began(Phase(_CHANGES, about), 0.0)
        connections = [Connection(port) for port in site.servers.ports]
        chance = random.Random(0)
        async with AsyncExitStack() as stack:
            for connection in connections:
                await stack.enter_async_context(connection)
            for number in range(extent.changes):
                product_id = reserved(self._setting.sizes, number)
                own = number % len(connections)
                pages.changes.append(
                    await changed(connections, own, product_id, price_of(chance), pages)
                )
        delays = pages.delays()
        self._view.told(
            f"the other servers showed them within {duration(delays.quantile(0.5))} at the median,"
            f" {duration(delays.highest)} at most"
        )


async def changed(
    connections: Sequence[Connection], own: int, product_id: int, price: bytes, pages: Pages
) -> Change:
    """Change a price by one server, and ask all for the page until each shows it.

    Args:
        connections: One to each server.
        own: Which of them makes the change.
        product_id: The article.
        price: The body that asks for the price.
        pages: Says how old a page may be; a server is not asked for longer than twice that.
    """
    path = f"/products/{product_id}"
    for connection in connections:
        await connection.get(path)  # it is in the memory of each
    response = await connections[own].post(f"{path}/price", price)
    answered = time.monotonic()
    version = json.loads(response.body)["version"]
    patience = 2 * (pages.bound + pages.margin)

    async def until_shown(connection: Connection) -> tuple[float, int]:
        old = 0
        while (await connection.get(path)).version < version:
            old += 1
            if time.monotonic() - answered > patience:
                break
        return time.monotonic() - answered, old

    shown = await asyncio.gather(*map(until_shown, connections))
    others = [each for number, each in enumerate(shown) if number != own]
    return Change(
        own=shown[own][0],
        others=tuple(seconds for seconds, _ in others),
        own_old=shown[own][1],
        others_old=sum(old for _, old in others),
    )
