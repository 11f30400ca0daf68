"""A part of a stored response, where a request asks for one that can be told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.http.fields import Fields, joined
from async_tiercache.http.ranges import (
    Range,
    asks_for_one_part,
    content_range_outside,
    range_of,
)

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


@pytest.mark.parametrize(
    "asked", [b"bytes=0-0", b"bytes=0-", b"bytes=2-40", b"bytes=-5", b"bytes=0-%d" % 10**17]
)
def test_one_part_is_asked_for_in_one_spelling(asked: bytes) -> None:
    """By all clients; not where it is only wanted if nothing has changed."""
    assert asks_for_one_part({b"range": asked})
    assert not asks_for_one_part({b"range": asked, b"if-range": b'"a"'})


@pytest.mark.parametrize(
    "asked",
    [
        b"", b"bytes", b"bytes=", b"bytes=-", b"bytes=-0", b"bytes=3-2", b"bytes=0-1,3-4",
        b"bytes=0-1, bytes=0-1", b"bytes=00-1", b"bytes=0-01", b"bytes=-05", b"bytes= 0-1",
        b"bytes=0-1 ", b"BYTES=0-1", b"lines=0-1", b"bytes=a-b", b"bytes=0-1\n",
        b"bytes=0-%d" % 10**18, "bytes=0-\u0661".encode(),
    ],
)  # fmt: skip
def test_what_may_be_read_in_two_ways_asks_for_no_part(asked: bytes) -> None:
    """The application's reading of it would be another one's part."""
    assert not asks_for_one_part({b"range": asked})
    assert not asks_for_one_part({})


@given(st.integers(0, 10**18), st.integers(0, 10**18), st.integers(0, 100))
def test_who_asks_for_one_part_gets_no_whole(first: int, last: int, size: int) -> None:
    """Both of them read the same."""
    for text in (b"bytes=%d-%d" % (first, last), b"bytes=%d-" % first, b"bytes=-%d" % last):
        if asks_for_one_part({b"range": text}):
            assert range_of({b"range": text}, [], size, born_at=NOW) != "whole"
