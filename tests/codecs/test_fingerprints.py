"""Fingerprints: one per shape, the same in every process and on every Python."""

import dataclasses
import enum
from typing import Any, List, Literal, TypedDict, Union, cast  # noqa: UP035 - typing's own cache is the subject

import pytest

from async_tiercache.codecs import codec_for
from async_tiercache.errors import ConfigurationError
from tests.codecs.families import Account, Color, Item, Order, Page, Pair, Point, Row, Tree, User

LIST: Any = list
BASE = [("id", int), ("name", str)]


def model(fields: list[tuple[str, Any]], name: str = "Model") -> Any:
    return dataclasses.make_dataclass(name, fields)


@pytest.mark.parametrize(
    "fields",
    [
        [*BASE, ("email", str)],
        BASE[:1],
        [("id", int), ("title", str)],
        [("id", str), ("name", str)],
        [("id", int), ("name", str | None)],
        BASE[::-1],
    ],
    ids=["added", "removed", "renamed", "retyped", "optional", "reordered"],
)
def test_a_changed_field_changes_the_fingerprint(fields: list[tuple[str, Any]]) -> None:
    """Entries of the old shape are of another schema, also when the model is nested."""
    before, after = model(BASE), model(fields)

    assert codec_for(before).fingerprint != codec_for(after).fingerprint
    assert codec_for(LIST[before]).fingerprint != codec_for(LIST[after]).fingerprint


def test_a_changed_enum_changes_the_fingerprint() -> None:
    """Names and values both count."""
    shapes = [{"A": 1}, {"A": 2}, {"B": 1}, {"A": 1, "B": 2}]

    found = {codec_for(enum.Enum("E", members)).fingerprint for members in shapes}

    assert len(found) == len(shapes)


def test_the_family_and_the_name_count() -> None:
    """A row of one model is never read as another's."""
    shapes = [model(BASE), model(BASE, "Other"), TypedDict("Model", dict(BASE))]  # type: ignore[operator]

    assert len({codec_for(shape).fingerprint for shape in shapes}) == 3


def test_the_schema_version_counts() -> None:
    """It covers what no type shows."""
    assert codec_for(Any).fingerprint != codec_for(Any, schema_version="1").fingerprint


def test_the_order_in_a_union_does_not_count() -> None:
    """`typing` returns whichever spelling it met first, so it means nothing."""
    assert List[Union[int, str]] == List[Union[str, int]]  # noqa: UP006, UP007

    both = codec_for(int | Color | User), codec_for(User | Color | int)

    assert both[0].fingerprint == both[1].fingerprint
    assert both[0].encode(Color.RED) == both[1].encode(Color.RED)


def of_module(module: str) -> tuple[Any, Any, Any]:
    kind, color = model(BASE), cast("Any", enum.Enum("Color", "RED"))
    kind.__module__ = color.__module__ = module
    return kind, LIST[kind], Literal[color.RED]


@pytest.mark.parametrize("form", [0, 1, 2], ids=["model", "list", "literal"])
def test_the_order_of_classes_of_one_name_does_not_count(form: int) -> None:
    """All who bear the name are told apart by their modules, not only who comes second."""
    one, two = of_module("one")[form], of_module("two")[form]

    there, back = codec_for(one | two), codec_for(two | one)

    assert there.fingerprint == back.fingerprint
    assert "one." in there.schema
    assert "two." in there.schema


def test_classes_of_one_name_come_back_as_themselves() -> None:
    """In whatever order the reader names them."""
    one, two = of_module("one")[0], of_module("two")[0]

    for value in (one(1, "a"), two(1, "a")):
        assert type(codec_for(two | one).decode(codec_for(one | two).encode(value))) is type(value)


def test_two_classes_that_nothing_tells_apart_are_refused() -> None:
    """They have the module in common, too."""
    with pytest.raises(ConfigurationError, match=r"two classes are called [\w.]+\.Model,"):
        codec_for(model(BASE) | model(BASE))


def test_equal_models_have_equal_fingerprints() -> None:
    """Made twice, described once."""
    assert codec_for(model(BASE)).fingerprint == codec_for(model(BASE)).fingerprint


@pytest.mark.parametrize(
    ("annotation", "fingerprint"),
    [
        (Any, "39aab72454212e6c"),
        (dict[str, list[int | None]], "aba74ba7146fe890"),
        (User, "8361ca3cad72124e"),
        (Order, "e7e173c929eea52c"),
        (Tree, "9a98a28236df35b8"),
        (Page[User], "3c4e1e65bab3bfcd"),
        (Account, "c63974b7437a7435"),
        (Item, "349b92863e123910"),
        (Point, "78adb2c9b41e3253"),
        (Pair, "02b798be987d385a"),
        (Row, "2f07f7a6ef917486"),
    ],
    ids=str,
)
def test_fingerprints_are_the_same_for_ever(annotation: Any, fingerprint: str) -> None:
    """They are compared between releases and between versions of Python."""
    assert codec_for(annotation).fingerprint.hex() == fingerprint
