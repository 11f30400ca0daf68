"""The matrix of behaviour: ours is as it must be, and the probes can tell."""

import asyncio
from typing import Any

from benchmarks._libraries import Cached, Load
from benchmarks.behaviour import PROBES, is_sound, row_of


async def test_ours_is_sound() -> None:
    """And a Redis that hangs or is gone delays a call, and fails none."""
    row = await row_of("async-tiercache")

    assert is_sound(row)
    for how in ("hung", "refused"):
        assert row[how].endswith(" ms")


async def test_each_probe_finds_what_a_dict_does_wrong() -> None:
    """Whoever writes a cache in five lines has all of it, but for cancelled neighbours."""
    found = {column: await probe(naive) for column, probe in PROBES.items()}

    assert found == {
        "50 callers": "50",
        "leader": "5 of 5",
        "follower": "5 of 5",
        "None": "no",
        "in load": "stale",
        "after": "ok",
        "alias": "shared",
        "error": "10",
    }
    assert not is_sound(found)


async def test_a_cancelled_caller_takes_others_along_where_they_share_its_task() -> None:
    """As where all await the task that the first has begun."""
    assert await PROBES["leader"](entangled) == "0 of 5"
    assert await PROBES["after"](entangled) == "stale"


def naive(load: Load) -> Cached:
    """Keep values in a dict."""
    held: dict[int, Any] = {}

    async def read(key: int) -> Any:
        if held.get(key) is None:
            held[key] = await load(key)
        return held[key]

    async def invalidate(key: int) -> None:
        held.pop(key, None)

    return Cached(read, invalidate)


def entangled(load: Load) -> Cached:
    """Keep the tasks of loads in a dict."""
    tasks: dict[int, Any] = {}

    async def read(key: int) -> Any:
        if key not in tasks:
            tasks[key] = asyncio.ensure_future(load(key))
        return await tasks[key]

    async def invalidate(key: int) -> None:
        if key in tasks and tasks[key].done():
            del tasks[key]

    return Cached(read, invalidate)
