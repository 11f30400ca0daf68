"""What does a stampede cost a process, in units of as many tasks that wait for one future?

1,000 readers want a row that nobody has, and its loader waits for an event; or all but one of them
come while it waits. Then as many in four processes, whose loader takes 50 ms: how many loads, and
how long until the last one is served?
Where a reader may be cancelled and the others not, each needs a future of its own.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from statistics import median
from typing import Any, Final, TypeAlias

from async_tiercache_integrations.cli.demo._claims import Claim
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from benchmarks._apart import Group, Question
from benchmarks._child import Child
from benchmarks._harness import Case, Effort
from benchmarks._server import caches, server

READERS: Final = 1_000
PROCESSES: Final = 4
_HEAD_START: Final = 0.1

Crowd: TypeAlias = tuple[
    Callable[[Sequence[int]], Awaitable[None]], float | None, Callable[[], None]
]
"""What is measured, what it may cost, and what looks at it afterwards."""


async def on_one_future(rounds: Sequence[int]) -> None:
    """Let as many tasks wait for one future; none could be cancelled without the others."""

    async def one(future: asyncio.Future[int]) -> int:
        return await future

    for number in rounds:
        future = asyncio.get_running_loop().create_future()
        readers = [asyncio.ensure_future(one(future)) for _ in range(READERS)]
        await asyncio.sleep(0)
        future.set_result(number)
        assert set(await asyncio.gather(*readers)) == {number}


async def on_a_future_each(rounds: Sequence[int]) -> None:
    """Let as many tasks wait for futures of their own."""
    waiting: list[asyncio.Future[int]] = []

    async def one() -> int:
        waiting.append(asyncio.get_running_loop().create_future())
        return await waiting[-1]

    for number in rounds:
        readers = [asyncio.ensure_future(one()) for _ in range(READERS)]
        await asyncio.sleep(0)
        for each in waiting:
            each.set_result(number)
        waiting.clear()
        assert set(await asyncio.gather(*readers)) == {number}


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

        async def ours(rounds: Sequence[int], *, before: int = READERS) -> None:
            for _ in rounds:
                begun.clear()
                gate.clear()
                number = next(numbers)
                readers = [asyncio.ensure_future(row(number)) for _ in range(before)]
                await begun.wait()
                readers += [asyncio.ensure_future(row(number)) for _ in range(READERS - before)]
                await asyncio.sleep(0)
                gate.set()
                assert set(await asyncio.gather(*readers)) == {number}
            crowds[0] += len(rounds)

        def check() -> None:
            assert cache.statistics().loads == crowds[0]

        crowd_of: dict[str, Crowd] = {
            f"a stampede of {READERS:,}": (ours, 1.5, check),
            "the others come during the load": (partial(ours, before=1), 1.5, check),
            "the least in Python: a future for each": (on_a_future_each, None, _fine),
        }
        yield [
            Case(
                name=name,
                subject=subject,
                floor=on_one_future,
                floor_name=f"{READERS:,} tasks on one future",
                keys=range(max(1, int(20 * effort.scale))),
                bars={"cpu": bar},
                check=checked,
            )
            for name, (subject, bar, checked) in crowd_of.items()
        ]


def _fine() -> None:
    """Find nothing wrong: each value was looked at when it came."""


async def processes(effort: Effort) -> list[Claim]:
    """Send crowds of four processes at rows that nobody has, one after the other."""
    async with server() as url, Sandbox() as sandbox:
        children = [Child(sandbox, "benchmarks._crowd") for _ in range(PROCESSES)]
        for child in children:
            await child.start()
            await child.order("open", url=url)
        rounds = [await _crowd(children, number) for number in range(effort.rounds + 1)]
        for child in children:
            await child.kill()
    # In the first one the scripts are sent, and the call paths are new.
    loads, beyond = zip(*rounds[1:], strict=True)
    return list(crowd_claims(loads, beyond))


async def _crowd(children: list[Child], number: int) -> tuple[int, float]:
    """Return how many loads a crowd costs, and what the last reader waited beyond the load."""
    at = time.monotonic() + _HEAD_START
    details: dict[str, Any] = {"number": number, "readers": READERS // PROCESSES, "at": at}
    answers = await asyncio.gather(*(child.order("read", **details) for child in children))
    loads = [took for answer in answers for took in answer["loads"]]
    return len(loads), max(answer["served"] for answer in answers) - at - max(loads)


def crowd_claims(loads: Sequence[int], beyond: Sequence[float]) -> Iterator[Claim]:
    """Judge by what each crowd cost: loads, and seconds beyond the load."""
    crowd = f"{READERS:,} readers in {PROCESSES} processes"
    yield Claim(
        classical="A stampede over processes",
        restated=f"Loads for {crowd}, at most",
        measured=max(loads),
        bar=1,
        unit="reads",
    )
    yield Claim(
        classical="A stampede over processes",
        restated="When the last of them is served, beyond the load, in the median",
        measured=median(beyond),
        bar=0.025,
        unit="seconds",
    )


GROUPS: Final[dict[str, Group | Question]] = {"stampedes": stampedes, "processes": processes}
