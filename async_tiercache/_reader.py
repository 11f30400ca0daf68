"""The read path: L1, then L2, then the loader behind a fence.

A read that L1 cannot answer joins or starts a flight. The flight asks L2 and decides: serve what is
fresh; refresh what is early or stale, one refresher in the cluster; take a lease on what is missing
or dead; wait while another process has the lease. Without L2, or around what L2 must not be asked,
it loads without a fence and only L1 keeps the value.
"""

import asyncio
import inspect
from collections.abc import Callable, Iterable
from functools import partial
from secrets import token_bytes
from typing import Any, Final

from async_tiercache._entry import ENTRY_ID_BYTES, Entry, Header
from async_tiercache._events import Event, Loaded, Read, State
from async_tiercache._family import Alias, Family, Load
from async_tiercache._fence import LEASE_SECONDS, Fence, Fences
from async_tiercache._flight import ABANDONED, CURRENT, Flight, Flights, Outcome, begin_wait
from async_tiercache._ledger import Ledger
from async_tiercache._statistics import Counts
from async_tiercache._tasks import Tasks
from async_tiercache._tiers import Found, Stored, Tiers
from async_tiercache.abc import Clock, Codec, Observer
from async_tiercache.backends.memory import Slot
from async_tiercache.errors import LoadCancelledError, LoadTimeoutError, TierError, UsageError
from async_tiercache.policies.freshness import early_at, lifetime

POLL_FIRST: Final = 0.02
POLL_LAST: Final = 0.5
"""How often L2 is asked whether another process's load has ended, in seconds, growing."""
_REFUSED: Final = frozenset({"damaged", "schema"})
_LOAD_AROUND: Final = frozenset({"unknown", "schema", "refused"})
MAX_TRIES: Final = 8
"""How often what a key holds may change under a flight before it loads without a fence."""
CLOCK_MARGIN: Final = 0.25
"""How far two processes' ideas of the server's time may be apart, in seconds."""
RETRY_SECONDS: Final = 1.0
"""How long a value whose refresh failed is served from L1 before the loader is tried again."""


class Reader:
    """Answers reads from the tiers and loads what they lack."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        ledger: Ledger,
        flights: Flights,
        fences: Fences,
        tasks: Tasks,
        loads: Tasks,
        clock: Clock,
        doubt: Callable[[str], None],
        notify: Observer | None,
    ) -> None:
        self._tiers = tiers
        self._ledger = ledger
        self._flights = flights
        self._fences = fences
        self._tasks = tasks
        self._loads = loads
        self._clock = clock
        self._doubt = doubt
        self._notify = notify or _nobody
        self._observed = notify is not None

    # The caller's side.

    async def read(
        self,
        family: Family,
        key: str,
        load: Load,
        *,
        alias: Alias | None = None,
        forced: bool = False,
    ) -> Any:
        """Return the value of a key, loading it if no tier has it.

        Args:
            family: The key's family.
            key: The key's text.
            load: Fetches the value.
            alias: Where a compiled call path looks for the slot of this key.
            forced: Load even if a tier has the value.

        Raises:
            Exception: Whatever the loader raised; each waiter gets its own copy.
            LoadTimeoutError: The loader took longer than the limit.
            RecursiveLoadError: The load would wait for itself.
        """
        started, joined = self._clock.monotonic(), False
        while True:
            slot = self._tiers.probe(key)
            if slot is not None and not forced and started < slot.soft_deadline:
                self._tiers.link(key, alias)
                slot.visited = True
                family.counts.l1_hits += 1
                return slot.value
            flight = self._flights.find(key)
            if flight is None or forced:
                flight = self._begin(family, key, slot, forced=forced)
                outcome = await self._lead(flight, family, load)
            else:
                joined = True
                outcome = await self._join(flight)
            if outcome is not ABANDONED:
                break
        value = flight.value_of(outcome)
        self._tiers.link(key, alias)
        count(family.counts, outcome)
        if self._observed:
            seconds = self._clock.monotonic() - started
            self._notify(Read(family.name, key, outcome.tier, outcome.state, joined, seconds))
        return value

    def peek(self, key: str) -> Slot | None:
        """Return the slot that L1 would serve at once."""
        slot = self._tiers.probe(key)
        fresh = slot is not None and self._clock.monotonic() < slot.soft_deadline
        return slot if fresh else None

    async def look(
        self, key: str, codecs: Iterable[Codec], counts: Counts, *, stale: bool
    ) -> Outcome | None:
        """Return what the tiers have for a key, without a load and without a fence.

        Args:
            key: The key's text.
            codecs: The codecs whose entries are understood.
            counts: Where refused frames are counted.
            stale: Whether a stale value will do.
        """
        slot = self._tiers.probe(key)
        if slot is not None:
            fresh = self._tiers.now() < slot.header.fresh_until
            if fresh or stale:
                return Outcome(slot.value, "l1", "early" if fresh else "stale")
        flight = self._flights.find(key)
        if flight is not None:
            outcome = await self._join(flight)
            if outcome is not ABANDONED and outcome.error is None:
                return outcome
        generation = self._ledger.generation(key)
        found = await self._tiers.ask(key, *codecs)
        entry = found.entry
        if entry is None:
            counts.refused_frames += found.what in _REFUSED
            return None
        header, now = entry.header, self._tiers.now()
        if now < header.fresh_until:
            # The family that the key belongs to is not known here, nor is its `l1_ttl`.
            early = header.fresh_until
            self._tiers.keep(key, entry, generation, l1_ttl=LEASE_SECONDS, early=early)
            return Outcome(entry.value, "l2")
        return Outcome(entry.value, "l2", "stale") if stale and now < header.stale_until else None

    async def _join(self, flight: Flight) -> Outcome:
        if self._tiers.now() >= flight.offered_until:
            flight.offered = None
        return await self._flights.join(flight)

    def _begin(self, family: Family, key: str, slot: Slot | None, *, forced: bool) -> Flight:
        flight = Flight(
            self._flights,
            key,
            generation=self._ledger.generation(key),
            began_at=self._tiers.now(),
            forced=forced,
            cancel=family.limits.on_abandon == "cancel",
        )
        if slot is not None and not forced:
            fresh = flight.began_at < slot.header.fresh_until
            flight.kept = Entry(slot.value, slot.header, slot.size)
            flight.offered = Outcome(slot.value, "l1", "early" if fresh else "stale")
            flight.offered_until = slot.header.stale_until
            if fresh and not family.bound:
                flight.resolve(flight.offered)
        self._flights.begin(flight)
        return flight

    async def _lead(self, flight: Flight, family: Family, load: Load) -> Outcome:
        """Ask L2; if that is not the answer, run the flight.

        A bound load runs here, in the life of its first caller. Any other runs as a task, so that
        it survives that caller.
        """
        if flight.outcome is not None:
            self._start(flight, family, load, None)
            return flight.outcome
        outcome, outer = ABANDONED, None
        try:
            outer = begin_wait(flight)
            found = await self._tiers.ask(flight.key, family.codec)
            fresh = self._fresh(flight, family, found)
            if fresh is not None:
                outcome = fresh
            elif family.bound:
                outcome = await self._produce(flight, family, load, found)
            else:
                self._start(flight, family, load, found)
                outcome = await self._flights.join(flight, patient=True)
        except Exception as error:  # noqa: BLE001 - it is raised again by value_of
            outcome = Outcome(error=error)
        finally:
            if outer is not None:
                outer.waits_for.remove(flight)
            if flight.task is None:
                self._end(flight, outcome)
        return outcome

    def _start(self, flight: Flight, family: Family, load: Load, found: Found | None) -> None:
        work = self._fly(flight, family, load, found)
        flight.task = self._loads.start(work, name=f"tiercache-load {flight.key}")

    def _end(self, flight: Flight, outcome: Outcome) -> None:
        flight.resolve(outcome)
        if not flight.storing:
            self._flights.end(flight)

    # The flight's side.

    async def _fly(self, flight: Flight, family: Family, load: Load, found: Found | None) -> None:
        """Run a flight as a task of its own."""
        cancelled = LoadCancelledError(f"The load of {flight.key!r} was cancelled")
        outcome = Outcome(error=cancelled)
        try:
            fresh = None
            if found is None:
                found = await self._tiers.ask(flight.key, family.codec)
                fresh = self._fresh(flight, family, found)
            outcome = fresh or await self._produce(flight, family, load, found)
        except Exception as raised:  # noqa: BLE001 - it is raised again by value_of
            outcome = Outcome(error=raised)
        except BaseException as raised:
            cancelled.__cause__ = raised
            if isinstance(raised, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                raise
        finally:
            self._end(flight, outcome)

    def _fresh(self, flight: Flight, family: Family, found: Found) -> Outcome | None:
        """Return the answer if what L2 holds is one that needs no refresh."""
        entry, kept = found.entry, flight.kept
        contradicted = found.what != "unknown" and (
            kept is not None and (entry is None or entry.header.entry_id != kept.header.entry_id)
        )
        if kept is not None and contradicted:
            # What L2 contradicts must not be served after what it holds now.
            self._tiers.drop(flight.key, kept.header.entry_id)
            flight.kept = flight.offered = None
        if entry is None:
            family.counts.refused_frames += found.what in _REFUSED
            return None
        header = entry.header
        if flight.forced:
            after = header.created_at > flight.began_at + CLOCK_MARGIN
            return Outcome(entry.value, "l2") if after else None
        early = self._early_at(family, header)
        if self._tiers.now() >= early:
            return None
        self._tiers.keep(
            flight.key, entry, flight.generation, l1_ttl=family.limits.l1_ttl, early=early
        )
        return Outcome(entry.value, "l2")

    async def _produce(self, flight: Flight, family: Family, load: Load, found: Found) -> Outcome:
        """Refresh or load, once it is clear who does.

        Args:
            flight: The flight.
            family: Its family.
            load: Fetches the value.
            found: What L2 holds, which is not fresh.
        """
        waited, pause, tries = 0.0, POLL_FIRST, 0
        limit = family.limits.load_limit
        while found.what not in _LOAD_AROUND and waited < limit and tries < MAX_TRIES:
            entry = found.entry
            wait = found.what == "lease"
            if entry is not None and self._tiers.now() < entry.header.stale_until:
                answer = await self._refresh_found(flight, family, load, entry)
                if answer is not None:
                    return answer
                wait = True
            if wait:
                await self._clock.sleep(pause)
                waited, pause, seen = waited + pause, min(pause * 2, POLL_LAST), found.raw
                found = await self._tiers.ask(flight.key, family.codec)
                if found.raw != seen:
                    # Others come and go: look often, but do not wait behind all of them.
                    pause, tries = POLL_FIRST, tries + 1
            else:
                tries += 1
                taken = await self._tiers.take(flight.key, found, family.codec)
                if isinstance(taken, Fence):
                    return await self._load(flight, family, load, fence=taken)
                found = taken
            fresh = self._fresh(flight, family, found)
            if fresh is not None:
                return fresh
        if found.what == "unknown" and flight.kept is not None and flight.offered is not None:
            # L2 has no say, so this process's own copy is what a failing loader falls back on.
            return await self._refresh(flight, family, load, flight.kept, flight.offered)
        doubt = found.what in {"unknown", "entry"}
        return await self._load(flight, family, load, doubt=doubt)

    async def _refresh_found(
        self, flight: Flight, family: Family, load: Load, entry: Entry
    ) -> Outcome | None:
        """Refresh an early or stale entry, or serve it while another process does.

        Returns:
            `None` if another process refreshes it and this flight must not serve it (`refresh`).
        """
        header, now = entry.header, self._tiers.now()
        state: State = "early" if now < header.fresh_until else "stale"
        old = Outcome(entry.value, "l2", state)
        if not flight.forced:
            l1_ttl = family.limits.l1_ttl
            self._tiers.keep(flight.key, entry, flight.generation, l1_ttl=l1_ttl, early=now)
        try:
            fence = await self._fences.mark(flight.key, header.entry_id)
        except TierError:
            return await self._refresh(flight, family, load, entry, old)
        if fence is not None:
            return await self._refresh(flight, family, load, entry, old, fence=fence)
        if flight.forced:
            return None
        if state == "early":
            self._tiers.postpone(flight.key, header.entry_id, LEASE_SECONDS)
        return old

    async def _refresh(
        self,
        flight: Flight,
        family: Family,
        load: Load,
        entry: Entry,
        old: Outcome,
        *,
        fence: Fence | None = None,
    ) -> Outcome:
        """Load anew while others have the old value; keep that if the loader fails."""
        if flight.forced:
            return await self._load(flight, family, load, fence=fence, doubt=fence is None)
        flight.offered, flight.offered_until = old, entry.header.stale_until
        patience = self._serve_meanwhile(flight, family, old)
        try:
            return await self._load(flight, family, load, fence=fence, doubt=fence is None)
        except Exception:
            if self._tiers.now() >= entry.header.stale_until:
                raise
            # Not every reader shall try a source that has just failed.
            self._tiers.postpone(flight.key, entry.header.entry_id, RETRY_SECONDS)
            return old
        finally:
            if patience is not None:
                patience.cancel()

    def _serve_meanwhile(
        self, flight: Flight, family: Family, old: Outcome
    ) -> asyncio.Task[None] | None:
        """Let waiting callers have the old value now or later; return the task of later."""
        limit = family.limits.soft_timeout
        if family.bound or (old.state == "stale" and limit is None):
            return None
        if old.state == "early" or not limit:
            flight.resolve(old)
            return None

        async def resolve_later(seconds: float) -> None:
            await self._clock.sleep(seconds)
            if self._tiers.now() < flight.offered_until:
                flight.resolve(old)

        return self._tasks.start(resolve_later(limit), name="tiercache-soft-timeout")

    async def _load(
        self,
        flight: Flight,
        family: Family,
        load: Load,
        *,
        fence: Fence | None = None,
        doubt: bool = False,
    ) -> Outcome:
        """Run the loader and send its value on its way into the tiers.

        Args:
            flight: The flight.
            family: Its family.
            load: Fetches the value.
            fence: The right to put it into L2; without it only L1 keeps the value.
            doubt: Whether L2 may hold something older that was not replaced.
        """
        created_at, started = self._tiers.now(), self._clock.monotonic()
        counts = family.counts
        counts.loads += 1
        try:
            value = await self._call(flight, family, load, fence)
            payload = family.codec.encode(value)
        except BaseException as error:
            seconds = self._clock.monotonic() - started
            counts.load_errors += 1
            counts.load_seconds += seconds
            if fence is not None:
                self._fences.release_soon(fence)
            self._notify(Loaded(family.name, flight.key, seconds, "error", error))
            raise
        seconds = self._clock.monotonic() - started
        counts.load_seconds += seconds
        life = lifetime(
            now=created_at, limits=family.limits, u=self._clock.random(), negative=value is None
        )
        if life is None:
            self._keep_nothing(flight.key, created_at, fence, doubt=doubt)
            self._notify(Loaded(family.name, flight.key, seconds, "negative"))
            return Outcome(value)
        header = Header(
            entry_id=token_bytes(ENTRY_ID_BYTES),
            created_at=life.created_at,
            fresh_until=life.fresh_until,
            stale_until=life.stale_until,
            load_seconds=seconds,
            fingerprint=family.codec.fingerprint,
        )
        entry = Entry(value, header, len(payload))
        if fence is None:
            self._conclude(flight, family, entry, "l1", doubt=doubt)
        else:
            flight.storing = True
            work = self._store(flight, family, entry, payload, fence)
            self._tasks.start(work, name="tiercache-store")
        return Outcome(value)

    def _keep_nothing(
        self, key: str, created_at: float, fence: Fence | None, *, doubt: bool
    ) -> None:
        """Let nothing be served in place of a `None` that is not kept."""
        if fence is not None:
            self._fences.release_soon(fence)
        self._tiers.drop_older(key, created_at)
        if doubt or (fence is not None and fence.mark is not None):
            self._doubt(key)

    async def _call(self, flight: Flight, family: Family, load: Load, fence: Fence | None) -> Any:
        """Await the loader within its limit, with the fence renewed."""
        key, limit = flight.key, family.limits.load_limit
        timeout = self._clock.timeout(limit)
        outer = CURRENT.set(flight)
        flight.loading = True
        try:
            # A fence that is lost tells of an invalidation elsewhere: later readers start over.
            lost = partial(self._flights.end, flight)
            async with self._fences.renewing(fence, lost), timeout:
                return await awaited(load, key)
        except TimeoutError as error:
            if timeout.expired():
                raise LoadTimeoutError(
                    f"The load of {key!r} took longer than {limit} s",
                    hint="Make the query faster, or raise load_limit in the policy.",
                ) from error
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise LoadCancelledError(f"The loader of {key!r} cancelled itself") from error
        finally:
            flight.loading = False
            CURRENT.reset(outer)

    async def _store(
        self, flight: Flight, family: Family, entry: Entry, payload: bytes, fence: Fence
    ) -> None:
        """Store a loaded entry in L2 if nothing overtook it; its callers have it already."""
        try:
            stored = await self._tiers.commit(fence, entry.header, payload)
            # A lease that could not be committed ends by itself; an old entry would come back.
            doubt = stored == "l1" and fence.mark is not None
            self._conclude(flight, family, entry, stored, doubt=doubt)
        finally:
            self._flights.end(flight)

    def _conclude(
        self, flight: Flight, family: Family, entry: Entry, stored: Stored, *, doubt: bool
    ) -> None:
        """Keep a loaded entry in L1 unless something overtook it, and tell how it ended."""
        if doubt:
            self._doubt(flight.key)
        header, l1_ttl = entry.header, family.limits.l1_ttl
        if stored == "l1":
            # Without a fence an invalidation elsewhere goes unnoticed from the load's begin on.
            l1_ttl -= header.load_seconds
        early = self._early_at(family, header)
        if stored == "overtaken":
            # Its callers have the new value, so nothing older must follow.
            self._tiers.drop_older(flight.key, header.created_at)
        elif not self._tiers.keep(flight.key, entry, flight.generation, l1_ttl=l1_ttl, early=early):
            stored = "l2" if stored == "l2" else "overtaken"
        family.counts.overtaken += stored == "overtaken"
        self._notify(Loaded(family.name, flight.key, header.load_seconds, stored))

    def _early_at(self, family: Family, header: Header) -> float:
        """Draw when a copy of an entry is due for an early refresh."""
        return early_at(
            created_at=header.created_at,
            fresh_until=header.fresh_until,
            load_seconds=header.load_seconds,
            beta=family.limits.early,
            u=self._clock.random(),
        )


async def awaited(load: Load, key: str) -> Any:
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


def _nobody(_event: Event) -> None:
    """Observe nothing."""


def count(counts: Counts, outcome: Outcome) -> None:
    """Count an answer that left the hit path, by the tier that gave it."""
    if outcome.tier == "l1":
        counts.l1_hits += 1
    elif outcome.tier == "l2":
        counts.l2_hits += 1
    if outcome.state == "early":
        counts.early_reads += 1
    elif outcome.state == "stale":
        counts.stale_reads += 1
