"""What a request is for, and which groups its response is in."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.http.target import (
    EXACT,
    MAX_GROUPS,
    SearchRule,
    groups_of,
    search_rule,
    url_digest,
)


def digest(
    host: bytes = b"example.org",
    path: bytes = b"/",
    query: bytes = b"",
    *,
    scheme: bytes = b"https",
    rule: SearchRule = EXACT,
) -> bytes:
    """Return the digest of a URL."""
    return url_digest(scheme, host, path, query, rule=rule)


@pytest.mark.parametrize("host", [b"EXAMPLE.org", b"example.org:443"])
def test_a_host_has_several_spellings(host: bytes) -> None:
    """The port of the scheme is no difference."""
    assert digest(host) == digest()


@pytest.mark.parametrize(
    ("host", "path", "query", "scheme"),
    [
        (b"example.com", b"/", b"", b"https"),
        (b"example.org:80", b"/", b"", b"https"),
        (b"example.org", b"/", b"", b"http"),
        (b"example.org", b"/A", b"", b"https"),
        (b"example.org", b"/%41", b"", b"https"),
        (b"example.org", b"//", b"", b"https"),
        (b"example.org", b"/;a", b"", b"https"),
        (b"example.org", b"/?", b"", b"https"),
        (b"example.org", b"/", b"?", b"https"),
        (b"example.org", b"/", b"a", b"https"),
        (b"example.org/", b"", b"", b"https"),
    ],
)
def test_another_url_has_another_digest(
    host: bytes, path: bytes, query: bytes, scheme: bytes
) -> None:
    """An application may tell them apart, whatever a browser would make of them."""
    assert digest(host, path, query, scheme=scheme) != digest()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", EXACT),
        (b"key-order", SearchRule(ordered=False)),
        (b"key-order=?0", EXACT),
        (b"params", SearchRule(ignored=None)),
        (b"params=?0", EXACT),
        (b'params=("a" "b")', SearchRule(ignored=frozenset({"a", "b"}))),
        (b'params, except=("c")', SearchRule(ignored=None, kept=frozenset({"c"}))),
        (b'key-order, params=("a")', SearchRule(ordered=False, ignored=frozenset({"a"}))),
        (b"key-order=1", EXACT),
        (b'params="a"', EXACT),
        (b"params=(a)", EXACT),
        (b"params=(1)", EXACT),
        (b'params=("a"), except=("c")', EXACT),
        (b'except=("c")', EXACT),
        (b"params, except", EXACT),
        (b"params=(", EXACT),
    ],
)
def test_a_response_says_which_differences_do_not_matter(line: bytes, expected: SearchRule) -> None:
    """If it says that as it should."""
    assert search_rule([(b"no-vary-search", line)]) == expected


@pytest.mark.parametrize(
    ("rule", "first", "second", "same"),
    [
        (EXACT, b"a=1&b=2", b"b=2&a=1", False),
        (EXACT, b"a=%31", b"a=1", False),
        (SearchRule(ordered=False), b"a=1&b=2", b"b=2&a=1", True),
        (SearchRule(ordered=False), b"a=1&a=2", b"a=2&a=1", False),
        (SearchRule(ignored=frozenset({"u"})), b"a=1&u=x", b"u=y&a=1", True),
        (SearchRule(ignored=frozenset({"u"})), b"a=1", b"a=2", False),
        (SearchRule(ignored=frozenset({"u"})), b"a=%31", b"a=1", True),
        (SearchRule(ignored=frozenset({"u"})), b"a=1&b", b"a=1&b=", True),
        (SearchRule(ignored=None), b"a=1", b"", True),
        (SearchRule(ignored=None, kept=frozenset({"a"})), b"a=1&b=2", b"a=1", True),
        (SearchRule(ignored=None, kept=frozenset({"a"})), b"a=1", b"a=2", False),
    ],
)
def test_queries_that_do_not_differ_by_that_share_a_digest(
    rule: SearchRule, first: bytes, second: bytes, same: bool
) -> None:
    """All others do not."""
    assert (digest(query=first, rule=rule) == digest(query=second, rule=rule)) is same


@pytest.mark.parametrize("name", ["caf%C3%A9", "a+b", "a%20b", "%61%2B", "%FF", "%", "a=b"])
@pytest.mark.parametrize("matters", [True, False])
def test_a_parameter_is_named_as_it_is_spelled_in_queries(name: str, matters: bool) -> None:
    """Encoded; else URLs that differ in it would share a response, or never do."""
    said = f'params, except=("{name}")' if matters else f'params=("{name}")'
    rule = search_rule([(b"no-vary-search", said.encode())])
    spelled = name.replace("=", "%3D").encode()

    same = digest(query=spelled + b"=1", rule=rule) == digest(query=spelled + b"=2", rule=rule)

    assert same is not matters


@given(st.binary(max_size=20), st.booleans())
def test_no_query_breaks_it(query: bytes, ordered: bool) -> None:
    """Whatever its bytes are."""
    for rule in (EXACT, SearchRule(ordered, frozenset({"a"})), SearchRule(ordered, None)):
        assert digest(query=query, rule=rule) == digest(query=query, rule=rule)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], []),
        ([b'"a"'], ["a"]),
        ([b'"a", "B"', b'"a", "c d"'], ["a", "B", "c d"]),
        ([b'a, "b", 1, ("c")'], ["b"]),
        ([b'"a", '], []),
    ],
)
def test_groups_are_strings(lines: list[bytes], expected: list[str]) -> None:
    """Each once; what is no list names none."""
    assert groups_of([(b"cache-groups", line) for line in lines], b"cache-groups") == expected


def test_groups_are_bounded() -> None:
    """A response is in so many."""
    line = ", ".join(f'"{number}"' for number in range(1_000)).encode()

    assert len(groups_of([(b"cache-groups", line)], b"cache-groups")) == MAX_GROUPS
