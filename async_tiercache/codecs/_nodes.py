"""The nodes that an annotation is compiled to, and the checks that they share.

A node has two sides, one per direction. A side is the set of exact types that it takes and a
function that converts such a value, or `None` where the value stands on the wire as it is: so a
`list[int]` costs one pass in C over the types of its items, in both directions. The parent checks
the type; the function may rely on it.
"""

import dataclasses
import enum
import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Any, TypeAlias, cast

Converter: TypeAlias = Callable[[Any], Any]
Kinds: TypeAlias = frozenset[type]

# How many combinations of field types a row remembers as checked.
_REMEMBERED = 64


class MismatchError(Exception):
    """A value or its wire form is not what the annotation says; the codec names it and its path."""

    def __init__(self, expected: str, got: str, *, hint: str = "") -> None:
        super().__init__(expected, got)
        self.expected = expected
        self.got = got
        self.hint = hint
        self.path: list[str] = []

    def text(self) -> str:
        """Return the sentence for the reader, with the path from the outside in."""
        place = f" at {''.join(reversed(self.path))}" if self.path else ""
        return f"expected {self.expected}{place}, got {self.got}"


@dataclass(frozen=True, slots=True)
class Side:
    """One direction of a node.

    Attributes:
        kinds: The exact types that it takes; `None` when `convert` judges the type itself.
        convert: Converts one value of these types; `None` when nothing is to be done.
        easy: The kinds among them for which nothing is to be done.
        judges: Whether `convert` only looks at a value, and returns it.
    """

    kinds: Kinds | None
    convert: Converter | None
    easy: Kinds = frozenset()
    judges: bool = False


@dataclass(frozen=True, slots=True)
class Node:
    """A compiled annotation.

    Attributes:
        schema: Its canonical text: the same in every process and on every version of Python.
        encode: From the value to what msgpack packs.
        decode: From what msgpack unpacked to the value.
    """

    schema: str
    encode: Side
    decode: Side

    @property
    def plain(self) -> bool:
        """Whether values stand on the wire as they are, so that their type alone tells them."""
        return self.encode.convert is None and self.encode == self.decode


def plain(schema: str, *kinds: type) -> Node:
    """Return the node of types that stand on the wire as they are."""
    side = Side(frozenset(kinds), None, frozenset(kinds))
    return Node(schema, side, side)


def guard(side: Side, expected: str) -> Converter:
    """Return a function that checks the type of a value and converts it."""
    kinds, convert = side.kinds, side.convert
    if kinds is None:
        assert convert is not None
        return convert

    def checked(value: Any) -> Any:
        if type(value) not in kinds:
            raise misfit(expected, value, kinds)
        return value if convert is None else convert(value)

    return checked


def each(side: Side, expected: str) -> Callable[..., Any]:
    """Return a function that checks and converts every item of an iterable, to a list.

    An iterable whose items need no conversion is returned as it is. Where items have `keys`, they
    stand in the path in place of numbers.
    """
    kinds, convert = side.kinds, side.convert
    holds_easy_only = side.easy.issuperset

    def converted(values: Iterable[Any], keys: Iterable[Any] | None = None) -> Any:
        if holds_easy_only(map(type, values)):
            return values
        if kinds is not None and not kinds.issuperset(map(type, values)):
            index, value = next((i, v) for i, v in enumerate(values) if type(v) not in kinds)
            mismatch = misfit(expected, value, kinds)
            mismatch.path.append(_place(index, keys))
            raise mismatch
        if convert is None:
            return values
        if side.judges:
            _judge(side, values, keys)
            return values
        done: list[Any] = []
        try:
            done.extend(map(convert, values))
        except MismatchError as mismatch:
            mismatch.path.append(_place(len(done), keys))
            raise
        return done

    return converted


def _judge(side: Side, values: Iterable[Any], keys: Iterable[Any] | None) -> None:
    """Look at those items that are not easy."""
    assert side.convert is not None
    for index, value in enumerate(values):
        if type(value) not in side.easy:
            try:
                side.convert(value)
            except MismatchError as mismatch:
                mismatch.path.append(_place(index, keys))
                raise


def row(sides: Sequence[Side], schemas: Sequence[str], labels: Sequence[str]) -> Converter:
    """Return a function that checks and converts a list of fixed length, in place.

    A combination of item types that has passed once is remembered, so one probe of a set checks the
    length and all types.
    """
    converts = [(i, side.convert) for i, side in enumerate(sides) if side.convert is not None]
    passed: set[tuple[type, ...]] = set()

    def check(values: list[Any]) -> None:
        if len(values) != len(sides):
            raise MismatchError(f"{len(sides)} fields", f"{len(values)}")
        for value, side, schema, label in zip(values, sides, schemas, labels, strict=True):
            if side.kinds is not None and type(value) not in side.kinds:
                mismatch = misfit(schema, value, side.kinds)
                mismatch.path.append(label)
                raise mismatch

    def converted(values: list[Any]) -> list[Any]:
        types = tuple(map(type, values))
        if types not in passed:
            check(values)
            if len(passed) < _REMEMBERED:
                passed.add(types)
        index = 0
        try:
            for index, convert in converts:
                values[index] = convert(values[index])
        except MismatchError as mismatch:
            mismatch.path.append(labels[index])
            raise
        return values

    return converted


def misfit(expected: str, value: Any, kinds: Kinds = frozenset()) -> MismatchError:
    """Return the mismatch for a value of a wrong type, with what the reader can do about it."""
    kind: Any = cast("Any", type(value))
    got = kind.__qualname__
    if kind.__module__ not in {"builtins", "__main__"}:
        got = f"{kind.__module__}.{got}"
    return MismatchError(expected, got, hint=_advice(value, kinds))


def _place(index: int, keys: Iterable[Any] | None) -> str:
    return f"[{index}]" if keys is None else f"[{list(keys)[index]!r}]"


def _advice(value: Any, kinds: Kinds) -> str:
    kind: Any = cast("Any", type(value))
    base = next((base for base in kinds if issubclass(kind, base)), None)
    if base is not None:
        storable = isinstance(value, enum.Enum) or is_model(kind)
        return (
            f"{kind.__name__} is a subclass of {base.__name__} and would not come back as itself: "
            + (f"annotate {kind.__name__}, or " if storable else "")
            + f"convert the value to {base.__name__}."
        )
    if isinstance(value, enum.Enum) or is_model(kind):
        return (
            f"Annotate {kind.__name__} where a function returns it (a lambda cannot say so): no "
            "class is looked up by a name from the wire."
        )
    if kind in _ORDINARY:
        return "Annotate what is returned, or convert it to what is annotated."
    if inspect.isawaitable(value):
        return "Await it, and return the result."
    return next(
        (advice for attribute, advice in _ADVICE.items() if hasattr(kind, attribute)),
        "Return plain data: dicts, lists and scalars, or a dataclass or pydantic model made of it.",
    )


_ORDINARY = {NoneType, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset}
_ADVICE = {
    "_mapping": "Return dict(row._mapping), or a model made of it.",
    "tobytes": "Return bytes(value).",
    "fromhex": "Return bytes(value).",
    "read": "Return the content, not the open file or response.",
    "keys": "Return dict(row), or a model made of it.",
    "__next__": "An iterator can be read only once: return list(rows).",
    "__anext__": "An iterator can be read only once: return [row async for row in rows].",
    "__aiter__": "A cursor can be read only once: return [row async for row in rows].",
    "__iter__": "Return list(rows).",
}


def is_model(kind: Any) -> bool:
    """Return whether a class is of one of the supported families of models."""
    return (
        dataclasses.is_dataclass(kind)
        or any(hasattr(kind, mark) for mark in _MARKS)
        or (issubclass(kind, tuple) and hasattr(cast("Any", kind), "_fields"))
    )


_MARKS = ("__pydantic_generic_metadata__", "__struct_fields__", "__attrs_attrs__")
