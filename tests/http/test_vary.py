"""Which of a URL's stored responses answers a request."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.http.fields import Fields, joined
from async_tiercache.http.vary import digest_of, variant_of, vary_of


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ()),
        ([b""], ()),
        ([b"B, a"], (b"a", b"b")),
        ([b"a", b"B", b"A"], (b"a", b"b")),
        ([b" a ,, b "], (b"a", b"b")),
        ([b"*"], None),
        ([b"a", b" * "], None),
        ([b"a b"], None),
        ([b'"a"'], None),
    ],
)
def test_the_names_are_a_set(lines: list[bytes], expected: tuple[bytes, ...] | None) -> None:
    """In any order, case, and over any number of lines; what is no name might be anything."""
    assert vary_of([(b"vary", line) for line in lines]) == expected


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        pytest.param([(b"a", b"1")], [(b"a", b"1"), (b"b", b"2")], True, id="another field"),
        pytest.param([(b"a", b"1")], [(b"a", b"2")], False, id="another value"),
        pytest.param([(b"a", b"1")], [(b"a", b" 1\t")], True, id="space around it"),
        pytest.param([(b"a", b"1, 2")], [(b"a", b"1"), (b"a", b"2")], True, id="two lines"),
        pytest.param([(b"a", b"1"), (b"a", b"2")], [(b"a", b"2"), (b"a", b"1")], False, id="order"),
        pytest.param([], [(b"a", b"")], False, id="absent or empty (CVE-2026-113593)"),
        pytest.param([(b"a", b"x")], [(b"a", b"X")], False, id="case"),
    ],
)
def test_requests_are_told_apart_by_these_fields(first: Fields, second: Fields, same: bool) -> None:
    """And by nothing else."""
    found = [variant_of(joined(fields), (b"a",)) for fields in (first, second)]
    assert (found[0] == found[1]) is same


@pytest.mark.parametrize(
    ("name", "first", "second", "same"),
    [
        (b"accept-language", b"de, EN;q=0.5", b"DE ,en;q=0.5", True),
        (b"accept-encoding", b"gzip,BR", b"GZIP , br", True),
        (b"accept", b"text/html, */*", b"text/html ,*/*", True),
        (b"accept", b'a/b;profile="http://c/D"', b'a/b;profile="http://c/d"', False),
        (b"cookie", b"a, b", b"a,b", False),
    ],
)
def test_spellings_of_one_list_are_one_value(
    name: bytes, first: bytes, second: bytes, same: bool
) -> None:
    """Where case means nothing; the parameters of media types may heed it (RFC 9110, 8.3.1)."""
    found = [variant_of({name: value}, (name,)) for value in (first, second)]

    assert (found[0] == found[1]) is same


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_different_parts_have_different_digests(first: list[bytes], second: list[bytes]) -> None:
    """However they are cut."""
    assert (digest_of(first) == digest_of(second)) is (first == second)
