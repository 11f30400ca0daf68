"""Checks of what a cache, its decorators and its calls are given, for callers without a checker.

Each raises where the mistake was made, with a hint; what fits is returned or left alone. Policies
and keys check themselves.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

from async_tiercache._options import L1, seconds
from async_tiercache.errors import ConfigurationError, UsageError

MIN_BOUND: Final = 0.1
MIN_PAUSE: Final = 1.0

_NAMESPACE_CHARACTERS: Final = frozenset(
    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:"
)


def checked_namespace(namespace: Any) -> str:
    """Return a namespace that can begin a key.

    Raises:
        ConfigurationError: It cannot.
    """
    if not isinstance(namespace, str) or not namespace or set(namespace) - _NAMESPACE_CHARACTERS:
        raise ConfigurationError(
            f"namespace={namespace!r} cannot begin a key",
            hint="Use letters, digits and . _ - : only, for example the service's name.",
        )
    # A member of an enum that is a text formats as something else.
    return str.__str__(namespace)


def checked_l1(l1: Any, *, alone: bool) -> L1 | None:
    """Return the bounds of the memory tier.

    Args:
        l1: What the caller gave.
        alone: Whether a cache that is on has no other tier.

    Raises:
        ConfigurationError: They are none, or there is no tier at all.
    """
    if l1 is None and alone:
        raise ConfigurationError(
            "l1=None without a URL would keep nothing",
            hint="Pass a Redis URL, or enabled=False to switch the cache off.",
        )
    if l1 is not None and not isinstance(l1, L1):
        raise ConfigurationError(
            f"l1={l1!r} is no L1",
            hint='Pass L1(max_entries=10_000, max_bytes="64MiB"), or None for no memory tier.',
        )
    return l1


def checked_max_loads(max_loads: Any) -> int | None:
    """Return how many loads may run at the same time.

    Raises:
        ConfigurationError: It is no whole number above 0.
    """
    if max_loads is None:
        return None
    if isinstance(max_loads, bool) or not isinstance(max_loads, int) or max_loads < 1:
        raise ConfigurationError(
            f"max_loads={max_loads!r} is no whole number above 0",
            hint="Pass for example the size of the connection pool, or None for any number.",
        )
    return max_loads


def checked_switch(switch: Any, *, name: str) -> bool:
    """Return what is on or off.

    Raises:
        ConfigurationError: It is no bool; a text would always be on.
    """
    if not isinstance(switch, bool):
        raise ConfigurationError(f"{name}={switch!r} is no bool", hint="Pass True or False.")
    return switch


def check_clock(clock: object) -> None:
    """Refuse a clock that tells no time.

    Raises:
        ConfigurationError: It does not.
    """
    if not callable(getattr(clock, "monotonic", None)):
        raise ConfigurationError(
            f"clock={clock!r} has no method `monotonic`",
            hint="Leave it out, or pass an async_tiercache.testing.FakeClock().",
        )


def check_watchers(observers: Sequence[object], tracer: object) -> None:
    """Refuse observers and a tracer that cannot be called, or would have to be awaited.

    Raises:
        ConfigurationError: One of them cannot.
    """
    if not isinstance(observers, Sequence) or not all(map(callable, observers)):
        raise ConfigurationError(
            f"observers={observers!r} is no list of functions",
            hint="Pass observers=[watch] for `def watch(event: Event) -> None`.",
        )
    for observer in observers:
        kind: Any = type(observer)
        if inspect.iscoroutinefunction(observer) or inspect.iscoroutinefunction(kind.__call__):
            raise ConfigurationError(
                f"The observer {observer!r} is a coroutine function, and nobody would await it",
                hint="Write `def`, and hand what takes time to a task or a thread.",
            )
    if tracer is not None and not callable(getattr(tracer, "around", None)):
        raise ConfigurationError(
            f"tracer={tracer!r} has no method `around`",
            hint="Pass an async_tiercache.abc.Tracer, for example an OpenTelemetryTracer().",
        )


def check_function(function: Any, decorator: str) -> None:
    """Refuse what cannot be decorated.

    Args:
        function: What stands below the decorator.
        decorator: How the decorator is written.

    Raises:
        ConfigurationError: It is not a coroutine function; the hint says what to do.
    """
    if isinstance(function, staticmethod | classmethod | property):
        raise ConfigurationError(
            f"{decorator} cannot decorate a static or class method or a property",
            hint=f"Put {decorator} on the coroutine function itself, innermost.",
        )
    if inspect.isasyncgenfunction(function):
        raise ConfigurationError(
            f"{function.__qualname__} is an async generator; its items cannot be read twice",
            hint="Return a list from a coroutine function.",
        )
    name = getattr(function, "__qualname__", "")
    if isinstance(function, type) or not name or not inspect.iscoroutinefunction(function):
        raise ConfigurationError(
            f"{name or type(function).__name__} is not a coroutine function",
            hint=f"Write `{decorator}` on an `async def`.",
        )


def check_scope_and_via(scope: object, via: object) -> None:
    """Refuse a scope and a factory that cannot be called.

    Raises:
        ConfigurationError: One of them cannot, or the factory was called already.
    """
    if scope is not None and not callable(scope):
        raise ConfigurationError(
            f"scope={scope!r} is no function", hint="Pass scope=lambda self: self.tenant."
        )
    # What @asynccontextmanager makes can be called itself, as a decorator.
    opened = hasattr(type(via), "__aenter__")
    if via is not None and (opened or not callable(via)):
        raise ConfigurationError(
            f"via= is a {type(via).__name__}, no function that opens an object for each load",
            hint="Pass the function itself: via=open_users, not via=open_users().",
        )


def check_loader(loader: Callable[..., Any], key: str) -> None:
    """Refuse a loader that cannot be called.

    Raises:
        UsageError: It cannot, for example because it was called already.
    """
    if not callable(loader):
        if inspect.iscoroutine(loader):
            loader.close()
        raise UsageError(
            f"The loader of {key!r} is a {type(loader).__name__}, no function",
            hint="Pass the coroutine function itself: `load`, not `load()`.",
        )


def listed(keys: Sequence[str]) -> Sequence[str]:
    """Return keys that are a collection.

    Raises:
        UsageError: They are none, or a single text, whose letters would be the keys.
    """
    if isinstance(keys, str | bytes) or not isinstance(keys, Iterable):
        raise UsageError(f"keys={keys!r} is no list of keys", hint='Pass keys=["user:42"].')
    return keys


def checked_bound(bound: Any) -> float:
    """Return how old what L1 serves may be after an invalidation elsewhere, in seconds.

    Raises:
        ConfigurationError: It is no duration, or one in which no proof can be had.
    """
    result = seconds(bound, name="staleness_bound")
    if result < MIN_BOUND:
        raise ConfigurationError(
            f"staleness_bound={bound!r} is shorter than {MIN_BOUND} s",
            hint="A proof needs a turn to Redis; for fresher reads, pass l1=None.",
        )
    return result


def checked_self_check(self_check: Any) -> float | None:
    """Return the pause between two self-checks, in seconds.

    Raises:
        ConfigurationError: It is no duration, or one that would do nothing but check.
    """
    if self_check is None:
        return None
    result = seconds(self_check, name="self_check")
    if result < MIN_PAUSE:
        raise ConfigurationError(
            f"self_check={self_check!r} is shorter than {MIN_PAUSE} s",
            hint='Pass for example "1m", or None for never.',
        )
    return result


def checked_source_check(check_source: Any, self_check: Any) -> bool:
    """Return whether L1 is compared with the source, too.

    Raises:
        ConfigurationError: It is no bool, or nothing says how often.
    """
    if checked_switch(check_source, name="check_source") and self_check is None:
        raise ConfigurationError(
            "check_source=True says nothing of how often", hint='Add self_check="1m".'
        )
    return bool(check_source)
