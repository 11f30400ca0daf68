"""One process's way to a simulated server."""

import asyncio
import itertools
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from async_tiercache.abc import Clock
from async_tiercache.errors import TierError, TierRefusedError
from async_tiercache.testing._fate import LIMIT, NEVER, Fate, Journey
from async_tiercache.testing._simulated_bus import Bus
from async_tiercache.testing._simulated_clock import Call, ProcessClock, SimulatedClock, after
from async_tiercache.testing._simulated_remote import SimulatedRemote

if TYPE_CHECKING:
    from async_tiercache.testing._simulator import Simulator

R = TypeVar("R")


class SimulatedClient:
    """One process's way to the simulated server; a cache takes it as `client`.

    Attributes:
        clock: The process's time; the cache is given it as `clock`.
        bus: Hears the messages, once the cache listens.
        when_killed: Is called when the process ends by its fate.
        behind: By how much its idea of the server's time is behind, in seconds.
    """

    def __init__(self, simulator: "Simulator", process: int, clock: Clock) -> None:
        self.simulator = simulator
        self.process = process
        self.clock = ProcessClock(clock) if isinstance(clock, SimulatedClock) else clock
        self.bus: Bus | None = None
        self.when_killed: Callable[[], None] = _nothing
        self.behind = 0.0
        self._server = simulator.server
        self._tokens = itertools.count(1)

    def tiercache_remote(self, *, namespace: str, clock: Clock) -> SimulatedRemote:
        """Return the remote tier of a cache."""
        del namespace, clock
        return SimulatedRemote(self)

    def pause(self) -> None:
        """Let the process stand still, whatever goes on around it."""
        self.simulator.note(f"process {self.process} pauses")
        self._process_clock().pause()

    def resume(self, late: float = 0.0) -> None:
        """Let the process go on, if it is paused.

        Args:
            late: Seconds in which it can be called already, and has not seen yet what came
                meanwhile.
        """
        clock = self._process_clock()
        if clock.state == "paused":
            self.simulator.note(f"process {self.process} goes on")
            clock.resume(late)

    def kill(self) -> None:
        """End the process: what it has sent may arrive, and nothing else leaves or reaches it."""
        if not self.gone:
            self.simulator.note(f"process {self.process} ends")
            self._process_clock().stop()
            self.simulator.cut(self.process, silently=True)
            self.when_killed()

    @property
    def gone(self) -> bool:
        """Whether the process was killed."""
        return isinstance(self.clock, ProcessClock) and self.clock.state == "gone"

    def arrive(self, call: Call) -> None:
        """Call something in the process that comes from outside."""
        if isinstance(self.clock, ProcessClock):
            self.clock.arrive(call)
        else:
            call()

    def token(self) -> bytes:
        """Return 16 bytes that no other call returns."""
        return b"%07d:%07d!" % (self.process, next(self._tokens))

    async def ask(self, operation: str, keys: tuple[str, ...], run: Callable[[], R]) -> R:
        """Send a command and return its reply.

        Args:
            operation: Its name.
            keys: What it is about.
            run: Carries it out on the server.

        Raises:
            TierError: No reply came within the limit.
            TierRefusedError: The server refused it.
        """
        journey = Journey(self.process, operation, keys)
        fate = self.simulator.fate_of(journey)
        if fate.kills == "before":
            self.kill()
        if self.simulator.closed:
            raise TierError("The simulation is over", tier="l2")
        reply: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        if self.gone:
            return await reply
        arrive = partial(self._execute, journey, fate, run, reply)
        self._after(fate.request, arrive)
        if fate.again is not None:
            # What is carried out twice is answered once.
            second = Fate(reply=0.0 if fate.reply == NEVER else NEVER)
            again = partial(self._execute, journey, second, run, reply)
            self._after(fate.again + (0.0 if fate.request == NEVER else fate.request), again)
        if fate.broken:
            self._fail(reply, "the connection broke")
        elif fate.request + fate.reply >= LIMIT or self.simulator.state == "hung":
            after(self.clock, LIMIT, partial(self._fail, reply, f"no answer in {LIMIT} s"))
        return await reply

    def _after(self, seconds: float, call: Call) -> None:
        """Call something outside of the process after some time."""
        if seconds <= 0:
            asyncio.get_running_loop().call_soon(call)
        elif seconds != NEVER:
            after(self.simulator.clock, seconds, call)

    def _execute(
        self, journey: Journey, fate: Fate, run: Callable[[], R], reply: "asyncio.Future[R]"
    ) -> None:
        """Let the server carry a command out, and send its reply."""

        def execute() -> None:
            if fate.refused:
                refused = TierRefusedError(fate.refused, tier="l2")
                return self._after(fate.reply, partial(self._settle, reply, refused))
            result = run()
            self.simulator.note("done", (journey, result))
            if fate.kills == "after":
                self.kill()
            return self._after(fate.reply, partial(self._settle, reply, result))

        if not self.simulator.reach(execute) and not reply.done():
            self._after(fate.reply, partial(self._fail, reply, "connection refused"))
        elif self.simulator.state == "hung" and not reply.done():
            after(self.clock, LIMIT, partial(self._fail, reply, f"no answer in {LIMIT} s"))

    def _settle(self, reply: "asyncio.Future[Any]", result: Any) -> None:
        def settle() -> bool:
            if reply.done():
                return False
            if isinstance(result, BaseException):
                reply.set_exception(result)
            else:
                reply.set_result(result)
            return True

        self.arrive(settle)

    def _fail(self, reply: "asyncio.Future[Any]", why: str) -> None:
        self._settle(reply, TierError(f"The simulated L2 is out of reach: {why}", tier="l2"))

    def _process_clock(self) -> ProcessClock:
        if not isinstance(self.clock, ProcessClock):
            raise TypeError("processes of their own need a SimulatedClock")
        return self.clock


def _nothing() -> None:
    """Do nothing."""
