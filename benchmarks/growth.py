"""Does a read cost more as keys or readers become more, in units of the fewest?

From memory, with 1,000 to 1,000,000 keys, all of them held: what grows is what the processor waits
for memory. From Redis, with as many keys, and by 1 to 256 readers. A quick look stops at 100,000
keys.
"""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from async_tiercache import L1, Policy, TierCache
from async_tiercache.testing import settled
from benchmarks._apart import Group
from benchmarks._filled import fill, store
from benchmarks._harness import Case, Effort, Sweep, zipf_keys
from benchmarks._server import caches, server
from benchmarks.hits import over_one
from benchmarks.l2 import in_tasks, plain

KEYS: Final = (1_000, 10_000, 100_000, 1_000_000)
TASKS: Final = (1, 4, 16, 64, 256)


def within(sizes: Sequence[int], effort: Effort) -> Sequence[int]:
    """Return the sizes that there is time for."""
    return sizes[: max(2, len(sizes) - (effort.scale < 1) - (effort.scale < 0.1))]


@asynccontextmanager
async def memory(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up hits in L1, one cache for each number of keys."""
    filled: list[tuple[int, Sweep, TierCache]] = []
    for keys in within(KEYS, effort):
        room = L1(max_entries=keys, max_bytes="4GiB")
        cache = TierCache(namespace="bench", l1=room, policy=Policy(ttl="1h"))

        @cache.cached("one:{number}")
        async def one(number: int) -> int:
            return number

        sweep = over_one(one)
        await sweep([0])
        fill(cache, ((f"one:{number}", number, number) for number in range(1, keys)))
        await sweep(range(keys))
        filled.append((keys, sweep, cache))

    awaits = int(100_000 * effort.scale)
    fewest = on(filled[0][1], zipf_keys(awaits, among=KEYS[0]))

    def check() -> None:
        assert all(cache.statistics().loads == 1 for _, _, cache in filled)

    yield [
        Case(
            name=f"L1 hit, {keys:,} keys",
            subject=sweep,
            floor=fewest,
            floor_name=f"{KEYS[0]:,} keys",
            keys=zipf_keys(awaits, among=keys),
            bars={"cpu": None},
            check=check,
        )
        for keys, sweep, _ in filled[1:]
    ]
    for _, _, cache in filled:
        await cache.aclose()


@asynccontextmanager
async def redis(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up hits in L2: more keys, and more readers of the fewest keys."""
    awaits = int(4_000 * effort.scale)
    sizes = within(KEYS, effort)
    async with server() as url, caches(url, None) as (cache,):

        @cache.cached("row:{user_id}")
        async def row(user_id: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - plain data
            return plain(user_id)

        await row(0)
        await settled(cache)
        await store(url, "bench", "row:0", (f"row:{key}" for key in range(1, sizes[-1])))
        sweep = over_one(row)

        def check() -> None:
            assert cache.statistics().loads == 1

        few = zipf_keys(awaits, among=sizes[0])
        fewest = on(sweep, few)
        more = {f"{keys:,} keys": (sweep, zipf_keys(awaits, among=keys)) for keys in sizes[1:]}
        more |= {f"{tasks} readers": (in_tasks(sweep, tasks), few) for tasks in TASKS[1:]}
        yield [
            Case(
                name=f"L2 hit, {name}",
                subject=subject,
                floor=fewest,
                floor_name=f"{sizes[0]:,} keys, 1 reader",
                keys=drawn,
                bars={"wall": None, "cpu": None},
                check=check,
            )
            for name, (subject, drawn) in more.items()
        ]


def on(sweep: Sweep, keys: Sequence[int]) -> Sweep:
    """Return a sweep over as many of these keys as it is given."""

    async def fixed(given: Sequence[int]) -> None:
        await sweep(keys[: len(given)])

    return fixed


GROUPS: Final[dict[str, Group]] = {"memory": memory, "redis": redis}
