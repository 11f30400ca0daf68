"""The typed codec: every family of types comes back as it was, anything else is refused."""

import asyncio
import dataclasses
import io
import sys
from collections import OrderedDict, namedtuple
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    MutableSequence,
    Sequence,
)
from collections.abc import (
    Set as AbstractSet,
)
from dataclasses import InitVar, dataclass, field
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import (
    Annotated,
    Any,
    Final,
    Generic,
    Literal,
    LiteralString,
    NewType,
    NoReturn,
    Self,
    TypeVar,
)
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest

from async_tiercache.codecs import codec_for
from async_tiercache.errors import ConfigurationError, DecodeError, EncodeError
from tests.codecs.families import (
    Access,
    Account,
    Child,
    Color,
    Computed,
    Hashed,
    Item,
    Level,
    Order,
    Page,
    Pair,
    Point,
    Row,
    Tree,
    Unit,
    User,
    UserPage,
    same,
)

USER = User(1, "Ada", ["admin"])
UserId = NewType("UserId", int)
Bound = TypeVar("Bound", bound=User)
Constrained = TypeVar("Constrained", int, str)
T = TypeVar("T")
BARE = namedtuple("BARE", "x y")  # noqa: PYI024 - the point is that it has no annotations


@dataclass
class Grow(Generic[T]):
    value: T
    next: "Grow[list[T]] | None" = None


def through(annotation: Any, value: Any) -> Any:
    codec = codec_for(annotation)
    return codec.decode(codec.encode(value))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (None, None),
        (int, 2**200),
        (int, -(2**64)),
        (int, True),
        (float, 1),
        (float, float("nan")),
        (float, -0.0),
        (complex, complex(-0.0, float("inf"))),
        (Decimal, Decimal("-1.500")),
        (Decimal, Decimal("sNaN123")),
        (bytes, b"\x00\xff"),
        (bytearray, bytearray(b"x")),
        (LiteralString, "text"),
        (UserId, 7),
        (Annotated[int, "positive"], 7),
        (Final[int], 7),
        (Bound, USER),
        (Constrained, "a"),
        (TypeVar("Free"), [1, (2,)]),
        (list, [1, "a", (2,)]),
        (dict, {1: ("a",)}),
        (tuple, (1, "a")),
        (tuple[()], ()),
        (set, {1, "a"}),
        (Sequence[int], (1, 2)),
        (Sequence[int], [1, 2]),
        (Collection[str], ["a"]),
        (Iterable[str], ["a"]),
        (MutableSequence[int], [1]),
        (AbstractSet[int], frozenset({1})),
        (Mapping[str, int], {"a": 1}),
        (MutableMapping[str, int], {"a": 1}),
        (dict[tuple[int, str], User], {(1, "a"): USER}),
        (dict[Color, int], {Color.RED: 1}),
        (dict[frozenset[int], int], {frozenset({1, 2}): 3}),
        (Color, Color.BLUE),
        (Level, Level.HIGH),
        (Unit, Unit.KILO),
        (Access, Access.READ | Access.WRITE),
        (Literal["a", 1, True, Color.RED], True),
        (Literal["a", 1, True, Color.RED], Color.RED),
        (User | None, None),
        (User | Account | None, Account(id=1)),
        (int | str, "1"),
        (bool | float | Color, True),
        (Color | str, "RED"),
        (list[int] | list[str], ["a"]),
        (User | dict[str, Any], {"id": 1}),
        (User | Any, USER),
        (User | Any, [1]),
        (Any | None, None),
        (list[User], [USER, User(2, "Bob")]),
        (Order, Order(total=Decimal(1), user=USER)),
        (Tree, Tree(1, [Tree(2), Tree(3, [Tree(4)])])),
        (Child, Child(1, "a", age=3)),
        (Page[User], Page([USER], Page([]))),
        (Page[int | str], Page([1, "a"])),
        (UserPage, UserPage([USER], Page([]), total=1)),
        (Computed, Computed(2)),
        (Item, Item("a", 1.5)),
        (Point, Point(1, 2)),
        (Pair, Pair(1, Color.BLUE)),
        (BARE, BARE(1, ("a",))),
        (Row, {"id": 1}),
        (Row, {"id": 1, "note": "x"}),
        (Account, Account(id=1, email=None, children=[Account(id=2)])),
    ],
    ids=str,
)
def test_a_value_of_the_annotation_comes_back_the_same(annotation: Any, value: Any) -> None:
    """Equal, and of identical type all the way down."""
    assert same(through(annotation, value), value)


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, "1"),
        (int, 1.0),
        (bool, 1),
        (str, b"a"),
        (str, Unit.KILO),
        (list[int], (1,)),
        (tuple[int, ...], [1]),
        (tuple[int, str], (1,)),
        (Sequence[str], "text"),
        (Color, "RED"),
        (Literal[1], True),
        (User, USER.__dict__),
        (User, Child(1, "a")),
        (Row, {}),
        (Row, {"id": 1, "other": 2}),
        (dict[str, int], OrderedDict(a=1)),
        (datetime, datetime(2024, 1, 1).date()),  # noqa: DTZ001
        (Any, USER),
        (Any, Color.RED),
        (Any, Level.LOW),
        (Any, Pair(1)),
        (Any, bytearray(b"x")),
        (Any, memoryview(b"x")),
        (Any, object()),
        (Any, asyncio.Lock()),
        (Any, io.BytesIO()),
        (Any, (x for x in [1])),
        (Any, {"a": {1: (object(),)}}),
    ],
    ids=repr,
)
def test_a_value_of_another_type_is_refused(annotation: Any, value: Any) -> None:
    """What would come back as something else is an EncodeError."""
    with pytest.raises(EncodeError, match="expected"):
        codec_for(annotation).encode(value)


def test_the_error_says_what_was_expected_and_where() -> None:
    """The path leads from the returned value to the part that does not fit."""
    orders = {"open": [Order(total=Decimal(1)), Order(total=Decimal(2), user=User(1, 2))]}  # type: ignore[arg-type]

    with pytest.raises(EncodeError) as caught:
        codec_for(dict[str, list[Order]]).encode(orders)

    assert "expected str at ['open'][1].user.name, got int" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "hint"),
    [
        (iter([1]), "list(rows)"),
        (type("Record", (), {"keys": lambda self: []})(), "dict(row)"),
        (type("SqlRow", (), {"_mapping": {}})(), "row._mapping"),
        (io.StringIO(), "content"),
        (type("Future", (), {"__await__": iter})(), "Await"),
        (type("Cursor", (), {"__aiter__": lambda self: self})(), "async for"),
        (type("Text", (str,), {})(), "subclass of str"),
        (type("MappedRow", (), {})(), "dataclass or pydantic model"),
        (USER, "Annotate User"),
    ],
    ids=lambda part: part if isinstance(part, str) else type(part).__name__,
)
def test_the_hint_fits_what_was_returned(value: Any, hint: str) -> None:
    """Cursors, records, files and awaitables are told apart."""
    with pytest.raises(EncodeError) as caught:
        codec_for(Any).encode(value)

    assert hint in caught.value.hint


def test_a_lone_surrogate_is_refused() -> None:
    """Text that has no UTF-8 form is an EncodeError, not a crash."""
    with pytest.raises(EncodeError, match="surrogate"):
        codec_for(list[str]).encode(["\ud800"])


def test_a_value_that_holds_itself_is_refused() -> None:
    """A cycle ends in an EncodeError."""
    loop: list[Any] = []
    loop.append(loop)
    tree = Tree(1)
    tree.children.append(tree)

    for annotation, value in ((Any, loop), (Tree, tree)):
        with pytest.raises(EncodeError):
            codec_for(annotation).encode(value)


def test_an_error_of_the_value_itself_is_an_error_of_encoding() -> None:
    """Also one that cannot be spelled; the codec promises no other."""

    class Speechless(Exception):
        def __str__(self) -> str:
            raise ZeroDivisionError

    class Zone(tzinfo):
        def utcoffset(self, when: datetime | None) -> timedelta:
            raise Speechless

    with pytest.raises(EncodeError, match="Speechless") as caught:
        codec_for(datetime).encode(datetime(2024, 1, 1, tzinfo=Zone()))  # type: ignore[abstract]

    assert isinstance(caught.value.__cause__, Speechless)


def test_a_codec_works_on_after_a_refusal() -> None:
    """A failed encode leaves nothing behind that the next one would pack."""
    codec = codec_for(Any)
    with pytest.raises(EncodeError):
        codec.encode([1, "\ud800"])

    assert codec.decode(codec.encode([1])) == [1]


def test_encoding_inside_an_encoding_works() -> None:
    """A property that encodes while its model is taken apart does not disturb it."""
    inner = codec_for(Any)

    class Zone(tzinfo):
        def utcoffset(self, when: datetime | None) -> timedelta:
            assert inner.decode(inner.encode([1])) == [1]
            return timedelta(hours=1)

    moment = datetime(2024, 1, 1, tzinfo=Zone())  # type: ignore[abstract]

    assert through(list[datetime], [moment, moment]) == [moment, moment]


@pytest.mark.parametrize(
    "zone",
    [None, UTC, timezone(timedelta(hours=-3, minutes=7)), ZoneInfo("Europe/Prague")],
    ids=str,
)
def test_a_time_zone_comes_back_as_it_was(zone: tzinfo | None) -> None:
    """`timezone` and `ZoneInfo` keep class, offset and, in the repeated hour, fold."""
    moment = datetime(2024, 10, 27, 2, 30, tzinfo=zone, fold=1)

    back = through(datetime, moment)

    assert (back, back.fold, back.utcoffset()) == (moment, 1, moment.utcoffset())
    assert back.tzinfo == zone
    assert type(back.tzinfo) is type(zone)


def test_another_time_zone_class_comes_back_as_its_offset() -> None:
    """Pydantic's and drivers' own classes are stored as the offset that they had."""
    moment = pydantic.TypeAdapter(datetime).validate_python("2024-01-01T00:00:00+02:00")

    back = through(datetime, moment)

    assert back == moment
    assert back.tzinfo == timezone(timedelta(hours=2))


def test_a_name_of_a_fixed_offset_is_lost() -> None:
    """It takes no part in equality."""
    moment = datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=-5), "EST"))

    back = through(datetime, moment)

    assert back == moment
    assert back.tzname() == "UTC-05:00"


@pytest.mark.parametrize("fold", [0, 1])
def test_a_repeated_hour_of_another_time_zone_class_is_refused(fold: int) -> None:
    """Python calls it equal to no time at a fixed offset."""

    class Berlin(tzinfo):
        def utcoffset(self, when: datetime | None) -> timedelta | None:
            return None if when is None else ZoneInfo("Europe/Berlin").utcoffset(when)

    moment = datetime(2024, 10, 27, 2, 30, tzinfo=Berlin(), fold=fold)  # type: ignore[abstract]
    before = moment - timedelta(hours=1)

    assert through(datetime, before) == before
    with pytest.raises(EncodeError, match="one of Berlin in a repeated hour"):
        codec_for(datetime).encode(moment)


def test_a_plain_list_is_packed_without_a_copy_of_its_own() -> None:
    """list[int] has the same bytes as msgpack's own."""
    assert codec_for(list[int]).encode([1, 2]) == b"\x92\x01\x02"


@pytest.mark.parametrize(
    "annotation",
    [
        Iterator[int],
        AsyncIterator[int],
        Awaitable[int],
        Callable[..., int],
        OrderedDict[str, int],
        NoReturn,
        Self,
        tuple[int, *tuple[str, ...]],
        "User",
        list["User"],
        type[int],
        memoryview,
        object.__class__,
        UUID | io.BytesIO,
    ],
    ids=str,
)
def test_an_annotation_that_cannot_be_stored_is_refused_at_once(annotation: Any) -> None:
    """Configuration errors come from the decorator, not from the first request."""
    with pytest.raises(ConfigurationError) as caught:
        codec_for(annotation)

    assert caught.value.hint


def _refused_models() -> list[Any]:
    @dataclass
    class WithInitVar:
        a: InitVar[int]

    @dataclass
    class WithNew(Exception):
        a: int

    @dataclass
    class Unresolvable:
        a: "Nowhere"  # type: ignore[name-defined]  # noqa: F821

    class Private(pydantic.BaseModel):
        _secret: int = 1

    return [WithInitVar, WithNew, Unresolvable, Private]


@pytest.mark.parametrize("model", _refused_models(), ids=lambda model: model.__name__)
def test_a_model_that_cannot_be_restored_is_refused_at_once(model: Any) -> None:
    """State that no field holds would be lost."""
    with pytest.raises(ConfigurationError) as caught:
        codec_for(model)

    assert caught.value.hint


def test_attributes_beside_the_fields_are_refused() -> None:
    """They would be missing when the value comes back."""
    user = User(1, "a")
    user.extra = 1  # type: ignore[attr-defined]

    with pytest.raises(EncodeError, match="other attributes too: extra"):
        codec_for(User).encode(user)


def test_pydantic_extras_are_refused() -> None:
    """Fields that no annotation describes are not stored."""

    class Open(pydantic.BaseModel, extra="allow"):
        a: int

    codec = codec_for(Open)

    assert codec.decode(codec.encode(Open(a=1))) == Open(a=1)
    with pytest.raises(EncodeError, match="extra_field"):
        codec.encode(Open(a=1, extra_field=2))  # type: ignore[call-arg]


def test_cached_properties_are_not_stored() -> None:
    """What can be computed again is no reason to refuse a value."""
    value = Computed(2)
    assert value.tripled == 6

    back = through(Computed, value)

    assert "tripled" not in vars(back)
    assert back.tripled == 6


def test_restoring_runs_no_code_of_the_model() -> None:
    """Neither `__init__` nor `__post_init__` may change what was stored."""

    @dataclass
    class Counted:
        n: int

        def __post_init__(self) -> None:
            self.n += 1

    class Doubled(msgspec.Struct):
        n: int

        def __post_init__(self) -> None:
            self.n *= 2

    assert through(Counted, Counted(1)).n == 2
    assert through(Doubled, Doubled(1)).n == 2


def test_fields_left_unset_in_a_model_are_refused() -> None:
    """An instance without one of its fields is no value of its class."""

    @dataclass(slots=True)
    class Late:
        a: int = field(init=False)

    with pytest.raises(EncodeError, match="every field"):
        codec_for(Late).encode(Late())


def test_a_cached_hash_is_computed_again() -> None:
    """Attrs keeps the hash in the instance; a restored one has none yet."""
    assert hash(through(Hashed, Hashed(1))) == hash(Hashed(1))


def test_pydantic_remembers_which_fields_were_given() -> None:
    """They take part in equality and in `model_dump(exclude_unset=True)`."""
    assert through(Account, Account(id=1)).model_fields_set == {"id"}


def test_keyword_only_structs_come_back() -> None:
    """Msgspec structs are built by keyword where they must be."""

    class Kw(msgspec.Struct, kw_only=True):
        a: int = 0
        b: str

    assert through(Kw, Kw(b="x")) == Kw(b="x")


def test_attrs_classes_without_annotations_hold_plain_data() -> None:
    """A field without a type is `Any`."""
    model = attrs.make_class("Loose", ["a"])

    assert through(model, model(a=(1, 2))) == model(a=(1, 2))


def test_models_of_the_same_name_are_told_apart() -> None:
    """Two classes may share a name; a union of them keeps both."""
    first = dataclasses.make_dataclass("Twin", [("a", int)])
    second = dataclasses.make_dataclass("Twin", [("b", int)])
    second.__module__ = "other"  # from 3.12 on it is the caller's whatever the name space says

    back = [through(first | second, value) for value in (first(1), second(2))]

    assert back == [first(1), second(2)]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="the type statement is Python 3.12's")
def test_recursive_type_aliases_are_supported() -> None:
    """JSON as an alias, and generic aliases."""
    scope: dict[str, Any] = {}
    exec("type Json = dict[str, Json] | list[Json] | str | int | None", scope)
    exec("type Pairs[T] = list[tuple[T, T]]", scope)

    assert through(scope["Json"], {"a": [1, {"b": None}]}) == {"a": [1, {"b": None}]}
    assert through(scope["Pairs"][int], [(1, 2)]) == [(1, 2)]
    with pytest.raises(EncodeError, match=r"at \['a'\]\[0\]"):
        codec_for(scope["Json"]).encode({"a": [1.5]})


def test_a_model_that_contains_ever_more_types_is_refused() -> None:
    """Polymorphic recursion has no finite shape."""
    with pytest.raises(ConfigurationError, match="ever more"):
        codec_for(Grow[int])


@pytest.mark.parametrize(
    ("annotation", "payload"),
    [
        (int, b""),
        (int, b"\x01\x01"),
        (int, b"\xa1a"),
        (int, b"\xc1"),
        (User, b"\x91\x01"),
        (User, b"\x93\x01\x02\x90"),
        (User, b"\x94\x01\xa1a\x90\x01"),
        (Color, b"\xa5GREEN"),
        (Color | str, b"\x92\x09\xa1a"),
        (dict[tuple[int], int], b"\x92\x91\x91\x01\x90"),
        (list[int], b"\xdd\xff\xff\xff\xff"),
        (Any, b"\xdb\xff\xff\xff\xff"),
        (Any, b"\xdf\xff\xff\xff\xff"),
        (Any, b"\xc9\xff\xff\xff\xff\x09"),
        (Any, b"\x91" * 100_000),
        (Any, b"\x81" * 5_000),
        (Any, b"\xd4\x63\x00"),
        (Any, b"\xc7\x01\x09\x01"),
        (Any, b"\xc7\x01\x0a\x90\x90"),
        (datetime, b"\xc7\x0d\x04" + b"\xff" * 13),
        (datetime, b"\xc7\x13\x04\x07\xe8\x01\x01" + bytes(9) + b"@../tz"[:7]),
        (Tree, b"\x92\x01\x91" * 1_000),
        (str, b"\xa1\xff"),
    ],
    ids=lambda part: part[:12].hex() if isinstance(part, bytes) else str(part),
)
def test_bytes_that_are_no_value_raise_only_decode_errors(annotation: Any, payload: bytes) -> None:
    """Wrong kinds, lengths, depths and claims are all the same to the caller: a miss."""
    with pytest.raises(DecodeError):
        codec_for(annotation).decode(payload)


def test_deep_extensions_are_refused_before_the_stack_ends() -> None:
    """Tuples inside each other cost C stack when read, so their depth is bounded both ways."""
    payload = b"\x90"
    for _ in range(2_000):
        payload = b"\x91\xc9" + len(payload).to_bytes(4) + b"\x09" + payload
    value: Any = ()
    for _ in range(100):
        value = (value,)

    with pytest.raises(DecodeError):
        codec_for(Any).decode(payload)
    with pytest.raises(EncodeError, match="16 deep, got deeper ones\nHint: Annotate"):
        codec_for(Any).encode(value)


def test_a_memoryview_decodes_like_bytes() -> None:
    """The payload of a frame is read without a copy."""
    codec = codec_for(User)

    assert codec.decode(memoryview(codec.encode(USER))) == USER


@pytest.mark.skipif(sys.version_info < (3, 12), reason="type parameters are Python 3.12's")
def test_type_parameters_are_resolved_in_string_annotations() -> None:
    """A generic model may name itself with its own parameter."""
    scope: dict[str, Any] = {"dataclass": dataclass}
    exec("@dataclass\nclass Box[T]:\n    items: list[T]\n    next: 'Box[T] | None' = None", scope)
    box = scope["Box"]

    assert same(through(box[int], box([1], box([]))), box([1], box([])))
