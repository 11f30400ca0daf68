"""On what terms responses are stored, by what they say themselves and by what a rule adds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from async_tiercache.http.conditions import validating
from async_tiercache.http.control import ResponseControl
from async_tiercache.http.fields import LONGEST_SECONDS, Fields
from async_tiercache.http.rules import age_of, lifetime_of, refusal
from async_tiercache.http.stored import StoredResponse
from async_tiercache.http.vary import vary_of
from async_tiercache_integrations._http_keys import Scope
from async_tiercache_integrations._http_origin import Origin
from async_tiercache_integrations._http_rules import path_of

KEPT_STALE: Final = 86_400.0
"""For how long a response that can be validated is kept beyond its lifetime, in seconds."""
AUTHORIZATION: Final = b"authorization"
CONDITIONS: Final = frozenset({b"if-none-match", b"if-modified-since"})
"""Fields that an application must not see whose response is stored: it might leave out the rest."""
_SHORTEST: Final = 0.001


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a response is stored, and how.

    Attributes:
        refused: Why it is not; empty if it is.
        control: What it says of its reuse, with what a rule adds.
        lifetime: For how long it is fresh from its birth on, in seconds.
    """

    refused: str
    control: ResponseControl
    lifetime: float


class Terms:
    """What holds for the responses to one request.

    Args:
        origin: The application.
        scope: The request.
        asked: Its fields, by name.
    """

    def __init__(self, origin: Origin, scope: Scope, asked: Mapping[bytes, bytes]) -> None:
        self._origin = origin
        self._scope = scope
        self._asked = asked
        self._rule = origin.rule_for(scope)

    def scope(self, conditions: Fields) -> Scope:
        """Return the request as the application is shown it.

        Args:
            conditions: By which it is asked whether what is stored is current.
        """
        scope = {**self._scope} if self._rule is None else self._rule.scoped(self._scope)
        return {**scope, "headers": [*self.shown(), *conditions]}

    def shown(self) -> list[tuple[bytes, bytes]]:
        """Return what the application is shown of the request's own fields."""
        fields = [each for each in self._scope["headers"] if each[0] not in CONDITIONS]
        return fields if self._rule is None else self._rule.shown(fields)

    def stripped(self, fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return a response's fields without those that a rule takes off it."""
        return fields if self._rule is None else self._rule.stripped(fields)

    def varying(self, fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        """Return a response's fields, with those that it depends on by a rule."""
        return fields if self._rule is None else self._rule.varying(fields)

    def tags(self, fields: Fields) -> set[str]:
        """Return what a response stands under, by its fields and by a rule.

        Raises:
            UnkeyableError: A part of the path cannot stand in a tag of the rule.
        """
        tags = set(self._origin.tags_of(fields, self._scope))
        return tags if self._rule is None else tags.union(self._rule.tags_for(path_of(self._scope)))

    def born_at(self, fields: Fields, *, asked_at: float) -> float:
        """Return when a response was made: it may be as old as the request (RFC 9111, 4.2.3)."""
        return asked_at - age_of(fields, self._origin.profile)

    def verdict(
        self, status: int, fields: Fields, control: ResponseControl, *, renewed: bool = False
    ) -> Verdict:
        """Return whether a response is stored, as far as its beginning tells, and how.

        Args:
            status: Its status code.
            fields: Its fields.
            control: What they say of caching.
            renewed: Whether it is stored already, so that it needs no lifetime to be so.
        """
        origin, rule = self._origin, self._rule
        lifetime = lifetime_of(
            status, fields, control,
            profile=origin.profile, now=origin.clock.wall(),
            default=None if rule is None else rule.ttl_for(self._asked),
        )  # fmt: skip
        refused = refusal(
            self._scope["method"], self._scope["headers"], status, fields, control,
            profile=origin.profile, lifetime=0.0 if renewed and lifetime is None else lifetime,
        )  # fmt: skip
        lifetime = lifetime or 0.0
        graced = control if rule is None else rule.graced(control, lifetime)
        if refused is None and vary_of(fields) is None:
            refused = "vary"
        usable = not control.no_cache and lifetime > age_of(fields, origin.profile)
        if refused is None and not usable and not validating(fields):
            refused = "lifetime"
        return Verdict(refused or "", graced, lifetime)


def kept_seconds(response: StoredResponse, origin: Origin) -> float:
    """Return for how much longer a response is kept, fresh or stale."""
    control = response.control
    beyond: float = max(control.stale_while_revalidate or 0, control.stale_if_error or 0)
    if origin.validating(response) or origin.profile.stale_when_gone:
        beyond = max(beyond, KEPT_STALE)
    left = response.fresh_until - origin.clock.wall() + beyond
    # Two longest times in a row would be more than an entry may last.
    return min(float(LONGEST_SECONDS), max(_SHORTEST, left))
