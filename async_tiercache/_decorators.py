"""What `cached` and `invalidates` make of a coroutine function, typed exactly.

A function becomes a compiled function that carries its helpers as attributes, so that calling it
costs nothing extra. A method becomes a descriptor whose bound form carries them. To a type checker
both are `Cached`: calls and helpers take the parameters of the original.
"""

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from operator import attrgetter
from types import MethodType
from typing import Any, Concatenate, Final, ParamSpec, Protocol, TypeVar, cast, overload

from async_tiercache._batches import Batch, BatchForm
from async_tiercache._checks import check_function
from async_tiercache._core import Core
from async_tiercache._explain import Explanation
from async_tiercache._families import Families
from async_tiercache._operations import Operations
from async_tiercache._options import Missing
from async_tiercache._report import Report
from async_tiercache._signature import signature_of
from async_tiercache.errors import ConfigurationError
from async_tiercache.keys import Template, scope_text
from async_tiercache.tags import TagMaker

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
S = TypeVar("S")
M = TypeVar("M", bound=Mapping[Any, Any])
M_co = TypeVar("M_co", bound=Mapping[Any, Any], covariant=True)

KEEP_AFTER: Final = 16
"""How often in a row one object's method is looked up before its bound form is kept."""


class BoundCached(Protocol[P, R]):
    """A cached coroutine, called with the original's parameters; its helpers take the same."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Return the value: from L1, from L2, or from the original."""
        ...

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Report:
        """Remove the value of these arguments from every tier."""
        ...

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Load the value anew, put it in place of the old one, and return it."""
        ...

    async def put(self, value: R, /, *args: P.args, **kwargs: P.kwargs) -> Report:
        """Put a value that is known already; the last writer wins.

        Raises:
            EncodeError: The value is not of the annotated type.
        """
        ...

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> R | Missing:
        """Return what L1 would answer at once, or MISSING; nothing is awaited, nothing loaded."""
        ...

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the text of the key.

        Raises:
            UnkeyableError: An argument has no stable text.
        """
        ...

    async def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Return what the tiers know of the value of these arguments, and how it was last read."""
        ...


class BoundBatch(Protocol[P, M_co]):
    """A cached batch loader, called with the original's parameters."""

    async def __call__(self, *args: P.args, **kwargs: P.kwargs) -> M_co:
        """Return a dict of the values by id, in the order of the ids.

        An id that the loader's result lacks is absent here, too.
        """
        ...

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> Report:
        """Remove the values of all these ids from every tier."""
        ...


class CachedBatch(BoundBatch[P, M_co], Protocol[P, M_co]):
    """A cached batch loader, or one that is a method, seen from its class.

    Example:
        >>> import asyncio
        >>> from async_tiercache import TierCache
        >>> cache = TierCache(namespace="shop")
        >>> @cache.cached("user:{user_id}")
        ... async def user(user_id: int) -> str:
        ...     return f"user {user_id}"
        >>> @user.batch
        ... async def users(user_ids: list[int]) -> dict[int, str]:
        ...     return {user_id: f"user {user_id}" for user_id in user_ids}
        >>> asyncio.run(users([2, 1]))
        {2: 'user 2', 1: 'user 1'}
    """

    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> "CachedBatch[P, M_co]": ...
    @overload
    def __get__(
        self: "CachedBatch[Concatenate[S, Q], M_co]",
        instance: S,
        owner: type[Any] | None = None,
        /,
    ) -> BoundBatch[Q, M_co]: ...


class Cached(BoundCached[P, R], Protocol[P, R]):
    """A cached function, or a cached method seen from its class."""

    @overload
    def batch(self, function: Callable[Q, Coroutine[Any, Any, M]], /) -> CachedBatch[Q, M]: ...
    @overload
    def batch(
        self, *, over: str
    ) -> Callable[[Callable[Q, Coroutine[Any, Any, M]]], CachedBatch[Q, M]]: ...

    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> "Cached[P, R]": ...
    @overload
    def __get__(
        self: "Cached[Concatenate[S, Q], R]", instance: S, owner: type[Any] | None = None, /
    ) -> BoundCached[Q, R]: ...


class _Bound(functools.partial[Any]):
    """A cached method of one object: calling it costs a partial, the helpers are methods."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":
            return MethodType(self.func.__wrapped__, self.args[0])  # type: ignore[attr-defined]
        if name == "__self__":
            return self.args[0]
        return self.func if name == "__func__" else getattr(self.func, name)

    def __repr__(self) -> str:
        return f"<bound method {self.func.__qualname__} of {self.args[0]!r}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # As of a bound method: the object is pickled, the function found by name.
        return getattr, (self.args[0], self.func.__name__)

    @property
    def _operations(self) -> Operations:
        return cast(Operations, self.func.__tiercache__)  # type: ignore[attr-defined]

    async def invalidate(self, /, *args: Any, **kwargs: Any) -> Report:
        return await self._operations.invalidate(*self.args, *args, **kwargs)

    async def refresh(self, /, *args: Any, **kwargs: Any) -> Any:
        return await self._operations.refresh(*self.args, *args, **kwargs)

    async def put(self, value: Any, /, *args: Any, **kwargs: Any) -> Report:
        return await self._operations.put(value, *self.args, *args, **kwargs)

    def peek(self, /, *args: Any, **kwargs: Any) -> Any:
        return self._operations.peek(*self.args, *args, **kwargs)

    def key(self, /, *args: Any, **kwargs: Any) -> str:
        return self._operations.key(*self.args, *args, **kwargs)

    async def explain(self, /, *args: Any, **kwargs: Any) -> Explanation:
        return await self._operations.explain(*self.args, *args, **kwargs)


for _told in ("__doc__", "__module__"):  # a class has its own, which `__getattr__` cannot precede
    setattr(_Bound, _told, property(attrgetter(f"func.{_told}")))


class _Method:
    """A cached method as its class holds it.

    Making a bound form costs more than the hit itself. So the bound form of an object whose method
    is looked up again and again is kept here, with a call compiled for its class, until another
    object's method is looked up. An object that lives for a request hardly gets there, and nothing
    is written into objects, which may be copied.
    """

    # What each look-up reads is in slots: Python 3.12 finds it there fastest.
    __slots__ = ("__dict__", "__weakref__", "_kept", "_kept_of")

    def __init__(self, operations: Operations) -> None:
        self._operations = operations
        self._call = operations.path.call
        self._kept_of: Any = self
        self._kept: Any = None
        self._last: int = 0
        self._repeats = 0
        _attach(self, operations)
        self.batch = _batch_decorator(operations)
        functools.update_wrapper(self, self._call)
        if sys.version_info >= (3, 12):
            inspect.markcoroutinefunction(self)

    def __call__(self, /, *args: Any, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        return self._call(*args, **kwargs)

    def __repr__(self) -> str:
        return repr(self._call)

    def __reduce__(self) -> str:
        return self._call.__qualname__  # As of a function.

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        if instance is self._kept_of:
            return self._kept
        if instance is None:
            return self
        bound = _Bound(self._call, instance)
        if id(instance) != self._last:
            self._last, self._repeats = id(instance), 0
            self._kept_of = self._kept = self
        elif self._repeats < KEEP_AFTER:
            self._repeats += 1
        else:
            kind: type[Any] = instance.__class__
            call: Any = self._operations.path.call_of(kind)
            _attach(call, bound)
            self._kept_of, self._kept = instance, MethodType(call, instance)
        return bound


def _attach(call: Any, helpers: Any) -> None:
    """Make the helpers attributes of a callable."""
    for name in ("invalidate", "refresh", "put", "peek", "key", "explain"):
        setattr(call, name, getattr(helpers, name))


def _batch_decorator(operations: Operations) -> Callable[..., Any]:
    """Return the decorator for the batch loader of a family."""

    def batch(function: Any = None, *, over: str | None = None) -> Any:
        """Decorate a coroutine that loads many of what this one loads one of.

        It takes a list of ids where this one takes one, and returns a dict by id, without the ids
        that do not exist. Values, keys and policy are those of this one.

        Args:
            function: The batch loader.
            over: The parameter of this one that stands for one id, where it cannot be told.

        Raises:
            ConfigurationError: The two do not fit, or there is a batch loader already.
        """
        if function is None:
            return functools.partial(batch, over=over)
        check_function(function, f"@{operations.function.__name__}.batch")
        if operations.behind is not None:
            raise ConfigurationError(
                f"{operations.maker.name} has a batch loader already", hint="Remove one of them."
            )
        return BatchForm(Batch(operations, function, over))

    return batch


def cached_form(operations: Operations) -> Cached[Any, Any]:
    """Return what takes the place of the decorated function."""
    call: Any = operations.path.call
    call.__tiercache__ = operations
    if operations.maker.is_method:
        return cast("Cached[Any, Any]", _Method(operations))
    _attach(call, operations)
    call.batch = _batch_decorator(operations)
    return cast("Cached[Any, Any]", call)


def invalidating_form(
    core: Core,
    families: Families,
    function: Callable[P, Coroutine[Any, Any, R]],
    keys: Sequence[str],
    tags: Sequence[str],
    *,
    crash_safe: bool,
) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return `function` with keys and tags invalidated after each success.

    Args:
        core: The cache's parts.
        families: Know the scopes of families whose templates are among the keys.
        function: The coroutine function that changes the source.
        keys: Templates over its parameters.
        tags: Likewise.
        crash_safe: Whether they are blocked while it runs.

    Raises:
        KeyTemplateError: A template does not fit the function.
    """
    signature = signature_of(function)
    templates = {key: Template(key) for key in keys}
    maker = TagMaker(function, tags)
    names = [name for name in signature.parameters if name != "self"]
    for template in templates.values():
        template.check(tuple(signature.parameters))

    def texts_of(key: str, arguments: Mapping[str, Any]) -> Iterator[str]:
        prefix, owner = core.tenancy.prefix(), arguments.get("self")
        for scope in families.scopes_of(key, owner):
            first = "" if scope is None else f"{scope_text(scope, owner)}:"
            yield prefix + templates[key].text(arguments, first=first)

    @functools.wraps(function)
    async def changing(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        # A bad argument or a closed cache must fail before the source has changed.
        arguments = bound.arguments
        texts = [text for key in templates for text in texts_of(key, arguments)]
        values = [arguments[name] for name in names]
        tagged = core.tenancy.named(maker.texts(names, arguments.get("self"), values))
        core.admit()
        if crash_safe:
            core.commits.refuse_blocks()
            async with core.blocks.invalidating(texts, tagged):
                return await function(*args, **kwargs)
        result = await function(*args, **kwargs)
        await core.commits.invalidate(texts, tagged)
        return result

    return changing
