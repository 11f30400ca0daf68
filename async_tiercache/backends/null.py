"""The null remote: an L2 that is not there, so that L1 alone runs the same paths."""

from collections.abc import Sequence

from async_tiercache.abc import Clock, Invalidation
from async_tiercache.errors import TierRefusedError


class NullRemote:
    """Has no say: refuses every question and grants every right; its clock is this process's."""

    __slots__ = ("now",)

    def __init__(self, clock: Clock) -> None:
        self.now = clock.monotonic

    async def probe(self) -> None:
        """Do nothing."""

    async def advice(self) -> Sequence[tuple[str, str]]:
        """Return nothing."""
        return ()

    async def get_many(self, _keys: Sequence[str], /) -> list[bytes | None]:
        """Refuse: that nothing is here says nothing about what L1 holds."""
        raise TierRefusedError("There is no L2", tier="l2")

    async def take(
        self, _key: str, _token: bytes, _seconds: float, /, *, instead_of: bytes | None = None
    ) -> bytes | None:
        """Grant the lease: flights are the only other readers."""
        del instead_of
        return None

    async def seize(self, _key: str, _token: bytes, _seconds: float, /) -> None:
        """Grant the lease."""

    async def mark(self, _key: str, _token: bytes, _seconds: float, /) -> bool:
        """Grant the refresh."""
        return True

    async def renew(self, _key: str, _token: bytes, _seconds: float, /) -> bool:
        """Grant it."""
        return True

    async def release(self, _key: str, _token: bytes, /) -> None:
        """Do nothing."""

    async def commit(
        self,
        _key: str,
        _frame: bytes,
        _seconds: float,
        /,
        *,
        fence: bytes,
        mark: bytes | None = None,
    ) -> bool:
        """Say yes: whether L1 keeps the value is the ledger's decision."""
        del fence, mark
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
    ) -> bool:
        """Say yes."""
        del fence, mark
        return True

    async def invalidate(self, _record: Invalidation, /) -> None:
        """Do nothing."""

    async def aclose(self) -> None:
        """Do nothing."""
