"""Looks: what readers ask of L2 first, before any flight begins.

Most keys that L1 lacks have a fresh value in L2. A look finds it and answers, without the tasks and
the bookkeeping that a load needs. Anything else, be it nothing, a lease, what is due, or only an
unusual frame, is left to a flight, which goes on with what the look has found.

What single readers ask in one tick of the event loop is asked together. A look answers only while
nothing has happened to what its value rests on, and while nobody else asks L2 for its key: then two
answers would be on their way, and the older one might come last.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import Context, copy_context
from functools import partial
from math import inf
from typing import Any, NamedTuple, TypeAlias

from async_tiercache._ask import UNKNOWN, Ask, Found, States
from async_tiercache._entry import Entry, Header
from async_tiercache._family import MANY_MISSES, Alias, Family
from async_tiercache._fence import Fences
from async_tiercache._finder import Finder
from async_tiercache._flight import RUNNING, Flights, inside
from async_tiercache._ledger import Basis, Ledger
from async_tiercache._options import MISSING
from async_tiercache._read_log import ReadLog
from async_tiercache._tiers import Tiers
from async_tiercache.abc import Clock, Content
from async_tiercache.codecs.frame import digest_key, pack_tags, unpack_plain
from async_tiercache.policies.freshness import MAX_DRAW, early_at

Waiter: TypeAlias = "asyncio.Future[Any]"
"""Gives one reader the value that a look has found, or the look where only a flight can tell.

A plain future: with one of a class of our own, tasks take a longer way.
"""


class Came(NamedTuple):
    """Where a read comes from that somebody is told of.

    Attributes:
        since: When the reader came, monotonic.
        context: The reader's.
    """

    since: float
    context: Context


class Look(Ask):
    """What readers ask about one key.

    Attributes:
        family: The key's family.
        alias: Where a compiled call path looks for the slot of this key.
        began: When it began, monotonic.
        many: Whether a batch waits for it, which then calls `leave`.
        value: The value, if there is a fresh one.
        waiters: Get the value. Else the first of them gets the look, and begins a flight, whose
            outcome the others have.
        came: Where each of them comes from, if somebody is told.
        waiting: How many of them wait still.
        soft_deadline: A compiled call path that finds it takes it for a slot that is due.
    """

    soft_deadline = -inf

    # `_abandon` tells the flight that the waiters follow of their end.
    __slots__ = (
        "_abandon",
        "_home",
        "alias",
        "began",
        "came",
        "family",
        "many",
        "value",
        "waiters",
        "waiting",
    )

    def __init__(
        self,
        home: "Home",
        family: Family,
        basis: Basis,
        began: float,
        many: bool,
    ) -> None:
        # Not by the base class, which would cost each read a call more.
        self.basis = basis
        self.codecs = (family.codec,)
        self.counts = family.counts
        self.found = None
        self.error = None
        self._home = home
        self.family = family
        self.alias: Alias | None = None
        self.began = began
        self.many = many
        self.value: Any = MISSING
        self.waiters: list[Waiter] = []
        self.came: dict[Waiter, Came] = {}
        self.waiting = 0
        self._abandon: Callable[[], None] | None = None
        home.by_key[basis.key] = self

    @property
    def current(self) -> bool:
        """Whether nobody else has asked L2 for the key since."""
        return self._home.by_key.get(self.basis.key) is self

    def be_found(self, alias: Alias | None) -> None:
        """Stand where a compiled call path looks for the slot of the key."""
        self.alias = alias
        if alias is not None and self.found is None and self.value is MISSING:
            table, arguments = alias
            table[arguments] = self

    def hide(self) -> None:
        """Be found by no compiled call path any more."""
        if self.alias is not None:
            table, arguments = self.alias
            if table.get(arguments) is self:
                del table[arguments]

    def leave(self) -> None:
        """Be the look of the key no more."""
        if self.current:
            del self._home.by_key[self.basis.key]

    def settle(self, found: Found) -> None:
        """Leave the question to a flight, with what was found if that still counts."""
        self.found = found
        self.hide()
        if not self.many:
            self._home.settled.append(self)
        if self.family.bound or self.many:
            # What a caller's own object loads is not for others to wait for.
            self.wake()
        else:
            self._wake_first()

    @property
    def followed(self) -> bool:
        """Whether nobody waits, or those who do get the outcome of a flight."""
        return not self.waiting or self._abandon is not None

    def follow(self, abandon: Callable[[], None]) -> None:
        """Let those who wait have the outcome of a flight.

        Args:
            abandon: Tells it that all of them were cancelled.
        """
        self._abandon = abandon

    def end(self) -> None:
        """Note that the read which was to begin a flight has ended, with or without one."""
        if self._abandon is None:
            self.wake()

    def wake(self) -> None:
        """Let all who wait still find the value for themselves."""
        for waiter in self.take():
            waiter.set_result(self)
        self.came.clear()

    def take(self) -> list[Waiter]:
        """Return the readers that wait still, and forget all: they refer to this, too."""
        waiting = [waiter for waiter in self.waiters if not waiter.done()]
        self.waiters, self.waiting = [], 0
        return waiting

    async def answer_of(self, waiter: Waiter) -> Any:
        """Return what a waiter gets; what compiled call paths spell out."""
        try:
            return await waiter
        except asyncio.CancelledError:
            self.left(waiter)
            raise

    def left(self, waiter: Waiter) -> None:
        """Note that a reader was cancelled."""
        if not waiter.cancelled():
            if self.found is not None and self._abandon is None:
                # It was to begin the flight.
                self._wake_first()
        elif self.waiting:
            self.waiting -= 1
            if not self.waiting and self._abandon is not None:
                self._abandon()

    def _wake_first(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                self.waiting -= 1
                self.came.pop(waiter, None)
                waiter.set_result(self)
                return


class Home:
    """Where looks are.

    Attributes:
        by_key: The look of each key, until it was answered or a flight has taken it over.
        settled: Looks that were left to flights.
    """

    __slots__ = ("_leaving", "by_key", "settled")

    def __init__(self) -> None:
        self.by_key: dict[str, Look] = {}
        self.settled: list[Look] = []
        self._leaving: list[Look] = []

    def leave_settled(self) -> None:
        """End the looks that were settled before the last question, not only before this one.

        By then their readers have gone on, or were cancelled. A reply may come between a question's
        tick and the question, and the reader that it wakes goes on after that.
        """
        leaving, self._leaving, self.settled = self._leaving, self.settled, []
        for look in leaving:
            look.leave()

    @property
    def quiet(self) -> bool:
        """Whether no reader may be about to go on with what a look has found."""
        return not (self.settled or self._leaving)


class Looks:
    """The looks of one cache, one per key.

    Args:
        namespace: The cache's namespace.
        on: Whether there are any; a read that somebody watches begins with a flight.
        tiers: Keep what is found.
        finder: Asks L2.
        ledger: Says whether an answer still counts.
        flights: What is being loaded is not looked for.
        fences: Nor is what this process has a lease on that is on its way back.
        log: Is told of the answers.
        clock: The clock of this process.

    Attributes:
        on: Whether there are any.
    """

    def __init__(
        self,
        *,
        namespace: str,
        on: bool,
        tiers: Tiers,
        finder: Finder,
        ledger: Ledger,
        flights: Flights,
        fences: Fences,
        log: ReadLog,
        clock: Clock,
    ) -> None:
        self._namespace = namespace
        self.on = on
        self._tiers = tiers
        self._finder = finder
        self._ledger = ledger
        self._flights = flights.by_key
        self._releasing = fences.releasing
        self._log = log
        self._monotonic = clock.monotonic
        self._random = clock.random
        self._home = Home()
        self._gathered: list[Look] = []
        self._batches: list[asyncio.Future[None]] = []
        self._scheduled = False
        self._alone = False
        self._under_way = 0
        self._rests: list[asyncio.Future[None]] = []

    def begin(
        self,
        family: Family,
        key: str,
        tags: tuple[str, ...],
        *,
        opened: bool,
        loop: asyncio.AbstractEventLoop,
    ) -> tuple[Look, Waiter] | None:
        """Let a reader look for a key; `None` if that is no case for a look.

        Args:
            family: The key's family.
            key: The key's text.
            tags: The tags that the value must stand under.
            opened: Whether the loader may name more.
            loop: The loop on which this runs.

        Returns:
            The look, and a future of the value, or of the look where only a flight can tell.
        """
        if family.misses_in_a_row >= MANY_MISSES or not self._may_begin(key):
            return None
        now, ledger = self._monotonic(), self._ledger
        found = look = self._home.by_key.get(key)
        if (
            look is None
            # One that was overtaken brings nothing.
            or look.found is not None
            or look.family is not family
            or look.basis.declared != tags
            or (now >= ledger.proof_deadline and now - look.began >= ledger.join_seconds)
        ):
            look = self._made(family, key, tags, opened=opened, now=now)
        waiter: Waiter = loop.create_future()
        if self._log.listened:
            look.came[waiter] = Came(now, copy_context())
        look.waiters.append(waiter)
        look.waiting += 1
        if look is not found:
            self._ask(loop)
        return look, waiter

    @asynccontextmanager
    async def asked(
        self, family: Family, keys: Mapping[str, tuple[str, ...]], *, opened: bool
    ) -> AsyncGenerator[list[Look]]:
        """Look for several keys; those that are no case for a look are left out.

        What they have found counts inside of the block.

        Args:
            family: The keys' family.
            keys: The texts of the keys, each with the tags that its value must stand under.
            opened: Whether the loader may name more.
        """
        now, loop = self._monotonic(), asyncio.get_running_loop()
        looks = [
            self._made(family, key, tags, opened=opened, now=now, many=True)
            for key, tags in keys.items()
            if self._may_begin(key) and key not in self._home.by_key
        ]
        try:
            if looks:
                asked = loop.create_future()
                self._batches.append(asked)
                self._ask(loop)
                await asked
            yield looks
        finally:
            for look in looks:
                if look.value is MISSING:
                    look.leave()

    def claim(self, family: Family, basis: Basis) -> Look:
        """Take the place of a key's look without being one, for who asks L2 by himself.

        It is `current` until somebody else asks; then what was found may be older than theirs.
        """
        look = Look(self._home, family, basis, 0.0, many=True)
        look.found = UNKNOWN
        return look

    def detach(self, key: str) -> None:
        """Let the readers of a look ask again: somebody else asks L2 for its key."""
        self._home.by_key.pop(key, None)

    def forget(self) -> None:
        """Drop looks that belong to a loop that is gone."""
        for look in self._home.by_key.values():
            look.hide()
        self._home = Home()
        self._gathered = []
        self._batches = []
        self._scheduled = self._alone = False
        self._under_way = 0
        self._rests = []

    @property
    def asking(self) -> bool:
        """Whether something is asked, or about to be."""
        return self._scheduled or self._under_way > 0

    async def settle(self) -> None:
        """Return when nothing is asked any more."""
        while self.asking:
            rest = asyncio.get_running_loop().create_future()
            self._rests.append(rest)
            await rest

    def _may_begin(self, key: str) -> bool:
        # A read inside of a load needs to know what its value rests on.
        if not self.on or (RUNNING and inside() is not None):
            return False
        store = self._tiers.store
        held = store is not None and key in store.slots
        return not held and key not in self._flights and key not in self._releasing

    def _made(
        self,
        family: Family,
        key: str,
        tags: tuple[str, ...],
        *,
        opened: bool,
        now: float,
        many: bool = False,
    ) -> Look:
        """Return a new look, in place of the key's last one, which will be asked soon."""
        guessed = family.named.get(key, ()) if family.named else ()
        basis = self._ledger.basis(key, tags, guessed=guessed, opened=opened)
        look = Look(self._home, family, basis, now, many)
        self._gathered.append(look)
        return look

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask what has gathered, when the loop has come to all who are ready.

        Or at once, as long as nobody else has come: then to wait is two ticks for nothing.
        """
        if self._scheduled:
            return
        if self._alone and not self._under_way and self._home.quiet:
            self._ask_gathered()
        else:
            self._scheduled = True
            loop.call_soon(self._ask_gathered)

    def _ask_gathered(self) -> None:
        self._scheduled = False
        looks, self._gathered = self._gathered, []
        batches, self._batches = self._batches, []
        self._home.leave_settled()
        self._alone = len(looks) == 1 and not self._under_way
        self._under_way += 1
        self._finder.begin(looks, self._answers, partial(self._end, self._home, looks, batches))

    def _end(
        self, home: Home, looks: Sequence[Look], batches: Sequence["asyncio.Future[None]"]
    ) -> None:
        if home is not self._home:
            return  # It was asked on a loop that is gone.
        # Nobody may hang, whatever has become of the question.
        for look in looks:
            if look.found is None and look.value is MISSING:
                look.settle(UNKNOWN)
        self._under_way -= 1
        if not self.asking:
            batches, self._rests = [*batches, *self._rests], []
        for waiting in batches:
            if not waiting.done():
                waiting.set_result(None)

    def _answers(self, look: Look, content: Content, states: States) -> bool:
        """Answer a look if what L2 holds is a plain frame of a fresh value, as most are."""
        basis, family, namespace = look.basis, look.family, states.namespace
        key, codec = basis.key, family.codec
        if (
            not isinstance(content, bytes)
            or namespace is None
            or self._home.by_key.get(key) is not look
            or not self._ledger.holds(basis)
        ):
            return False
        tags = states.pairs(basis.tags) if basis.tags else ()
        if tags is None:
            return False
        try:
            binding = codec.fingerprint + digest_key(self._namespace, key) + namespace
            plain = unpack_plain(content, binding, len(tags), pack_tags(tags) if tags else b"")
            value = None if plain is None else codec.decode(plain[-1])
        except Exception:  # noqa: BLE001 - the finder tells what it is
            return False
        if plain is None:
            return False
        entry_id, created_at, fresh_until, stale_until, load_seconds, payload = plain
        limits, now = family.limits, states.read_at
        early = fresh_until
        if now + limits.l1_ttl + MAX_DRAW * load_seconds * limits.early >= fresh_until:
            early = early_at(
                created_at=created_at,
                fresh_until=fresh_until,
                load_seconds=load_seconds,
                beta=limits.early,
                u=self._random(),
            )
        if now >= early or self._ledger.is_below_floor(key, created_at):
            return False
        if basis.tags or not states.learned:
            self._finder.learn(basis, states)
        if look.alias is not None:
            look.hide()
        if self._tiers.store is not None:
            header = Header(
                entry_id, created_at, fresh_until, stale_until, load_seconds,
                codec.fingerprint, "", False, namespace, tags,
            )  # fmt: skip
            entry = Entry(value, header, len(payload), payload)
            self._tiers.keep(basis, family, entry, l1_ttl=limits.l1_ttl, early=early)
            self._tiers.link(family, key, look.alias, basis.declared)
        self._give(look, value, payload)
        return True

    def _give(self, look: Look, value: Any, payload: bytes | memoryview) -> None:
        """Give a value to all who wait for it."""
        family, key, joined = look.family, look.basis.key, look.many
        listened, copied = self._log.listened, family.limits.isolation == "copy"
        del self._home.by_key[key]
        look.value = value
        if not look.waiters:
            return
        waiting = look.take()
        for waiter in waiting:
            if joined and copied:
                value = family.codec.decode(payload)
            waiter.set_result(value)
            if listened:
                since, context = look.came.pop(waiter)
                note = partial(self._log.note_hit, joined=joined, started=since)
                context.run(note, family, key)
            joined = True
        if waiting and not listened:
            self._log.note_hits(family, key, len(waiting))
