"""A client between a cache and its server: a test counts, holds and fails what passes."""

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import Any, cast

from redis.asyncio import Redis

from async_tiercache.backends.redis import scripts
from async_tiercache.backends.redis.turns import _digest
from async_tiercache.testing import MemoryServer

_SCRIPTS = {
    name: getattr(scripts, name) for name in ("COMMIT", "REPLACE", "RELEASE", "RENEW")
}
_NAMES = {text: name for name, text in _SCRIPTS.items()} | {
    _digest(text): name for name, text in _SCRIPTS.items()
}


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
    """As much of a redis-py client as the cache uses.

    A command's name is its verb, or the script's: ``"GET"``, ``"SET"``, ``"DEL"``, ``"COMMIT"``.

    Attributes:
        sent: The commands that the server was sent, by name, without unknown-script retries.
    """

    def __init__(self, server: MemoryServer) -> None:
        self._client: Any = server.client()
        self.sent: list[str] = []
        self._before: dict[str, Gate] = {}
        self._after: dict[str, Gate] = {}
        self._failing: dict[str, list[Exception]] = defaultdict(list)

    def hold(self, name: str) -> Gate:
        """Hold the next commands of this name before the server sees them."""
        return self._before.setdefault(name, Gate())

    def hold_reply(self, name: str) -> Gate:
        """Hold the replies of the next commands of this name."""
        return self._after.setdefault(name, Gate())

    def let_pass(self, name: str) -> None:
        """Open the gates of a name and take them away."""
        for gates in (self._before, self._after):
            gate = gates.pop(name, None)
            if gate is not None:
                gate.open.set()

    def fail(self, name: str, error: Exception) -> None:
        """Answer the next command of this name with an error; the server does not see it."""
        self._failing[name].append(error)

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        """Send one command."""
        return await self._passing(command, lambda: self._client.execute_command(*command, **options))

    def pipeline(self, *, transaction: bool) -> "_Pipeline":
        """Return a pipeline whose commands pass one by one."""
        assert not transaction
        return _Pipeline(self)

    async def _passing(self, command: tuple[Any, ...], send: Callable[[], Any]) -> Any:
        name = _name(command)
        if name in self._before:
            await self._before[name].passed()
        if self._failing[name]:
            raise self._failing[name].pop(0)
        if command[0] != "EVAL":
            self.sent.append(name)
        reply = await send()
        if name in self._after:
            await self._after[name].passed()
        return reply


class _Pipeline:
    def __init__(self, wire: Wire) -> None:
        self._wire = wire
        self._commands: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def execute_command(self, *command: Any, **options: Any) -> None:
        self._commands.append((command, options))

    async def execute(self, *, raise_on_error: bool) -> list[Any]:
        replies: list[Any] = []
        for command, options in self._commands:
            try:
                replies.append(await self._wire.execute_command(*command, **options))
            except (ConnectionError, TimeoutError):
                raise
            except Exception as error:
                if raise_on_error:
                    raise
                replies.append(error)
        return replies


def _name(command: tuple[Any, ...]) -> str:
    verb = str(command[0])
    if verb in {"EVAL", "EVALSHA"}:
        return _NAMES[command[1]]
    return verb


def client_of(wire: Wire) -> "Redis":
    """Return a wire as what `TierCache` takes for a client."""
    return cast("Redis", wire)
