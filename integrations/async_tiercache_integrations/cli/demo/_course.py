"""The course of phases under load: clients come in, something may happen, clients leave."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

from async_tiercache_integrations.cli.demo._measure import Phase, Point, Tally
from async_tiercache_integrations.cli.demo._stores import Database, Work
from async_tiercache_integrations.cli.demo._view import View

SAMPLE: Final = 0.5  # seconds between two points of a chart

_INCIDENT_AT: Final = 1 / 8  # of a phase, so that the chart shows what was before

Incident: TypeAlias = tuple[str, Callable[[], Awaitable[None]]]


class Load(Protocol):
    """Clients, and what they are clients of."""

    async def start(self, users: int) -> None:
        """Let so many clients come in."""
        ...

    async def tally(self) -> Tally:
        """Return what was seen since the last call."""
        ...

    async def stop(self) -> Tally:
        """Let all clients leave; return what was seen since the last call."""
        ...


class _Sampler:
    """Brings a running phase up to date."""

    def __init__(self, phase: Phase, database: Database, before: Work) -> None:
        self._phase = phase
        self._database = database
        self._before = before

    async def sample(self, news: Tally, elapsed: float, *, last: bool = False) -> Point:
        """Add what was seen since the last sample; return the rates since then.

        Args:
            news: What callers saw.
            elapsed: Seconds since the phase began.
            last: Whether users are leaving, so that the rates mean nothing.
        """
        phase = self._phase
        work = await self._database.work() - self._before
        counted = phase.tally.statements + news.statements
        statements = work.statements if self._database.counts else counted
        took = max(elapsed - phase.seconds, 1e-9)
        point = Point(
            at=phase.began_at + elapsed,
            requests=news.requests / took,
            statements=(statements - phase.statements) / took,
        )
        phase.tally.merge(news)
        phase.seconds, phase.statements = elapsed, statements
        phase.database_seconds = work.seconds
        if not last:
            phase.points.append(point)
        return point


class Course:
    """Runs phases one after the other; the first begins at once.

    Args:
        database: Counts statements.
        view: Is told of all.
        users: How many clients come in, in each process of clients.
        phases: Where the phases go.
        marks: Where it goes what was done to a server.
        joined: Whether charts show one phase right after the other, whatever was done between.
    """

    def __init__(
        self,
        database: Database,
        view: View,
        *,
        users: int,
        phases: list[Phase],
        marks: list[tuple[float, str]],
        joined: bool = False,
    ) -> None:
        self._database = database
        self._view = view
        self._users = users
        self._phases = phases
        self._marks = marks
        self._joined = joined
        self._began = time.monotonic()

    async def run(
        self, phase: Phase, load: Load, seconds: float, incident: Incident | None = None
    ) -> None:
        """Run one phase of so many seconds."""
        sampler = _Sampler(phase, self._database, await self._database.work())
        started = time.monotonic()
        if self._joined:
            last = self._phases[-1] if self._phases else Phase("", "")
            self._began = started - last.began_at - last.seconds
        phase.began_at = started - self._began
        self._view.phase_began(phase, seconds)
        await load.start(self._users)
        while (left := started + seconds - time.monotonic()) > SAMPLE / 4:
            if incident is not None and left <= seconds * (1 - _INCIDENT_AT):
                self._marks.append((time.monotonic() - self._began, incident[0]))
                await incident[1]()
                incident = None
            # The last sample may be longer: a very short one has no meaningful rate.
            pause = SAMPLE if left > 1.5 * SAMPLE else left
            if incident is not None:
                pause = min(pause, left - seconds * (1 - _INCIDENT_AT))
            await asyncio.sleep(pause)
            point = await sampler.sample(await load.tally(), time.monotonic() - started)
            self._view.sampled(phase, point)
        await sampler.sample(await load.stop(), time.monotonic() - started, last=True)
        self._phases.append(phase)
        self._view.phase_ended(phase)
