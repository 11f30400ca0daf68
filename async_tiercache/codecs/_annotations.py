"""Read annotations: the types of the fields of a class, with its type variables filled in."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from async_tiercache.errors import ConfigurationError


def hints(cls: type, arguments: Sequence[Any] = ()) -> dict[str, Any]:
    """Return the resolved annotations of a class and its bases, in the order of definition.

    Args:
        cls: The class.
        arguments: What it is parametrised with, if it is generic.

    Raises:
        ConfigurationError: An annotation names what cannot be found.
    """
    scopes = _scopes(cls, arguments)
    result: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        own = inspect.get_annotations(base)
        if own and base is not object:
            resolved = _resolve(base)
            scope = scopes.get(base, {})
            result |= {name: substitute(resolved[name], scope) for name in own}
    return result


def substitute(annotation: Any, scope: Mapping[Any, Any]) -> Any:
    """Return an annotation with the type variables of `scope` replaced by what they stand for."""
    if isinstance(annotation, TypeVar):
        return scope.get(annotation, annotation)
    parameters = getattr(annotation, "__parameters__", ())
    if not parameters or isinstance(annotation, type):
        return annotation
    return annotation[tuple(scope.get(parameter, parameter) for parameter in parameters)]


def parameters(generic: Any) -> tuple[Any, ...]:
    """Return the type variables of a generic class or type alias."""
    return tuple(getattr(generic, "__parameters__", ()) or getattr(generic, "__type_params__", ()))


def _scopes(cls: type, arguments: Sequence[Any]) -> dict[Any, dict[Any, Any]]:
    # The same type variable may stand for different types in a class and in its base.
    scopes: dict[Any, dict[Any, Any]] = {
        cls: dict(zip(parameters(cls), arguments, strict=False)),
    }
    for base in cls.__mro__:
        scope = scopes.get(base, {})
        for parent in base.__dict__.get("__orig_bases__", ()):
            origin = get_origin(parent)
            if isinstance(origin, type):
                given = [substitute(argument, scope) for argument in get_args(parent)]
                scopes.setdefault(origin, dict(zip(parameters(origin), given, strict=False)))
    return scopes


def _resolve(cls: type) -> dict[str, Any]:
    try:
        try:
            return get_type_hints(cls, include_extras=True)
        except NameError:
            # A class defined inside a function, and type parameters, are found only here.
            own = {parameter.__name__: parameter for parameter in parameters(cls)}
            return get_type_hints(cls, localns={cls.__name__: cls, **own}, include_extras=True)
    except Exception as error:
        raise ConfigurationError(
            f"the annotations of {cls.__qualname__} cannot be resolved: {error}",
            hint="Import the names at run time, not only under TYPE_CHECKING.",
        ) from error
