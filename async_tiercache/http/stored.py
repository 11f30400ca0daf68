"""A stored response: how it comes about, whether it may be reused, and what it answers.

Time is an argument, in seconds since the epoch.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from math import inf
from typing import Final, Literal, TypeAlias

from async_tiercache.http.conditions import fields_of_304, is_unmodified, updated
from async_tiercache.http.control import RequestControl, ResponseControl
from async_tiercache.http.fields import LONGEST_SECONDS, Fields, lines_of, shared
from async_tiercache.http.ranges import Outside, Range, Whole, content_range_outside, range_of
from async_tiercache.http.rules import stored_fields

Reuse: TypeAlias = Literal["fresh", "stale-while-revalidate", "stale-if-error", "validate"]
"""Whether a stored response may be served: at once; at once, while it is validated; if the origin
fails; or only once the origin has said that it is current."""

_AGE: Final = b"age"
_LENGTH: Final = b"content-length"
_SELECTING: Final = frozenset({b"if-none-match", b"if-modified-since", b"range"})
"""A request without these is answered with the whole."""
_CONDITIONAL: Final = frozenset({200, 206})
"""A client that has one of these needs no other one like it (RFC 9111, 4.3.2)."""
_OF_THE_WHOLE: Final = frozenset({_LENGTH, b"content-digest", b"content-md5"})
"""Fields of the content that is sent: a part has others than the whole (RFC 9530, 2)."""
_NO_CONTENT: Final = frozenset({204, 304})


class Ready:
    """What answers most requests with a stored response, worked out once.

    Age and lifetime are told in whole seconds, and so what tells them is good for up to one.

    Attributes:
        by: Who says more in it than others do.
        tag: The entity tag, as most clients send it back; without one, a text that nobody sends.
        fields: The fields of the whole response, with what is to be said besides; to be copied.
        fields_of_304: Those of a 304, with that; to be copied, too.
        since: From when on it is right.
        until: Until when.
    """

    __slots__ = ("by", "fields", "fields_of_304", "since", "tag", "until")

    def __init__(self, found: "StoredResponse", by: object) -> None:
        tags = lines_of(found.fields, b"etag")
        self.by = by
        self.tag = tags[0] if len(tags) == 1 and found.status == 200 else b"\n"
        self.fields: list[tuple[bytes, bytes]] = []
        self.fields_of_304: list[tuple[bytes, bytes]] = []
        self.since = self.until = -inf

    def renew(self, found: "StoredResponse", told: Fields, *, age: int, now: float) -> None:
        """Be right from now on.

        Args:
            found: The stored response.
            told: What is to be said besides its age.
            age: That.
            now: The present.
        """
        said = (_age_field(age), *told)
        self.fields = [*found.fields, *said]
        self.fields_of_304 = [*fields_of_304(found.fields), *said]
        self.since = now
        fresh_until = found.fresh_until
        self.until = min(found.born_at + age + 1, fresh_until - int(fresh_until - now))


class _Answering:
    """Has a place for what answers with it, which is not stored with it, nor there at first."""

    __slots__ = ("ready",)
    ready: Ready


@dataclass(frozen=True, slots=True)
class StoredResponse(_Answering):
    """A complete response, or a part of one as its application has made it.

    Attributes:
        status: Its status code.
        fields: Its fields, but for those of the connection.
        body: Its content.
        control: What it says of its reuse.
        born_at: When it was made, as far as caches behind have told its age.
        lifetime: For how long it is fresh from then on.
        tags: What it stands under, which a validation must not forget.
    """

    status: int
    fields: tuple[tuple[bytes, bytes], ...]
    body: bytes
    control: ResponseControl
    born_at: float
    lifetime: float
    tags: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Hold it once from the beginning."""
        self.share()

    def share(self) -> None:
        """Hold what many responses have in common once; one from L2 has all of its own."""
        object.__setattr__(self, "fields", shared(self.fields))
        object.__setattr__(self, "control", _shared(self.control))
        object.__setattr__(self, "lifetime", _shared_seconds(self.lifetime))

    @property
    def fresh_until(self) -> float:
        """From here on it is stale."""
        return self.born_at + self.lifetime

    def readied(self, told: Callable[[int], Fields], *, by: object, now: float) -> Ready | None:
        """Return what answers most requests from now on; `None` if it must not be served unasked.

        Args:
            told: Returns what is to be said of it, given for how many seconds it is fresh.
            by: Who says that.
            now: The present.
        """
        fresh_until = self.fresh_until
        if self.control.no_cache or now >= fresh_until:
            return None
        ready: Ready | None = getattr(self, "ready", None)
        if ready is None or ready.by is not by:
            ready = Ready(self, by)
            object.__setattr__(self, "ready", ready)
        ready.renew(self, told(int(fresh_until - now)), age=self.age(now), now=now)
        return ready

    def age(self, now: float) -> int:
        """Return how old it is, in seconds."""
        age = int(now - self.born_at)
        return age if 0 <= age <= LONGEST_SECONDS else LONGEST_SECONDS * (age > 0)

    def reuse(self, asked: RequestControl | None, *, now: float) -> Reuse:
        """Return whether a request may be answered with it (RFC 9111, 4.2; RFC 5861).

        Args:
            asked: What the request asks for; `None` where clients are not asked.
            now: The present.
        """
        control, left = self.control, self.fresh_until - now
        # What does not change while it is fresh is young until then (RFC 8246, 2.1).
        age = 0 if control.immutable and left > 0 else self.age(now)
        if control.no_cache or (asked is not None and _is_refused(asked, age, left)):
            return "validate"
        if left > 0:
            return "fresh"
        if self._is_never_stale:
            return "validate"
        if asked is not None and self._is_left_to(asked, beyond=-left):
            return "fresh"
        if -left < (control.stale_while_revalidate or 0):
            return "stale-while-revalidate"
        return "stale-if-error" if -left < (control.stale_if_error or 0) else "validate"

    @property
    def _is_never_stale(self) -> bool:
        """Whether it must not be served stale (RFC 9111, 4.2.4)."""
        control = self.control
        return control.must_revalidate or control.proxy_revalidate or control.s_maxage is not None

    def _is_left_to(self, asked: RequestControl, *, beyond: float) -> bool:
        """Return whether a client may have it so long after its lifetime (RFC 9111, 5.2.1.2).

        Not if there is something of another client in it.
        """
        if asked.max_stale is None or self.control.private_fields:
            return False
        return beyond <= asked.max_stale and not lines_of(self.fields, b"set-cookie")

    def is_unmodified(self, asked: Mapping[bytes, bytes], *, now: float) -> bool:
        """Return whether the client has it, so that a 304 answers it (RFC 9110, 13.2.2).

        Args:
            asked: The request's conditions, or all of its fields.
            now: The present.
        """
        return self.status in _CONDITIONAL and is_unmodified(asked, self.fields, now=now)

    def may_replace_error(self, *, now: float) -> bool:
        """Return whether it may be served stale in place of an error (RFC 5861, 4)."""
        return self.reuse(None, now=now) in {"stale-while-revalidate", "stale-if-error"}

    def may_replace_silence(self) -> bool:
        """Return whether it may be served stale where the origin does not answer (4.2.4).

        Not if it never was fresh: nothing has said then that it is for all.
        """
        was_fresh = self.fresh_until > self.born_at
        return was_fresh and not (self.control.no_cache or self._is_never_stale)

    def validated(
        self, response: Fields, control: ResponseControl, *, born_at: float, fresh_until: float
    ) -> "StoredResponse":
        """Return it as a 304 has renewed it (RFC 9111, 4.3.4).

        Args:
            response: The fields of the 304.
            control: What the renewed fields say.
            born_at: When it was made, as the 304 tells.
            fresh_until: From when on it is stale.
        """
        fields = tuple(updated(self.fields, stored_fields(response, control, but={_AGE})))
        # Rounded, so that the sum of the two is the very instant again.
        lifetime = round(fresh_until - born_at, 6)
        return replace(self, fields=fields, control=control, born_at=born_at, lifetime=lifetime)


def stored(
    status: int,
    response: Fields,
    body: bytes,
    control: ResponseControl,
    *,
    lifetime: float | None,
    born_at: float,
) -> StoredResponse:
    """Return a response as it is stored.

    Args:
        status: Its status code.
        response: Its fields.
        body: Its content.
        control: What they say of its reuse.
        lifetime: For how long it is fresh from its birth on; `None` if nothing says so.
        born_at: When it was made.
    """
    fields = stored_fields(response, control, but={_AGE})
    if _LENGTH not in {name for name, _ in fields} and status not in _NO_CONTENT:
        fields.append((_LENGTH, b"%d" % len(body)))
    return StoredResponse(status, tuple(fields), body, control, born_at, float(lifetime or 0))


@lru_cache(maxsize=1024)
def _shared(control: ResponseControl) -> ResponseControl:
    return control


@lru_cache(maxsize=1024)
def _shared_seconds(seconds: float) -> float:
    return seconds


@lru_cache(maxsize=4096)
def _age_field(age: int) -> tuple[bytes, bytes]:
    return _AGE, b"%d" % age


Answer: TypeAlias = tuple[int, list[tuple[bytes, bytes]], bytes]
"""What is sent to a client: the status code, the fields, the content."""


def answer_of(
    found: StoredResponse, method: str, request: Mapping[bytes, bytes], *, now: float
) -> Answer:
    """Return what answers a request from a stored response (RFC 9110, 13.2.2 and 14.2).

    Args:
        found: The stored response, which may be reused.
        method: ``"GET"`` or ``"HEAD"``.
        request: The request's fields, the lines of each joined.
        now: The present.
    """
    age = _age_field(found.age(now))
    if method == "GET" and _SELECTING.isdisjoint(request):
        return found.status, [*found.fields, age], found.body
    if found.is_unmodified(request, now=now):
        return 304, [*fields_of_304(found.fields), age], b""
    if method == "HEAD":
        return found.status, [*found.fields, age], b""
    part: Range | Whole | Outside = "whole"
    if found.status == 200:
        part = range_of(request, found.fields, len(found.body), born_at=found.born_at)
    if part == "outside":
        outside = (b"content-range", content_range_outside(len(found.body)))
        return 416, [outside, (_LENGTH, b"0"), age], b""
    if isinstance(part, Range):
        length = (_LENGTH, b"%d" % (part.last + 1 - part.first))
        fields = [each for each in found.fields if each[0] not in _OF_THE_WHOLE]
        content = found.body[part.first : part.last + 1]
        return 206, [*fields, length, (b"content-range", part.content_range), age], content
    return found.status, [*found.fields, age], found.body


def _is_refused(asked: RequestControl, age: int, left: float) -> bool:
    """Return whether a request wants something younger, or something that lasts longer."""
    if asked.no_cache or (asked.max_age is not None and age > asked.max_age):
        # With `max-stale` beside it, too: that widens a lifetime, not an age.
        return True
    return asked.min_fresh is not None and left < asked.min_fresh
