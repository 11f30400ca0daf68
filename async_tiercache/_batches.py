"""Batches: a coroutine that loads many ids of a family at once, and its public form.

Each id is read, fenced and stored under the family's own key, so calls for one and for many share
entries and loads.
"""

import asyncio
import inspect
import sys
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from functools import cached_property, partial, update_wrapper
from types import NoneType, UnionType
from typing import Any, Final, cast, get_args, get_origin

from async_tiercache._context import LoadContext, context_parameter
from async_tiercache._family import Family, Load
from async_tiercache._gatherer import Gatherer, Part, found_of
from async_tiercache._operations import Operations, key_of_load
from async_tiercache._parts import EXACT, Arguments
from async_tiercache._report import Report
from async_tiercache._signature import signature_of
from async_tiercache.codecs.returned import hints_of
from async_tiercache.errors import ConfigurationError, UsageError

GATHER_SECONDS: Final = 0.01
"""How long a refresh that nobody waits for lets others join it."""
_IDLE_GATHERERS: Final = 16
_CONTAINERS: Final[dict[Any, Callable[[list[Any]], Any]]] = {
    tuple: tuple,
    set: set,
    frozenset: frozenset,
    AbstractSet: frozenset,
}


class Batch:
    """What can be done with the batch loader of a family.

    Args:
        operations: The operations on a single id.
        function: The batch loader.
        over: The parameter of the single form whose values the batch takes many of; by default the
            one that the batch loader does not have.

    Raises:
        ConfigurationError: The two parameter lists do not fit.
    """

    def __init__(
        self,
        operations: Operations,
        function: Callable[..., Coroutine[Any, Any, Any]],
        over: str | None,
    ) -> None:
        self.function = function
        self._operations = operations
        self._core = operations.core
        self._whole = signature_of(function)
        hints = hints_of(function, operations.local_names)
        self._context = context_parameter(function, hints)
        passed = [each for each in self._whole.parameters.values() if each.name != self._context]
        self._signature = self._whole.replace(parameters=passed)
        names = list(self._signature.parameters)
        if operations.maker.is_method != (names[:1] == ["self"]):
            raise ConfigurationError(
                f"{function.__qualname__} and {operations.maker.name} must both be methods, or "
                "both functions",
                hint="Define the batch loader beside the single one, in the same class.",
            )
        self.is_method = operations.maker.is_method
        mine = names[1:] if self.is_method else names
        self._ids, self._over = _matched(function, mine, operations, over)
        self._place = operations.names.index(self._over)
        self._others = [place for place in operations.keyed if place != self._place]
        single = signature_of(operations.function).parameters
        self._defaults = [single[name].default for name in operations.names]
        self._container = _CONTAINERS.get(get_origin(hints.get(self._ids)), list)
        _check_hint(function, self._ids, hints, operations.hints.get(self._over))
        self._behind: dict[Any, Gatherer] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        operations.behind = self._part_behind

    @cached_property
    def _none_is_absent(self) -> bool:
        """Whether a None that calls for one have kept is nothing to calls for many.

        They may promise a value or nothing; what they return may be defined after them.
        """
        hints = hints_of(self.function, self._operations.local_names)
        return not _admits_none(hints.get("return"))

    async def read(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return a dict of the values by id, in the order of the ids."""
        core, operations = self._core, self._operations
        owner, bound = self._bind(args, kwargs)
        ids = _distinct(self._ids, bound.arguments[self._ids])
        if core.goes_around(uncommitted=operations.uncommitted):
            if not ids:
                return {}
            return found_of(await self._call(owner, bound, ids, LoadContext()), ids)
        core.admit()
        values = self._values(bound)
        keys = operations.keys_of(owner, self._place, ids, values)
        under = operations.tags_of_keys(owner, keys, ids, values)
        if len(under) < len(ids):
            raise UsageError(
                f"Two of the ids in {self._ids} of {operations.maker.name} have the same key",
                hint="Leave parameters out of the key only if they do not change the value.",
            )
        family = operations.family_of(owner)
        rest = self._rest(values(None)) if self._others else ()
        gatherer = self._gatherer(family, owner, bound, rest, serial=family.bound)
        by_key: dict[str, Any] = {}

        def load_of(key: str) -> Load:
            if not by_key:
                by_key.update(zip(keys, ids, strict=True))
            each = by_key[key]
            behind = None if family.bound else partial(self._part_behind, owner, values(each))
            return Load(part=gatherer.expect(each), behind=behind)

        opened = self._context is not None
        found = await core.batch_reader.read(family, under, load_of, opened=opened)
        if self._none_is_absent and NoneType in set(map(type, found.values())):
            found = {key: value for key, value in found.items() if value is not None}
        if len(found) == len(ids):
            return dict(zip(ids, found.values(), strict=True))
        return {each: found[key] for key, each in zip(keys, ids, strict=True) if key in found}

    async def invalidate(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Report:
        """Remove the values of all the ids from every tier."""
        self._core.admit()
        owner, bound = self._bind(args, kwargs)
        values, text = self._values(bound), self._operations.text
        ids = _distinct(self._ids, bound.arguments[self._ids])
        return await self._core.commits.invalidate(text(owner, values(each)) for each in ids)

    def _bind(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[Any, inspect.BoundArguments]:
        """Return `self`, or `None`, and the arguments of a call."""
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return bound.arguments["self"] if self.is_method else None, bound

    def _values(self, bound: inspect.BoundArguments) -> Callable[[Any], Arguments]:
        """Return what makes the values of the single form's parameters from one id."""
        given, place = bound.arguments, self._place
        template = [
            given.get(name, default)
            for name, default in zip(self._operations.names, self._defaults, strict=True)
        ]
        before, after = template[:place], template[place + 1 :]
        return lambda each: (*before, each, *after)

    def _rest(self, values: Arguments) -> tuple[str, ...]:
        """Return the texts of all arguments but the id, if one of them may be changed."""
        if EXACT.issuperset(type(values[place]) for place in self._others):
            return ()
        return self._operations.maker.texts_beside(self._place, values)

    def _gatherer(
        self,
        family: Family,
        owner: Any,
        bound: inspect.BoundArguments,
        rest: tuple[str, ...],
        *,
        window: float = 0.0,
        serial: bool = False,
    ) -> Gatherer:
        core = self._core
        return Gatherer(
            partial(self._load, owner, bound, rest),
            run=partial(core.runner.run, family),
            turn=core.bulkhead.turn,
            tasks=core.loads,
            clock=core.clock,
            window=window,
            serial=serial,
        )

    def _part_behind(self, owner: Any, values: Arguments) -> Part | None:
        """Return the part of a refresh that nobody waits for in the next batch load.

        Those of one tenant with the same other arguments go together; `None` if the object itself
        has a say.
        """
        operations, place = self._operations, self._place
        if operations.maker.uses_self:
            return None
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            # What they gathered on an earlier loop is never called.
            self._behind, self._loop = {}, loop
        family = operations.family_of(owner)
        tenant = self._core.tenancy.prefix()
        rest = self._rest(values)
        if rest:
            operations.check_unchanged(key_of_load(), owner, values)
        apart = _told_apart(values, place)
        group: Any = (tenant, family.codec.fingerprint, type(owner), rest, *apart)
        gatherer = self._behind.get(group)
        if gatherer is None:
            if len(self._behind) >= _IDLE_GATHERERS:
                self._behind = {key: each for key, each in self._behind.items() if not each.idle}
            arguments = dict(zip(operations.names, values, strict=True))
            given = {
                name: arguments[name] for name in self._signature.parameters if name in arguments
            }
            bound = inspect.BoundArguments(self._signature, OrderedDict(given))
            gatherer = self._gatherer(family, owner, bound, rest, window=GATHER_SECONDS)
            self._behind[group] = gatherer
        return gatherer.part(values[place])

    async def _load(
        self,
        owner: Any,
        bound: inspect.BoundArguments,
        rest: tuple[str, ...],
        ids: list[Any],
        context: LoadContext,
    ) -> Any:
        values = self._values(bound)(ids[0])
        if self._rest(values) != rest:
            raise self._operations.changed()
        async with self._operations.opened(owner, values) as opened:
            return await self._call(opened, bound, ids, context)

    async def _call(
        self, owner: Any, bound: inspect.BoundArguments, ids: list[Any], context: LoadContext
    ) -> Any:
        arguments = dict(bound.arguments)
        arguments[self._ids] = self._container(ids)
        if self.is_method:
            arguments["self"] = owner
        if self._context is not None:
            arguments[self._context] = context
        call = inspect.BoundArguments(self._whole, arguments)
        return await self.function(*call.args, **call.kwargs)


class BatchForm:
    """What takes the place of a batch loader: a function, or a method of one object.

    Args:
        batch: What it does.
        owner: The object, for a method that was looked up on one.
    """

    def __init__(self, batch: Batch, *owner: Any) -> None:
        self._batch = batch
        self._owner = owner
        update_wrapper(self, batch.function)
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    def __repr__(self) -> str:
        return f"<cached batch {self._batch.function.__qualname__}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        # As of a function, or of a bound method: found by name.
        function = self._batch.function
        if not self._owner:
            return function.__qualname__
        return getattr, (*self._owner, function.__name__)

    async def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        return await self._batch.read((*self._owner, *args), kwargs)

    async def invalidate(self, /, *args: Any, **kwargs: Any) -> Report:
        """Remove the values of all the ids from every tier."""
        return await self._batch.invalidate((*self._owner, *args), kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> "BatchForm":
        """Return the form for one object."""
        if instance is None or not self._batch.is_method:
            return self
        return BatchForm(self._batch, instance)


def _matched(
    function: Callable[..., Any], mine: Sequence[str], operations: Operations, over: str | None
) -> tuple[str, str]:
    """Return which parameter of the batch loader takes many of which of the single one."""
    single, name = operations.names, function.__qualname__
    extra = [each for each in mine if each not in single]
    lacking = [each for each in operations.maker.parameters if each not in mine]
    if over is not None:
        if over not in single:
            raise ConfigurationError(
                f"over={over!r} is no parameter of {operations.maker.name}",
                hint=f"Its parameters are {', '.join(single)}.",
            )
        lacking = [each for each in lacking if each != over]
        extra = extra or [over]
        lacking.insert(0, over)
    if len(extra) != 1 or len(lacking) != 1:
        raise ConfigurationError(
            f"{name} must differ from {operations.maker.name} in one parameter, which takes a list "
            f"of ids; it has {', '.join(extra) or 'none'} in place of "
            f"{', '.join(lacking) or 'none'}",
            hint='Write `user_ids: list[int]` for `user_id: int`, or say batch(over="user_id").',
        )
    return extra[0], lacking[0]


def _check_hint(
    function: Callable[..., Any], ids: str, hints: Mapping[str, Any], single: Any
) -> None:
    """Refuse annotations that say that a batch loader takes or returns something else.

    Raises:
        ConfigurationError: It takes no collection of what the single form takes one of, or it
            returns no mapping.
    """
    hint, returned = hints.get(ids), hints.get("return")
    name = getattr(single, "__name__", str(single))
    if hint is not None and single not in (None, Any, object):
        given = get_args(hint)
        fits = hint != single if not given else given[0] == single and _is_collection(hint)
        if not fits:
            raise ConfigurationError(
                f"{function.__qualname__} takes {ids}: {getattr(hint, '__name__', hint)}, no list "
                f"of {name}",
                hint=f"Annotate it as `{ids}: list[{name}]`.",
            )
    kind = get_origin(returned) or returned
    if isinstance(kind, type) and not issubclass(kind, Mapping) and kind not in (Any, object):
        raise ConfigurationError(
            f"{function.__qualname__} returns {returned}, no dict by id",
            hint="Annotate and return dict[ID, VALUE], without the ids that do not exist.",
        )


def _admits_none(returned: Any) -> bool:
    """Return whether the values of an annotated mapping may be `None`, or nothing is said."""
    given = get_args(returned)
    value = given[1] if len(given) > 1 else Any
    told = isinstance(value, type | UnionType) or get_origin(value) is not None
    return not told or value in (Any, object, NoneType) or NoneType in get_args(value)


def _is_collection(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Iterable) and origin is not dict


def _told_apart(values: Arguments, place: int) -> Iterable[object]:
    """Yield what names all arguments but one: ``1 == True``, and yet they are two."""
    for index, value in enumerate(values):
        if index != place:
            # Whoever is named by its address is kept alive by the gatherer.
            yield (type(value), value) if type(value) in EXACT else id(value)


def _distinct(name: str, ids: Any) -> list[Any]:
    """Return the ids, each once.

    Raises:
        UsageError: They are no collection of hashable ids.
    """
    if isinstance(ids, str | bytes | Mapping) or not isinstance(ids, Iterable):
        raise UsageError(f"{name}={ids!r} is no collection of ids", hint="Pass a list of them.")
    try:
        return list(dict.fromkeys(cast("Any", ids)))
    except TypeError as error:
        raise UsageError(
            f"{name} holds ids that have no hash", hint="Ids are the keys of the result."
        ) from error
