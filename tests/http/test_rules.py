"""What a shared cache may store, for how long that is fresh, and how old it is."""

from typing import Any

import pytest

from async_tiercache.http.control import response_control
from async_tiercache.http.fields import Fields
from async_tiercache.http.rules import (
    ORIGIN_SAFE,
    RFC9111,
    Profile,
    age_of,
    lifetime_of,
    refusal,
    stored_fields,
)

NOW = 784111777.0
DATE = (b"date", b"Sun, 06 Nov 1994 08:49:37 GMT")
HOUR_LATER = b"Sun, 06 Nov 1994 09:49:37 GMT"
HOUR_BEFORE = b"Sun, 06 Nov 1994 07:49:37 GMT"
FRESH = (b"cache-control", b"max-age=60")
BOTH = pytest.mark.parametrize("profile", [ORIGIN_SAFE, RFC9111], ids=lambda each: each.name)


def refused(
    *response: tuple[bytes, bytes],
    request: Fields = (),
    method: str = "GET",
    status: int = 200,
    profile: Profile = ORIGIN_SAFE,
) -> str | None:
    """Return why a response with these fields is not stored."""
    control = response_control(response)
    lifetime = lifetime_of(status, response, control, profile=profile, now=NOW)
    return refusal(method, request, status, response, control, profile=profile, lifetime=lifetime)


def lifetime(
    *response: tuple[bytes, bytes], status: int = 200, profile: Profile = RFC9111, **more: Any
) -> float | None:
    """Return for how long a response with these fields is fresh."""
    control = response_control(response)
    return lifetime_of(status, response, control, profile=profile, now=NOW, **more)


@BOTH
def test_a_response_with_a_lifetime_is_stored(profile: Profile) -> None:
    """One that is silent about it, and cannot be validated, is not."""
    assert refused(FRESH, profile=profile) is None
    assert refused(profile=profile) == "lifetime"


@pytest.mark.parametrize(
    ("said", "status", "safe", "full"),
    [
        (b"", 200, "lifetime", None),
        (b"no-cache", 200, None, None),
        (b"max-age=0", 200, None, None),
        (b"public", 200, None, None),
        (b"must-revalidate", 200, "lifetime", None),
        (b"", 404, "lifetime", None),
        (b"", 302, "lifetime", "lifetime"),
        (b"no-cache", 307, "lifetime", "lifetime"),
        (b"no-cache", 451, "lifetime", "lifetime"),
        (b"max-age=0", 302, None, None),
        (b"public", 302, None, None),
        (b"", 429, "status", "lifetime"),
        (b"", 500, "status", "lifetime"),
        (b"public", 500, "status", None),
    ],
)
def test_a_validator_alone_lets_no_response_be_stored(
    said: bytes, status: int, safe: str | None, full: str | None
) -> None:
    """What it says does, or its status where the RFCs are made full use of (RFC 9111, 3)."""
    response = [(b"etag", b'"a"'), (b"cache-control", said)]

    assert refused(*response, status=status) == safe
    assert refused(*response, status=status, profile=RFC9111) == full


@BOTH
@pytest.mark.parametrize("method", ["HEAD", "POST", "PUT", "DELETE", "OPTIONS", "M-SEARCH"])
def test_only_answers_to_get_are_stored(method: str, profile: Profile) -> None:
    """A HEAD must not fill a GET."""
    assert refused(FRESH, method=method, profile=profile) == "method"


@pytest.mark.parametrize("status", [100, 206, 304, 400, 403, 408, 429, 500, 502, 503, 599, 799])
def test_a_status_that_is_not_understood_is_not_stored(status: int) -> None:
    """Errors that a client can provoke least of all."""
    assert refused(FRESH, status=status) == "status"


@pytest.mark.parametrize("status", [299, 400, 403, 500, 503, 599])
def test_a_final_status_may_be_stored_where_the_rfcs_are_made_full_use_of(status: int) -> None:
    """If the response says for how long, and does not ask to be understood (RFC 9111, 3)."""
    assert refused(FRESH, status=status, profile=RFC9111) is None
    asking = (b"cache-control", b"max-age=60, must-understand")
    assert refused(asking, status=status, profile=RFC9111) == "status"
    for other in (100, 206, 304, 416, 799):
        assert refused(FRESH, status=other, profile=RFC9111) == "status"


@pytest.mark.parametrize("status", [200, 206, 299, 404, 416, 500])
@pytest.mark.parametrize("asked", [[], [(b"range", b"bytes=0-4")]], ids=["whole", "part"])
@pytest.mark.parametrize("said", [[b"bytes 0-4/9"], [], [b"bytes 0-4/9"] * 2, [b"rows 0-4/9"]])
def test_a_part_is_stored_for_those_who_ask_for_one_and_nothing_else_is(
    status: int, asked: Fields, said: list[bytes]
) -> None:
    """Where the RFCs are made full use of, and what range it is can be told."""
    ranges = [(b"content-range", each) for each in said]
    refusals = {
        profile.name: refused(FRESH, *ranges, status=status, request=asked, profile=profile)
        for profile in (ORIGIN_SAFE, RFC9111)
    }

    is_part = bool(asked) and status == 206 and said == [b"bytes 0-4/9"]
    is_whole = not asked and status not in {206, 416}
    assert refusals["rfc9111"] == (None if is_part or is_whole else "status")
    assert refusals["origin-safe"] == (None if is_whole and status in {200, 404} else "status")


@BOTH
def test_what_must_be_understood_may_be_stored_though_others_must_not(profile: Profile) -> None:
    """RFC 9111, 5.2.2.3."""
    assert refused((b"cache-control", b"max-age=60, no-store"), profile=profile) == "no-store"
    both = (b"cache-control", b"max-age=60, no-store, must-understand")
    assert refused(both, profile=profile) is None
    assert refused(both, status=599, profile=profile) == "status"


def test_a_private_field_makes_all_private_unless_the_rfcs_are_made_full_use_of() -> None:
    """Then it is left out."""
    response = (b"cache-control", b'max-age=60, private="x"')

    assert refused(response) == "private"
    assert refused(response, profile=RFC9111) is None
    kept = stored_fields([response, (b"x", b"1")], response_control([response]))
    assert kept == [response]


@BOTH
@pytest.mark.parametrize(
    ("directive", "expected"),
    [
        (b"max-age=60", "authorization"),
        (b"max-age=60, public", None),
        (b"s-maxage=60", None),
        (b"max-age=60, must-revalidate", None),
        (b"max-age=60, proxy-revalidate", "authorization"),
    ],
)
def test_what_was_authorized_is_shared_only_if_that_is_said(
    directive: bytes, expected: str | None, profile: Profile
) -> None:
    """CVE-2026-35193; RFC 9111, 3.5. That does not lift `private`."""
    request = [(b"authorization", b"Bearer x")]

    assert refused((b"cache-control", directive), request=request, profile=profile) == expected
    private = (b"cache-control", directive + b", private")
    assert refused(private, request=request, profile=profile) == "private"


@BOTH
@pytest.mark.parametrize("vary", [b"*", b" * ", b"a, *", b"*, a", b"a,*,b"])
def test_what_varies_by_anything_is_not_stored(vary: bytes, profile: Profile) -> None:
    """CVE-2026-6907; with spaces around it CVE-2026-48587."""
    assert refused(FRESH, (b"vary", vary), profile=profile) == "vary"
    assert refused(FRESH, (b"vary", b"a"), (b"vary", vary), profile=profile) == "vary"


@BOTH
@pytest.mark.parametrize(
    "field",
    [
        (b"cache-control ", b"private"),
        (b"", b"a"),
        (b"x\n", b"a"),
        (b"x", b"a\r\nvary: *"),
        (b"x", b"\0"),
    ],
)
def test_what_is_no_field_keeps_a_response_from_being_stored(
    field: tuple[bytes, bytes], profile: Profile
) -> None:
    """Clients may read another one in it."""
    assert refused(FRESH, field, profile=profile) == "malformed"


def test_what_sets_a_cookie_is_for_one_client() -> None:
    """Whatever its `Vary` says (CVE-2026-48588), unless the RFCs are made full use of."""
    response = [FRESH, (b"set-cookie", b"session=1"), (b"vary", b"cookie")]

    assert refused(*response) == "set-cookie"
    assert refused(*response, profile=RFC9111) is None


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ([], None),
        ([(b"cache-control", b"max-age=60")], 60),
        ([(b"cache-control", b"max-age=60, s-maxage=5")], 5),
        ([(b"cache-control", b"max-age=0, s-maxage=5")], 5),
        ([(b"cache-control", b"max-age=60"), (b"expires", HOUR_BEFORE)], 60),
        ([(b"cache-control", b"max-age=0"), (b"expires", HOUR_LATER)], 0),
        ([(b"cache-control", b"max-age=x"), (b"expires", HOUR_LATER)], 0),
        ([(b"expires", HOUR_LATER), DATE], 3600),
        ([(b"expires", HOUR_LATER)], 3600),
        ([(b"expires", HOUR_LATER), (b"date", HOUR_LATER)], 0),
        ([(b"expires", HOUR_LATER), (b"date", b"nonsense")], 3600),
        ([(b"expires", HOUR_BEFORE), DATE], 0),
        ([(b"expires", b"0")], 0),
        ([(b"expires", HOUR_LATER), (b"expires", HOUR_LATER)], 3600),
        ([(b"expires", HOUR_LATER), (b"expires", HOUR_BEFORE)], 0),
        ([(b"expires", HOUR_LATER.upper()), DATE], 3600),
        ([(b"expires", b"Sun, 21 Nov 2286 04:46:39 GMT"), DATE], 2**31),
    ],
)
def test_the_lifetime_is_what_is_said_for_shared_caches_first(
    response: list[tuple[bytes, bytes]], expected: float | None
) -> None:
    """RFC 9111, 4.2.1."""
    assert lifetime(*response) == expected


def test_a_silent_response_has_the_lifetime_of_its_rule() -> None:
    """What it says itself comes first."""
    assert lifetime(default=30.0) == 30.0
    assert lifetime(FRESH, default=30.0) == 60.0
    assert lifetime((b"cache-control", b"max-age=0"), default=30.0) == 0.0


def test_what_was_unchanged_for_long_is_given_a_tenth_of_that_at_most() -> None:
    """By who makes full use of the RFCs, and a day at most."""
    modified = (b"last-modified", HOUR_BEFORE)

    assert lifetime(modified, DATE) == 360.0
    assert lifetime(modified, DATE, profile=ORIGIN_SAFE) is None
    assert lifetime(modified, DATE, status=302) is None
    assert lifetime(modified, DATE, (b"cache-control", b"public"), status=302) == 360.0
    assert lifetime((b"last-modified", b"Sun, 06 Nov 1904 08:49:37 GMT"), DATE) == 86_400.0
    assert lifetime((b"last-modified", HOUR_LATER), DATE) == 0.0


@pytest.mark.parametrize(
    ("lines", "by_the_rfc", "expected"),
    [
        ([], 0, 0),
        ([b"7"], 7, 7),
        ([b" 7 "], 7, 7),
        ([b"9" * 99], 2**31, 2**31),
        ([b""], 0, 2**31),
        ([b"abc"], 0, 2**31),
        ([b"-7200"], 0, 2**31),
        ([b"7200.0"], 0, 2**31),
        ([b"7200;foo=bar"], 0, 2**31),
        ([b"7, 9"], 7, 2**31),
        ([b"9", b"7"], 9, 2**31),
        ([b"abc, 7"], 0, 2**31),
    ],
)
def test_the_age_that_comes_along_counts(
    lines: list[bytes], by_the_rfc: int, expected: int
) -> None:
    """By RFC 9111, 5.1, the first one counts, and what is none does not.

    Who is careful takes what is not one age for older than anything.
    """
    response = [(b"age", line) for line in lines]

    assert age_of(response, RFC9111) == by_the_rfc
    assert age_of(response, ORIGIN_SAFE) == expected


def test_fields_of_the_connection_are_not_stored() -> None:
    """Nor those that it names, nor those that are not to be reused; the others keep their order."""
    response = [
        (b"a", b"1"),
        (b"connection", b"keep-alive, X-Hop"),
        (b"x-hop", b"1"),
        (b"transfer-encoding", b"chunked"),
        (b"cache-control", b'max-age=1, no-cache="b"'),
        (b"b", b"2"),
        (b"a", b"3"),
        (b"age", b"4"),
    ]

    kept = stored_fields(response, response_control(response), but={b"age"})

    assert kept == [response[0], response[4], response[6]]
