"""The runner: runs loaders, each in its turn, within its limit and with its fence renewed."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from typing import Any, Final

from async_tiercache._basis import Basis
from async_tiercache._bulkhead import Bulkhead
from async_tiercache._context import LoadContext
from async_tiercache._entry import Entry
from async_tiercache._events import Loaded, Operation
from async_tiercache._family import Family, Load
from async_tiercache._fence import Fence, Fences
from async_tiercache._flight import Flight, Loading
from async_tiercache._flights import Flights
from async_tiercache._gatherer import Part
from async_tiercache._inside import CURRENT, RUNNING, begin_loading, end_loading
from async_tiercache._options import MISSING
from async_tiercache._tenancy import Tenancy
from async_tiercache._tiers import Tiers
from async_tiercache._tracing import Tracing
from async_tiercache.abc import Clock, Observer
from async_tiercache.errors import LoadCancelledError, LoadTimeoutError, UsageError

MAX_REFRESHES: Final = 64
"""Refreshes behind answered callers that run at the same time; the others wait for a later read."""

_NO_TURN: Final = nullcontext()

BLOCKING_SECONDS: Final = 0.1
"""A loader that keeps the loop to itself for longer than this is told of."""


class Runner:
    """Runs the loaders of one cache."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        flights: Flights,
        fences: Fences,
        clock: Clock,
        bulkhead: Bulkhead,
        tenancy: Tenancy,
        tracing: Tracing,
        advise: Callable[[str, str], None],
        notify: Observer,
    ) -> None:
        self._tiers = tiers
        self._flights = flights
        self._fences = fences
        self._clock = clock
        self._bulkhead = bulkhead
        self._tenancy = tenancy
        self._tracing = tracing
        self._advise = advise
        self._notify = notify
        self._refreshes: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """How many loads run."""
        return sum(each.flights[0].home is self._flights for each in RUNNING)

    @property
    def bounded(self) -> bool:
        """Whether loads may have to wait for their turn."""
        return self._bulkhead.bounded

    @property
    def busy(self) -> bool:
        """Whether a refresh that nobody waits for had better come later."""
        return len(self._refreshes) >= MAX_REFRESHES or self._bulkhead.full

    def restart(self) -> None:
        """Forget the loads of a loop that is gone."""
        self._refreshes.clear()
        for loading in RUNNING.copy():
            if loading.flights[0].home is self._flights:
                end_loading(loading)

    def count_refresh(self, task: "asyncio.Task[None]") -> None:
        """Count a refresh that nobody waits for until its task has ended."""
        self._refreshes.add(task)
        task.add_done_callback(self._refreshes.discard)

    def chosen(self, flight: Flight, load: Load) -> Load:
        """Return how the value of a flight is fetched: as it is wanted now."""
        part = _part_of(flight, load)
        return load if part is None else replace(load, part=part, behind=None)

    async def turn(
        self, flight: Flight, family: Family, load: Load
    ) -> AbstractContextManager[object]:
        """Wait for the turn of a load before it takes its lease.

        Who waited for his turn with a lease would keep loads of other processes waiting, which may
        hold the turns for which others wait, and those, in a circle, his.

        Args:
            flight: The flight.
            family: Its family.
            load: Fetches the value, as it was chosen.

        Returns:
            A context that holds the turn; the loader runs in it.
        """
        if not self._bulkhead.bounded:
            return _NO_TURN
        limit, began = family.limits.load_limit, self._clock.monotonic()
        try:
            async with self._clock.timeout(limit - flight.queued_seconds):
                if load.part is None:
                    return await self._bulkhead.turn([flight])
                return await load.part.turn(flight)
        except TimeoutError as error:
            late = self._late(flight, limit)
            self._notify(Loaded(family.name, flight.key, limit, "error", late))
            raise late from error
        finally:
            flight.queued_seconds += self._clock.monotonic() - began

    async def load(
        self,
        flight: Flight,
        family: Family,
        load: Load,
        fence: Fence | None,
        context: LoadContext,
    ) -> Any:
        """Await the loader within its limit, with the fence renewed.

        Args:
            flight: The flight.
            family: Its family.
            load: Fetches the value.
            fence: The right to put it into L2, if there is one.
            context: What the loader is told.
        """
        key, limit = flight.key, family.limits.load_limit
        timeout = self._clock.timeout(limit - flight.queued_seconds)
        loading = flight.loading = Loading(flight)
        outer = CURRENT.set(loading)
        if fence is not None:
            self._flights.fenced[key] = flight
            self._fences.hold(fence, partial(self._tiers.leave_behind, flight))
        try:
            part = _part_of(flight, load)
            async with timeout:
                if part is not None:
                    return await part.load(context)
                assert load.alone is not None
                leased = fence is not None and fence.mark is None
                # Who has a lease has had his turn before.
                with _NO_TURN if leased else await self._bulkhead.turn([flight]):
                    value = await self.run(family, [flight], partial(load.alone, context))
                if value is MISSING:
                    raise UsageError(
                        f"The loader of {key!r} returned MISSING, which stands for no value",
                        hint="Return None, or raise an error of your own.",
                    )
                return value
        except TimeoutError as error:
            if timeout.expired():
                raise self._late(flight, limit) from error
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise LoadCancelledError(
                f"The loader of {key!r} cancelled itself",
                hint="Find what it awaits that is cancelled, and let it raise an error of its own.",
            ) from error
        finally:
            if fence is not None:
                self._fences.let_go(fence)
            self._flights.end_fenced(flight)
            loading.running = False
            flight.loading = None
            CURRENT.reset(outer)

    def _late(self, flight: Flight, limit: float) -> LoadTimeoutError:
        if flight.operation is None:
            return LoadTimeoutError(
                f"The load of {flight.key!r} had not got its turn in {limit} s: "
                f"{self.running} loads run and {self._bulkhead.waiting} wait",
                hint="Make the queries faster, or raise max_loads if the source can take more.",
            )
        return LoadTimeoutError(
            f"The load of {flight.key!r} took longer than {limit} s",
            hint="Make the query faster, or raise load_limit in the policy.",
        )

    async def run(
        self, family: Family, flights: list[Flight], call: Callable[[], Awaitable[Any]]
    ) -> Any:
        """Run a loader that has its turn, counted and traced.

        Args:
            family: The family.
            flights: What it loads for.
            call: The loader, with its arguments bound.
        """
        counts = family.counts
        operation = Operation("load", family.name, tuple(each.key for each in flights))
        began_at = self._tiers.now()
        for each in flights:
            each.operation, each.load_began_at = operation, began_at
        counts.loads += 1
        loading = CURRENT.get()
        assert loading is not None
        begin_loading(loading)
        ticks: list[None] = []
        asyncio.get_running_loop().call_soon(ticks.append, None)
        started = self._clock.monotonic()
        try:
            with self._tracing.around(operation):
                return await awaited(call, flights[0].key)
        except BaseException:
            counts.load_errors += 1
            raise
        finally:
            end_loading(loading)
            seconds = self._clock.monotonic() - started
            for each in flights:
                each.load_seconds = seconds
            counts.load_times.add(seconds)
            if seconds > BLOCKING_SECONDS and not ticks:
                self._advise(
                    "blocking-loader",
                    f"The loader of {family.name} blocked the event loop: nothing else ran "
                    "until it ended. Await an async driver, or use asyncio.to_thread.",
                )

    async def shadow(self, family: Family, key: str, load: Load) -> Any:
        """Return what the loader of a key brings now; it is kept nowhere, and nobody joins it."""
        flight = Flight(
            self._flights,
            codec=family.codec,
            basis=Basis(key, (), 0, 0, 0),
            began_at=self._tiers.now(),
            parent=CURRENT.get(),
            forced=True,
            many=False,
            cancel=True,
            decode=None,
        )
        alone = Load(alone=load.alone)
        return await self.load(flight, family, alone, None, self.context_of(None))

    def context_of(self, old: Entry | None) -> LoadContext:
        """Return what a loader is told; the tags that it names are those of its caller's tenant."""
        prefix = self._tenancy.prefix()
        if old is None:
            return LoadContext(prefix=prefix)
        ended = old.header.fresh_until <= self._tiers.now()
        return LoadContext(stale_value=old.value, etag=old.header.etag, prefix=prefix, ended=ended)


def _part_of(flight: Flight, load: Load) -> Part | None:
    """Return the part of a batch load that fetches the value, if one does."""
    behind = None
    if load.behind is not None and flight.answered:
        behind = load.behind()
    if behind is None:
        return load.part
    if load.part is not None:
        # Callers wait for the other parts of that load, and for this one nobody does.
        load.part.give_way()
    return behind


async def awaited(load: Callable[[], Awaitable[Any]], key: str) -> Any:
    """Await a loader.

    Raises:
        UsageError: It is no coroutine function.
    """
    loading: Any = load()
    if not inspect.isawaitable(loading):
        raise UsageError(
            f"The loader of {key!r} returned {type(loading).__name__}, no awaitable",
            hint="Pass a coroutine function, for example `async def load(): ...`.",
        )
    return await loading
