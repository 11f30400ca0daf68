"""The pilot: runs one flight from what L2 holds to the value that its callers get.

Serve what is fresh; refresh what is early or stale, one refresher in the cluster; take a lease on
what is missing or dead; wait while another process has the lease. Without L2, or around what L2
must not be asked, load without a fence, and only L1 keeps the value.
"""

import asyncio
from copy import copy
from typing import Final

from async_tiercache._ask import Found
from async_tiercache._basis import Basis
from async_tiercache._bus import Bus
from async_tiercache._entry import Entry, Tier
from async_tiercache._events import Operation
from async_tiercache._family import MANY_MISSES, Family, Load
from async_tiercache._fence import LEASE_SECONDS, Fence, Fences
from async_tiercache._filler import Filler
from async_tiercache._finder import Finder
from async_tiercache._flight import Flight
from async_tiercache._flights import Flights
from async_tiercache._inside import CURRENT, begin_wait
from async_tiercache._ledger import Ledger
from async_tiercache._looks import Looks
from async_tiercache._outcome import ABANDONED, Outcome, cancelled_load
from async_tiercache._runner import Runner
from async_tiercache._tasks import Tasks
from async_tiercache._tiers import Tiers
from async_tiercache._tracing import Tracing
from async_tiercache.abc import Clock
from async_tiercache.backends.slot import Slot
from async_tiercache.errors import TierError
from async_tiercache.tags import NEVER_SERVED

POLL_FIRST: Final = 0.02
POLL_LAST: Final = 0.5
"""How often L2 is asked whether another process's load has ended, in seconds, growing."""
_LOAD_AROUND: Final = frozenset({"unknown", "schema", "refused", "block"})
MAX_TRIES: Final = 8
"""How often what a key holds may change under a flight before it loads without a fence."""
RETRY_SECONDS: Final = 1.0
"""How long a value whose refresh failed or had to wait is served before it is tried again."""


class Pilot:
    """Begins flights and runs them."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        finder: Finder,
        bus: Bus,
        ledger: Ledger,
        looks: Looks,
        flights: Flights,
        fences: Fences,
        runner: Runner,
        filler: Filler,
        tasks: Tasks,
        loads: Tasks,
        clock: Clock,
        tracing: Tracing,
    ) -> None:
        self._tiers = tiers
        self._finder = finder
        self._bus = bus
        self._ledger = ledger
        self._looks = looks
        self._flights = flights
        self._fences = fences
        self._runner = runner
        self._filler = filler
        self._tasks = tasks
        self._loads = loads
        self._clock = clock
        self._tracing = tracing

    def begin(
        self,
        family: Family,
        key: str,
        slot: Slot | None,
        *,
        tags: tuple[str, ...],
        opened: bool,
        forced: bool = False,
        many: bool,
        basis: Basis | None = None,
    ) -> Flight:
        """Begin a flight that later readers of the key join.

        Args:
            family: The key's family.
            key: The key's text.
            slot: What L1 holds, which is due for a refresh.
            tags: The tags that the value must stand under.
            opened: Whether the loader may name more.
            forced: Whether a stored value must not answer it.
            many: Whether that the source has no such thing is an answer.
            basis: What the value rests on, if that is known already.
        """
        self._looks.detach(key)
        if forced or self._flights.find(key) is not None:
            # What began to load before must not be kept after what this brings.
            self._ledger.overtake(key)
            self._tiers.detach(key)
        guessed = family.named.get(key, ())
        if slot is not None:
            # What is offered meanwhile stands under them, whatever the new value stands under.
            guessed = (*guessed, *slot.tags)
        flight = Flight(
            self._flights,
            codec=family.codec,
            basis=basis or self._ledger.basis(key, tags, guessed=guessed, opened=opened),
            began_at=self._tiers.now(),
            parent=CURRENT.get(),
            forced=forced,
            many=many,
            cancel=family.limits.on_abandon == "cancel",
            decode=family.codec.decode if family.limits.isolation == "copy" else None,
        )
        if slot is not None:
            flight.kept = Entry(slot.value, slot.header, slot.size, slot.payload)
            if not forced:
                self._offer(flight, flight.kept, slot, family)
        self._flights.begin(flight)
        return flight

    def _offer(self, flight: Flight, kept: Entry, slot: Slot, family: Family) -> None:
        """Offer what L1 holds to readers while the flight goes on."""
        flight.offered = old_answer(kept, "l1", flight.began_at, flight.basis)
        # Its own time may end earlier than the entry's, for want of a proof for example.
        left = slot.deadline - self._clock.monotonic()
        flight.offered_until = min(flight.began_at + left, kept.header.stale_until)
        if flight.offered.state == "early" and not family.bound:
            flight.answer(flight.began_at)

    async def lead(
        self, flight: Flight, family: Family, load: Load, found: Found | None = None
    ) -> Outcome:
        """Ask L2, unless it is known what that holds; if it is not the answer, run the flight.

        A bound load runs here, in the life of its first caller. Any other runs as a task, so that
        it survives that caller.
        """
        if flight.answered and flight.offered is not None:
            self.start(flight, family, load, None)
            return flight.offered
        outcome, outer = ABANDONED, None
        try:
            outer = begin_wait(flight)
            if found is None and (family.bound or not self._may_take_at_once(flight, family)):
                found = await self._ask(flight, family)
            fresh = None if found is None else self.fresh(flight, family, found)
            if fresh is not None:
                outcome = fresh
            elif found is not None and family.bound:
                outcome = await self._produce(flight, family, load, found)
            else:
                self.start(flight, family, load, found)
                outcome = await self._flights.join(flight, patient=True)
        except Exception as error:  # noqa: BLE001 - it is raised again by value_of
            outcome = Outcome(error=error)
        finally:
            if outer is not None:
                outer.end_wait(flight)
            if flight.task is None:
                self.end(flight, outcome)
        if outcome is ABANDONED and not load.waits:
            # Others who have joined start over.
            outcome = Outcome(error=cancelled_load(f"The load of {flight.key!r}"))
        return outcome

    def start(self, flight: Flight, family: Family, load: Load, found: Found | None) -> None:
        """Run a flight as a task of its own.

        Args:
            flight: The flight.
            family: Its family.
            load: Fetches the value.
            found: What L2 holds, if it has been asked.
        """
        work = self._fly(flight, family, load, found)
        flight.task = self._loads.start(work, name=f"tiercache-load {flight.key}")
        if flight.answered:
            self._runner.count_refresh(flight.task)
        part = load.part

        def ended(_: object) -> None:
            # Also when it is cancelled before it runs: nobody must wait for it then.
            if part is not None:
                part.give_way()
            if flight.outcome is None:
                error = cancelled_load(f"The load of {flight.key!r}")
                ours = family.bound and not self._loads.closing
                self.end(flight, ABANDONED if ours else Outcome(error=error))

        flight.task.add_done_callback(ended)

    def end(self, flight: Flight, outcome: Outcome) -> None:
        """Give the waiters their outcome; a value on its way into L2 still keeps the flight."""
        flight.resolve(outcome)
        if not flight.storing:
            self._flights.end(flight)

    # The flight's side.

    async def _fly(self, flight: Flight, family: Family, load: Load, found: Found | None) -> None:
        outcome = ABANDONED
        try:
            fresh = None
            if found is None:
                found = await self._ask(flight, family)
                fresh = self.fresh(flight, family, found)
            outcome = fresh or await self._produce(flight, family, load, found)
        except Exception as raised:  # noqa: BLE001 - it is raised again by value_of
            outcome = Outcome(error=raised)
        except BaseException as raised:
            ours = isinstance(raised, asyncio.CancelledError) and not self._loads.closing
            if not (ours and family.bound):
                cancelled = cancelled_load(f"The load of {flight.key!r}")
                cancelled.__cause__ = raised
                outcome = Outcome(error=cancelled)
            if isinstance(raised, asyncio.CancelledError | KeyboardInterrupt | SystemExit):
                raise
        finally:
            self.end(flight, outcome)

    async def _ask(self, flight: Flight, family: Family) -> Found:
        """Ask L2 what it holds, and for a lease with that where it will be needed."""
        if self._may_take_at_once(flight, family):
            return await self._finder.ask_and_take(flight.basis, family)
        return await self._finder.ask(flight.basis, family.counts, family.codec)

    def _may_take_at_once(self, flight: Flight, family: Family) -> bool:
        """Return whether to ask for the lease before it is known what L2 holds.

        That is likely nothing, as L2 has held nothing of the family for some time; and the load
        need not wait for its turn with the lease.
        """
        likely_nowhere = family.misses_in_a_row >= MANY_MISSES and flight.kept is None
        return likely_nowhere and not self._runner.bounded

    def fresh(self, flight: Flight, family: Family, found: Found) -> Outcome | None:
        """Return the answer if what L2 holds is one that needs no refresh."""
        entry, kept = _usable(flight, found), flight.kept
        missed = found.what in {"nothing", "ours"}
        family.misses_in_a_row = family.misses_in_a_row + 1 if missed else 0
        contradicted = found.what != "unknown" and (
            kept is not None and (entry is None or entry.header.entry_id != kept.header.entry_id)
        )
        if kept is not None and contradicted:
            # What L2 contradicts must not be served after what it holds now.
            self._tiers.drop(flight.key, kept.header.entry_id)
            flight.kept = flight.offered = None
        if found.refused:
            family.counts.refused_frames[found.refused] += 1
        if entry is None:
            return None
        header = entry.header
        answer = Outcome(entry.value, "l2", fresh_until=header.fresh_until, payload=entry.payload)
        early = self._filler.early_at(family, header)
        if flight.forced:
            if header.created_at <= flight.began_at + self._tiers.latest() - self._tiers.now():
                return None
        elif self._tiers.now() >= early:
            return None
        # Also in place of what L1 holds, which is older than another process's refresh.
        l1_ttl = family.limits.l1_ttl
        self._tiers.keep(_basis_of(flight, entry), family, entry, l1_ttl=l1_ttl, early=early)
        return answer

    async def _produce(self, flight: Flight, family: Family, load: Load, found: Found) -> Outcome:
        """Refresh or load, once it is clear who does.

        Args:
            flight: The flight.
            family: Its family.
            load: Fetches the value.
            found: What L2 holds, which is not fresh.
        """
        tries, limit, pause = 0, family.limits.load_limit, POLL_FIRST
        while found.what not in _LOAD_AROUND and limit > 0 and tries < MAX_TRIES:
            entry, patience = _usable(flight, found), 0.0
            if entry is not None and self._tiers.now() < entry.header.stale_until:
                answer = await self._refresh_found(flight, family, load, entry)
                if answer is not None:
                    return answer
                # A mark says nothing when it is given back, nor when its process dies.
                patience, pause = min(limit, pause), min(pause * 2, POLL_LAST)
            elif found.what == "lease":
                patience = limit
            if patience and not load.waits:
                return ABANDONED
            if patience:
                seen = found.raw
                found, waited = await self._wait(flight, family, load, found, patience)
                limit -= waited
                # Others come and go; do not wait behind all of them.
                tries += found.raw != seen
            else:
                tries += 1
                chosen = self._runner.chosen(flight, load)
                with await self._runner.turn(flight, family, chosen):
                    taken = await self._finder.take(flight.basis, found, family)
                    if isinstance(taken, Fence):
                        old = _comparable(entry)
                        return await self._filler.fill(flight, family, chosen, fence=taken, old=old)
                found = taken
            fresh = self.fresh(flight, family, found)
            if fresh is not None:
                return fresh
        return await self._load_around(flight, family, load, found)

    async def _load_around(
        self, flight: Flight, family: Family, load: Load, found: Found
    ) -> Outcome:
        """Load without a fence: only L1 keeps the value.

        Args:
            flight: The flight.
            family: Its family.
            load: Fetches the value.
            found: Why L2 is not asked for a fence.
        """
        if found.what == "unknown" and flight.kept is not None and flight.offered is not None:
            # L2 has no say, so this process's own copy is what a failing loader falls back on.
            return await self._refresh(flight, family, load, flight.kept)
        if found.what == "block" or self._ledger.is_blocked(flight.key, flight.basis.tags):
            # What is read now may be what the writer is about to change.
            flight.basis.sound = False
        doubt = found.what in {"unknown", "entry"}
        old = flight.kept if found.what == "unknown" else None
        return await self._filler.fill(flight, family, load, doubt=doubt, old=old)

    async def _wait(
        self, flight: Flight, family: Family, load: Load, found: Found, patience: float
    ) -> tuple[Found, float]:
        """Wait while another process loads, or an earlier flight of this one.

        Args:
            flight: The flight.
            family: Its family.
            load: Would fetch the value.
            found: What L2 holds until then.
            patience: How long to wait, in seconds.

        Returns:
            What L2 holds then, and how long that took.
        """
        if load.part is not None:
            load.part.give_way()
        seen, waited, look = found.raw, 0.0, LEASE_SECONDS
        pause = POLL_FIRST if found.what == "lease" else max(POLL_FIRST, patience)
        with self._tracing.around(Operation("wait", family.name, (flight.key,))):
            while found.raw == seen and waited < patience:
                began = self._clock.monotonic()
                with self._flights.behind_fence(flight):
                    if (
                        found.what == "lease"
                        and seen is not None
                        and self._bus.alive
                        # Its holder may die, and then its lease ends without a word.
                        and await self._bus.woken(flight.key, seen, look)
                    ):
                        look = LEASE_SECONDS / 2
                    else:
                        await self._clock.sleep(pause)
                        pause = min(pause * 2, POLL_LAST)
                waited += self._clock.monotonic() - began
                found = await self._finder.ask(flight.basis, family.counts, family.codec)
        return found, waited

    async def _refresh_found(
        self, flight: Flight, family: Family, load: Load, entry: Entry
    ) -> Outcome | None:
        """Refresh an early or stale entry, or serve it while another process does.

        Returns:
            `None` if another process refreshes it and this flight must not serve it (`refresh`).
        """
        header, now = entry.header, self._tiers.now()
        old = old_answer(entry, "l2", now, flight.basis)
        if not flight.forced:
            l1_ttl = family.limits.l1_ttl
            basis = _basis_of(flight, entry)
            self._tiers.keep(basis, family, entry, l1_ttl=l1_ttl, early=now)
            flight.offered, flight.offered_until = old, header.stale_until
            if old.state == "early" and not flight.answered and flight.task is not None:
                if self._runner.busy:
                    self._tiers.postpone(flight.key, header.entry_id, RETRY_SECONDS)
                    return old
                self._runner.count_refresh(flight.task)
        try:
            marking = self._fences.mark(flight.key, header.entry_id)
            fence = await self._finder.with_states(marking, flight.basis, family)
        except TierError:
            return await self._refresh(flight, family, load, entry)
        if fence is not None:
            return await self._refresh(flight, family, load, entry, fence=fence)
        if flight.forced:
            return None
        if old.state == "early":
            self._tiers.postpone(flight.key, header.entry_id, LEASE_SECONDS)
        return old

    async def _refresh(
        self,
        flight: Flight,
        family: Family,
        load: Load,
        entry: Entry,
        *,
        fence: Fence | None = None,
    ) -> Outcome:
        """Load anew while others have the old value; keep that if the loader fails."""
        if flight.forced:
            return await self._filler.fill(
                flight, family, load, fence=fence, doubt=fence is None, old=entry
            )
        patience = self._serve_meanwhile(flight, family)
        try:
            return await self._filler.fill(
                flight, family, load, fence=fence, doubt=fence is None, old=entry
            )
        except Exception:
            old = flight.offer(self._tiers.now())
            if old is None:
                raise
            # Not every reader shall try a source that has just failed.
            self._tiers.postpone(flight.key, entry.header.entry_id, RETRY_SECONDS)
            return old
        finally:
            if patience is not None:
                patience.cancel()

    def _serve_meanwhile(self, flight: Flight, family: Family) -> asyncio.Task[None] | None:
        """Let waiting callers have the old value now or later; return the task of later."""
        old, limit = flight.offer(self._tiers.now()), family.limits.soft_timeout
        if old is None or family.bound or (old.state == "stale" and limit is None):
            return None
        if old.state == "early" or not limit:
            flight.answer(self._tiers.now())
            return None

        async def answer_later(seconds: float) -> None:
            await self._clock.sleep(seconds)
            flight.answer(self._tiers.now())

        return self._tasks.start(answer_later(limit), name="tiercache-soft-timeout")


def _basis_of(flight: Flight, entry: Entry) -> Basis:
    """Return what an entry of L2 rests on: not on tags of the one that L1 held before."""
    held = entry.header.tags
    if len(flight.basis.tags) <= len(held):
        return flight.basis
    basis = copy(flight.basis)
    basis.narrow({*basis.declared, *(tag for tag, _ in held)})
    return basis


def _usable(flight: Flight, found: Found) -> Entry | None:
    """Return the entry that was found, if it can answer the flight."""
    entry = found.entry
    return None if entry is not None and entry.header.absent and not flight.many else entry


def _comparable(entry: Entry | None) -> Entry | None:
    """Return what was found if it must not be served unless the loader says that it is current."""
    return entry if entry is not None and entry.header.stale_until == NEVER_SERVED else None


def old_answer(entry: Entry, tier: Tier, now: float, basis: Basis | None = None) -> Outcome:
    """Return the answer with an entry that is due for a refresh.

    Args:
        entry: The entry.
        tier: Where it is from.
        now: The time by the remote tier's clock.
        basis: What it rests on, if it is offered while another value is loaded.
    """
    fresh_until, payload = entry.header.fresh_until, entry.payload
    early = Outcome(
        entry.value, tier, "early", fresh_until=fresh_until, payload=payload, basis=basis
    )
    return early.at(now)
