"""A stored response: when it may be reused, and what it answers."""

from math import inf
from typing import Any

import pytest

from async_tiercache.codecs import codec_for
from async_tiercache.http.control import RequestControl, response_control
from async_tiercache.http.stored import Reuse, StoredResponse, answer_of, stored

NOW = 784111777.0
BODY = b"0123456789"
ETAG = (b"etag", b'"a"')


def a_response(
    *fields: tuple[bytes, bytes],
    lifetime: float = 60.0,
    body: bytes = BODY,
    status: int = 200,
    age: int = 0,
) -> StoredResponse:
    """Return what is stored of a response that was asked for now."""
    control = response_control(fields)
    return stored(status, fields, body, control, lifetime=lifetime, born_at=NOW - age)


def said(text: bytes) -> tuple[bytes, bytes]:
    """Return the field that says it."""
    return (b"cache-control", text)


def test_what_responses_have_in_common_is_in_memory_once() -> None:
    """Equal fields, what they say, and their lifetime; not what is of one response alone."""
    fields = [(b"date", b"Sun"), (b"x-frame", b"deny"), said(b"max-age=60"), ETAG]

    first, second = (
        a_response(*[(bytes(bytearray(name)), bytes(bytearray(value))) for name, value in fields])
        for _ in range(2)
    )

    assert first == second
    common = [mine is other for mine, other in zip(first.fields, second.fields, strict=True)]
    assert common == [True, True, True, False, True]
    (name, value), (other_name, other_value) = first.fields[3], second.fields[3]
    assert (name is other_name, value is other_value) == (True, False)
    assert first.control is second.control
    assert first.lifetime is second.lifetime


def test_a_long_value_is_held_for_no_other_response() -> None:
    """Else what is remembered of them might take as much as L1."""
    first, second = (a_response((b"x-long", bytes(2000))) for _ in range(2))

    assert first.fields[0] is not second.fields[0]


@pytest.mark.parametrize("lifetime", [0.3, 7, 59.999])
def test_a_validated_response_is_fresh_until_the_very_instant(lifetime: float) -> None:
    """That is told by its birth and its lifetime, whose sum loses nothing."""
    found = a_response(lifetime=60)
    born_at = NOW + 1 / 3

    renewed = found.validated((), found.control, born_at=born_at, fresh_until=born_at + lifetime)

    assert renewed.fresh_until == born_at + lifetime


@pytest.mark.parametrize(
    ("directives", "seconds", "expected"),
    [
        (b"", 0, "fresh"),
        (b"", 59.9, "fresh"),
        (b"", 60, "validate"),
        (b"no-cache", 0, "validate"),
        (b'no-cache="x"', 0, "fresh"),
        (b"stale-while-revalidate=10", 60, "stale-while-revalidate"),
        (b"stale-while-revalidate=10", 69.9, "stale-while-revalidate"),
        (b"stale-while-revalidate=10", 70, "validate"),
        (b"stale-if-error=10", 69.9, "stale-if-error"),
        (b"stale-if-error=10", 70, "validate"),
        (b"stale-while-revalidate=5, stale-if-error=10", 62, "stale-while-revalidate"),
        (b"stale-while-revalidate=5, stale-if-error=10", 66, "stale-if-error"),
        (b"stale-while-revalidate=10, must-revalidate", 60, "validate"),
        (b"stale-if-error=10, proxy-revalidate", 60, "validate"),
        (b"stale-if-error=10, s-maxage=60", 60, "validate"),
        (b"must-revalidate", 59, "fresh"),
    ],
)
def test_what_is_stale_is_served_only_as_it_says(
    directives: bytes, seconds: float, expected: Reuse
) -> None:
    """RFC 9111, 4.2.4; RFC 5861."""
    assert a_response(said(directives)).reuse(None, now=NOW + seconds) == expected


@pytest.mark.parametrize(
    ("asked", "seconds", "expected"),
    [
        (RequestControl(), 0, "fresh"),
        (RequestControl(no_cache=True), 0, "validate"),
        (RequestControl(max_age=10), 10, "fresh"),
        (RequestControl(max_age=10), 11, "validate"),
        (RequestControl(max_age=0), 0, "fresh"),
        (RequestControl(max_age=0), 1, "validate"),
        (RequestControl(min_fresh=10), 50, "fresh"),
        (RequestControl(min_fresh=10), 51, "validate"),
        (RequestControl(max_stale=inf), 1e9, "fresh"),
        (RequestControl(max_stale=10), 70, "fresh"),
        (RequestControl(max_stale=10), 71, "validate"),
        (RequestControl(max_stale=inf, max_age=10), 11, "validate"),
    ],
)
def test_a_client_may_ask_for_something_else(
    asked: RequestControl, seconds: float, expected: Reuse
) -> None:
    """Where clients are asked (RFC 9111, 5.2.1)."""
    assert a_response().reuse(asked, now=NOW + seconds) == expected


@pytest.mark.parametrize(
    ("asked", "seconds", "expected"),
    [
        (RequestControl(max_age=0), 59, "fresh"),
        (RequestControl(max_age=0), 60, "validate"),
        (RequestControl(no_cache=True), 1, "validate"),
        (RequestControl(max_age=0, min_fresh=10), 51, "validate"),
    ],
)
def test_a_reload_of_what_does_not_change_is_answered(
    asked: RequestControl, seconds: float, expected: Reuse
) -> None:
    """While it is fresh, unless its client insists (RFC 8246, 2.1)."""
    assert a_response(said(b"immutable")).reuse(asked, now=NOW + seconds) == expected


@pytest.mark.parametrize("directive", [b"must-revalidate", b"proxy-revalidate", b"s-maxage=60"])
def test_no_client_makes_a_response_live_longer_than_it_allows(directive: bytes) -> None:
    """`max-stale` once overrode these limits elsewhere (http-cache-semantics#56)."""
    asked = RequestControl(max_stale=inf)

    assert a_response(said(directive)).reuse(asked, now=NOW + 61) == "validate"


@pytest.mark.parametrize(
    "field", [(b"set-cookie", b"a=1"), (b"cache-control", b'private="x", max-age=60')]
)
def test_no_client_has_kept_for_longer_what_is_of_one_client(field: tuple[bytes, bytes]) -> None:
    """`max-stale` is about what is for all (http-cache-semantics#56)."""
    asked = RequestControl(max_stale=inf)

    assert a_response(field).reuse(asked, now=NOW + 61) == "validate"
    assert a_response().reuse(asked, now=NOW + 61) == "fresh"


def test_what_never_was_fresh_takes_the_place_of_nothing() -> None:
    """It is sent to whom its validation says that it is for, and to nobody else."""
    assert a_response(ETAG).may_replace_silence()
    assert not a_response(ETAG, lifetime=0.0).may_replace_silence()


def test_the_age_that_came_along_counts() -> None:
    """It shortens what is left of the lifetime, and is added to."""
    response = a_response((b"age", b"50"), age=50)

    assert b"age" not in dict(response.fields)
    assert response.age(NOW + 5) == 55
    assert response.reuse(None, now=NOW + 9.9) == "fresh"
    assert response.reuse(None, now=NOW + 10) == "validate"
    assert response.age(NOW - 100) == 0


def answered(
    response: StoredResponse, *request: tuple[bytes, bytes], method: str = "GET"
) -> tuple[int, dict[bytes, bytes], bytes]:
    """Return what a request gets after seven seconds."""
    status, fields, body = answer_of(response, method, dict(request), now=NOW + 7)
    assert len(dict(fields)) == len(fields)
    return status, dict(fields), body


def test_a_request_gets_the_response_with_its_age() -> None:
    """And with its length, whether the origin has told it or not."""
    response = a_response(ETAG, (b"x", b"1"))

    expected = {b"etag": b'"a"', b"x": b"1", b"content-length": b"10", b"age": b"7"}
    assert answered(response) == (200, expected, BODY)
    assert answered(response, method="HEAD") == (200, expected, b"")


def test_repeated_fields_are_sent_in_their_order() -> None:
    """As they came."""
    link = [(b"link", b"<a>"), (b"x", b"1"), (b"link", b"<b>")]

    _, fields, _ = answer_of(a_response(*link), "GET", {}, now=NOW)

    assert fields[:3] == link


def test_a_response_without_content_has_no_length() -> None:
    """A 204 must not have one."""
    status, fields, body = answered(a_response(status=204, body=b""))

    assert (status, body) == (204, b"")
    assert b"content-length" not in fields


def test_a_client_that_has_it_gets_a_304() -> None:
    """Without a length, which breaks connections; for a HEAD and beside a range as well."""
    response = a_response(ETAG, (b"content-type", b"text/plain"))
    condition = (b"if-none-match", b'"a"')
    expected = (304, {b"etag": b'"a"', b"age": b"7"}, b"")

    assert answered(response, condition) == expected
    assert answered(response, condition, method="HEAD") == expected
    assert answered(response, condition, (b"range", b"bytes=0-1")) == expected
    assert answered(a_response(ETAG, status=404), condition)[0] == 404


def test_a_part_that_was_made_is_sent_as_it_is() -> None:
    """Or not at all, to who has it: 206 is one of the two that a cache may do so with (4.3.2)."""
    said = [ETAG, (b"content-range", b"bytes 4-9/10"), (b"content-length", b"5")]
    response = a_response(*said, status=206, body=b"12345")

    for asked in (b"bytes=-5", b"bytes=0-1", b"bytes=9-"):
        status, fields, body = answered(response, (b"range", asked))
        assert (status, body) == (206, b"12345")
        assert {*fields.items()} == {*said, (b"age", b"7")}
    condition = (b"if-none-match", b'"a"')
    expected = (304, {b"etag": b'"a"', b"age": b"7"}, b"")
    assert answered(response, condition, (b"range", b"bytes=-5")) == expected


def test_a_part_is_sent_of_what_is_complete() -> None:
    """With the fields of the whole."""
    response = a_response(ETAG, (b"content-length", b"10"))

    status, fields, body = answered(response, (b"range", b"bytes=2-4"))

    assert (status, body) == (206, b"234")
    assert fields[b"content-range"] == b"bytes 2-4/10"
    assert fields[b"content-length"] == b"3"
    assert fields[b"etag"] == b'"a"'
    assert answered(response, (b"range", b"bytes=2-4"), method="HEAD")[0] == 200
    assert answered(a_response(status=404), (b"range", b"bytes=2-4"))[0] == 404


def test_a_part_carries_no_digest_of_the_whole() -> None:
    """But for the one that is meant to be of the whole (RFC 9530, 2 and 3)."""
    digests = {b"content-digest": b"sha-256=:AA==:", b"repr-digest": b"sha-256=:AA==:"}
    response = a_response(*digests.items())

    assert digests.items() <= answered(response)[1].items()
    fields = answered(response, (b"range", b"bytes=2-4"))[1]
    assert b"content-digest" not in fields
    assert b"repr-digest" in fields


def test_a_part_that_is_not_there_is_a_416() -> None:
    """It says how large the whole is."""
    status, fields, body = answered(a_response(), (b"range", b"bytes=10-"))

    assert (status, body) == (416, b"")
    assert fields[b"content-range"] == b"bytes */10"


def test_a_304_of_the_origin_renews_what_is_stored() -> None:
    """Its content stays."""
    response = a_response(ETAG, (b"x", b"1"), said(b"max-age=60"))
    validated = [(b"x", b"2"), said(b"max-age=5"), (b"age", b"3"), (b"connection", b"close")]

    renewed = response.validated(
        validated, response_control(validated), born_at=NOW + 97, fresh_until=NOW + 102
    )

    assert renewed.body == BODY
    assert dict(renewed.fields) == {
        b"etag": b'"a"',
        b"content-length": b"10",
        b"x": b"2",
        b"cache-control": b"max-age=5",
    }
    assert renewed.reuse(None, now=NOW + 101) == "fresh"
    assert renewed.age(NOW + 101) == 4


def test_it_can_be_kept_in_every_tier() -> None:
    """It comes back as it was."""
    response: Any = a_response(ETAG, said(b'max-age=60, private="x", stale-if-error=5'))
    codec = codec_for(StoredResponse)

    assert codec.decode(codec.encode(response)) == response
