"""The law of the codec, and that no bytes can break it: over generated annotations and values."""

import dataclasses
import functools
import itertools
import operator
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias, cast
from uuid import UUID

import attrs
import msgspec
import pydantic
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typing_extensions import TypedDict  # pydantic takes no other before Python 3.12

from async_tiercache.codecs import codec_for
from async_tiercache.errors import DecodeError
from tests.codecs.families import Access, Color, Level, Unit, same

PROPERTY = settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
Case: TypeAlias = tuple[Any, st.SearchStrategy[Any]]

# Subscripted with types that are known only at run time, which no checker follows.
LIST, TUPLE, SEQUENCE, DICT, SET, FROZENSET = (
    cast("Any", kind) for kind in (list, tuple, Sequence, dict, set, frozenset)
)

_zones = (
    st.none()
    | st.timezones()
    | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
)
HASHABLE: list[Case] = [
    (type(None), st.none()),
    (bool, st.booleans()),
    (int, st.integers()),
    (float, st.floats()),
    (str, st.text(max_size=8)),
    (bytes, st.binary(max_size=8)),
    (complex, st.complex_numbers()),
    (Decimal, st.decimals(allow_nan=False)),
    (UUID, st.uuids()),
    (datetime, st.datetimes(timezones=_zones)),
    (date, st.dates()),
    (time, st.times(timezones=_zones)),
    (timedelta, st.timedeltas()),
    (Color, st.sampled_from(Color)),
    (Level, st.sampled_from(Level)),
    (Unit, st.sampled_from(Unit)),
    (Access, st.sampled_from([Access(0), Access.READ, Access.READ | Access.WRITE])),
    (Literal["a", 1, Color.BLUE], st.sampled_from(["a", 1, Color.BLUE])),
]
SCALAR: list[Case] = [
    *HASHABLE,
    (Decimal, st.decimals(allow_nan=True)),
    (float, st.integers() | st.floats()),
    (bytearray, st.binary(max_size=8).map(bytearray)),
]

plain_keys = st.recursive(
    st.one_of([values for kind, values in HASHABLE if kind in {int, str, UUID, date, bool}]),
    lambda inner: st.lists(inner, max_size=2).map(tuple) | st.frozensets(inner, max_size=2),
    max_leaves=3,
)
plain = st.recursive(
    st.one_of([values for kind, values in SCALAR[:13]]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(plain_keys, inner, max_size=3),
        st.sets(plain_keys, max_size=3),
    ),
    max_leaves=6,
)


def _dataclass(fields: dict[str, Any]) -> Callable[..., Any]:
    return dataclasses.make_dataclass("Model", fields.items())


def _slotted(fields: dict[str, Any]) -> Callable[..., Any]:
    return dataclasses.make_dataclass("Model", fields.items(), frozen=True, slots=True)


def _struct(fields: dict[str, Any]) -> Callable[..., Any]:
    return msgspec.defstruct("Model", list(fields.items()))


def _attrs(fields: dict[str, Any]) -> Callable[..., Any]:
    return attrs.make_class("Model", {name: attrs.field(type=t) for name, t in fields.items()})


def _named_tuple(fields: dict[str, Any]) -> Callable[..., Any]:
    make: Any = NamedTuple
    return cast("Callable[..., Any]", make("Model", list(fields.items())))


def _typed_dict(fields: dict[str, Any]) -> Callable[..., Any]:
    make: Any = TypedDict
    return cast("Callable[..., Any]", make("Model", fields))


def _pydantic(fields: dict[str, Any]) -> Callable[..., Any]:
    definitions: dict[str, Any] = {name: (t, ...) for name, t in fields.items()}
    config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    make: Any = pydantic.create_model
    return cast("Callable[..., Any]", make("Model", __config__=config, **definitions))


_MODULES = itertools.count()
FAMILIES = [_dataclass, _slotted, _struct, _attrs, _named_tuple, _typed_dict, _pydantic]


@st.composite
def cases(draw: st.DrawFn, depth: int = 3) -> Case:
    """Draw an annotation with the strategy of its values."""
    kinds = list(_DRAW) if depth else ["scalar"]
    case: Case = _DRAW[draw(st.sampled_from(kinds))](draw, cases(depth - 1))
    return case


def _fixed(draw: st.DrawFn, inner: Any) -> Case:
    parts = draw(st.lists(inner, min_size=1, max_size=3))
    return TUPLE[tuple(kind for kind, _ in parts)], st.tuples(*(values for _, values in parts))


def _union(draw: st.DrawFn, inner: Any) -> Case:
    parts = draw(st.lists(inner, min_size=2, max_size=3))
    kinds, values = zip(*parts, strict=True)
    return functools.reduce(operator.or_, kinds), st.one_of(values)


def _keyed(draw: st.DrawFn, inner: Any) -> Case:
    (key, keys), (kind, values) = draw(st.sampled_from(HASHABLE)), draw(inner)
    if draw(st.booleans()):
        key, keys = TUPLE[key, ...], st.lists(keys, max_size=2).map(tuple)
    return DICT[key, kind], st.dictionaries(keys, values, max_size=3)


def _set(draw: st.DrawFn, inner: Any) -> Case:
    kind, values = draw(st.sampled_from(HASHABLE))
    if draw(st.booleans()):
        return FROZENSET[kind], st.frozensets(values, max_size=3)
    return SET[kind], st.sets(values, max_size=3)


def _model(draw: st.DrawFn, inner: Any) -> Case:
    parts = draw(st.lists(inner, max_size=4))
    fields = {f"field_{index}": kind for index, (kind, _) in enumerate(parts)}
    family = draw(st.sampled_from(FAMILIES))
    model: Any = family(fields)
    # All have one name, so it is their modules that tell them apart.
    model.__module__ = f"module_{next(_MODULES)}"
    make = model.model_construct if family is _pydantic else model
    return model, st.fixed_dictionaries(
        {name: values for name, (_, values) in zip(fields, parts, strict=True)}
    ).map(lambda given: make(**given))


def _each(make: Callable[[Any], Any], build: Callable[[list[Any]], Any]) -> Any:
    def drawn(draw: st.DrawFn, inner: Any) -> Case:
        kind, values = draw(inner)
        return make(kind), st.lists(values, max_size=3).map(build)

    return drawn


def _optional(draw: st.DrawFn, inner: Any) -> Case:
    kind, values = draw(inner)
    return kind | None, st.none() | values


_DRAW: dict[str, Any] = {
    "scalar": lambda draw, _: draw(st.sampled_from(SCALAR)),
    "list": _each(lambda kind: LIST[kind], list),
    "tuple": _each(lambda kind: TUPLE[kind, ...], tuple),
    "sequence": _each(lambda kind: SEQUENCE[kind], tuple),
    "fixed": _fixed,
    "set": _set,
    "dict": _keyed,
    "optional": _optional,
    "union": _union,
    "model": _model,
    "any": lambda draw, _: (Any, plain),
}


@PROPERTY
@given(st.data())
def test_decoding_an_encoded_value_gives_the_same_value(data: st.DataObject) -> None:
    """Whatever is accepted comes back equal and of identical type, all the way down."""
    annotation, values = data.draw(cases())
    value = data.draw(values)
    codec = codec_for(annotation)

    assert same(codec.decode(codec.encode(value)), value)


@PROPERTY
@given(plain)
def test_plain_data_needs_no_annotation(value: Any) -> None:
    """Without an annotation the same law holds for plain data."""
    codec = codec_for(Any)

    assert same(codec.decode(codec.encode(value)), value)


@PROPERTY
@given(st.data())
def test_random_bytes_decode_to_the_right_type_or_are_refused(data: st.DataObject) -> None:
    """What `decode` lets through is what `encode` accepts; anything else is a DecodeError."""
    annotation, _ = data.draw(cases())
    codec = codec_for(annotation)

    _decode_or_refuse(codec, data.draw(st.binary(max_size=64)))


@PROPERTY
@given(st.data())
def test_damaged_payloads_decode_to_the_right_type_or_are_refused(data: st.DataObject) -> None:
    """Changing, cutting or inserting bytes never raises anything but DecodeError."""
    annotation, values = data.draw(cases())
    codec = codec_for(annotation)
    payload = bytearray(codec.encode(data.draw(values)))
    start = data.draw(st.integers(0, len(payload)))
    stop = data.draw(st.integers(start, min(len(payload), start + 4)))
    payload[start:stop] = data.draw(st.binary(max_size=4))

    _decode_or_refuse(codec, bytes(payload))


def _decode_or_refuse(codec: Any, payload: bytes) -> None:
    try:
        value = codec.decode(payload)
    except DecodeError:
        return
    assert same(codec.decode(codec.encode(value)), value)
