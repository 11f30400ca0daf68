"""Looks: what readers ask of L2 first, before any flight begins.

Most keys that L1 lacks have a fresh value in L2. A look finds it and answers, without the tasks and
the bookkeeping that a load needs. Anything else, be it nothing, a lease, what is due, or only an
unusual frame, is left to a flight, which goes on with what the look has found.

What single readers ask in one tick of the event loop is asked together. A look answers only while
nothing has happened to what its value rests on, and while nobody else asks L2 for its key: then two
answers would be on their way, and the older one might come last.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import inf
from typing import Any

from async_tiercache._ask import UNKNOWN, States
from async_tiercache._basis import Basis
from async_tiercache._family import MANY_MISSES, Alias, Family
from async_tiercache._fence import Fences
from async_tiercache._finder import Finder
from async_tiercache._flights import Flights
from async_tiercache._followers import Followers
from async_tiercache._inside import RUNNING, inside
from async_tiercache._ledger import Ledger
from async_tiercache._look import Home, Look, Survey, Waiter
from async_tiercache._options import MISSING
from async_tiercache._plain import Plain, PlainFrames, entry_of
from async_tiercache._read_log import ReadLog
from async_tiercache._tiers import Tiers
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, Clock, Content


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
        self.on = on
        self._tiers = tiers
        self._finder = finder
        self._ledger = ledger
        self._flights = flights.by_key
        self._followers = followers
        self._releasing = fences.releasing
        self._log = log
        self._monotonic = clock.monotonic
        self._plain = PlainFrames(namespace, clock.random)
        self._home = Home()
        self._gathered: list[Look] = []
        self._tags: dict[str, None] = {NAMESPACE: None}
        self._scheduled = False
        self._alone = False
        self._under_way = 0
        self._rests: list[asyncio.Future[None]] = []

    def begin(  # noqa: PLR0917 - by names, each read would take longer
        self,
        family: Family,
        key: str,
        tags: tuple[str, ...],
        loop: asyncio.AbstractEventLoop,
        opened: bool,
        alias: Alias | None = None,
    ) -> tuple[Look, Waiter] | None:
        """Let a reader look for a key; `None` if that is no case for a look.

        Args:
            family: The key's family.
            key: The key's text.
            tags: The tags that the value must stand under.
            loop: The loop on which this runs.
            opened: Whether the loader may name more.
            alias: Where a compiled call path looks for the slot of the key.

        Returns:
            The look, and a future of the value, or of the look where only a flight can tell.
        """
        store = self._tiers.store
        if (
            not self.on
            or (store is not None and key in store)
            # A read inside of a load needs to know what its value rests on.
            or (RUNNING and inside() is not None)
        ):
            return None
        if key in self._flights:
            return self._followers.begin(family, key, tags, alias)
        if family.misses_in_a_row >= MANY_MISSES or key in self._releasing:
            return None
        now, home = self._monotonic(), self._home
        look = home.by_key.get(key)
        if look is None and home.surveys:
            look = home.surveyed(key)
        joined = look is not None and self._may_join(look, family, tags, now)
        if look is None or not joined:
            asked = (*tags, *family.named.get(key, ())) if family.named else tags
            moment = self._ledger.latest or self._ledger.moment
            look = Look(home, family, key, tags, asked, moment, now, opened, alias)
            self._gathered.append(look)
            if asked or opened:
                self._tags.update(dict.fromkeys((TAG_EPOCH, *asked) if opened else asked))
        elif alias is not None:
            look.be_found(alias)
        waiter: Waiter = loop.create_future()
        look.waiters.append(waiter)
        if self._log.listened:
            look.note_came(waiter, now)
        if not joined and not self._scheduled:
            self._ask(loop)
        return look, waiter

    def _may_join(self, look: Look, family: Family, tags: tuple[str, ...], now: float) -> bool:
        """Return whether a reader may have what a look is going to find."""
        # One that was overtaken brings nothing.
        if look.found is not None or look.family is not family or look.declared != tags:
            return False
        ledger = self._ledger
        return now < ledger.proof_deadline or now - look.began < ledger.join_seconds

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
        look = Look.at(self._home, family, basis)
        look.many, look.found = True, UNKNOWN
        return look

    def detach(self, key: str) -> None:
        """Let the readers of a look ask again: somebody else asks L2 for its key."""
        home = self._home
        if home.surveys:
            home.take(key)
        look = home.by_key.pop(key, None)
        if look is not None:
            look.hide()

    def forget(self) -> None:
        """Drop looks that belong to a loop that is gone."""
        self._home.forget()
        self._home = Home()
        self._followers.forget()
        self._gathered, self._tags = [], {NAMESPACE: None}
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
        for survey in self._home.surveys:
            if not keys.keys().isdisjoint(survey.tags.keys()):
                keys = {key: tags for key, tags in keys.items() if not survey.owns(key)}
        return keys

    def _ask(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ask what has gathered, when the loop has come to all who are ready.

        Or at once, as long as nobody else has come: then to wait is two ticks for nothing.
        """
        if self._alone and not self._under_way and self._home.quiet:
            self._ask_gathered()
        else:
            self._scheduled = True
            loop.call_soon(self._ask_gathered)

    def _ask_gathered(self) -> None:
        self._scheduled = False
        looks, self._gathered = self._gathered, []
        tags = self._tags
        if len(tags) > 1:
            self._tags = {NAMESPACE: None}
        self._home.leave_settled()
        self._alone = len(looks) == 1 and not self._under_way
        self._under_way += 1
        self._finder.begin(looks, tags, self._answered, partial(self._end, self._home, looks))

    def _end(self, home: Home, looks: Sequence[Look]) -> None:
        if home is self._home:
            # Nobody may hang, whatever has become of the question.
            for look in looks:
                if look.value is MISSING and look.found is None:
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
        self,
        survey: Survey,
        keys: Mapping[str, tuple[str, ...]],
        contents: Sequence[Content],
        states: States,
    ) -> list[tuple[Look, Content]]:
        """Answer the keys of a survey as looks are; return the looks that this leaves.

        Args:
            survey: The survey.
            keys: Those of its keys that L2 was asked for, each with its tags.
            contents: What L2 holds for each.
            states: The states of their tags.
        """
        ledger = self._ledger
        found: dict[str, Any] = {}
        keeps = self._tiers.store is not None
        whole = keeps or ledger.floored
        rows = zip(keys, keys.values(), contents, strict=True)
        left = self._plain.open(survey.family, rows, states, found, whole=whole)
        self._finder.learn(survey.basis_of(keys), states)
        # Not before all are decoded: the code of a user's class may do anything.
        if ledger.moment is not survey.moment or ledger.floored or survey.taken:
            held = dict(zip(keys, contents, strict=True))
            for key in [*found]:
                created_at = found[key][3][1] if whole else -inf
                if not self._counts(survey, key, created_at):
                    del found[key]
                    left.append((key, held[key]))
        survey.values = {key: plain[0] for key, plain in found.items()} if whole else found
        if keeps:
            self._keep_all(survey, found, states)
        return self._looked(survey, left, states) if left else []

    def _counts(self, survey: Survey, key: str, created_at: float) -> bool:
        """Return whether what a survey has found for one key is still to be believed.

        Args:
            survey: The survey.
            key: The key's text.
            created_at: When the load of that began; long ago, if it is not known any more.
        """
        ledger = self._ledger
        return (
            survey.owns(key)
            and (ledger.moment is survey.moment or ledger.holds(survey.basis(key)))
            and not ledger.is_below_floor(key, created_at)
        )

    def _keep_all(self, survey: Survey, found: Mapping[str, Plain], states: States) -> None:
        """Put what was found by a survey into L1."""
        family, tiers, ledger = survey.family, self._tiers, self._ledger
        l1_ttl, moment = family.limits.l1_ttl, (tiers.now(), self._monotonic())
        for key, plain in found.items():
            entry = entry_of(family, plain, states)
            if ledger.moment is survey.moment:
                tags = survey.tags[key]
                tiers.hold(key, tags, family, entry, l1_ttl=l1_ttl, early=plain[1], moment=moment)
            else:
                tiers.keep(survey.basis(key), family, entry, l1_ttl=l1_ttl, early=plain[1])

    def _looked(
        self, survey: Survey, left: Iterable[tuple[str, Content]], states: States
    ) -> list[tuple[Look, Content]]:
        """Answer keys of a survey that readers have joined; return the looks at the others."""
        looks: list[tuple[Look, Content]] = []
        for key, content in left:
            look = survey.look(key)
            if look is None:
                continue
            if look.waiting and not self._answered(((look, content),), states):
                survey.values[key] = look.value
            else:
                looks.append((look, content))
        return looks

    def _answered(
        self, held: Iterable[tuple[Look, Content]], states: States
    ) -> list[tuple[Look, Content]]:
        """Answer looks for which L2 holds a plain frame of a fresh value, as it does for most.

        Returns:
            Those that this leaves, each with what L2 holds.
        """
        held = list(held)
        families = {look.family for look, _ in held}
        left: list[tuple[Look, Content]] = []
        for family in families:
            mine = held
            if len(families) > 1:
                mine = [(look, content) for look, content in held if look.family is family]
            left += self._answered_alike(family, mine, states)
        return left

    def _answered_alike(
        self, family: Family, held: Sequence[tuple[Look, Content]], states: States
    ) -> list[tuple[Look, Content]]:
        """Answer looks of one family; return those that this leaves."""
        by_key, ledger, keeps = self._home.by_key, self._ledger, self._tiers.store is not None
        # Of two that look for a key under other tags, the later one is the key's look.
        latest = {each[0].key: each for each in held}
        rows = [(key, look.tags, content) for key, (look, content) in latest.items()]
        found: dict[str, Plain] = {}
        self._plain.open(family, rows, states, found, whole=True)
        floored = ledger.floored
        # To call `list[...]` would raise an error inside, and take as long as decoding the value.
        left: list[tuple[Look, Content]] = []
        for look, content in held:
            key = look.key
            plain = found.get(key)
            if (
                plain is None
                or by_key.get(key) is not look
                or not (look.moment is ledger.latest or ledger.holds(look.basis))
                or (floored and ledger.is_below_floor(key, plain[3][1]))
            ):
                left.append((look, content))
                continue
            del by_key[key]
            if look.alias is not None:
                look.hide()
            if keeps or look.tags or not states.learned:
                self._take_in(family, look.basis, plain, states)
                self._tiers.link(family, key, look.alias, look.declared)
            self._give(look, plain)
        return left

    def _take_in(self, family: Family, basis: Basis, plain: Plain, states: States) -> None:
        """Let the ledger know the states of tags, and L1 a value that was found under them."""
        if basis.tags or not states.learned:
            self._finder.learn(basis, states)
        if self._tiers.store is not None:
            entry, l1_ttl = entry_of(family, plain, states), family.limits.l1_ttl
            self._tiers.keep(basis, family, entry, l1_ttl=l1_ttl, early=plain[1])

    def _give(self, look: Look, plain: Plain) -> None:
        """Give a value to all who wait for it."""
        family, came, given = look.family, look.came, 0
        look.value = value = plain[0]
        for waiter in look.waiters:
            if waiter.done():
                continue
            joined = look.many or given > 0
            if joined and family.limits.isolation == "copy":
                value = family.codec.decode(plain[3][5])
            waiter.set_result(value)
            given += 1
            if came is not None:
                since, context = came.pop(waiter)
                note = partial(self._log.note_hit, joined=joined, started=since)
                context.run(note, family, look.key)
        if given and came is None:
            self._log.note_hits(family, look.key, given)
