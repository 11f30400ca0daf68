"""Options: policies with inheritance, the size of L1, and how durations and sizes are spelled.

A policy field left UNSET inherits: call, then decorator keyword, then the decorator's policy, then
the cache's policy, then the built-in default. A literal 0 counts as given.
"""

import enum
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from typing import Any, Final, Literal, Self, TypeAlias, TypedDict

from async_tiercache._compression import Algorithm, Compression, compression_of
from async_tiercache.errors import ConfigurationError


class Unset(enum.Enum):
    """The type of UNSET: the option was not given here and is inherited."""

    UNSET = enum.auto()

    def __repr__(self) -> str:
        return "UNSET"


class Missing(enum.Enum):
    """The type of MISSING: the cache holds no such value (`None` is a value)."""

    MISSING = enum.auto()

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> Literal[False]:
        return False


UNSET: Final = Unset.UNSET
MISSING: Final = Missing.MISSING

Duration: TypeAlias = float | timedelta | str
Size: TypeAlias = int | str
OnAbandon: TypeAlias = Literal["cancel", "finish"]
Isolation: TypeAlias = Literal["share", "copy", "check"]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)?")
_BYTES = {
    "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30,
}  # fmt: skip


def seconds(duration: Duration, *, name: str = "duration") -> float:
    """Return a duration in seconds.

    Args:
        duration: Seconds, a `timedelta`, or text such as ``"30s"``, ``"5m"``, ``"1h30m"``.
        name: The option's name, for the error.

    Raises:
        ConfigurationError: It is negative, not finite, or not a duration.

    Example:
        >>> seconds("1h30m")
        5400.0
    """
    if isinstance(duration, timedelta):
        result = duration.total_seconds()
    elif isinstance(duration, str):
        parts = _DURATION.findall(duration)
        if not parts or "".join(number + unit for number, unit in parts) != duration:
            raise ConfigurationError(
                f"{name}={duration!r} is not a duration",
                hint='Write seconds as a number, a timedelta, or text such as "30s", "5m", "1h".',
            )
        result = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    elif isinstance(duration, bool) or not isinstance(duration, int | float):
        raise ConfigurationError(
            f"{name}={duration!r} is not a duration",
            hint='Write seconds as a number, a timedelta, or text such as "30s", "5m", "1h".',
        )
    else:
        try:
            result = float(duration)
        except OverflowError:
            result = math.inf
    if not 0 <= result < math.inf:
        raise ConfigurationError(
            f"{name}={duration!r} must be finite and not negative",
            hint="Pass a duration of 0 or more.",
        )
    return result


def lifetime_in_seconds(duration: Duration, *, name: str) -> float:
    """Return how long something of an entry lasts, in seconds.

    Raises:
        ConfigurationError: It is no duration, or a mistaken one of more than a hundred years.
    """
    result = seconds(duration, name=name)
    if result > _LONGEST:
        raise ConfigurationError(
            f"{name}={duration!r} is more than a hundred years",
            hint='A number means seconds; for years of it, write a text such as "365d".',
        )
    return result


def size_in_bytes(size: Size, *, name: str = "size") -> int:
    """Return a size in bytes.

    Args:
        size: Bytes, or text such as ``"64MiB"`` or ``"10MB"``.
        name: The option's name, for the error.

    Raises:
        ConfigurationError: It is not a positive size.

    Example:
        >>> size_in_bytes("64KiB")
        65536
    """
    result = 0
    if isinstance(size, str):
        match = _SIZE.fullmatch(size)
        if match is not None:
            result = int(float(match[1]) * _BYTES[match[2] or "B"])
    elif not isinstance(size, bool):
        result = size
    if not isinstance(result, int) or result <= 0:
        raise ConfigurationError(
            f"{name}={size!r} is not a positive size",
            hint='Write bytes as a whole number, or text such as "64MiB".',
        )
    return result


@dataclass(frozen=True, slots=True, init=False)
class L1:
    """The bounds of the memory tier.

    Args:
        max_entries: How many entries may be kept.
        max_bytes: How many encoded bytes of values may be kept, as a number or ``"64MiB"``. A value
            larger than an eighth of it is not kept; statistics count it.
    """

    max_entries: int
    max_bytes: int

    def __init__(self, max_entries: int = 10_000, max_bytes: Size = "64MiB") -> None:
        if isinstance(max_entries, bool) or not isinstance(max_entries, int) or max_entries < 1:
            raise ConfigurationError(
                f"max_entries={max_entries!r} must be a whole number above 0",
                hint="To switch L1 off pass l1=None to TierCache.",
            )
        object.__setattr__(self, "max_entries", max_entries)
        object.__setattr__(self, "max_bytes", size_in_bytes(max_bytes, name="max_bytes"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How long values live and how they are loaded; a field left UNSET is inherited.

    Attributes:
        ttl: How long a value is fresh.
        l1_ttl: How long this process may serve its own copy before it asks L2 again; capped by
            what is left of `ttl`.
        jitter: By which share of it a ttl is shortened at random, 0 to below 1, so that values
            stored together do not expire together.
        grace: How long past `ttl` a stale value may be served, while one caller refreshes it or
            when the loader fails.
        early: Eagerness of early expiration (the beta of XFetch); 0 switches it off.
        soft_timeout: How long a reader waits for a refresh before it takes the stale value; the
            load goes on.
        load_limit: How long a load may take before it is given up with `LoadTimeoutError`.
        negative_ttl: How long a `None` is fresh; 0 keeps no `None` at all. UNSET everywhere: `ttl`.
            What a batch loader leaves out is kept for this long only, and not at all while it is
            UNSET.
        max_value_bytes: The largest encoded value that is kept; a larger one goes to its callers
            only. `None` for any size.
        isolation: ``"share"``: callers get the object that L1 holds, and must not change it.
            ``"copy"``: each caller gets its own. ``"check"``: as ``"share"``, and what was changed
            is found and logged when it leaves L1; for tests.
        on_abandon: Whether a load whose callers have all gone is cancelled or finished.
        schema_version: Part of the schema's fingerprint; raise it when the meaning of stored values
            changes and their types do not.
        compression: How values are compressed in L2: ``"zstd"``, ``"lz4"``, ``"zlib"``, a
            `Compression`, or `None` for not at all.
    """

    ttl: Duration | Unset = UNSET
    l1_ttl: Duration | Unset = UNSET
    jitter: float | Unset = UNSET
    grace: Duration | Unset = UNSET
    early: float | Unset = UNSET
    soft_timeout: Duration | Unset | None = UNSET
    load_limit: Duration | Unset = UNSET
    negative_ttl: Duration | Unset | None = UNSET
    max_value_bytes: Size | Unset | None = UNSET
    isolation: Isolation | Unset = UNSET
    on_abandon: OnAbandon | Unset = UNSET
    schema_version: int | str | Unset = UNSET
    compression: Compression | Algorithm | Unset | None = UNSET

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            _check_duration(name, getattr(self, name))
        if self.ttl is not UNSET and seconds(self.ttl) == 0:
            raise ConfigurationError("ttl=0 would keep nothing", hint="Pass a ttl above 0.")
        if self.load_limit is not UNSET and seconds(self.load_limit) == 0:
            raise ConfigurationError(
                "load_limit=0 would let no loader finish", hint="Pass a load_limit above 0."
            )
        if not _within(self.jitter, below=1):
            raise ConfigurationError(
                f"jitter={self.jitter!r} is not a share of the ttl",
                hint="Pass a number from 0 to below 1; 0.1 takes up to a tenth off.",
            )
        if not _within(self.early, below=math.inf):
            raise ConfigurationError(
                f"early={self.early!r} is not an eagerness",
                hint="Pass a number, 0 or above; 1.0 suits most loads, 0 switches it off.",
            )
        if self.max_value_bytes is not UNSET and self.max_value_bytes is not None:
            size_in_bytes(self.max_value_bytes, name="max_value_bytes")
        self._check_words()
        if self.compression is not UNSET:
            compression_of(self.compression)

    def _check_words(self) -> None:
        if self.isolation not in (UNSET, "share", "copy", "check"):
            raise ConfigurationError(
                f"isolation={self.isolation!r} is unknown", hint='Pass "share", "copy" or "check".'
            )
        if self.on_abandon not in (UNSET, "cancel", "finish"):
            raise ConfigurationError(
                f"on_abandon={self.on_abandon!r} is unknown", hint='Pass "cancel" or "finish".'
            )
        if not isinstance(self.schema_version, int | str | Unset):
            raise ConfigurationError(
                f"schema_version={self.schema_version!r} is no number or text",
                hint="Count it up: 1, 2, 3.",
            )

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed.

        Raises:
            ConfigurationError: A field is unknown or its value cannot be used.
        """
        unknown = changes.keys() - POLICY_FIELDS
        if unknown:
            raise ConfigurationError(
                f"Policy has no field {', '.join(sorted(unknown))}",
                hint=f"The fields are {', '.join(sorted(POLICY_FIELDS))}.",
            )
        return replace(self, **changes)

    def over(self, base: "Policy") -> "Policy":
        """Return this policy with what it leaves UNSET taken from `base`."""
        given = {
            name: value for name in POLICY_FIELDS if (value := getattr(self, name)) is not UNSET
        }
        return replace(base, **given) if given else base


def _within(value: Any, *, below: float) -> bool:
    if value is UNSET:
        return True
    return isinstance(value, int | float) and 0 <= value < below


def _check_duration(name: str, value: Any) -> None:
    unchecked = (UNSET, None) if name in _OPTIONAL else (UNSET,)
    if value not in unchecked:
        lifetime_in_seconds(value, name=name)


_LONGEST = 100 * 365 * 86_400.0
_DURATIONS = ("ttl", "l1_ttl", "grace", "soft_timeout", "load_limit", "negative_ttl")
_OPTIONAL = frozenset({"soft_timeout", "negative_ttl"})
POLICY_FIELDS: Final = frozenset(field.name for field in fields(Policy))

BUILT_IN: Final = Policy(
    ttl="5m",
    l1_ttl="30s",
    jitter=0.1,
    grace=0.0,
    early=1.0,
    soft_timeout=None,
    load_limit="30s",
    negative_ttl=None,
    max_value_bytes=None,
    isolation="share",
    on_abandon="cancel",
    schema_version=0,
    compression=None,
)

HOT: Final = Policy(ttl="30m")
"""For what is read all the time and may be half an hour old."""
WARM: Final = Policy(ttl="1h")
"""For what is read often."""
COLD: Final = Policy(ttl="24h")
"""For what is read now and then and hardly ever changes."""
STATIC: Final = Policy(ttl="7d")
"""For what changes with a release."""


class PolicyFields(TypedDict, total=False):
    """The fields of a `Policy`, as keywords of a decorator or a call."""

    ttl: Duration
    l1_ttl: Duration
    jitter: float
    grace: Duration
    early: float
    soft_timeout: Duration | None
    load_limit: Duration
    negative_ttl: Duration | None
    max_value_bytes: Size | None
    isolation: Isolation
    on_abandon: OnAbandon
    schema_version: int | str
    compression: Compression | Algorithm | None


@dataclass(frozen=True, slots=True)
class Limits:
    """A policy with nothing left to inherit, in seconds; what the read path works with."""

    ttl: float
    l1_ttl: float
    jitter: float
    grace: float
    early: float
    soft_timeout: float | None
    load_limit: float
    negative_ttl: float | None
    max_value_bytes: int | None
    isolation: Isolation
    on_abandon: OnAbandon
    schema_version: str
    compression: Compression | None

    @classmethod
    def of(cls, *policies: Policy) -> "Limits":
        """Resolve policies, the most specific first, over the built-in defaults."""
        merged = BUILT_IN
        for policy in reversed(policies):
            merged = policy.over(merged)
        values: dict[str, Any] = {}
        for name in POLICY_FIELDS:
            value = getattr(merged, name)
            values[name] = seconds(value) if name in _DURATIONS and value is not None else value
        if values["max_value_bytes"] is not None:
            values["max_value_bytes"] = size_in_bytes(values["max_value_bytes"])
        values["schema_version"] = str(merged.schema_version)
        values["compression"] = compression_of(merged.compression)
        return cls(**values)


def policy_of(policy: Policy | None, policy_fields: Mapping[str, Any]) -> Policy:
    """Return one policy from a decorator's `policy=` and its single fields, which win.

    Raises:
        ConfigurationError: It is no policy, or a field is unknown or cannot be used.
    """
    if not isinstance(policy, Policy | None):
        raise ConfigurationError(
            f"policy={policy!r} is no Policy", hint='Pass Policy(ttl="5m", ...), or one of its kin.'
        )
    return (policy or Policy()).replace(**policy_fields)
