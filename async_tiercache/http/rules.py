"""What a shared cache may store of a response, for how long that is fresh, and how old it is.

RFC 9111, sections 3 and 4.2. Time is an argument, in seconds since the epoch.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from async_tiercache.http.control import ResponseControl
from async_tiercache.http.fields import (
    LONGEST_SECONDS,
    TOKEN,
    Fields,
    date_of,
    elements_of,
    lines_of,
    seconds_of,
)

Refusal: TypeAlias = Literal[
    "method", "status", "malformed", "no-store", "private", "authorization", "set-cookie", "vary",
    "lifetime",
]  # fmt: skip
"""Why a response is not stored."""

UNDERSTOOD: Final = frozenset(
    {200, 203, 204, 206, 300, 301, 302, 303, 307, 308, 404, 405, 410, 414, 451, 501}
)
"""Final status codes whose caching is understood."""
HEURISTIC: Final = frozenset({200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501})
"""Those that may be given a lifetime by who is silent about it (RFC 9110, 15.1)."""
HEURISTIC_SHARE: Final = 0.1
HEURISTIC_LIMIT: Final = 86_400.0

_BREAKING: Final = (b"\r", b"\n", b"\x00")
"""What no value of a field holds (RFC 9110, 5.5)."""
_HOP_BY_HOP: Final = frozenset(
    {
        b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authentication-info",
        b"proxy-authorization", b"proxy-connection", b"te", b"trailer", b"transfer-encoding",
        b"upgrade",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Profile:
    """How much of what the RFCs allow is made use of.

    Attributes:
        name: What users call it.
        set_cookie: Whether responses that set a cookie may be stored.
        heuristic: Whether a response without a lifetime may be given one by its `Last-Modified`,
            and be stored to be validated where nothing of it says so.
        private_fields: Whether `private="field"` concerns that field only.
        any_status: Whether a final status that is not understood may be stored where the response
            does not ask for that.
        authorized: Whether responses to requests with `Authorization` may be stored that say so.
        stale_when_gone: Whether a stale response takes the place of an origin that does not answer,
            though nothing says that it may; it is kept for that.
        strict: Whether `private` and `no-store` count beside a field that is targeted at the cache.
        lists: Whether blanks around commas mean nothing in a field that tells variants apart, if it
            is not known to be no list.
        first_age: Whether the first age counts where there are several, and nothing where that is
            none; otherwise what is not one age is older than anything.
        parts: Whether a part that the application has made is stored for those who ask for it.
    """

    name: str
    set_cookie: bool
    heuristic: bool
    private_fields: bool
    any_status: bool
    authorized: bool
    stale_when_gone: bool
    strict: bool
    lists: bool
    first_age: bool
    parts: bool


ORIGIN_SAFE: Final = Profile(
    "origin-safe",
    set_cookie=False,
    heuristic=False,
    private_fields=False,
    any_status=False,
    authorized=False,
    stale_when_gone=False,
    strict=True,
    lists=False,
    first_age=False,
    parts=False,
)
"""Stores what its origin has clearly meant to be shared, and nothing else."""
RFC9111: Final = Profile(
    "rfc9111",
    set_cookie=True,
    heuristic=True,
    private_fields=True,
    any_status=True,
    authorized=True,
    stale_when_gone=True,
    strict=False,
    lists=True,
    first_age=True,
    parts=True,
)
"""Stores all that a shared cache may."""


def refusal(
    method: str,
    request: Fields,
    status: int,
    response: Fields,
    control: ResponseControl,
    *,
    profile: Profile,
    lifetime: float | None,
) -> Refusal | None:
    """Return why a response must not be stored; `None` if it may be (RFC 9111, 3).

    Args:
        method: The request's.
        request: Its fields.
        status: The response's.
        response: Its fields.
        control: What they say of caching.
        profile: How much is made use of.
        lifetime: For how long it is fresh; `None` if nothing says so.
    """
    if method != "GET":
        return "method"
    names = {name for name, _ in request}
    if (status == 206 or b"range" in names) and not (
        profile.parts and _is_part(names, status, response)
    ):
        return "status"
    understood = status in UNDERSTOOD
    if not understood and not (profile.any_status and _is_plain(status, control)):
        return "status"
    if not all(map(_is_field, response)):
        return "malformed"
    # Who understands the status obeys that, not `no-store` (RFC 9111, 5.2.2.3).
    if control.no_store and not (control.must_understand and understood):
        return "no-store"
    if control.private or (control.private_fields and not profile.private_fields):
        return "private"
    if b"authorization" in names and not (
        control.public or control.must_revalidate or control.s_maxage is not None
    ):
        return "authorization"
    if b"*" in elements_of(lines_of(response, b"vary")):
        return "vary"
    if not profile.set_cookie and lines_of(response, b"set-cookie"):
        return "set-cookie"
    kept = lifetime is not None or _may_be_validated(status, response, control, profile)
    return None if kept else "lifetime"


def _is_part(asked: Collection[bytes], status: int, response: Fields) -> bool:
    """Return whether a response is the part that its request asks for, by these fields.

    It is sent again as it came, to who asks for the very same: never combined with another one, and
    never cut. So it need not fit into a whole (RFC 9111, 3.3 and 3.4; RFC 9110, 15.3.7.3).
    """
    said = lines_of(response, b"content-range")
    is_range = len(said) == 1 and said[0].lower().startswith(b"bytes ")
    return status == 206 and b"range" in asked and is_range


def _is_field(field: tuple[bytes, bytes]) -> bool:
    """Return whether clients read a field as it is read here.

    Servers mend some names, or break off; a line break in a value is what an attacker has put there
    to add fields of his own.
    """
    name, value = field
    return TOKEN.fullmatch(name) is not None and not any(each in value for each in _BREAKING)


def _is_plain(status: int, control: ResponseControl) -> bool:
    """Return whether a status needs no understanding: its response is final, and of the whole."""
    return 200 <= status <= 599 and status not in {304, 416} and not control.must_understand


def _may_be_validated(
    status: int, response: Fields, control: ResponseControl, profile: Profile
) -> bool:
    """Return whether a response without a lifetime may be stored, to be validated each time.

    A validator alone permits nothing (RFC 9111, 3): the status does, or what the response says.
    """
    said = control.no_cache or control.public
    return (
        any(name in {b"etag", b"last-modified"} for name, _ in response)
        and (status in HEURISTIC or control.public)
        and (profile.heuristic or said)
    )


def lifetime_of(
    status: int,
    response: Fields,
    control: ResponseControl,
    *,
    profile: Profile,
    now: float,
    default: float | None = None,
) -> float | None:
    """Return for how long a response is fresh, in seconds; `None` if nothing says so.

    RFC 9111, 4.2.1: what is meant for shared caches comes first. What has no valid form is stale.

    Args:
        status: The response's.
        response: Its fields.
        control: What they say of caching.
        profile: How much is made use of.
        now: When it came.
        default: The lifetime where the response is silent.
    """
    for given in (control.s_maxage, control.max_age):
        if given is not None:
            return float(given)
    expires = () if control.targeted else lines_of(response, b"expires")
    if expires:
        end = date_of(expires[0].strip(), now=now) if len(set(expires)) == 1 else None
        if end is None:
            return 0.0
        return min(float(LONGEST_SECONDS), max(0.0, end - made_at(response, now)))
    if default is not None:
        return default
    if profile.heuristic and (status in HEURISTIC or control.public):
        modified = lines_of(response, b"last-modified")
        since = date_of(modified[0].strip(), now=now) if len(modified) == 1 else None
        if since is not None:
            unchanged = made_at(response, now) - since
            return min(HEURISTIC_LIMIT, max(0.0, HEURISTIC_SHARE * unchanged))
    return None


def made_at(response: Fields, now: float) -> float:
    """Return when the origin made a response, or when it came if that does not say."""
    lines = lines_of(response, b"date")
    date = date_of(lines[0].strip(), now=now) if len(lines) == 1 else None
    return now if date is None else date


def age_of(response: Fields, profile: Profile) -> int:
    """Return how old a response was when it came, as caches behind say (RFC 9111, 5.1).

    An origin's clock is not compared with ours.
    """
    lines = lines_of(response, b"age")
    if not lines:
        return 0
    if profile.first_age:
        return seconds_of(b"".join(elements_of(lines)[:1])) or 0
    age = seconds_of(lines[0].strip()) if len(lines) == 1 else None
    return LONGEST_SECONDS if age is None else age


def stored_fields(
    response: Fields, control: ResponseControl, *, but: Collection[bytes] = ()
) -> list[tuple[bytes, bytes]]:
    """Return the fields that are stored, in their order (RFC 9111, 3.1).

    Not those of the connection, nor those that `no-cache` and `private` name.

    Args:
        response: All fields.
        control: What they say of caching.
        but: Others that are left out.
    """
    named = (each.lower() for each in elements_of(lines_of(response, b"connection")))
    left_out = {
        *_HOP_BY_HOP, *(each for each in named if TOKEN.fullmatch(each)),
        *control.no_cache_fields, *control.private_fields, *but,
    }  # fmt: skip
    return [(name, value) for name, value in response if name not in left_out]
