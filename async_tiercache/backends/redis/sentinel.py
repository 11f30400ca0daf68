"""Sentinels: who names the master, and wires that follow it.

A master that was replaced may go on as one for seconds, and what is written there is lost. So the
Sentinels are asked on each new connection, as redis-py does, and every second while wires are used.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from redis.asyncio.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from async_tiercache.abc import Clock
from async_tiercache.backends.redis.connections import connection_of
from async_tiercache.backends.redis.hedging import HEDGE_SECONDS
from async_tiercache.backends.redis.wire import Command, Turn
from async_tiercache.backends.redis.wires import Wires

FOLLOW_SECONDS: Final = 1.0
_FOLLOW_LIMIT: Final = 1.0


class VotingSentinel(Sentinel):
    """Asks all Sentinels: after a failover some of them name the old master for a while."""

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return where most Sentinels say that the master of a service is.

        Those that have not answered are not waited for once most agree, nor for long.

        Raises:
            MasterNotFoundError: None of them says anything.
        """
        sentinels: list[Any] = self.sentinels
        asking = {asyncio.ensure_future(self._named_by(each, service_name)) for each in sentinels}
        votes: Counter[tuple[str, int]] = Counter()
        waited, error = True, None
        try:
            while asking and (waited or not votes) and not _decided(votes, len(sentinels)):
                done, asking = await asyncio.wait(
                    asking, timeout=HEDGE_SECONDS, return_when=asyncio.FIRST_COMPLETED
                )
                waited = bool(done)
                votes.update(each.result() for each in done if each.exception() is None)
                error = next((each.exception() for each in done if each.exception()), error)
            if asking:
                # To break off what is nearly there would cost its connection.
                await asyncio.wait(asking, timeout=HEDGE_SECONDS / 10)
        finally:
            for each in asking:
                each.cancel()
            await asyncio.gather(*asking, return_exceptions=True)
        if not votes:
            text = f"The Sentinels name no master of {service_name!r}: {error}"
            raise MasterNotFoundError(text) from error
        return votes.most_common(1)[0][0]

    async def _named_by(self, sentinel: Any, service_name: str) -> tuple[str, int]:
        # During a failover this names the new master earlier than SENTINEL MASTERS does.
        address = await sentinel.sentinel_get_master_addr_by_name(service_name)
        if not address:
            raise MasterNotFoundError("it is unknown")
        host, port = address
        return host.decode() if isinstance(host, bytes) else host, int(port)


def _decided(votes: "Counter[tuple[str, int]]", voters: int) -> bool:
    return bool(votes) and 2 * max(votes.values()) > voters


class MasterWires(Wires):
    """Wires to the master that Sentinels name.

    Args:
        pool: Makes the connections and knows the Sentinels.
        clock: The clock of this process.
        told_time: Is told the server's time, in seconds since the epoch, on each new connection.
        told_run: Is told its run id then.
        proof: A command that only a master obeys.
        single: Whether there must be no second connection.
    """

    def __init__(
        self,
        pool: SentinelConnectionPool,
        *,
        clock: Clock,
        told_time: Callable[[float, float], None],
        told_run: Callable[[bytes], None],
        proof: Command,
        single: bool,
    ) -> None:
        super().__init__(
            partial(connection_of, pool),
            clock=clock,
            told_time=told_time,
            told_run=told_run,
            proof=proof,
            single=single,
        )
        self._pool: Any = pool
        self._master: Any = None
        self._asking: asyncio.Task[None] | None = None
        self._follow_deadline = 0.0
        self._patience: asyncio.TimerHandle | None = None
        self._held: list[Turn] = []

    def send(self, turn: Turn) -> None:
        """Send a turn to the present master, once the Sentinels have named it or say nothing."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._follow_deadline and self._asking is None:
            self._follow_deadline = loop.time() + FOLLOW_SECONDS
            self._asking = self._tasks.start(self._follow(), name="tiercache-follow")
            # Without an answer the connection that there is must do.
            self._patience = loop.call_later(HEDGE_SECONDS, self._go_on)
        if self._patience is not None:
            self._held.append(turn)
        else:
            super().send(turn)

    async def aclose(self) -> None:
        """Close the connections; nothing is on the wire any more."""
        if self._asking is not None:
            self._asking.cancel()
        await super().aclose()

    async def _follow(self) -> None:
        sentinels, service = self._pool.sentinel_manager, self._pool.service_name
        try:
            async with asyncio.timeout(_FOLLOW_LIMIT):
                master = await sentinels.discover_master(service)
            if self._master is not None and master != self._master:
                self.renew()
            self._master = master
        except Exception:  # noqa: BLE001, S110 - the next connection will tell
            pass
        finally:
            self._asking = None
            self._go_on()

    def _go_on(self) -> None:
        """Send what was held back."""
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        held, self._held = self._held, []
        for turn in held:
            if not turn.over:
                super().send(turn)
