"""The view: what readers may see of L1 and of the flights of their keys.

No method awaits, so each decision is made on one state.
"""

from async_tiercache._ask import Found
from async_tiercache._basis import Basis
from async_tiercache._family import Family
from async_tiercache._flight import Flight
from async_tiercache._flights import Flights
from async_tiercache._inside import inside
from async_tiercache._ledger import Ledger
from async_tiercache._look import Look
from async_tiercache._outcome import Outcome
from async_tiercache._tiers import Tiers
from async_tiercache.abc import Clock
from async_tiercache.backends.slot import Slot


class View:
    """What a reader may be served, join, and be shown.

    Args:
        tiers: Have L1.
        ledger: Says what was invalidated.
        flights: May be joined.
        clock: The clock of this process.
    """

    def __init__(self, *, tiers: Tiers, ledger: Ledger, flights: Flights, clock: Clock) -> None:
        self._tiers = tiers
        self._ledger = ledger
        self._flights = flights
        self._clock = clock

    def slot(
        self, key: str, tags: tuple[str, ...] = (), *, family: Family | None = None
    ) -> Slot | None:
        """Return what L1 holds for a key under some tags; a read inside of a load asks L2.

        What such a read got from L1 might be older than an invalidation that this process has not
        heard of, and would be stored under the evidence of a load that began after it.

        Args:
            key: The key's text.
            tags: The tags that the value must stand under.
            family: Whose schema it must have; any if there is none.
        """
        if inside() is not None and self._tiers.has_remote:
            return None
        slot = self._tiers.probe(key, tags)
        if slot is not None and family is not None and not family.understands(slot.family.codec):
            return None
        return slot

    def rest_on_slot(self, slot: Slot) -> None:
        """Let the load that this runs in, if any, rest on what L1 has given it."""
        if inside() is not None:
            outcome = Outcome(fresh_until=slot.header.fresh_until)
            self.rest_on(self._ledger.basis(slot.key, slot.tags), outcome)

    def rest_on(self, basis: Basis, outcome: Outcome) -> None:
        """Let the load that this runs in, if any, rest on what it has read."""
        loading = inside()
        if loading is not None:
            loading.rest_on(self._flights, basis, outcome)

    def find(
        self, key: str, tags: tuple[str, ...] = (), family: Family | None = None
    ) -> Flight | None:
        """Return the flight that a read which begins now may join.

        Args:
            key: The key's text.
            tags: Those that the value must stand under; another family's may not, and then nothing
                tells whether one of them was invalidated since the flight began.
            family: Whose schema it must have; any if there is none.
        """
        flight = self._flights.find(key)
        if flight is None or (family is not None and not family.understands(flight.codec)):
            return None
        if any(tag not in flight.basis.declared for tag in tags):
            return None
        ledger = self._ledger
        unproven = self._clock.monotonic() >= ledger.proof_deadline
        age = self._tiers.now() - flight.began_at
        if self._may_join(flight) and not (unproven and age >= ledger.join_seconds):
            return flight
        if not ledger.is_overtaken(flight.basis):
            ledger.overtake(key)  # It must not be kept after what replaces it either.
        self._tiers.detach(key)
        return None

    def to_load(self, key: str, tags: tuple[str, ...], family: Family) -> Flight | None:
        """Return the refresh of a key that one which begins now may share.

        Its loader begins later, so it reads nothing that is too old for either.
        """
        flight = self.find(key, tags, family)
        if (
            flight is None
            or not flight.forced
            or flight.operation is not None
            or flight.outcome is not None
            or self.is_ahead(flight)
        ):
            return None
        # Nor is what others have begun to load before now an answer any more.
        flight.began_at = self._tiers.now()
        return flight

    def _may_join(self, flight: Flight) -> bool:
        # Tags of what the loader waits for are its own only once it has that.
        may_join = self._ledger.may_join(flight.basis)
        return may_join and all(map(self._may_join, flight.parts))

    def is_ahead(self, flight: Flight, outcome: Outcome | None = None) -> bool:
        """Return whether a flight, or what it offers from L1, began before the load around this.

        It may be older than an invalidation that the load began after.
        """
        loading = inside()
        if loading is None or not self._tiers.has_remote:
            return False
        return flight.number < loading.number or (outcome is not None and outcome.tier == "l1")

    def found(self, looked: Look | None, slot: Slot | None) -> Found | None:
        """Return what a look has found, if a flight that begins now would find nothing else."""
        if looked is None or slot is not None or looked.error is not None:
            return None
        return looked.found if looked.current and self._ledger.holds(looked.basis) else None

    def shown(self, flight: Flight, outcome: Outcome, *, again: bool) -> Outcome | None:
        """Return what a caller gets of a flight; `None` if it shall wait for a later one instead.

        What has taken the place of an overtaken flight began later, but may have read the source
        earlier. So a caller has the value of only one of them, and nothing older follows it.

        Args:
            flight: The flight that the caller has waited for.
            outcome: What it has ended with.
            again: Whether the caller has waited for another one before, and does so no more.
        """
        overtaken = outcome.error is None and self._ledger.is_overtaken(flight.basis)
        if not overtaken:
            return outcome
        if inside() is not None:
            # What is made from it would be shown, and others make theirs from what is in L2.
            return outcome if again else None
        key, slot = flight.key, self._tiers.probe(flight.key, flight.basis.declared)
        later = slot is not None and slot.header.created_at > flight.load_began_at
        if slot is not None and later and slot.family.understands(flight.codec):
            fresh_until = slot.header.fresh_until
            if self._tiers.now() < fresh_until:
                return Outcome(slot.value, "l1", fresh_until=fresh_until, payload=slot.payload)
        if self.find(key, flight.basis.declared) in {None, flight}:
            if slot is not None:
                # It may be older than this, and nothing tells.
                self._tiers.drop(key, slot.header.entry_id)
            if outcome.tier == "loader":
                # L2 is going to refuse it, and says so later than the next reader may come.
                self._tiers.note_shown(flight)
            return outcome
        if again:
            self._tiers.supersede(key)
        return outcome if again else None
