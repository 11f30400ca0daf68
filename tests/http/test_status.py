"""What a cache says that it has done; and what is said to it alone."""

import pytest

from async_tiercache.http.control import ResponseControl, targeted_control
from async_tiercache.http.fields import Fields
from async_tiercache.http.rules import RFC9111, lifetime_of
from async_tiercache.http.status import CacheStatus
from async_tiercache.http.structured import list_of

OURS, CDN = b"shop-cache-control", b"cdn-cache-control"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (CacheStatus("shop"), b"shop; hit"),
        (CacheStatus("shop", ttl=-5), b"shop; hit; ttl=-5"),
        (CacheStatus("shop", refused=True, detail="mine"), b"shop; detail=mine"),
        (CacheStatus("shop", "uri-miss", stored=True), b"shop; fwd=uri-miss; stored"),
        (
            CacheStatus("shop", "stale", ttl=9, collapsed=True),
            b"shop; fwd=stale; ttl=9; collapsed",
        ),
        (
            CacheStatus("shop", "miss", forwarded_status=304, detail="l2"),
            b"shop; fwd=miss; fwd-status=304; detail=l2",
        ),
    ],
)
def test_each_thing_that_happened_is_a_parameter(status: CacheStatus, expected: bytes) -> None:
    """Of a member of a list that all caches on the way add to."""
    assert status.encode() == expected
    assert list_of([expected, status.encode()]) == ["shop", "shop"]


def test_what_is_said_to_this_cache_counts_alone() -> None:
    """RFC 9213: the first field that says something, most specific first."""
    response = [(CDN, b"max-age=5"), (OURS, b"max-age=60, no-store")]

    found = targeted_control(response, [OURS, CDN])

    assert found == ResponseControl(max_age=60, no_store=True, targeted=True)
    assert targeted_control(response, [CDN]) == ResponseControl(max_age=5, targeted=True)


@pytest.mark.parametrize(
    "line", [b"", b"MAX-AGE=60", b"max-age=60,", b'max-age="', b"max-age = 60"]
)
def test_a_targeted_field_that_is_invalid_is_not_there(line: bytes) -> None:
    """Then the next one counts."""
    response = [(OURS, line), (CDN, b"max-age=5")]

    found = targeted_control(response, [OURS, CDN])

    assert found is not None
    assert found.max_age == 5
    assert targeted_control(response, [OURS]) is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"max-age=60.5", ResponseControl(targeted=True)),
        (b'max-age="60"', ResponseControl(targeted=True)),
        (b"max-age", ResponseControl(targeted=True)),
        (b"max-age=-1", ResponseControl(max_age=0, targeted=True)),
        (b"max-age=999999999999", ResponseControl(max_age=2**31, targeted=True)),
        (b"no-store=?0, a", ResponseControl(targeted=True)),
        (b"no-store=1, a", ResponseControl(targeted=True)),
        (b"private", ResponseControl(private=True, targeted=True)),
        (b'private="x, y"', ResponseControl(private_fields=frozenset({b"x", b"y"}), targeted=True)),
        (b'private=""', ResponseControl(private=True, targeted=True)),
        (b"private=1", ResponseControl(private=True, targeted=True)),
        (b'private="a\\"b"', ResponseControl(private=True, targeted=True)),
    ],
)
def test_a_directive_of_another_kind_is_ignored(line: bytes, expected: ResponseControl) -> None:
    """But what makes a response private does so in any form."""
    assert targeted_control([(OURS, line)], [OURS]) == expected


def test_expires_says_nothing_beside_what_is_targeted() -> None:
    """Nor does it replace a lifetime that is not said there."""
    response: Fields = [(OURS, b"public"), (b"expires", b"Sun, 06 Nov 2094 08:49:37 GMT")]
    control = targeted_control(response, [OURS])

    assert control is not None
    assert lifetime_of(200, response, control, profile=RFC9111, now=0.0) is None
