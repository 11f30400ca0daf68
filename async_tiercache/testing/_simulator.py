"""A simulated L2: one server, and between it and each process a network that a schedule rules.

Every command is a journey: it takes time to the server and back, gets lost on either way, arrives
long after its sender has given up, or is carried out twice. What happens to each is its *fate*.
"""

from collections.abc import Callable
from typing import Any, Final, Literal

from async_tiercache.abc import Clock, Invalidation
from async_tiercache.testing._fate import CALM, Fate, Journey, Rule
from async_tiercache.testing._simulated_bus import Connection
from async_tiercache.testing._simulated_client import SimulatedClient
from async_tiercache.testing._simulated_clock import Call
from async_tiercache.testing._simulated_server import SimulatedServer

_NOTES: Final = 400
_FRACTIONS: Final = (0.0, 0.0, 0.0, 0.001, 0.004, 0.015, 0.04, 0.1)


class Simulator:
    """A Redis that is not there, reached through a network that does what a test says.

    Two caches with a client each are as two processes over one Redis.

    Args:
        clock: The time of the server and of all processes. Only a `SimulatedClock` lets single
            processes stand still.
        draw: Returns numbers from 0 to below 1, from which delays are drawn; without it nothing is
            delayed.

    Attributes:
        server: What the Redis holds.
        rule: Is asked for the fate of each journey first; `None` leaves it to `draw`.
        notes: What has happened, the newest last.
        closed: Whether the simulation is over.

    Example:
        >>> from async_tiercache import TierCache
        >>> from async_tiercache.testing import SimulatedClock
        >>> clock = SimulatedClock()
        >>> simulator = Simulator(clock)
        >>> client = simulator.client()
        >>> cache = TierCache(namespace="test", client=client, clock=client.clock)
    """

    def __init__(self, clock: Clock, draw: Callable[[], float] | None = None) -> None:
        self.clock = clock
        self.server = SimulatedServer(clock)
        self.server.publish = self._publish
        self.rule: Rule = _undecided
        self.notes: list[tuple[float, str, Any]] = []
        self.closed = False
        self._draw = draw
        self._clients: list[SimulatedClient] = []
        self._connections: list[Connection] = []
        self._state: Literal["up", "down", "hung"] = "up"
        self._waiting: list[Call] = []

    def client(self) -> SimulatedClient:
        """Return what a cache of another process takes as `client`."""
        client = SimulatedClient(self, len(self._clients), self.clock)
        self._clients.append(client)
        return client

    # What goes wrong with the server.

    @property
    def state(self) -> Literal["up", "down", "hung"]:
        """Whether the server answers, is refused connections to, or says nothing."""
        return self._state

    def go_down(self) -> None:
        """Let the server end; what it holds is there again when it comes back."""
        self.note("the server goes down")
        self._state = "down"
        self._waiting = []
        self.cut()

    def hang(self) -> None:
        """Let the server say nothing; what reaches it is carried out when it goes on."""
        self.note("the server hangs")
        self._state = "hung"

    def go_on(self) -> None:
        """Let the server answer again, and carry out what has come meanwhile."""
        if self._state != "up":
            self.note("the server goes on")
        self._state = "up"
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            call()

    def restart(self, snapshot: Any = None) -> None:
        """Let the server start anew: empty, or with what `server.snapshot` has returned before."""
        self.note("the server restarts" if snapshot is None else "an older copy takes over")
        self.server.restart(snapshot)
        self.cut()

    def cut(self, process: int | None = None, *, silently: bool = False) -> None:
        """Cut bus connections: what is on its way there is lost.

        Args:
            process: Whose connection; all by default.
            silently: Whether the process is not told: to it, nothing is said any more.
        """
        for connection in list(self._connections):
            if process is None or connection.process == process:
                connection.cut(silently=silently)

    def close(self) -> None:
        """End the simulation: what is still asked fails, so that the tasks of ended processes end.

        A process that was ended stands still where it was, for as long as the simulation goes on.
        """
        self.closed = True

    # For clients.

    def note(self, text: str, about: Any = "") -> None:
        """Remember what has happened."""
        if len(self.notes) >= _NOTES:
            del self.notes[: _NOTES // 2]
        self.notes.append((self.clock.monotonic(), text, about))

    def fate_of(self, journey: Journey) -> Fate:
        """Return what happens to a command or message."""
        fate = self.rule(journey)
        if fate is not None:
            return fate
        if self._draw is None:
            return CALM
        request, reply = (
            _FRACTIONS[int(self._draw() * len(_FRACTIONS))] for _ in ("request", "reply")
        )
        return Fate(request=request, reply=reply)

    def reach(self, call: Call) -> bool:
        """Let the server do something, now or when it goes on; return False if it is down."""
        if self._state == "up":
            call()
        elif self._state == "hung":
            self._waiting.append(call)
        return self._state != "down"

    def connect(self, connection: Connection) -> None:
        """Send messages to a connection from here on."""
        if connection.open and connection not in self._connections:
            self._connections.append(connection)

    def disconnect(self, connection: Connection) -> None:
        """Send no more messages to a connection."""
        if connection in self._connections:
            self._connections.remove(connection)

    def _publish(self, message: Invalidation | str) -> None:
        # One that its message breaks is taken out meanwhile, and costs nobody else the message.
        for connection in list(self._connections):
            connection.publish(message)


def _undecided(_journey: Journey) -> None:
    """Leave the fate to chance."""
