"""What a client prefers, reduced to one choice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.http.negotiation import asks_for, described_by, encodings, languages


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (b"gzip, deflate, br", b"br"),
        (b"GZIP", b"gzip"),
        (b"gzip;q=1.0, br;q=0", b"gzip"),
        (b"br;q=0.001", b"br"),
        (b"*", b"br"),
        (b"*, br;q=0", b"gzip"),
        (b"*;q=0", None),
        (b"identity", None),
        (b"", None),
        (b"br;q=2", None),
        (b"br;level=3", None),
        (b"gzip;q=0.5;q=1", None),
    ],
)
def test_the_best_coding_that_a_client_takes(asked: bytes, chosen: bytes | None) -> None:
    """What is malformed is not taken."""
    assert encodings("br", "gzip")(asked) == chosen


@pytest.mark.parametrize(
    ("asked", "chosen"),
    [
        (b"de", b"de"),
        (b"de-AT, en;q=0.8", b"de"),
        (b"en;q=0.3, de;q=0.4", b"de"),
        (b"de, en", b"en"),
        (b"fr, *;q=0.1", b"en"),
        (b"pt-br", b"pt-BR"),
        (b"pt", None),
        (b"deu", None),
        (b"fr", None),
        (b"en;q=0", None),
    ],
)
def test_the_language_that_a_client_likes_best(asked: bytes, chosen: bytes | None) -> None:
    """Of equally liked ones, the first that is offered (RFC 4647, 3.4)."""
    assert languages("en", "de", "pt-BR")(asked) == chosen


@given(st.binary(max_size=40))
def test_there_are_no_other_choices(asked: bytes) -> None:
    """Whatever is asked for."""
    assert encodings("br", "gzip")(asked) in {b"br", b"gzip", None}
    assert languages("en", "de")(asked) in {b"en", b"de", None}


@pytest.mark.parametrize(
    ("name", "value", "described", "named"),
    [
        (b"accept", b"text/html, */*;q=0.1", b"text/html", True),
        (b"accept", b"Text/HTML", b"text/html", True),
        (b"accept", b"text/html;q=0", b"text/html", False),
        (b"accept", b"text/*, */*", b"text/html", False),
        (b"accept", b"text/html", None, False),
        (b"accept-encoding", b"gzip, br", b"gzip", True),
        (b"accept-encoding", b"gzip;q=0, *", b"gzip", False),
        (b"accept-encoding", b"gzip", b"gzip, br", False),
        (b"accept-encoding", b"gzip", None, False),
        (b"accept-language", b"de-AT, en", b"de", True),
        (b"accept-language", b"de", b"de-at", False),
        (b"accept-language", b"den", b"de", False),
        (b"accept-language", b"de;q=0, *", b"de", False),
        (b"accept-language", b"de", b"de, en", False),
        (b"accept-language", b"de", None, True),
        (b"accept-language", None, None, False),
        (b"cookie", b"de", b"de", False),
    ],
)
def test_what_a_request_names_itself(
    name: bytes, value: bytes | None, described: bytes | None, *, named: bool
) -> None:
    """No wildcard, and nothing that is not wanted at all."""
    assert asks_for(name, value, described) is named


def test_what_a_response_says_that_it_is() -> None:
    """In small letters, without parameters, and all that it says."""
    response = [
        (b"content-type", b"Text/HTML; charset=utf-8"),
        (b"content-language", b"de"),
        (b"content-language", b"en"),
    ]

    names = (b"accept", b"accept-language", b"accept-encoding", b"cookie")
    assert [described_by(response, each) for each in names] == [b"text/html", b"de, en", None, None]
