"""An L2 in this process's memory, by fakeredis."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, cast

import hiredis

from async_tiercache.abc import Clock
from async_tiercache.errors import MissingExtraError
from async_tiercache.testing._faults import Command, Faults, by_its_text

if TYPE_CHECKING:
    from redis.asyncio import Redis


class MemoryServer:
    """A Redis that lives in memory; each cache of a test gets a client of its own.

    Two caches over one server are as two processes over one Redis.

    Args:
        clock: The server's time, by which keys expire too; this machine's by default.

    Attributes:
        faults: What goes wrong; nothing at first.

    Raises:
        MissingExtraError: fakeredis is not installed.

    Example:
        >>> server = MemoryServer()
        >>> from async_tiercache import TierCache
        >>> cache = TierCache(namespace="test", client=server.client())
    """

    def __init__(self, clock: Clock | None = None) -> None:
        try:
            import fakeredis
            import lupa  # type: ignore[import-untyped]  # noqa: F401 - for the scripts
        except ImportError as error:
            raise MissingExtraError(
                "MemoryServer needs fakeredis with Lua",
                hint='pip install "async-tiercache[testing]"',
            ) from error
        self.faults = Faults()
        self._fakeredis = fakeredis
        self._server = fakeredis.FakeServer(version=(7,))
        self._clock = clock
        if clock is not None:
            _set_clock(self._server.dbs[0], clock)

    @property
    def connected(self) -> bool:
        """Whether the server answers; set it to False to take it down."""
        return self._server.connected

    @connected.setter
    def connected(self, value: bool) -> None:
        self._server.connected = value

    def client(self) -> "Redis":
        """Return a new redis-py client of the server."""
        client: Any = self._fakeredis.FakeAsyncRedis(server=self._server, host="localhost")
        pool = client.connection_pool
        pool.connection_class = _faulty(pool.connection_class, self._inject)
        return cast("Redis", client)

    def _carry_out(self, commands: list[Command]) -> None:
        """Run commands whose sender is gone; nobody reads the replies."""
        if not self.connected:
            return
        late: Any = self._fakeredis.FakeRedis(server=self._server)
        pipeline = late.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*by_its_text(command))
        pipeline.execute(raise_on_error=False)

    async def _inject(self, commands: list[Command]) -> None:
        """Do to commands what the test wants before they are sent; refusals take their place.

        Raises:
            ConnectionResetError: The connection breaks.
        """
        if self._clock is not None:
            told = _tell(self._clock)
            commands[:] = [told if each == [b"TIME"] else each for each in commands]
        struck = self.faults.strike(commands)
        if struck == "hang":
            await self._hang(commands)
        elif struck is not None:
            if struck == "lose":
                self._carry_out(commands)
            raise ConnectionResetError(_BROKEN)

    async def _hang(self, commands: list[Command]) -> None:
        """Wait; what the sender has given up meanwhile is carried out all the same."""
        cleared: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def proceed() -> None:
            if cleared.done():
                self._carry_out(commands)
            else:
                cleared.set_result(None)

        self.faults.when_cleared(proceed)
        await cleared


_BROKEN: Final = "the connection was broken by a fault of the test"


def _faulty(connection: Any, inject: Callable[[list[Command]], Awaitable[None]]) -> Any:
    """Return a connection class in which faults happen before commands are sent."""

    class Connection(connection):  # type: ignore[misc]
        _broken = False

        async def connect(self) -> None:
            """Connect, but not at once after a fault: what it struck has failed."""
            if self._broken:
                self._broken = False
                raise ConnectionResetError(_BROKEN)
            await connection.connect(self)

        async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
            """Send commands, or do to them what the test wants."""
            commands = _unpacked(command)
            try:
                await inject(commands)
            except ConnectionResetError:
                self._broken = True
                raise
            packed = [_pack(tuple(each)) for each in commands]
            await connection.send_packed_command(self, packed, check_health)

    return Connection


def _set_clock(database: Any, clock: Clock) -> None:
    """Let keys expire by a clock; fakeredis sets the time of its databases before each command."""
    kind = cast("Any", type(database))
    database.__class__ = type(kind.__name__, (kind,), {"time": _clocked(clock)})


def _clocked(clock: Clock) -> property:
    return property(lambda _: clock.wall(), lambda _, __: None)


_pack = cast("Any", hiredis).pack_command


def _unpacked(packed: Any) -> list[Command]:
    reader = hiredis.Reader()
    for chunk in [packed] if isinstance(packed, bytes) else packed:
        reader.feed(chunk)
    commands: list[Command] = []
    while command := cast("Any", reader).gets():
        commands.append(command)
    return commands


def _tell(clock: Clock) -> Command:
    """Return a command that is answered as TIME, by another clock."""
    seconds = clock.wall()
    whole, rest = str(int(seconds)), str(int(seconds % 1 * 1e6))
    return [b"EVAL", b"return {ARGV[1], ARGV[2]}", b"0", whole.encode(), rest.encode()]
