"""The clients of the shop's pages, in a process of their own: they ask, compare and count.

Run as a module with a `Setting` as JSON argument, and commanded as `_pipe` says.
"""

import asyncio
import json
import random
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from async_tiercache_integrations.cli.demo import _pipe
from async_tiercache_integrations.cli.demo._connection import TIER, Connection
from async_tiercache_integrations.cli.demo._measure import Answerer, Tally
from async_tiercache_integrations.cli.demo._seed import CATEGORIES
from async_tiercache_integrations.cli.demo._setting import Setting
from async_tiercache_integrations.cli.demo._witness import Witness
from async_tiercache_integrations.cli.demo._workload import Sizes, Zipf

RESERVED: Final = 10
"""So many articles, the last ones, no visitor asks for: they are there for the price changes."""

SHOWN: Final = 500
"""Of the others so many are asked for, at most: a short run reads most of them more than once."""

CHANGES: Final = 0.005
"""The share of requests that change a price."""

_REMEMBERING: Final = 3  # each third client remembers what it got, as browsers do

_TIERS: Final[dict[bytes, Answerer]] = {b"l1": "l1", b"l2": "l2"}


def reserved(sizes: Sizes, number: int) -> int:
    """Return the id of an article that no visitor draws."""
    return sizes.products - number % RESERVED


def price_of(chance: random.Random) -> bytes:
    """Return a body that asks for a price."""
    return b'{"price": "%d.%02d"}' % (chance.randrange(2, 500), chance.randrange(100))


class Visitors:
    """The clients, who share the servers evenly, and what they saw."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._chance = random.Random(setting.number)
        self._product_ids = Zipf(min(SHOWN, setting.sizes.products - RESERVED))
        # A change is the own one of the server that made it.
        keys = setting.sizes.products
        self._witnesses = [
            Witness(Path(setting.boards), keys, limit=setting.oldest) for _ in setting.ports
        ]
        self._running = False
        self._tasks: list[asyncio.Task[None]] = []
        self._tally = Tally()
        self._worked = time.process_time()

    async def obey(self, command: Mapping[str, Any]) -> float:
        """Let clients come in or leave, or all ask for one cold report."""
        if command["do"] == "start":
            visits = [self._visit(number) for number in range(command["users"])]
            self._running = True
            self._tasks = [asyncio.create_task(visit, name="visitor") for visit in visits]
        elif command["do"] == "stop":
            self._running = False
            await asyncio.gather(*self._tasks)
            self._tasks = []
        elif command["do"] == "stampede":
            return await self._stampede(command["readers"], command["region"], command["at"])
        return 0.0

    async def _visit(self, number: int) -> None:
        server = number % len(self._setting.ports)
        remembered: dict[int, bytes] | None = {} if number % _REMEMBERING == 0 else None
        async with Connection(self._setting.ports[server]) as connection:
            while self._running:
                product_id = self._product_ids.draw(self._chance.random())
                try:
                    if self._chance.random() < CHANGES:
                        await self._change(connection, server, product_id)
                    else:
                        await self._read(connection, server, product_id, remembered)
                except Exception as error:  # noqa: BLE001 - whatever a client sees is what is counted
                    self._tally.fail(error)
                    await asyncio.sleep(0.01)  # a server that is gone is not asked in a busy loop

    async def _read(
        self,
        connection: Connection,
        server: int,
        product_id: int,
        remembered: dict[int, bytes] | None,
    ) -> None:
        witness = self._witnesses[server]
        expected = witness.expected(product_id - 1)
        etag = remembered.get(product_id) if remembered is not None else None
        started = time.monotonic()
        response = await connection.get(f"/products/{product_id}", etag)
        elapsed = time.monotonic() - started
        if remembered is not None:
            remembered[product_id] = response.fields[b"etag"]
        tally = self._tally
        tally.latency[_TIERS.get(response.fields[TIER], "loader")].add(elapsed)
        tally.not_modified += response.status == 304
        witness.judge(tally, started, [expected], [response.version])

    async def _change(self, connection: Connection, server: int, product_id: int) -> None:
        path = f"/products/{product_id}/price"
        response = await connection.post(path, price_of(self._chance))
        version = json.loads(response.body)["version"]
        # Redis may not have confirmed it: then the bound holds from here all the same.
        self._witnesses[server].updated(self._tally, product_id - 1, version, None)

    async def _stampede(self, readers: int, region: int, starts_at: float) -> float:
        """Let many clients ask for one cold report at once; return how long the last waited."""
        path = f"/reports/{CATEGORIES}/{region}"
        ports = self._setting.ports
        connections = [Connection(ports[reader % len(ports)]) for reader in range(readers)]
        await asyncio.gather(*(connection.open() for connection in connections))

        async def ask(connection: Connection) -> None:
            await asyncio.sleep(max(0.0, starts_at - time.monotonic()))
            try:
                await connection.get(path)
            except Exception as error:  # noqa: BLE001 - whatever a client sees is what is counted
                self._tally.fail(error)

        started = max(starts_at, time.monotonic())
        await asyncio.gather(*map(ask, connections))
        seconds = time.monotonic() - started
        await asyncio.gather(*(connection.close() for connection in connections))
        return seconds

    def take(self) -> Tally:
        """Return what was counted since the last call."""
        tally, self._tally = self._tally, Tally()
        worked = time.process_time()
        tally.busy_ms = round((worked - self._worked) * 1e3)
        self._worked = worked
        return tally

    def close(self) -> None:
        """Give back the shared files."""
        for witness in self._witnesses:
            witness.close()


async def visit(setting: Setting) -> None:
    """Run all clients until their commands end."""
    visitors = Visitors(setting)
    try:
        await _pipe.obey(visitors)
    finally:
        visitors.close()


if __name__ == "__main__":
    asyncio.run(visit(Setting.from_json(sys.argv[1])))
