"""`SimulatedRemote`: a simulated L2 as `abc.Remote`."""

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from async_tiercache._entry import Header
from async_tiercache.abc import Content, Invalidation, Listener, Reading
from async_tiercache.codecs.frame import FINGERPRINT_BYTES, stamp
from async_tiercache.errors import TierError
from async_tiercache.tags import NEVER_SERVED
from async_tiercache.testing._simulated_bus import Bus
from async_tiercache.testing._simulated_server import Terms

if TYPE_CHECKING:
    from async_tiercache.testing._simulated_client import SimulatedClient

R = TypeVar("R")


class SimulatedRemote:
    """A process's way to a simulated server; one turn is one journey.

    Args:
        client: The process.
    """

    def __init__(self, client: "SimulatedClient") -> None:
        self._client = client
        self._server = client.simulator.server
        self._closed = False

    def now(self) -> float:
        """Return the server's time, in seconds since the epoch, as far as the client is with it."""
        return self._server.time() - self._client.behind

    def latest(self) -> float:
        """Return the server's time."""
        return self._server.time()

    async def probe(self) -> None:
        """Take a turn."""
        await self._ask("probe", (), self._server.time)

    async def advice(self) -> Sequence[tuple[str, str]]:
        """Return nothing: it has no settings."""
        return ()

    async def listen(self, listener: Listener, bound: float, /) -> None:
        """Tell a listener what other processes invalidate, until cancelled."""
        bus = self._client.bus = Bus(self._client, listener, bound)
        try:
            await bus.run()
        finally:
            self._client.bus = None

    async def get_many(self, keys: Sequence[str], tags: Sequence[str] = (), /) -> Reading:
        """Return what keys and tags hold."""
        named = (*keys, *tags)
        found = await self._ask("get_many", named, partial(self._server.get_many, keys, tags))
        return Reading(list[Content](found[0]), found[1])

    async def ensure(self, tags: Sequence[str], seconds: float, /) -> list[bytes | None]:
        """Give each tag that has no state a new one, and return the states."""
        return await self._ask("ensure", tags, partial(self._server.ensure, tags, seconds))

    async def take(
        self, key: str, token: bytes, seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        """Put a lease on a key that holds nothing, or that holds exactly `instead_of`."""
        take = partial(self._server.take, key, token, seconds, instead_of)
        return await self._ask("take", (key,), take)

    async def seize(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Put a lease in place of whatever the key holds; False if that is a block."""
        return await self._ask("seize", (key,), partial(self._server.seize, key, token, seconds))

    async def mark(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Claim the refresh of an entry."""
        return await self._ask("mark", (key,), partial(self._server.mark, key, token, seconds))

    async def renew(self, key: str, token: bytes, seconds: float, /) -> bool:
        """Prolong our lease or mark; False when it is no longer ours."""
        return await self._ask("renew", (key,), partial(self._server.renew, key, token, seconds))

    async def release(self, key: str, token: bytes, /) -> None:
        """Remove our lease or mark, if it is still there, and wake who waits for it."""
        await self._ask("release", (key,), partial(self._server.release, key, token))

    async def await_fill(self, key: str, held: bytes, /) -> Content:
        """Let the end of another process's load be told to our listener, by `wake`."""
        if self._client.bus is not None:
            self._client.bus.wanted.add(key)
        return await self._ask("await_fill", (key,), partial(self._server.await_fill, key, held))

    async def commit(
        self,
        key: str,
        frame: bytes,
        seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
        tell: Invalidation | None = None,
    ) -> bool:
        """Store a frame if the key still holds what `fence` names."""
        terms = Terms(seconds, fence, mark, tuple(tags), tell)
        commit = partial(self._server.commit, key, frame, terms)
        return await self._ask("commit", (key,), commit)

    async def stamp(
        self,
        key: str,
        stamp: bytes,
        seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
    ) -> bool:
        """Give an entry a new id and new times and leave its value where it is."""
        terms = Terms(seconds, fence, mark, tuple(tags))
        renew = partial(self._server.stamp, key, stamp, terms)
        return await self._ask("stamp", (key,), renew)

    async def invalidate(self, record: Invalidation, /) -> None:
        """Remove what the keys hold, give the tags new states, and tell all listeners."""
        softened, until = b"", 0.0
        if record.soft is not None:
            until = self.now() + record.soft if record.soft else NEVER_SERVED
            softened = stamp(
                Header(
                    entry_id=record.id,
                    created_at=0.0,
                    fresh_until=min(self.now(), until),
                    stale_until=until,
                    load_seconds=0.0,
                    fingerprint=bytes(FINGERPRINT_BYTES),
                )
            )
        tell = partial(self._server.invalidate, record, softened, until)
        await self._ask("invalidate", record.keys + record.tags, tell)

    async def block(
        self, record: Invalidation, token: bytes, seconds: float, /, *, renewing: bool = False
    ) -> None:
        """Let nobody store or serve what is under the keys and tags until all blocks have ended."""
        block = partial(self._server.block, record, token, seconds, renewing=renewing)
        await self._ask("block", record.keys + record.tags, block)

    async def unblock(self, record: Invalidation, token: bytes, /) -> None:
        """End a block, invalidate its keys and tags, and tell all listeners."""
        unblock = partial(self._server.unblock, record, token)
        await self._ask("unblock", record.keys + record.tags, unblock)

    async def scan(self, pattern: str, /) -> AsyncIterator[list[str]]:
        """Yield the texts of keys that match a glob over texts."""
        yield await self._ask("scan", (pattern,), partial(self._server.scan, pattern))

    async def secret(self) -> bytes:
        """Return 32 random bytes that all servers of this namespace share."""
        candidate = self._client.token() * 2
        return await self._ask("secret", (), partial(self._server.secret, candidate))

    async def aclose(self) -> None:
        """Close the connection to the bus."""
        self._closed = True
        if self._client.bus is not None:
            self._client.bus.close()

    async def _ask(self, operation: str, keys: Sequence[str], run: Callable[[], R]) -> R:
        if self._closed:
            raise TierError("The connection was closed", tier="l2")
        return await self._client.ask(operation, tuple(keys), run)
