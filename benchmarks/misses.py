"""What does a miss cost beside its loader, in units of two turns of redis-py?

A miss asks, takes a lease, and stores what was loaded under it; by hand one would ask and store.
The loader returns at once. What goes on behind the caller's back is waited for, on both sides.
"""

import itertools
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


@asynccontextmanager
async def misses(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up reads of what is nowhere."""
    async with server() as url, caches(url, None) as (cache,), client_of(url) as client:
        numbers, asked = itertools.count(), [0]

        @cache.cached("row:{user_id}")
        async def row(user_id: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - plain data
            return plain(user_id)

        async def ours(calls: Sequence[int]) -> None:
            for _ in calls:
                await row(next(numbers))
            await settled(cache)
            asked[0] += len(calls)

        async def by_hand(calls: Sequence[int]) -> None:
            for _ in calls:
                number = next(numbers)
                assert await client.get(f"plain:{number}") is None
                await client.set(f"plain:{number}", _msgpack.packb(plain(number)), px=3_600_000)

        def check() -> None:
            now = cache.statistics()
            assert (now.loads, now.stores) == (asked[0], asked[0])

        yield [
            Case(
                name="a miss",
                subject=ours,
                floor=by_hand,
                floor_name="redis-py GET and SET",
                keys=range(int(3_000 * effort.scale)),
                bars={"wall": None, "cpu": 1.6},
                check=check,
            )
        ]


GROUPS: Final[dict[str, Group]] = {"misses": misses}
