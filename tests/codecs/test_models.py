"""The less plain forms that each family of models offers its users."""

from __future__ import annotations

import dataclasses
import enum
import functools
from typing import (
    Annotated,
    Any,
    ClassVar,
    Generic,
    Literal,
    NamedTuple,
    NotRequired,
    Protocol,
    Required,
    Self,
    TypedDict,
    TypeVar,
    cast,
)

import attr
import attrs
import msgspec
import pydantic
import pydantic.dataclasses
import pytest

from async_tiercache.codecs import codec_for
from async_tiercache.errors import ConfigurationError, DecodeError, EncodeError
from tests.codecs.families import same

T = TypeVar("T")


@pydantic.dataclasses.dataclass
class Validated:
    a: int
    b: list[int] = dataclasses.field(default_factory=list)


@pydantic.dataclasses.dataclass(frozen=True, slots=True)
class ValidatedSlots:
    a: int


class Aliased(pydantic.BaseModel, frozen=True):
    a: int = pydantic.Field(alias="A")
    b: Annotated[int, pydantic.Field(gt=0)] = 1

    @pydantic.computed_field  # type: ignore[prop-decorator]
    @property
    def c(self) -> int:
        return self.a + self.b


class Numbers(pydantic.RootModel[list[int]]):
    pass


class Box(pydantic.BaseModel, Generic[T]):
    items: list[T]


class Cat(pydantic.BaseModel):
    kind: Literal["cat"] = "cat"


class Dog(pydantic.BaseModel):
    kind: Literal["dog"] = "dog"


class Zoo(pydantic.BaseModel):
    pets: list[Annotated[Cat | Dog, pydantic.Field(discriminator="kind")]]
    visitors: pydantic.PositiveInt | None = None


class Tagged(msgspec.Struct, tag="x", array_like=True, omit_defaults=True, rename="camel"):
    my_a: int
    other: int | None = None


class WithDict(msgspec.Struct, dict=True):
    a: int


class Many(msgspec.Struct, Generic[T]):
    items: list[T]


def _incremented(value: str | int) -> int:
    return int(value) + 1


@attrs.define
class Converted:
    _private: int = attrs.field(converter=_incremented)
    checked: str = attrs.field(default="x", validator=attrs.validators.instance_of(str))

    @functools.cached_property
    def double(self) -> int:
        return self._private * 2


@attr.s
class Classic:
    a: Any = attr.ib()
    b: Any = attr.ib(default=None)


class Aliases(enum.Enum):
    ONE = 1
    EINS = 1  # noqa: PIE796 - an alias
    PAIR = (1, 2)


class TupleEnum(tuple[int, int], enum.Enum):  # noqa: SLOT001
    A = (1, 2)


@dataclasses.dataclass(frozen=True)
class Linked:
    kind: ClassVar[int] = 1
    names: dict[str, Aliases] = dataclasses.field(default_factory=dict)
    next: Self | None = None


@dataclasses.dataclass
class Bare(Generic[T]):
    item: T


class HasX(Protocol):
    x: int


@dataclasses.dataclass
class Implements(HasX):
    x: int


class Base(TypedDict):
    a: int


class Partial(Base, total=False):
    b: str
    c: Required[int]


class Late(Base):
    b: NotRequired[str]
    c: Annotated[NotRequired[str], "said late"]


class Single(NamedTuple, Generic[T]):
    a: T


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Validated, Validated(1, [2])),
        (ValidatedSlots, ValidatedSlots(1)),
        (Aliased, Aliased(A=1)),
        (Numbers, Numbers([1])),
        (Box[int], Box[int](items=[1])),
        (Zoo, Zoo(pets=[Cat(), Dog(kind="dog")])),
        (Tagged, Tagged(1)),
        (WithDict, WithDict(1)),
        (Many[int], Many([1])),
        (Converted, Converted("1")),
        (Classic, Classic(1, (2,))),
        (Aliases, Aliases.EINS),
        (Aliases, Aliases.PAIR),
        (TupleEnum, TupleEnum.A),
        (Linked, Linked({"a": Aliases.ONE}, Linked())),
        (Bare, Bare((1,))),
        (Implements, Implements(1)),
        (Partial, {"a": 1, "c": 2}),
        (Partial, {"a": 1, "b": "x", "c": 2}),
        (Late, {"a": 1}),
        (Late, {"a": 1, "b": "x", "c": "y"}),
        (Single[int], Single(1)),
    ],
    ids=str,
)
def test_a_model_comes_back_the_same(annotation: Any, value: Any) -> None:
    """Aliases, converters, tags and generics change nothing about what is stored."""
    codec = codec_for(annotation)

    back = codec.decode(codec.encode(value))

    assert back == value
    assert same(back, value)


def test_a_computed_cached_property_of_a_slotted_class_is_not_stored() -> None:
    """Attrs keeps it in a slot of its own; the restored value computes it again."""
    value = Converted(1)
    assert value.double == 4
    codec = codec_for(Converted)

    back = codec.decode(codec.encode(value))

    assert back.double == 4


@pytest.mark.parametrize("name", ["KNOWN", "NEVER", None])
def test_an_enum_member_that_is_made_on_demand_is_refused(name: str | None) -> None:
    """It would come back as the member whose name it bears, or not at all."""

    class Open(enum.Enum):
        KNOWN = "known"

        @classmethod
        def _missing_(cls, value: object) -> Any:
            made = object.__new__(cls)
            made._name_, made._value_ = cast("str", name), value
            return made

    codec = codec_for(list[Open])

    assert codec.decode(codec.encode([Open("known")])) == [Open.KNOWN]
    with pytest.raises(EncodeError, match=r"a member of Open at \[0\], got .*_missing_"):
        codec.encode([Open("unknown")])


def test_a_combination_of_flags_comes_back() -> None:
    """A flag is stored by its value, whether or not that has a name."""

    class Open(enum.Flag, boundary=enum.KEEP):
        A = 1
        B = 2

    codec = codec_for(Open)

    for value in (Open.A | Open.B, Open(0), Open(8), ~Open.A):
        assert codec.decode(codec.encode(value)) is value


@pytest.mark.parametrize("mark", ["_fields", "__required_keys__"])
def test_a_class_is_no_tuple_or_dict_by_an_attribute_alone(mark: str) -> None:
    """Others use these names too, an AST's nodes for example."""
    kind = type("Node", (), {mark: ("a",), "__iter__": lambda self: iter("a")})

    with pytest.raises(ConfigurationError, match="no value of Node"):
        codec_for(kind)


@dataclasses.dataclass(slots=True, weakref_slot=True)
class Slotted:
    a: int


@attrs.define
class Defined:
    a: int


class SlottedChild(Slotted):
    __slots__ = ("other",)


class DefinedChild(Defined):
    __slots__ = ("other",)


class DictChild(Slotted):
    other: Any  # stands in its __dict__


@dataclasses.dataclass
class SlottedByHand:
    __slots__ = ("a", "other")
    a: int


@pytest.mark.parametrize("cls", [SlottedChild, DefinedChild, DictChild, SlottedByHand])
def test_state_that_is_no_field_is_refused(cls: Any) -> None:
    """Wherever it stands; what is not there cannot get lost."""
    codec, value = codec_for(cls), cls(1)

    assert codec.decode(codec.encode(value)).a == 1
    value.other = 2
    with pytest.raises(EncodeError, match="other attributes too: other"):
        codec.encode(value)


class Checked(msgspec.Struct):
    a: int

    def __post_init__(self) -> None:
        if self.a < 0:
            raise ValueError
        self.a += 1


def test_what_the_post_init_of_a_struct_assigns_is_put_back() -> None:
    """It runs, as a struct cannot be made without it; what it raises for is unreadable."""
    codec, value = codec_for(Checked), Checked(1)

    assert codec.decode(codec.encode(value)).a == 2
    value.a = -1
    with pytest.raises(DecodeError):
        codec.decode(codec.encode(value))
