"""What can be done with one decorated coroutine: read, invalidate, refresh, put, peek, key."""

import inspect
from collections.abc import (
    AsyncGenerator,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, TypeAlias

from async_tiercache._callpath import CallPath, Shortcut
from async_tiercache._context import LoadContext, context_parameter
from async_tiercache._core import Core
from async_tiercache._explain import Explanation
from async_tiercache._families import Families
from async_tiercache._family import Alias, Family, Load
from async_tiercache._gatherer import Part
from async_tiercache._inside import CURRENT
from async_tiercache._look import Look, Waiter, Wanted
from async_tiercache._options import MISSING, Limits
from async_tiercache._parts import EXACT, Arguments, Parts, parts_of
from async_tiercache._report import Report
from async_tiercache._signature import annotations_of, signature_of
from async_tiercache._table import Table
from async_tiercache.codecs.returned import DeferredCodec, hints_of, is_generic, of_class
from async_tiercache.codecs.typed import TypedCodec, codec_for
from async_tiercache.errors import ConfigurationError, LoadCancelledError, UsageError
from async_tiercache.keys import KeyMaker, KeyText, TextMaker
from async_tiercache.tags import TagMaker

Via: TypeAlias = Callable[[], AbstractAsyncContextManager[Any]]
"""Opens an object like `self` for a load that must not use its caller's own."""


class Operations:
    """The operations on one decorated coroutine; `owner` is its `self`, or `None`.

    Args:
        core: The cache's parts.
        families: The families of the cache.
        function: The decorated coroutine function.
        template: The template of its keys, or `None` for default keys.
        exclude: Parameters that do not stand in the key.
        scope: What of `self` comes first in the key.
        via: Opens an object for loads that must not use their caller's own.
        tags: Templates of the tags that values stand under.
        limits: The resolved policy.
        names: Names local to where the decorator was used, for annotations.

    Attributes:
        function: The decorated coroutine function.
        hints: Its annotations, as far as they can be resolved yet.
        maker: Makes the keys.
        names: The parameters that callers pass, without `self`.
        keyed: The places of those that stand in the key.
        behind: Returns the part of a background refresh in a batch load, if there is such.
    """

    def __init__(
        self,
        core: Core,
        families: Families,
        function: Callable[..., Coroutine[Any, Any, Any]],
        *,
        template: str | None,
        exclude: Collection[str],
        scope: Callable[[Any], object] | None,
        via: Via | None,
        tags: Sequence[str],
        limits: Limits,
        names: Mapping[str, Any],
    ) -> None:
        self.core, self._known = core, families
        self.function, self.local_names = function, names
        self.hints, codec = _understood(function, names, limits)
        context = context_parameter(function, self.hints)
        kind = TextMaker if KeyText in self.hints.values() else KeyMaker
        maker = kind(function, template, exclude=exclude, scope=scope, hidden=context)
        if via is not None:
            _check_via(maker)
        self.maker, self.takes_context = maker, context is not None
        families.claim(maker.name, function, template)
        self._tags = TagMaker(function, tags, hidden=context)
        families.scopes[maker.name][maker.definer] = scope
        counts, returned = families.counts_of(maker.name), self.hints.get("return")
        self._generic = returned if maker.is_method and is_generic(returned) else None
        self._bound, self._families = maker.is_method and via is None, dict[type, Family]()
        self.family = Family(maker.name, limits, codec, bound=self._bound, counts=counts)
        families.know(codec, limits)
        signature = signature_of(function)
        parts = parts_of(signature, self.hints, is_method=maker.is_method, context=context)
        self.names = parts.names
        self.keyed = [place for place, name in enumerate(parts.names) if name in maker.parameters]
        self._table = self._table_of(parts)
        # What every call wants, where it has no tenant, and no codec or tags of its own either.
        self._wanted, same = None, self._tags.fixed
        if same is not None and not core.tenancy.on and self._generic is None:
            self._wanted = Wanted(self.family, same, self.takes_context)
        self.path = CallPath(
            function,
            parts,
            self._table,
            look=self.look,
            shortcut=self._shortcut(),
            join=self.join if self._bound else core.followers.join,
            read=self.read,
            peek=self._peek,
            hits_left=counts.l1_hits_left,
            clock=core.clock,
            ledger=core.ledger,
            recheck=core.tiers.recheck,
            proven=core.has_remote,
            keeps=core.store is not None,
        )
        self.collect, self.peek = self.path.collect, self.path.peek
        self._invoke, self._via = self.path.invoke, via
        self.behind: Callable[[Any, Arguments], Part | None] | None = None

    def _table_of(self, parts: Parts) -> Table | None:
        """Return where the compiled path looks for slots, if the arguments tell key and tags."""
        core, maker = self.core, self.maker
        # A key that holds attributes needs more than the bare arguments, and tags of what stands
        # in no key may be others at each call.
        told = self._tags.names.issubset(maker.parameters)
        if not maker.is_plain or maker.uses_self or core.tenancy.varies or not told:
            return None
        texts = None
        if isinstance(maker, TextMaker) and core.store is not None and not core.tenancy.on:
            texts = core.store.slots
        text = partial(maker.again, core.tenancy.prefix())
        return Table(parts, maker.parameters, text=text, texts=texts)

    def _shortcut(self) -> Shortcut | None:
        """Return how the compiled path looks into L2 without `look`, if it may."""
        looks, wanted = self.core.looks, self._wanted
        # Inside of `after_commit` what runs on its caller's object is not looked for.
        if not looks.on or wanted is None or self._bound:
            return None
        return Shortcut(self.core.admit, self.maker.text, looks.begin, wanted)

    def look(
        self, owner: Any, values: Arguments, found: object, alias: Alias | None
    ) -> tuple[Look, Waiter] | None:
        """Look into L2 for a call that the compiled path could not answer.

        Args:
            owner: `self`, or `None`.
            values: The values of the parameters.
            found: What the compiled path has found: another call's look knows the text of the key.
            alias: Where it has looked for that, if it knows.

        Returns:
            The look, and a future of the value, or of the look where `read` is to go on with it;
            `None` if only `read` can tell.
        """
        looks, wanted = self.core.looks, self._wanted
        if not looks.on or (self._bound and self.uncommitted):
            return None
        self.core.admit()
        # Equal arguments have equal texts, or they would not be in the table.
        key = found.key if found is not None and isinstance(found, Look) else None
        if wanted is None:
            family, tags = self.family_of(owner), self.tags_of(owner, values)
            wanted = Wanted(family, tags, self.takes_context)
            key = key or self.text(owner, values)
        elif key is None:
            key = self.maker.text(values, owner)
        if alias is None and self._table is not None:
            alias = self._table.alias(owner, values)
        return looks.begin(wanted, key, alias)

    def join(self, look: Look) -> Waiter | None:
        """Let a call wait with others of the same arguments; `None` if only `look` can tell.

        Such have the same key and the same tags, or they would not be in the table.

        Args:
            look: What the others wait with.
        """
        return None if self.uncommitted else self.core.followers.join(look)

    async def read(self, owner: Any, values: Arguments, looked: Look | None = None) -> Any:
        """Answer a call that neither the compiled path nor a look could."""
        core = self.core
        if core.goes_around(uncommitted=self.uncommitted):
            return await self._invoke(owner, values, LoadContext())
        core.admit()
        alias, load = self._alias(owner, values), self._load_of(owner, values)
        key, family = self.text(owner, values), self.family_of(owner)
        return await core.reader.read(family, key, load, alias=alias, looked=looked)

    def _alias(self, owner: Any, values: Arguments) -> Alias | None:
        """Return where the compiled path looks for the slot of a call, if L1 is on."""
        if self._table is None or self.core.store is None:
            return None
        return self._table.alias(owner, values)

    @property
    def uncommitted(self) -> bool:
        """Whether a load may see what is not committed, so that nobody else must get its value.

        It runs on its caller's object, inside `after_commit`.
        """
        return self.family.bound and self.core.commits.scope is not None

    def _load_of(self, owner: Any, values: Arguments) -> Load:
        behind = None
        if self.behind is not None and not self.family.bound:
            behind = partial(self.behind, owner, values)
        tags = self.tags_of(owner, values)
        return Load(
            partial(self._load, owner, values), behind=behind, tags=tags, open=self.takes_context
        )

    def _load(
        self, owner: Any, values: Arguments, context: LoadContext
    ) -> Coroutine[Any, Any, Any]:
        """Load with the arguments of a call, which may have been answered since."""
        if not EXACT.issuperset(type(values[place]) for place in self.keyed):
            self.check_unchanged(key_of_load(), owner, values)
        alone = self._invoke if self._via is None else self._load_via
        return alone(owner, values, context)

    def check_unchanged(self, key: str, owner: Any, values: Arguments) -> None:
        """Refuse to load what would be kept under the key of other arguments.

        Raises:
            UsageError: An argument has changed since the key was made of it.
        """
        if self.text(owner, values) != key:
            raise self.changed()

    def changed(self) -> UsageError:
        """Return the error of a load whose arguments are no longer those of its key."""
        return UsageError(
            f"An argument of {self.maker.name} was changed before its load began",
            hint="Pass a copy of what is changed after the call: a refresh may come later.",
        )

    def tags_of(self, owner: Any, values: Arguments) -> tuple[str, ...]:
        """Return the tags that the value of a call stands under."""
        return self.core.tenancy.tags(self._tags.texts(self.names, owner, values))

    def keys_of(
        self, owner: Any, place: int, ids: Sequence[Any], call: Callable[[Any], Arguments]
    ) -> list[str]:
        """Return the texts of the keys of calls that differ in one argument.

        Args:
            owner: `self`, or `None`.
            place: Which argument.
            ids: Those of this argument.
            call: Returns the values of the parameters for each of them.
        """
        keys, prefix = self.maker.texts(place, ids, call, owner), self.core.tenancy.prefix()
        return [prefix + key for key in keys] if prefix else keys

    def tags_of_keys(
        self,
        owner: Any,
        keys: Sequence[str],
        ids: Sequence[Any],
        call: Callable[[Any], Arguments],
    ) -> dict[str, tuple[str, ...]]:
        """Return for the key of each of such calls the tags that its value stands under.

        Args:
            owner: `self`, or `None`.
            keys: The texts of the keys.
            ids: What each is of.
            call: Returns the values of the parameters for each of these.
        """
        fixed = self._tags.fixed
        if fixed is not None:
            return dict.fromkeys(keys, self.core.tenancy.tags(fixed))
        pairs = zip(keys, ids, strict=True)
        return {key: self.tags_of(owner, call(each)) for key, each in pairs}

    async def _load_via(self, owner: Any, values: Arguments, context: LoadContext) -> Any:
        async with self.opened(owner, values) as opened:
            return await self._invoke(opened, values, context)

    @asynccontextmanager
    async def opened(self, owner: Any, values: Arguments) -> AsyncGenerator[Any]:
        """Open the object that a load runs on: one from `via=`, else the caller's own.

        Raises:
            UsageError: That object has other keys, so its values are not the caller's.
        """
        if self._via is None:
            yield owner
            return
        opening: Any = self._via()
        if not hasattr(opening, "__aenter__"):
            if inspect.iscoroutine(opening):
                opening.close()
            raise UsageError(
                f"via= of {self.maker.name} returned {type(opening).__name__}, no async context "
                "manager",
                hint="Decorate an async generator with @contextlib.asynccontextmanager.",
            )
        async with opening as opened:
            if opened is None:
                raise UsageError(
                    f"via= of {self.maker.name} opened nothing",
                    hint="Yield an object like self, made for one load.",
                )
            key, wanted = self.maker.text(values, opened), self.maker.text(values, owner)
            if key != wanted:
                raise UsageError(
                    f"via= of {self.maker.name} opened an object with other keys than its "
                    f"caller's: {key!r}, not {wanted!r}",
                    hint="Open one of the same class and the same scope.",
                )
            yield opened

    async def invalidate(self, /, *args: Any, **kwargs: Any) -> Report:
        """Remove the value from every tier."""
        self.core.admit()
        owner, values = self.collect(*args, **kwargs)
        return await self.core.commits.invalidate((self.text(owner, values),))

    async def refresh(self, /, *args: Any, **kwargs: Any) -> Any:
        """Load the value anew."""
        core = self.core
        owner, values = self.collect(*args, **kwargs)
        if core.goes_around(uncommitted=self.uncommitted):
            return await self._invoke(owner, values, LoadContext())
        core.admit()
        load = self._load_of(owner, values)
        key = self.text(owner, values)
        return await core.reader.read(self.family_of(owner), key, load, forced=True)

    def is_loading(self, /, *args: Any, **kwargs: Any) -> bool:
        """Return whether somebody loads the value in this process."""
        flight = self.core.flights.find(self.text(*self.collect(*args, **kwargs)))
        # One with an outcome only puts that into L2 still.
        return flight is not None and flight.outcome is None

    async def try_refresh(self, /, *args: Any, **kwargs: Any) -> Any:
        """Load the value anew, unless somebody loads it already, here or in another process.

        Returns:
            The value, or MISSING: nobody is waited for.
        """
        core = self.core
        owner, values = self.collect(*args, **kwargs)
        if core.goes_around(uncommitted=self.uncommitted):
            return await self._invoke(owner, values, LoadContext())
        core.admit()
        if self.is_loading(*args, **kwargs):
            return MISSING
        load, key = self._load_of(owner, values), self.text(owner, values)
        load.waits = False
        try:
            return await core.reader.read(self.family_of(owner), key, load, forced=True)
        except LoadCancelledError:
            return MISSING

    async def put(self, value: Any, /, *args: Any, **kwargs: Any) -> Report:
        """Put a known value."""
        core = self.core
        core.admit()
        owner, values = self.collect(*args, **kwargs)
        key = self.text(owner, values)
        tags = self.tags_of(owner, values)
        return await core.commits.put(self.family_of(owner), key, value, tags)

    def _peek(self, owner: Any, values: Arguments) -> Any:
        """Return what L1 answers at once, by the key's text."""
        key, alias = self.text(owner, values), self._alias(owner, values)
        tags = self.tags_of(owner, values)
        slot = self.core.reader.peek(self.family_of(owner), key, tags, alias)
        return MISSING if slot is None else slot.value

    def key(self, /, *args: Any, **kwargs: Any) -> str:
        """Return the text of the key, as callers of the same tenant write it."""
        owner, values = self.collect(*args, **kwargs)
        return self.maker.text(values, owner)

    async def explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        """Return what the tiers know of the key."""
        self.core.admit()
        owner, values = self.collect(*args, **kwargs)
        return await self.core.explainer.explain(self.text(owner, values), [self.family_of(owner)])

    def text(self, owner: Any, values: Arguments) -> str:
        """Return the text of the key of the calling tenant."""
        return self.core.tenancy.prefix() + self.maker.text(values, owner)

    def family_of(self, owner: Any) -> Family:
        """Return the family, with the codec of the runtime class on a generic base."""
        if self._generic is None:
            return self.family
        kind: type[Any] = owner.__class__
        family = self._families.get(kind)
        if family is None:
            mine = self.family
            codec = codec_for(
                of_class(self._generic, kind), schema_version=mine.limits.schema_version
            )
            family = Family(mine.name, mine.limits, codec, bound=mine.bound, counts=mine.counts)
            self._families[kind] = family
            self._known.know(codec, mine.limits)
        return family


def _check_via(maker: KeyMaker) -> None:
    """Refuse `via=` of what is no method.

    Raises:
        ConfigurationError: It is a function.
    """
    if not maker.is_method:
        raise ConfigurationError(
            f"{maker.name} is no method, so via= has no object to open",
            hint="Open what the load needs inside the function.",
        )


def key_of_load() -> str:
    """Return the key that is being loaded where this runs."""
    loading = CURRENT.get()
    assert loading is not None
    return loading.flights[0].key


def _understood(
    function: Callable[..., Any], names: Mapping[str, Any], limits: Limits
) -> tuple[dict[str, Any], TypedCodec | DeferredCodec]:
    """Return the annotations of a function, as far as they can be resolved yet, and its codec."""
    hints = hints_of(function, names)
    if "return" in annotations_of(function) and "return" not in hints:
        return hints, DeferredCodec(function, limits.schema_version)
    codec = codec_for(hints.get("return", Any), schema_version=limits.schema_version)
    return hints, codec
