"""The read path of many keys: they ask L2 together, and then each key goes its own way.

What L1 serves of them, and how each is told of, is as in a read of one key.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice, repeat
from typing import Any, Final

from async_tiercache._ask import Found
from async_tiercache._events import Operation
from async_tiercache._family import Family, Load
from async_tiercache._finder import Finder
from async_tiercache._flight import Flight
from async_tiercache._flights import Flights
from async_tiercache._inside import inside, proven
from async_tiercache._look import Look
from async_tiercache._looks import Looks
from async_tiercache._options import MISSING
from async_tiercache._outcome import ABANDONED, Outcome
from async_tiercache._pilot import Pilot
from async_tiercache._read_log import ReadLog
from async_tiercache._reader import Answer, Reader
from async_tiercache._tiers import Tiers
from async_tiercache._tracing import Tracing, note_answers
from async_tiercache._view import View
from async_tiercache.abc import Clock

MAX_TOGETHER: Final = 1_000
"""Keys of one call that are asked for and loaded together; the next ones come after them."""


class BatchReader:
    """Answers reads of several keys, and loads together what no tier has."""

    def __init__(
        self,
        *,
        reader: Reader,
        finder: Finder,
        tiers: Tiers,
        view: View,
        looks: Looks,
        flights: Flights,
        pilot: Pilot,
        clock: Clock,
        tracing: Tracing,
        log: ReadLog,
    ) -> None:
        self._reader = reader
        self._finder = finder
        self._tiers = tiers
        self._view = view
        self._looks = looks
        self._flights = flights
        self._pilot = pilot
        self._clock = clock
        self._tracing = tracing
        self._log = log

    async def read(
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
        values: dict[str, Any] = {}
        left = self._beyond_l1(family, keys, values, started)
        answers: dict[str, Answer] = {}
        if left:
            operation = Operation("get", family.name, tuple(left))
            with self._tracing.around(operation):
                for part in _parts(left):
                    answers |= await self._answers_beyond(
                        family, part, load_of, values, started, opened=opened
                    )
                if self._tracing.on:
                    joined = [each.flight for each in answers.values() if each.joined]
                    note_answers(operation, [each.outcome for each in answers.values()], joined)
                for key in filter(answers.__contains__, left):
                    values[key] = self._reader.deliver(family, answers[key], started)
        if not answers and list(values) == list(keys):
            # All are there, and in their order, which is the case if one tier has them.
            return values
        found = ((key, values.get(key, MISSING)) for key in keys)
        return {key: value for key, value in found if value is not MISSING}

    def _beyond_l1(
        self,
        family: Family,
        keys: Mapping[str, tuple[str, ...]],
        values: dict[str, Any],
        started: float,
    ) -> Mapping[str, tuple[str, ...]]:
        """Note the values that L1 has for keys; return the others, each with its tags."""
        store = self._tiers.store
        if store is None or not store.has_any(keys.keys()):
            return keys
        left: dict[str, tuple[str, ...]] = {}
        for key, tags in keys.items():
            if key not in store:
                left[key] = tags
            elif (slot := self._reader.servable(family, key, tags, started)) is not None:
                values[key] = slot.value
                self._tiers.name(slot)
            elif inside() is None and self._tiers.knows_absent(key, tags):
                family.counts.count_l1_hit()
            else:
                left[key] = tags
        return left

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
                whole = len(hits) == len(keys)
                # Of what is noted no value must stay.
                noted = keys if whole else dict.fromkeys(hits)
                self._log.note_hit_keys(family, noted, started=started)
                if whole:
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
                elif joined and strangers and key not in spared and outcome.may_be_theirs:
                    spared.add(key)
                elif outcome is not ABANDONED:
                    shown = self._view.shown(flight, outcome, again=key in again)
                    again.add(key)
                    if shown is not None:
                        answers[key] = Answer(flight, shown, joined or shown is not outcome)
            left = [key for key in left if key not in answers]
        await proven([answer.flight for answer in answers.values()])
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


def _parts(keys: Mapping[str, tuple[str, ...]]) -> Iterator[Mapping[str, tuple[str, ...]]]:
    """Yield keys by as many as are asked for together."""
    if len(keys) <= MAX_TOGETHER:
        yield keys
        return
    for start in range(0, len(keys), MAX_TOGETHER):
        yield dict(islice(keys.items(), start, start + MAX_TOGETHER))
