"""The simulated bus: messages in the order of each connection, late, lost with it, or twice.

A proof travels in the same order, so that it may be late but never wrong.
"""

import asyncio
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Final

from async_tiercache.abc import Invalidation, Listener
from async_tiercache.errors import TierError
from async_tiercache.testing._fate import NEVER, Journey
from async_tiercache.testing._simulated_clock import Call, after

if TYPE_CHECKING:
    from async_tiercache.testing._simulated_client import SimulatedClient

_FIRST_PAUSE: Final = 0.05
_LAST_PAUSE: Final = 1.0


class Connection:
    """One connection to the bus, as the server sees it.

    Attributes:
        process: The number of the process at its other end.
        open: Whether messages go into it.
        lost: Whether the process knows that it is not.
    """

    def __init__(self, bus: "Bus") -> None:
        self.process = bus.client.process
        self.open = True
        self.lost = False
        self.lost_soon: Call = _nothing
        self._bus = bus
        self._simulator = bus.client.simulator
        self._queue: deque[Call] = deque()
        self._free_at = 0.0

    def publish(self, message: Invalidation | str) -> None:
        """Send a message to the process."""
        keys = (message,) if isinstance(message, str) else message.keys + message.tags
        fate = self._simulator.fate_of(Journey(self.process, "message", keys))
        seconds = fate.request + fate.reply
        if seconds == NEVER:
            # Nothing is lost from within a connection.
            self.cut(silently=not fate.broken)
            return
        self.send(partial(self._bus.hear, message), seconds)
        if fate.again is not None:
            self.send(partial(self._bus.hear, message), fate.again)

    def send(self, call: Call, seconds: float) -> None:
        """Call something in the process after everything that was sent before, and some time."""
        if not self.open:
            return
        now = self._simulator.clock.monotonic()
        self._free_at = max(self._free_at, now + seconds)
        self._queue.append(call)
        if self._free_at <= now:
            asyncio.get_running_loop().call_soon(self._deliver)
        else:
            after(self._simulator.clock, self._free_at - now, self._deliver)

    def cut(self, *, silently: bool) -> None:
        """Close it; what has not arrived is lost."""
        self._simulator.disconnect(self)
        if self.open:
            self._simulator.note(f"the bus of process {self.process} is cut", silently)
        self.open = False
        self._queue.clear()
        if not silently:
            self._bus.client.arrive(self._lose)

    def _lose(self) -> None:
        self.lost = True
        self.lost_soon()

    def _deliver(self) -> bool:
        if not self._queue:
            return False
        self._bus.client.arrive(self._queue.popleft())
        return True


class Bus:
    """Listens for one cache, as `abc.Remote.listen` says.

    Args:
        client: The process.
        listener: Is told.
        bound: How long a proof is good, in seconds.
    """

    def __init__(self, client: "SimulatedClient", listener: Listener, bound: float) -> None:
        self.client = client
        self._simulator = client.simulator
        self._listener = listener
        self._bound = bound
        self._run: int | None = None
        self._last: bytes | None = None
        self._proved = 0.0
        self._connection: Connection | None = None
        self.wanted: set[str] = set()

    async def run(self) -> None:
        """Connect, prove, and connect anew, until cancelled."""
        pause = _FIRST_PAUSE
        try:
            while True:
                try:
                    connection = await self._connect()
                except TierError:
                    pause = min(pause * 2, _LAST_PAUSE)
                else:
                    pause = _FIRST_PAUSE
                    await self._prove(connection)
                    connection.cut(silently=True)
                await self.client.clock.sleep(pause)
        finally:
            self.close()

    def close(self) -> None:
        """Hear nothing more."""
        if self._connection is not None:
            self._connection.cut(silently=True)
            self._connection = None

    def hear(self, message: Invalidation | str) -> None:
        """Tell the listener of a message."""
        if isinstance(message, Invalidation):
            self._last = message.id
            self._simulator.note(f"process {self.client.process} hears", message)
            self._listener.apply(message)
        elif message in self.wanted:
            self.wanted.discard(message)
            self._listener.wake(message)

    async def _connect(self) -> Connection:
        server, client = self._simulator.server, self.client
        connection = Connection(self)
        # Of the messages that arrive from here on, none must stand for one that was missed.
        known, run = self._last, await client.ask("info", (), lambda: server.run)
        self._connection = connection
        try:
            await client.ask("subscribe", (), partial(self._simulator.connect, connection))
            last = await client.ask("last", (), partial(server.evidence, client.token()))
        except BaseException:
            connection.cut(silently=True)
            raise
        same = run == self._run
        if self._run is not None and not same:
            self._simulator.note(f"process {client.process} is told of a replacement")
            self._listener.replaced()
        if last is None or last != known or not same:
            self._simulator.note(f"process {client.process} is told of a gap")
            self._listener.gap()
        self._run, self._proved = run, client.clock.monotonic()
        return connection

    async def _prove(self, connection: Connection) -> None:
        """Send a ping four times per bound, until the connection is lost or says nothing."""
        clock = self.client.clock
        while not connection.lost and clock.monotonic() - self._proved <= self._bound:
            self._ping(connection)
            wake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            connection.lost_soon = wakes = partial(_wake, wake)
            after(clock, self._bound / 4, wakes)
            await wake

    def _ping(self, connection: Connection) -> None:
        sent = self.client.clock.monotonic()
        fate = self._simulator.fate_of(Journey(self.client.process, "ping"))
        if fate.kills is not None:
            self.client.kill()
            return
        if NEVER in {fate.request, fate.reply}:
            connection.cut(silently=not fate.broken)
            return

        def pong() -> None:
            connection.send(partial(self._hear_pong, sent), fate.reply)

        def arrive() -> None:
            self._simulator.reach(pong)

        if fate.request > 0:
            after(self._simulator.clock, fate.request, arrive)
        else:
            arrive()

    def _hear_pong(self, sent: float) -> None:
        self._proved = max(self._proved, self.client.clock.monotonic())
        self._listener.prove(sent + self._bound)


def _wake(wake: "asyncio.Future[None]") -> bool:
    if wake.done():
        return False
    wake.set_result(None)
    return True


def _nothing() -> None:
    """Do nothing."""
