"""Structured fields are parsed strictly: what is invalid is nothing at all."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.http.structured import Token, dictionary_of, list_of


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"  ", []),
        (b"1", [1]),
        (b"-15", [-15]),
        (b"999999999999999", [999_999_999_999_999]),
        (b"1.5, -0.125", [Decimal("1.5"), Decimal("-0.125")]),
        (b'"a b", ""', ["a b", ""]),
        (rb'"a\"b\\c"', ['a"b\\c']),
        (b"foo/bar:baz, *x", ["foo/bar:baz", "*x"]),
        (b":aGVsbG8=:", [b"hello"]),
        (b"::", [b""]),
        (b"?1, ?0", [True, False]),
        (b"@1659578233", [1_659_578_233]),
        (b'%"f%c3%bcr"', ["f\N{LATIN SMALL LETTER U WITH DIAERESIS}r"]),
        (b'(), (1  "a");x, ( ?1 )', [(), (1, "a"), (True,)]),
        (b'a;x;y=1; z="q,;", b', ["a", "b"]),
        (b"a\t,\tb", ["a", "b"]),
        (b"a ", ["a"]),
    ],
)
def test_a_list_has_items_of_each_kind(text: bytes, expected: list[Any]) -> None:
    """Parameters are dropped."""
    assert list_of([text]) == expected


def test_a_word_is_told_from_a_string() -> None:
    """Only one of them stands in quotes."""
    word, string = list_of([b'a, "a"']) or []

    assert isinstance(word, Token)
    assert not isinstance(string, Token)
    assert word == string


@pytest.mark.parametrize(
    "text",
    [
        b",", b"a,", b",a", b"a,,b", b"a b", b'"a', b'a"', b'"\x7f"', rb'"\a"', b"'a'",
        b"1000000000000000", b"1.", b".5", b"1.2345", b"1234567890123.1", b"-", b"--1", b"+1",
        b"1.2.3", b"?2", b"?", b"?true", b":a", b":a:", b":aGVsbG8:x", b"(", b"(a", b"a)", b"(a,b)",
        b'("a""b")', b"a;", b"a;X", b"a;x=", b"a; =1", b"\xc3\xbc", b'"\xc3\xbc"', b"@1.5", b"@x",
        b'%"%C3"', b'%"%ff"', b'%"a', b"a\n",
    ],
)  # fmt: skip
def test_what_is_invalid_is_no_list(text: bytes) -> None:
    """Not even the part that is well-formed."""
    assert list_of([text]) is None
    assert list_of([b"ok", text]) is None


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], {}),
        ([b"a"], {"a": True}),
        ([b"a=1, b=?0", b'c="x"'], {"a": 1, "b": False, "c": "x"}),
        ([b"a=1, a=2"], {"a": 2}),
        ([b"a;x=1, b=(1 2);y"], {"a": True, "b": (1, 2)}),
        ([b"*a-b_c.d=1"], {"*a-b_c.d": 1}),
    ],
)
def test_a_dictionary_has_members_by_name(lines: list[bytes], expected: dict[str, Any]) -> None:
    """The last of a name counts."""
    assert dictionary_of(lines) == expected


@pytest.mark.parametrize(
    "text", [b"A=1", b"a =1", b"a= 1", b"a=", b"=1", b"1=a", b"a=1 b=2", b"a,"]
)
def test_what_is_invalid_is_no_dictionary(text: bytes) -> None:
    """Names are in lower case, and nothing stands around the sign."""
    assert dictionary_of([text]) is None


@given(st.lists(st.text('abA1-.=",;()?:@% \\\t*', max_size=20).map(str.encode), max_size=3))
def test_no_text_breaks_it(lines: list[bytes]) -> None:
    """It is well-formed or not."""
    assert dictionary_of(lines) is None or isinstance(dictionary_of(lines), dict)
    found = list_of(lines)
    assert found is None or all(item is not None for item in found)


@given(st.lists(st.binary(max_size=20), max_size=3))
def test_no_bytes_break_it(lines: list[bytes]) -> None:
    """Neither do those that are no text."""
    for parse in (dictionary_of, list_of):
        parse(lines)
