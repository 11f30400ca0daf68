"""Looks: what readers ask of L2 first, before any flight begins.

Most keys that L1 lacks have a fresh value in L2. A look finds it and answers, without the tasks and
the bookkeeping that a load needs. Anything else, be it nothing, a lease, what is due, or only an
unusual frame, is left to a flight, which goes on with what the look has found.

What single readers ask in one tick of the event loop is asked together. A look answers only while
nothing has happened to what its value rests on, and while nobody else asks L2 for its key: then two
answers would be on their way, and the older one might come last.
"""

import asyncio
from asyncio import Future, InvalidStateError
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from math import inf

from async_tiercache._ask import UNKNOWN, States
from async_tiercache._basis import Basis
from async_tiercache._family import MANY_MISSES, Alias, Family
from async_tiercache._fence import Fences
from async_tiercache._finder import Finder
from async_tiercache._flights import Flights
from async_tiercache._followers import Followers
from async_tiercache._inside import RUNNING, inside
from async_tiercache._ledger import Ledger
from async_tiercache._look import Home, Look, Question, Survey, Waiter, Wanted
from async_tiercache._options import MISSING
from async_tiercache._plain import Plain, PlainFrames, entry_of
from async_tiercache._read_log import ReadLog
from async_tiercache._tiers import Tiers
from async_tiercache.abc import Clock, Content


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
        self._listened = log.listened
        self._monotonic = clock.monotonic
        self._plain = PlainFrames(namespace, clock.random)
        self._home = Home()
        self._question: Question | None = None
        self._scheduled = False
        self._alone = False
        self._under_way = 0
        self._rests: list[asyncio.Future[None]] = []

    def begin(
        self, wanted: Wanted, key: str, alias: Alias | None = None
    ) -> tuple[Look, Waiter] | None:
        """Let a reader look for a key; `None` if that is no case for a look.

        Args:
            wanted: What the reader wants.
            key: The key's text.
            alias: Where a compiled call path looks for the slot of the key.

        Returns:
            The look, and a future of the value, or of the look where only a flight can tell.
        """
        store = self._tiers.store
        if (store is not None and key in store) or (
            # A read inside of a load needs to know what its value rests on.
            RUNNING and inside() is not None
        ):
            return None
        if key in self._flights:
            return self._followers.begin(wanted, key, alias)
        if wanted.family.misses_in_a_row >= MANY_MISSES or key in self._releasing:
            return None
        home = self._home
        waiter: Waiter = Future()
        if key in home.by_key or home.surveys:
            look = self._joined(wanted, key, alias, waiter)
            if look is not None:
                return look, waiter
            self.detach(key)
        question = self._question
        if (
            question is None
            or question.wanted is not wanted
            or question.moment is not self._ledger.latest
        ):
            question = self._question_of(wanted)
        look = Look(question, wanted, key, alias, [waiter])
        home.by_key[key] = question.looks[key] = look
        if alias is not None:
            aliases, arguments = alias
            aliases.slots[arguments] = look
        if self._listened:
            look.note_came(waiter, self._monotonic())
        if not self._scheduled:
            self._ask()
        return look, waiter

    def _question_of(self, wanted: Wanted) -> Question:
        """Return the question into which a look goes that begins now."""
        question, moment = self._question, self._ledger.moment
        if question is not None and question.moment is not moment:
            # What those have found counts under other conditions.
            self._ask_gathered()
            question = None
        if question is None:
            question = Question(self._home, wanted, moment, self._monotonic())
            self._question = question
        elif question.wanted is not wanted:
            question.take(wanted)
        return question

    def _joined(self, wanted: Wanted, key: str, alias: Alias | None, waiter: Waiter) -> Look | None:
        """Return the look of a key that a reader has joined, if it may have what that will find."""
        home, ledger, now = self._home, self._ledger, self._monotonic()
        look = home.by_key.get(key) or home.surveyed(key)
        # One that was overtaken brings nothing.
        if look is None or look.found is not None:
            return None
        theirs, began = look.wanted, look.question.began
        if theirs.family is not wanted.family or theirs.tags != wanted.tags:
            return None
        if not (now < ledger.proof_deadline or now - began < ledger.join_seconds):
            return None
        if alias is not None:
            look.be_found(alias)
        look.waiters.append(waiter)
        if self._listened:
            look.note_came(waiter, now)
        return look

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
                    self._rest(survey)
            yield survey
        finally:
            survey.leave()

    def claim(self, family: Family, basis: Basis) -> Look:
        """Take the place of a key's look without being one, for who asks L2 by himself.

        It is `current` until somebody else asks; then what was found may be older than theirs.
        """
        self.detach(basis.key)
        look = Look.at(self._home, family, basis, many=True)
        look.found = UNKNOWN
        return look

    def detach(self, key: str) -> None:
        """Let the readers of a look ask again: somebody else asks L2 for its key."""
        question = self._question
        if question is not None and key in question.looks:
            # A question has one look at a key, and whoever comes from here on has another.
            self._ask_gathered()
        self._home.take(key)

    def forget(self) -> None:
        """Drop looks that belong to a loop that is gone."""
        self._home.forget()
        self._home = Home()
        self._followers.forget()
        self._question = None
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

    def _ask(self) -> None:
        """Ask what has gathered, when the loop has come to all who are ready.

        Or at once, as long as nobody else has come: then to wait is two ticks for nothing.
        """
        home = self._home
        if self._alone and not self._under_way and not home.settled and not home.leaving:
            self._ask_gathered()
        else:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._ask_gathered)

    def _ask_gathered(self) -> None:
        self._scheduled = False
        question, self._question = self._question, None
        if question is not None:
            if self._home.settled or self._home.leaving:
                self._home.leave_settled()
            self._alone = len(question.looks) == 1 and not self._under_way
            self._under_way += 1
            self._finder.begin(question, self._answered, self._rest)

    def _rest(self, asked: Question | Survey) -> None:
        """Note that a question has ended, unless it was asked on a loop that is gone."""
        if asked.home is self._home:
            self._under_way -= 1
            if self._rests and not self.asking:
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
        ledger, keeps = self._ledger, self._tiers.store is not None
        whole = keeps or bool(ledger.floors)
        rows = zip(keys, keys.values(), contents, strict=True)
        opened, passed_over = self._plain.open(survey.family, rows, states, whole=whole)
        self._finder.learn(survey.basis_of(keys), states)
        found = dict(zip(keys, opened, strict=True))
        left: list[tuple[str, Content]] = []
        if passed_over:
            texts = [*keys]
            left = [(texts[place], contents[place]) for place in passed_over]
            for key, _ in left:
                del found[key]
        # Not before all are decoded: the code of a user's class may do anything.
        if ledger.latest is not survey.moment or ledger.floors or survey.taken:
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

    def _counts(self, asked: Question | Survey, key: str, created_at: float) -> bool:
        """Return whether what was found for one key is still to be believed.

        Args:
            asked: What has asked.
            key: The key's text.
            created_at: When the load of that began; long ago, if it is not known any more.
        """
        ledger = self._ledger
        return (
            asked.owns(key)
            and (ledger.moment is asked.moment or ledger.holds(asked.basis(key)))
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
            if look.waiting and not self._answered(look.question, [content], states):
                survey.values[key] = look.value
            else:
                looks.append((look, content))
        return looks

    def _answered(
        self, question: Question, contents: Sequence[Content], states: States
    ) -> list[tuple[Look, Content]]:
        """Answer looks for which L2 holds a plain frame of a fresh value, as it does for most.

        Args:
            question: That of the looks.
            contents: What L2 holds for each of them.
            states: The states of their tags.

        Returns:
            Those that this leaves, each with what L2 holds.
        """
        family = question.family
        if family is None:
            return self._answered_apart(question, contents, states)
        ledger, singly = self._ledger, self._listened or family.limits.isolation == "copy"
        whole = doubtful = singly
        if self._tiers.store is not None or len(states) > 1 or not states.learned or ledger.floors:
            whole = True
        keys = question.tags
        rows = zip(keys, keys.values(), contents, strict=True)
        opened, _ = self._plain.open(family, rows, states, whole=whole)
        # Not before all are decoded: the code of a user's class may do anything. To give each its
        # own runs such code, too.
        if ledger.latest is not question.moment or ledger.floors or question.taken:
            doubtful = True
        by_key, given = question.home.by_key, 0
        # To call `list[...]` would raise an error inside, and take as long as decoding the value.
        left: list[tuple[Look, Content]] = []
        for look, plain, content in zip(question.looks.values(), opened, contents, strict=True):
            if plain is MISSING or (
                doubtful and not self._counts(question, look.key, plain[3][1] if whole else -inf)
            ):
                left.append((look, content))
                continue
            del by_key[look.key]
            if look.alias is not None:
                # Nothing else stands there while this is the look of the key.
                aliases, arguments = look.alias
                aliases.slots.pop(arguments, None)
            value = plain
            if whole:
                value = plain[0]
                self._take_in(look, plain, states)
            look.value = value
            waiters = look.waiters
            given += len(waiters)
            for waiter in waiters:
                try:
                    waiter.set_result(value)
                except InvalidStateError:  # Cancelled: to ask each costs more.
                    given -= 1
        self._log.note_hits(family, keys, given)
        return left

    def _answered_apart(
        self, question: Question, contents: Sequence[Content], states: States
    ) -> list[tuple[Look, Content]]:
        """Answer looks at keys of several families, as if each of these had asked by itself."""
        rows: dict[Family, dict[str, Content]] = {}
        for look, content in zip(question.looks.values(), contents, strict=True):
            rows.setdefault(look.family, {})[look.key] = content
        left: list[tuple[Look, Content]] = []
        for family, held in rows.items():
            left += self._answered(question.part(family, held), [*held.values()], states)
        return left

    def _take_in(self, look: Look, plain: Plain, states: States) -> None:
        """Let the ledger know the states of tags, and L1 a value that was found under them.

        And give each who waits for it a value of its own, if it is to have one.
        """
        family, tiers = look.family, self._tiers
        if not states.learned or look.question.tags[look.key]:
            self._finder.learn(look.basis, states)
        if tiers.store is not None:
            entry, l1_ttl = entry_of(family, plain, states), family.limits.l1_ttl
            tiers.keep(look.basis, family, entry, l1_ttl=l1_ttl, early=plain[1])
            tiers.link(family, look.key, look.alias, look.wanted.tags)
        if self._listened or family.limits.isolation == "copy":
            self._give(look, plain)

    def _give(self, look: Look, plain: Plain) -> None:
        """Give a value to all who wait for it, each its own or in its own context."""
        family, came, given = look.family, look.came, 0
        look.value = value = plain[0]
        for waiter in look.waiters:
            if waiter.done():
                continue
            joined = look.question.many or given > 0
            if joined and family.limits.isolation == "copy":
                value = family.codec.decode(plain[3][5])
            waiter.set_result(value)
            given += 1
            if came is not None:
                since, context = came.pop(waiter)
                note = partial(self._log.note_hit, joined=joined, started=since)
                context.run(note, family, look.key)
        if given and came is None:
            self._log.note_hits(family, (look.key,), given)
        look.forget()
