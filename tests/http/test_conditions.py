"""Conditional requests are answered from what is stored, and stored responses are validated."""

import pytest

from async_tiercache.http.conditions import (
    fields_of_304,
    is_of,
    is_unmodified,
    updated,
    validating,
)
from async_tiercache.http.fields import joined

NOW = 784111777.0
EARLIER, SAME, LATER = (
    b"Sun, 06 Nov 1994 07:49:37 GMT",
    b"Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sun, 06 Nov 1994 09:49:37 GMT",
)


@pytest.mark.parametrize(
    ("asked", "stored", "expected"),
    [
        ([b'"a"'], [b'"a"'], True),
        ([b'"a"'], [b'"b"'], False),
        ([b'"b", "a"'], [b'"a"'], True),
        ([b'"b"', b'"a"'], [b'"a"'], True),
        ([b'W/"a"'], [b'"a"'], True),
        ([b'"a"'], [b'W/"a"'], True),
        ([b'W/"a"'], [b'W/"a"'], True),
        ([b'"a,b"'], [b'"a,b"'], True),
        ([b"*"], [b'"a"'], True),
        ([b"*"], [], True),
        ([b"a"], [b'"a"'], False),
        ([b"a"], [b"a"], True),
        ([b"W/a"], [b"a"], False),
        ([b'w/"a"'], [b'"a"'], False),
        ([b""], [b'""'], False),
        ([b'""'], [b'""'], True),
        ([b'"a"'], [], False),
        ([b'"a"'], [b'"a"', b'"b"'], False),
    ],
)
def test_entity_tags_are_compared_weakly(
    asked: list[bytes], stored: list[bytes], expected: bool
) -> None:
    """RFC 9110, 13.1.2; one that is no tag by its grammar is only itself."""
    request = [(b"if-none-match", each) for each in asked]
    response = [(b"etag", each) for each in stored]

    assert is_unmodified(joined(request), response, now=NOW) is expected


@pytest.mark.parametrize(
    ("asked", "stored", "expected"),
    [
        ([SAME], [SAME], True),
        ([LATER], [SAME], True),
        ([EARLIER], [SAME], False),
        ([SAME], [], False),
        ([b"nonsense"], [SAME], False),
        ([SAME], [b"nonsense"], False),
        ([SAME, SAME], [SAME], False),
        ([], [SAME], False),
    ],
)
def test_a_date_is_compared_with_the_last_change(
    asked: list[bytes], stored: list[bytes], expected: bool
) -> None:
    """RFC 9110, 13.1.3."""
    request = [(b"if-modified-since", each) for each in asked]
    response = [(b"last-modified", each) for each in stored]

    assert is_unmodified(joined(request), response, now=NOW) is expected


def test_what_says_only_when_it_was_made_was_not_changed_later() -> None:
    """RFC 9111, 4.3.2."""
    response = [(b"date", SAME)]

    assert is_unmodified({b"if-modified-since": SAME}, response, now=NOW)
    assert not is_unmodified({b"if-modified-since": EARLIER}, response, now=NOW)


def test_tags_come_before_dates() -> None:
    """A date is too coarse where there is a tag (RFC 9110, 13.2.2)."""
    response = [(b"etag", b'"a"'), (b"last-modified", SAME)]

    for tag, expected in ((b'"a"', True), (b'"b"', False)):
        request = [(b"if-none-match", tag), (b"if-modified-since", LATER)]
        assert is_unmodified(joined(request), response, now=NOW) is expected


def test_a_304_describes_no_content() -> None:
    """A length beside none breaks connections; what says when it may be reused stays."""
    stored = [
        (b"content-length", b"3"),
        (b"content-type", b"text/plain"),
        (b"content-encoding", b"gzip"),
        (b"etag", b'"a"'),
        (b"cache-control", b"max-age=60"),
        (b"vary", b"a"),
        (b"x", b"1"),
    ]

    assert fields_of_304(stored) == stored[3:6]


def test_an_origin_is_asked_with_the_validators_that_are_stored() -> None:
    """Both of them."""
    assert validating([(b"x", b"1"), (b"etag", b'W/"a"'), (b"last-modified", SAME)]) == [
        (b"if-none-match", b'W/"a"'),
        (b"if-modified-since", SAME),
    ]


def test_a_304_renews_fields_but_not_those_of_the_content() -> None:
    """RFC 9111, 3.2; a field that comes again is replaced with all its lines."""
    stored = [(b"a", b"1"), (b"a", b"2"), (b"content-encoding", b"gzip"), (b"b", b"3")]
    validated = [(b"a", b"4"), (b"content-encoding", b"br"), (b"content-length", b"0")]

    renewed = updated(stored, validated)

    assert renewed == [(b"content-encoding", b"gzip"), (b"b", b"3"), (b"a", b"4")]


@pytest.mark.parametrize(
    ("tag", "held", "expected"),
    [
        ([], [b'"a"'], True),
        ([b'"a"'], [b'"a"'], True),
        ([b'"b"'], [b'"a"'], False),
        ([b'"a"'], [b'W/"a"'], False),
        ([b'W/"a"'], [b'"a"'], True),
        ([b'W/"a"'], [b'W/"a"'], True),
        ([b'W/"b"'], [b'"a"'], False),
        ([b'W/"b"'], [b'W/"a"'], False),
        ([b'W/"a"'], [], False),
        ([b'"a"'], [], False),
    ],
)
def test_a_304_with_another_tag_is_about_something_else(
    tag: list[bytes], held: list[bytes], expected: bool
) -> None:
    """RFC 9111, 4.3.4: a strong one is compared strongly, a weak one weakly."""
    validated, stored = ([(b"etag", each) for each in tags] for tags in (tag, held))

    assert is_of(validated, stored) is expected
