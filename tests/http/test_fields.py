"""Header fields are read by their grammar, and what breaks it is nothing else than it is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.http.fields import (
    LONGEST_SECONDS,
    date_of,
    elements_of,
    lines_of,
    seconds_of,
    unquoted,
)

NOW = 1_764_417_600.0  # 29 November 2025


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        pytest.param([], [], id="absent"),
        pytest.param([b""], [], id="empty"),
        pytest.param([b" , ,\t"], [], id="only commas"),
        pytest.param([b"a,b , c"], [b"a", b"b", b"c"], id="spaces"),
        pytest.param([b"a", b"b"], [b"a", b"b"], id="lines"),
        pytest.param([b'a="x, y", b'], [b'a="x, y"', b"b"], id="comma in quotes"),
        pytest.param([rb'a="x\", y", b'], [rb'a="x\", y"', b"b"], id="escaped quote"),
        pytest.param([b'a="x, no-store'], [b'a="x, no-store'], id="quotes that do not end"),
        pytest.param([b'a="x, y\\'], [b'a="x, y\\'], id="escape that does not end"),
    ],
)
def test_a_list_is_split_outside_of_quotes(lines: list[bytes], expected: list[bytes]) -> None:
    """Its lines are one list."""
    assert elements_of(lines) == expected


@given(st.lists(st.binary(max_size=30), max_size=3))
def test_no_bytes_stop_a_list_from_being_split(lines: list[bytes]) -> None:
    """Each element is a part of a line."""
    for element in elements_of(lines):
        assert any(element in line for line in lines)
        assert unquoted(element) is not None


def test_lines_of_a_field_keep_their_order() -> None:
    """Other fields are none of them."""
    fields = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]

    assert lines_of(fields, b"a") == [b"1", b"3"]
    assert lines_of(fields, b"c") == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"0", 0),
        (b"003600", 3600),
        (b"2147483647", 2**31 - 1),
        (b"2147483648", LONGEST_SECONDS),
        (b"9" * 5_000, LONGEST_SECONDS),
        (b"", None),
        (b"-1", None),
        (b"+1", None),
        (b"1.0", None),
        (b"1 ", None),
        (b"1a", None),
        ("\N{ARABIC-INDIC DIGIT ONE}".encode(), None),
    ],
)
def test_seconds_are_digits_and_nothing_else(text: bytes, expected: int | None) -> None:
    """However many there are."""
    assert seconds_of(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        (b"Sunday, 06-Nov-94 08:49:37 GMT", 784111777.0),
        (b"Sun Nov  6 08:49:37 1994", 784111777.0),
        (b"Thursday, 18-Aug-50 02:01:18 GMT", 2544400878.0),
        (b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800.0),
        (b"Sun, 06 Nov 1994 08:49:37 gMT", 784111777.0),
        (b"SUN, 06 Nov 1994 08:49:37 GMT", 784111777.0),
        (b"Sun, 06 NOV 1994 08:49:37 GMT", 784111777.0),
        (b"sunday, 06-nov-94 08:49:37 gmt", 784111777.0),
        (b"sun nov  6 08:49:37 1994", 784111777.0),
    ],
)
def test_a_date_has_one_of_three_forms(text: bytes, expected: float) -> None:
    """In letters of any case (RFC 9111, 4.2); two digits of a year are of the nearest century."""
    assert date_of(text, now=NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"0",
        b"-1",
        b"Sun, 06 Nov 1994 08:49:37",
        b"Sun, 06 Nov 1994 08:49:37 UTC",
        b"Sun, 06 Nov 1994 08:49:37 +0000",
        b"Sun, 06 Nov 94 08:49:37 GMT",
        b"Sun, 6 Nov 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 8:49:37 GMT",
        b"Sun, 06 Nov 1994 08.49.37 GMT",
        b"Sun, 06-Nov-1994 08:49:37 GMT",
        b"Sun,  06 Nov 1994 08:49:37 GMT",
        b"Sun 06 Nov 1994 08:49:37 GMT",
        b"Sun, 31 Feb 1994 08:49:37 GMT",
        b"Sun, 06 Nov 1994 24:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:61 GMT",
        b"Sun, 06 Nov 0000 08:49:37 GMT",
        b"Sun, 06 Nov 1994 08:49:37 GMT\n",
    ],
)
def test_what_is_nearly_a_date_is_none(text: bytes) -> None:
    """To guess what was meant might make it live longer."""
    assert date_of(text, now=NOW) is None


@given(st.binary(max_size=40), st.floats(0, 4e9))
def test_no_bytes_break_dates(text: bytes, now: float) -> None:
    """They are a date or none."""
    assert date_of(text, now=now) is None or text.strip()
