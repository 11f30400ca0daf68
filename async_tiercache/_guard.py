"""The guard around the remote tier: a breaker, so that trouble costs once and not per read."""

from collections.abc import Awaitable, Callable
from typing import ParamSpec, TypeVar

from async_tiercache._events import TierChanged
from async_tiercache.abc import Clock
from async_tiercache.errors import TierError, TierPartError, TierRefusedError
from async_tiercache.policies.breaker import Breaker

P = ParamSpec("P")
R = TypeVar("R")


class Guard:
    """Lets calls through to the remote tier while it answers.

    Args:
        probe: Proves that the tier can be read and written; a server that has become a replica
            answers reads with what may be older than an invalidation.
        clock: The clock of this process.
        notify: Is told when the tier goes down and when it is back.
        refused: Is told what it refuses while it answers.
    """

    __slots__ = ("_breaker", "_clock", "_notify", "_probe", "_refused")

    def __init__(
        self,
        probe: Callable[[], Awaitable[None]],
        clock: Clock,
        notify: Callable[[TierChanged], None],
        refused: Callable[[TierRefusedError], None],
    ) -> None:
        self._breaker = Breaker()
        self._probe = probe
        self._clock = clock
        self._notify = notify
        self._refused = refused

    @property
    def up(self) -> bool:
        """Whether the last call was answered."""
        return self._breaker.state == "closed"

    async def call(
        self, operation: Callable[P, Awaitable[R]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run an operation of the remote tier.

        Raises:
            TierRefusedError: The tier answered and refused.
            TierPartError: It answers others; the part that does not is left alone by the tier.
            TierError: It did not answer, or did not a moment ago.
        """
        if not self._breaker.allow(self._clock.monotonic()):
            raise TierError("L2 did not answer a moment ago", tier="l2")
        probing = self._breaker.state == "half-open"
        try:
            if probing:
                await self._probe()
                self._back()
            return await operation(*args, **kwargs)
        except TierError as error:
            if probing and isinstance(error, TierPartError | TierRefusedError):
                self._back()
            self.note(error)
            raise

    def note(self, error: TierError) -> None:
        """Take in why an operation that was begun while the tier was up has no answer."""
        if isinstance(error, TierRefusedError):
            self._refused(error)
        elif not isinstance(error, TierPartError):
            self._failed(error)

    def _failed(self, error: TierError) -> None:
        if self._breaker.failure(self._clock.monotonic()):
            self._notify(TierChanged("l2", up=False, error=error))

    def _back(self) -> None:
        if self._breaker.success():
            self._notify(TierChanged("l2", up=True))
