"""Looks: what readers ask of L2 first, before any flight begins.

Most keys that L1 lacks have a fresh value in L2. A look finds it and answers, without the tasks and
the bookkeeping that a load needs. Anything else, be it nothing, a lease, what is due, or only an
unusual frame, is left to a flight, which goes on with what the look has found.

What single readers ask in one tick of the event loop is asked together. A look answers only while
nothing has happened to what its value rests on, and while nobody else asks L2 for its key: then two
answers would be on their way, and the older one might come last.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from contextvars import copy_context
from functools import partial
from typing import Any, TypeAlias

from async_tiercache._ask import UNKNOWN, States
from async_tiercache._basis import Basis
from async_tiercache._entry import Entry, Header
from async_tiercache._family import MANY_MISSES, Family
from async_tiercache._fence import Fences
from async_tiercache._finder import Finder
from async_tiercache._flights import Flights
from async_tiercache._followers import Followers
from async_tiercache._inside import RUNNING, inside
from async_tiercache._ledger import Ledger
from async_tiercache._look import Came, Home, Look, Survey, Waiter
from async_tiercache._options import MISSING
from async_tiercache._read_log import ReadLog
from async_tiercache._tiers import Tiers
from async_tiercache.abc import Clock, Content
from async_tiercache.codecs.frame import digest_key, pack_tags, unpack_plain
from async_tiercache.policies.freshness import MAX_DRAW, early_at

Pairs: TypeAlias = tuple[tuple[str, bytes], ...]
Plain: TypeAlias = tuple[
    Any,
    float,
    Pairs,
    tuple[bytes, float, float, float, float, bytes | memoryview],
]
"""A value, when it is due for a refresh, its tags with their ids, and what `unpack_plain` says."""


class Looks:
    """The looks of one cache, one per key.

    Args:
        namespace: The cache's namespace.
        on: Whether there are any; a read that somebody watches begins with a flight.
        tiers: Keep what is found.
        finder: Asks L2.
        ledger: Says whether an answer still counts.
        flights: What is being loaded is not looked for.
        followers: Readers of that wait for the load.
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
        followers: Followers,
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
        self._followers = followers
        self._releasing = fences.releasing
        self._log = log
        self._monotonic = clock.monotonic
        self._random = clock.random
        self._home = Home()
        self._gathered: list[Look] = []
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
        # A read inside of a load needs to know what its value rests on.
        if not self.on or (RUNNING and inside() is not None):
            return None
        store = self._tiers.store
        if store is not None and key in store:
            return None
        if key in self._flights:
            return self._followers.begin(family, key, tags)
        if family.misses_in_a_row >= MANY_MISSES or key in self._releasing:
            return None
        now, ledger = self._monotonic(), self._ledger
        look = self._home.by_key.get(key)
        if look is not None and isinstance(look, Survey):
            look = look.look(key)
        found = look
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
        if look is not found:
            self._ask(loop)
        return look, waiter

    @asynccontextmanager
    async def asked(
        self, family: Family, keys: Mapping[str, tuple[str, ...]], *, opened: bool
    ) -> AsyncGenerator[Survey]:
        """Look for several keys; those that are no case for a look are left out.

        What was found counts inside of the block.

        Args:
            family: The keys' family.
            keys: The texts of the keys, each with the tags that its value must stand under.
            opened: Whether the loader may name more.
        """
        keys, home, now = self._free(keys), self._home, self._monotonic()
        survey = Survey(home, family, keys, opened=opened, moment=self._ledger.moment, began=now)
        try:
            if keys:
                self._under_way += 1
                try:
                    await self._finder.survey(survey, self._surveyed)
                finally:
                    self._rest(home)
            yield survey
        finally:
            survey.leave()

    def claim(self, family: Family, basis: Basis) -> Look:
        """Take the place of a key's look without being one, for who asks L2 by himself.

        It is `current` until somebody else asks; then what was found may be older than theirs.
        """
        look = Look(self._home, family, basis, 0.0, many=True)
        look.found = UNKNOWN
        return look

    def detach(self, key: str) -> None:
        """Let the readers of a look ask again: somebody else asks L2 for its key."""
        look = self._home.by_key.pop(key, None)
        if isinstance(look, Look):
            look.hide()

    def forget(self) -> None:
        """Drop looks that belong to a loop that is gone."""
        self._home.forget()
        self._home = Home()
        self._followers.forget()
        self._gathered = []
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

    def _free(self, keys: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        """Return those of several keys for which a look may begin, and that nobody looks for."""
        if not self.on or inside() is not None:
            return {}
        store = self._tiers.store
        slots = {} if store is None else store.slots
        if store is not None and store.index.length:
            keys = {key: tags for key, tags in keys.items() if store.index.find(key) is None}
        for taken in (slots, self._flights, self._releasing, self._home.by_key):
            if not keys.keys().isdisjoint(taken.keys()):
                keys = {key: tags for key, tags in keys.items() if key not in taken}
        return keys

    def _made(
        self, family: Family, key: str, tags: tuple[str, ...], *, opened: bool, now: float
    ) -> Look:
        """Return a new look, in place of the key's last one, which will be asked soon."""
        guessed = family.named.get(key, ()) if family.named else ()
        basis = self._ledger.basis(key, tags, guessed=guessed, opened=opened)
        look = Look(self._home, family, basis, now)
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
        self._home.leave_settled()
        self._alone = len(looks) == 1 and not self._under_way
        self._under_way += 1
        self._finder.begin(looks, self._answered, partial(self._end, self._home, looks))

    def _end(self, home: Home, looks: Sequence[Look]) -> None:
        if home is self._home:
            # Nobody may hang, whatever has become of the question.
            for look in looks:
                if look.found is None and look.value is MISSING:
                    look.settle(UNKNOWN)
        self._rest(home)

    def _rest(self, home: Home) -> None:
        """Note that a question has ended, unless it was asked on a loop that is gone."""
        if home is self._home:
            self._under_way -= 1
            if not self.asking:
                rests, self._rests = self._rests, []
                for rest in rests:
                    if not rest.done():
                        rest.set_result(None)

    def _surveyed(
        self, survey: Survey, contents: Iterable[tuple[str, Content]], states: States
    ) -> list[tuple[Look, Content]]:
        """Answer the keys of a survey as looks are; return the looks that this leaves."""
        family, by_key, values = survey.family, survey.home.by_key, survey.values
        ledger, keeps = self._ledger, self._tiers.store is not None
        unmoved, moment = ledger.moment is survey.moment, (self._tiers.now(), self._monotonic())
        left: list[tuple[Look, Content]] = []
        for key, content in contents:
            if by_key.get(key) is survey and (unmoved or ledger.holds(survey.basis(key))):
                tags = survey.tags[key]
                plain = self._plain(family, key, tags, content, states)
                if plain is not None:
                    del by_key[key]
                    values[key] = plain[0]
                    moved = keeps and ledger.moment is not survey.moment
                    if tags or moved or not states.learned:
                        self._take_in(family, survey.basis(key), plain, states)
                    elif keeps:
                        entry, l1_ttl = _entry_of(family, plain, states), family.limits.l1_ttl
                        self._tiers.hold(
                            key, (), family, entry, l1_ttl=l1_ttl, early=plain[1], moment=moment
                        )
                    continue
            look = survey.look(key)
            if look is None:
                continue
            if look.waiting and not self._answered(((look, content),), states):
                values[key] = look.value
            else:
                left.append((look, content))
        return left

    def _answered(
        self, held: Iterable[tuple[Look, Content]], states: States
    ) -> list[tuple[Look, Content]]:
        """Answer looks for which L2 holds a plain frame of a fresh value, as it does for most.

        Returns:
            Those that this leaves, each with what L2 holds.
        """
        by_key, holds = self._home.by_key, self._ledger.holds
        keeps = self._tiers.store is not None
        left: list[tuple[Look, Content]] = []
        for look, content in held:
            basis, family = look.basis, look.family
            key, tags = basis.key, basis.tags
            plain = None
            if by_key.get(key) is look and holds(basis):
                plain = self._plain(family, key, tags, content, states)
            if plain is None:
                left.append((look, content))
                continue
            if look.alias is not None:
                look.hide()
            if tags or keeps or not states.learned:
                self._take_in(family, basis, plain, states)
                self._tiers.link(family, key, look.alias, basis.declared)
            self._give(look, plain)
        return left

    def _plain(
        self, family: Family, key: str, tags: Collection[str], content: Content, states: States
    ) -> Plain | None:
        """Return what is in a plain frame of a fresh value; `None` if it is anything else."""
        namespace, codec = states.namespace, family.codec
        if not isinstance(content, bytes) or namespace is None:
            return None
        pairs: Pairs | None
        pairs, packed = (), b""
        try:
            if tags:
                pairs = states.pairs(tags)
                if pairs is None:
                    return None
                packed = pack_tags(pairs)
            binding = codec.fingerprint + digest_key(self._namespace, key) + namespace
            fields = unpack_plain(content, binding, len(pairs), packed)
            if fields is None:
                return None
            value = codec.decode(fields[5])
        except Exception:  # noqa: BLE001 - the finder tells what it is
            return None
        created_at, fresh_until, load_seconds = fields[1], fields[2], fields[4]
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
            return None
        return value, early, pairs, fields

    def _take_in(self, family: Family, basis: Basis, plain: Plain, states: States) -> None:
        """Let the ledger know the states of tags, and L1 a value that was found under them."""
        if basis.tags or not states.learned:
            self._finder.learn(basis, states)
        if self._tiers.store is not None:
            entry, l1_ttl = _entry_of(family, plain, states), family.limits.l1_ttl
            self._tiers.keep(basis, family, entry, l1_ttl=l1_ttl, early=plain[1])

    def _give(self, look: Look, plain: Plain) -> None:
        """Give a value to all who wait for it."""
        family, key, joined, value = look.family, look.basis.key, look.many, plain[0]
        listened, copied = self._log.listened, family.limits.isolation == "copy"
        del self._home.by_key[key]
        look.value = value
        if not look.waiters:
            return
        waiting = look.take()
        for waiter in waiting:
            if joined and copied:
                value = family.codec.decode(plain[3][5])
            waiter.set_result(value)
            if listened:
                since, context = look.came.pop(waiter)
                note = partial(self._log.note_hit, joined=joined, started=since)
                context.run(note, family, key)
            joined = True
        if waiting and not listened:
            self._log.note_hits(family, key, len(waiting))


def _entry_of(family: Family, plain: Plain, states: States) -> Entry:
    value, _, pairs, (entry_id, created, fresh, stale, load_seconds, payload) = plain
    header = Header(
        entry_id, created, fresh, stale, load_seconds,
        family.codec.fingerprint, "", False, states.namespace or b"", pairs,
    )  # fmt: skip
    return Entry(value, header, len(payload), payload)
