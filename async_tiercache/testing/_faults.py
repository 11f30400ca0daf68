"""Faults: what goes wrong between caches and their L2 in memory, when a test says so.

`Faults` decides what a turn meets; the connections of `MemoryServer` let it happen.
"""

import asyncio
import difflib
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias, get_args

from async_tiercache.backends.redis import evidence, scripts
from async_tiercache.errors import ConfigurationError

Operation: TypeAlias = Literal[
    "probe",
    "listen",
    "get_many",
    "ensure",
    "take",
    "seize",
    "mark",
    "renew",
    "release",
    "await_fill",
    "commit",
    "stamp",
    "invalidate",
    "block",
    "unblock",
    "scan",
    "secret",
]
"""What a cache asks of L2, by the names of `abc.Remote`."""

Command: TypeAlias = list[bytes]
Kind: TypeAlias = Literal["drop", "lose", "refuse", "hang"]

FULL: Final = "OOM command not allowed when used memory > 'maxmemory'."

_OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)
_AT_RANDOM: Final[tuple[Kind, ...]] = ("drop", "lose", "refuse")


@dataclass(slots=True)
class _Fault:
    """A fault that strikes some operations, a number of times or until it is cleared."""

    kind: Kind
    operations: Sequence[str]
    left: int | None = None
    error: str = FULL

    def strikes(self, operation: Operation) -> bool:
        """Return whether it strikes now; that counts."""
        if self.left == 0 or operation not in self.operations:
            return False
        if self.left is not None:
            self.left -= 1
        return True


class Faults:
    """What goes wrong with a `MemoryServer`; it is its attribute `faults`.

    A fault strikes the operations that it names, all if it names none, so many `times`, else until
    `clear`. An operation that was dropped or lost has failed: it is not saved by a connection that
    is made anew. What is sent in the same tick of the loop travels together, and shares the fate
    of what is struck unless that is a refusal. ``"listen"`` is whatever goes over a connection of
    the bus, each message that arrives there included. An argument that can never strike raises
    `ConfigurationError`.

    Attributes:
        struck: The operations that were struck, the oldest first.

    Example:
        >>> from async_tiercache.testing import MemoryServer
        >>> server = MemoryServer()
        >>> server.faults.drop("invalidate", times=2)
        >>> server.faults.refuse("commit")
        >>> server.faults.clear()
    """

    def __init__(self) -> None:
        self.struck: list[Operation] = []
        self._faults: list[_Fault] = []
        self._random: tuple[float, Callable[[], float]] | None = None
        self._news = asyncio.Event()
        self._cleared: list[Callable[[], None]] = []

    def drop(self, *operations: Operation, times: int | None = None) -> None:
        """Break the connection before anything arrives: nothing is carried out."""
        self._add("drop", operations, times)

    def lose(self, *operations: Operation, times: int | None = None) -> None:
        """Break the connection before the reply: it is carried out, and nobody is told."""
        self._add("lose", operations, times)

    def refuse(self, *operations: Operation, times: int | None = None, error: str = FULL) -> None:
        """Answer with an error, and carry nothing out.

        Args:
            operations: What is refused.
            times: How often, else until `clear`.
            error: What Redis says; that it is full unless told otherwise.
        """
        self._add("refuse", operations, times, error)

    def hang(self, *operations: Operation, times: int | None = None) -> None:
        """Answer nothing until `clear`; what was sent is carried out then, late.

        A cache waits 250 ms of real time for an answer.
        """
        self._add("hang", operations, times)

    def at_random(self, chance: float, draw: Callable[[], float]) -> None:
        """Drop, lose or refuse operations by chance.

        Args:
            chance: Of each operation to be struck, from 0 to 1.
            draw: Returns numbers from 0 to below 1; ``random.Random(7).random`` repeats itself.
        """
        if not 0 <= chance <= 1:
            raise ConfigurationError(f"chance={chance!r} is none", hint="It is from 0 to 1.")
        self._random = chance, draw

    def clear(self) -> None:
        """End all faults and carry out what hangs."""
        self._faults.clear()
        self._random = None
        cleared, self._cleared = self._cleared, []
        for proceed in cleared:
            proceed()

    async def reached(self, count: int = 1) -> None:
        """Return once `count` operations were struck."""
        while len(self.struck) < count:
            await self._news.wait()

    def strike(self, commands: list[Command], *, listening: bool = False) -> Kind | None:
        """Return what a turn of commands meets, and put errors in place of those refused.

        Args:
            commands: The commands.
            listening: Whether they go over a connection of the bus.
        """
        for index, command in enumerate(commands):
            fault = self._struck_by("listen" if listening else operation_of(command))
            if fault is None:
                continue
            if fault.kind != "refuse":
                return fault.kind
            commands[index] = [b"EVAL", b"return redis.error_reply(ARGV[1])", b"0", _b(fault.error)]
        return None

    def strike_message(self) -> Kind | None:
        """Return what a message on the bus meets; it cannot be refused."""
        fault = self._struck_by("listen")
        return None if fault is None or fault.kind == "refuse" else fault.kind

    def when_cleared(self, proceed: Callable[[], None]) -> None:
        """Call something once the faults are cleared."""
        self._cleared.append(proceed)

    def _add(
        self, kind: Kind, operations: Sequence[str], times: int | None, error: str = FULL
    ) -> None:
        for operation in operations:
            if operation not in _OPERATIONS:
                near = difflib.get_close_matches(operation, _OPERATIONS, n=1)
                known = (
                    f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(_OPERATIONS)}."
                )
                raise ConfigurationError(f"There is no operation {operation!r}", hint=known)
        if times is not None and times < 1:
            raise ConfigurationError(
                f"times={times!r} would never strike", hint="Leave it out to strike until clear()."
            )
        self._faults.append(_Fault(kind, operations or _OPERATIONS, times, error))

    def _struck_by(self, operation: Operation | None) -> _Fault | None:
        """Return the fault that an operation meets, and remember it."""
        fault = None if operation is None else self._striking(operation)
        if operation is not None and fault is not None:
            self.struck.append(operation)
            news, self._news = self._news, asyncio.Event()
            news.set()
        return fault

    def _striking(self, operation: Operation) -> _Fault | None:
        for fault in self._faults:
            if fault.strikes(operation):
                return fault
        if self._random is not None:
            chance, draw = self._random
            if draw() < chance:
                return _Fault(_AT_RANDOM[int(draw() * len(_AT_RANDOM))], _OPERATIONS)
        return None


def operation_of(command: Command) -> Operation | None:
    """Return what a cache asks by a command, `None` if caches do not send it."""
    match [command[0].upper(), *command[1:]]:
        case [b"GET" | b"MGET", *_]:
            return "get_many"
        case [b"SET", _, b"", *_]:
            return "probe"
        case [b"SET", name, _, *options] if b"NX" in options:
            return _CLAIMS.get(name.rpartition(b":")[2], "take")
        case [b"DEL" | b"UNLINK", *_]:
            return "invalidate"
        case [b"SUBSCRIBE", *_]:
            return "listen"
        case [b"SCAN", *_]:
            return "scan"
        case [b"EVAL" | b"EVALSHA", script, *_]:
            return _SCRIPTS.get(_TEXTS.get(script, script))
        case _:
            return None


def by_its_text(command: Command) -> Command:
    """Return a script's command so that a server runs it that does not know the script yet."""
    if command[0] == b"EVALSHA" and command[1] in _TEXTS:
        return [b"EVAL", _TEXTS[command[1]], *command[2:]]
    return command


def _b(text: str) -> bytes:
    return text.encode()


_CLAIMS: Final[dict[bytes, Operation]] = {b"r": "mark", b"last": "listen", b"secret": "secret"}
"""What is asked by putting something where nothing is, by how the name ends; else a lease."""
_SCRIPTS: Final[dict[bytes, Operation]] = {
    _b(scripts.REPLACE): "take",
    _b(scripts.SEIZE): "seize",
    _b(scripts.RENEW): "renew",
    _b(scripts.RELEASE): "release",
    _b(scripts.WAKE): "release",
    _b(scripts.WAIT): "await_fill",
    _b(scripts.COMMIT): "commit",
    _b(scripts.STAMP): "stamp",
    _b(evidence.ENSURE): "ensure",
    _b(evidence.INVALIDATE): "invalidate",
    _b(evidence.BLOCK): "block",
    _b(evidence.UNBLOCK): "unblock",
}
_TEXTS: Final = {
    _b(hashlib.sha1(text, usedforsecurity=False).hexdigest()): text for text in _SCRIPTS
}
