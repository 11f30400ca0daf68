"""L1 and L2 side by side: what L1 holds for a key, and the one way into each.

Nothing here loads or waits for a load. What is kept in L1 must rest on what has not been
invalidated since its making began; it is served while the bus proves that no message is missing.
Without that proof it is as good as a load that began no longer ago than the bound on staleness.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from math import inf
from typing import Final

from async_tiercache._basis import Basis, Epoch
from async_tiercache._entry import Entry, Header
from async_tiercache._events import Stored
from async_tiercache._family import Alias, Family
from async_tiercache._fence import Fence, Fences
from async_tiercache._flight import Flight
from async_tiercache._flights import Flights
from async_tiercache._ledger import Ledger
from async_tiercache.abc import Clock, Invalidation, Remote
from async_tiercache.backends.memory import MemoryStore
from async_tiercache.backends.slot import Slot, Standing
from async_tiercache.codecs.compression import Compressor
from async_tiercache.codecs.frame import Body, digest_key, pack, stamp
from async_tiercache.errors import TierError
from async_tiercache.policies.freshness import keep_until

MAX_HEARD: Final = 1_000
"""Keys of which it is remembered when they were last invalidated."""
SOFTENED_SECONDS: Final = 1.0
"""For how long L1 keeps what a soft invalidation has made stale, before L2 is asked again."""
UNPROVEN: Final = Epoch(-inf)
"""The epoch of what is in L1 without a proof, for as long as the bound allows; no hit finds it."""
UNPROVEN.end()


class Tiers:
    """The tiers of one cache.

    Attributes:
        store: L1, or `None` while it must not be used.
        now: Tells the time by the remote tier's clock, or is a little behind it.
        latest: Tells what that clock may show at most.
        has_remote: Whether there is an L2.
        heard: By key, when it was last invalidated, monotonic; of the latest ones.
    """

    def __init__(
        self,
        *,
        namespace: str,
        remote: Remote,
        has_remote: bool,
        bound: float,
        ledger: Ledger,
        flights: Flights,
        fences: Fences,
        clock: Clock,
        compressor: Compressor,
    ) -> None:
        self.store: MemoryStore | None = None
        self.now: Callable[[], float] = remote.now
        self.latest: Callable[[], float] = remote.latest
        self.has_remote = has_remote
        # Its oldest are taken out again and again, which a plain dict searches for each time.
        self.heard = OrderedDict[str, float]()
        self._namespace = namespace
        self._bound = bound
        self._ledger = ledger
        self._flights = flights
        self._fences = fences
        self._clock = clock
        self._compressor = compressor

    def probe(self, key: str, tags: Collection[str] = ()) -> Slot | None:
        """Return what L1 holds for a key, due for a refresh or not, unless its time is over.

        That the source has no such thing is no value; `knows_absent` tells it.

        Args:
            key: The key's text.
            tags: The tags that it must stand under.
        """
        slot = self._held_under(key, tags)
        return None if slot is not None and slot.absent else slot

    def knows_absent(self, key: str, tags: Collection[str] = ()) -> bool:
        """Return whether L1 holds that the source has no such thing."""
        slot = self._held_under(key, tags)
        return slot is not None and slot.absent

    def _held_under(self, key: str, tags: Collection[str]) -> Slot | None:
        """Return what L1 holds for a key and may serve under some tags.

        What was kept for a caller that declares less is removed, as L2 replaces it: whoever has
        invalidated one of the tags did not reach it, and it must not follow what is loaded now.
        """
        slot = self._held(key)
        if slot is not None and self.store is not None and not _stands_under(slot, tags):
            self.store.drop(key)
            return None
        return slot

    def _held(self, key: str) -> Slot | None:
        """Return what L1 holds for a key and may serve; what it may not is removed."""
        store, ledger, now = self.store, self._ledger, self._clock.monotonic()
        slot = None if store is None else store.get(key, now)
        if slot is None or store is None:
            return None
        if slot.epoch is UNPROVEN:
            gone = ledger.total(key, slot.tags) != slot.total
        else:
            gone = slot.epoch is not ledger.epoch and not self.recheck(slot)
        if gone:
            store.drop(key)
            return None
        if now >= ledger.proof_deadline and slot.epoch is not UNPROVEN:
            # What was passed over once must not come back after something newer.
            ledger.bypassed += 1
            store.drop(key)
            return None
        return slot

    def recheck(self, slot: Slot) -> bool:
        """Let hits take a slot under the present epoch, if nothing has happened to its tags."""
        ledger = self._ledger
        if slot.epoch is UNPROVEN or ledger.total(slot.key, slot.tags) != slot.total:
            return False
        slot.epoch = ledger.epoch
        return True

    def link(self, family: Family, key: str, alias: Alias | None, tags: Collection[str]) -> None:
        """Let a compiled call path find the slot of a key, if L1 holds one under its tags."""
        if alias is not None and self.store is not None:
            slot = self.store.find(key)
            if (
                slot is not None
                and _stands_under(slot, tags)
                and family.understands(slot.family.codec)
            ):
                self.store.link(slot, *alias)

    def name(self, slot: Slot) -> None:
        """Let calls by key find a live slot at once, which one has asked for."""
        if self.store is not None:
            self.store.name(slot)

    def keep(
        self, basis: Basis, family: Family, entry: Entry, *, l1_ttl: float, early: float
    ) -> bool:
        """Put an entry into L1 unless an invalidation came between; return whether none did.

        Args:
            basis: What it rests on.
            family: The family that it is of.
            entry: What to keep.
            l1_ttl: How long it may be served before L2 is asked again, in seconds.
            early: When it is due for a refresh.
        """
        key = basis.key
        if not self._ledger.holds(basis) or not basis.sound:
            self.drop_older(key, entry.header.created_at)
            return False
        if self.store is not None:
            tags, moment = tuple(basis.tags), (self.now(), self._clock.monotonic())
            self.hold(key, tags, family, entry, l1_ttl=l1_ttl, early=early, moment=moment)
        return True

    def hold(
        self,
        key: str,
        tags: tuple[str, ...],
        family: Family,
        entry: Entry,
        *,
        l1_ttl: float,
        early: float,
        moment: tuple[float, float],
    ) -> None:
        """Put an entry into L1, to whose key and tags nothing has happened; as `keep` does else.

        Args:
            key: The key's text.
            tags: The tags that it stands under.
            family: The family that it is of.
            entry: What to keep.
            l1_ttl: How long it may be served before L2 is asked again, in seconds.
            early: When it is due for a refresh.
            moment: The present by the remote tier's clock, and monotonic; or a little before.
        """
        store, ledger, header = self.store, self._ledger, entry.header
        if store is None:
            return
        (now, monotonic), epoch = moment, ledger.epoch
        if not header.created_at:
            # A soft invalidation has written over when it dies, which only L2 knows by now.
            l1_ttl = min(l1_ttl, SOFTENED_SECONDS)
        if monotonic >= ledger.proof_deadline:
            l1_ttl, epoch = min(l1_ttl, header.created_at + self._bound - now), UNPROVEN
        if l1_ttl <= 0:
            self.drop_older(key, header.created_at)
            return
        soft, hard = keep_until(now=now, header=header, l1_ttl=l1_ttl, early_at=early)
        new = store.find(key) is None
        before = None if new else self._held(key)
        if before is not None and not all(tag in tags for tag in before.tags):
            # A call path that has found it does not ask for the tags again.
            store.drop(key)
        store.put(
            key,
            family,
            entry,
            soft_deadline=soft - now + monotonic,
            deadline=hard - now + monotonic,
            now=monotonic,
            standing=Standing(tags, ledger.total(key, tags), epoch),
            new=new,
        )

    def postpone(self, key: str, entry_id: bytes, seconds: float) -> None:
        """Serve what L1 holds for a while although it is due, never past its own time."""
        slot = self.probe(key)
        if slot is not None and slot.header.entry_id == entry_id:
            slot.soft_deadline = min(self._clock.monotonic() + seconds, slot.deadline)

    def drop(self, key: str, entry_id: bytes) -> None:
        """Remove an entry from L1, if it is still the one that L1 holds."""
        slot = self._held(key)
        if self.store is not None and slot is not None and slot.header.entry_id == entry_id:
            self.store.drop(key)

    def drop_older(self, key: str, created_at: float) -> None:
        """Remove from L1 what was made before a value that readers have seen."""
        slot = self._held(key)
        older = slot is not None and slot.header.created_at < created_at
        if self.store is not None and older:
            self.store.drop(key)

    def drop_family(self, family: Family) -> None:
        """Remove from L1 what was kept for a family."""
        if self.store is not None:
            for slot in [*self.store]:
                if slot.family is family:
                    self.store.drop(slot.key)

    def detach(self, key: str) -> None:
        """Let later readers of a key start a flight of their own.

        If its callers have the value already, that is on its way into L2, which may refuse it; and
        what others have put there meanwhile may be older.
        """
        flight = self._flights.detach(key)
        if flight is not None:
            self._ledger.overtaken += 1
            if flight.storing:
                self.note_shown(flight)

    def leave_behind(self, flight: Flight) -> None:
        """Note that a flight has lost its fence, which tells of an invalidation elsewhere."""
        if self._flights.find(flight.key) is flight:
            self._ledger.overtake(flight.key)
            self.detach(flight.key)

    def supersede(self, key: str) -> None:
        """Let nothing follow that was made, or began to be, before a value is shown now."""
        self._ledger.overtake(key)
        self._flights.detach(key)
        if self.store is not None:
            self.store.drop(key)
        self.raise_floor(key)

    def note_shown(self, flight: Flight) -> None:
        """Let nothing follow from L2 that may be older than the value of an overtaken flight."""
        if self.has_remote:
            before, flight.floor = flight.floor, self.latest()
            found = self._ledger.raise_floor(flight.key, flight.floor)
            if found != before:
                # What others have shown counts on when this one's is lowered.
                flight.floor_before = found

    def note_stored(self, flight: Flight) -> None:
        """Note that L2 has taken a flight's value in, so that it holds nothing older."""
        self._ledger.lower_floor(flight.key, flight.floor, flight.floor_before)

    def raise_floor(self, key: str) -> None:
        """Let nothing follow from L2 that may be older than what was shown up to now."""
        if self.has_remote:
            self._ledger.raise_floor(key, self.latest())

    def forget(self, record: Invalidation) -> None:
        """Let this process forget what a record names: generations, L1 and flights.

        Flights under a tag are not looked for; who wants to join one finds out.
        """
        self._ledger.apply(record)
        now = self._clock.monotonic()
        for key in record.keys:
            self.heard[key] = now
            self.detach(key)
            if self.store is not None:
                self.store.drop(key)
        while len(self.heard) > MAX_HEARD:
            self.heard.popitem(last=False)

    async def commit(
        self, fence: Fence, family: Family, entry: Entry, *, tell: Invalidation | None = None
    ) -> Stored:
        """Store an entry in L2 if that still holds what the fence names.

        Args:
            fence: The right to store it.
            family: The family that it is of.
            entry: The entry, with its evidence.
            tell: What other servers are told, stored or not.

        Returns:
            ``"l2"`` if it was stored, ``"l1"`` if L2 is out of reach, ``"overtaken"`` if refused.
        """
        body = self._compressed(family, entry.payload)
        digest = digest_key(self._namespace, fence.key)
        frame = pack(entry.header, body, key_digest=digest) if self.has_remote else b""
        tags = [tag for tag, _ in entry.header.tags]
        store = partial(self._fences.commit, fence, frame, tags, tell=tell)
        stored = await self._stored(fence, entry.header, store)
        if stored == "l2":
            family.counts.stores += 1
            family.counts.plain_bytes += body.plain_bytes
            family.counts.stored_bytes += len(body.payload)
        return stored

    async def renew(self, fence: Fence, header: Header) -> Stored:
        """Let the entry that the fence names be known by a new id and times, as `commit` would."""
        tags = [tag for tag, _ in header.tags]
        store = partial(self._fences.stamp, fence, stamp(header), tags)
        return await self._stored(fence, header, store)

    async def _stored(
        self, fence: Fence, header: Header, store: Callable[[float], Awaitable[bool]]
    ) -> Stored:
        seconds = header.stale_until - self.now()
        if seconds <= 0:
            if fence.mark is None:
                # Who refreshes gives the mark back for whatever is overtaken.
                self._fences.release_soon(fence)
            return "overtaken"
        try:
            stored = await store(seconds)
        except TierError:
            self._fences.release_soon(fence)
            return "l1"
        return "l2" if stored else "overtaken"

    def _compressed(self, family: Family, payload: bytes | memoryview) -> Body:
        if family.limits.compression is None:
            return Body.plain(payload)
        started = self._clock.monotonic()
        body = self._compressor.compress(payload, family.limits.compression)
        family.counts.compress_seconds += self._clock.monotonic() - started
        return body


def _stands_under(slot: Slot, tags: Collection[str]) -> bool:
    return all(tag in slot.tags for tag in tags)
