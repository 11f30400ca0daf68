"""Connections between a cache and its server: a test counts, holds and fails what passes."""

import asyncio
from collections import deque
from typing import Any, Final, cast

import hiredis
from redis.asyncio import Redis
from redis.exceptions import NoScriptError

from async_tiercache.backends.redis import evidence, scripts
from async_tiercache.backends.redis.scripts import digest_of
from async_tiercache.testing import MemoryServer

_SCRIPTS: Final = {
    name: cast("str", getattr(module, name))
    for module, names in (
        (scripts, ("COMMIT", "RELEASE", "RENEW", "REPLACE", "SEIZE", "STAMP", "WAIT", "WAKE")),
        (evidence, ("BLOCK", "ENSURE", "INVALIDATE", "UNBLOCK")),
    )
    for name in names
}
_NAMES: Final = {text: name for name, text in _SCRIPTS.items()} | {
    digest_of(text): name for name, text in _SCRIPTS.items()
}

MESSAGE: Final = "message"
"""The name of what comes over the bus; only its replies can be held."""
_OF_THE_BUS: Final = {"INFO", "PERSIST", "PING", "SUBSCRIBE", "UNSUBSCRIBE"}
_NOT_COUNTED: Final = {"EVAL", "TIME"}


class Gate:
    """Holds what comes until it is opened.

    Attributes:
        reached: Set once something waits here.
        open: Set it to let everything through.
    """

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.open = asyncio.Event()

    async def passed(self) -> None:
        """Return when the gate is open."""
        self.reached.set()
        await self.open.wait()


class Wire:
    """A client of the server whose connections a test has in its hand.

    A command's name is its verb, or the script's: ``"GET"``, ``"SET"``, ``"INVALIDATE"``,
    ``"COMMIT"``. Reads of several keys in one turn are one ``"MGET"``. What comes over the bus is a
    ``MESSAGE``; while one is held, so is all that follows it, the answers to pings included.

    Attributes:
        sent: The commands that the server has seen, by name, but for those that set up a
            connection; a script's retry by its text counts with its first try.
    """

    def __init__(self, server: MemoryServer) -> None:
        self._real: Any = server.client()
        self.sent: list[str] = []
        self._before: dict[str, Gate] = {}
        self._after: dict[str, Gate] = {}
        self._cuts: dict[str, int] = {}
        self._refusals: dict[str, list[Exception]] = {}

    @property
    def client(self) -> "Redis":
        """What `TierCache` is given."""
        return cast("Redis", self)

    @property
    def connection_pool(self) -> "Wire":
        """What makes the connections."""
        return self

    def make_connection(self) -> "_Connection":
        """Return a new connection."""
        return _Connection(self, self._real.connection_pool.make_connection())

    def hold(self, name: str) -> Gate:
        """Hold the turns with this command before the server sees them."""
        return self._before.setdefault(name, Gate())

    def hold_reply(self, name: str) -> Gate:
        """Hold the replies to this command, and what follows them."""
        return self._after.setdefault(name, Gate())

    def let_later_pass(self, name: str) -> None:
        """Let what comes from here on pass; what is held already waits for its gate."""
        self._before.pop(name, None)
        self._after.pop(name, None)

    def let_pass(self, name: str) -> None:
        """Open the gates of a command and take them away."""
        for gates in (self._before, self._after):
            gate = gates.pop(name, None)
            if gate is not None:
                gate.open.set()

    def cut(self, name: str) -> None:
        """Lose the connection on which this command comes next, and the one of its second try."""
        self._cuts[name] = 2

    def refuse(self, name: str, error: Exception) -> None:
        """Answer the next command of this name with an error; the server does not see it."""
        self._refusals.setdefault(name, []).append(error)

    async def _sending(self, name: str) -> Exception | None:
        if name in self._before:
            await self._before[name].passed()
        if self._cuts.get(name):
            self._cuts[name] -= 1
            raise ConnectionResetError
        refusals = self._refusals.get(name)
        return refusals.pop(0) if refusals else None

    async def _replying(self, name: str) -> None:
        if name in self._after:
            await self._after[name].passed()


class _Connection:
    """One connection, between the cache and a connection of the server's."""

    def __init__(self, wire: Wire, real: Any) -> None:
        self.protocol: int = real.protocol  # The bus asks for another one, which is not passed on.
        self._wire = wire
        self._real = real
        self._expected: deque[tuple[str, Exception | None]] = deque()

    @property
    def is_connected(self) -> bool:
        return bool(self._real.is_connected)

    async def connect(self) -> None:
        await self._real.connect()

    async def disconnect(self, **options: Any) -> None:
        self._expected.clear()
        await self._real.disconnect(**options)

    async def send_packed_command(self, packed: list[bytes], **options: Any) -> None:
        passing: list[bytes] = []
        for each in packed:
            reader = hiredis.Reader()
            reader.feed(each)
            command = [part.decode(errors="replace") for part in reader.gets()]
            name = _name(command)
            error = await self._wire._sending(name)
            if name not in _OF_THE_BUS:
                self._expected.append((name, error))
            if error is None:
                passing.append(each)
                if _counts(command):
                    self._wire.sent.append(name)
        if passing:
            await self._real.send_packed_command(passing, **options)

    async def read_response(self, **options: Any) -> Any:
        if not self._expected:
            # A connection of the bus: messages come when they come, and in their order.
            reply = await self._real.read_response(**options)
            if isinstance(reply, list) and reply[:1] == [b"message"]:
                await self._wire._replying(MESSAGE)
            return reply
        name, error = self._expected.popleft()
        if error is not None:
            raise error
        try:
            return await self._real.read_response(**options)
        except NoScriptError:
            # Nothing was carried out; the script comes again, as its text.
            name = ""
            raise
        finally:
            await self._wire._replying(name)


def _counts(command: list[str]) -> bool:
    """Return whether a command is the cache's, not the bus's or the connection's."""
    if command[0] == "SET" and command[1].endswith("}:last"):
        return False
    return command[0] not in _NOT_COUNTED | _OF_THE_BUS


def _name(command: list[str]) -> str:
    """Return what a test calls a command."""
    if command[0] == "MGET" and sum(name.endswith("}") for name in command[1:]) <= 1:
        # One key, with the states of its tags.
        return "GET"
    return _NAMES.get(command[1], command[0]) if len(command) > 1 else command[0]
