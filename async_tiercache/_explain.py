"""Explain: what the tiers know of one key, for whoever wonders why a read went as it did."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from async_tiercache._family import Family
from async_tiercache._finder import Finder
from async_tiercache._guard import Guard
from async_tiercache._ledger import Ledger
from async_tiercache._read_log import ReadLog
from async_tiercache._tiers import UNPROVEN, Tiers
from async_tiercache.abc import Clock
from async_tiercache.backends.slot import Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What is known of a key now; times are seconds from now, negative ones lie in the past.

    Attributes:
        key: The key's text.
        last_read: How the last read that went past L1 was answered: ``"l1 early"``, ``"l2 fresh"``,
            ``"loader fresh"`` and so on; empty if none is remembered.
        in_l1: Whether L1 holds it.
        l1_seconds: For how long L1 serves it unasked; `None` if it does not hold it.
        l1_why: Why L1 does not serve it, although it holds it.
        l2: What L2 holds: ``"entry"``, ``"lease"`` of a load in progress, ``"block"`` of a writer,
            ``"nothing"``, ``"dead"``, ``"unknown"`` because it is out of reach or must not be
            believed, ``"off"`` without one, and whatever else is refused.
        refused: Why what L2 holds is of no use.
        age: How long ago the load of the entry began; `None` if its key was softly invalidated.
        fresh_seconds: How long it is fresh yet.
        stale_seconds: How long it may be served yet if need be.
        tags: The tags that it stands under, each with the ids that it carries.
        loading_here: Whether this process loads it now.
        lease_holder: The digest of the lease of who loads it.
        pending: Whether L2 has yet to confirm an invalidation of it.
        last_invalidation: How long ago this process last heard of one; `None` if it has not.
        breaker: Whether L2 answers.
        proof_seconds: For how long the bus lets L1 be served; negative: for how long it has not.
    """

    key: str
    last_read: str
    in_l1: bool
    l1_seconds: float | None
    l1_why: str
    l2: str
    refused: str
    age: float | None
    fresh_seconds: float | None
    stale_seconds: float | None
    tags: tuple[tuple[str, str], ...]
    loading_here: bool
    lease_holder: str
    pending: bool
    last_invalidation: float | None
    breaker: Literal["up", "down", "off"]
    proof_seconds: float


class Explainer:
    """Explains keys."""

    def __init__(
        self,
        *,
        tiers: Tiers,
        finder: Finder,
        log: ReadLog,
        ledger: Ledger,
        guard: Guard,
        clock: Clock,
        loading: Callable[[str], bool],
    ) -> None:
        self._tiers = tiers
        self._finder = finder
        self._log = log
        self._ledger = ledger
        self._guard = guard
        self._clock = clock
        self._loading = loading

    async def explain(self, key: str, families: list[Family]) -> Explanation:
        """Return what is known of a key; L2 is asked once.

        Args:
            key: The key's text.
            families: Those whose values can be read.
        """
        codecs = [family.codec for family in families]
        found = await self._finder.ask(self._ledger.basis(key), None, *codecs)
        # L1 may have changed while L2 was asked; what is told of both is of one moment.
        monotonic, now = self._clock.monotonic(), self._tiers.now()
        slot = None if self._tiers.store is None else self._tiers.store.find(key)
        header = None if found.entry is None else found.entry.header
        lease = found.raw if found.what == "lease" else None
        heard = self._tiers.heard.get(key)
        return Explanation(
            key=key,
            last_read=" ".join(self._log.last(key)),
            in_l1=slot is not None,
            l1_seconds=None if slot is None else slot.soft_deadline - monotonic,
            l1_why="" if slot is None else self._why_not(slot, monotonic),
            l2=found.what if self._tiers.has_remote else "off",
            refused=found.refused,
            # A soft invalidation has written over when the load began.
            age=None if header is None or not header.created_at else now - header.created_at,
            fresh_seconds=None if header is None else header.fresh_until - now,
            stale_seconds=None if header is None else header.stale_until - now,
            tags=() if header is None else tuple((tag, ids.hex()) for tag, ids in header.tags),
            loading_here=self._loading(key),
            lease_holder="" if lease is None else lease[1:5].hex(),
            pending=not self._ledger.may_ask(key),
            last_invalidation=None if heard is None else monotonic - heard,
            breaker="off" if not self._tiers.has_remote else "up" if self._guard.up else "down",
            proof_seconds=self._ledger.proof_deadline - monotonic,
        )

    def _why_not(self, slot: Slot, monotonic: float) -> str:
        if self._ledger.total(slot.key, slot.tags) != slot.total:
            return "a tag of it, or everything, was invalidated"
        if slot.epoch is UNPROVEN:
            return "it was loaded without a proof, and is served for as long as the bound allows"
        if monotonic >= self._ledger.proof_deadline:
            return "the bus does not prove that no invalidation was missed"
        if monotonic >= slot.soft_deadline:
            return "it is due: L2 is asked first"
        return ""
