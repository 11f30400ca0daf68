"""The line to the bus, whose tasks fail together."""

import asyncio
import gc
from typing import Any

from redis.exceptions import ConnectionError as RedisConnectionError

from async_tiercache._tasks import Tasks
from async_tiercache.backends.redis.line import Line
from async_tiercache.backends.redis.names import Names
from async_tiercache.testing import FakeClock
from async_tiercache.testing.contracts._heard import Heard

DEADLINE = 5.0
"""How long anything may take here; reached only by tests that fail."""


class Breaking:
    """A connection of redis-py that answers until it breaks.

    Attributes:
        broken: Set it to break it, for reads and for pings alike.
        reading: Set once something waits for what comes.
    """

    is_connected = True
    protocol = 2

    def __init__(self) -> None:
        self.broken = asyncio.Event()
        self.reading = asyncio.Event()
        self._replies: list[Any] = [b"run_id:abc", b"PONG", [b"subscribe", b"test:bus", 1]]

    async def connect(self) -> None:
        """Be open."""

    async def disconnect(self, nowait: bool = False) -> None:
        """Be closed."""

    async def send_packed_command(self, packed: Any, check_health: bool = True) -> None:
        """Take anything but pings once the connection is broken."""
        if b"PING" in packed[0] and self.reading.is_set():
            await self.broken.wait()
            raise RedisConnectionError("closed while a ping was sent")

    async def read_response(self, **options: Any) -> Any:
        """Return what comes next."""
        if self._replies:
            return self._replies.pop(0)
        self.reading.set()
        await self.broken.wait()
        raise RedisConnectionError("closed while something was read")


async def test_two_failures_at_once_are_both_taken_in() -> None:
    """The loop has nothing to complain of."""
    lost: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: lost.append(context))
    made: list[Breaking] = []

    def make() -> Breaking:
        made.append(Breaking())
        return made[-1]

    clock, heard, tasks = FakeClock(), Heard(), Tasks()
    ear: Any = heard
    line = Line(make, Names("test"), ear, clock=clock, bound=2.0, told_run=lambda _: None)
    tasks.start(line.run(), name="test-line")
    async with asyncio.timeout(DEADLINE):
        await asyncio.sleep(0)
        await made[0].reading.wait()
        await clock.advance(0.5)  # a ping is due
        made[0].broken.set()
        await clock.advance(1)  # it connects again

    assert len(made) == 2
    await tasks.cancel()
    del made[0]
    gc.collect()
    assert lost == []
