"""`TierCache`: the public face. It holds no algorithm; `_core` wires the parts."""

import contextlib
import difflib
import sys
from collections.abc import (
    AsyncGenerator,
    Awaitable,
    Callable,
    Collection,
    Coroutine,
    Mapping,
    Sequence,
)
from contextlib import AbstractAsyncContextManager
from functools import partial
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
    cast,
    overload,
)

from async_tiercache._advisor import advice_on
from async_tiercache._checks import (
    check_function,
    check_loader,
    check_scope_and_via,
    check_watchers,
    checked_l1,
    checked_max_loads,
    checked_namespace,
    listed,
    refuse_tags,
)
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache._context import LoadContext, taking_context
from async_tiercache._core import Core
from async_tiercache._decorators import Cached, cached_form, invalidating_form
from async_tiercache._environment import from_environment
from async_tiercache._families import Families
from async_tiercache._family import Load
from async_tiercache._filler import awaited
from async_tiercache._gatherer import Gatherer, check_found
from async_tiercache._operations import Operations, Via
from async_tiercache._options import (
    L1,
    MISSING,
    Policy,
    PolicyFields,
    policy_of,
)
from async_tiercache._report import Report
from async_tiercache._statistics import Statistics, summed
from async_tiercache._writer import Writing
from async_tiercache.abc import Clock, Observer, Tracer
from async_tiercache.backends.memory import Slot
from async_tiercache.codecs.returned import returned_by, values_of
from async_tiercache.errors import ConfigurationError, UsageError
from async_tiercache.keys import check_text

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")


class TierCache:
    """A cache in two tiers: L1 in this process's memory, L2 in Redis or Valkey.

    Constructing it opens nothing. Use it inside ``async with``; it then owns its connections and
    background tasks. Without a URL it is L1 alone.

    Args:
        url: Where L2 is: ``redis://host:6379/0``, ``rediss://``, ``unix://``,
            ``redis+sentinel://host,host/service/0`` or ``redis+cluster://host,host``.
        namespace: The first part of every key in L2: letters, digits and ``. _ - :``.
        l1: The bounds of the memory tier; `None` for no L1.
        policy: What decorators and calls inherit.
        client: A redis-py asyncio client of your own, of a server, of what a Sentinel names or of
            a Cluster, used instead of `url` and never closed.
        max_loads: How many loads may run at the same time, so that a cold or dead L2 does not crush
            the source; the others wait, up to their `load_limit`. `None` for any number.
        observers: Are called with every event; see `Observer`.
        tracer: Sees the work that takes time while it goes on; see `Tracer`.
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
        client: "Redis | RedisCluster | None" = None,
        max_loads: int | None = None,
        observers: Sequence[Observer] = (),
        tracer: Tracer | None = None,
        clock: Clock = SYSTEM_CLOCK,
        enabled: bool = True,
    ) -> None:
        self._namespace = checked_namespace(namespace)
        self._policy = policy_of(policy, {})
        self._alone = url is None and client is None
        l1 = checked_l1(l1, alone=self._alone)
        check_watchers(observers, tracer)
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
            tracer=tracer,
            max_loads=checked_max_loads(max_loads),
            enabled=enabled,
        )
        self._families = Families(policy, alone=self._alone, learn=self._core.compressor.learn)
        self._counts = self._families.direct.counts
        # The store's own dict, which lives as long as the store; empty while L1 is off.
        self._slots: dict[str, Slot] = {} if self._core.store is None else self._core.store.slots
        if not enabled:
            self._core.advise(
                "disabled",
                f"The cache {namespace!r} is disabled: every call reaches its loader.",
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
        state = "" if core.state == "open" else f" {core.state}"
        loads = f"{len(core.flights)} loads in flight"
        return f"<TierCache{state} [L1 {l1} | L2 {self.l2} | {loads}]>"

    async def __aenter__(self) -> Self:
        """Connect; a Redis that is down is no error.

        Raises:
            UsageError: The cache has been entered before.
        """
        await self._core.open()
        if self._core.enabled:
            has_l1 = self._core.store is not None
            for name, message in advice_on(self._policy, l1=has_l1, l2=not self._alone):
                self._core.advise(name, message)
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
        scope: Callable[[Any], object] | None = None,
        via: Via | None = None,
        exclude: Collection[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Cached[P, R]]:
        """Cache a coroutine function or method under a key made from its arguments.

        Args:
            template: The key, such as ``"user:{user_id}:profile"``; without it the function's name,
                the class of `self` and all arguments make the key.
            tags: Not in this release.
            scope: Returns from `self` what tells objects apart that must not share values, such as
                ``lambda self: self.tenant``; it comes first in the key.
            via: Opens an object like `self`, as an async context manager; every load runs on one of
                its own. Without it a method's load runs on its first caller's `self`, in that
                caller's life, and nothing is refreshed in the background.
            exclude: Parameters that do not stand in the key.
            policy: Options for this family; fields given as keywords win over it.
            policy_fields: See `Policy`.

        Returns:
            A decorator; what it makes is called like the original, and has `Cached`'s helpers.

        Raises:
            ConfigurationError: The function, the template or an option cannot be used.
        """
        refuse_tags(tags)
        if callable(template):
            check_function(template, "@cache.cached()")
            raise ConfigurationError(
                "@cache.cached needs parentheses", hint="Write @cache.cached()."
            )
        check_scope_and_via(scope, via)
        limits = self._families.limits(policy_of(policy, policy_fields))
        names = sys._getframe(1).f_locals  # noqa: SLF001 - annotations may name local classes

        def decorate(function: Callable[P, Coroutine[Any, Any, R]]) -> Cached[P, R]:
            check_function(function, "@cache.cached(...)")
            operations = Operations(
                self._core,
                self._families,
                function,
                template=template,
                exclude=exclude,
                scope=scope,
                via=via,
                limits=limits,
                names=names,
            )
            return cached_form(operations)

        return decorate

    def invalidates(
        self, *, keys: Sequence[str] = (), tags: Sequence[str] = ()
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
        """Invalidate keys each time the decorated coroutine has succeeded.

        Args:
            keys: Templates over the function's parameters, as in `cached`; one that is the template
                of a family with a scope means the keys of the same `self`.
            tags: Not in this release.

        Raises:
            ConfigurationError: Nothing would be invalidated, or a template does not fit.
        """
        refuse_tags(tags)
        if isinstance(keys, str) or not keys:
            raise ConfigurationError(
                "@cache.invalidates needs the keys to invalidate",
                hint='Pass keys=["user:{user_id}:profile"], a list of templates.',
            )

        def decorate(
            function: Callable[P, Coroutine[Any, Any, R]],
        ) -> Callable[P, Coroutine[Any, Any, R]]:
            check_function(function, "@cache.invalidates(keys=[...])")
            return invalidating_form(self._core, self._families, function, keys)

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
        found = await self.get_many([key], stale=stale)
        return found.get(key, default)

    async def get_many(self, keys: Sequence[str], *, stale: bool = False) -> dict[str, Any]:
        """Return what the tiers hold for several keys, L2 asked in one turn.

        Args:
            keys: The texts of the keys.
            stale: Whether values within their grace will do.

        Returns:
            The values by key, in the order of `keys`, without those that are not found; see `get`.

        Raises:
            UnkeyableError: A text cannot be a key.
            UsageError: `keys` is no list.
        """
        core = self._core
        texts = {key: check_text(key) for key in listed(keys)}
        if not core.enabled:
            return {}
        core.admit()
        understood = self._families.understood
        asked = list(dict.fromkeys(texts.values()))
        found = await core.reader.look(asked, understood, self._families.direct, stale=stale)
        return {key: found[text] for key, text in texts.items() if text in found}

    async def get_or_load(
        self,
        key: str,
        loader: Callable[[], Awaitable[R]] | Callable[[LoadContext], Awaitable[R]],
        *,
        tags: Sequence[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> R:
        """Return the value of a key, loading and storing it if no tier has it.

        Args:
            key: The key's text.
            loader: A coroutine function without arguments, or with a `LoadContext`; its return
                annotation, if there is one, says how the value is stored.
            tags: Not in this release.
            policy: Options for this call.
            policy_fields: See `Policy`.

        Raises:
            Exception: Whatever the loader raised.
            EncodeError: Its value is not of the annotated type, or cannot be stored.
            LoadTimeoutError: It took longer than `load_limit`, the wait for its turn included.
            RecursiveLoadError: It waits for itself.
            UsageError: It is no coroutine function.

        Example:
            >>> import asyncio
            >>> cache = TierCache(namespace="shop")
            >>> async def load() -> dict[str, int]:
            ...     return {"orders": 12}
            >>> asyncio.run(cache.get_or_load("report:today", load, ttl="30s"))
            {'orders': 12}
        """
        refuse_tags(tags)
        core = self._core
        check_loader(loader, key)
        alone = taking_context(loader)
        if not core.enabled or core.commits.scope is not None:
            return cast("R", await awaited(partial(alone, LoadContext()), key))
        core.admit()
        family = self._families.direct_of(returned_by(loader), policy, policy_fields)
        return cast("R", await core.reader.read(family, check_text(key), Load(alone)))

    async def get_or_load_many(
        self,
        keys: Sequence[str],
        loader: Callable[[list[str]], Awaitable[Mapping[str, R]]],
        *,
        tags: Sequence[str] = (),
        policy: Policy | None = None,
        **policy_fields: Unpack[PolicyFields],
    ) -> dict[str, R]:
        """Return the values of several keys, loading together those that no tier has.

        Args:
            keys: The texts of the keys.
            loader: A coroutine function from a list of keys to a dict of values; the values of its
                return annotation, if there is one, say how they are stored. A key that it leaves
                out is absent from the result, and kept so for `negative_ttl`, if that is given. An
                exception as a value is the error of its key.
            tags: Not in this release.
            policy: Options for this call.
            policy_fields: See `Policy`.

        Returns:
            The values by key, in the order of `keys`.

        Raises:
            Exception: Whatever the loader raised, or the error of the first key that has one; the
                values of the others are kept.
        """
        refuse_tags(tags)
        core = self._core
        wanted = list(dict.fromkeys(check_text(key) for key in listed(keys)))
        check_loader(loader, ", ".join(wanted[:3]))

        async def load_many(missing: list[str], _context: LoadContext) -> Mapping[str, R]:
            return cast("Mapping[str, R]", await awaited(partial(loader, missing), missing[0]))

        if not core.enabled or core.commits.scope is not None:
            loaded: Mapping[str, R] = await load_many(wanted, LoadContext()) if wanted else {}
            check_found(loaded, wanted)
            return dict(loaded)
        core.admit()
        family = self._families.direct_of(values_of(returned_by(loader)), policy, policy_fields)
        gatherer = Gatherer(
            load_many, run=partial(core.filler.run, family), tasks=core.loads, clock=core.clock
        )
        return await core.reader.read_many(
            family, wanted, lambda key: Load(part=gatherer.expect(key))
        )

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
        refuse_tags(tags)
        self._core.admit()
        family = self._families.direct_of(Any, policy, policy_fields)
        return await self._core.commits.put(family, check_text(key), value)

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

        Raises:
            UsageError: The block stands inside `after_commit`.
        """
        self._core.admit()
        if self._core.commits.scope is not None:
            raise UsageError(
                "writing() inside after_commit() would store what is not committed yet",
                hint="Open writing() around the whole transaction, or use set() or invalidate().",
            )
        family = self._families.direct_of(Any, policy, policy_fields)
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

        Raises:
            UnkeyableError: A text cannot be a key; nothing has been removed then.
            UsageError: `keys` is no list.
        """
        refuse_tags(tags)
        self._core.admit()
        return await self._core.commits.invalidate([check_text(key) for key in listed(keys)])

    def after_commit(self) -> AbstractAsyncContextManager[None]:
        """Tell the tiers at the end of the block what is changed inside it, or nothing if it fails.

        Put it around a transaction: what `invalidate`, `invalidates`, `set` and `put` are told
        inside is kept until the block ends, sent then in one turn, and dropped when the block
        raises. A block inside another one hands over to that one. Reports inside say ``"queued"``.

        A load inside may see what is not committed yet: one by `get_or_load`, or by a method on its
        caller's object, is shared with nobody and kept nowhere.

        Example:
            >>> import asyncio
            >>> cache = TierCache(namespace="shop")
            >>> async def rename() -> str:
            ...     await cache.set("user:1", "old")
            ...     async with cache.after_commit():
            ...         await cache.invalidate(keys=["user:1"])
            ...         seen: str = await cache.get("user:1")
            ...     assert await cache.get("user:1", None) is None
            ...     return seen
            >>> asyncio.run(rename())
            'old'
        """
        return self._core.commits.after_commit()

    @property
    def namespace(self) -> str:
        """The first part of every key in L2."""
        return self._namespace

    @property
    def l2(self) -> Literal["up", "down", "off"]:
        """Whether L2 answers, as far as the latest call has shown; ``"off"`` without one."""
        if self._alone:
            return "off"
        return "up" if self._core.guard.up else "down"

    @property
    def families(self) -> tuple[str, ...]:
        """The names of the families, which `statistics` takes."""
        return tuple(self._families)

    def statistics(self, family: str | None = None) -> Statistics:
        """Return what the cache has done in this process since it was made.

        Args:
            family: The name of one family: its template, or module and qualified name.

        Raises:
            UsageError: There is no such family.
        """
        known = self._families.counts
        if family is not None and family not in known:
            near = difflib.get_close_matches(family, known, n=1)
            raise UsageError(
                f"There is no family {family!r}",
                hint=f"Did you mean {near[0]!r}?" if near else "The names are in cache.families.",
            )
        core = self._core
        return summed(
            known.values() if family is None else [known[family]],
            pending=core.ledger.pending,
            loads_running=core.bulkhead.running,
            loads_waiting=core.bulkhead.waiting,
        )
