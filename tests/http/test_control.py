"""`Cache-Control` by its grammar; what breaks that has the strictest meaning that it may have."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.http.control import (
    RequestControl,
    ResponseControl,
    request_control,
    response_control,
)


def said(*lines: bytes) -> ResponseControl:
    """Return what these lines of a response say."""
    return response_control([(b"cache-control", line) for line in lines])


def asked(*lines: bytes) -> RequestControl:
    """Return what these lines of a request ask for."""
    return request_control([(b"cache-control", line) for line in lines])


def test_a_response_without_the_field_says_nothing() -> None:
    """Nor does one with an empty field, or with what nobody knows."""
    assert said() == said(b"") == said(b"foo, bar=1") == ResponseControl()


def test_every_directive_is_known() -> None:
    """In any case, over several lines."""
    control = said(
        b"Public, MAX-AGE=1, s-maxage=2, must-revalidate, proxy-revalidate",
        b'no-cache="A, b", private="c", must-understand, immutable, no-store',
        b"stale-while-revalidate=3, stale-if-error=4",
    )

    assert control == ResponseControl(
        no_store=True,
        no_cache_fields=frozenset({b"a", b"b"}),
        private_fields=frozenset({b"c"}),
        public=True,
        must_revalidate=True,
        proxy_revalidate=True,
        must_understand=True,
        immutable=True,
        max_age=1,
        s_maxage=2,
        stale_while_revalidate=3,
        stale_if_error=4,
    )


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"private", id="plain"),
        pytest.param(b"PRIVATE", id="in capitals (CVE-2026-8404)"),
        pytest.param(b'private=""', id="of no field (CVE-2026-13697)"),
        pytest.param(b"private=", id="without its argument"),
        pytest.param(b'private = "x"', id="with spaces (CVE-2026-14643)"),
        pytest.param(b'private="x', id="in quotes that do not end"),
        pytest.param(b'private="x y"', id="of what is no field"),
        pytest.param(b"private=x", id="of a field without quotes"),
        pytest.param(b'private, private="x"', id="beside that of a field (CVE-2026-13697)"),
        pytest.param(b'private="x", private', id="beside that of a field, after it"),
        pytest.param(b"max-age=1 private", id="behind a forgotten comma"),
        pytest.param(b'"private"', id="in quotes"),
        pytest.param(b'ext="a, private', id="within quotes that do not end"),
    ],
)
def test_a_response_is_private_in_whatever_form_that_is_said(line: bytes) -> None:
    """On doubt nothing is shared."""
    assert said(b"max-age=60", line).private


def test_spaces_around_a_named_field_belong_to_no_name() -> None:
    """CVE-2026-9678: they hid which field is private."""
    control = said(b'private=" authorization", no-cache=" Set-Cookie , x "')

    assert control.private_fields == {b"authorization"}
    assert control.no_cache_fields == {b"set-cookie", b"x"}


@pytest.mark.parametrize("line", [b"no-store", b"no-store=1", b"No-Store ;", b"foo no-store"])
def test_what_is_not_to_be_stored_is_not(line: bytes) -> None:
    """In whatever form."""
    assert said(line).no_store


@pytest.mark.parametrize("line", [b"no-cache", b"no-cache=1", b'no-cache="', b"NO-CACHE;x"])
def test_what_is_to_be_validated_is(line: bytes) -> None:
    """In whatever form."""
    assert said(line).no_cache


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        (b"max-age=60", 60),
        (b'max-age="60"', 60),
        (b"max-age=060", 60),
        (b"max-age=60, max-age=10", 10),
        (b"max-age=10, max-age=60", 10),
        (b"max-age=-60", 0),
        (b"max-age=60.0", 0),
        (b"max-age=60a", 0),
        (b"max-age='60'", 0),
        (b"max-age =60", 0),
        (b"max-age= 60", 0),
        (b"max-age", 0),
        (b"max-age=", 0),
        (b'ext="max-age=60"', None),
        (b"xmax-age=60", None),
    ],
)
def test_a_lifetime_is_the_shortest_that_is_given(line: bytes, seconds: int | None) -> None:
    """What is no time is none at all."""
    assert said(line).max_age == seconds


def test_what_permits_something_must_be_spelled_right() -> None:
    """Whoever guesses permits more than was meant."""
    assert not said(b"public=1, must-understand=x").public
    assert not said(b"public x").public
    assert not said(b"immutable=yes").immutable


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"no-store, no-cache", RequestControl(no_store=True, no_cache=True)),
        (b"only-if-cached", RequestControl(only_if_cached=True)),
        (b"max-age=5, min-fresh=6", RequestControl(max_age=5, min_fresh=6)),
        (b"max-stale", RequestControl(max_stale=inf)),
        (b"max-stale=7", RequestControl(max_stale=7)),
        (b"max-stale=x", RequestControl(max_stale=0)),
        (b"max-stale, max-stale=9", RequestControl(max_stale=0)),
        (b"max-age=x", RequestControl(max_age=0)),
        (b"min-fresh=1, min-fresh=3", RequestControl(min_fresh=3)),
        (b"min-fresh=x", RequestControl(min_fresh=2**31)),
    ],
)
def test_a_request_asks(line: bytes, expected: RequestControl) -> None:
    """For the least that a malformed directive may mean."""
    assert asked(line) == expected


def test_pragma_counts_where_cache_control_is_silent() -> None:
    """It is older than that."""
    pragma = (b"pragma", b"No-Cache")

    assert request_control([pragma]).no_cache
    assert not request_control([pragma, (b"cache-control", b"max-age=1")]).no_cache
    assert request_control([(b"pragma", b"foo")]) == request_control([]) == RequestControl()


_WORDS = st.sampled_from(
    [b"no-store", b"no-cache", b"private", b"max-age", b"public", b"=", b'"', b"\\", b",", b" ",
     b"60", b"x", b"\xff", b"\x00", b";"]
)  # fmt: skip


@given(st.lists(st.lists(_WORDS, max_size=12).map(b"".join), max_size=3))
def test_no_bytes_break_it(lines: list[bytes]) -> None:
    """And what an unquoted word forbids is forbidden, whatever stands around it."""
    control = said(*lines)
    asked(*lines)

    for line in lines:
        if b'"' not in line:
            words = {word.strip(b" \t") for word in line.split(b",")}
            assert control.no_store or b"no-store" not in words
            assert control.private or b"private" not in words
            assert control.no_cache or b"no-cache" not in words
