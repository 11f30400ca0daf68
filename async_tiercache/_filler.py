"""The filler: has a loader run, and sends its value on its way into the tiers.

Callers get their value first; it is put into L2 behind them. What an invalidation has overtaken is
kept nowhere.
"""

import logging
from collections.abc import Callable
from copy import copy
from secrets import token_bytes
from typing import Any

from async_tiercache._context import LoadContext
from async_tiercache._entry import ENTRY_ID_BYTES, Entry, Header
from async_tiercache._events import Loaded, Operation, Stored
from async_tiercache._family import Family, Load
from async_tiercache._fence import Fence, Fences
from async_tiercache._finder import Finder, has_evidence, with_evidence
from async_tiercache._flight import Flight
from async_tiercache._flights import Flights
from async_tiercache._options import MISSING
from async_tiercache._outcome import Outcome
from async_tiercache._runner import Runner
from async_tiercache._tasks import Tasks
from async_tiercache._tenancy import Tenancy
from async_tiercache._tiers import Tiers
from async_tiercache._tracing import Tracing
from async_tiercache.abc import Clock, Observer
from async_tiercache.errors import UsageError
from async_tiercache.policies.freshness import Lifetime, early_at, lifetime
from async_tiercache.tags import MAX_HELD, MAX_TAGS

_log = logging.getLogger("async_tiercache")


class Filler:
    """Loads, and puts what was loaded into the tiers."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        finder: Finder,
        flights: Flights,
        fences: Fences,
        tasks: Tasks,
        clock: Clock,
        runner: Runner,
        tenancy: Tenancy,
        tracing: Tracing,
        doubt: Callable[[str], None],
        notify: Observer,
    ) -> None:
        self._tiers = tiers
        self._finder = finder
        self._flights = flights
        self._fences = fences
        self._tasks = tasks
        self._clock = clock
        self._runner = runner
        self._tenancy = tenancy
        self._tracing = tracing
        self._doubt = doubt
        self._notify = notify
        self._warned: set[str] = set()

    async def fill(
        self,
        flight: Flight,
        family: Family,
        load: Load,
        *,
        fence: Fence | None = None,
        doubt: bool = False,
        old: Entry | None = None,
    ) -> Outcome:
        """Run the loader and send its value on its way into the tiers.

        Args:
            flight: The flight.
            family: Its family.
            load: Fetches the value.
            fence: The right to put it into L2; without it only L1 keeps the value.
            doubt: Whether L2 may hold something older that was not replaced.
            old: The entry that is being refreshed.
        """
        started, context = self._clock.monotonic(), self._runner.context_of(old)
        try:
            value = await self._runner.load(flight, family, load, fence, context)
            payload = self._encoded(flight.key, family, value, context, old)
        except BaseException as error:
            seconds = self._clock.monotonic() - started
            if fence is not None:
                self._fences.release_soon(fence)
            self._notify(Loaded(family.name, flight.key, seconds, "error", error))
            raise
        seconds = self._clock.monotonic() - started
        if not (context.unmodified or context.renews):
            family.remember_tags(flight.key, context.texts)
            _drop_guesses(flight, context)
        if context.texts:
            # A load that waits for this one has to rest on them, too, even if nothing is kept.
            proving = self._finder.prove_late(flight.basis, context.texts, family)
            flight.proving = self._tasks.start(proving, name="tiercache-prove")
        life = self._lifetime(family, value, payload, context, flight)
        if not isinstance(life, Lifetime):
            self._keep_nothing(flight.key, flight.load_began_at, fence, doubt=doubt)
            self._note(family, flight.key, seconds, life)
            return Outcome(value, payload=payload)
        header = self._header_of(life, flight, family, context, absent=value is MISSING)
        entry = Entry(value, header, len(payload), payload)
        outcome = Outcome(value, fresh_until=header.fresh_until, payload=payload)
        if flight.forced:
            # Its caller has the value before L1 does, which may hold one that is still fresh.
            self._tiers.drop_older(flight.key, flight.load_began_at)
        if fence is None and not context.texts:
            self._conclude(flight, family, entry, "l1", doubt=doubt)
            return outcome
        if doubt:
            # Its callers have the value before it has been proven.
            self._doubt(flight.key)
        flight.storing = True
        work = self._store(flight, family, entry, fence, context, old=old)
        self._tasks.start(work, name="tiercache-store")
        return outcome

    def _encoded(
        self, key: str, family: Family, value: Any, context: LoadContext, old: Entry | None
    ) -> bytes | memoryview:
        if value is MISSING:
            return b""
        if context.unmodified and old is not None:
            if value is not old.value:
                raise UsageError(
                    f"The loader of {key!r} called not_modified() and returned another value",
                    hint="Write `return context.not_modified()`.",
                )
            return old.payload or family.encode(key, value)
        try:
            return family.encode(key, value)
        except Exception:
            family.counts.load_errors += 1
            raise

    def _lifetime(
        self,
        family: Family,
        value: Any,
        payload: bytes | memoryview,
        context: LoadContext,
        flight: Flight,
    ) -> Lifetime | Stored:
        """Return how long a value is kept, or why it is not.

        What is made from one that is not kept lives no better: its basis says how long.
        """
        limits, basis = family.limits, flight.basis
        most = MAX_HELD if self._tenancy.on else MAX_TAGS
        if not basis.sound or len({*basis.tags, *context.texts}) > most:
            basis.sound = False
            return "unsound"
        if context.skipped:
            basis.sound = False
            return "skipped"
        if value is MISSING and limits.negative_ttl is None:
            basis.sound = False
            return "negative"
        life = lifetime(
            now=flight.load_began_at,
            limits=limits,
            u=self._clock.random(),
            negative=value is None or value is MISSING or context.is_negative,
            ttl=context.ttl,
        )
        if life is None:
            basis.sound = False
            return "negative"
        if life.fresh_until > basis.fresh_until:
            life = life.until(basis.fresh_until)
            if life.fresh_until <= self._tiers.now():
                return "unsound"
        if life.stale_until <= self._tiers.now():
            basis.limit(life.fresh_until, sound=True)
            return "expired"
        if limits.max_value_bytes is not None and len(payload) > limits.max_value_bytes:
            basis.limit(life.fresh_until, sound=True)
            self._warn_of_size(family, len(payload))
            return "oversized"
        return life

    def _warn_of_size(self, family: Family, size: int) -> None:
        if family.name not in self._warned:
            self._warned.add(family.name)
            _log.warning(
                "A value of %s has %d bytes, more than max_value_bytes=%d: it is not kept",
                family.name,
                size,
                family.limits.max_value_bytes,
            )

    def _keep_nothing(
        self, key: str, created_at: float, fence: Fence | None, *, doubt: bool
    ) -> None:
        """Let nothing older be served in place of a value that is not kept."""
        if fence is not None:
            self._fences.release_soon(fence)
        self._tiers.drop_older(key, created_at)
        if doubt or (fence is not None and fence.mark is not None):
            self._doubt(key)

    async def _store(
        self,
        flight: Flight,
        family: Family,
        entry: Entry,
        fence: Fence | None,
        context: LoadContext,
        *,
        old: Entry | None,
    ) -> None:
        """Store a loaded entry if nothing overtook it; its callers have it already.

        Args:
            flight: The flight.
            family: Its family.
            entry: What was loaded.
            fence: The right to put it into L2; without it only L1 keeps it.
            context: What the loader said of it.
            old: The entry that was refreshed.
        """
        try:
            stored: Stored = "l1"
            doubt = False
            if flight.proving is not None and not await flight.proving:
                stored = "overtaken"
            header = with_evidence(entry.header, flight.basis)
            entry = Entry(entry.value, header, entry.size, entry.payload)
            if fence is not None and stored == "overtaken":
                self._fences.release_soon(fence)
            elif fence is not None:
                unmodified = context.unmodified
                stored = await self._put(
                    flight, family, entry, fence, renewable=unmodified, old=old
                )
                if stored == "overtaken" and fence.mark is not None:
                    # It would keep others from refreshing what is there now.
                    self._fences.release_soon(fence)
                # A lease that could not be committed ends by itself; an old entry would come back.
                doubt = stored in {"l1", "unencodable"} and fence.mark is not None
            self._conclude(flight, family, entry, stored, doubt=doubt)
        finally:
            flight.storing = False
            self._flights.end(flight)

    async def _put(
        self,
        flight: Flight,
        family: Family,
        entry: Entry,
        fence: Fence,
        *,
        renewable: bool,
        old: Entry | None,
    ) -> Stored:
        """Put an entry into L2, all of it or only its new times."""
        header = entry.header
        if self._tiers.has_remote and not has_evidence(header, flight.basis):
            self._fences.release_soon(fence)
            return "unproven"
        renewed = (
            renewable
            and old is not None
            and fence.mark is not None
            and (old.header.etag, old.header.namespace, old.header.tags)
            == (header.etag, header.namespace, header.tags)
        )
        operation = Operation("put", family.name, (flight.key,), size=entry.size)
        try:
            with self._tracing.around(operation):
                if renewed:
                    stored = await self._tiers.renew(fence, header)
                else:
                    stored = await self._tiers.commit(fence, family, entry)
                operation.stored = stored
        except Exception:  # noqa: BLE001 - whatever encoding raises
            # Its callers have it already, so nobody else would be told.
            _log.exception("A value of %s cannot be stored in L2", family.name)
            self._fences.release_soon(fence)
            return "unencodable"
        return stored

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
        early = self.early_at(family, header)
        if stored == "overtaken":
            # Its callers have the new value, so nothing older must follow.
            self._tiers.drop_older(flight.key, header.created_at)
        elif not self._tiers.keep(flight.basis, family, entry, l1_ttl=l1_ttl, early=early):
            stored = "l2" if stored == "l2" else "overtaken"
        if stored == "overtaken":
            self._tiers.raise_floor(flight.key)
        elif stored == "l2":
            self._tiers.note_stored(flight)
        self._note(family, flight.key, header.load_seconds, stored)

    def _note(self, family: Family, key: str, seconds: float, stored: Stored) -> None:
        """Count and tell what became of a loaded value."""
        if stored == "l1" and self._tiers.has_remote:
            family.counts.not_stored["unreachable"] += 1
        elif stored not in {"l1", "l2"}:
            family.counts.not_stored[stored] += 1
        self._notify(Loaded(family.name, key, seconds, stored))

    def _header_of(
        self, life: Lifetime, flight: Flight, family: Family, context: LoadContext, *, absent: bool
    ) -> Header:
        """Return the header of a loaded value, without its evidence; an id is for L2."""
        return Header(
            entry_id=token_bytes(ENTRY_ID_BYTES) if self._tiers.has_remote else b"",
            created_at=life.created_at,
            fresh_until=life.fresh_until,
            stale_until=life.stale_until,
            load_seconds=flight.load_seconds,
            fingerprint=family.codec.fingerprint,
            etag=context.new_etag,
            absent=absent,
        )

    def early_at(self, family: Family, header: Header) -> float:
        """Draw when a copy of an entry is due for an early refresh."""
        return early_at(
            created_at=header.created_at,
            fresh_until=header.fresh_until,
            load_seconds=header.load_seconds,
            beta=family.limits.early,
            u=self._clock.random(),
        )


def _drop_guesses(flight: Flight, context: LoadContext) -> None:
    """Let a loaded value rest on no tag that only the one before it stood under.

    What is unmodified is that one, and what renews it is made of it. Who was offered it meanwhile
    rests on all of its tags still.
    """
    tags = {*flight.basis.declared, *flight.part_tags, *context.texts}
    if not tags.issuperset(flight.basis.tags):
        flight.basis = copy(flight.basis)
        flight.basis.narrow(tags)
