"""The read path: L1, then L2, then the loader behind a fence.

A read that L1 cannot answer joins or starts a flight, which `_pilot` runs. Reads of many keys ask
L2 together, and then each key goes its own way.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from itertools import islice, repeat
from typing import Any, Final

from async_tiercache._ask import Found
from async_tiercache._events import Operation
from async_tiercache._families import DIRECT
from async_tiercache._family import Alias, Family, Load
from async_tiercache._fence import LEASE_SECONDS
from async_tiercache._filler import Filler
from async_tiercache._finder import Finder
from async_tiercache._flight import ABANDONED, Answer, Flight, Flights, Outcome, inside
from async_tiercache._ledger import Ledger
from async_tiercache._look import Look
from async_tiercache._looks import Looks
from async_tiercache._options import MISSING
from async_tiercache._pilot import RETRY_SECONDS, Pilot, old_answer
from async_tiercache._read_log import ReadLog
from async_tiercache._tiers import Tiers
from async_tiercache._tracing import Tracing, note_answers
from async_tiercache._view import View
from async_tiercache.abc import Clock
from async_tiercache.backends.memory import Slot
from async_tiercache.errors import LoadTimeoutError

MAX_TOGETHER: Final = 1_000
"""Keys of one call that are asked for and loaded together; the next ones come after them."""


class Reader:
    """Answers reads from the tiers and loads what they lack."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        finder: Finder,
        ledger: Ledger,
        view: View,
        looks: Looks,
        flights: Flights,
        filler: Filler,
        pilot: Pilot,
        clock: Clock,
        tracing: Tracing,
        log: ReadLog,
        sample: Callable[[Family, str, Load], None] | None,
    ) -> None:
        self._tiers = tiers
        self._finder = finder
        self._ledger = ledger
        self._view = view
        self._looks = looks
        self._flights = flights
        self._filler = filler
        self._pilot = pilot
        self._clock = clock
        self._tracing = tracing
        self._log = log
        self._sample = sample

    # The caller's side.

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
            RecursiveLoadError: The load would wait for itself.
        """
        started = self._clock.monotonic()
        if not forced:
            slot = self._servable(family, key, load.tags, started)
            if slot is not None:
                self._tiers.link(family, key, alias, load.tags)
                return slot.value
        if self._tracing.on:
            operation = Operation("get", family.name, (key,))
            with self._tracing.around(operation):
                answer = await self._answer(family, key, load, forced=forced)
                note_answers(operation, [answer.outcome], [answer.flight] if answer.joined else ())
                value = self._deliver(family, answer, started)
        else:
            answer = await self._answer(family, key, load, forced=forced, looked=looked)
            value = self._deliver(family, answer, started)
        self._tiers.link(family, key, alias, load.tags)
        if self._sample is not None:
            self._sample(family, key, load)
        return value

    def _deliver(self, family: Family, answer: Answer, started: float) -> Any:
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

    def _servable(self, family: Family, key: str, tags: tuple[str, ...], now: float) -> Slot | None:
        """Return the slot if L1 may answer at once, and count that."""
        slot = self._view.slot(key, tags, family=family)
        if slot is None:
            return None
        if now >= slot.soft_deadline:
            due = family.bound or not self._filler.busy
            if due or self._tiers.now() >= slot.header.fresh_until:
                return None
            self._tiers.postpone(key, slot.header.entry_id, RETRY_SECONDS)
        slot.visited = True
        family.counts.count_l1_hit()
        self._view.rest_on_slot(slot)
        return slot

    async def _answer(
        self, family: Family, key: str, load: Load, *, forced: bool, looked: Look | None = None
    ) -> Answer:
        """Return the answer of a flight, another call's or one that begins here."""
        spared, again = False, forced
        while True:
            flight = self._view.find(key, load.tags, family)
            joined = flight is not None and not forced
            outcome = ABANDONED
            if flight is not None and joined:
                family.misses_in_a_row = 0
                self._follow(looked, flight)
                outcome = await self._flights.join(flight)
                joined = outcome.error is not None or not self._view.is_ahead(flight, outcome)
            if flight is None or not joined:
                slot = self._view.slot(key, load.tags, family=family)
                found, basis = self._view.found(looked, slot), None
                if looked is not None and found is not None:
                    basis = looked.basis
                flight = self._pilot.begin(
                    family,
                    key,
                    slot,
                    tags=load.tags,
                    opened=load.open,
                    forced=forced,
                    many=False,
                    basis=basis,
                )
                self._follow(looked, flight)
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
            if joined and family.bound and not spared and _may_be_theirs(outcome):
                spared = True
                continue
            if flight.proving is not None:
                await _proven([flight])
            return Answer(flight, outcome, joined)

    def _follow(self, looked: Look | None, flight: Flight) -> None:
        """Let the other readers of a look have what a flight brings, without a task of each."""
        if looked is None or looked.followed or self._flights.at_once(flight):
            return
        looked.family.misses_in_a_row = 0
        waiter = flight.wait()
        looked.follow(partial(self._flights.leave, flight, waiter))
        waiter.add_done_callback(partial(self._share, looked, flight))

    def _share(self, looked: Look, flight: Flight, waiter: "asyncio.Future[Outcome]") -> None:
        """Give the readers of a look the outcome of a flight, if it is one for all of them."""
        if waiter.cancelled():
            looked.wake()
            return
        outcome: Outcome | None = waiter.result()
        flight.leave(waiter)
        if outcome is not ABANDONED:
            outcome = self._view.shown(flight, waiter.result(), again=False)
        if outcome is None or outcome is ABANDONED or outcome.value is MISSING:
            # Each has to find another one.
            looked.wake()
            return
        readers, listened = looked.take(), self._log.listened
        note = partial(self._log.note, looked.family, flight.key, outcome, joined=True)
        answered, each_its_own = 0, flight.decode is not None or outcome.error is not None
        value = outcome.value
        for reader in readers:
            if each_its_own:
                try:
                    value = flight.value_of(outcome, joined=True)
                except Exception as error:  # noqa: BLE001 - it is the reader's
                    reader.set_exception(error)
                    reader.exception()  # which may be cancelled before it sees that
                    continue
            reader.set_result(value)
            answered += 1
            if listened:
                since, context = looked.came.pop(reader)
                context.run(note, started=since)
        if answered and not listened:
            self._log.note_all(looked.family, flight.key, outcome, answered)

    async def read_many(
        self,
        family: Family,
        keys: Mapping[str, tuple[str, ...]],
        load_of: Callable[[str], Load],
        *,
        opened: bool = False,
    ) -> dict[str, Any]:
        """Return the values of several keys, loading together what no tier has.

        Args:
            family: The keys' family.
            keys: The texts of the keys, each with the tags that its value must stand under.
            load_of: Is asked for the load of each key that has to be loaded.
            opened: Whether the loader may name more tags.

        Returns:
            The values in the order of the keys; a key that the source does not have is left out.

        Raises:
            Exception: The error of the first key that has one; the others are stored first.
        """
        started = self._clock.monotonic()
        values: dict[str, Any] = dict.fromkeys(keys, MISSING)
        left: dict[str, tuple[str, ...]] = {}
        held = {} if self._tiers.store is None else self._tiers.store.slots
        for key, tags in keys.items():
            if key not in held:
                left[key] = tags
            elif (slot := self._servable(family, key, tags, started)) is not None:
                values[key] = slot.value
            elif inside() is None and self._tiers.knows_absent(key, tags):
                family.counts.count_l1_hit()
            else:
                left[key] = tags
        if left:
            operation = Operation("get", family.name, tuple(left))
            with self._tracing.around(operation):
                answers: dict[str, Answer] = {}
                for start in range(0, len(left), MAX_TOGETHER):
                    part = dict(islice(left.items(), start, start + MAX_TOGETHER))
                    answers |= await self._answers_beyond(
                        family, part, load_of, values, started, opened=opened
                    )
                if self._tracing.on:
                    joined = [each.flight for each in answers.values() if each.joined]
                    note_answers(operation, [each.outcome for each in answers.values()], joined)
                for key in filter(answers.__contains__, left):
                    values[key] = self._deliver(family, answers[key], started)
        return {key: value for key, value in values.items() if value is not MISSING}

    async def _answers_beyond(
        self,
        family: Family,
        keys: Mapping[str, tuple[str, ...]],
        load_of: Callable[[str], Load],
        values: dict[str, Any],
        started: float,
        *,
        opened: bool,
    ) -> dict[str, Answer]:
        """Note the values that L2 has for keys; return the answers for the others."""
        # What was in progress must not be abandoned before it is joined.
        joins = filter(None, map(self._view.find, keys, keys.values()))
        with self._flights.held(list(joins) if len(self._flights) else []):
            async with self._looks.asked(family, keys, opened=opened) as survey:
                hits = survey.values
                values |= hits
                self._log.note_hit_keys(family, hits, started=started)
                if len(hits) == len(keys):
                    return {}
                left = {key: tags for key, tags in keys.items() if key not in hits}
                return await self._answers(family, left, load_of, {**survey.looks}, opened=opened)

    async def _answers(
        self,
        family: Family,
        keys: Mapping[str, tuple[str, ...]],
        load_of: Callable[[str], Load],
        looked: dict[str, Look],
        *,
        opened: bool,
    ) -> dict[str, Answer]:
        """Return the answer for each key."""
        answers: dict[str, Answer] = {}
        spared: set[str] = set()
        again: set[str] = set()
        found = map(self._view.find, keys, keys.values(), repeat(family))
        ahead = [each for each in found if each and self._view.is_ahead(each)]
        passed = set(ahead)
        for each, outcome in zip(ahead, await self._flights.join_all(ahead), strict=True):
            if outcome.error is not None:
                answers[each.key] = Answer(each, outcome, joined=True)
        left = [key for key in keys if key not in answers]
        while left:
            leads, joins = self._begin_or_find(family, left, keys, passed, looked, opened=opened)
            led = leads.keys()
            outcomes = await self._round(family, leads, joins, load_of)
            for flight, outcome in outcomes.items():
                key, joined = flight.key, outcome is not ABANDONED and flight not in led
                strangers = not flight.many or family.bound
                if joined and self._view.is_ahead(flight, outcome) and outcome.error is None:
                    passed.add(flight)
                elif joined and strangers and key not in spared and _may_be_theirs(outcome):
                    spared.add(key)
                elif outcome is not ABANDONED:
                    shown = self._view.shown(flight, outcome, again=key in again)
                    again.add(key)
                    if shown is not None:
                        answers[key] = Answer(flight, shown, joined or shown is not outcome)
            left = [key for key in left if key not in answers]
        await _proven([answer.flight for answer in answers.values()])
        return answers

    def _begin_or_find(
        self,
        family: Family,
        left: Sequence[str],
        keys: Mapping[str, tuple[str, ...]],
        passed: Collection[Flight],
        looked: dict[str, Look],
        *,
        opened: bool,
    ) -> tuple[dict[Flight, Found | None], list[Flight]]:
        """Return the flights that a call begins for its keys, and those of others that it joins.

        Beside each that begins stands what a look has found for it.
        """
        leads: dict[Flight, Found | None] = {}
        joins: list[Flight] = []
        for key in left:
            tags = keys[key]
            flight = self._view.find(key, tags, family)
            if flight is None or flight in passed:
                slot, look = self._view.slot(key, tags, family=family), looked.pop(key, None)
                found, basis = self._view.found(look, slot), None
                if look is not None and found is not None:
                    basis = look.basis
                flight = self._pilot.begin(
                    family, key, slot, tags=tags, opened=opened, many=True, basis=basis
                )
                leads[flight] = found
            else:
                joins.append(flight)
        return leads, joins

    async def _round(
        self,
        family: Family,
        leads: Mapping[Flight, Found | None],
        joins: Sequence[Flight],
        load_of: Callable[[str], Load],
    ) -> dict[Flight, Outcome]:
        """Run the flights of one call and wait for them and for those of other calls."""
        flights = [*leads, *joins]
        try:
            with self._flights.held(joins):
                await self._lead(family, leads, load_of)
                outcomes = await self._flights.join_all(flights, patient=frozenset(leads))
            return dict(zip(flights, outcomes, strict=True))
        finally:
            ending: list[asyncio.Task[None]] = []
            for flight in leads:
                if flight.task is None:
                    self._pilot.end(flight, ABANDONED)
                elif (
                    family.bound or (flight.abandoned and flight.cancel_when_abandoned)
                ) and not flight.task.done():
                    self._flights.end(flight)
                    flight.task.cancel()
                    ending.append(flight.task)
            if family.bound and ending:
                # What they use is about to be closed by the caller.
                await asyncio.wait(ending)

    async def _lead(
        self, family: Family, leads: Mapping[Flight, Found | None], load_of: Callable[[str], Load]
    ) -> None:
        """Ask L2 for the keys of flights, end those that it answers and start the others.

        Args:
            family: The family.
            leads: The flights, each with what L2 holds if that is known.
            load_of: Is asked for the load of each key that has to be loaded.
        """
        asked = [
            flight.basis for flight, found in leads.items() if not found and not flight.answered
        ]
        answers = await self._finder.ask_many(asked, family.counts, family.codec)
        for flight, found in leads.items():
            held = None
            if not flight.answered:
                held = found or answers[flight.key]
                fresh = self._pilot.fresh(flight, family, held)
                if fresh is not None:
                    self._pilot.end(flight, fresh)
                    continue
            self._pilot.start(flight, family, load_of(flight.key), held)

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

    async def look(
        self,
        keys: Sequence[str],
        understood: Mapping[bytes, Family],
        direct: Family,
        *,
        stale: bool,
    ) -> dict[str, Any]:
        """Return what the tiers have, without a load and without a fence.

        Args:
            keys: The texts of the keys, each once.
            understood: By fingerprint, the families of whatever a call by key can read.
            direct: The family of calls by key.
            stale: Whether a stale value will do.
        """
        outcomes: dict[str, Outcome] = {}
        left: list[str] = []
        for key in keys:
            slot = self._view.slot(key)
            if slot is not None:
                past = self._tiers.now() - slot.header.fresh_until
                if stale or past < 0:
                    # Nobody refreshes it for a look, so it is never early.
                    fresh = Outcome(slot.value, "l1", fresh_until=slot.header.fresh_until)
                    outcomes[key] = fresh if past < 0 else fresh._replace(state="stale", age=past)
                    self._view.rest_on_slot(slot)
                    continue
            left.append(key)
        if left:
            operation = Operation("get", DIRECT, tuple(left))
            with self._tracing.around(operation):
                joined = await self._join_some(left, stale=stale)
                beyond = {
                    flight.key: outcome._replace(value=flight.value_of(outcome, joined=True))
                    for flight, outcome in joined.items()
                }
                left = [key for key in left if key not in beyond]
                if left:
                    beyond |= await self._look_up(left, understood, direct, stale=stale)
                if self._tracing.on and len(beyond) == len(operation.keys):
                    note_answers(operation, beyond.values(), joined)
            outcomes |= beyond
        for outcome in outcomes.values():
            self._log.count(direct, outcome)
        found = {key: outcomes[key].value for key in keys if key in outcomes}
        return {key: value for key, value in found.items() if value is not MISSING}

    async def _join_some(self, keys: Sequence[str], *, stale: bool) -> dict[Flight, Outcome]:
        """Return the outcomes of the flights that some of the keys have, and that gave a value."""
        joined: dict[Flight, Outcome] = {}
        for key in keys:
            shown, again = None, False
            while shown is None and (flight := self._view.find(key)) is not None:
                outcome = await self._flights.join(flight, stale=stale)
                failed = outcome is ABANDONED or outcome.error is not None
                failed = failed or (outcome.state == "stale" and not stale)
                if failed or self._view.is_ahead(flight, outcome):
                    break
                shown, again = self._view.shown(flight, outcome, again=again), True
                if shown is not None:
                    joined[flight] = shown
                    await _proven([flight])
                    self._view.rest_on(shown.basis or flight.basis, shown)
        return joined

    async def _look_up(
        self,
        keys: Sequence[str],
        understood: Mapping[bytes, Family],
        direct: Family,
        *,
        stale: bool,
    ) -> dict[str, Outcome]:
        """Return what L2 has for keys that L1 cannot answer."""
        claims = [self._looks.claim(direct, self._ledger.basis(key)) for key in keys]
        try:
            return await self._looked_up(claims, understood, stale=stale)
        finally:
            for claim in claims:
                claim.leave()

    async def _looked_up(
        self, claims: Sequence[Look], understood: Mapping[bytes, Family], *, stale: bool
    ) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        codecs = [family.codec for family in understood.values()]
        bases, counts = [claim.basis for claim in claims], claims[0].family.counts
        answers = await self._finder.ask_many(bases, counts, *codecs)
        for claim in claims:
            basis, key = claim.basis, claim.basis.key
            found = answers[key]
            if found.refused:
                counts.refused_frames[found.refused] += 1
            if found.entry is None:
                continue
            header, now = found.entry.header, self._tiers.now()
            family = understood.get(header.fingerprint)
            if family is None:
                # While L2 was asked, another class has turned up that it may be of.
                continue
            if now < header.fresh_until:
                if claim.current:
                    # The family that the key belongs to is not known here, nor is its `l1_ttl`.
                    self._tiers.keep(
                        basis,
                        family,
                        found.entry,
                        l1_ttl=LEASE_SECONDS,
                        early=header.fresh_until,
                    )
                value, until = found.entry.value, header.fresh_until
                outcomes[key] = Outcome(value, "l2", fresh_until=until)
                self._view.rest_on(basis, outcomes[key])
            elif stale and now < header.stale_until:
                outcomes[key] = old_answer(found.entry, "l2", now)
                self._view.rest_on(basis, outcomes[key])
        return outcomes


async def _proven(flights: Sequence[Flight]) -> None:
    """Inside of a load, return when flights rest on the tags that their loaders have named.

    Callers outside have the value before, and nothing of theirs rests on it.
    """
    loading = inside()
    proving = {each: each.proving for each in flights if each.proving is not None}
    if loading is None or not proving:
        return
    for flight in proving:
        # Until then it is their tags that tell whether this load may be joined.
        loading.begin_wait(flight)
    try:
        await asyncio.wait(proving.values())
    finally:
        for flight in proving:
            loading.end_wait(flight)


def _may_be_theirs(outcome: Outcome) -> bool:
    """Return whether it is an error that another caller's object or loader may have caused."""
    return not isinstance(outcome.error, LoadTimeoutError | None)
