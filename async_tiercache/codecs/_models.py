"""The families of models: how each is taken apart into a row of fields and put together again.

A row holds the fields in the order of definition; the fingerprint guards its shape. Models are
restored, not constructed anew: no validator, converter or `__post_init__` runs, so that what was
stored comes back unchanged. Only a `msgspec.Struct` cannot be made without its `__post_init__`;
what that assigns is put back. State that is no field cannot be restored and is refused at encode,
except for what a `cached_property` can compute again.

pydantic, msgspec and attrs are recognised by their marks and never imported.
"""

import contextlib
import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter, itemgetter
from typing import Annotated, Any, Final, NotRequired, Required, cast, get_args, get_origin

from async_tiercache.codecs._annotations import hints, parameters, substitute
from async_tiercache.codecs._nodes import MismatchError
from async_tiercache.errors import ConfigurationError

_HASH_CACHE: Final = "_attrs_cached_hash"
_QUALIFIERS: Final = (
    Annotated, Required, NotRequired, getattr(typing, "ReadOnly", Required),
)  # fmt: skip
_set: Final = object.__setattr__


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """How a class of models is stored.

    Attributes:
        family: What kind of model it is; part of the schema.
        fields: Names and annotations of what the row holds.
        take: Returns the row of a value; it is only called with values of the exact class.
        build: Returns the value of a row, which it may change.
        kind: The exact type of the values.
    """

    family: str
    fields: list[tuple[str, Any]]
    take: Callable[[Any], list[Any]]
    build: Callable[[list[Any]], Any]
    kind: type


def family_of(cls: type) -> Callable[[Any, Sequence[Any]], Shape] | None:
    """Return what makes the shape of a class and its type arguments, or `None` if it is no model.

    The function raises `ConfigurationError` for a model with state that cannot be stored.
    """
    return next(
        (shape for mark, base, shape in _FAMILIES if issubclass(cls, base) and hasattr(cls, mark)),
        None,
    )


def _dataclass(cls: Any, arguments: Sequence[Any]) -> Shape:
    annotations = hints(cls, arguments)
    names = [field.name for field in dataclasses.fields(cls)]
    for name, annotation in annotations.items():
        if isinstance(annotation, dataclasses.InitVar) or annotation is dataclasses.InitVar:
            raise ConfigurationError(
                f"{cls.__qualname__}.{name} is an InitVar, which no instance keeps",
                hint="Make it a field.",
            )
    take, build = _instance(cls, names)
    if _init_only_assigns(cls, names):
        build = _call(cls)
    return Shape("dataclass", _fields(names, annotations), take, build, cls)


def _attrs(cls: Any, arguments: Sequence[Any]) -> Shape:
    annotations = {
        attribute.name: attribute.type or Any for attribute in cls.__attrs_attrs__
    } | hints(cls, arguments)
    names = [attribute.name for attribute in cls.__attrs_attrs__]
    code = getattr(cls.__hash__, "__code__", None)
    cached = code is not None and _HASH_CACHE in code.co_names
    take, build = _instance(cls, names, {_HASH_CACHE: None} if cached else {})
    return Shape("attrs", _fields(names, annotations), take, build, cls)


def _struct(cls: Any, arguments: Sequence[Any]) -> Shape:
    names: list[str] = list(cls.__struct_fields__)
    get = _getter(attrgetter, names)
    keyword_only = any(
        parameter.kind is parameter.KEYWORD_ONLY
        for parameter in inspect.signature(cls).parameters.values()
    )
    restores = hasattr(cls, "__post_init__")

    def take(value: Any) -> list[Any]:
        if getattr(value, "__dict__", None):
            _refuse_extras(cls, value.__dict__, ())
        return [*_taken(get, value)]

    def build(row: list[Any]) -> Any:
        value = cls(**dict(zip(names, row, strict=True))) if keyword_only else cls(*row)
        if restores:
            from msgspec.structs import force_setattr

            for name, item in zip(names, row, strict=True):
                force_setattr(value, name, item)
        return value

    return Shape("struct", _fields(names, hints(cls, arguments)), take, build, cls)


def _named_tuple(cls: Any, arguments: Sequence[Any]) -> Shape:
    def take(value: Any) -> list[Any]:
        if getattr(value, "__dict__", None):
            _refuse_extras(cls, value.__dict__, ())
        return [*value]

    new = cast("Any", tuple).__new__
    build = functools.partial(new, cls)
    return Shape("namedtuple", _fields(cls._fields, hints(cls, arguments)), take, build, cls)


def _typed_dict(cls: Any, arguments: Sequence[Any]) -> Shape:
    scope = dict(zip(parameters(cls), arguments, strict=False))
    annotations = {name: substitute(hint, scope) for name, hint in hints(cls).items()}
    required = [name for name in annotations if _is_required(cls, name, annotations[name])]
    optional = [name for name in annotations if name not in required]
    get = _getter(itemgetter, required)
    known = frozenset(annotations)

    def take(value: dict[str, Any]) -> list[Any]:
        if not known.issuperset(value):
            extra = sorted(map(str, value.keys() - known))
            raise MismatchError(cls.__name__, f"other keys too: {', '.join(extra)}")
        row = [*_taken(get, value)]
        if optional:
            row += [(value[name],) if name in value else () for name in optional]
        return row

    def build(row: list[Any]) -> dict[str, Any]:
        value = dict(zip(required, row, strict=False))
        for name, held in zip(optional, row[len(required) :], strict=True):
            if held:
                (value[name],) = held
        return value

    # What may be absent is stored as a tuple of none or one.
    variadic: Any = tuple
    fields = [(name, annotations[name]) for name in required]
    fields += [(name, variadic[annotations[name], ...]) for name in optional]
    return Shape("typeddict", fields, take, build, dict)


def _is_required(cls: Any, name: str, annotation: Any) -> bool:
    # Under `from __future__ import annotations` the class itself does not know.
    while (origin := get_origin(annotation)) in _QUALIFIERS:
        if origin is Required or origin is NotRequired:
            return origin is Required
        annotation = get_args(annotation)[0]
    return name in cls.__required_keys__


def _pydantic(cls: Any, _arguments: Sequence[Any]) -> Shape:
    if cls.__private_attributes__:
        raise ConfigurationError(
            f"{cls.__qualname__} has private attributes, which are not stored",
            hint="Make them fields, or return a model without them.",
        )
    if not cls.__pydantic_complete__:
        cls.model_rebuild(raise_errors=False)
    fields = [(name, field.annotation) for name, field in cls.model_fields.items()]
    names = [name for name, _ in fields]
    every = frozenset(names)
    get = _getter(itemgetter, names)
    new = functools.partial(cls.__new__, cls)
    takes_extras = cls.model_config.get("extra") == "allow"

    def take(value: Any) -> list[Any]:
        state = value.__dict__
        row = [*_taken(get, state)]
        if len(state) != len(names):
            _refuse_extras(cls, state, every)
        if value.__pydantic_extra__:
            raise _extras(cls, value.__pydantic_extra__)
        given = value.__pydantic_fields_set__
        row.append(None if given == every else [i for i, n in enumerate(names) if n in given])
        return row

    def build(row: list[Any]) -> Any:
        given = row.pop()
        value = new()
        _set(value, "__dict__", dict(zip(names, row, strict=True)))
        _set(value, "__pydantic_extra__", {} if takes_extras else None)
        _set(value, "__pydantic_private__", None)
        _set(
            value,
            "__pydantic_fields_set__",
            set(names) if given is None else {names[i] for i in given},
        )
        return value

    # Which fields were given takes part in the equality of pydantic's models.
    return Shape("pydantic", [*fields, ("model_fields_set", list[int] | None)], take, build, cls)


# Anybody may have an attribute that is called `_fields`.
_FAMILIES: Final[list[tuple[str, type, Callable[[Any, Sequence[Any]], Shape]]]] = [
    ("__pydantic_generic_metadata__", object, _pydantic),
    ("__struct_fields__", object, _struct),
    ("__attrs_attrs__", object, _attrs),
    ("__dataclass_fields__", object, _dataclass),
    ("_fields", tuple, _named_tuple),
    ("__required_keys__", dict, _typed_dict),
]


def _fields(names: Iterable[str], annotations: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [(name, annotations.get(name, Any)) for name in names]


def _getter(factory: Any, names: Sequence[str]) -> Callable[[Any], Iterable[Any]]:
    """Return a function that gets several attributes or items at once, whatever their number."""
    if not names:
        return lambda _: ()
    get: Callable[[Any], Any] = factory(*names)
    return get if len(names) > 1 else lambda value: (get(value),)


def _taken(get: Callable[[Any], Iterable[Any]], value: Any) -> Iterable[Any]:
    try:
        return get(value)
    except (AttributeError, KeyError) as error:
        raise _unset(error) from None


def _unset(error: Exception) -> MismatchError:
    return MismatchError("every field to be set", f"none: {error}")


def _instance(
    cls: Any, names: list[str], constants: Mapping[str, Any] = types.MappingProxyType({})
) -> tuple[Callable[[Any], list[Any]], Callable[[list[Any]], Any]]:
    """Return how to take apart and to restore instances whose fields are attributes."""
    if cls.__new__ is not object.__new__:
        raise ConfigurationError(
            f"{cls.__qualname__} has a __new__ of its own, so it cannot be restored",
            hint="Derive models from plain classes only, or return plain data.",
        )
    take, build = _parts(cls, names, constants)
    others = _other_slots(cls, {*names, *constants})
    return (_refusing(cls, others, take) if others else take), build


def _parts(
    cls: Any, names: list[str], constants: Mapping[str, Any]
) -> tuple[Callable[[Any], list[Any]], Callable[[list[Any]], Any]]:
    everything = [*names, *constants]
    slots = [name for name in everything if _is_slot(cls, name)]
    has_dict = cls.__dictoffset__ != 0
    if has_dict and not slots:
        return _take_dict(cls, names, constants), _build_dict(cls, names, constants)
    get = _getter(attrgetter, names)
    known = frozenset(everything)

    def take(value: Any) -> list[Any]:
        if has_dict:
            _refuse_extras(cls, value.__dict__, known)
        try:
            return [*get(value)]
        except AttributeError as error:
            raise _unset(error) from None

    setters = [
        getattr(cls, name).__set__ if name in slots else _setter(name) for name in everything
    ]
    fixed = tuple(constants.values())

    def build(row: list[Any]) -> Any:
        value = object.__new__(cls)
        for put, item in zip(setters, (*row, *fixed), strict=True):
            put(value, item)
        return value

    return take, build


def _other_slots(cls: type, known: Iterable[str]) -> dict[str, Any]:
    """Return the slots that are no fields, by name."""
    return {
        name: slot
        for base in cls.__mro__
        # attrs adds slots for what its cached properties can compute again.
        if "__attrs_attrs__" not in vars(base)
        for name, slot in vars(base).items()
        if isinstance(slot, types.MemberDescriptorType) and name not in known
    }


def _refusing(
    cls: Any, slots: Mapping[str, Any], take: Callable[[Any], list[Any]]
) -> Callable[[Any], list[Any]]:
    """Return `take` for values in whose other slots nothing stands."""

    def checked(value: Any) -> list[Any]:
        extra: list[str] = []
        for name, slot in slots.items():
            with contextlib.suppress(AttributeError):
                slot.__get__(value)
                extra.append(name)
        if extra:
            raise _extras(cls, extra)
        return take(value)

    return checked


def _take_dict(
    cls: Any, names: list[str], constants: Mapping[str, Any]
) -> Callable[[Any], list[Any]]:
    get, slow_get = _getter(itemgetter, names), _getter(attrgetter, names)
    known = frozenset({*names, *constants})

    def take(value: Any) -> list[Any]:
        state = value.__dict__
        try:
            row = [*get(state)]
        except KeyError:
            # A field that no __init__ sets stands as its default on the class.
            row = [*_taken(slow_get, value)]
            _refuse_extras(cls, state, known)
        if len(state) > len(names):
            _refuse_extras(cls, state, known)
        return row

    return take


def _build_dict(
    cls: Any, names: list[str], constants: Mapping[str, Any]
) -> Callable[[list[Any]], Any]:
    new = object.__new__

    def build(row: list[Any]) -> Any:
        value = new(cls)
        state = value.__dict__
        state.update(zip(names, row, strict=True))
        if constants:
            state.update(constants)
        return value

    return build


def _is_slot(cls: type, name: str) -> bool:
    return isinstance(inspect.getattr_static(cls, name, None), types.MemberDescriptorType)


def _setter(name: str) -> Callable[[Any, Any], None]:
    return lambda value, item: _set(value, name, item)


def _call(cls: Any) -> Callable[[list[Any]], Any]:
    return lambda row: cls(*row)


def _init_only_assigns(cls: Any, names: list[str]) -> bool:
    """Return whether calling a dataclass does nothing but set its fields, in their order.

    Calling is three times as fast as restoring, thanks to the interpreter's inlined values.
    """
    code = getattr(cls.__init__, "__code__", None)
    return (
        code is not None
        and code.co_filename == "<string>"  # made by the dataclasses module
        and not hasattr(cls, "__post_init__")
        and cls.__setattr__ is object.__setattr__
        and code.co_kwonlyargcount == 0
        and list(code.co_varnames[1 : code.co_argcount]) == names
        and type(cls).__call__ is type.__call__
    )


def _refuse_extras(cls: Any, state: Mapping[str, Any], known: Iterable[str]) -> None:
    extra = [
        name
        for name in state.keys() - set(known)
        if not isinstance(inspect.getattr_static(cls, name, None), functools.cached_property)
    ]
    if extra:
        raise _extras(cls, extra)


def _extras(cls: Any, names: Iterable[str]) -> MismatchError:
    return MismatchError(
        f"{cls.__name__} with its fields only",
        f"other attributes too: {', '.join(sorted(names))}",
        hint="Declare them as fields, or compute them in a functools.cached_property.",
    )
