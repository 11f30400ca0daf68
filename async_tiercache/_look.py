"""The look: what readers ask of L2 about one key; and the survey, which asks for a whole batch."""

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context
from itertools import chain
from math import inf
from typing import Any, NamedTuple, TypeAlias

from async_tiercache._ask import UNKNOWN, Ask, Found
from async_tiercache._basis import Basis, Moment
from async_tiercache._family import Alias, Family
from async_tiercache._flight import Flight
from async_tiercache._options import MISSING
from async_tiercache.abc import NAMESPACE, TAG_EPOCH

Waiter: TypeAlias = asyncio.Future[Any]
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
        flight: The flight whose outcome they get, once there is one.
        epoch: The ledger's, when it was last known that readers may join that.
        soft_deadline: A compiled call path that finds it takes it for a slot that is due.
    """

    soft_deadline = -inf

    # `_abandon` tells the flight that nobody waits any more; `_gone` counts those who do not.
    __slots__ = (
        "_abandon",
        "_gone",
        "_home",
        "alias",
        "began",
        "came",
        "epoch",
        "family",
        "flight",
        "many",
        "value",
        "waiters",
    )

    def __init__(
        self,
        home: "Home",
        family: Family,
        basis: Basis,
        began: float,
        *,
        many: bool = False,
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
        self._gone = 0
        self.flight: Flight | None = None
        self.epoch: object = None
        home.by_key[basis.key] = self

    @property
    def waiting(self) -> int:
        """How many readers wait still."""
        return len(self.waiters) - self._gone

    @property
    def current(self) -> bool:
        """Whether nobody else has asked L2 for the key since."""
        return self._home.by_key.get(self.basis.key) is self

    def be_found(self, alias: Alias | None) -> None:
        """Stand where a compiled call path looks for the slot of the key."""
        self.alias = alias
        waits = self.flight is not None or (self.found is None and self.value is MISSING)
        if alias is not None and waits:
            aliases, arguments = alias
            aliases.slots[arguments] = self

    def hide(self) -> None:
        """Be found by no compiled call path any more."""
        if self.alias is not None:
            aliases, arguments = self.alias
            if aliases.slots.get(arguments) is self:
                del aliases.slots[arguments]

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
        self.came.clear()

    def take(self) -> list[Waiter]:
        """Return the readers that wait still, and forget all: they refer to this, too."""
        waiting = [waiter for waiter in self.waiters if not waiter.done()]
        self.waiters, self._gone = [], 0
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
                self.came.pop(waiter, None)
                waiter.set_result(self)
                return


class Survey:
    """One look for all keys of a batch: most need none of their own.

    A key gets its own look when a reader joins, or when it is left to a flight.

    Attributes:
        home: Where it stands for each of its keys.
        family: The family of the keys.
        moment: When it began, as the ledger knows it.
        tags: The texts of the keys, each with the tags that are asked for with it.
        values: The values that are there and fresh, by key.
        looks: The keys' own looks.
    """

    __slots__ = (
        "_began", "_declared", "_opened", "family", "home", "looks", "moment", "tags", "values",
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
        self._began = began
        self._declared = keys
        self._opened = opened
        home.by_key.update(dict.fromkeys(keys, self))

    @property
    def asked(self) -> tuple[str, ...]:
        """The tags whose states are asked for."""
        always = (NAMESPACE, TAG_EPOCH) if self._opened else (NAMESPACE,)
        return tuple(dict.fromkeys((*always, *chain.from_iterable(self.tags.values()))))

    def basis(self, key: str) -> Basis:
        """Return what the value of a key rests on."""
        return self.moment.basis(key, self._declared[key], self.tags[key], opened=self._opened)

    def look(self, key: str) -> Look | None:
        """Return a key's own look; `None` if somebody else has asked L2 for it since."""
        look = self.looks.get(key)
        if look is None and self.home.by_key.get(key) is self:
            look = Look(self.home, self.family, self.basis(key), self._began, many=True)
            self.looks[key] = look
        return look

    def left(self) -> list[Look]:
        """Return looks at all keys that have no answer yet."""
        if len(self.values) == len(self.tags):
            return []
        looks = (self.look(key) for key in self.tags if key not in self.values)
        return [look for look in looks if look is not None and look.found is None]

    def leave(self) -> None:
        """Be the look of no key any more, and let nobody wait."""
        by_key = self.home.by_key
        if len(self.values) < len(self.tags):
            for key in self.tags:
                if key in by_key and by_key[key] is self.looks.get(key, self):
                    del by_key[key]
        for look in self.looks.values():
            if look.found is None and look.value is MISSING:
                look.settle(UNKNOWN)


class Home:
    """Where looks are.

    Attributes:
        by_key: The look of each key, until it was answered or a flight has taken it over.
        settled: Looks that were left to flights.
    """

    __slots__ = ("_leaving", "by_key", "settled")

    def __init__(self) -> None:
        self.by_key: dict[str, Look | Survey] = {}
        self.settled: list[Look] = []
        self._leaving: list[Look] = []

    def forget(self) -> None:
        """Let compiled call paths find none of them any more."""
        for look in self.by_key.values():
            if isinstance(look, Look):
                look.hide()

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
