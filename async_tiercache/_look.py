"""The look: what readers ask of L2 about one key; and the survey, which asks for a whole batch."""

import asyncio
from array import array
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context, copy_context
from copy import copy
from itertools import chain
from math import inf
from typing import Any, Final, NamedTuple, TypeAlias

from async_tiercache._ask import UNKNOWN, Ask, Found
from async_tiercache._basis import Basis, Moment
from async_tiercache._family import Alias, Family
from async_tiercache._flight import Flight
from async_tiercache._options import MISSING
from async_tiercache._statistics import Counts
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, Codec

Waiter: TypeAlias = asyncio.Future[Any]
"""Gives one reader the value that a look has found, or the look where only a flight can tell.

A plain future: with one of a class of our own, tasks take a longer way.
"""

_NEVER: Final = Moment(-1, -1, array("Q"), array("Q"))
"""No moment of any ledger."""


class Came(NamedTuple):
    """Where a read comes from that somebody is told of.

    Attributes:
        since: When the reader came, monotonic.
        context: The reader's.
    """

    since: float
    context: Context


class Wanted:
    """What a reader wants, whatever the key; one object for all calls that want the same.

    Args:
        family: The key's family.
        tags: The tags that the value must stand under.
        opened: Whether the loader may name more.

    Attributes:
        asked: The tags whose states are asked for with keys of which the loader has named no
            others, once somebody has asked.
    """

    __slots__ = ("asked", "family", "opened", "tags")

    def __init__(self, family: Family, tags: tuple[str, ...], opened: bool) -> None:
        self.family = family
        self.tags = tags
        self.opened = opened
        self.asked: tuple[str, ...] = ()


class Question:
    """The looks that begin in one tick and are asked together, and what they have in common.

    Args:
        home: Where they are.
        wanted: What the reader of the first of them wants.
        moment: When they began, as the ledger knows it.
        began: When the first of them began, monotonic.
        many: Whether a batch waits for them, which then calls `leave`.

    Attributes:
        family: That of all keys; `None` if they have several.
        wanted: What all readers want; `None` if that is not the same.
        looks: By key.
        tags: Once it is asked: the keys, each with the tags that its value must stand under.
        taken: Whether one of them is not the look of its key any more.
    """

    __slots__ = ("began", "family", "home", "looks", "many", "moment", "tags", "taken", "wanted")

    def __init__(
        self, home: "Home", wanted: Wanted, moment: Moment, began: float, *, many: bool = False
    ) -> None:
        self.home = home
        self.family: Family | None = wanted.family
        self.wanted: Wanted | None = wanted
        self.moment = moment
        self.began = began
        self.many = many
        self.taken = False
        self.looks: dict[str, Look] = {}
        self.tags: dict[str, tuple[str, ...]] = {}

    def take(self, wanted: Wanted) -> None:
        """Let looks of readers come in who want something else."""
        if self.family is not wanted.family:
            self.family = None
        self.wanted = None

    def ask(self) -> tuple[str, ...]:
        """Return the tags whose states are asked for with the keys, of which there are no more."""
        wanted = self.wanted
        if wanted is not None and not wanted.family.named:
            self.tags = dict.fromkeys(self.looks, wanted.tags)
            if not wanted.asked:
                wanted.asked = _asked(wanted.tags, opened=wanted.opened)
            return wanted.asked
        looks = self.looks.values()
        self.tags = {look.key: look.tags for look in looks}
        return _asked(_tags_of(self.tags), opened=any(look.wanted.opened for look in looks))

    def owns(self, key: str) -> bool:
        """Return whether its look is the look of a key still."""
        return self.home.by_key.get(key) is self.looks[key]

    def basis(self, key: str) -> Basis:
        """Return what the value of a key rests on."""
        return self.looks[key].basis

    def part(self, family: Family, keys: Iterable[str]) -> "Question":
        """Return the question about those of the keys that are of one family."""
        part = copy(self)
        part.family = family
        part.looks = {key: self.looks[key] for key in keys}
        part.tags = {key: self.tags[key] for key in keys}
        for look in part.looks.values():
            look.question = part  # Who takes it tells that.
        return part

    def leave_out(self, key: str) -> None:
        """Ask nothing about a key."""
        del self.tags[key]
        self.looks.pop(key).settle(UNKNOWN)


class Look(Ask):
    """What readers ask about one key.

    Args:
        question: What it has in common with others.
        wanted: What the reader wants.
        key: The key's text.
        alias: Where a compiled call path looks for the slot of this key.
        waiters: Those who wait already.

    Attributes:
        question: As given.
        wanted: As given.
        alias: As given.
        value: The value, if there is a fresh one.
        waiters: Get the value. Else the first of them gets the look, and begins a flight, whose
            outcome the others have.
        came: Where each of them comes from, if somebody is told.
        flight: The flight whose outcome they get, once there is one.
        epoch: The ledger's, when it was last known that readers may join that.
        soft_deadline: A compiled call path that finds it takes it for a slot that is due.
    """

    soft_deadline = -inf

    # `_abandon` tells the flight that nobody waits any more; `_gone` counts those who do not.
    __slots__ = (
        "_abandon", "_gone", "alias", "came", "epoch", "flight", "question", "value", "waiters",
        "wanted",
    )  # fmt: skip

    epoch: object

    def __init__(
        self,
        question: Question,
        wanted: Wanted,
        key: str,
        alias: Alias | None,
        waiters: list[Waiter],
    ) -> None:
        # Not by the base class, which would cost each read a call more.
        self.found = None
        self.error = None
        self._basis = None
        self.key = key
        self.question = question
        self.wanted = wanted
        self.alias = alias
        self.value: Any = MISSING
        self.waiters = waiters
        self.came: dict[Waiter, Came] | None = None
        self._gone = 0
        self.flight: Flight | None = None

    @classmethod
    def at(cls, home: "Home", family: Family, basis: Basis, *, many: bool = False) -> "Look":
        """Return the look of a key that asks nothing, at what rests on a basis."""
        wanted = Wanted(family, basis.declared, False)
        look = cls(Question(home, wanted, _NEVER, 0.0, many=many), wanted, basis.key, None, [])
        look._basis = basis
        look.stand()
        return look

    def stand(self) -> None:
        """Be the look of the key."""
        home = self.question.home
        home.take(self.key)
        home.by_key[self.key] = self

    @property
    def family(self) -> Family:
        """The key's family."""
        return self.wanted.family

    @property
    def tags(self) -> tuple[str, ...]:
        """Those of what the reader wants, and those that the loader has named before."""
        wanted = self.wanted
        named = wanted.family.named
        return (*wanted.tags, *named.get(self.key, ())) if named else wanted.tags

    @property
    def basis(self) -> Basis:
        """What a value of the key rests on."""
        basis = self._basis
        if basis is None:
            # Most looks are answered without.
            question, declared = self.question, self.wanted.tags
            tags, opened = question.tags.get(self.key, declared), self.wanted.opened
            basis = question.moment.basis(self.key, declared, tags, opened=opened)
            self._basis = basis
        return basis

    @property
    def codecs(self) -> tuple[Codec, ...]:
        """Those that the value may be decoded by."""
        return (self.family.codec,)

    @property
    def counts(self) -> Counts | None:
        """Where what that takes is counted."""
        return self.family.counts

    @property
    def waiting(self) -> int:
        """How many readers wait still."""
        return len(self.waiters) - self._gone

    @property
    def current(self) -> bool:
        """Whether nobody else has asked L2 for the key since."""
        return self.question.home.by_key.get(self.key) is self

    def note_came(self, waiter: Waiter, since: float) -> None:
        """Note where a reader comes from, who is the one that runs now.

        Args:
            waiter: What it waits for.
            since: When it came, monotonic.
        """
        if self.came is None:
            self.came = {}
        self.came[waiter] = Came(since, copy_context())

    def be_found(self, alias: Alias) -> None:
        """Stand where a compiled call path looks for the slot of the key, if nowhere yet."""
        waits = self.flight is not None or (self.found is None and self.value is MISSING)
        if self.alias is None and waits:
            self.alias = alias
            aliases, arguments = alias
            aliases.slots[arguments] = self

    def hide(self) -> None:
        """Be found by no compiled call path any more."""
        if self.alias is not None:
            aliases, arguments = self.alias
            slots = aliases.slots
            if slots.get(arguments) is self:
                del slots[arguments]

    def leave(self) -> None:
        """Be the look of the key no more."""
        if self.current:
            del self.question.home.by_key[self.key]

    def settle(self, found: Found) -> None:
        """Leave the question to a flight, with what was found if that still counts."""
        self.found = found
        self.hide()
        question = self.question
        if not question.many:
            question.home.settled.append(self)
        if self.wanted.family.bound or question.many:
            # What a caller's own object loads is not for others to wait for.
            self.wake()
        else:
            self._wake_first()

    def follow(self, flight: Flight, abandon: Callable[[], None]) -> None:
        """Let those who wait have the outcome of a flight, and be found again by more of them.

        Args:
            flight: The flight.
            abandon: Tells it that all of them were cancelled.
        """
        self.flight, self._abandon = flight, abandon
        if self.alias is not None:
            aliases, arguments = self.alias
            aliases.slots.setdefault(arguments, self)

    def end(self) -> None:
        """Note that the read which was to begin a flight has ended, with or without one."""
        if self.flight is None:
            self.wake()

    def wake(self) -> None:
        """Let all who wait still find the value for themselves."""
        for waiter in self.take():
            waiter.set_result(self)

    def take(self) -> list[Waiter]:
        """Return the readers that wait still, and forget all."""
        waiting = [waiter for waiter in self.waiters if not waiter.done()]
        self.forget()
        return waiting

    def forget(self) -> None:
        """Forget the readers: they refer to this, too."""
        self.waiters, self.came, self._gone = [], None, 0

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
            if self.found is not None and self.flight is None:
                # It was to begin the flight.
                self._wake_first()
        elif self.waiters:
            self._gone += 1
            if self.flight is not None and not self.waiting:
                self.hide()
                self._abandon()

    def _wake_first(self) -> None:
        for waiter in self.waiters:
            if not waiter.done():
                self._gone += 1
                if self.came is not None:
                    self.came.pop(waiter, None)
                waiter.set_result(self)
                return


class Survey:
    """One look for all keys of a batch: most need none of their own.

    A key gets its own look when a reader joins, or when it is left to a flight.

    Attributes:
        home: Where it stands for its keys.
        family: The family of the keys.
        moment: When it began, as the ledger knows it.
        tags: The texts of the keys, each with the tags that are asked for with it.
        values: The values that are there and fresh, by key.
        looks: The keys' own looks.
        taken: Keys that have one, or that somebody else has asked L2 for since.
    """

    __slots__ = (
        "_began", "_declared", "_opened", "family", "home", "looks", "moment", "tags", "taken",
        "values",
    )  # fmt: skip

    def __init__(
        self,
        home: "Home",
        family: Family,
        keys: Mapping[str, tuple[str, ...]],
        *,
        opened: bool,
        moment: Moment,
        began: float,
    ) -> None:
        self.home = home
        self.family = family
        self.moment = moment
        self.tags = keys
        if family.named:
            named = family.named
            self.tags = {key: (*tags, *named.get(key, ())) for key, tags in keys.items()}
        self.values: dict[str, Any] = {}
        self.looks: dict[str, Look] = {}
        self.taken: set[str] = set()
        self._began = began
        self._declared = keys
        self._opened = opened
        home.surveys.append(self)

    @property
    def asked(self) -> tuple[str, ...]:
        """The tags whose states are asked for."""
        return _asked(_tags_of(self.tags), opened=self._opened)

    def owns(self, key: str) -> bool:
        """Return whether it is the look of a key, which has no value and no look of its own yet."""
        return key in self.tags and key not in self.taken and key not in self.values

    def basis(self, key: str) -> Basis:
        """Return what the value of a key rests on."""
        return self.moment.basis(key, self._declared[key], self.tags[key], opened=self._opened)

    def basis_of(self, keys: Mapping[str, tuple[str, ...]]) -> Basis:
        """Return what rests on all tags of some of the keys, and on no key."""
        return self.moment.basis("", (), _tags_of(keys), opened=self._opened)

    def look(self, key: str) -> Look | None:
        """Return a key's own look; `None` if somebody else has asked L2 for it since."""
        look = self.looks.get(key)
        if look is None and self.owns(key):
            wanted = Wanted(self.family, self._declared[key], self._opened)
            question = Question(self.home, wanted, self.moment, self._began, many=True)
            look = self.looks[key] = question.looks[key] = Look(question, wanted, key, None, [])
            question.tags[key] = self.tags[key]
            look.stand()
        return look

    def left(self) -> list[Look]:
        """Return looks at all keys that have no answer yet."""
        if len(self.values) == len(self.tags):
            return []
        looks = (self.look(key) for key in self.tags if key not in self.values)
        return [look for look in looks if look is not None and look.found is None]

    def leave(self) -> None:
        """Be the look of no key any more, and let nobody wait."""
        self.home.surveys.remove(self)
        for look in self.looks.values():
            look.leave()
            if look.found is None and look.value is MISSING:
                look.settle(UNKNOWN)


class Home:
    """Where looks are.

    Attributes:
        by_key: The look of each key, until it was answered or a flight has taken it over.
        surveys: Those of many keys at once.
        settled: Looks that were left to flights.
        leaving: Those of them that end with the next question. While there are any of both,
            readers may be about to go on with what a look has found.
    """

    __slots__ = ("by_key", "leaving", "settled", "surveys")

    def __init__(self) -> None:
        self.by_key: dict[str, Look] = {}
        self.surveys: list[Survey] = []
        self.settled: list[Look] = []
        self.leaving: list[Look] = []

    def forget(self) -> None:
        """Let none of them be the look of its key any more."""
        for look in self.by_key.values():
            look.question.taken = True
            look.hide()
        self.by_key.clear()

    def surveyed(self, key: str) -> Look | None:
        """Return a look of its own at a key that a survey looks at, if one does."""
        return next((each.look(key) for each in self.surveys if each.owns(key)), None)

    def take(self, key: str) -> None:
        """Let nothing be the look of a key any more."""
        look = self.by_key.pop(key, None)
        if look is not None:
            look.question.taken = True
            look.hide()
        for survey in self.surveys:
            if key in survey.tags:
                survey.taken.add(key)

    def leave_settled(self) -> None:
        """End the looks that were settled before the last question, not only before this one.

        By then their readers have gone on, or were cancelled. A reply may come between a question's
        tick and the question, and the reader that it wakes goes on after that.
        """
        leaving, self.leaving, self.settled = self.leaving, self.settled, []
        for look in leaving:
            look.leave()


def _asked(tags: Iterable[str], *, opened: bool) -> tuple[str, ...]:
    """Return the tags whose states are asked for with keys that stand under some."""
    always = (NAMESPACE, TAG_EPOCH) if opened else (NAMESPACE,)
    return tuple(dict.fromkeys((*always, *tags)))


def _tags_of(keys: Mapping[str, tuple[str, ...]]) -> dict[str, None]:
    """Return the tags of all keys, each once; most keys have the same."""
    return dict.fromkeys(chain.from_iterable(dict.fromkeys(keys.values())))
