"""`TierCache`: the public face. It holds no algorithm; `_core` wires the parts."""

import contextlib
import difflib
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Coroutine, Sequence
from dataclasses import replace
from math import inf
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Final,
    ParamSpec,
    Self,
    TypedDict,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache._core import Core
from async_tiercache._decorators import (
    Cached,
    Operations,
    cached_form,
    check_function,
    invalidating_form,
)
from async_tiercache._environment import from_environment
from async_tiercache._family import Family
from async_tiercache._options import (
    L1,
    MISSING,
    Duration,
    Limits,
    OnAbandon,
    Policy,
    policy_of,
)
from async_tiercache._reader import awaited, count
from async_tiercache._report import Report
from async_tiercache._statistics import Counts, Statistics, summed
from async_tiercache._writer import Writing
from async_tiercache.abc import Clock, Observer
from async_tiercache.backends.memory import Slot
from async_tiercache.codecs.returned import hints_of
from async_tiercache.codecs.typed import codec_for
from async_tiercache.errors import ConfigurationError, UsageError
from async_tiercache.keys import KeyMaker, check_text

if TYPE_CHECKING:
    from redis.asyncio import Redis

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")

_DIRECT: Final = "get_or_load"
_NAMESPACE_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:"
)


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
    on_abandon: OnAbandon
    schema_version: int | str


class TierCache:
    """A cache in two tiers: L1 in this process's memory, L2 in Redis or Valkey.

    Constructing it opens nothing. Use it inside ``async with``; it then owns its connections and
    background tasks. Without a URL it is L1 alone.

    Args:
        url: Where L2 is: ``redis://host:6379/0``, ``rediss://`` or ``unix://``.
        namespace: The first part of every key in L2: letters, digits and ``. _ - :``.
        l1: The bounds of the memory tier; `None` for no L1.
        policy: What decorators and calls inherit.
        client: A redis-py asyncio client of your own, used instead of `url` and never closed.
        observers: Are called with every event; see `Observer`.
        clock: Time and chance, for tests.
        enabled: False calls every loader and keeps nothing; invalidations still reach L2.

    Raises:
        ConfigurationError: An argument cannot be used; the hint says what to do.

    Example:
        >>> import asyncio
        >>> cache = TierCache(namespace="shop")
        >>> @cache.cached("user:{user_id}", ttl="30m")
        ... async def user(user_id: int) -> dict[str, int]:
        ...     return {"id": user_id}
        >>> asyncio.run(user(42))
        {'id': 42}
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str,
        l1: L1 | None = L1(),  # noqa: B008 - frozen
        policy: Policy = Policy(),  # noqa: B008 - frozen
        client: "Redis | None" = None,
        observers: Sequence[Observer] = (),
        clock: Clock = SYSTEM_CLOCK,
        enabled: bool = True,
    ) -> None:
        self._namespace = _checked_namespace(namespace)
        self._policy = policy
        self._alone = url is None and client is None
        if self._alone and l1 is None:
            raise ConfigurationError(
                "l1=None without a URL would keep nothing",
                hint="Pass a Redis URL, or enabled=False to switch the cache off.",
            )
        remote = None
        if url is not None or client is not None:
            # Imported here: L1 alone needs no redis-py in memory.
            from async_tiercache.backends.redis import RedisRemote

            remote = RedisRemote(url, namespace=namespace, clock=clock, client=client)
        self._core = Core(
            namespace=namespace,
            remote=remote,
            l1=l1,
            clock=clock,
            observers=tuple(observers),
            enabled=enabled,
        )
        self._counts = Counts()
        self._families: dict[str, Counts] = {_DIRECT: self._counts}
        # The store's own dict, which lives as long as the store; empty while L1 is off.
        self._slots: dict[str, Slot] = {} if self._core.store is None else self._core.store.slots
        self._core.codecs.add(codec_for(Any))
        self._direct: dict[Any, Family] = {}
        if not enabled:
            self._core.advise(
                f"The cache {namespace!r} is disabled: every call reaches its loader."
            )

    @classmethod
    def from_env(cls, *, prefix: str = "TIERCACHE_", **overrides: Any) -> Self:
        """Make a cache from environment variables; arguments given here win.

        Reads ``TIERCACHE_URL``, ``_NAMESPACE``, ``_ENABLED`` (0 or 1), ``_L1_MAX_ENTRIES``,
        ``_L1_MAX_BYTES``, ``_TTL``, ``_L1_TTL`` and ``_GRACE``.

        Args:
            prefix: What the variables begin with.
            overrides: Arguments of the constructor.

        Raises:
            ConfigurationError: A variable with the prefix is unknown, or has no usable value.
        """
        arguments = from_environment(prefix) | overrides
        if "namespace" not in arguments:
            raise ConfigurationError(
                "The cache has no namespace", hint=f"Set {prefix}NAMESPACE to the service's name."
            )
        return cls(**arguments)

    def __repr__(self) -> str:
        core = self._core
        l1 = "off" if core.store is None else f"{len(core.store)}/{core.store.bounds.max_entries}"
        l2 = "off" if self._alone else "up" if core.guard.up else "down"
        state = "" if core.state == "open" else f" {core.state}"
        loads = f"{len(core.flights)} loads in flight"
        return f"<TierCache{state} [L1 {l1} | L2 {l2} | {loads}]>"

    async def __aenter__(self) -> Self:
        """Connect; a Redis that is down is no error.

        Raises:
            UsageError: The cache has been entered before.
        """
        await self._core.open()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close; loads in the background are cancelled, stores and invalidations finish."""
        await self._core.aclose()

    # Decorators.

    def cached(
        self,
        template: str | None = None,
        *,
        tags: Sequence[str] = (),
        exclude: Collection[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Cached[P, R]]:
        """Cache a coroutine function or method under a key made from its arguments.

        Args:
            template: The key, such as ``"user:{user_id}:profile"``; without it the function's name,
                the class of `self` and all arguments make the key.
            tags: Not in this release.
            exclude: Parameters that do not stand in the key.
            policy: Options for this family; fields given as keywords win over it.
            policy_fields: See `Policy`.

        Raises:
            ConfigurationError: The function, the template or an option cannot be used.
        """
        _refuse_tags(tags)
        if callable(template):
            check_function(template, "cached")
            raise ConfigurationError(
                "@cache.cached needs parentheses", hint="Write @cache.cached()."
            )
        limits = self._limits(policy_of(policy, policy_fields))
        names = sys._getframe(1).f_locals  # noqa: SLF001 - annotations may name local classes

        def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Cached[P, R]:
            check_function(function, "cached")
            maker = KeyMaker(function, template, exclude=exclude)
            counts = self._families.setdefault(maker.name, Counts())
            operations = Operations(
                self._core, function, maker, counts=counts, limits=limits, names=names
            )
            return cached_form(operations, is_method=maker.is_method)

        return decorate

    def invalidates(
        self, *, keys: Sequence[str] = (), tags: Sequence[str] = ()
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
        """Invalidate keys each time the decorated coroutine has succeeded.

        Args:
            keys: Templates over the function's parameters, as in `cached`.
            tags: Not in this release.

        Raises:
            ConfigurationError: Nothing would be invalidated, or a template does not fit.
        """
        _refuse_tags(tags)
        if isinstance(keys, str) or not keys:
            raise ConfigurationError(
                "@cache.invalidates needs the keys to invalidate",
                hint='Pass keys=["user:{user_id}:profile"], a list of templates.',
            )

        def decorate(
            function: Callable[P, Coroutine[Any, Any, R]],
        ) -> Callable[P, Coroutine[Any, Any, R]]:
            check_function(function, "invalidates")
            return invalidating_form(self._core, function, keys)

        return decorate

    # Calls.

    @overload
    async def get(self, key: str, *, stale: bool = False) -> Any: ...
    @overload
    async def get(self, key: str, default: D, *, stale: bool = False) -> Any | D: ...
    async def get(self, key: str, default: Any = MISSING, *, stale: bool = False) -> Any:
        """Return what the tiers hold for a key, or wait for a load of it that is in progress.

        Nothing is loaded. A `None` that was stored is a value. What L2 holds is understood if it is
        plain data or belongs to a function that this cache decorates; anything else is not found.

        Args:
            key: The key's text, as in a template: ``"user:42:profile"``.
            default: What to return if there is nothing.
            stale: Whether a value within its grace will do.
        """
        core = self._core
        slot = self._slots.get(key)
        if slot is not None and core.clock.monotonic() < slot.soft_deadline:
            slot.visited = True
            self._counts.l1_hits += 1
            return slot.value
        if not core.enabled:
            return default
        core.admit()
        outcome = await core.reader.look(check_text(key), core.codecs, self._counts, stale=stale)
        if outcome is None:
            return default
        count(self._counts, outcome)
        return outcome.value

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[R]],
        *,
        tags: Sequence[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> R:
        """Return the value of a key, loading and storing it if no tier has it.

        Args:
            key: The key's text.
            loader: A coroutine function without arguments; its return annotation, if there is one,
                says how the value is stored.
            tags: Not in this release.
            policy: Options for this call.
            policy_fields: See `Policy`.

        Raises:
            Exception: Whatever the loader raised.
        """
        _refuse_tags(tags)
        core = self._core
        if not core.enabled:
            return cast("R", await awaited(loader, key))
        core.admit()
        family = self._direct_family(loader, policy, policy_fields)
        return cast("R", await core.reader.read(family, check_text(key), loader))

    async def set(
        self,
        key: str,
        value: Any,
        *,
        tags: Sequence[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> Report:
        """Put a value under a key; the last writer wins.

        A load of the key that is in progress stores nothing. To be sure that nothing older can
        follow a change of the source, use `writing` or `invalidate`.

        Args:
            key: The key's text.
            value: What to store.
            tags: Not in this release.
            policy: Options for this call.
            policy_fields: See `Policy`.

        Raises:
            EncodeError: The value cannot be stored.
        """
        _refuse_tags(tags)
        self._core.admit()
        family = self._direct_family(None, policy, policy_fields)
        return await self._core.writer.put(family, check_text(key), value)

    @contextlib.asynccontextmanager
    async def writing(
        self,
        key: str,
        *,
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> AsyncGenerator[Writing]:
        """Fence a key while the block changes the source, then put what the block has set.

        Nobody stores a value that was read before the block ended. Without `set`, or when the block
        raises, the key is only invalidated.

        Args:
            key: The key's text.
            policy: Options for this call.
            policy_fields: See `Policy`.
        """
        self._core.admit()
        family = self._direct_family(None, policy, policy_fields)
        async with self._core.writer.writing(family, check_text(key)) as writing:
            yield writing

    async def invalidate(self, *, keys: Sequence[str] = (), tags: Sequence[str] = ()) -> Report:
        """Remove keys from every tier.

        A read that begins after this has returned gets nothing older, in this process strictly and
        in others within their `l1_ttl`. If Redis does not answer, the report says ``"queued"``:
        this process reads around it until it has been told.

        Args:
            keys: The texts of the keys.
            tags: Not in this release.
        """
        _refuse_tags(tags)
        if isinstance(keys, str):
            raise UsageError(f"keys={keys!r} is one text", hint="Pass a list of keys.")
        self._core.admit()
        return await self._core.invalidator.invalidate([check_text(key) for key in keys])

    def statistics(self, family: str | None = None) -> Statistics:
        """Return what the cache has done in this process since it was made.

        Args:
            family: The name of one family: its template, or module and qualified name.

        Raises:
            UsageError: There is no such family.
        """
        if family is not None and family not in self._families:
            near = difflib.get_close_matches(family, self._families, n=1)
            raise UsageError(
                f"There is no family {family!r}",
                hint=f"Did you mean {near[0]!r}?" if near else "Its name is its template.",
            )
        counts = list(self._families.values()) if family is None else [self._families[family]]
        core = self._core
        of_the_cache: dict[str, int] = {"pending": core.ledger.pending}
        if core.store is not None:
            of_the_cache |= {
                "l1_entries": len(core.store),
                "l1_bytes": core.store.bytes,
                "l1_evictions": core.store.evictions,
                "l1_expiries": core.store.expiries,
                "l1_oversized": core.store.oversized,
            }
        return summed(counts, **of_the_cache)

    def _limits(self, policy: Policy) -> Limits:
        limits = Limits.of(policy, self._policy)
        # With nobody else to ask, this process's copy is as good as its ttl says.
        return replace(limits, l1_ttl=inf) if self._alone else limits

    def _direct_family(
        self,
        loader: Callable[[], Awaitable[Any]] | None,
        policy: Policy | None,
        policy_fields: PolicyFields,
    ) -> Family:
        """Return a family for a call that belongs to none."""
        annotation = _returned(loader)
        identity = (annotation, policy, tuple(policy_fields.items()))
        try:
            family = self._direct.get(identity)
        except TypeError:
            raise ConfigurationError(
                f"The return annotation {annotation!r} has no hash",
                hint="Annotate the loader with a type.",
            ) from None
        if family is None:
            limits = self._limits(policy_of(policy, policy_fields))
            codec = codec_for(annotation, schema_version=limits.schema_version)
            family = Family(_DIRECT, limits, codec, counts=self._counts)
            if len(self._direct) >= _MAX_DIRECT:
                self._direct.clear()
            self._direct[identity] = family
            self._core.codecs.add(codec)
        return family


_MAX_DIRECT: Final = 256


def _returned(loader: Callable[[], Awaitable[Any]] | None) -> Any:
    """Return the resolved return annotation of a loader, `Any` without one."""
    annotation = getattr(loader, "__annotations__", {}).get("return", Any)
    if loader is None or not isinstance(annotation, str):
        return annotation
    try:
        return hints_of(loader).get("return", Any)
    except NameError as error:
        raise ConfigurationError(
            f"The return annotation {annotation!r} of the loader cannot be resolved: {error}",
            hint="Define or import the type in the loader's module.",
        ) from error


def _checked_namespace(namespace: str) -> str:
    if not namespace or not set(namespace) <= _NAMESPACE_CHARACTERS:
        raise ConfigurationError(
            f"namespace={namespace!r} cannot begin a key",
            hint="Use letters, digits and . _ - : only, for example the service's name.",
        )
    return namespace


def _refuse_tags(tags: Sequence[str]) -> None:
    if tags:
        raise ConfigurationError(
            "tags are not in this release: half of them would serve what was invalidated",
            hint="Invalidate by key: keys=[...], or the function's own .invalidate(...).",
        )
