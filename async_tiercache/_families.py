"""The families of one cache: by name, and for the values of calls that belong to none."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from math import inf
from types import CodeType
from typing import Any, Final

from async_tiercache._compression import Compression
from async_tiercache._family import Family
from async_tiercache._options import Limits, Policy, policy_of
from async_tiercache._statistics import Counts
from async_tiercache.codecs.returned import DeferredCodec
from async_tiercache.codecs.typed import TypedCodec, codec_for
from async_tiercache.errors import ConfigurationError

DIRECT: Final = "get_or_load"
"""The name of the family of calls by key."""
_MAX_DIRECT: Final = 256


class Families:
    """Resolves policies, and knows the counts and the codecs of every family.

    Args:
        policy: What every family inherits.
        alone: Whether there is no L2.
        learn: Is told of every compression that a family uses.
        forget: Removes from L1 what was kept for a family.

    Attributes:
        counts: By name.
        direct: The family of calls by key that say nothing else.
        scopes: By name and by what its function stands in, what of `self` comes first in the keys
            of a family.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        alone: bool,
        learn: Callable[[Compression | None], None],
        forget: Callable[[Family], None],
    ) -> None:
        self._policy = policy
        self._alone = alone
        self._learn = learn
        self._forget = forget
        self.counts: dict[str, Counts] = {DIRECT: Counts()}
        self.scopes = defaultdict[str, dict[tuple[str, str], Callable[[Any], object] | None]](dict)
        self._local: dict[str, CodeType] = {}
        self._direct: dict[Any, Family] = {}
        self._understood: dict[bytes, Family] = {}
        self._classes: dict[bytes, frozenset[type]] = {}
        self._deferred: list[tuple[DeferredCodec, Limits]] = []
        plain, defaults = codec_for(Any), self.limits(Policy())
        self.direct = Family(DIRECT, defaults, plain, counts=self.counts[DIRECT])
        self.know(plain, defaults)

    def limits(self, policy: Policy) -> Limits:
        """Return a family's policy with nothing left to inherit."""
        limits = Limits.of(policy, self._policy)
        self._learn(limits.compression)
        # With nobody else to ask, this process's copy is as good as its ttl says.
        return replace(limits, l1_ttl=inf) if self._alone else limits

    def counts_of(self, name: str) -> Counts:
        """Return the counts of a family, which begin with its first function."""
        return self.counts.setdefault(name, Counts())

    def claim(self, name: str, function: Callable[..., Any], template: str | None) -> None:
        """Let a function have the keys that its name makes, if it has no template.

        Raises:
            ConfigurationError: It is defined inside a function that defines another one by that
                name, as in two branches.
        """
        code: CodeType | None = getattr(function, "__code__", None)
        if template is not None or code is None or "<locals>" not in name:
            return
        before = self._local.setdefault(name, code)
        # One of another file comes from a notebook's cell that was changed and run again.
        if before != code and before.co_filename == code.co_filename:
            raise ConfigurationError(
                f"{name} needs a template: another function of that name, in line "
                f"{before.co_firstlineno}, has the same default keys",
                hint="Give it a template or another name.",
            )

    def scopes_of(self, name: str, owner: object) -> Iterable[Callable[[Any], object] | None]:
        """Return what may come first in the keys of a name that an object means.

        Classes may share a template: to an object of one of them it means the keys of that class,
        its own or the nearest that it inherits from, to any other those of all.
        """
        known = self.scopes.get(name)
        if owner is None or not known:
            return (None,)
        for kind in type(owner).__mro__:
            if (kind.__module__, kind.__qualname__) in known:
                return (known[kind.__module__, kind.__qualname__],)
        return known.values()

    def direct_of(
        self, annotation: Any, policy: Policy | None, fields: Mapping[str, Any]
    ) -> Family:
        """Return a family for a call by key.

        Args:
            annotation: What the call's loader returns.
            policy: The options of the call.
            fields: Its single options, which win.
        """
        identity = (annotation, policy, tuple(fields.items()))
        try:
            family = self._direct.get(identity)
        except TypeError as error:
            policy_of(policy, fields)  # Most of what has no hash is no option: this says which.
            raise ConfigurationError(
                f"The options of a call must have a hash: {error}",
                hint="Pass plain values.",
            ) from None
        if family is None:
            limits = self.limits(policy_of(policy, fields))
            codec = codec_for(annotation, schema_version=limits.schema_version)
            family = Family(DIRECT, limits, codec, counts=self.counts[DIRECT])
            if len(self._direct) >= _MAX_DIRECT:
                self._direct.clear()
            self._direct[identity] = family
            self.know(codec, limits)
        return family

    def know(self, codec: TypedCodec | DeferredCodec, limits: Limits) -> None:
        """Let calls by key understand what a codec has stored; each codec once.

        Classes of one name and shape have one fingerprint, whatever their modules are. A key does
        not tell which is meant, so once there are two, calls by key understand neither.

        Args:
            codec: The codec.
            limits: Those of a family that uses it. If its callers share nothing, what a call by key
                keeps for them is not shared either.
        """
        try:
            fingerprint, classes = codec.fingerprint, codec.classes
        except ConfigurationError:
            if isinstance(codec, DeferredCodec):
                self._deferred.append((codec, limits))
            return
        known, mine = self._understood.get(fingerprint), self.direct.limits
        if limits.isolation == "copy":
            mine = replace(mine, isolation="copy")
        direct = Family(DIRECT, mine, codec, counts=self.counts[DIRECT])
        if fingerprint not in self._classes:
            self._classes[fingerprint] = classes
            self._understood[fingerprint] = direct
        elif known is not None and self._classes[fingerprint] != classes:
            del self._understood[fingerprint]
            self._forget(known)
        elif known is not None and mine.isolation == "copy" != known.limits.isolation:
            self._understood[fingerprint] = direct
            self._forget(known)

    @property
    def understood(self) -> Mapping[bytes, Family]:
        """By fingerprint, whatever a call by key can read by now."""
        waiting, self._deferred = self._deferred, []
        for codec, limits in waiting:
            self.know(codec, limits)
        return self._understood

    def __iter__(self) -> Iterator[str]:
        """Yield the names."""
        return iter(self.counts)
