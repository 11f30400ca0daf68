"""A session: one connection of redis-py that is subscribed to channels, as long as it lasts.

redis-py makes, secures and parses the connection, without its pool. Replies and messages come in
one order, so that whatever was published before a PING arrives before its answer.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final, cast

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from async_tiercache.backends.redis.connections import open_connection
from async_tiercache.backends.redis.failures import is_demoted
from async_tiercache.backends.redis.runs import ASK, run_id_of
from async_tiercache.backends.redis.wire import Command, pack, transport_of

_AT_ONCE: Final = 100  # messages that are taken in before others get to act


class Session:
    """One subscribed connection.

    Args:
        connection: redis-py's, not open yet.
        heard: Is told the channel and the text of each message.
        answered: Is called for each answer to a ping.

    Attributes:
        connection: What was given.
        unanswered: How many pings were not answered yet.
    """

    __slots__ = (
        "_answered",
        "_confirmed",
        "_heard",
        "_transport",
        "_writes",
        "connection",
        "unanswered",
    )

    def __init__(
        self,
        connection: Any,
        heard: Callable[[bytes, bytes], None],
        answered: Callable[[float], None],
    ) -> None:
        # Silence is noticed by pings that are not answered.
        connection.socket_timeout = None
        self.connection = connection
        self.unanswered: deque[float] = deque()
        self._heard = heard
        self._answered = answered
        self._writes = 0
        self._transport: Any = None
        self._confirmed: dict[bytes, asyncio.Future[None]] = {}

    async def open(self, channels: Iterable[str], written: str | None = None) -> bytes:
        """Connect and subscribe; return the server's run id, empty if it does not tell it.

        Args:
            channels: What to listen to.
            written: What a master lets us write, by which a replica is told.

        Raises:
            RedisError: The server is out of reach, refuses, or does not serve.
        """
        await self._connect()
        # redis-py lets go of it when a task that reads is cancelled.
        self._transport = transport_of(self.connection)
        confirmed = self._expect(channels)
        subscribe = ("SUBSCRIBE", *self._confirmed)
        asked = [ASK] if written is None else [ASK, _write(written)]
        # One that loads its data, or has lost its master, lets subscribe but refuses a ping.
        await self.send(*asked, ("PING",), subscribe)
        told: list[Any] = []
        for _ in asked:
            try:
                told.append(await self._receive())
            except ResponseError as error:
                if is_demoted(error):
                    raise
                told.append(b"")
        await self._receive()
        while not all(each.done() for each in confirmed):
            self._take(await self._receive())
        return run_id_of(told[0])

    async def _connect(self) -> None:
        """Connect, by the newer protocol if the server knows it.

        In the older one nothing but pings may be sent once it is subscribed.
        """
        connection = self.connection
        given, connection.protocol = connection.protocol, 3
        try:
            await open_connection(connection)
        except ResponseError:
            if int(given) == 3:
                raise
            connection.protocol = given
            await open_connection(connection)

    async def read(self) -> None:
        """Take in what comes, until the connection breaks.

        Raises:
            RedisError: It broke, or the server refused something.
        """
        while True:
            for _ in range(_AT_ONCE):
                try:
                    self._take(await self._receive())
                except ResponseError as error:
                    if is_demoted(error) or not self._writes:
                        raise
                    # What else is refused says nothing about whose messages are heard here.
                    self._writes -= 1
            await asyncio.sleep(0)

    async def send(self, *commands: Command) -> None:
        """Send commands.

        Raises:
            RedisError: The connection is closed.
        """
        # Else redis-py would connect anew, and nobody would notice what was missed.
        if not self.connection.is_connected:
            raise RedisConnectionError("The connection of the bus was closed")
        await self.connection.send_packed_command(
            [cast("bytes", pack(each)) for each in commands], check_health=False
        )

    def expect_pong(self, sent_at: float) -> Command:
        """Return a ping, whose answer will be told of with the time given."""
        self.unanswered.append(sent_at)
        return ("PING",)

    def expect_obedience(self, name: str) -> Command:
        """Return a write that changes nothing; the connection ends if a replica refuses it."""
        self._writes += 1
        return _write(name)

    async def subscribe(self, channels: Iterable[str]) -> None:
        """Subscribe to more channels."""
        new = [channel for channel in channels if channel.encode() not in self._confirmed]
        if new:
            self._expect(new)
            await self.send(("SUBSCRIBE", *new))

    def confirmed(self, channel: str) -> "asyncio.Future[None] | None":
        """Return what is done once a channel is listened to; `None` if it will not be."""
        return self._confirmed.get(channel.encode())

    def forget(self, channels: Iterable[str]) -> Command:
        """Return what unsubscribes from channels."""
        for channel in channels:
            self._confirmed.pop(channel.encode(), None)
        return ("UNSUBSCRIBE", *channels)

    async def close(self) -> None:
        """Hang up."""
        for each in self._confirmed.values():
            each.cancel()
        if self._transport is not None:
            # Over TLS a server that hangs would be waited for.
            self._transport.abort()
        await self.connection.disconnect(nowait=True)

    def _expect(self, channels: Iterable[str]) -> "list[asyncio.Future[None]]":
        create = asyncio.get_running_loop().create_future
        futures = {channel.encode(): create() for channel in channels}
        self._confirmed.update(futures)
        return list(futures.values())

    async def _receive(self) -> Any:
        return await self.connection.read_response(push_request=True)

    def _take(self, reply: list[Any] | bytes | str | int | None) -> None:
        """Act on a reply or a message."""
        if isinstance(reply, list) and reply:
            kind, *rest = reply
            if kind == b"message" and len(rest) == 2:
                self._heard(*rest)
            elif kind == b"subscribe":
                confirmed = self._confirmed.get(rest[0])
                if confirmed is not None and not confirmed.done():
                    confirmed.set_result(None)
            elif kind == b"pong":
                self._pong()
        elif reply in {b"PONG", "PONG"}:
            self._pong()
        elif isinstance(reply, int):
            self._writes -= 1
        elif reply is None:
            raise RedisConnectionError("The connection of the bus was closed")

    def _pong(self) -> None:
        if self.unanswered:
            self._answered(self.unanswered.popleft())


def _write(name: str) -> Command:
    """Return a write that changes nothing: what it is about has no time to live."""
    return ("PERSIST", name)
