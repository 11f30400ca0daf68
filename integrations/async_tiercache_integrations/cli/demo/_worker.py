"""One application process: simulated users who call the shop's repositories, and their tally.

Run as a module with a `Setting` as JSON argument, and commanded as `_pipe` says.
"""

import asyncio
import math
import random
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from async_tiercache_integrations.cli.demo import _pipe, shop
from async_tiercache_integrations.cli.demo._answers import Answer, confirmed, current
from async_tiercache_integrations.cli.demo._database import Pool, open_pool
from async_tiercache_integrations.cli.demo._measure import Answerer, Tally
from async_tiercache_integrations.cli.demo._seed import CATEGORIES, REGIONS
from async_tiercache_integrations.cli.demo._setting import Setting
from async_tiercache_integrations.cli.demo._witness import Witness
from async_tiercache_integrations.cli.demo._workload import Kind, Seen, Zipf, board_keys, kind_of

# The last category is kept for stampedes: nobody else ever reads it.
STAMPEDE_CATEGORY: Final = CATEGORIES
_REPORTS: Final = (CATEGORIES - 1) * REGIONS


class Application:
    """The repositories, the users who call them, and what those users saw."""

    def __init__(self, setting: Setting, pool: Pool, *, cached: bool) -> None:
        self._setting = setting
        self._users = shop.Users(pool)
        self._products = shop.Products(pool)
        self._orders = shop.Orders(pool)
        self._unnoted: Answerer = "l1" if cached else "database"
        self._chance = random.Random(setting.number)
        sizes = setting.sizes
        self._user_ids = Zipf(sizes.users)
        self._product_ids = Zipf(sizes.products)
        self._reports = Zipf(_REPORTS)
        # Keys on the board: profiles, then order histories, then products; reports have no version.
        versioned = board_keys(sizes)
        self._witness = Witness(Path(setting.boards), versioned, limit=setting.oldest)
        confirmed.append(self._witness.confirm)
        self._heard = shop.cache.statistics()
        self._first_report = versioned
        self._seen = Seen(Path(setting.seen), versioned + _REPORTS)
        self._running = False
        self._tasks: list[asyncio.Task[None]] = []
        self.tally = Tally()

    async def obey(self, command: Mapping[str, Any]) -> float:
        """Do one command; return how long its part of a stampede took."""
        if command["do"] == "start":
            self.start(command["users"])
        elif command["do"] == "stop":
            await self.stop()
        elif command["do"] == "stampede":
            return await self.stampede(command["readers"], command["region"], command["at"])
        return 0.0

    def start(self, users: int) -> None:
        """Let users come in; each calls, waits a moment, and calls again."""
        self._running = True
        self._tasks = [asyncio.create_task(self._visit(), name=f"user-{n}") for n in range(users)]

    async def stop(self) -> None:
        """Let each user finish the current call and leave."""
        self._running = False
        await asyncio.gather(*self._tasks)
        self._tasks = []

    async def stampede(self, readers: int, region: int, starts_at: float) -> float:
        """Let many readers ask for one cold report at once; return how long the last one waited."""

        async def ask() -> None:
            current.set(Answer())
            await asyncio.sleep(max(0.0, starts_at - time.monotonic()))
            await self._answered(self._products.sales, STAMPEDE_CATEGORY, region)

        await asyncio.gather(*(ask() for _ in range(readers)))
        return time.monotonic() - starts_at

    async def _visit(self) -> None:
        current.set(Answer())
        pause = 1 / self._setting.think_seconds
        while self._running:
            await asyncio.sleep(self._chance.expovariate(pause))
            await self._call(kind_of(self._chance.random()))

    async def _call(self, kind: Kind) -> None:
        draw = self._chance.random
        sizes = self._setting.sizes
        if kind == "profile":
            user_id = self._user_ids.draw(draw())
            await self._read(self._users.profile, user_id, version=user_id - 1)
        elif kind == "orders":
            user_id = self._user_ids.draw(draw())
            key = sizes.users + user_id - 1
            # It shows the user's name, too: an update of the profile must end it.
            await self._read(self._orders.recent, user_id, version=key, user_version=user_id - 1)
        elif kind == "product":
            product_id = self._product_ids.draw(draw())
            key = 2 * sizes.users + product_id - 1
            await self._read(self._products.product, product_id, version=key)
        elif kind == "sales":
            await self._report(self._reports.draw(draw()) - 1)
        else:
            await self._update()

    async def _update(self) -> None:
        chance, sizes = self._chance, self._setting.sizes
        user_id = self._user_ids.draw(chance.random())
        product_id = self._product_ids.draw(chance.random())
        what = chance.randrange(3)
        if what == 0:
            await self._write(user_id - 1, self._users.rename(user_id, f"User {chance.random()}"))
        elif what == 1:
            key = sizes.users + user_id - 1
            await self._write(key, self._orders.place(user_id, product_id, 1))
        else:
            price = Decimal(chance.randrange(199, 49_999)) / 100
            key = 2 * sizes.users + product_id - 1
            await self._write(key, self._products.reprice(product_id, price))

    async def _read(self, call: Callable[..., Awaitable[Any]], *args: int, **versions: int) -> None:
        """Read what has versions, and compare them with what was acknowledged.

        Args:
            call: Reads it.
            args: Its arguments.
            versions: By the name of each version in the value, its key on the boards; the value's
                own is the first.
        """
        expected = [self._witness.expected(key) for key in versions.values()]
        started = time.monotonic()
        answered = await self._answered(call, *args)
        if answered is None:
            return
        self.tally.first += self._seen.first(expected[0].key)
        seen = [getattr(answered[0], name) for name in versions]
        self._witness.judge(self.tally, started, expected, seen)

    async def _report(self, report: int) -> None:
        region, category = divmod(report, CATEGORIES - 1)
        answered = await self._answered(self._products.sales, category + 1, region + 1)
        if answered is not None:
            self.tally.reports.add(answered[1])
            self.tally.first += self._seen.first(self._first_report + report)

    async def _answered(
        self, call: Callable[..., Awaitable[Any]], *args: int
    ) -> tuple[Any, float] | None:
        """Return a value and the seconds it took, counted by who answered; `None` if it raised."""
        answer = current.get()
        assert answer is not None
        answer.read = None
        started = time.monotonic()
        try:
            value = await call(*args)
        except Exception as error:  # noqa: BLE001 - whatever a caller sees is what is counted
            self.tally.fail(error)
            return None
        elapsed = time.monotonic() - started
        self.tally.latency[answer.read.tier if answer.read else self._unnoted].add(elapsed)
        self.tally.joined += bool(answer.read and answer.read.joined)
        return value, elapsed

    async def _write(self, board_key: int, update: Awaitable[int]) -> None:
        answer = current.get()
        assert answer is not None
        answer.invalidated = None
        try:
            version = await update
        except Exception as error:  # noqa: BLE001 - whatever a caller sees is what is counted
            self.tally.fail(error)
            return
        self._witness.updated(self.tally, board_key, version, answer.invalidated)

    def take(self) -> Tally:
        """Return what was counted since the last call."""
        now, before, tally = shop.cache.statistics(), self._heard, self.tally
        self._heard, self.tally = now, Tally()
        tally.l1_bypasses = now.l1_bypasses - before.l1_bypasses
        tally.bus_gaps = now.bus_gaps - before.bus_gaps
        for bound, count, counted in zip(
            (*now.bus_lags.bounds, math.inf), now.bus_lags.counts, before.bus_lags.counts,
            strict=True,
        ):  # fmt: skip
            if count > counted:
                tally.bus_lags[str(bound)] = count - counted
        return tally

    def close(self) -> None:
        """Give back the shared files."""
        confirmed.remove(self._witness.confirm)
        self._witness.close()
        self._seen.close()


async def serve(setting: Setting) -> None:
    """Run one application process until its commands end."""
    counter = [0] if setting.counts_statements else None
    async with (
        shop.cache,
        open_pool(setting.database_url, size=setting.pool_size, counter=counter) as pool,
    ):
        application = Application(setting, pool, cached=shop.CACHED)
        try:
            await _pipe.obey(application, counter)
        finally:
            application.close()


if __name__ == "__main__":
    asyncio.run(serve(Setting.from_json(sys.argv[1])))
