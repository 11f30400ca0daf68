"""What stored responses add to a fresh process: `python -m benchmarks._http_memory NUMBER VARY`."""

# ruff: noqa: ARG001 - the application takes parameters and does nothing with them

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from async_tiercache import L1, Policy, TierCache
from async_tiercache.testing import settled
from async_tiercache_integrations.asgi import ResponseCache
from benchmarks._apart import SkipGroup
from benchmarks._http_apps import BODY, FIELDS, SECONDS
from benchmarks._http_requests import nobody, receive, scope_of
from benchmarks._memory import STATM, resident


def held_by(responses: int, *, varied: bool) -> int:
    """Return what so many responses add to a process of its own, in bytes.

    Args:
        responses: How many, each of a URL of its own.
        varied: Whether they have `Vary`.

    Raises:
        SkipGroup: This system does not tell.
    """
    if not STATM.exists():
        raise SkipGroup("there is no /proc/self/statm")
    command = [sys.executable, "-m", "benchmarks._http_memory", str(responses), str(int(varied))]
    root = Path(__file__).parent.parent
    return int(json.loads(subprocess.check_output(command, cwd=root)))


def fields_of(*, varied: bool) -> list[tuple[bytes, bytes]]:
    """Return the fields of each response."""
    return [each for each in FIELDS if varied or each[0] != b"vary"]


async def _held(responses: int, *, varied: bool) -> int:
    fields = fields_of(varied=varied)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        # Of its own for each response, as an application makes them.
        headers = [(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in fields]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": bytes(bytearray(BODY))})

    room, policy = L1(max_entries=4 * responses, max_bytes="4GiB"), Policy(ttl=SECONDS)
    async with TierCache(namespace="bench", l1=room, policy=policy) as cache:
        cached = ResponseCache(app, cache=cache)
        await cached(scope_of(0), receive, nobody)
        await settled(cache)
        before = resident()
        for number in range(1, responses + 1):
            await cached(scope_of(number), receive, nobody)
        await settled(cache)
        held = cache.statistics().l1_entries
        assert held == (1 + varied) * (responses + 1), f"{held} entries are held"
        return resident() - before


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_held(int(sys.argv[1]), varied=sys.argv[2] == "1"))))
