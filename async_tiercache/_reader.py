"""The read path of one key: L1, then L2, then the loader behind a fence.

A read that L1 cannot answer joins or starts a flight, which `_pilot` runs.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from async_tiercache._basis import Basis
from async_tiercache._events import Operation
from async_tiercache._family import Alias, Family, Load
from async_tiercache._flight import Flight
from async_tiercache._flights import Flights
from async_tiercache._followers import Followers
from async_tiercache._inside import proven
from async_tiercache._ledger import Ledger
from async_tiercache._look import Look
from async_tiercache._options import MISSING
from async_tiercache._outcome import ABANDONED, Outcome
from async_tiercache._pilot import RETRY_SECONDS, Pilot
from async_tiercache._read_log import ReadLog
from async_tiercache._runner import Runner
from async_tiercache._tiers import Tiers
from async_tiercache._tracing import Tracing, note_answers
from async_tiercache._view import View
from async_tiercache.abc import Clock
from async_tiercache.backends.slot import Slot


class Answer(NamedTuple):
    """How a call was answered.

    Attributes:
        flight: The flight that did.
        outcome: What it ended with, or offered meanwhile.
        joined: Whether the flight was another call's.
    """

    flight: Flight
    outcome: Outcome
    joined: bool


class Reader:
    """Answers reads of one key from the tiers, and loads what they lack."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        ledger: Ledger,
        view: View,
        flights: Flights,
        followers: Followers,
        runner: Runner,
        pilot: Pilot,
        clock: Clock,
        tracing: Tracing,
        log: ReadLog,
        sample: Callable[[Family, str, Load], None] | None,
    ) -> None:
        self._tiers = tiers
        self._ledger = ledger
        self._view = view
        self._flights = flights
        self._followers = followers
        self._runner = runner
        self._pilot = pilot
        self._clock = clock
        self._tracing = tracing
        self._log = log
        self._sample = sample

    async def read(
        self,
        family: Family,
        key: str,
        load: Load,
        *,
        alias: Alias | None = None,
        forced: bool = False,
        looked: Look | None = None,
    ) -> Any:
        """Return the value of a key, loading it if no tier has it.

        Args:
            family: The key's family.
            key: The key's text.
            load: Fetches the value.
            alias: Where a compiled call path looks for the slot of this key.
            forced: Load even if a tier has the value.
            looked: The look that left this to a flight, if there was one.

        Raises:
            Exception: Whatever the loader raised; each waiter gets its own copy.
            LoadTimeoutError: The loader took longer than the limit.
            LoadCancelledError: Somebody else loads it, and this load must not wait.
            RecursiveLoadError: The load would wait for itself.
        """
        started = self._clock.monotonic()
        slot = self._view.slot(key, load.tags, family=family)
        if slot is not None and not forced and self._serves(family, slot, started):
            self._tiers.link(family, key, alias, load.tags)
            return slot.value
        if self._tracing.on:
            operation = Operation("get", family.name, (key,))
            with self._tracing.around(operation):
                answer = await self._answer(family, key, load, slot, forced=forced)
                note_answers(operation, [answer.outcome], [answer.flight] if answer.joined else ())
                value = self.deliver(family, answer, started)
        else:
            answer = await self._answer(family, key, load, slot, forced=forced, looked=looked)
            value = self.deliver(family, answer, started)
        self._tiers.link(family, key, alias, load.tags)
        if self._sample is not None:
            self._sample(family, key, load)
        return value

    def deliver(self, family: Family, answer: Answer, started: float) -> Any:
        """Return the value of an answer, counted; or raise its error.

        Args:
            family: The key's family.
            answer: The answer.
            started: When the call came, monotonic.
        """
        flight, outcome, joined = answer
        value = flight.value_of(outcome, joined=joined)
        self._view.rest_on(outcome.basis or flight.basis, outcome)
        self._log.note(family, flight.key, outcome, joined=joined, started=started)
        return value

    def servable(self, family: Family, key: str, tags: tuple[str, ...], now: float) -> Slot | None:
        """Return the slot if L1 may answer at once, and count that.

        Args:
            family: The key's family.
            key: The key's text.
            tags: The tags that the value must stand under.
            now: The monotonic time.
        """
        slot = self._view.slot(key, tags, family=family)
        return slot if slot is not None and self._serves(family, slot, now) else None

    def _serves(self, family: Family, slot: Slot, now: float) -> bool:
        """Return whether what L1 holds answers at once, and count that."""
        if now >= slot.soft_deadline:
            due = family.bound or not self._runner.busy
            if due or self._tiers.now() >= slot.header.fresh_until:
                return False
            self._tiers.postpone(slot.key, slot.header.entry_id, RETRY_SECONDS)
        slot.visited = True
        family.counts.count_l1_hit()
        self._view.rest_on_slot(slot)
        return True

    async def _answer(
        self,
        family: Family,
        key: str,
        load: Load,
        slot: Slot | None,
        *,
        forced: bool,
        looked: Look | None = None,
    ) -> Answer:
        """Return the answer of a flight, another call's or one that begins here.

        Args:
            family: The key's family.
            key: The key's text.
            load: Fetches the value.
            slot: What L1 holds.
            forced: Load even if a tier has the value.
            looked: The look that left this to a flight, if there was one.
        """
        # A tracer's own code may have run since L1 was looked into.
        spared, again, known = False, forced, not self._tracing.on
        while True:
            find = self._view.to_load if forced else self._view.find
            flight = find(key, load.tags, family)
            joined, outcome = flight is not None, ABANDONED
            if flight is not None:
                self._followers.follow(looked, flight)
                outcome, known = await self._flights.join(flight), False
                joined = outcome.error is not None or not self._view.is_ahead(flight, outcome)
            if flight is None or not joined:
                slot = slot if known else self._view.slot(key, load.tags, family=family)
                found, known = self._view.found(looked, slot), False
                basis = looked.basis if looked is not None and found is not None else None
                flight = self._begun(family, key, slot, load, basis, forced=forced)
                self._followers.follow(looked, flight)
                looked = None
                outcome = await self._pilot.lead(flight, family, load, found)
            if outcome is ABANDONED:
                continue
            shown = self._view.shown(flight, outcome, again=again)
            if shown is None:
                again = True
                continue
            outcome, joined = shown, joined or shown is not outcome
            if outcome.value is MISSING:
                # What a batch found absent may be an error or a value for the loader of one.
                self._flights.end(flight)
                self._ledger.overtake(key)
                continue
            if joined and family.bound and not spared and outcome.may_be_theirs:
                spared = True
                continue
            if flight.proving is not None:
                await proven([flight])
            return Answer(flight, outcome, joined)

    def _begun(
        self,
        family: Family,
        key: str,
        slot: Slot | None,
        load: Load,
        basis: Basis | None,
        *,
        forced: bool,
    ) -> Flight:
        """Return a flight that begins here, which later readers join."""
        return self._pilot.begin(
            family,
            key,
            slot,
            tags=load.tags,
            opened=load.open,
            forced=forced,
            many=False,
            basis=basis,
        )

    def peek(
        self, family: Family, key: str, tags: tuple[str, ...], alias: Alias | None
    ) -> Slot | None:
        """Return the slot that L1 serves at once, and count that.

        Args:
            family: The key's family.
            key: The key's text.
            tags: The tags that the value must stand under.
            alias: Where a compiled path looks for the slot next time.
        """
        slot = self._view.slot(key, tags, family=family)
        if slot is None or self._clock.monotonic() >= slot.soft_deadline:
            return None
        slot.visited = True
        family.counts.count_l1_hit()
        self._view.rest_on_slot(slot)
        self._tiers.link(family, key, alias, tags)
        return slot
