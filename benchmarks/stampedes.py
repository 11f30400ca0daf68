"""What does a stampede cost a process, in units of as many tasks that wait for one future?

1,000 readers want a row that nobody has, and its loader waits for an event.
"""

import asyncio
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from benchmarks._apart import Group
from benchmarks._harness import Case, Effort
from benchmarks._server import caches, server

READERS: Final = 1_000


@asynccontextmanager
async def stampedes(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up crowds, each for a row of its own."""
    async with server() as url, caches(url, None) as (cache,):
        numbers, crowds = itertools.count(), [0]
        begun, gate = asyncio.Event(), asyncio.Event()

        @cache.cached("row:{number}")
        async def row(number: int) -> int:
            begun.set()
            await gate.wait()
            return number

        async def ours(rounds: Sequence[int]) -> None:
            for _ in rounds:
                begun.clear()
                gate.clear()
                number = next(numbers)
                readers = [asyncio.ensure_future(row(number)) for _ in range(READERS)]
                await begun.wait()
                gate.set()
                assert set(await asyncio.gather(*readers)) == {number}
            crowds[0] += len(rounds)

        async def wait_for(future: asyncio.Future[int]) -> int:
            return await future

        async def by_hand(rounds: Sequence[int]) -> None:
            for number in rounds:
                future = asyncio.get_running_loop().create_future()
                readers = [asyncio.ensure_future(wait_for(future)) for _ in range(READERS)]
                await asyncio.sleep(0)
                future.set_result(number)
                assert set(await asyncio.gather(*readers)) == {number}

        def check() -> None:
            assert cache.statistics().loads == crowds[0]

        yield [
            Case(
                name=f"a stampede of {READERS:,}",
                subject=ours,
                floor=by_hand,
                floor_name=f"{READERS:,} tasks on one future",
                keys=range(max(1, int(20 * effort.scale))),
                bars={"cpu": 1.5},
                check=check,
            )
        ]


GROUPS: Final[dict[str, Group]] = {"stampedes": stampedes}
