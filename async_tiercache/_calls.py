"""Calls by key: `get`, `get_or_load`, `set` and their kin, for keys that callers write."""

import contextlib
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Mapping,
    Sequence,
)
from functools import partial
from typing import Any, TypeVar, Unpack, cast, overload

from async_tiercache._checks import check_loader, listed
from async_tiercache._context import LoadContext, taking_context
from async_tiercache._core import Core
from async_tiercache._families import Families
from async_tiercache._family import Load
from async_tiercache._gatherer import Gatherer, found_of
from async_tiercache._inside import CURRENT, RUNNING
from async_tiercache._look import Look, Wanted
from async_tiercache._options import MISSING, Policy, PolicyFields
from async_tiercache._report import Report
from async_tiercache._runner import awaited
from async_tiercache._tenancy import OwnKeys
from async_tiercache._writer import Writing
from async_tiercache.backends.slot import Slot
from async_tiercache.codecs.returned import returned_by, values_of
from async_tiercache.errors import UsageError
from async_tiercache.keys import check_text
from async_tiercache.tags import checked_tags

R = TypeVar("R")
D = TypeVar("D")


class Calls:
    """What `TierCache` does for keys that callers write themselves.

    Args:
        core: The parts of the cache.
        families: The families of the cache.
    """

    def __init__(self, core: Core, families: Families) -> None:
        self._core = core
        self._families = families
        self._hits_left = families.direct.counts.l1_hits_left
        self._monotonic = core.clock.monotonic
        # The store's own dict, which lives as long as the store; empty while L1 is off.
        slots: dict[str, Slot] = {} if core.store is None else core.store.slots
        self._slots = OwnKeys(core.tenancy, slots) if core.tenancy.on else slots

    @overload
    async def get(self, key: str, *, stale: bool = False) -> Any: ...
    @overload
    async def get(self, key: str, default: D, *, stale: bool = False) -> Any | D: ...
    # `stale` is for keywords alone, as the overloads say; to tell the interpreter so, too, would
    # make each call look for it in a dict of defaults.
    async def get(self, key: str, default: Any = MISSING, stale: bool = False) -> Any:
        """Return what the tiers hold for a key, or wait for a load of it that is in progress.

        Nothing is loaded. A `None` that was stored is a value. What L2 holds is understood if it is
        plain data or belongs to a function that this cache decorates; anything else is not found,
        and what may be of either of two classes that have one name and the same fields.

        Args:
            key: The key's text, as in a template: ``"user:42:profile"``.
            default: What to return if there is nothing.
            stale: Whether a value within its grace will do.
        """
        try:
            slot = self._slots[key]
        except (KeyError, TypeError):
            return await self._look(key, default, stale=stale)
        if (
            (now := self._monotonic()) < slot.soft_deadline
            and now < slot.epoch.deadline
            and (not RUNNING or CURRENT.get() is None)
        ):
            slot.visited = next(self._hits_left)
            return slot.value
        return await self._look(key, default, stale=stale)

    async def _look(self, key: str, default: Any, *, stale: bool) -> Any:
        """Return what the tiers hold for a key, not found at once."""
        if not self._core.enabled:
            return default
        found = await self.get_many([key], stale=stale)
        return found.get(key, default)

    async def get_many(self, keys: Sequence[str], *, stale: bool = False) -> dict[str, Any]:
        """Return what the tiers hold for several keys, L2 asked in one turn.

        Args:
            keys: The texts of the keys.
            stale: Whether values within their grace will do.

        Returns:
            The values by key, in the order of `keys`, without those that are not found; see `get`.

        Raises:
            UnkeyableError: A text cannot be a key.
            UsageError: `keys` is no list.
        """
        core = self._core
        prefix = core.tenancy.prefix()
        texts = {key: prefix + check_text(key) for key in listed(keys)}
        if not core.enabled:
            return {}
        core.admit()
        understood = self._families.understood
        asked = list(dict.fromkeys(texts.values()))
        found = await core.getter.get(asked, understood, self._families.direct, stale=stale)
        return {key: found[text] for key, text in texts.items() if text in found}

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[R]] | Callable[[LoadContext], Awaitable[R]],
        *,
        tags: Sequence[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> R:
        """Return the value of a key, loading and storing it if no tier has it.

        Args:
            key: The key's text.
            loader: A coroutine function without arguments, or with a `LoadContext`; its return
                annotation, if there is one, says how the value is stored.
            tags: The tags that the value stands under.
            policy: Options for this call.
            policy_fields: See `Policy`.

        Raises:
            Exception: Whatever the loader raised.
            EncodeError: Its value is not of the annotated type, or cannot be stored.
            LoadTimeoutError: It took longer than `load_limit`, the wait for its turn included.
            RecursiveLoadError: It waits for itself.
            UsageError: It is no coroutine function.

        Example:
            >>> import asyncio
            >>> from async_tiercache import TierCache
            >>> cache = TierCache(namespace="shop")
            >>> async def load() -> dict[str, int]:
            ...     return {"orders": 12}
            >>> asyncio.run(cache.get_or_load("report:today", load, ttl="30s"))
            {'orders': 12}
        """
        core = self._core
        check_loader(loader, key)
        alone, opened = taking_context(loader)
        if core.goes_around(uncommitted=core.commits.scope is not None):
            return cast("R", await awaited(partial(alone, LoadContext()), key))
        core.admit()
        family = self._families.direct_of(returned_by(loader), policy, policy_fields)
        text, under = self._text(key), core.tenancy.tags(checked_tags(tags))
        wanted = Wanted(family, under, opened)
        begun = core.looks.begin(wanted, text) if core.looks.on else None
        looked: Look | None = None
        if begun is not None:
            looked, waiter = begun
            answer = await looked.answer_of(waiter)
            if answer is not looked:
                return cast("R", answer)
        load = Load(alone, tags=under, open=opened)
        try:
            return cast("R", await core.reader.read(family, text, load, looked=looked))
        finally:
            if looked is not None:
                looked.end()

    async def get_or_load_many(
        self,
        keys: Sequence[str],
        loader: Callable[[list[str]], Awaitable[Mapping[str, R]]],
        *,
        tags: Sequence[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> dict[str, R]:
        """Return the values of several keys, loading together those that no tier has.

        Args:
            keys: The texts of the keys.
            loader: A coroutine function from a list of keys to a dict of values; the values of its
                return annotation, if there is one, say how they are stored. A key that it leaves
                out is absent from the result, and kept so for `negative_ttl`, if that is given. An
                exception as a value is the error of its key.
            tags: The tags that the value stands under.
            policy: Options for this call.
            policy_fields: See `Policy`.

        Returns:
            The values by key, in the order of `keys`.

        Raises:
            Exception: Whatever the loader raised, or the error of the first key that has one; the
                values of the others are kept.
        """
        core = self._core
        texts = {key: check_text(key) for key in listed(keys)}
        asked = {text: key for key, text in texts.items()}
        wanted = list(asked.values())
        check_loader(loader, ", ".join(wanted[:3]))

        async def load_many(missing: list[str], _context: LoadContext) -> Mapping[str, R]:
            # Its own list, which it may take the keys from as it loads them.
            mine = partial(loader, list(missing))
            return cast("Mapping[str, R]", await awaited(mine, missing[0]))

        if core.goes_around(uncommitted=core.commits.scope is not None):
            if not wanted:
                return {}
            loaded = found_of(await load_many(wanted, LoadContext()), wanted)
            return {
                key: loaded[asked[text]] for key, text in texts.items() if asked[text] in loaded
            }
        core.admit()
        family = self._families.direct_of(values_of(returned_by(loader)), policy, policy_fields)
        run, turn = partial(core.runner.run, family), core.bulkhead.turn
        gatherer = Gatherer(load_many, run=run, turn=turn, tasks=core.loads, clock=core.clock)
        prefix, under = core.tenancy.prefix(), core.tenancy.tags(checked_tags(tags))
        found = await core.batch_reader.read(
            family,
            {prefix + text: under for text in asked},
            lambda text: Load(part=gatherer.expect(asked[text[len(prefix) :]])),
        )
        return {key: found[prefix + text] for key, text in texts.items() if prefix + text in found}

    async def set(
        self,
        key: str,
        value: Any,
        *,
        tags: Sequence[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> Report:
        """Put a value under a key; the last writer wins.

        A load of the key that is in progress stores nothing. To be sure that nothing older can
        follow a change of the source, use `writing` or `invalidate`.

        Args:
            key: The key's text.
            value: What to store.
            tags: The tags that the value stands under.
            policy: Options for this call.
            policy_fields: See `Policy`.

        Raises:
            EncodeError: The value cannot be stored.
        """
        core = self._core
        core.admit()
        family = self._families.direct_of(Any, policy, policy_fields)
        under = core.tenancy.tags(checked_tags(tags))
        return await core.commits.put(family, self._text(key), value, under)

    @contextlib.asynccontextmanager
    async def writing(
        self,
        key: str,
        *,
        tags: Sequence[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> AsyncGenerator[Writing]:
        """Fence a key while the block changes the source, then put what the block has set.

        Nobody stores a value that was read before the block ended. Without `set`, or when the block
        raises, the key is only invalidated.

        Args:
            key: The key's text.
            tags: The tags that the value stands under.
            policy: Options for this call.
            policy_fields: See `Policy`.

        Raises:
            UsageError: The block stands inside `after_commit`.
        """
        self._core.admit()
        if self._core.commits.scope is not None:
            raise UsageError(
                "writing() inside after_commit() would store what is not committed yet",
                hint="Open writing() around the whole transaction, or use set() or invalidate().",
            )
        family = self._families.direct_of(Any, policy, policy_fields)
        under = self._core.tenancy.tags(checked_tags(tags))
        async with self._core.writer.writing(family, self._text(key), under) as writing:
            yield writing

    def _text(self, key: str) -> str:
        """Return the text of a key of the calling tenant."""
        return self._core.tenancy.prefix() + check_text(key)
