"""The read path: L1, then a flight that asks L2, then the loader, behind a fence.

A read that L1 cannot answer joins or starts a flight. The flight asks L2 once and decides: serve
what is fresh; refresh what is early or stale, one refresher in the cluster; take a lease on what is
missing or dead; wait while another process has the lease. Without L2, or around what L2 must not be
believed, it loads without a fence and only L1 keeps the value.
"""

import asyncio
import inspect
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any, Final, Literal, TypeAlias

from async_tiercache._entry import ENTRY_ID_BYTES, Entry, Header
from async_tiercache._events import Event, Loaded, Read, Refused, State
from async_tiercache._family import Alias, Family, Load
from async_tiercache._fence import LEASE_SECONDS, Fence, Fences
from async_tiercache._flight import ABANDONED, Flight, Flights, Outcome, flying, waiting_for
from async_tiercache._guard import Guard
from async_tiercache._ledger import Ledger
from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock, Codec, Invalidation, Observer, Remote
from async_tiercache.backends.memory import MemoryStore, Slot
from async_tiercache.codecs.frame import (
    FrameError,
    digest_key,
    is_lease,
    namespace_id,
    pack,
    unpack,
)
from async_tiercache.errors import (
    DecodeError,
    LoadCancelledError,
    LoadTimeoutError,
    TierError,
    UsageError,
)
from async_tiercache.policies.freshness import early_at, keep_until, lifetime, state_at

POLL_FIRST: Final = 0.02
POLL_LAST: Final = 0.5
"""How often L2 is asked whether another process's load has ended, in seconds, growing."""
RETRY_SECONDS: Final = 1.0
"""How long a value whose refresh failed is served from L1 before the loader is tried again."""


@dataclass(frozen=True, slots=True)
class _NotAsked:
    """L2 is out of reach, or must not be believed for this key."""


@dataclass(frozen=True, slots=True)
class _Unusable:
    """What L2 holds is no entry that this family can use.

    Attributes:
        why: Another process is loading; or damaged bytes, to be replaced; or the entry of another
            schema, to be left alone.
    """

    why: Literal["lease", "damaged", "schema"]


Stored: TypeAlias = Literal["l2", "l1", "overtaken"]

_NOT_ASKED: Final = _NotAsked()
_LEASE: Final = _Unusable("lease")
_DAMAGED: Final = _Unusable("damaged")
_SCHEMA: Final = _Unusable("schema")


class Reader:
    """Answers reads from the tiers and loads what they lack."""

    def __init__(
        self,
        *,
        namespace: str,
        remote: Remote,
        guard: Guard,
        ledger: Ledger,
        flights: Flights,
        fences: Fences,
        tasks: Tasks,
        clock: Clock,
        notify: Observer | None,
    ) -> None:
        self.store: MemoryStore | None = None
        self._namespace = namespace
        self._namespace_id = namespace_id(namespace)
        self._remote = remote
        self._guard = guard
        self._ledger = ledger
        self._flights = flights
        self._fences = fences
        self._tasks = tasks
        self._clock = clock
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
            slot = self._probe(key)
            if slot is not None and not forced and started < slot.soft_deadline:
                self._link(key, alias)
                slot.visited = True
                family.counts.l1_hits += 1
                return slot.value
            flight = self._flights.find(key)
            if flight is None or forced:
                flight = self._begin(family, key, slot, forced=forced)
                outcome = await self._lead(flight, family, load)
            else:
                joined = True
                outcome = await self._flights.join(flight)
            if outcome is not ABANDONED:
                break
        value = flight.value_of(outcome)
        self._link(key, alias)
        _count(family, outcome)
        if self._observed:
            seconds = self._clock.monotonic() - started
            self._notify(Read(family.name, key, outcome.tier, outcome.state, joined, seconds))
        return value

    def peek(self, key: str) -> Slot | None:
        """Return the slot that L1 would serve at once."""
        slot = self._probe(key)
        fresh = slot is not None and self._clock.monotonic() < slot.soft_deadline
        return slot if fresh else None

    async def look(self, key: str, codecs: dict[bytes, Codec], *, stale: bool) -> Outcome | None:
        """Return what the tiers have for a key, without a load and without a fence.

        Args:
            key: The key's text.
            codecs: The known codecs by fingerprint.
            stale: Whether a stale value will do.
        """
        flight = self._flights.find(key)
        if flight is not None:
            outcome = await self._flights.join(flight)
            if outcome is not ABANDONED and outcome.error is None:
                return outcome
        generation = self._ledger.generation(key)
        raw = await self._ask(key)
        if raw is None or isinstance(raw, _NotAsked) or is_lease(raw):
            return None
        entry = self._entry(key, raw, codecs)
        if isinstance(entry, _Unusable):
            return None
        header, now = entry.header, self._remote.now()
        if now < header.fresh_until:
            self.keep(key, entry, generation, l1_ttl=LEASE_SECONDS, early=header.fresh_until)
            return Outcome(entry.value, "l2")
        return Outcome(entry.value, "l2", "stale") if stale and now < header.stale_until else None

    def forget(self, record: Invalidation) -> None:
        """Let this process forget the record's keys: generations, L1 and flights."""
        self._ledger.apply(record)
        for key in record.keys:
            self._flights.detach(key)
            if self.store is not None:
                self.store.drop(key)

    def _probe(self, key: str) -> Slot | None:
        return None if self.store is None else self.store.get(key, self._clock.monotonic())

    def _link(self, key: str, alias: Alias | None) -> None:
        if alias is not None and self.store is not None:
            slot = self.store.slots.get(key)
            if slot is not None:
                self.store.link(slot, *alias)

    def _begin(self, family: Family, key: str, slot: Slot | None, *, forced: bool) -> Flight:
        flight = Flight(
            key,
            generation=self._ledger.generation(key),
            began_at=self._remote.now(),
            forced=forced,
            cancel=family.limits.on_abandon == "cancel",
        )
        if slot is not None and not forced:
            fresh = flight.began_at < slot.header.fresh_until
            flight.kept = Entry(slot.value, slot.header, slot.size)
            flight.offered = Outcome(slot.value, "l1", "early" if fresh else "stale")
            if fresh and not family.bound:
                flight.resolve(flight.offered)
        self._flights.begin(flight)
        return flight

    async def _lead(self, flight: Flight, family: Family, load: Load) -> Outcome:
        """Run the flight: as a task of its own, or in the life of its first caller."""
        if family.bound:
            with waiting_for(flight):
                return await self._fly(flight, family, load, ABANDONED)
        cancelled = LoadCancelledError(f"The load of {flight.key!r} was cancelled")
        work = self._fly(flight, family, load, Outcome(error=cancelled))
        flight.task = self._tasks.start(work, name=f"tiercache-load {flight.key}")
        return await self._flights.join(flight, patient=True)

    async def _fly(
        self, flight: Flight, family: Family, load: Load, if_cancelled: Outcome
    ) -> Outcome:
        outcome = if_cancelled
        with flying(flight):
            try:
                outcome = await self._produce(flight, family, load)
            except Exception as error:  # noqa: BLE001 - it is raised again by value_of
                outcome = Outcome(error=error)
            finally:
                flight.resolve(outcome)
                if not flight.storing:
                    self._flights.end(flight)
        return outcome

    # The flight's side.

    async def _produce(self, flight: Flight, family: Family, load: Load) -> Outcome:
        """Ask L2 until it is clear who loads, then serve, refresh or load."""
        key, waited, pause = flight.key, 0.0, POLL_FIRST
        raw = await self._ask(key)
        while not isinstance(raw, _NotAsked):
            found = None if raw is None else self._recognise(family, key, raw)
            if isinstance(found, Entry):
                answer = await self._answer(flight, family, found, load)
                if isinstance(answer, Outcome):
                    return answer
                found = answer
            if found is _SCHEMA or waited >= family.limits.load_limit:
                break
            if found is _LEASE:
                await self._clock.sleep(pause)
                waited, pause = waited + pause, min(pause * 2, POLL_LAST)
                raw = await self._ask(key)
                continue
            taken = await self._take(key, instead_of=raw)
            if isinstance(taken, Fence):
                return await self._load(flight, family, load, fence=taken)
            raw = taken
        if flight.kept is None or flight.offered is None or raw is not _NOT_ASKED:
            return await self._load(flight, family, load)
        # L2 has no say, so this process's own copy is what a failing loader falls back on.
        return await self._refresh(flight, family, load, flight.kept, flight.offered)

    async def _ask(self, key: str) -> bytes | _NotAsked | None:
        if not self._ledger.may_ask(key):
            return _NOT_ASKED
        try:
            return (await self._guard.call(self._remote.get_many, (key,)))[0]
        except TierError:
            return _NOT_ASKED

    async def _take(self, key: str, *, instead_of: bytes | None) -> Fence | bytes | _NotAsked:
        try:
            return await self._fences.take(key, instead_of=instead_of)
        except TierError:
            return _NOT_ASKED

    def _recognise(self, family: Family, key: str, raw: bytes) -> Entry | _Unusable:
        """Return the entry in `raw`, or why it is none."""
        if is_lease(raw):
            return _LEASE
        codec = family.codec
        entry = self._entry(key, raw, {codec.fingerprint: codec})
        if isinstance(entry, _Unusable):
            family.counts.refused_frames += 1
        return entry

    def _entry(self, key: str, raw: bytes, codecs: dict[bytes, Codec]) -> Entry | _Unusable:
        try:
            header, payload = unpack(
                raw,
                key_digest=digest_key(self._namespace, key),
                namespace_id=self._namespace_id,
            )
        except FrameError as error:
            self._notify(Refused(key, error.cause))
            return _DAMAGED
        codec = codecs.get(header.fingerprint)
        if codec is None:
            self._notify(Refused(key, "schema"))
            return _SCHEMA
        try:
            return Entry(codec.decode(payload), header, len(payload))
        except DecodeError:
            self._notify(Refused(key, "payload"))
            return _DAMAGED

    async def _answer(
        self, flight: Flight, family: Family, entry: Entry, load: Load
    ) -> Outcome | _Unusable | None:
        """Serve or refresh an entry; a lease to wait for; or nothing, if it is dead."""
        header, limits, now = entry.header, family.limits, self._remote.now()
        early = early_at(
            created_at=header.created_at,
            fresh_until=header.fresh_until,
            load_seconds=header.load_seconds,
            beta=limits.early,
            u=self._clock.random(),
        )
        state = state_at(
            now, early_at=early, fresh_until=header.fresh_until, stale_until=header.stale_until
        )
        if state == "dead":
            return None
        if flight.forced and header.created_at >= flight.began_at:
            return Outcome(entry.value, "l2")
        if state == "fresh" and not flight.forced:
            self.keep(flight.key, entry, flight.generation, l1_ttl=limits.l1_ttl, early=early)
            return Outcome(entry.value, "l2")
        served: State = "early" if state == "fresh" else state
        old = Outcome(entry.value, "l2", served)
        try:
            fence = await self._fences.mark(flight.key, header.entry_id)
        except TierError:
            return old
        if fence is not None:
            return await self._refresh(flight, family, load, entry, old, fence=fence)
        if flight.forced:
            return _LEASE
        pause = LEASE_SECONDS if served == "early" else 0.0
        self.keep(flight.key, entry, flight.generation, l1_ttl=limits.l1_ttl, early=now + pause)
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
        patience = None
        if not flight.forced:
            flight.offered = old
            if not family.bound and old.state == "early":
                flight.resolve(old)
            elif not family.bound and family.limits.soft_timeout is not None:
                patience = self._tasks.start(
                    self._resolve_later(flight, old, family.limits.soft_timeout),
                    name="tiercache-soft-timeout",
                )
        try:
            return await self._load(flight, family, load, fence=fence)
        except Exception:
            if flight.forced:
                raise
            # Not every reader shall try a source that has just failed.
            self.keep(
                flight.key,
                entry,
                flight.generation,
                l1_ttl=RETRY_SECONDS,
                early=None,
            )
            return old
        finally:
            if patience is not None:
                patience.cancel()

    async def _resolve_later(self, flight: Flight, old: Outcome, seconds: float) -> None:
        await self._clock.sleep(seconds)
        flight.resolve(old)

    async def _load(
        self, flight: Flight, family: Family, load: Load, *, fence: Fence | None = None
    ) -> Outcome:
        """Run the loader and send its value on its way into the tiers."""
        created_at, started = self._remote.now(), self._clock.monotonic()
        counts = family.counts
        counts.loads += 1
        try:
            value = await self._call(flight.key, family, load, fence)
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
            if fence is not None:
                self._fences.release_soon(fence)
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
            self._settle(flight, family, entry, "l1")
        else:
            flight.storing = True
            work = self._store(flight, family, entry, payload, fence)
            self._tasks.start(work, name="tiercache-store")
        return Outcome(value)

    async def _call(self, key: str, family: Family, load: Load, fence: Fence | None) -> Any:
        """Await the loader within its limit, with the fence renewed."""
        limit = family.limits.load_limit
        timeout = self._clock.timeout(limit)
        try:
            async with self._fences.renewing(fence), timeout:
                loading = load()
                if not inspect.isawaitable(loading):
                    raise UsageError(
                        f"The loader of {key!r} returned {type(loading).__name__}, no awaitable",
                        hint="Pass a coroutine function, for example `async def load(): ...`.",
                    )
                return await loading
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

    async def _store(
        self, flight: Flight, family: Family, entry: Entry, payload: bytes, fence: Fence
    ) -> None:
        """Store a loaded entry in L2 if nothing overtook it; its callers have it already."""
        try:
            stored = await self.commit(fence, entry.header, payload)
            self._settle(flight, family, entry, stored)
        finally:
            self._flights.end(flight)

    def _settle(self, flight: Flight, family: Family, entry: Entry, stored: Stored) -> None:
        """Keep a loaded entry in L1 unless something overtook it, and tell how it ended."""
        header, limits = entry.header, family.limits
        early = early_at(
            created_at=header.created_at,
            fresh_until=header.fresh_until,
            load_seconds=header.load_seconds,
            beta=limits.early,
            u=self._clock.random(),
        )
        if stored != "overtaken" and not self.keep(
            flight.key, entry, flight.generation, l1_ttl=limits.l1_ttl, early=early
        ):
            stored = "overtaken"
        if stored == "overtaken":
            family.counts.overtaken += 1
        self._notify(Loaded(family.name, flight.key, header.load_seconds, stored))

    async def commit(self, fence: Fence, header: Header, payload: bytes) -> Stored:
        """Store a value in L2 if it still holds what the fence names."""
        frame = pack(
            header,
            payload,
            key_digest=digest_key(self._namespace, fence.key),
            namespace_id=self._namespace_id,
        )
        seconds = header.stale_until - self._remote.now()
        try:
            stored = seconds > 0 and await self._fences.commit(fence, frame, seconds)
        except TierError:
            self._fences.release_soon(fence)
            return "l1"
        return "l2" if stored else "overtaken"

    def keep(
        self,
        key: str,
        entry: Entry,
        generation: int,
        *,
        l1_ttl: float,
        early: float | None,
    ) -> bool:
        """Put an entry into L1 unless an invalidation came between; return whether none did.

        Args:
            key: The key's text.
            entry: What to keep.
            generation: The key's generation when the making of the entry began.
            l1_ttl: How long it may be served before L2 is asked again, in seconds.
            early: When it is due for a refresh; `None` serves it although it is.
        """
        if not self._ledger.may_keep(key, generation):
            return False
        if self.store is not None:
            now, header = self._clock.monotonic(), entry.header
            skew = now - self._remote.now()
            soft, hard = keep_until(
                now=now - skew, header=header, l1_ttl=l1_ttl, early_at=early or header.stale_until
            )
            deadline = min(hard + skew, now + l1_ttl)
            soft_deadline = deadline if early is None else min(soft + skew, deadline)
            self.store.put(key, entry, soft_deadline=soft_deadline, deadline=deadline, now=now)
        return True


def _nobody(_event: Event) -> None:
    """Observe nothing."""


def _count(family: Family, outcome: Outcome) -> None:
    counts = family.counts
    if outcome.tier == "l2":
        counts.l2_hits += 1
    if outcome.state == "early":
        counts.early_reads += 1
    elif outcome.state == "stale":
        counts.stale_reads += 1
