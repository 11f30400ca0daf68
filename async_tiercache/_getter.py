"""The getter: reads what the tiers have for keys, without a load and without a fence."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from async_tiercache._events import Operation
from async_tiercache._families import DIRECT
from async_tiercache._family import Family
from async_tiercache._fence import LEASE_SECONDS
from async_tiercache._finder import Finder
from async_tiercache._flight import Flight
from async_tiercache._flights import Flights
from async_tiercache._inside import proven
from async_tiercache._ledger import Ledger
from async_tiercache._look import Look
from async_tiercache._looks import Looks
from async_tiercache._options import MISSING
from async_tiercache._outcome import ABANDONED, Outcome
from async_tiercache._pilot import old_answer
from async_tiercache._read_log import ReadLog
from async_tiercache._tiers import Tiers
from async_tiercache._tracing import Tracing, note_answers
from async_tiercache._view import View


class Getter:
    """Answers reads by key that load nothing."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        finder: Finder,
        ledger: Ledger,
        view: View,
        looks: Looks,
        flights: Flights,
        tracing: Tracing,
        log: ReadLog,
    ) -> None:
        self._tiers = tiers
        self._finder = finder
        self._ledger = ledger
        self._view = view
        self._looks = looks
        self._flights = flights
        self._tracing = tracing
        self._log = log

    async def get(
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
        outcomes = await self._found(keys, understood, direct, stale=stale)
        puts = self._flights.puts
        put = {key: puts[key] for key in keys if key in puts and key not in outcomes}
        if put:
            # What these keys held is gone, and what they will hold is on its way. Nobody waits for
            # more than that: others may put something again and again.
            await asyncio.wait(put.values())
            outcomes |= await self._found(list(put), understood, direct, stale=stale)
        for outcome in outcomes.values():
            self._log.count(direct, outcome)
        found = {key: outcomes[key].value for key in keys if key in outcomes}
        return {key: value for key, value in found.items() if value is not MISSING}

    async def _found(
        self,
        keys: Sequence[str],
        understood: Mapping[bytes, Family],
        direct: Family,
        *,
        stale: bool,
    ) -> dict[str, Outcome]:
        """Return what the tiers have now."""
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
                    self._tiers.name(slot)
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
        return outcomes

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
                    await proven([flight])
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
