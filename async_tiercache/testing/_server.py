"""An L2 in this process's memory, by fakeredis."""

import asyncio
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakSet

import hiredis
from redis.exceptions import ConnectionError as RedisConnectionError

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
        run_id: What tells it from a server that has restarted.

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
        self.run_id = token_hex(20)
        self._listening: WeakSet[Any] = WeakSet()
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
        if not value:
            self.hang_up()

    def hang_up(self) -> None:
        """Close the connections of the bus; caches connect again."""
        for connection in list(self._listening):
            connection.hang_up()
        self._listening.clear()

    def restart(self, *, keep: bool = False) -> None:
        """Be another server from now on, which holds nothing unless it shall keep what there is."""
        self.run_id = token_hex(20)
        if not keep:
            self._server.dbs[0].clear()
        self.hang_up()

    def client(self) -> "Redis":
        """Return a new redis-py client of the server."""
        client: Any = self._fakeredis.FakeAsyncRedis(server=self._server, host="localhost")
        pool = client.connection_pool
        kinds = (_Faulty, pool.connection_class)
        pool.connection_class = type("Connection", kinds, {"server": self})
        return cast("Redis", client)

    def _carry_out(self, commands: list[Command]) -> None:
        """Run commands whose sender is gone; nobody reads the replies."""
        if not self.connected:
            return
        late: Any = self._fakeredis.FakeRedis(server=self._server)
        pipeline = late.pipeline(transaction=False)
        for command in commands:
            if command[0] not in _SUBSCRIBING:
                pipeline.execute_command(*by_its_text(command))
        pipeline.execute(raise_on_error=False)

    async def inject(self, commands: list[Command], *, listening: bool) -> None:
        """Do to commands what the test wants before they are sent; refusals take their place.

        Raises:
            ConnectionResetError: The connection breaks.
        """
        commands[:] = [self._told(each) for each in commands]
        struck = self.faults.strike(commands, listening=listening)
        if struck == "hang":
            await self._hang(commands)
        elif struck is not None:
            if struck == "lose":
                self._carry_out(commands)
            raise ConnectionResetError(_BROKEN)

    async def delivered(self, connection: Any) -> bool:
        """Return whether a message arrives on a connection that is still there, after all."""
        struck = self.faults.strike_message()
        if struck == "hang":
            await self._hang([])
        return struck in {None, "hang"} and connection in self._listening

    def listens(self, connection: Any) -> None:
        """Remember that a connection is one of the bus."""
        self._listening.add(connection)

    def _told(self, command: Command) -> Command:
        """Return a command, or one that is answered as it shall be: what fakeredis cannot say."""
        if command == [b"INFO", b"server"]:
            return [b"EVAL", b"return ARGV[1]", b"0", b"run_id:" + self.run_id.encode()]
        return command

    def set_time(self, socket: Any) -> None:
        """Let a connection's commands and scripts be told the time of the server."""
        clock = self._clock
        if clock is not None:
            socket.time = lambda: _parts(clock.wall())

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
_CLOSED: Final = "the server has closed the connection"
_SUBSCRIBING: Final = (b"SUBSCRIBE", b"UNSUBSCRIBE", b"PING")


class _Faulty:
    """What fakeredis's connections lack: faults happen before commands are sent.

    Attributes:
        server: Whose connection it is.
    """

    server: MemoryServer
    _broken = False  # of all connections of a client: the next one is another object
    _listening = False
    _sock: Any

    async def connect(self) -> None:
        """Connect, but not at once after a fault: what it struck has failed."""
        if self._broken:
            type(self)._broken = False  # noqa: SLF001 - of this very class
            raise ConnectionResetError(_BROKEN)
        await cast("Any", super()).connect()

    async def _connect(self) -> None:
        await cast("Any", super())._connect()  # noqa: SLF001 - where fakeredis makes its socket
        self._listening = False
        self.server.set_time(self._sock)

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        """Send commands, or do to them what the test wants."""
        commands = _unpacked(command)
        socket = self._sock
        try:
            await self.server.inject(commands, listening=self._listening)
        except ConnectionResetError:
            type(self)._broken = not self._listening  # noqa: SLF001 - of this very class
            raise
        if socket is not self._sock:
            raise ConnectionResetError(_CLOSED)
        if any(each[0] == b"SUBSCRIBE" for each in commands):
            self._listening = True
            self.server.listens(self)
        packed = [_pack(tuple(each)) for each in commands]
        await cast("Any", super()).send_packed_command(packed, check_health)

    async def read_response(self, **options: Any) -> Any:
        """Return what comes next, unless that is a message which the test keeps away."""
        reply = await cast("Any", super()).read_response(**options)
        if isinstance(reply, RedisConnectionError):
            raise reply
        message = isinstance(reply, list) and reply[:1] == [b"message"]
        if message and not await self.server.delivered(self):
            raise ConnectionResetError(_BROKEN)
        return cast("Any", reply)

    def hang_up(self) -> None:
        """Let the next read, or the one that waits, find the connection closed."""
        if self._sock is not None:
            self._sock.put_response(RedisConnectionError(_CLOSED))


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


def _parts(seconds: float) -> list[bytes]:
    """Return an instant as TIME tells it."""
    whole = int(seconds)
    return [str(whole).encode(), str(int((seconds - whole) * 1e6)).encode()]
