"""What does a hit in Redis cost, for one reader and for many, in units of redis-py?

The floor is what one would write without a cache library: redis-py GET and msgpack, on the same
server over TCP. It decodes into plain data; ours does so too, and in one case checks and builds a
dataclass. No value is kept in memory, so that every read goes to the server. The least in Python
keeps no promise: it gathers keys in a dict of futures and sends one MGET a tick.

Ours unpacks by msgspec where that is installed, and else by msgpack as the floor does. Each has a
process of its own, and bars of its own.
"""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import asdict
from typing import Any, Final, TypeAlias

import msgpack  # type: ignore[import-untyped]

from async_tiercache import TierCache
from async_tiercache.codecs.msgpack import quick_unpack
from async_tiercache.testing import settled
from benchmarks._apart import Group, require
from benchmarks._bare import bare
from benchmarks._harness import Case, Effort, Sweep, zipf_keys
from benchmarks._server import caches, client_of, server
from benchmarks.hits import a_profile, one, over_one

_msgpack: Final[Any] = msgpack  # it has no types

KEYS: Final = 1_000
FLOOR: Final = "redis-py GET + msgpack"
PROFILES: Final = 50
"""Of about 200 bytes each: a value of 10 KB."""

SMALL: Final = "L2 hit, 200 B"
TYPED: Final = "L2 hit, a dataclass"
LARGE: Final = "L2 hit, 10 KB"
LEAST: Final = "the least in Python, 200 B"


def plain(user_id: int) -> dict[str, Any]:
    """Return about 200 bytes."""
    return asdict(a_profile(user_id))


def page(user_id: int) -> list[dict[str, Any]]:
    """Return about 10 KB."""
    return [plain(user_id + number) for number in range(PROFILES)]


def in_tasks(sweep: Sweep, tasks: int) -> Sweep:
    """Return a sweep by several readers at once."""

    async def shared(keys: Sequence[int]) -> None:
        await asyncio.gather(*(sweep(keys[first::tasks]) for first in range(tasks)))

    return shared


class Sides:
    """The two sides of the cases: one value for each key, in the cache and by hand."""

    def __init__(self, cache: TierCache, client: Any) -> None:
        self._cache = cache
        self._client = client
        self._loads = 0

    async def of(self, name: str, value: Callable[[int], Any]) -> tuple[Sweep, Sweep]:
        """Return the sweeps over a kind of values, ours and by hand, which are stored by then."""
        client = self._client

        @self._cache.cached(name + ":{user_id}")
        async def ours(user_id: int):  # type: ignore[no-untyped-def]  # noqa: ANN202 - plain data
            return value(user_id)

        async def by_hand(user_id: int) -> Any:
            return _msgpack.unpackb(await client.get(f"{name}:{user_id}"))

        for key in range(KEYS):
            await client.set(f"{name}:{key}", _msgpack.packb(value(key)))
        return await self.filled(ours), over_one(by_hand)

    async def filled(self, ours: Any) -> Sweep:
        """Return the sweep over a cached function, with every value stored."""
        sweep = over_one(ours)
        await sweep(range(KEYS))
        await settled(self._cache)
        self._loads += KEYS
        return sweep

    def check(self) -> None:
        """Make sure that nothing but hits was timed."""
        assert self._cache.statistics().loads == self._loads


@contextmanager
def by_msgpack() -> Iterator[None]:
    """Let msgpack unpack, as where msgspec is not installed."""
    modules: dict[str, Any] = sys.modules
    name = "msgspec.msgpack"
    found = modules.get(name)
    modules[name] = None
    quick_unpack.cache_clear()
    try:
        yield
    finally:
        if found is None:
            del modules[name]
        else:
            modules[name] = found
        quick_unpack.cache_clear()


@contextmanager
def by_msgspec() -> Iterator[None]:
    """Let msgspec unpack.

    Raises:
        SkipGroup: It is not installed.
    """
    require("msgspec")
    yield


Row: TypeAlias = tuple[str, int, int, float | None, float | None]
"""What is read, by how many readers, how often in a sweep, and the bars by both clocks."""


@asynccontextmanager
async def reads(effort: Effort, rows: Sequence[Row]) -> AsyncGenerator[list[Case]]:
    """Set up hits of several sizes, by several numbers of readers."""
    async with (
        server() as url,
        caches(url, None) as (cache,),
        client_of(url) as client,
        bare(url) as wire,
    ):
        sides = Sides(cache, client)
        small = await sides.of("plain", plain)

        async def from_wire(user_id: int) -> Any:
            return await wire.get(f"plain:{user_id}")

        sweeps: Mapping[str, tuple[Sweep, Sweep]] = {
            SMALL: small,
            TYPED: (await sides.filled(cache.cached("typed:{user_id}")(one)), small[1]),
            LARGE: await sides.of("page", page),
            LEAST: (over_one(from_wire), small[1]),
        }
        yield [
            Case(
                name=f"{what}, {tasks} task{'s' * (tasks > 1)}",
                subject=in_tasks(sweeps[what][0], tasks),
                floor=in_tasks(sweeps[what][1], tasks),
                floor_name=FLOOR,
                keys=zipf_keys(int(awaits * effort.scale), among=KEYS),
                bars={"wall": wall, "cpu": cpu},
                check=sides.check,
            )
            for what, tasks, awaits, wall, cpu in rows
        ]


@asynccontextmanager
async def with_msgpack(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up hits where both sides unpack by msgpack."""
    rows: list[Row] = [
        (SMALL, 1, 3_000, 0.95, 0.95),
        (SMALL, 16, 6_000, 0.25, 0.25),
        (SMALL, 256, 12_000, 0.083, 0.083),
        (LARGE, 256, 4_000, None, None),
    ]
    with by_msgpack():
        async with reads(effort, rows) as cases:
            yield cases


@asynccontextmanager
async def with_msgspec(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up hits where ours unpacks by msgspec, and those of the least in Python."""
    rows: list[Row] = [
        (SMALL, 1, 3_000, 0.95, 0.95),
        (SMALL, 16, 6_000, 0.25, 0.25),
        (SMALL, 256, 12_000, 0.055, 0.083),
        (TYPED, 1, 3_000, None, None),
        (TYPED, 256, 12_000, None, None),
        (LARGE, 1, 1_000, None, None),
        (LARGE, 16, 2_000, None, None),
        (LARGE, 256, 4_000, 0.5, 0.5),
        (LEAST, 1, 3_000, None, None),
        (LEAST, 16, 6_000, None, None),
        (LEAST, 256, 12_000, None, None),
    ]
    with by_msgspec():
        async with reads(effort, rows) as cases:
            yield cases


GROUPS: Final[dict[str, Group]] = {"msgpack": with_msgpack, "msgspec": with_msgspec}
