"""`TierCache`: the public face. It holds no algorithm; `_core` wires the parts."""

import difflib
import sys
from collections.abc import (
    Callable,
    Collection,
    Coroutine,
    Sequence,
)
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from types import TracebackType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    ParamSpec,
    Self,
    TypeVar,
    Unpack,
)

from async_tiercache._advisor import advice_on
from async_tiercache._calls import Calls
from async_tiercache._changes import Changes
from async_tiercache._checks import (
    check_clock,
    check_function,
    check_scope_and_via,
    check_watchers,
    checked_bound,
    checked_l1,
    checked_max_loads,
    checked_namespace,
    checked_self_check,
    checked_source_check,
    checked_switch,
    listed,
)
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache._core import Core
from async_tiercache._decorators import Cached, cached_form, invalidating_form
from async_tiercache._environment import from_environment
from async_tiercache._explain import Explanation
from async_tiercache._families import Families
from async_tiercache._operations import Operations, Via
from async_tiercache._options import (
    L1,
    Duration,
    Policy,
    PolicyFields,
    policy_of,
    seconds,
)
from async_tiercache._report import Report
from async_tiercache._statistics import Histogram, Statistics, merged, summed
from async_tiercache._sweeper import checked_pattern
from async_tiercache._tenancy import Tenancy, Tenant
from async_tiercache.abc import Clock, Observer, Remote, Remoting, Tracer
from async_tiercache.errors import ConfigurationError, UsageError
from async_tiercache.tags import tag_texts

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

P = ParamSpec("P")
R = TypeVar("R")
D = TypeVar("D")


class TierCache(Calls):
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
            a Cluster, used instead of `url` and never closed. Or a `Remoting`, which makes another
            tier than Redis.
        tenant: The name of a tenant, or a function that returns it in the context of a call;
            tenants share nothing, and can name nothing of one another.
        staleness_bound: How long after an invalidation in another process this one may still serve
            its own copy, when the messages about it are lost or late; while they arrive it is their
            way. It is also how long L1 serves what was loaded while Redis is out of reach.
        self_check: How often some of what L1 serves is compared with L2, at most once a second;
            `None` for never.
        check_source: Whether the self-check also loads some of it once more, to find what is
            changed and not invalidated.
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
        client: "Redis | RedisCluster | Remoting | None" = None,
        tenant: Tenant | None = None,
        staleness_bound: Duration = "2s",
        self_check: Duration | None = None,
        check_source: bool = False,
        max_loads: int | None = None,
        observers: Sequence[Observer] = (),
        tracer: Tracer | None = None,
        clock: Clock = SYSTEM_CLOCK,
        enabled: bool = True,
    ) -> None:
        self._namespace = namespace = checked_namespace(namespace)
        self._policy = policy_of(policy, {})
        self._alone = url is None and client is None
        enabled = checked_switch(enabled, name="enabled")
        l1 = checked_l1(l1, alone=self._alone and enabled)
        check_watchers(observers, tracer)
        check_clock(clock)
        remote: Remote | None = None
        if isinstance(client, Remoting):
            remote = client.tiercache_remote(namespace=namespace, clock=clock)
        elif url is not None or client is not None:
            # Imported here: L1 alone needs no redis-py in memory.
            from async_tiercache.backends.redis import RedisRemote

            remote = RedisRemote(url, namespace=namespace, clock=clock, client=client)
        core = Core(
            namespace=namespace,
            remote=remote,
            l1=l1,
            clock=clock,
            observers=tuple(observers),
            tracer=tracer,
            max_loads=checked_max_loads(max_loads),
            bound=checked_bound(staleness_bound),
            tenancy=Tenancy(tenant),
            self_check=checked_self_check(self_check),
            check_source=checked_source_check(check_source, self_check),
            enabled=enabled,
        )
        families = Families(
            self._policy,
            alone=self._alone,
            learn=core.compressor.learn,
            forget=core.tiers.drop_family,
        )
        super().__init__(core, families)
        if not enabled:
            self._core.notices.advise(
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
        """Connect; a Redis that is down is no error. Who is cancelled here closes the cache.

        Raises:
            CacheClosedError: It was closed meanwhile.
            UsageError: The cache has been entered before.
        """
        await self._core.open()
        if self._core.enabled:
            for name, message in advice_on(self._policy):
                self._core.notices.advise(name, message)
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
            tags: Templates of tags, such as ``"user:{user_id}"``: invalidating a tag invalidates
                all values that stand under it.
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
                tags=tags,
                limits=limits,
                names=names,
            )
            return cached_form(operations)

        return decorate

    def invalidates(
        self, *, keys: Sequence[str] = (), tags: Sequence[str] = (), crash_safe: bool = False
    ) -> Callable[[Callable[P, Coroutine[Any, Any, R]]], Callable[P, Coroutine[Any, Any, R]]]:
        """Invalidate keys and tags each time the decorated coroutine has succeeded.

        Args:
            keys: Templates over the function's parameters, as in `cached`; one that is the template
                of a family with a scope means the keys of the same `self`.
            tags: Templates of tags.
            crash_safe: Block them before the coroutine runs, as `invalidating` does, so that
                nothing old is left behind by a process that dies in between. It costs a turn more.

        Raises:
            ConfigurationError: Nothing would be invalidated, or a template does not fit.
        """
        # What can be read but once would be gone when the decorator is used again.
        if isinstance(keys, str) or not isinstance(keys, Collection) or not (keys or tags):
            raise ConfigurationError(
                "@cache.invalidates needs the keys or tags to invalidate",
                hint='Pass keys=["user:{user_id}:profile"], a list of templates.',
            )

        def decorate(
            function: Callable[P, Coroutine[Any, Any, R]],
        ) -> Callable[P, Coroutine[Any, Any, R]]:
            check_function(function, "@cache.invalidates(keys=[...])")
            return invalidating_form(
                self._core, self._families, function, keys, tags, crash_safe=crash_safe
            )

        return decorate

    # Invalidation.

    async def invalidate(
        self,
        *,
        keys: Sequence[str] = (),
        tags: Sequence[str] = (),
        soft: Duration | None = None,
        strict: bool = False,
    ) -> Report:
        """Remove keys, and all values that stand under tags, from every tier.

        A read that begins after this has returned gets nothing older, in this process strictly and
        in others as soon as a message has reached them, or within `staleness_bound`. If Redis does
        not answer, the report says ``"queued"``: this process reads around it until it has been
        told.

        Args:
            keys: The texts of the keys.
            tags: The texts of the tags.
            soft: For how long what is invalidated may still be served as stale, while one caller
                loads it anew or when the loader fails; with 0 never, but what stands under a tag is
                given to the loader, which may find it current. What has to wait for Redis is
                removed.
            strict: Raise if the report would say ``"queued"``.

        Raises:
            InvalidationQueuedError: With `strict`: Redis did not answer; it will be told again.
            UnkeyableError: A text cannot be a key or tag; nothing has been removed then.
            UsageError: `keys` or `tags` is no list.
        """
        core = self._core
        core.admit()
        texts = [self._text(key) for key in listed(keys)]
        tagged = core.tenancy.named(tag_texts(tags))
        window = None if soft is None else seconds(soft, name="soft")
        return await core.commits.invalidate(texts, tagged, soft=window, strict=strict)

    async def clear(self, *, strict: bool = False) -> Report:
        """Remove everything from every tier, whatever its size, in one turn.

        In a cache with tenants that is everything of the calling tenant.

        Redis frees the memory as the entries expire or are asked for.

        Args:
            strict: Raise if Redis does not confirm.

        Raises:
            InvalidationQueuedError: With `strict`: Redis did not answer; it will be told again.
        """
        core = self._core
        core.admit()
        return await core.commits.invalidate(tags=(core.tenancy.everything(),), strict=strict)

    async def invalidate_pattern(
        self, pattern: str, *, progress: Callable[[int], None] | None = None
    ) -> Report:
        """Remove the keys that match a pattern from every tier, as far as they can be found.

        Redis is scanned, which takes time in proportion to all that it holds, and a key that is
        written meanwhile may be left out. Every process empties its L1. Prefer tags.

        Args:
            pattern: ``"user:*:profile"``: ``*`` stands for anything, ``?`` for one character. It
                reaches nothing of another namespace or tenant.
            progress: Is called with the number of keys that have been removed so far.

        Raises:
            UnkeyableError: It is no pattern.
            UsageError: The call stands inside `after_commit`.
        """
        core = self._core
        core.admit()
        checked = checked_pattern(pattern)
        if core.commits.scope is not None:
            raise UsageError(
                "invalidate_pattern() inside after_commit() would run before the commit",
                hint="Call it after the block.",
            )
        return await core.sweeper.sweep(checked, core.tenancy.prefix(), progress)

    async def apply(self, token: str) -> bool:
        """Take in what another process has invalidated, so that reads here get nothing older.

        Call it once per request with the `Report.token` that an earlier request of the same user
        has got, for example in a cookie.

        Args:
            token: The token.

        Returns:
            Whether it was one of this namespace; anything else is ignored.
        """
        core = self._core
        core.admit()
        opened = await core.tokens.opened(token)
        if opened is not None:
            core.invalidator.receive(opened[0], queued=opened[1])
        return opened is not None

    def changes(self) -> AbstractContextManager[Changes]:
        """Note what is invalidated inside a block, for one token of it all.

        Put it around a request that changes something: `Changes.token` goes to its user, and
        `apply` takes it in where the next request comes.

        Example:
            >>> import asyncio
            >>> cache = TierCache(namespace="shop")
            >>> async def rename() -> str:
            ...     with cache.changes() as changes:
            ...         await cache.invalidate(keys=["user:1"])
            ...         await cache.invalidate(tags=["users"])
            ...     return changes.token
            >>> asyncio.run(rename())  # without L2 there is nobody to tell
            ''
        """
        return self._core.invalidator.changes()

    async def explain(self, key: str) -> Explanation:
        """Return what the tiers know of a key now, and how it was last read.

        Args:
            key: The key's text.

        Raises:
            UnkeyableError: The text cannot be a key.
        """
        core = self._core
        core.admit()
        understood = list(self._families.understood.values())
        return await core.explainer.explain(self._text(key), understood)

    def invalidating(
        self, *, keys: Sequence[str] = (), tags: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[None]:
        """Block keys and tags while the source changes, then invalidate them.

        Put it around a transaction whose process may die at any point: nothing that was read before
        its commit is left in a tier. Readers meanwhile load for themselves.

        Args:
            keys: The texts of the keys.
            tags: The texts of the tags.

        Raises:
            UnkeyableError: A text cannot be a key or tag.
            UsageError: `keys` or `tags` is no list, or the block stands inside `after_commit`.
        """
        core = self._core
        core.admit()
        core.commits.refuse_blocks()
        texts = [self._text(key) for key in listed(keys)]
        return core.blocks.invalidating(texts, core.tenancy.named(tag_texts(tags)))

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
            l1_bypasses=core.ledger.bypassed,
            left_flights=core.ledger.overtaken,
            bus_gaps=core.bus.gaps,
            bus_lags=merged([core.bus.lags]),
            inconsistencies=Histogram()
            if core.self_check is None
            else merged([core.self_check.ages]),
            unannounced=Histogram()
            if core.source_check is None
            else merged([core.source_check.ages]),
            loads_running=core.runner.running,
            loads_waiting=core.bulkhead.waiting,
        )
