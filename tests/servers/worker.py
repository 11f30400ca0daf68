"""A process of the service, driven by lines: reads, invalidates, and loads when it is told to.

Run as ``python -m tests.servers.worker URL NAMESPACE``. Each line of its standard input is one JSON
order with a number, each line of its output one JSON report. A load reports that it has begun and
ends when an order gives it its value, so a test forces any schedule between processes.
"""

import asyncio
import json
import os
import sys
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeAlias, cast

from async_tiercache import TierCache, _blocks
from async_tiercache.testing import settled
from tests.servers.source import POLICY

Order: TypeAlias = dict[str, Any]
BLOCK_SECONDS: Final = 2.0


class Worker:
    """Carries out orders with a cache."""

    def __init__(self, cache: TierCache) -> None:
        self._cache = cache
        self._loading: defaultdict[str, deque[asyncio.Future[str]]] = defaultdict(deque)
        self._orders: dict[str, Callable[[Order], Coroutine[Any, Any, Any]]] = {
            "read": self._read,
            "finish": self._finish,
            "write": self._write,
            "change": self._change,
            "invalidate": self._invalidate,
            "settle": self._settle,
            "peek": self._peek,
            "statistics": self._statistics,
        }

    async def carry_out(self, order: Order) -> None:
        """Do what an order says and report its result."""
        try:
            result = await self._orders[order["do"]](order)
        except Exception as error:
            _report(id=order["id"], error=repr(error))
        else:
            _report(id=order["id"], result=result)

    async def _read(self, order: Order) -> list[str]:
        key = order["key"]

        async def load() -> str:
            return await self._told(key)

        tags, count = order.get("tags", ()), order.get("count", 1)
        reads = (self._cache.get_or_load(key, load, tags=tags) for _ in range(count))
        return await asyncio.gather(*reads)

    async def _write(self, order: Order) -> None:
        async with self._cache.writing(order["key"]) as writing:
            writing.set(await self._told(order["key"]))

    async def _change(self, order: Order) -> None:
        """Change a page and its shop, crash-safely; what is reported as a load is the change."""

        @self._cache.invalidates(keys=["page:{page}"], tags=["shop:{shop}"], crash_safe=True)
        async def change(page: str, shop: str) -> str:
            return await self._told(f"page:{page}")

        await change(order["page"], order["shop"])

    async def _told(self, key: str) -> str:
        """Report that a load or write has begun, and return the value that it is to have."""
        value: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._loading[key].append(value)
        _report(loading=key)
        return await value

    async def _finish(self, order: Order) -> None:
        self._loading[order["key"]].popleft().set_result(order["value"])

    async def _invalidate(self, order: Order) -> str:
        return (await self._cache.invalidate(keys=[order["key"]])).l2

    async def _settle(self, order: Order) -> None:
        await settled(self._cache)

    async def _peek(self, order: Order) -> Any:
        core = self._cache._core
        slot = core.tiers.probe(order["key"])
        served = slot is not None and core.clock.monotonic() < slot.soft_deadline
        return slot.value if slot is not None and served else None

    async def _statistics(self, order: Order) -> dict[str, float]:
        statistics = self._cache.statistics()
        names = ("l1_hits", "l2_hits", "loads", "pending")
        overtaken = statistics.not_stored.get("overtaken", 0)
        return {name: getattr(statistics, name) for name in names} | {"overtaken": overtaken}


def _report(**report: Any) -> None:
    os.write(1, json.dumps(report).encode() + b"\n")


async def _main(url: str, namespace: str) -> None:
    # A test that waits for the end of a block should not wait for long.
    cast("Any", _blocks).BLOCK_SECONDS = BLOCK_SECONDS
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with TierCache(url, namespace=namespace, policy=POLICY) as cache:
        worker = Worker(cache)
        _report(ready=True)
        async with asyncio.TaskGroup() as group:
            async for line in orders:
                group.create_task(worker.carry_out(json.loads(line)))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
