"""L1 and L2 side by side: what they hold for a key, and the one way in and out of each.

Nothing here loads or waits for a load. What L2 holds is believed only if the ledger allows it and
the frame is sound; what is kept in L1 must have been made under the key's present generation.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

from async_tiercache._entry import Entry, Header
from async_tiercache._events import Refused, Stored
from async_tiercache._family import Alias, Family
from async_tiercache._fence import Fence, Fences
from async_tiercache._flight import Flights
from async_tiercache._guard import Guard
from async_tiercache._ledger import Ledger
from async_tiercache._options import MISSING
from async_tiercache._statistics import Counts
from async_tiercache.abc import Clock, Codec, Invalidation, Observer, Remote
from async_tiercache.backends.memory import MemoryStore, Slot
from async_tiercache.codecs.compression import Compressor
from async_tiercache.codecs.frame import (
    Body,
    FrameError,
    digest_key,
    is_lease,
    namespace_id,
    pack,
    stamp,
    unpack,
)
from async_tiercache.errors import DecodeError, TierError, TierRefusedError
from async_tiercache.policies.freshness import keep_until

What: TypeAlias = Literal["entry", "nothing", "lease", "damaged", "schema", "refused", "unknown"]
# Sound for other servers, so that none of these is replaced.
_ELSEWHERE: Final = frozenset({"format", "compression", "dictionary"})


class Found(NamedTuple):
    """What L2 holds for a key.

    Attributes:
        what: An entry; nothing; another process's lease; damaged bytes, to be replaced; an entry
            that is sound for others, to be left alone: of another schema or format, or compressed
            as only they can read it; nothing that may be served and no lease to be had, because L2
            is full; or unknown, because L2 is out of reach or must not be believed.
        raw: The bytes, if there are any.
        entry: The entry, if it is one.
        refused: Why bytes that are there are of no use, if so.
    """

    what: What
    raw: bytes | None = None
    entry: Entry | None = None
    refused: str = ""


UNKNOWN: Final = Found("unknown")
REFUSED: Final = Found("refused")
NOTHING: Final = Found("nothing")


class Tiers:
    """The tiers of one cache.

    Attributes:
        store: L1, or `None` while it must not be used.
        now: Tells the time by the remote tier's clock.
        has_remote: Whether there is an L2.
    """

    def __init__(
        self,
        *,
        namespace: str,
        remote: Remote,
        has_remote: bool,
        guard: Guard,
        ledger: Ledger,
        flights: Flights,
        fences: Fences,
        clock: Clock,
        compressor: Compressor,
        notify: Observer,
    ) -> None:
        self.store: MemoryStore | None = None
        self.now: Callable[[], float] = remote.now
        self.has_remote = has_remote
        self._namespace = namespace
        self._namespace_id = namespace_id(namespace)
        self._remote = remote
        self._guard = guard
        self._ledger = ledger
        self._flights = flights
        self._fences = fences
        self._clock = clock
        self._compressor = compressor
        self._notify = notify

    def probe(self, key: str) -> Slot | None:
        """Return what L1 holds for a key, due for a refresh or not, unless its time is over.

        That the source has no such thing is no value; `knows_absent` tells it.
        """
        slot = self._held(key)
        return None if slot is not None and slot.absent else slot

    def knows_absent(self, key: str) -> bool:
        """Return whether L1 holds that the source has no such thing."""
        slot = self._held(key)
        return slot is not None and slot.absent

    def _held(self, key: str) -> Slot | None:
        return None if self.store is None else self.store.get(key, self._clock.monotonic())

    def link(self, key: str, alias: Alias | None) -> None:
        """Let a compiled call path find the slot of a key, if L1 holds one."""
        if alias is not None and self.store is not None:
            slot = self.store.slots.get(key)
            if slot is not None:
                self.store.link(slot, *alias)

    def keep(
        self,
        key: str,
        family: Family,
        entry: Entry,
        generation: int,
        *,
        l1_ttl: float,
        early: float,
    ) -> bool:
        """Put an entry into L1 unless an invalidation came between; return whether none did.

        Args:
            key: The key's text.
            family: The family that it is of.
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
                family,
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
        slot = self._held(key)
        if self.store is not None and slot is not None and slot.header.entry_id == entry_id:
            self.store.drop(key)

    def drop_older(self, key: str, created_at: float) -> None:
        """Remove from L1 what was made before a value that readers have seen."""
        slot = self._held(key)
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

    async def ask(self, key: str, counts: Counts, *codecs: Codec) -> Found:
        """Return what L2 holds for a key, decoded by the codec that made it."""
        if self._fences.releasing:
            await self._fences.released(key)
        if not self._ledger.may_ask(key):
            return UNKNOWN
        try:
            raw = (await self._guard.call(self._remote.get_many, (key,)))[0]
        except TierError:
            return UNKNOWN
        return NOTHING if raw is None else self._recognise(key, raw, counts, codecs)

    async def ask_many(
        self, keys: Sequence[str], counts: Counts, *codecs: Codec
    ) -> dict[str, Found]:
        """Return what L2 holds for each key, asked in one turn."""
        for key in keys if self._fences.releasing else ():
            await self._fences.released(key)
        found = dict.fromkeys(keys, UNKNOWN)
        asked = [key for key in keys if self._ledger.may_ask(key)]
        try:
            raws = await self._guard.call(self._remote.get_many, asked) if asked else []
        except TierError:
            return found
        for key, raw in zip(asked, raws, strict=True):
            found[key] = NOTHING if raw is None else self._recognise(key, raw, counts, codecs)
        return found

    async def take(self, key: str, found: Found, counts: Counts, *codecs: Codec) -> Fence | Found:
        """Take a lease in place of what was found; else return what the key holds by now."""
        try:
            taken = await self._fences.take(key, instead_of=found.raw)
        except TierRefusedError:
            return REFUSED
        except TierError:
            return UNKNOWN
        if isinstance(taken, Fence):
            return taken
        return self._recognise(key, taken, counts, codecs)

    async def commit(self, fence: Fence, family: Family, entry: Entry) -> Stored:
        """Store an entry in L2 if that still holds what the fence names.

        Returns:
            ``"l2"`` if it was stored, ``"l1"`` if L2 is out of reach, ``"overtaken"`` if refused.
        """
        body = self._compressed(family, entry.payload)
        frame = pack(
            entry.header,
            body,
            key_digest=digest_key(self._namespace, fence.key),
            namespace_id=self._namespace_id,
        )
        stored = await self._stored(fence, entry.header, partial(self._fences.commit, fence, frame))
        if stored == "l2":
            family.counts.stores += 1
            family.counts.plain_bytes += body.plain_bytes
            family.counts.stored_bytes += len(body.payload)
        return stored

    async def renew(self, fence: Fence, header: Header) -> Stored:
        """Let the entry that the fence names be known by a new id and times, as `commit` would."""
        return await self._stored(fence, header, partial(self._fences.stamp, fence, stamp(header)))

    async def _stored(
        self, fence: Fence, header: Header, store: Callable[[float], Awaitable[bool]]
    ) -> Stored:
        seconds = header.stale_until - self.now()
        try:
            stored = seconds > 0 and await store(seconds)
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

    def _recognise(self, key: str, raw: bytes, counts: Counts, codecs: tuple[Codec, ...]) -> Found:
        if is_lease(raw):
            return Found("lease", raw)
        try:
            header, body = unpack(
                raw,
                key_digest=digest_key(self._namespace, key),
                namespace_id=self._namespace_id,
            )
            for codec in codecs:
                if codec.fingerprint == header.fingerprint:
                    break
            else:
                self._notify(Refused(key, "schema"))
                return Found("schema", raw, refused="schema")
            payload = self._expanded(body, counts)
            value = MISSING if header.absent else codec.decode(payload)
        except FrameError as error:
            self._notify(Refused(key, error.cause))
            what: What = "schema" if error.cause in _ELSEWHERE else "damaged"
            return Found(what, raw, refused=error.cause)
        except DecodeError:
            self._notify(Refused(key, "payload"))
            return Found("damaged", raw, refused="payload")
        return Found("entry", raw, Entry(value, header, body.plain_bytes, payload))

    def _expanded(self, body: Body, counts: Counts) -> bytes | memoryview:
        if not body.compression:
            return body.payload
        started = self._clock.monotonic()
        payload = self._compressor.expand(body)
        counts.decompress_seconds += self._clock.monotonic() - started
        return payload
