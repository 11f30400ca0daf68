"""What a client prefers, reduced to one choice."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache.http.negotiation import encodings, languages


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
