"""The ledger: what this process knows of invalidations, and what follows for reads.

No method awaits, so each decision is made on one state. Applying an invalidation raises the
generations of its keys and tags: what began to be made under older ones is kept nowhere. While L2
has not confirmed an invalidation it is pending, and L2 is not believed about what it touches. L1 is
served only while the bus proves that no message is missing.
"""

import itertools
from array import array
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterable
from math import inf
from secrets import token_bytes
from typing import Final, TypeAlias

from async_tiercache._basis import STRIPES, Basis, Epoch, Moment
from async_tiercache.abc import NAMESPACE, Invalidation

MAX_PENDING: Final = 100_000
"""More keys and tags than this are not remembered one by one: the whole namespace is pending."""
MAX_PATTERNS: Final = 100
"""The same for patterns."""
MAX_RECENT: Final = 10_000
"""Own invalidations that are remembered, to be repeated to a server that may have lost them."""
MAX_FLOORS: Final = 10_000
"""Keys of which it is remembered that something was shown which is kept nowhere."""
MAX_KNOWN: Final = 10_000
"""Tags whose state is remembered."""

Pattern: TypeAlias = tuple[str, str]
"""What the keys of a tenant begin with, and a glob over what follows."""


class Ledger:
    """Generations, pending and recent invalidations, and the proof by which L1 is served.

    Attributes:
        epoch: Replaced whenever a tag, the namespace or everything is invalidated; an entry of L1
            that was checked under it needs no other check. It ends with that.
        join_seconds: For how long after its begin a flight may be joined without a proof that no
            invalidation of its key was missed.
        quarantine_deadline: Until when L2 is not believed, monotonic.
        latest: The present `moment`, if there is one already.
        floors: Of keys whose entry may be older than what this process has shown, when that was.
        bypassed: How often an entry of L1 was not served for want of a proof.
        overtaken: How many flights were left behind by an invalidation.
    """

    __slots__ = (
        "__weakref__",
        "_base",
        "_blocked_keys",
        "_blocked_tags",
        "_blocks",
        "_doubted",
        "_doubts",
        "_generations",
        "_known",
        "_lost_deadline",
        "_owed",
        "_patterns",
        "_pending",
        "_recent",
        "_soft",
        "_tag_generations",
        "_tags",
        "_turn",
        "bypassed",
        "epoch",
        "floors",
        "join_seconds",
        "latest",
        "overtaken",
        "quarantine_deadline",
    )

    def __init__(self) -> None:
        self._base = 0
        self._turn = 0
        self._generations = array("Q", bytes(8 * STRIPES))
        self._tag_generations = array("Q", bytes(8 * STRIPES))
        self.latest: Moment | None = None
        self._pending: dict[str, bytes] = {}
        self._tags: dict[str, bytes] = {}
        self._doubts: set[str] = set()
        self._soft: set[str] = set()
        self._patterns: dict[Pattern, tuple[bytes, Callable[[str], bool]]] = {}
        self._owed: dict[Pattern, None] = {}
        self._blocks: dict[bytes, tuple[frozenset[str], frozenset[str]]] = {}
        self._doubted = self._pending, self._tags, self._patterns, self._blocks
        # How many blocks there are of each key and tag: each read asks for its own.
        self._blocked_keys, self._blocked_tags = Counter[str](), Counter[str]()
        # Its oldest are taken out again and again, which a plain dict searches for each time.
        self._recent = OrderedDict[bytes, tuple[float, Invalidation]]()
        self._lost_deadline = -inf
        self.floors: dict[str, float] = {}
        self._known: dict[str, tuple[int, bytes]] = {}
        self.epoch = Epoch(inf)
        self.join_seconds = inf
        self.quarantine_deadline = -inf
        self.bypassed = 0
        self.overtaken = 0

    @property
    def proof_deadline(self) -> float:
        """Until when L1 may be served, monotonic."""
        return self.epoch.deadline

    @proof_deadline.setter
    def proof_deadline(self, deadline: float) -> None:
        self.epoch.deadline = deadline

    # Generations.

    def basis(
        self,
        key: str,
        tags: tuple[str, ...] = (),
        *,
        guessed: Iterable[str] = (),
        opened: bool = False,
    ) -> Basis:
        """Return what a value rests on whose making begins now.

        Args:
            key: The key's text.
            tags: The tags that it must stand under.
            guessed: Those that its loader has named before.
            opened: Whether its loader may name more at its end.
        """
        generation = self._generations[hash(key) % STRIPES]
        basis = Basis(key, tags, self._base, generation, self._turn)
        basis.open = opened
        if tags or guessed:
            generations = self._tag_generations
            basis.tags = {tag: generations[hash(tag) % STRIPES] for tag in (*tags, *guessed)}
        return basis

    @property
    def moment(self) -> Moment:
        """The present one, the same until something happens to any key or tag."""
        if self.latest is None:
            generations, tag_generations = self._generations[:], self._tag_generations[:]
            self.latest = Moment(self._base, self._turn, generations, tag_generations)
        return self.latest

    def rely(self, basis: Basis, tag: str) -> None:
        """Let a value rest on a tag from now on, whose ids are asked for after this."""
        if tag not in basis.tags:
            basis.tags = {**basis.tags, tag: self._tag_generations[hash(tag) % STRIPES]}

    def rely_late(self, basis: Basis, tag: str) -> bool:
        """Let a value rest on a tag that it should have rested on from its begin.

        Returns:
            Whether nothing has happened to any tag meanwhile; else this one may be concerned.
        """
        if tag not in basis.tags and basis.turn != self._turn:
            return False
        self.rely(basis, tag)
        return True

    def holds(self, basis: Basis) -> bool:
        """Return whether nothing has happened to what a value rests on."""
        return self._generations[hash(basis.key) % STRIPES] == basis.generation and (
            basis.turn == self._turn or self._unmoved(basis)
        )

    def may_join(self, basis: Basis) -> bool:
        """Return whether a reader that comes now may have what is being made.

        Flights of a key that is invalidated are detached; this is about tags.
        """
        return basis.turn == self._turn or (not basis.open and self._unmoved(basis))

    def is_overtaken(self, basis: Basis) -> bool:
        """Return whether readers that come now may want what is made later than this."""
        if self._generations[hash(basis.key) % STRIPES] != basis.generation:
            return True
        return basis.turn != self._turn and not self.may_join(basis)

    def _unmoved(self, basis: Basis) -> bool:
        generations = self._tag_generations
        return basis.base == self._base and all(
            generations[hash(tag) % STRIPES] == generation for tag, generation in basis.tags.items()
        )

    def total(self, key: str, tags: Collection[str]) -> int:
        """Return a number that grows with whatever happens to a key or its tags."""
        total = self._base + self._generations[hash(key) % STRIPES]
        for tag in tags:
            total += self._tag_generations[hash(tag) % STRIPES]
        return total

    def apply(self, record: Invalidation) -> None:
        """Raise the generations of the record's keys and tags; idempotent in its effect."""
        for key in record.keys:
            self.overtake(key)
        if NAMESPACE in record.tags or record.pattern:
            self._base += 1
        for tag in record.tags:
            self._tag_generations[hash(tag) % STRIPES] += 1
            self._known.pop(tag, None)
        if record.tags or record.pattern:
            self._move()

    def overtake(self, key: str) -> None:
        """Raise the key's generation: what is being loaded for it is not kept in L1."""
        self._generations[hash(key) % STRIPES] += 1
        self.latest = None

    def lapse(self) -> None:
        """Messages may have been missed: all that this process holds may be older than them."""
        self._base += 1
        self._known.clear()
        self._move()

    def _move(self) -> None:
        self._turn += 1
        self.latest = None
        self.epoch = self.epoch.next()

    # What was shown.

    def raise_floor(self, key: str, shown_at: float) -> float:
        """Remember that a value was shown which is kept nowhere.

        What L2 holds may be older than it, unless its load began later.

        Args:
            key: The key's text.
            shown_at: When, by the remote tier's clock.

        Returns:
            The floor before.
        """
        before = self.floors.pop(key, -inf)
        if len(self.floors) >= MAX_FLOORS:
            del self.floors[next(iter(self.floors))]
        self.floors[key] = shown_at
        return before

    def lower_floor(self, key: str, shown_at: float, before: float) -> None:
        """Put back the floor before, unless it was raised anew since.

        Args:
            key: The key's text.
            shown_at: The floor.
            before: The one before it.
        """
        if self.floors and self.floors.get(key) == shown_at:
            self.floors[key] = before
            if before == -inf:
                del self.floors[key]

    def is_below_floor(self, key: str, created_at: float) -> bool:
        """Return whether an entry may be older than what this process has shown."""
        return bool(self.floors) and created_at < self.floors.get(key, -inf)

    # What is known of tags.

    def learn(self, basis: Basis, tag: str, state: bytes) -> None:
        """Remember the state of a tag that was asked for after `rely`, if it is current still.

        All rest on the namespace from their begin.
        """
        generation = self._tag_generations[hash(tag) % STRIPES]
        relied = generation if tag == NAMESPACE else basis.tags.get(tag)
        if relied != generation or basis.base != self._base:
            return
        if len(self._known) >= MAX_KNOWN and tag not in self._known:
            del self._known[next(iter(self._known))]
        self._known[tag] = self._base + generation, state

    def known(self, tag: str, now: float) -> bytes | None:
        """Return the state of a tag, if the bus proves that it is current.

        Args:
            tag: The tag's text.
            now: The monotonic time.
        """
        total, state = self._known.get(tag, (-1, None))
        current = total == self._base + self._tag_generations[hash(tag) % STRIPES]
        return state if current and now < self.proof_deadline else None

    # Pending.

    @property
    def pending(self) -> int:
        """How many keys, tags and patterns have an invalidation that L2 has not confirmed."""
        return len(self._pending) + len(self._tags) + len(self._patterns)

    def hold(self, record: Invalidation) -> None:
        """Remember a record's keys and tags until L2 confirms it, or a later record of them."""
        for key in record.keys:
            self._pending[key] = record.id
            self._doubts.discard(key)
        (self._soft.difference_update if record.soft is None else self._soft.update)(record.keys)
        for tag in record.tags:
            self._tags[tag] = record.id
        if self.pending > MAX_PENDING:
            self._hold_everything(record.id)

    def _hold_everything(self, record_id: bytes) -> None:
        self._pending.clear()
        self._doubts.clear()
        self._soft.clear()
        self._patterns.clear()
        self._owed.clear()
        self._tags.clear()
        self._tags[NAMESPACE] = record_id

    @property
    def names(self) -> int:
        """How many keys and tags are pending."""
        return len(self._pending) + len(self._tags)

    @property
    def owed(self) -> list[Pattern]:
        """The patterns that are to be carried out again, for a call could not."""
        return list(self._owed)

    def hold_pattern(self, pattern: Pattern, matches: Callable[[str], bool]) -> bytes:
        """Remember a pattern until all keys that match were invalidated; return the call's id."""
        self._patterns[pattern] = call_id, _ = token_bytes(16), matches
        if len(self._patterns) > MAX_PATTERNS:
            self._hold_everything(call_id)
        return call_id

    def owe_pattern(self, pattern: Pattern) -> None:
        """Let a pattern be carried out again, unless a call that came later has done it."""
        if pattern in self._patterns:
            self._owed[pattern] = None

    def confirm_pattern(self, pattern: Pattern, call_id: bytes) -> None:
        """Forget a pattern that was carried out; a later call of it still waits for its own end."""
        held, _ = self._patterns.get(pattern, (b"", None))
        if held == call_id:
            del self._patterns[pattern]
            self._owed.pop(pattern, None)

    def doubt(self, key: str, record_id: bytes) -> bool:
        """Remember that L2 may hold something older than this process has shown.

        Returns:
            Whether that is news: a key that is pending is removed in any case, unless softly, and
            one that is blocked at the end of the block.
        """
        if key in self._pending and key not in self._soft:
            return False
        if key in self._blocked_keys:
            return False
        self._soft.discard(key)
        self._pending[key] = record_id
        self._doubts.add(key)
        return True

    def block(self, record: Invalidation) -> None:
        """Do not believe L2 about a record's keys and tags, whatever it confirms of them."""
        keys, tags = self._blocks[record.id] = frozenset(record.keys), frozenset(record.tags)
        self._blocked_keys.update(keys)
        self._blocked_tags.update(tags)

    def unblock(self, record: Invalidation) -> None:
        """End that; if something has changed it is pending by now."""
        keys, tags = self._blocks.pop(record.id, ((), ()))
        for counts, texts in ((self._blocked_keys, keys), (self._blocked_tags, tags)):
            for text in texts:
                counts[text] -= 1
                if not counts[text]:
                    del counts[text]

    def is_blocked(self, key: str, tags: Iterable[str]) -> bool:
        """Return whether a write in progress may be changing what a key or a tag is about."""
        return bool(self._blocks) and (
            key in self._blocked_keys or any(tag in self._blocked_tags for tag in tags)
        )

    def abandon_blocks(self) -> None:
        """Let what is blocked be pending like all else, for nobody is left who would end it."""
        for record_id, (keys, tags) in self._blocks.items():
            self.hold(Invalidation(record_id, tuple(keys), tuple(tags)))
        self._blocks.clear()
        self._blocked_keys.clear()
        self._blocked_tags.clear()

    def confirm(self, record: Invalidation) -> None:
        """Forget what L2 has confirmed; a later record of a key still waits for its own."""
        for key in record.keys:
            if self._pending.get(key) == record.id:
                del self._pending[key]
                self._doubts.discard(key)
                self._soft.discard(key)
        for tag in record.tags:
            if self._tags.get(tag) == record.id:
                del self._tags[tag]

    def is_pending(self, keys: Iterable[str], tags: Iterable[str]) -> bool:
        """Return whether L2 has yet to confirm an invalidation of any of these."""
        tags = tuple(tags)
        return not (self.may_ask("", tags) and all(self.may_ask(key) for key in keys))

    def postpone(self, keys: Iterable[str], tags: Iterable[str]) -> None:
        """Put what is pending behind the others: the part of the tier that holds it is down."""
        for table, texts in ((self._pending, keys), (self._tags, tags)):
            for text in texts:
                if text in table:
                    table[text] = table.pop(text)

    def batch(self, record_id: bytes, count: int) -> tuple[Invalidation, Invalidation]:
        """Put up to `count` pending keys and tags under one record, those that wait longest first.

        A soft invalidation that had to wait has become a hard one.

        Returns:
            The record, and what of it this process must forget once more when it is confirmed:
            not the keys that are only in doubt, of which it holds what is newer.
        """
        tags = tuple(itertools.islice(self._tags, count))
        keys = tuple(itertools.islice(self._pending, count - len(tags)))
        for tag in tags:
            self._tags[tag] = record_id
        for key in keys:
            self._pending[key] = record_id
        self._soft.difference_update(keys)
        known = tuple(key for key in keys if key not in self._doubts)
        return Invalidation(record_id, keys, tags), Invalidation(record_id, known, tags)

    @property
    def may_ask_all(self) -> bool:
        """Whether what L2 holds may be believed whatever it is about."""
        return not any(self._doubted)

    def may_ask(self, key: str, tags: Iterable[str] = ()) -> bool:
        """Return whether what L2 holds for a key under these tags may be believed."""
        if key in self._pending:
            return False
        if self._tags and (NAMESPACE in self._tags or any(tag in self._tags for tag in tags)):
            return False
        if self.is_blocked(key, tags):
            return False
        return not (self._patterns and any(match(key) for _, match in self._patterns.values()))

    # Recent.

    def remember(self, record: Invalidation, now: float, seconds: float) -> None:
        """Remember an own invalidation for a while, to be repeated if L2 loses it.

        Args:
            record: The invalidation.
            now: The monotonic time.
            seconds: For how long.
        """
        while self._recent:
            oldest, (deadline, _) = next(iter(self._recent.items()))
            if now < deadline:
                if len(self._recent) < MAX_RECENT:
                    break
                self._lost_deadline = max(self._lost_deadline, deadline)
            del self._recent[oldest]
        self._recent[record.id] = now + seconds, record

    def is_own(self, record_id: bytes) -> bool:
        """Return whether a message is the echo of an own invalidation."""
        return record_id in self._recent

    def recent(self, now: float) -> list[Invalidation]:
        """Return the own invalidations that are still remembered; older ones are forgotten.

        If there were more than can be remembered, it is one of the whole namespace.
        """
        if now < self._lost_deadline:
            return [Invalidation(token_bytes(16), tags=(NAMESPACE,))]
        # Repeated ones are remembered for less long than those before them.
        for record_id in [key for key, (until, _) in self._recent.items() if until <= now]:
            del self._recent[record_id]
        return [record for _, record in self._recent.values()]
