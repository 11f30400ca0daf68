"""How many statements does a service of three processes send to PostgreSQL, and could it be fewer?

Reads come at fixed distances, whether those before have been answered or not: nine tenths of them
for an item by its key, the rest for an aggregate, rows drawn by Zipf's law. Some are written and
invalidated meanwhile. The least is what a cache would send that has no size and is everywhere at
once: a row's first read, the first after its TTL, and the first after each invalidation.
"""

import asyncio
import time
from collections.abc import Iterable, Iterator
from itertools import chain
from statistics import median
from typing import Any, Final

from async_tiercache_integrations.cli.demo import _database
from async_tiercache_integrations.cli.demo._claims import Claim, spell
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._servers import Postgres
from benchmarks._apart import Question
from benchmarks._child import Child
from benchmarks._harness import Effort
from benchmarks._server import require_postgres, server
from benchmarks._service import SCHEMA, Arrival, Row, arrivals

PROCESSES: Final = 3
READS: Final = 400.0
WRITES: Final = 5.0
"""A second; reads in each process."""

_HEAD_START: Final = 0.5
_DSN_USER: Final = "postgres"


async def shop(effort: Effort) -> list[Claim]:
    """Run it, and hold what PostgreSQL was sent against the least."""
    require_postgres()
    ttl = 10.0 if effort.scale >= 1 else 4.0 if effort.scale >= 0.1 else 1.0
    seconds = 3 * ttl
    async with server() as url, Sandbox() as sandbox:
        postgres = Postgres(sandbox)
        await postgres.start()
        dsn = postgres.url(_DSN_USER)
        async with _database.connect(dsn) as connection:
            for statement in SCHEMA:
                await connection.execute(statement)
        children = [Child(sandbox, "benchmarks._service") for _ in range(PROCESSES)]
        for child in children:
            await child.start()
            await child.order("open", url=url, dsn=dsn, ttl=ttl)
        at = time.monotonic() + _HEAD_START
        plan: dict[str, Any] = {"seconds": seconds, "at": at}
        *tallies, _ = await asyncio.gather(
            *(
                child.order("read", name=f"reads {number}", rate=READS, **plan)
                for number, child in enumerate(children)
            ),
            children[0].order("write", name="writes", rate=WRITES, **plan),
        )
        for child in children:
            await child.kill()
    reads = chain.from_iterable(
        arrivals(f"reads {number}", rate=READS, seconds=seconds) for number in range(PROCESSES)
    )
    writes = arrivals("writes", rate=WRITES, seconds=seconds)
    return list(shop_claims(tallies, least(reads, writes, ttl)))


def least(reads: Iterable[Arrival], writes: Iterable[Arrival], ttl: float) -> int:
    """Return how many statements an ideal cache sends for these reads."""
    events = [(arrival, False) for arrival in reads] + [(arrival, True) for arrival in writes]
    loaded: dict[Row, float] = {}
    statements = 0
    for arrival, written in sorted(events, key=lambda event: event[0].at):
        if written:
            loaded.pop(arrival.row, None)
        elif arrival.at - loaded.get(arrival.row, -ttl) >= ttl:
            loaded[arrival.row] = arrival.at
            statements += 1
    return statements


def shop_claims(tallies: list[dict[str, Any]], at_least: int) -> Iterator[Claim]:
    """Judge by what the processes have seen."""
    reads = sum(len(took) for tally in tallies for took in tally["took"].values())
    statements = sum(tally["statements"] for tally in tallies)
    items, reports = (
        median([took for tally in tallies for took in tally["took"][kind]])
        for kind in ("item", "report")
    )
    late = median([late for tally in tallies for late in tally["late"]])
    title = f"A service of {PROCESSES} processes"
    yield Claim(
        classical=title,
        restated="Statements, over the least that they could be",
        measured=statements / at_least,
        bar=1.15,
        unit="times",
        beside=f"{statements:,} over {at_least:,}; {spell(1 - statements / reads, 'share')} of"
        f" {reads:,} reads sent none",
    )
    yield Claim(
        classical=title,
        restated="Reads that failed",
        measured=sum(tally["failed"] for tally in tallies),
        bar=0,
        unit="reads",
    )
    yield Claim(
        classical=title,
        restated="Median of the aggregate",
        measured=reports,
        bar=50e-6,
        unit="seconds",
        beside=f"items {spell(items, 'seconds')}; calls came {spell(late, 'seconds')} late",
    )


GROUPS: Final[dict[str, Question]] = {"shop": shop}
