"""Spell one argument as key text, so that different values never share a text.

Pure; called by `keys`. Why it is injective: a `:`, `[`, `]` or `'` in a text is always structure,
because values carry them percent-escaped; brackets are balanced; so a `:` outside of brackets never
belongs to a value. Only bare words (numbers, None, True, False, plain strings) lack structure, and
a string that looks like one of the others is quoted. The format is documented in
docs/concepts/keys.md and stays as it is: servers of two releases share one L2.
"""

import enum
import re
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import fields
from datetime import date, datetime, time, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from pathlib import PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any, Final, TypeVar, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from async_tiercache.errors import UnkeyableError

# Fixed here instead of str.isprintable(), whose answer differs between Python versions: servers
# on two of them must spell one key alike. C0, C1, bidirectional and invisible marks, line and
# paragraph separators, lone surrogates.
INVISIBLE = r"\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff"
_ESCAPED = re.compile(rf"[%:*?\[\]{{}}\\'~{INVISIBLE}]")
_IS_PLAIN = re.compile(
    r"(?!(?:-?[0-9]+(?:\.[0-9]+)?(?:e[-+]?[0-9]+)?|-?inf|nan|None|True|False)\Z)"
    rf"[^%:*?\[\]{{}}\\'~{INVISIBLE}]+"
).fullmatch

T = TypeVar("T")

_WAYS_OUT = (
    "Leave the parameter out with exclude=(...), write a template that uses an attribute of it "
    '("{user.id}"), or give its class a __cache_key__() method that returns plain values.'
)
_MAIN = frozenset({"__main__", "__mp_main__"})


def _remembered(function: Callable[[type[Any]], T]) -> Callable[[type[Any]], T]:
    # The stubs take the hash of `type[Any]` for that of its instances.
    return cast("Callable[[type[Any]], T]", lru_cache(maxsize=1024)(function))


def escape(text: str) -> str:
    """Return the text with every character that means something in a key as ``%XX`` of its UTF-8.

    Example:
        >>> escape("a:b*")
        'a%3Ab%2A'
    """
    return _ESCAPED.sub(lambda match: percent(match[0]), text)


@lru_cache(maxsize=256)
def percent(character: str) -> str:
    """Return a character's UTF-8 as ``%XX`` for each byte."""
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def canonical(value: object) -> str:
    """Return the text of one argument: equal only for values of one type and one content.

    Raises:
        UnkeyableError: The value's type has no text that is stable and its own.

    Example:
        >>> canonical(42), canonical("42"), canonical(["a:b", None])
        ('42', "'42'", '[a%3Ab:None]')
    """
    kind: type[Any] = type(value)
    try:
        if kind is int:
            return f"{value}"
        if kind is str:
            text = cast("str", value)
            return text if _IS_PLAIN(text) else _str_text(text)
        return (_TEXT_OF.get(kind) or _text_maker(kind))(value)
    except RecursionError:
        raise UnkeyableError(
            f"A {kind.__name__} that contains itself, or is nested too deeply, has no key text",
            hint=_WAYS_OUT,
        ) from None
    except ValueError as error:
        if kind is not int:
            raise
        raise UnkeyableError(
            "An int of this many digits cannot stand in a key", hint=_WAYS_OUT
        ) from error


def are_plain(values: Collection[object]) -> bool:
    """Return whether `canonical` makes of each value what `str` does."""
    kinds = set(map(type, values))
    return kinds == {int} or (
        kinds == {str} and all(map(_IS_PLAIN, cast("Collection[str]", values)))
    )


def _str_text(value: str) -> str:
    # Escaped text holds a % and so cannot look like a number or a name.
    return escape(value) if _ESCAPED.search(value) else f"'{value}'"


def _joined(values: Iterable[object]) -> str:
    return ":".join(map(canonical, values))


def _dict_text(value: dict[object, object]) -> str:
    pairs = sorted((canonical(key), canonical(item)) for key, item in value.items())
    return f"d[{':'.join([f'{key}:{item}' for key, item in pairs])}]"


def _moment_text(value: datetime | time) -> str:
    """Spell a moment as RFC 9557 does: local time, offset, and the zone where offsets change."""
    text = value.isoformat()
    if value.tzinfo is not None and value.tzinfo.utcoffset(None) is None:
        text += f"[{_zone_name(value.tzinfo)}]"
    if value.fold:
        text += "[fold]"
    return f"{type(value).__name__}'{escape(text)}'"


def _zone_name(zone: tzinfo) -> str:
    name = zone.key if type(zone) is ZoneInfo else None
    if name is None:
        raise UnkeyableError(
            f"A time in a zone of type {type_name(type(zone))} has no stable text",
            hint="Use zoneinfo.ZoneInfo or datetime.timezone.",
        )
    return name


def _quoted(value: object) -> str:
    return f"{type(value).__name__}'{escape(str(value))}'"


_TEXT_OF: Final[dict[type, Callable[[Any], str]]] = {
    type(None): str,
    bool: str,
    float: repr,
    complex: lambda value: f"complex[{_joined((value.real, value.imag))}]",
    bytes: lambda value: f"b'{value.hex()}'",
    list: lambda value: f"[{_joined(value)}]",
    tuple: lambda value: f"t[{_joined(value)}]",
    set: lambda value: f"s[{':'.join(sorted(map(canonical, value)))}]",
    frozenset: lambda value: f"f[{':'.join(sorted(map(canonical, value)))}]",
    dict: _dict_text,
    range: lambda value: f"range[{_joined((value.start, value.stop, value.step))}]",
    datetime: _moment_text,
    time: _moment_text,
    date: _quoted,
    timedelta: lambda value: (
        f"timedelta[{_joined((value.days, value.seconds, value.microseconds))}]"
    ),
    Decimal: _quoted,
    UUID: _quoted,
    PurePosixPath: _quoted,
    PureWindowsPath: _quoted,
    PosixPath: _quoted,
    WindowsPath: _quoted,
}


@_remembered
def _text_maker(kind: type[Any]) -> Callable[[Any], str]:
    """Return how instances of a class that is not built in are spelled.

    Raises:
        UnkeyableError: They are not; this verdict is not remembered.
    """
    if hasattr(kind, "__cache_key__"):
        return _wrapped_maker(kind, lambda value: value.__cache_key__())
    if issubclass(kind, enum.Enum):
        return _enum_maker(kind)
    if issubclass(kind, type):
        return lambda value: f"class'{class_name(value)}'"
    # Drivers return subclasses (asyncpg) that equal the UUID of a parsed request.
    if issubclass(kind, UUID):
        return lambda value: f"UUID'{UUID.__str__(value)}'"
    for base, exact in _EXACT_OF.items():
        if issubclass(kind, base):
            return _subclass_maker(kind, exact)
    return _record_maker(kind, _field_names(kind))


def _wrapped_maker(kind: type[Any], inner: Callable[[Any], object]) -> Callable[[Any], str]:
    name = class_name(kind)
    return lambda value: f"{name}[{canonical(inner(value))}]"


def _enum_maker(kind: type[enum.Enum]) -> Callable[[Any], str]:
    if issubclass(kind, enum.Flag):
        return _wrapped_maker(kind, attrgetter("value"))
    texts = {
        member.name: f"{class_name(kind)}'{escape(member.name)}'"
        for member in kind.__members__.values()
    }

    def text(value: enum.Enum) -> str:
        # Members made by _missing_ share a name and differ in value.
        if kind.__members__.get(value.name) is not value:
            raise UnkeyableError(f"{type_name(kind)} has no member for this value", hint=_WAYS_OUT)
        return texts[value.name]

    return text


# What makes the plain value from an instance of a subclass, whatever the subclass overrides.
_EXACT_OF: Final[dict[type, Callable[[Any], object]]] = {
    int: int.__int__,
    float: float.__float__,
    str: str.__str__,
}


def _subclass_maker(kind: type[Any], exact: Callable[[Any], object]) -> Callable[[Any], str]:
    slots = any(base.__dict__.get("__slots__") for base in kind.__mro__)

    def inner(value: object) -> object:
        if slots or getattr(value, "__dict__", None):
            raise _stateful(kind)
        return exact(value)

    return _wrapped_maker(kind, inner)


def _field_names(kind: type[Any]) -> Sequence[str]:
    """Return the fields that make up an instance.

    Raises:
        UnkeyableError: Nothing declares them.
    """
    own, refused = kind.__dict__, type_name(kind)
    names: Iterable[str] | None = None
    if issubclass(kind, tuple):
        names = getattr(cast("type[Any]", kind), "_fields", None)
    elif issubclass(kind, bytes | list | dict | set | frozenset):
        names = None
    # Read from the class itself: an undecorated subclass may hold more than the fields it inherits.
    elif "__dataclass_fields__" in own:
        names = [field.name for field in fields(kind)]
    elif "__attrs_attrs__" in own:
        names = [attribute.name for attribute in own["__attrs_attrs__"]]
    elif hasattr(kind, "__struct_fields__"):
        names = kind.__struct_fields__
    elif hasattr(kind, "__pydantic_core_schema__"):
        names = getattr(kind, "model_fields", None)
    if names is None:
        raise UnkeyableError(f"A value of type {refused} cannot stand in a key", hint=_WAYS_OUT)
    return tuple(names)


def _record_maker(kind: type[Any], names: Sequence[str]) -> Callable[[Any], str]:
    name = class_name(kind)
    is_tuple = issubclass(kind, tuple)
    labels = [escape(field) for field in names]

    def text(value: object) -> str:
        if is_tuple and getattr(value, "__dict__", None):
            raise _stateful(kind)
        try:
            values = [getattr(value, field) for field in names]
        except AttributeError as error:
            raise UnkeyableError(
                f"A {type_name(kind)} with a field that is not set has no key text",
                hint=_WAYS_OUT,
            ) from error
        parts = [f"{label}:{canonical(item)}" for label, item in zip(labels, values, strict=True)]
        extra = getattr(value, "__pydantic_extra__", None)
        if extra:
            parts.append(canonical(extra))
        return f"{name}[{':'.join(parts)}]"

    return text


def _stateful(kind: type[Any]) -> UnkeyableError:
    return UnkeyableError(
        f"A {type_name(kind)} holds more than its base type's value", hint=_WAYS_OUT
    )


def type_name(kind: type[Any]) -> str:
    """Return the name of a class for messages."""
    return f"{kind.__module__}.{kind.__qualname__}"


@_remembered
def class_name(kind: type[Any]) -> str:
    """Return the name that stands for a class in keys: module and qualified name, escaped.

    Raises:
        UnkeyableError: Importing that name gives something else, so another class may have the same
            name: it was made in a function or by a call.
    """
    found: object = sys.modules.get(kind.__module__)
    for part in kind.__qualname__.split("."):
        found = getattr(found, part, None)
    # What an interactive session defines is in no module that can be looked at.
    interactive = kind.__module__ in _MAIN and "<" not in kind.__qualname__
    if found is not kind and not interactive:
        raise UnkeyableError(
            f"The class {type_name(kind)} cannot stand in a key: "
            "another class may have the same name",
            hint="Define it at the top of a module, under its own name. For the class of self, a "
            "template helps too.",
        )
    return escape(f"{module_name(kind.__module__)}.{kind.__qualname__}")


def module_name(module: str) -> str:
    """Return the name by which others import a module: two programs both have a `__main__`."""
    if module not in _MAIN:
        return module
    main = sys.modules.get("__main__")
    spec, file = getattr(main, "__spec__", None), getattr(main, "__file__", None)
    if spec is not None:
        return cast("str", spec.name)
    return PurePath(file).stem if file else module
