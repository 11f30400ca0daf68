"""A store for Litestar's own caches and sessions, in the tiers of a cache."""

from datetime import timedelta
from typing import Any, Final, Self

from async_tiercache import TierCache
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache._options import Duration, seconds
from async_tiercache.abc import Clock
from async_tiercache.errors import ConfigurationError, MissingExtraError
from async_tiercache.keys import escape

try:
    from litestar.stores.base import NamespacedStore
except ImportError as error:
    raise MissingExtraError(
        "A store for Litestar needs the package litestar, which is not installed",
        hint='pip install "async-tiercache[litestar]"',
    ) from error

_ROOT: Final = "litestar"


class TierCacheStore(NamespacedStore):
    """Keeps bytes by key for Litestar, such as the responses of routes with ``cache=60``.

    What stands in it may be gone before its time, as in every cache, and is gone from all servers
    when it is deleted. To renew is to read and then to write: a deletion in between is lost.

    Args:
        cache: Keeps them; open while the application runs.
        namespace: What tells this store from others over the same cache.
        longest: For how long something is kept that has no time of its own.
        clock: Tells the time.

    Raises:
        ConfigurationError: The namespace is empty, or `longest` no duration.

    Example:
        >>> from litestar import Litestar
        >>> cache = TierCache(namespace="shop")
        >>> store = TierCacheStore(cache)
        >>> app = Litestar(stores={"response_cache": store}, lifespan=[cache])
    """

    __slots__ = ("_cache", "_clock", "_longest", "_tags")

    def __init__(
        self,
        cache: TierCache,
        namespace: str = "store",
        *,
        longest: Duration = "7d",
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._longest = seconds(longest, name="longest")
        self._tags: tuple[str, ...] = (_below(_ROOT, namespace),)

    def with_namespace(self, namespace: str) -> Self:
        """Return a store whose values are its own, and end with those of this one.

        Raises:
            ConfigurationError: The namespace is empty.
        """
        child = type(self)(self._cache, longest=self._longest, clock=self._clock)
        child._tags = (*self._tags, _below(self._tags[-1], namespace))  # noqa: SLF001
        return child

    async def set(
        self, key: str, value: str | bytes, expires_in: int | timedelta | None = None
    ) -> None:
        """Put a value, for so many seconds if that is said."""
        data = value.encode() if isinstance(value, str) else value
        expires = seconds(expires_in) if expires_in else None
        expires_at = None if expires is None else self._clock.wall() + expires
        await self._cache.set(
            self._key(key),
            [expires_at, data],
            tags=self._tags,
            ttl=self._longest if expires is None else expires,
            jitter=0,
        )

    async def get(self, key: str, renew_for: int | timedelta | None = None) -> bytes | None:
        """Return a value, or `None`; one with a time of its own gets a new one if that is said."""
        expires_at, data = await self._held(key)
        if data is not None and expires_at is not None and renew_for:
            await self.set(key, data, renew_for)
        return data

    async def delete(self, key: str) -> None:
        """Remove a value, if it is there."""
        await self._cache.invalidate(keys=[self._key(key)])

    async def delete_all(self) -> None:
        """Remove what this store holds, and the stores below it; nothing else of the cache."""
        await self._cache.invalidate(tags=[self._tags[-1]])

    async def exists(self, key: str) -> bool:
        """Return whether there is a value."""
        return (await self._held(key))[1] is not None

    async def expires_in(self, key: str) -> int | None:
        """Return for how many more seconds a value is there; `None` if nothing says so."""
        expires_at, _ = await self._held(key)
        return None if expires_at is None else max(0, int(expires_at - self._clock.wall()))

    async def _held(self, key: str) -> tuple[float | None, bytes | None]:
        """Return when a value ends, and the value."""
        held: Any = await self._cache.get(self._key(key), None)
        return (None, None) if held is None else (held[0], held[1])

    def _key(self, key: str) -> str:
        # The keys of a store have one part more than its name, those of the stores below it two.
        return f"{self._tags[-1]}:{escape(key)}"


def _below(tag: str, namespace: str) -> str:
    if not namespace:
        raise ConfigurationError(
            "A store's namespace is empty", hint='Name it: "response_cache", "sessions".'
        )
    return f"{tag}:{escape(namespace)}"
