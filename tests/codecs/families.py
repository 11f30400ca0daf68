"""One small model of every family, and what it means for two values to be the same."""

import dataclasses
import enum
import functools
import math
from datetime import datetime, time
from decimal import Decimal
from typing import Any, Generic, NamedTuple, NotRequired, TypedDict, TypeVar

import attrs
import msgspec
import pydantic

T = TypeVar("T")


class Color(enum.Enum):
    RED = 1
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Unit(enum.StrEnum):
    KILO = "kg"


class Access(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class User:
    id: int
    name: str
    tags: list[str] = dataclasses.field(default_factory=list)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    total: Decimal
    user: User | None = None


@dataclasses.dataclass
class Tree:
    value: int
    children: list["Tree"] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Child(User):
    age: int = 0


@dataclasses.dataclass
class Page(Generic[T]):
    items: list[T]
    next: "Page[T] | None" = None


@dataclasses.dataclass
class UserPage(Page[User]):
    total: int = 0


@dataclasses.dataclass
class Computed:
    a: int
    doubled: int = dataclasses.field(init=False)
    constant: int = dataclasses.field(init=False, default=3)

    def __post_init__(self) -> None:
        self.doubled = self.a * 2

    @functools.cached_property
    def tripled(self) -> int:
        return self.a * 3


class Account(pydantic.BaseModel):
    id: int
    email: str | None = None
    children: list["Account"] = []


class Item(msgspec.Struct, frozen=True):
    sku: str
    price: float = 0.0


@attrs.define
class Point:
    x: int
    y: int = attrs.field(default=0, eq=False)


@attrs.frozen(cache_hash=True, slots=False)
class Hashed:
    x: int


class Pair(NamedTuple):
    left: int
    right: Color = Color.RED


class Row(TypedDict):
    id: int
    note: NotRequired[str]


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal and of identical types, all the way down."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (
            a == b and math.copysign(1, a) == math.copysign(1, b)
        )
    if isinstance(a, complex):
        return same(a.real, b.real) and same(a.imag, b.imag)
    if isinstance(a, Decimal):
        return bool(a.as_tuple() == b.as_tuple())
    if isinstance(a, datetime | time):
        return bool(a == b and a.utcoffset() == b.utcoffset() and a.fold == b.fold)
    if isinstance(a, dict):
        return len(a) == len(b) and all(any(same(x, y) for y in b.items()) for x in a.items())
    if isinstance(a, set | frozenset):
        return len(a) == len(b) and all(any(same(x, y) for y in b) for x in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    fields = _fields(a)
    if fields is None:
        return bool(a == b)
    return all(same(getattr(a, name), getattr(b, name)) for name in fields)


def _fields(value: Any) -> tuple[str, ...] | None:
    if isinstance(value, pydantic.BaseModel):
        return ("model_fields_set", *type(value).model_fields)
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if attrs.has(type(value)):
        return tuple(field.name for field in attrs.fields(type(value)))
    if dataclasses.is_dataclass(value):
        return tuple(field.name for field in dataclasses.fields(value))
    return None
