"""What objects add to the memory of a fresh process: `python -m benchmarks._memory KIND NUMBER`.

Read as the resident set, which is what a container is killed for: rounding, tables and arenas
included. The L1 is full and has evicted a tenth of what was put in, as one in service has. Then a
full garbage collection is timed, which goes through all of them.
"""

import asyncio
import gc
import json
import mmap
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple, TypeAlias

import msgpack  # type: ignore[import-untyped]

from async_tiercache import L1, Policy, TierCache
from benchmarks._apart import SkipGroup
from benchmarks._filled import fill

Kind: TypeAlias = Literal[
    "cached dict", "cached packed", "filled packed", "bare dict", "bare packed"
]
"""How the objects are held: by a cache, which has loaded them or was filled, or as bare keys and
values; as dicts or packed."""

STATM: Final = Path("/proc/self/statm")
_msgpack: Final[Any] = msgpack  # it has no types


class Held(NamedTuple):
    """What so many objects cost.

    Attributes:
        size: By how many bytes the process grew.
        pause: How long a full garbage collection takes then, in seconds; the shortest of three.
    """

    size: int
    pause: float


def held_apart(kind: Kind, objects: int) -> Held:
    """Return what objects cost, measured in a process of its own.

    Raises:
        SkipGroup: This system does not tell.
    """
    if not STATM.exists():
        raise SkipGroup("there is no /proc/self/statm")
    command = [sys.executable, "-m", "benchmarks._memory", kind, str(objects)]
    root = Path(__file__).parent.parent
    return Held(*json.loads(subprocess.check_output(command, cwd=root)))


def an_object(number: int, kind: Kind) -> Any:
    """Return a small object: three fields."""
    made = {"id": number, "name": f"user {number}", "ok": True}
    return made if kind.endswith("dict") else _msgpack.packb(made)


async def _cached(kind: Kind, objects: int) -> Held:
    cache = TierCache(
        namespace="bench",
        l1=L1(max_entries=objects, max_bytes="4GiB"),
        policy=Policy(ttl="1h"),
    )

    @cache.cached("app:user:{user_id}")
    async def user(user_id: int) -> Any:
        return an_object(user_id, kind)

    async with cache:
        await user(-1)
        before = resident()
        numbers = range(1_000_000, 1_000_000 + objects + objects // 10)
        if kind.startswith("filled"):
            fill(cache, ((f"app:user:{each}", each, an_object(each, kind)) for each in numbers))
        else:
            for number in numbers:
                await user(number)
        assert cache.statistics().l1_entries == objects
        return _held_since(before)


def _bare(kind: Kind, objects: int) -> Held:
    held: list[Any] = [None] * (3 * objects)
    before = resident()
    for place, number in enumerate(range(1_000_000, 1_000_000 + objects)):
        held[3 * place : 3 * place + 3] = number, f"app:user:{number}", an_object(number, kind)
    return _held_since(before)


def _held_since(before: int) -> Held:
    grown = resident() - before
    pauses: list[float] = []
    for _ in range(3):
        began = time.perf_counter()
        gc.collect()
        pauses.append(time.perf_counter() - began)
    return Held(grown, min(pauses))


def resident() -> int:
    """Return the resident set, once what is garbage is gone, in bytes."""
    gc.collect()
    return int(STATM.read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE


def main(kind: Kind, objects: int) -> None:
    """Print what was found, as JSON."""
    bare = kind.startswith("bare")
    print(json.dumps(_bare(kind, objects) if bare else asyncio.run(_cached(kind, objects))))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))  # type: ignore[arg-type]
