"""Requests a second of servers, each beside the raw application's server."""

import asyncio
import os
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from benchmarks._apart import require
from benchmarks._child import Child
from benchmarks._harness import ClockName, Effort, Result, Times, result_of
from benchmarks._http_driver import BROWSER, ask, drive
from benchmarks._server import server

RAW: Final = "the raw application on uvicorn"
_SETTLING: Final = 0.1
SECONDS: Final = 0.5
"""For how long a server is driven in a round: for thousands of requests; a quick look, a fifth."""


class NoHitsError(Exception):
    """Something else was timed than hits."""


@dataclass
class Served:
    """What is driven.

    Attributes:
        case: What the table calls it.
        port: Where it listens.
        child: The process of its application.
        fields: What requests carry.
        from_l2: Whether each response is to come from Redis.
        apart: Whether another process than the child is what is driven.
        repeats: How often it is timed in each round: one differs from the next by three hundredths.
    """

    case: str
    port: int
    child: Child
    fields: Mapping[str, str] = field(default_factory=lambda: BROWSER)
    from_l2: bool = False
    apart: bool = False
    repeats: int = 1
    _requests: int = field(default=0, init=False)
    _at_first: dict[str, Any] = field(default_factory=dict[str, Any], init=False)

    async def warm(self) -> None:
        """Have the response stored, by one client: some caches would make it for each."""
        await ask(self.port, BROWSER)
        # Some store a response after they have sent it.
        await asyncio.sleep(_SETTLING)
        await ask(self.port, BROWSER)
        self._at_first = await self.child.order("spent")

    async def times(self, seconds: float) -> Times:
        """Return what a request takes, in time and in the server's processor time."""
        before = await self.child.order("spent")
        answered = await drive(self.port, seconds, self.fields)
        while not answered.requests:
            # None has come to its end, and the next ones wait for those that were given up.
            seconds *= 2
            answered = await drive(self.port, seconds, self.fields)
        after = await self.child.order("spent")
        self._requests += answered.requests
        cpu = (after["cpu"] - before["cpu"]) / answered.requests
        return {"wall": 1e9 / answered.rate, "cpu": cpu}

    async def check(self) -> None:
        """Make sure that its requests have come to what was to be measured.

        Raises:
            NoHitsError: They have not.
        """
        spent, first = await self.child.order("spent"), self._at_first
        if spent["made"] != first["made"]:
            made = spent["made"] - first["made"]
            raise NoHitsError(f"{self.case}: {made:,} of {self._requests:,} responses were made")
        if self.from_l2:
            # Those who ask in one turn share what it brings.
            as_meant = spent["l2_hits"] - first["l2_hits"] >= self._requests / 64
        else:
            as_meant = spent["l2_hits"] == first["l2_hits"]
        if not as_meant:
            raise NoHitsError(f"{self.case}: {first}, then {spent}")


class Hall:
    """Starts servers, all on one core, and drives them from the others."""

    def __init__(self, sandbox: Sandbox, url: str, core: int | None) -> None:
        self.sandbox = sandbox
        self.core = core
        self._url = url

    async def serve(self, case: str, app: str, *, from_l2: bool = False) -> Served:
        """Start a server for an application."""
        child = Child(self.sandbox, "benchmarks._http_server")
        await child.start()
        folder = str(self.sandbox.path)
        port = await child.order("open", app=app, url=self._url, folder=folder, core=self.core)
        return Served(case, int(port), child, from_l2=from_l2)

    async def measure(self, subjects: Sequence[Served], effort: Effort) -> list[Result]:
        """Return what requests take, as ratios to those of the raw application."""
        floor = await self.serve(RAW, "raw")
        seconds = SECONDS if effort.scale >= 1 else SECONDS / 5
        pairs: list[list[tuple[Times, Times]]] = [[] for _ in subjects]
        for each in (floor, *subjects):
            await each.warm()
            await each.times(seconds)
        for turn in range(effort.rounds if effort.scale >= 1 else min(3, effort.rounds)):
            for index in range(len(subjects)):
                number = (index + turn) % len(subjects)
                subject = subjects[number]
                for again in range(subject.repeats if effort.scale >= 1 else 1):
                    first = (turn + again) % 2 == 1
                    pairs[number].append(
                        await _times((floor, subject), seconds, subject_first=first)
                    )
        for subject in subjects:
            await subject.check()
        clocks: tuple[ClockName, ClockName] = ("wall", "cpu")
        return [
            result_of(times, clock, case=subject.case, floor_name=RAW, bar=None)
            for subject, times in zip(subjects, pairs, strict=True)
            for clock in clocks
            if clock == "wall" or not subject.apart
        ]


async def _times(
    pair: tuple[Served, Served], seconds: float, *, subject_first: bool
) -> tuple[Times, Times]:
    """Return the times of floor and subject, driven one after the other."""
    if subject_first:
        subject, floor = await pair[1].times(seconds), await pair[0].times(seconds)
    else:
        floor, subject = await pair[0].times(seconds), await pair[1].times(seconds)
    return floor, subject


@asynccontextmanager
async def hall() -> AsyncGenerator[Hall]:
    """Yield a place for servers, with a Redis.

    Raises:
        SkipGroup: There is nothing to serve with.
    """
    for package in ("uvicorn", "httptools", "uvloop"):
        require(package)
    with _cores() as core:
        async with server() as url, Sandbox() as sandbox:
            yield Hall(sandbox, url, core)


@contextmanager
def _cores() -> Iterator[int | None]:
    """Leave a core to the servers and yield its number; `None` where there is but one."""
    affinity: Any = getattr(os, "sched_getaffinity", None)
    cores: set[int] = affinity(0) if affinity is not None else set()
    if len(cores) < 2:
        yield None
        return
    core = min(cores)
    os.sched_setaffinity(0, cores - {core})
    try:
        yield core
    finally:
        os.sched_setaffinity(0, cores)
