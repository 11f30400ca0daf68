"""The codec of what a function returns, from its annotation.

A name that is not defined yet when the decorator runs is looked up again at the first use. On a
generic base class the type variables stand for what the runtime class gives them.

Each annotation is resolved by itself: the type of a parameter may be imported for type checkers
only, and says nothing of what is returned.
"""

import contextlib
import functools
import types
import typing
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar, cast
from weakref import WeakKeyDictionary

from async_tiercache._signature import annotations_of
from async_tiercache.codecs.msgpack import Unpack
from async_tiercache.codecs.typed import TypedCodec, codec_for
from async_tiercache.errors import ConfigurationError

_UNDEFINED: Final = (NameError, AttributeError)
"""What evaluating an annotation raises that names what is not there (yet)."""


def hints_of(function: Callable[..., Any], names: Mapping[str, Any]) -> dict[str, Any]:
    """Return the annotations of a function, without those that cannot be resolved (yet).

    Args:
        function: The function.
        names: Local names that its annotations may use beside the module's.
    """
    hints: dict[str, Any] = {}
    # Of `class Repository[T]`, whose body this is, no module knows the T.
    own = {each.__name__: each for each in names.get("__type_params__", ())}
    names = {**own, **names}
    for name, annotation in annotations_of(function).items():
        with contextlib.suppress(*_UNDEFINED):
            hints[name] = _resolved(function, annotation, names)
    return hints


def _resolved(
    function: Callable[..., Any],
    annotation: Any,
    names: Mapping[str, Any] = types.MappingProxyType({}),
    *,
    extras: bool = True,
) -> Any:
    """Return one annotation of a function, resolved; `extras` are what `Annotated` adds."""
    alone = types.SimpleNamespace(
        __annotations__={"it": annotation},
        __wrapped__=function,  # whose globals count
        __type_params__=getattr(function, "__type_params__", ()),
    )
    return typing.get_type_hints(alone, localns=dict(names), include_extras=extras)["it"]


def returned_by(loader: Callable[..., Any]) -> Any:
    """Return the resolved return annotation of a loader, `Any` without one.

    What `Annotated` adds to types is left out: it may have no hash.

    Raises:
        ConfigurationError: The annotation names what is not defined.
    """
    function = _annotated(loader)
    annotation = annotations_of(function).get("return", Any)
    if annotation is Any or isinstance(annotation, type):
        return annotation
    # A bound method is another object each time.
    bearer = getattr(function, "__func__", function)
    try:
        return _RETURNED[bearer]
    except (KeyError, TypeError):
        pass  # not known yet, or without a hash or a place for weak references
    try:
        found = _returned(function, annotation)
    except _UNDEFINED as error:
        raise ConfigurationError(
            f"The return annotation {annotation!r} of the loader cannot be resolved: {error}",
            hint="Define or import the type in the loader's module.",
        ) from error
    with contextlib.suppress(TypeError):
        _RETURNED[bearer] = found
    return found


_RETURNED: Final[WeakKeyDictionary[Any, Any]] = WeakKeyDictionary()
"""What loaders return whose annotation is more than a class: each call of one asks for it."""


def _returned(function: Callable[..., Any], annotation: Any) -> Any:
    if not _is_resolved(annotation):
        annotation = _resolved(function, annotation, extras=False)
    origin = typing.get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Awaitable):
        # Of a function that is not `async def`, or of the `__call__` of what wraps one.
        return typing.get_args(annotation)[-1]
    return annotation


def _annotated(loader: Any) -> Any:
    """Return what bears the annotations of a loader, which may be any kind of callable."""
    while isinstance(loader, functools.partial):
        loader = cast("Any", loader).func
    if isinstance(loader, types.FunctionType | types.MethodType) or hasattr(loader, "__wrapped__"):
        return loader
    return type(loader).__call__


def _is_resolved(annotation: Any) -> bool:
    """Return whether an annotation is what it stands for, all the way down."""
    if isinstance(annotation, type):
        return True
    if isinstance(annotation, str | typing.ForwardRef):
        return False
    origin = typing.get_origin(annotation)
    return origin is not typing.Annotated and all(map(_is_resolved, typing.get_args(annotation)))


def values_of(annotation: Any) -> Any:
    """Return the type of the values of an annotated mapping."""
    given = typing.get_args(annotation)
    return given[1] if len(given) == 2 else Any


def is_generic(annotation: Any) -> bool:
    """Return whether an annotation holds type variables."""
    return isinstance(annotation, TypeVar) or bool(getattr(annotation, "__parameters__", ()))


def of_class(annotation: Any, kind: type) -> Any:
    """Return an annotation with its type variables as the class `kind` gives them.

    Example:
        >>> T = TypeVar("T")
        >>> class Base(typing.Generic[T]): ...
        >>> class Users(Base[str]): ...
        >>> of_class(list[T], Users)
        list[str]
    """
    given: dict[Any, Any] = {}
    for each in kind.__mro__:
        for base in each.__dict__.get("__orig_bases__", ()):
            parameters = getattr(typing.get_origin(base), "__parameters__", ())
            for parameter, argument in zip(parameters, typing.get_args(base), strict=False):
                given.setdefault(parameter, given.get(argument, argument))
    if isinstance(annotation, TypeVar):
        return given.get(annotation, annotation)
    parameters = annotation.__parameters__
    return annotation[tuple(given.get(parameter, parameter) for parameter in parameters)]


class DeferredCodec:
    """The codec of an annotation that can be resolved only after the decorator has run."""

    __slots__ = ("_codec", "_function", "_schema_version")

    def __init__(self, function: Callable[..., Any], schema_version: str) -> None:
        self._function = function
        self._schema_version = schema_version
        self._codec: TypedCodec | None = None

    @property
    def fingerprint(self) -> bytes:
        """8 bytes that change whenever the type's shape does."""
        return self._resolved().fingerprint

    @property
    def classes(self) -> frozenset[type]:
        """The models and enums that it makes."""
        return self._resolved().classes

    def encode(self, value: Any, /) -> bytes:
        """Return the bytes of `value`."""
        return self._resolved().encode(value)

    def decode(self, payload: bytes | memoryview, /) -> Any:
        """Return the value."""
        return self._resolved().decode(payload)

    @property
    def quick(self) -> Unpack:
        """What decodes in fewer calls; where it raises anything, `decode` has the last word."""
        return self._resolved().quick

    def _resolved(self) -> TypedCodec:
        if self._codec is None:
            annotation = annotations_of(self._function)["return"]
            try:
                annotation = _resolved(self._function, annotation)
            except _UNDEFINED as error:
                raise ConfigurationError(
                    f"The return annotation of {self._function.__qualname__} cannot be resolved: "
                    f"{error}",
                    hint="Define or import the type in the function's module.",
                ) from error
            self._codec = codec_for(annotation, schema_version=self._schema_version)
        return self._codec
