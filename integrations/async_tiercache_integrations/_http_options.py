"""What a response cache may be given; anything else is refused when it is made."""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, cast

from async_tiercache import TierCache
from async_tiercache._options import Size, Unset, size_in_bytes
from async_tiercache.errors import ConfigurationError
from async_tiercache.http.fields import TOKEN
from async_tiercache.http.negotiation import Normaliser
from async_tiercache.http.rules import ORIGIN_SAFE, RFC9111
from async_tiercache_integrations._http_edge import Edge
from async_tiercache_integrations._http_origin import Detail
from async_tiercache_integrations._http_rules import Rule

_NAME: Final = re.compile("[A-Za-z][A-Za-z0-9-]*")

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+(:[0-9]+)?|\[[0-9A-Fa-f:.]+\](:[0-9]+)?")
PROFILES: Final = {profile.name: profile for profile in (ORIGIN_SAFE, RFC9111)}


def check_parts(app: object, cache: object, edge: object) -> None:
    """Refuse parts that are none.

    Raises:
        ConfigurationError: One is none.
    """
    if not callable(app):
        raise ConfigurationError(
            f"The application {app!r} cannot be called", hint="Pass an ASGI application."
        )
    if not isinstance(cache, TierCache):
        raise ConfigurationError(
            f"cache={cache!r} is no TierCache", hint='Pass TierCache(url, namespace="shop").'
        )
    if not isinstance(edge, Edge | None):
        raise ConfigurationError(
            f"edge={edge!r} is no Edge", hint='Pass Edge(tags="Surrogate-Key"), or leave it out.'
        )


def check_choices(
    profile: Any, name: Any, clients: object, groups: object, read_your_writes: object
) -> None:
    """Refuse choices that there are not.

    Raises:
        ConfigurationError: There is not one.
    """
    # Looked for in tuples: what has no hash is refused as well.
    if profile not in tuple(PROFILES):
        raise ConfigurationError(
            f"There is no profile {profile!r}", hint=f"Use one of {', '.join(PROFILES)}."
        )
    if name is not None and not (isinstance(name, str) and _NAME.fullmatch(name)):
        raise ConfigurationError(
            f"The name {name!r} is no token", hint="Use letters, digits and hyphens."
        )
    if clients not in ("ignore", "honour") and not callable(clients):
        raise ConfigurationError(
            f"clients={clients!r} is nothing that counts",
            hint='Pass "ignore", "honour", or a function of the scope.',
        )
    if groups not in ("ignore", "honour"):
        raise ConfigurationError(
            f"groups={groups!r} is nothing that counts", hint='Pass "ignore" or "honour".'
        )
    if read_your_writes not in (None, "cookie", "header"):
        raise ConfigurationError(
            f"read_your_writes={read_your_writes!r} carries no token",
            hint='Pass "cookie" or "header".',
        )


def checked_detail(detail: Any) -> Detail:
    """Return how much `Cache-Status` tells.

    Raises:
        ConfigurationError: It is nothing that says so.
    """
    if not (detail is None or isinstance(detail, bool) or callable(detail)):
        raise ConfigurationError(
            f"detail={detail!r} says nothing of Cache-Status",
            hint="Pass True, False, None, or a function of the scope that returns one of them.",
        )
    return cast("Detail", detail)


def targets_of(name: str | None, profile: str) -> tuple[bytes, ...]:
    """Return the fields by which a response speaks to a cache, the most specific one first."""
    own = () if name is None else (f"{name.lower()}-cache-control".encode(),)
    return (*own, b"cdn-cache-control") if profile == RFC9111.name else own


def checked_rules(rules: Any) -> tuple[Rule, ...]:
    """Return the rules.

    Raises:
        ConfigurationError: One is none.
    """
    listed = cast("Sequence[object]", rules if isinstance(rules, Sequence) else [None])
    found = tuple(rule for rule in listed if isinstance(rule, Rule))
    if len(found) < len(listed):
        raise ConfigurationError(
            f"rules={rules!r} is no list of rules",
            hint='Pass rules=[Rule("/products/{number}", ttl="5m")].',
        )
    return found


def largest_content(cache: TierCache, max_body: Size) -> int:
    """Return how large a content may be, in bytes, by its own limit and by that of all values.

    One place decides, and before the client is told that a response is stored.

    Raises:
        ConfigurationError: The limit is no size.
    """
    largest = size_in_bytes(max_body, name="max_body")
    of_values = cache._policy.max_value_bytes  # noqa: SLF001 - no other part of it is asked for
    if of_values is None or isinstance(of_values, Unset):
        return largest
    return min(largest, size_in_bytes(of_values))


def checked_variants(most: Any) -> int:
    """Return how many variants a URL may have.

    Raises:
        ConfigurationError: None could be stored.
    """
    if not isinstance(most, int) or most < 1:
        raise ConfigurationError(
            f"max_variants={most!r} leaves no response", hint="Pass a whole number from 1 on."
        )
    return most


def checked_hosts(hosts: Any) -> frozenset[bytes]:
    """Return the hosts for which responses are stored, in lower case.

    Raises:
        ConfigurationError: They are no list, or one is no host.
    """
    is_list = isinstance(hosts, Collection) and not isinstance(hosts, str)
    listed = cast("Collection[object]", hosts if is_list else [None])
    named = [host for host in listed if isinstance(host, str) and _HOST.fullmatch(host)]
    if len(named) < len(listed):
        raise ConfigurationError(
            f"hosts={hosts!r} is no list of hosts", hint='Pass hosts=["shop.example"].'
        )
    return frozenset(host.lower().encode("ascii") for host in named)


def checked_normalisers(normalise: Any) -> list[tuple[bytes, Normaliser]]:
    """Return what takes the place of the values of request fields, by their names.

    Raises:
        ConfigurationError: A name is no field, or what should be a function is none.
    """
    if not isinstance(normalise, Mapping):
        raise ConfigurationError(
            f"normalise={normalise!r} is no mapping",
            hint='Pass normalise={"accept-language": languages("en", "de")}.',
        )
    checked: list[tuple[bytes, Normaliser]] = []
    for name, function in cast("Mapping[object, Any]", normalise).items():
        field = str(name).lower().encode()
        if not TOKEN.fullmatch(field) or not callable(function):
            raise ConfigurationError(
                f"normalise={{{name!r}: {function!r}}} is no field and function",
                hint="Name a request field, and a function of its value.",
            )
        checked.append((field, cast("Normaliser", function)))
    return checked
