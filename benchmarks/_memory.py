"""What so many objects add to the memory of a fresh process: `python -m benchmarks._memory KIND`.

Read as the resident set, which is what a container is killed for: rounding, tables and arenas
included. The L1 is full and has evicted a tenth of what was put in, as one in service has.
"""

import asyncio
import gc
import mmap
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import msgpack  # type: ignore[import-untyped]

from async_tiercache import L1, Policy, TierCache
from benchmarks._apart import SkipGroup

Kind: TypeAlias = Literal["cached dict", "cached packed", "bare dict", "bare packed"]
"""How the objects are held: by a cache, or as bare keys and values; as dicts or packed."""

OBJECTS: Final = 20_000  # their tables are as full as those of 10,000

_STATM: Final = Path("/proc/self/statm")
_msgpack: Final[Any] = msgpack  # it has no types


def megabytes_apart(kind: Kind) -> float:
    """Return what 10,000 objects take, in MB, measured in a process of its own.

    Raises:
        SkipGroup: This system does not tell.
    """
    if not _STATM.exists():
        raise SkipGroup("there is no /proc/self/statm")
    command = [sys.executable, "-m", "benchmarks._memory", kind]
    root = Path(__file__).parent.parent
    return float(subprocess.check_output(command, cwd=root)) / OBJECTS * 10_000 / 1e6


def an_object(number: int, kind: Kind) -> Any:
    """Return a small object: three fields."""
    made = {"id": number, "name": f"user {number}", "ok": True}
    return made if kind.endswith("dict") else _msgpack.packb(made)


async def _cached(kind: Kind) -> int:
    cache = TierCache(
        namespace="bench",
        l1=L1(max_entries=OBJECTS, max_bytes="1GiB"),
        policy=Policy(ttl="1h"),
    )

    @cache.cached("app:user:{user_id}")
    async def user(user_id: int) -> Any:
        return an_object(user_id, kind)

    async with cache:
        await user(-1)
        before = _resident()
        for number in range(1_000_000, 1_000_000 + OBJECTS + OBJECTS // 10):
            await user(number)
        assert cache.statistics().l1_entries == OBJECTS
        return _resident() - before


def _bare(kind: Kind) -> int:
    held: list[Any] = [None] * (3 * OBJECTS)
    before = _resident()
    for place, number in enumerate(range(1_000_000, 1_000_000 + OBJECTS)):
        held[3 * place : 3 * place + 3] = number, f"app:user:{number}", an_object(number, kind)
    return _resident() - before


def _resident() -> int:
    gc.collect()
    return int(_STATM.read_text(encoding="ascii").split()[1]) * mmap.PAGESIZE


def main(kind: Kind) -> None:
    """Print by how many bytes the process grew."""
    print(_bare(kind) if kind.startswith("bare") else asyncio.run(_cached(kind)))


if __name__ == "__main__":
    main(sys.argv[1])  # type: ignore[arg-type]
