"""A part of a stored response, where a request asks for one that can be told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.http.fields import Fields, joined
from async_tiercache.http.ranges import Range, content_range_outside, range_of

DATE = b"Sun, 06 Nov 1994 08:49:37 GMT"
NOW = 784111777.0 + 60


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (b"bytes=0-0", (0, 0)),
        (b"bytes=2-4", (2, 4)),
        (b"bytes=2-", (2, 9)),
        (b"bytes=2-99", (2, 9)),
        (b"bytes=-3", (7, 9)),
        (b"bytes=-99", (0, 9)),
        (b"BYTES=9-9", (9, 9)),
        (b"bytes= 1-2 ", (1, 2)),
        (b"bytes=10-", "outside"),
        (b"bytes=10-20", "outside"),
        (b"bytes=-0", "outside"),
        (b"bytes=4-2", "whole"),
        (b"bytes=-", "whole"),
        (b"bytes=0-1,3-4", "whole"),
        (b"lines=0-1", "whole"),
        (b"bytes", "whole"),
        (b"bytes=a-b", "whole"),
        (b"bytes=0-9999999999999999999", "whole"),
    ],
)
def test_a_single_range_is_a_part(asked: bytes, expected: tuple[int, int] | str) -> None:
    """Several ones, and what is no range, are answered by the whole."""
    found = range_of({b"range": asked}, [], 10, born_at=NOW)

    assert found == (expected if isinstance(expected, str) else Range(*expected, 10))


def test_without_a_range_the_whole_is_asked_for() -> None:
    """Also with two of them."""
    asked = (b"range", b"bytes=0-1")

    assert range_of({}, [], 10, born_at=NOW) == "whole"
    assert range_of(joined([asked, asked]), [], 10, born_at=NOW) == "whole"


@pytest.mark.parametrize(
    ("condition", "current"),
    [
        (b'"a"', True),
        (b' "a"', True),
        (b'"b"', False),
        (b'W/"a"', False),
        (DATE, True),
        (b"Sun, 06 Nov 1994 08:49:38 GMT", False),
        (b"nonsense", False),
    ],
)
def test_a_range_of_something_else_is_none(condition: bytes, current: bool) -> None:
    """Parts of two contents would be put together (RFC 9110, 13.1.5)."""
    request = {b"range": b"bytes=0-1", b"if-range": condition}
    response = [(b"etag", b'"a"'), (b"last-modified", DATE)]

    assert (range_of(request, response, 10, born_at=NOW) != "whole") is current
    assert range_of(request, [(b"etag", b'W/"a"')], 10, born_at=NOW) == "whole"


@pytest.mark.parametrize(
    ("fields", "born_at", "current"),
    [
        ([], NOW, True),
        ([], NOW - 60, False),
        ([], NOW - 59.5, False),
        ([], NOW - 59, True),
        ([(b"date", DATE)], NOW, False),
        ([(b"date", b"Sun, 06 Nov 1994 08:49:38 GMT")], NOW - 60, True),
    ],
)
def test_a_date_of_the_second_in_which_it_was_made_names_no_content(
    fields: Fields, born_at: float, *, current: bool
) -> None:
    """There may have been two in it (RFC 9110, 13.1.5 and 8.8.2.2)."""
    request = {b"range": b"bytes=0-1", b"if-range": DATE}
    response = [(b"last-modified", DATE), *fields]

    assert (range_of(request, response, 10, born_at=born_at) != "whole") is current


def test_an_answer_says_what_part_it_is() -> None:
    """And how large the whole is, where no part of it was asked for."""
    assert Range(2, 4, 10).content_range == b"bytes 2-4/10"
    assert content_range_outside(10) == b"bytes */10"


@given(st.binary(max_size=30), st.integers(0, 100))
def test_a_part_lies_within_the_content(asked: bytes, size: int) -> None:
    """Whatever is asked for."""
    for text in (asked, b"bytes=" + asked):
        found = range_of({b"range": text}, [], size, born_at=NOW)
        assert isinstance(found, str) or 0 <= found.first <= found.last < size
