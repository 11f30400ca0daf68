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


@pytest.mark.parametrize(
    ("name", "first", "second", "same"),
    [
        (b"x", b"1,2", b"1 ,\t2", True),
        (b"x", b"1,2", b"1,2 3", False),
        (b"x", b"12", b"1 2", False),
        (b"x", b"1,2", b"1,,2", False),
        (b"x", b"1,2", b"2,1", False),
        (b"x", b"a,b", b"A,b", False),
        (b"x", b'"1,2",3', b'"1, 2",3', False),
        (b"x", b'"1,2",3', b'"1,2" , 3', True),
        (b"x", b'"1\\", 2",3', b'"1\\",2",3', False),
        (b"x", b'3,"1,2', b'3,"1, 2', False),
        (b"x", b'3,"1\\', b'3 ,"1\\', True),
        *((each, b"1,2", b"1, 2", False) for each in (
            b"cookie", b"authorization", b"proxy-authorization", b"user-agent", b"referer", b"from",
            b"date", b"if-modified-since", b"if-unmodified-since", b"if-range",
        )),
    ],
)  # fmt: skip
def test_blanks_around_commas_mean_nothing_where_all_may_be_lists(
    name: bytes, first: bytes, second: bytes, same: bool
) -> None:
    """But for those that are none; quoted strings are left as they are, and by letters all are."""
    read = [variant_of({name: value}, (name,), lists=True) for value in (first, second)]
    literal = [variant_of({name: value}, (name,)) for value in (first, second)]

    assert (read[0] == read[1]) is same
    assert literal[0] != literal[1]
    assert name != b"x" or not {*read} & {*literal}


@given(st.lists(st.binary(max_size=4), max_size=4), st.lists(st.binary(max_size=4), max_size=4))
def test_different_parts_have_different_digests(first: list[bytes], second: list[bytes]) -> None:
    """However they are cut."""
    assert (digest_of(first) == digest_of(second)) is (first == second)
