"""What does a call for 1,000 ids cost, in units of one MGET of them and of decoding it?

All are in Redis and none in memory.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from async_tiercache.testing import settled
from benchmarks._apart import Group
from benchmarks._harness import Case, Effort
from benchmarks._server import caches, client_of, server
from benchmarks.l2 import plain

_msgpack: Final[Any] = msgpack  # it has no types

IDS: Final = 1_000


@asynccontextmanager
async def batches(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up calls for all ids at once."""
    async with server() as url, caches(url, None) as (cache,), client_of(url) as client:
        ids = list(range(IDS))
        names = [f"plain:{each}" for each in ids]

        @cache.cached("row:{user_id}")
        async def row(user_id: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - plain data
            return plain(user_id)

        @row.batch
        async def rows(user_ids: list[int]) -> dict[int, Any]:
            return {each: plain(each) for each in user_ids}

        for each, name in zip(ids, names, strict=True):
            await client.set(name, _msgpack.packb(plain(each)))
        await rows(ids)
        await settled(cache)

        async def ours(calls: Sequence[int]) -> None:
            for _ in calls:
                await rows(ids)

        async def by_hand(calls: Sequence[int]) -> None:
            for _ in calls:
                values = await client.mget(names)
                dict(zip(ids, map(_msgpack.unpackb, values), strict=True))

        def check() -> None:
            assert cache.statistics().misses == IDS

        yield [
            Case(
                name=f"a batch of {IDS:,}, all in L2",
                subject=ours,
                floor=by_hand,
                floor_name="redis-py MGET + msgpack",
                keys=range(max(1, int(20 * effort.scale))),
                bars={"wall": 1.3, "cpu": 1.3},
                check=check,
            )
        ]


GROUPS: Final[dict[str, Group]] = {"batches": batches}
