"""The null remote: an L2 that is not there, so that L1 alone runs the same paths."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from secrets import token_bytes

from async_tiercache.abc import Clock, Content, Invalidation, Listener, Reading
from async_tiercache.errors import TierRefusedError
from async_tiercache.tags import STATE_BYTES


class NullRemote:
    """Has no say: refuses every question and grants every right; its clock is this process's."""

    __slots__ = ("_secret", "latest", "now")

    def __init__(self, clock: Clock) -> None:
        self.now = self.latest = clock.monotonic
        self._secret = token_bytes(32)

    async def probe(self) -> None:
        """Do nothing."""

    async def advice(self) -> Sequence[tuple[str, str]]:
        """Return nothing."""
        return ()

    async def listen(self, _listener: Listener, _bound: float, /) -> None:
        """Tell nothing: nobody else is there."""
        await asyncio.get_running_loop().create_future()

    async def get_many(self, _keys: Sequence[str], _tags: Sequence[str] = (), /) -> Reading:
        """Refuse: that nothing is here says nothing about what L1 holds."""
        raise TierRefusedError("There is no L2", tier="l2")

    async def ensure(self, tags: Sequence[str], _seconds: float, /) -> list[bytes | None]:
        """Return states that nothing has stood under before."""
        return [token_bytes(STATE_BYTES) for _ in tags]

    async def take(
        self, _key: str, _token: bytes, _seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        """Grant the lease: flights are the only other readers."""
        del instead_of
        return None

    async def seize(self, _key: str, _token: bytes, _seconds: float, /) -> bool:
        """Grant the lease."""
        return True

    async def mark(self, _key: str, _token: bytes, _seconds: float, /) -> bool:
        """Grant the refresh."""
        return True

    async def renew(self, _key: str, _token: bytes, _seconds: float, /) -> bool:
        """Grant it."""
        return True

    async def release(self, _key: str, _token: bytes, /) -> None:
        """Do nothing."""

    async def await_fill(self, _key: str, _held: bytes, /) -> Content:
        """Say that nobody else loads."""
        return None

    async def commit(
        self,
        _key: str,
        _frame: bytes,
        _seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
        tell: Invalidation | None = None,
    ) -> bool:
        """Say yes: whether L1 keeps the value is the ledger's decision."""
        del fence, mark, tags, tell
        return True

    async def stamp(
        self,
        _key: str,
        _stamp: bytes,
        _seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
        tags: Sequence[str] = (),
    ) -> bool:
        """Say yes."""
        del fence, mark, tags
        return True

    async def invalidate(self, _record: Invalidation, /) -> None:
        """Do nothing."""

    async def block(
        self, _record: Invalidation, _token: bytes, _seconds: float, /, *, renewing: bool = False
    ) -> None:
        """Do nothing."""
        del renewing

    async def unblock(self, _record: Invalidation, _token: bytes, /) -> None:
        """Do nothing."""

    async def scan(self, _pattern: str, /) -> AsyncIterator[list[str]]:
        """Yield nothing."""
        nothing: list[list[str]] = []
        for batch in nothing:
            yield batch

    async def secret(self) -> bytes:
        """Return random bytes of this process's own."""
        return self._secret

    async def aclose(self) -> None:
        """Do nothing."""
