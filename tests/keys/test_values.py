"""The text of one argument: documented, stable, and never shared by two different values."""

# ruff: noqa: DTZ001, PIE796, PYI024
# Naive times, enum aliases and old named tuples are what these tests are about.

import enum
import math
import os
import subprocess
import sys
import types
import uuid
from collections import OrderedDict, defaultdict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.errors import UnkeyableError
from async_tiercache.keys import canonical, escape

HERE = __name__


class Color(enum.Enum):
    RED = 1
    CRIMSON = 1
    BLUE = 2


class Level(enum.IntEnum):
    ONE = 1


class Word(enum.StrEnum):
    A = "a"


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


class Open(enum.Enum):
    KNOWN = "known"

    @classmethod
    def _missing_(cls, value: object) -> "Open":
        member = object.__new__(cls)
        member._name_ = "UNKNOWN"
        member._value_ = value  # type: ignore[assignment]
        return member


class UserId(int):
    pass


class Name(str):
    __slots__ = ()


class Slotted(str):
    __slots__ = ("extra",)


class DriverUUID(uuid.UUID):
    pass


class Pair(NamedTuple):
    left: Any
    right: Any = None


OldPair = namedtuple("OldPair", "left right")


class DerivedPair(OldPair):
    pass


@dataclass(frozen=True)
class Point:
    x: Any
    y: Any = 0


@dataclass(slots=True)
class Sparse:
    x: int
    y: int = field(init=False)


class LooserPoint(Point):
    pass


@attrs.define
class Attrs:
    x: Any


class Struct(msgspec.Struct):
    x: Any


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    x: Any


class Tenant:
    def __init__(self, key: object) -> None:
        self.key = key

    def __cache_key__(self) -> object:
        return self.key


class Opaque:
    pass


class Meta(type):
    pass


class WithMeta(metaclass=Meta):
    pass


class OddZone(tzinfo):
    def utcoffset(self, moment: datetime | None, /) -> timedelta | None:
        return None if moment is None else timedelta(hours=1)

    def dst(self, moment: datetime | None, /) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None, /) -> str | None:
        return None


SUMMER = datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Paris"))
IDENTIFIER = uuid.UUID("12345678-1234-5678-1234-567812345678")

TEXTS: list[tuple[object, str]] = [
    (42, "42"),
    (-1, "-1"),
    (10**30, "1" + "0" * 30),
    (True, "True"),
    (False, "False"),
    (None, "None"),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (0.1, "0.1"),
    (1e22, "1e+22"),
    (math.nan, "nan"),
    (math.inf, "inf"),
    (-math.inf, "-inf"),
    (1 + 2j, "complex[1.0:2.0]"),
    ("abc", "abc"),
    ("Jane Doe", "Jane Doe"),
    ("über/straße", "über/straße"),
    ("", "''"),
    ("42", "'42'"),
    ("-1", "'-1'"),
    ("007", "'007'"),
    ("1.5", "'1.5'"),
    ("1e+22", "'1e+22'"),
    ("inf", "'inf'"),
    ("nan", "'nan'"),
    ("None", "'None'"),
    ("True", "'True'"),
    ("none", "none"),
    ("2024-01-01", "2024-01-01"),
    ("a:b", "a%3Ab"),
    ("%*?[]{}\\'~", "%25%2A%3F%5B%5D%7B%7D%5C%27%7E"),
    ("a\nb\x7f", "a%0Ab%7F"),
    ("\u202e", "%E2%80%AE"),
    ("\ud800", "%ED%A0%80"),
    (b"", "b''"),
    (b"\x00\xff", "b'00ff'"),
    ([], "[]"),
    ([1, "1", ["a:b"]], "[1:'1':[a%3Ab]]"),
    ((), "t[]"),
    ((1, None), "t[1:None]"),
    (set[int](), "s[]"),
    ({10, 9}, "s[10:9]"),
    (frozenset({"b", "a"}), "f[a:b]"),
    ({}, "d[]"),
    ({"b": 1, "a": [2]}, "d[a:[2]:b:1]"),
    (range(3), "range[0:3:1]"),
    (date(2024, 1, 2), "date'2024-01-02'"),
    (time(1, 2, 3), "time'01%3A02%3A03'"),
    (datetime(2024, 1, 2, 3, 4), "datetime'2024-01-02T03%3A04%3A00'"),
    (datetime(2024, 1, 2, tzinfo=UTC), "datetime'2024-01-02T00%3A00%3A00+00%3A00'"),
    (SUMMER, "datetime'2024-07-01T12%3A00%3A00+02%3A00%5BEurope/Paris%5D'"),
    (datetime(2024, 1, 2, fold=1), "datetime'2024-01-02T00%3A00%3A00%5Bfold%5D'"),
    (timedelta(days=1, seconds=2, microseconds=3), "timedelta[1:2:3]"),
    (Decimal("1.00"), "Decimal'1.00'"),
    (IDENTIFIER, "UUID'12345678-1234-5678-1234-567812345678'"),
    (PurePosixPath("/a b/c"), "PurePosixPath'/a b/c'"),
    (Color.RED, f"{HERE}.Color'RED'"),
    (Color.CRIMSON, f"{HERE}.Color'RED'"),
    (Level.ONE, f"{HERE}.Level'ONE'"),
    (Word.A, f"{HERE}.Word'A'"),
    (Rights.READ | Rights.WRITE, f"{HERE}.Rights[3]"),
    (UserId(7), f"{HERE}.UserId[7]"),
    (Name("7"), f"{HERE}.Name['7']"),
    (Pair(1, "a"), f"{HERE}.Pair[left:1:right:a]"),
    (Point(1), f"{HERE}.Point[x:1:y:0]"),
    (Attrs([1]), f"{HERE}.Attrs[x:[1]]"),
    (Struct("1"), f"{HERE}.Struct[x:'1']"),
    (Model(x=1), f"{HERE}.Model[x:1]"),
    (Model.model_validate({"x": 1, "z": 2}), f"{HERE}.Model[x:1:d[z:2]]"),
    (Tenant("acme"), f"{HERE}.Tenant[acme]"),
    (Opaque, f"class'{HERE}.Opaque'"),
    (WithMeta, f"class'{HERE}.WithMeta'"),
    (int, "class'builtins.int'"),
]


@pytest.mark.parametrize(("value", "text"), TEXTS, ids=[text for _, text in TEXTS])
def test_documented_text_stays_the_same(value: object, text: str) -> None:
    """The format is public: keys of two releases meet in one L2."""
    assert canonical(value) == text


DIFFERENT: dict[str, tuple[object, object]] = {
    "None and empty": (None, ""),
    "None and its name": (None, "None"),
    "True and 1": (True, 1),
    "True and its name": (True, "True"),
    "True and lower case": (True, "true"),
    "1 and its text": (1, "1"),
    "1 and 1.0": (1, 1.0),
    "1.0 and its text": (1.0, "1.0"),
    "zero and minus zero": (0.0, -0.0),
    "one element with a separator and two": (["a:b"], ["a", "b"]),
    "list and tuple": ([1], (1,)),
    "tuple and its element": ((1,), 1),
    "list and its text": ([1, 2], "[1:2]"),
    "set and frozenset": ({1}, frozenset({1})),
    "set and list": ({1}, [1]),
    "nested on the left and on the right": ([[1], 2], [1, [2]]),
    "flat and nested": ([1, 2], [[1, 2]]),
    "bool and int in a container": ([True], [1]),
    "None and empty in a container": ([None], [""]),
    "empty list and empty tuple": ([], ()),
    "empty dict and empty set": ({}, set()),
    "empty list and list of an empty": ([], [[]]),
    "empty list and list of an empty str": ([], [""]),
    "dict and list of its items": ({"a": 1}, ["a", 1]),
    "dict of another split": ({"a": "b:c"}, {"a:b": "c"}),
    "bytes and str": (b"a", "a"),
    "bytes and their repr": (b"a", "b'61'"),
    "star and its escape": ("*", "%2A"),
    "StrEnum and str": (Word.A, "a"),
    "IntEnum and int": (Level.ONE, 1),
    "flag and its value": (Rights.READ, 1),
    "int subclass and int": (UserId(1), 1),
    "str subclass and str": (Name("a"), "a"),
    "Decimal of another exponent": (Decimal("1.0"), Decimal("1.00")),
    "Decimal and float": (Decimal("1.0"), 1.0),
    "UUID and its text": (IDENTIFIER, str(IDENTIFIER)),
    "one instant in two offsets": (
        datetime(2024, 1, 1, 12, tzinfo=UTC),
        datetime(2024, 1, 1, 13, tzinfo=timezone(timedelta(hours=1))),
    ),
    "one offset of two zones": (SUMMER, SUMMER.replace(tzinfo=ZoneInfo("Europe/Berlin"))),
    "aware and naive": (SUMMER, SUMMER.replace(tzinfo=None)),
    "date and midnight": (date(2024, 1, 1), datetime(2024, 1, 1)),
    "paths of two systems": (PurePosixPath("a"), PureWindowsPath("a")),
    "NamedTuple and tuple": (Pair(1, 2), (1, 2)),
    "dataclass and NamedTuple": (Point(1, 2), Pair(1, 2)),
    "dataclass and dict": (Point(1, 2), {"x": 1, "y": 2}),
    "class and its name": (Opaque, f"{HERE}.Opaque"),
    "class and its instance's key": (Tenant, Tenant("")),
    "one __cache_key__ and its value": (Tenant(1), 1),
    "composed and combining letter": ("\u00e9", "e\u0301"),
    "surrogate pair and its character": ("\ud83d\ude00", "\U0001f600"),
}


@pytest.mark.parametrize(("one", "other"), DIFFERENT.values(), ids=DIFFERENT)
def test_different_values_have_different_texts(one: object, other: object) -> None:
    """What other libraries merge into one key stays two."""
    assert canonical(one) != canonical(other)


SAME: dict[str, tuple[object, object]] = {
    "dict order": ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
    "set order": ({1, 9, 17}, {17, 9, 1}),
    "UUID of a driver": (DriverUUID(str(IDENTIFIER)), IDENTIFIER),
    "a named and a plain fixed offset": (
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=timezone(timedelta(0), "Z")),
    ),
    "UTC of zoneinfo and of datetime": (
        datetime(2024, 1, 1, tzinfo=UTC),
        datetime(2024, 1, 1, tzinfo=ZoneInfo("UTC")),
    ),
    "UTC of pydantic and of datetime": (
        datetime(2024, 1, 1, tzinfo=UTC),
        pydantic.TypeAdapter(datetime).validate_python("2024-01-01T00:00:00Z"),
    ),
    "set and unset default of a model": (Model(x=None), Model.model_construct(x=None)),
}


@pytest.mark.parametrize(("one", "other"), SAME.values(), ids=SAME)
def test_equal_values_have_one_text(one: object, other: object) -> None:
    """Where only order or origin differs, the key is the same."""
    assert canonical(one) == canonical(other)


def local_class() -> type:
    @dataclass
    class Local:
        x: int = 1

    return Local


def instance_of_a_local_class() -> object:
    return local_class()()


def cyclic() -> list[object]:
    values: list[object] = []
    values.append(values)
    return values


def with_attribute() -> UserId:
    value = UserId(1)
    value.tenant = "acme"  # type: ignore[attr-defined]
    return value


def derived_pair() -> DerivedPair:
    pair = DerivedPair(1, 2)
    pair.third = 3  # type: ignore[attr-defined]
    return pair


REFUSED: dict[str, Callable[[], object]] = {
    "default repr": Opaque,
    "object": object,
    "function": lambda: canonical,
    "module": lambda: math,
    "generic alias": lambda: list[int],
    "generator": lambda: (x for x in [1]),
    "iterator": lambda: iter([1]),
    "memoryview": lambda: memoryview(b""),
    "bytearray": lambda: bytearray(b""),
    "Fraction": lambda: Fraction(1, 2),
    "dict subclass": lambda: OrderedDict(a=1),
    "defaultdict": lambda: defaultdict(int),
    "str subclass with slots": lambda: Slotted("a"),
    "int subclass with attributes": with_attribute,
    "tuple subclass with attributes": derived_pair,
    "local class": local_class,
    "instance of a local class": instance_of_a_local_class,
    "class made by a call": lambda: type("Opaque", (), {}),
    "undecorated subclass of a dataclass": lambda: LooserPoint(1),
    "dataclass with an unset field": lambda: Sparse(1),
    "unknown enum member": lambda: Open("other"),
    "nested": lambda: {"a": [Opaque()]},
    "cycle": cyclic,
    "huge int": lambda: 10**5000,
    "zone of an unknown type": lambda: datetime(2024, 1, 1, tzinfo=OddZone()),
    "__cache_key__ that cannot be spelled": lambda: Tenant(Opaque()),
}


@pytest.mark.parametrize("make", REFUSED.values(), ids=REFUSED)
def test_value_without_a_text_of_its_own_is_refused(make: Callable[[], object]) -> None:
    """No repr, no address, no hash ever stands in a key."""
    value = make()

    with pytest.raises(UnkeyableError) as caught:
        canonical(value)

    assert caught.value.hint


def test_refusal_names_the_type_and_the_ways_out() -> None:
    """The message says what is wrong and what to do."""
    with pytest.raises(UnkeyableError, match=rf"{HERE}\.Opaque") as caught:
        canonical(Opaque())

    assert all(word in caught.value.hint for word in ("exclude=", "template", "__cache_key__"))


def test_refusal_is_repeated() -> None:
    """A refused type is refused at every call, not only at the first."""
    for _ in range(2):
        with pytest.raises(UnkeyableError):
            canonical(Opaque())


def test_classes_of_one_name_in_two_modules_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """The module is part of a class's name."""
    texts: set[str] = set()
    source = "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n"
    for name in ("shop_points", "map_points"):
        module = types.ModuleType(name)
        monkeypatch.setitem(sys.modules, name, module)
        exec(source, module.__dict__)
        texts.add(canonical(module.Point(1)))

    assert texts == {"shop_points.Point[x:1]", "map_points.Point[x:1]"}


@pytest.mark.parametrize("command", [["-m", "shop_job"], ["shop_job.py"]], ids=["-m", "script"])
def test_main_module_goes_by_the_name_that_others_import(
    command: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two programs both have a `__main__`; their classes must not meet under it."""
    folder = tmp_path_factory.mktemp("job")
    (folder / "shop_job.py").write_text(
        "from async_tiercache.keys import canonical\nclass Job: pass\nprint(canonical(Job))\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}

    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, check=True
    )

    assert done.stdout.decode().strip() == "class'shop_job.Job'"


def test_set_text_is_the_same_under_every_hash_seed() -> None:
    """Processes iterate one set in different orders and still spell one key."""
    code = "from async_tiercache.keys import canonical; print(canonical(set('abcdefgh')))"
    texts = {
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }

    assert {text.decode().strip() for text in texts} == {"s[a:b:c:d:e:f:g:h]"}


def moment_identity(value: datetime | time) -> object:
    zone = value.tzinfo.key if isinstance(value.tzinfo, ZoneInfo) else None
    return value.replace(tzinfo=None), value.fold, value.utcoffset(), zone


def identity(value: object) -> object:
    """What a value is: its type and, deeply, its content."""
    kind = type(value)
    match value:
        case float():
            content: object = repr(value)
        case list() | tuple():
            content = tuple(identity(item) for item in value)
        case set() | frozenset():
            content = frozenset(identity(item) for item in value)
        case dict():
            content = frozenset((identity(key), identity(item)) for key, item in value.items())
        case Point() | Attrs() | Struct() | Tenant():
            names = {Point: ("x", "y"), Tenant: ("key",)}.get(kind, ("x",))
            content = tuple(identity(getattr(value, name)) for name in names)
        case range():
            content = (value.start, value.stop, value.step)
        case Decimal():
            content = value.as_tuple()
        case datetime() | time():
            content = moment_identity(value)
        case _:
            content = value
    return kind, content


ZONES = st.sampled_from(
    [None, UTC, timezone(timedelta(hours=-5)), ZoneInfo("Europe/Paris"), ZoneInfo("Asia/Tokyo")]
)
STRINGS = st.one_of(
    st.text(alphabet="01a:%'[]~-.e", max_size=5),
    st.text(st.characters(), max_size=5),
    st.sampled_from(["None", "True", "False", "nan", "inf", "-inf", "1e5", "1.0", "t[", "b'00'"]),
    st.sampled_from([text for _, text in TEXTS]),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 30),
    st.integers(),
    st.sampled_from([0.0, -0.0, 1.0, math.inf, -math.inf, math.nan]),
    st.floats(),
    STRINGS,
    STRINGS.map(Name),
    st.integers(0, 3).map(UserId),
    st.binary(max_size=3),
    st.decimals().filter(lambda value: not value.is_snan()),  # not hashable
    st.uuids(),
    st.dates(),
    st.times(),
    st.datetimes(timezones=ZONES),
    st.timedeltas(),
    st.sampled_from([*Color, *Level, *Word, *(Rights(n) for n in range(4)), Opaque, Point, int]),
    st.builds(range, st.integers(0, 3), st.integers(0, 3)),
)
HASHABLE: st.SearchStrategy[Any] = st.deferred(
    lambda: SCALARS | st.tuples(HASHABLE) | st.frozensets(HASHABLE, max_size=2)
)
VALUES: st.SearchStrategy[Any] = st.deferred(
    lambda: st.one_of(
        SCALARS,
        st.lists(VALUES, max_size=2),
        st.lists(VALUES, max_size=2).map(tuple),
        st.sets(HASHABLE, max_size=2),
        st.frozensets(HASHABLE, max_size=2),
        st.dictionaries(HASHABLE, VALUES, max_size=2),
        st.builds(Pair, SCALARS, VALUES),
        st.builds(Point, SCALARS, VALUES),
        st.builds(Attrs, VALUES),
        st.builds(Struct, VALUES),
        st.builds(Tenant, VALUES),
    )
)


@given(st.lists(VALUES, min_size=2, max_size=8))
def test_texts_are_equal_exactly_for_one_type_and_content(values: list[object]) -> None:
    """The text is injective over all supported types, nested in one another."""
    for one in values:
        for other in values:
            assert (canonical(one) == canonical(other)) == (identity(one) == identity(other))


@given(SCALARS, SCALARS)
def test_scalar_texts_are_equal_exactly_for_one_type_and_content(
    one: object, other: object
) -> None:
    """Two scalars never share a text."""
    assert (canonical(one) == canonical(other)) == (identity(one) == identity(other))


@given(VALUES)
def test_string_of_a_text_has_another_text(value: object) -> None:
    """A str that spells another value is not mistaken for it."""
    text = canonical(value)

    assert (canonical(text) == text) == (value == text and type(value) is str)


@given(VALUES)
def test_text_is_safe_in_redis_and_logs(value: object) -> None:
    """No hash tag, no glob, nothing that breaks a line; brackets are balanced."""
    text = canonical(value)

    assert not set(text) & set("{}*?\\~\n\r\x00")
    assert text.encode()
    depth = 0
    for character in text:
        depth += (character == "[") - (character == "]")
        assert depth >= 0
        assert character != ":" or depth > 0
    assert depth == 0


@given(st.text(st.characters()), st.text(st.characters()))
def test_escaping_is_injective(one: str, other: str) -> None:
    """Escaped texts are equal only for equal texts."""
    assert (escape(one) == escape(other)) == (one == other)
