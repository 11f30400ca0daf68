"""L1 and L2 side by side: what they hold for a key, and the one way in and out of each.

Nothing here loads or waits for a load. What L2 holds is believed only if the ledger allows it and
the frame is sound; what is kept in L1 must have been made under the key's present generation.
"""

from collections.abc import Callable
from typing import Final, Literal, NamedTuple, TypeAlias

from async_tiercache._entry import Entry, Header
from async_tiercache._events import Refused
from async_tiercache._family import Alias
from async_tiercache._fence import Fence, Fences
from async_tiercache._flight import Flights
from async_tiercache._guard import Guard
from async_tiercache._ledger import Ledger
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
from async_tiercache.errors import DecodeError, TierError, TierRefusedError
from async_tiercache.policies.freshness import keep_until

Stored: TypeAlias = Literal["l2", "l1", "overtaken"]


class Found(NamedTuple):
    """What L2 holds for a key.

    Attributes:
        what: An entry; nothing; another process's lease; damaged bytes, to be replaced; the entry
            of another schema, to be left alone; nothing that may be served and no lease to be had,
            because L2 is full; or unknown, because L2 is out of reach or must not be believed.
        raw: The bytes, if there are any.
        entry: The entry, if it is one.
    """

    what: Literal["entry", "nothing", "lease", "damaged", "schema", "refused", "unknown"]
    raw: bytes | None = None
    entry: Entry | None = None


UNKNOWN: Final = Found("unknown")
REFUSED: Final = Found("refused")
NOTHING: Final = Found("nothing")


class Tiers:
    """The tiers of one cache.

    Attributes:
        store: L1, or `None` while it must not be used.
    """

    def __init__(
        self,
        *,
        namespace: str,
        remote: Remote,
        guard: Guard,
        ledger: Ledger,
        flights: Flights,
        fences: Fences,
        clock: Clock,
        notify: Observer,
    ) -> None:
        self.store: MemoryStore | None = None
        self.now: Callable[[], float] = remote.now
        self._namespace = namespace
        self._namespace_id = namespace_id(namespace)
        self._remote = remote
        self._guard = guard
        self._ledger = ledger
        self._flights = flights
        self._fences = fences
        self._clock = clock
        self._notify = notify

    def probe(self, key: str) -> Slot | None:
        """Return what L1 holds for a key, due for a refresh or not, unless its time is over."""
        return None if self.store is None else self.store.get(key, self._clock.monotonic())

    def link(self, key: str, alias: Alias | None) -> None:
        """Let a compiled call path find the slot of a key, if L1 holds one."""
        if alias is not None and self.store is not None:
            slot = self.store.slots.get(key)
            if slot is not None:
                self.store.link(slot, *alias)

    def keep(self, key: str, entry: Entry, generation: int, *, l1_ttl: float, early: float) -> bool:
        """Put an entry into L1 unless an invalidation came between; return whether none did.

        Args:
            key: The key's text.
            entry: What to keep.
            generation: The key's generation when the making of the entry began.
            l1_ttl: How long it may be served before L2 is asked again, in seconds.
            early: When it is due for a refresh.
        """
        if not self._ledger.may_keep(key, generation):
            self.drop_older(key, entry.header.created_at)
            return False
        if self.store is not None:
            now, monotonic = self.now(), self._clock.monotonic()
            soft, hard = keep_until(now=now, header=entry.header, l1_ttl=l1_ttl, early_at=early)
            self.store.put(
                key,
                entry,
                soft_deadline=soft - now + monotonic,
                deadline=hard - now + monotonic,
                now=monotonic,
            )
        return True

    def postpone(self, key: str, entry_id: bytes, seconds: float) -> None:
        """Serve what L1 holds for a while although it is due, never past its own time."""
        slot = self.probe(key)
        if slot is not None and slot.header.entry_id == entry_id:
            slot.soft_deadline = min(self._clock.monotonic() + seconds, slot.deadline)

    def drop(self, key: str, entry_id: bytes) -> None:
        """Remove an entry from L1, if it is still the one that L1 holds."""
        slot = self.probe(key)
        if self.store is not None and slot is not None and slot.header.entry_id == entry_id:
            self.store.drop(key)

    def drop_older(self, key: str, created_at: float) -> None:
        """Remove from L1 what was made before a value that readers have seen."""
        slot = self.probe(key)
        older = slot is not None and slot.header.created_at < created_at
        if self.store is not None and older:
            self.store.drop(key)

    def forget(self, record: Invalidation) -> None:
        """Let this process forget the record's keys: generations, L1 and flights."""
        self._ledger.apply(record)
        for key in record.keys:
            self._flights.detach(key)
            if self.store is not None:
                self.store.drop(key)

    async def ask(self, key: str, *codecs: Codec) -> Found:
        """Return what L2 holds for a key, decoded by the codec that made it."""
        if self._fences.releasing:
            await self._fences.released(key)
        if not self._ledger.may_ask(key):
            return UNKNOWN
        try:
            raw = (await self._guard.call(self._remote.get_many, (key,)))[0]
        except TierError:
            return UNKNOWN
        return NOTHING if raw is None else self._recognise(key, raw, codecs)

    async def take(self, key: str, found: Found, *codecs: Codec) -> Fence | Found:
        """Take a lease in place of what was found; else return what the key holds by now."""
        try:
            taken = await self._fences.take(key, instead_of=found.raw)
        except TierRefusedError:
            return REFUSED
        except TierError:
            return UNKNOWN
        return taken if isinstance(taken, Fence) else self._recognise(key, taken, codecs)

    async def commit(self, fence: Fence, header: Header, payload: bytes) -> Stored:
        """Store a value in L2 if it still holds what the fence names.

        Returns:
            ``"l2"`` if it was stored, ``"l1"`` if L2 is out of reach, ``"overtaken"`` if refused.
        """
        frame = pack(
            header,
            payload,
            key_digest=digest_key(self._namespace, fence.key),
            namespace_id=self._namespace_id,
        )
        seconds = header.stale_until - self.now()
        try:
            stored = seconds > 0 and await self._fences.commit(fence, frame, seconds)
        except TierError:
            self._fences.release_soon(fence)
            return "l1"
        return "l2" if stored else "overtaken"

    def _recognise(self, key: str, raw: bytes, codecs: tuple[Codec, ...]) -> Found:
        if is_lease(raw):
            return Found("lease", raw)
        try:
            header, payload = unpack(
                raw,
                key_digest=digest_key(self._namespace, key),
                namespace_id=self._namespace_id,
            )
        except FrameError as error:
            self._notify(Refused(key, error.cause))
            return Found("damaged", raw)
        for codec in codecs:
            if codec.fingerprint == header.fingerprint:
                break
        else:
            self._notify(Refused(key, "schema"))
            return Found("schema", raw)
        try:
            return Found("entry", raw, Entry(codec.decode(payload), header, len(payload)))
        except DecodeError:
            self._notify(Refused(key, "payload"))
            return Found("damaged", raw)
