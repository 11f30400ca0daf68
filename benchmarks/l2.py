"""What does a hit in Redis cost, for one reader and for many, in units of redis-py?

The floor is what one would write without a cache library: redis-py GET and msgpack, on the same
server over TCP. It decodes into plain data; ours does so too, and in one case checks and builds a
dataclass. No value is kept in memory, so that every read goes to the server. The least in Python
keeps no promise: it gathers keys in a dict of futures and sends one MGET a tick.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

import msgpack  # type: ignore[import-untyped]

from async_tiercache import TierCache
from async_tiercache.testing import settled
from benchmarks._apart import Group
from benchmarks._bare import bare
from benchmarks._harness import Case, ClockName, Effort, Sweep, zipf_keys
from benchmarks._server import caches, client_of, server
from benchmarks.hits import a_profile, one, over_one

_msgpack: Final[Any] = msgpack  # it has no types

KEYS: Final = 1_000
FLOOR: Final = "redis-py GET + msgpack"
PROFILES: Final = 50
"""Of about 200 bytes each: a value of 10 KB."""


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


@asynccontextmanager
async def reads(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up hits of several sizes, by several numbers of readers."""
    async with (
        server() as url,
        caches(url, None) as (cache,),
        client_of(url) as client,
        bare(url) as wire,
    ):
        sides = Sides(cache, client)
        small, large = await sides.of("plain", plain), await sides.of("page", page)

        async def from_wire(user_id: int) -> Any:
            return await wire.get(f"plain:{user_id}")

        least = over_one(from_wire), small[1]
        typed = await sides.filled(cache.cached("typed:{user_id}")(one)), small[1]

        def case(
            what: str, both: tuple[Sweep, Sweep], tasks: int, awaits: int, bar: float | None
        ) -> Case:
            bars: dict[ClockName, float | None] = {"wall": bar, "cpu": bar}
            subject, floor = (in_tasks(each, tasks) for each in both)
            return Case(
                name=f"{what}, {tasks} task{'s' * (tasks > 1)}",
                subject=subject,
                floor=floor,
                floor_name=FLOOR,
                keys=zipf_keys(int(awaits * effort.scale), among=KEYS),
                bars=bars,
                check=sides.check,
            )

        yield [
            case("L2 hit, 200 B", small, 1, 3_000, 0.95),
            case("L2 hit, 200 B", small, 16, 6_000, 0.25),
            case("L2 hit, 200 B", small, 256, 12_000, 0.083),
            case("L2 hit, a dataclass", typed, 1, 3_000, None),
            case("L2 hit, a dataclass", typed, 256, 12_000, None),
            case("L2 hit, 10 KB", large, 256, 4_000, 0.5),
            case("the least in Python, 200 B", least, 1, 3_000, None),
            case("the least in Python, 200 B", least, 16, 6_000, None),
            case("the least in Python, 200 B", least, 256, 12_000, None),
        ]


GROUPS: Final[dict[str, Group]] = {"reads": reads}
