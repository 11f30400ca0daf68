"""What the caches of these tests stand before: a source of values that tell key and version."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from async_tiercache import Policy, TierCache

POLICY: Final = Policy(ttl="60s", l1_ttl="30s", jitter=0.0, early=0.0)
"""Nothing by chance."""

NAMESPACE: Final = "test"


class Source:
    """Holds a version per key.

    Attributes:
        loads: How often each key was loaded.
    """

    def __init__(self) -> None:
        self.loads: Counter[str] = Counter()
        self._versions: Counter[str] = Counter()

    def truth(self, key: str) -> str:
        """Return what the source holds for a key."""
        return f"{key} in version {self._versions[key]}"

    def change(self, key: str) -> None:
        """Let the source hold something new."""
        self._versions[key] += 1

    def loader(self, key: str) -> Callable[[], Awaitable[str]]:
        """Return a loader of the key."""

        async def load() -> str:
            self.loads[key] += 1
            return self.truth(key)

        return load

    async def read(self, cache: TierCache, key: str) -> str:
        """Read a key through a cache.

        Raises:
            AssertionError: The value is another key's or another version's.
        """
        value = await cache.get_or_load(key, self.loader(key))
        assert value == self.truth(key)
        return value


def believes(cache: TierCache) -> bool:
    """Return whether a cache believes L2, which it has told everything."""
    core = cache._core
    quarantined = core.clock.monotonic() < core.ledger.quarantine_deadline
    return core.guard.up and not core.ledger.pending and not quarantined


def name_of(key: str) -> str:
    """Return the name under which L2 holds a key's entry."""
    return f"{NAMESPACE}:{{{key}}}"
