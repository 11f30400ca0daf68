"""A line: listens to the bus on one server, connects again whenever it breaks, and never ends.

What is heard rests on evidence. An answer to a ping proves that all messages sent before it were
applied. Whoever connects again has missed nothing if the server is the same and the last message
is the one that was applied last; else messages may have been missed, and that is said.
"""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any, Final, Protocol

from redis.exceptions import RedisError

from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock, Invalidation
from async_tiercache.backends.redis import messages
from async_tiercache.backends.redis.names import Names
from async_tiercache.backends.redis.session import Session
from async_tiercache.errors import DecodeError, TierError

WAIT_SECONDS: Final = 2.0
"""For how long it is remembered that somebody waits for a key."""
PINGS: Final = 4
"""Pings that are sent in the time for which a proof is good; so many without answer are silence."""

_SHORTEST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 1.0
_CONFIRM_LIMIT: Final = 0.25

_log = logging.getLogger("async_tiercache")


class Ear(Protocol):
    """Who is told what one line hears; as `abc.Listener`, but for the ids of messages."""

    def apply(self, record: Invalidation, message_id: bytes, /) -> None:
        """Take in an invalidation."""
        ...

    def prove(self, deadline: float, /) -> None:
        """Trust until `deadline`."""
        ...

    def gap(self, /) -> None:
        """Messages may have been missed."""
        ...

    def replaced(self, /) -> None:
        """The server is another one."""
        ...

    def wake(self, key: str, /) -> None:
        """A load of the key has ended."""
        ...


class DeposedError(RedisError):
    """Another server is the master now."""


@dataclass(slots=True)
class _Wait:
    """Somebody here waits for the end of a load elsewhere.

    Attributes:
        key: The key that is loaded.
        deadline: Until when, monotonic.
    """

    key: str
    deadline: float


class Line:
    """Listens to one server.

    Args:
        make: Returns a connection of redis-py that is not open yet.
        names: The channel's name and others.
        ear: Who is told.
        clock: The clock of this process.
        bound: For how long a proof is good, in seconds.
        told_run: Is told the server's run id on each new connection, before anything else is.
        last: Returns the id of the last message, after putting the one given where there is none.
            `None` where nobody keeps it, as nobody can who does not know which server does.
        vouch: Returns whether an open connection is to the present master.
        where: What to call the server in the log.

    Attributes:
        attempts: How often it has tried to connect.
    """

    def __init__(
        self,
        make: Callable[[], Any],
        names: Names,
        ear: Ear,
        *,
        clock: Clock,
        bound: float,
        told_run: Callable[[bytes], None],
        last: Callable[[bytes], Awaitable[bytes | None]] | None = None,
        vouch: Callable[[Any], Awaitable[bool]] | None = None,
        where: str = "Redis",
    ) -> None:
        self._make = make
        self._names = names
        self._bus = names.bus.encode()
        self._ear = ear
        self._clock = clock
        self._bound = bound
        self._told_run = told_run
        self._last = last
        self._written = None if last is None else names.last
        self._vouch = vouch
        self._where = where
        self.attempts = 0
        self._session: Session | None = None
        self._deposed: asyncio.Future[None] | None = None
        self._run_id: bytes | None = None
        self._applied: bytes | None = None
        self._newest: bytes | None = None
        self._resumed = False
        self._answered_at = self._vouched_at = self._proved_at = float("-inf")
        self._waits: dict[str, _Wait] = {}
        self._wanted: dict[str, None] = {}
        self._wanting: asyncio.Task[None] | None = None
        self._tasks = Tasks()
        self._failures = 0
        self._cut = False

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                await self._try()
                pause = min(_LONGEST_PAUSE, _SHORTEST_PAUSE * 2 ** min(self._failures, 10))
                self._failures += 1
                await self._clock.sleep(pause * (1 + self._clock.random()) / 2)
        finally:
            await self._tasks.cancel()

    async def _try(self) -> None:
        """Listen until the connection breaks, for whatever reason."""
        try:
            await self._listen()
        except (RedisError, OSError, TimeoutError) as error:
            self._broke(error)
        except Exception:  # noqa: BLE001 - it must go on
            _log.exception("Listening to the bus of %s failed", self._where)
            # What was heard may not have been taken in.
            self._applied = None
            with contextlib.suppress(Exception):
                self._ear.gap()

    def leave(self) -> None:
        """Hang up: commands go to another server."""
        if self._deposed is not None and not self._deposed.done():
            self._deposed.set_exception(DeposedError("another server answers commands"))

    async def follow(self, key: str) -> bool:
        """Let the end of a load be told; return whether that is so by now."""
        session, channel = self._session, self._names.waiters(key)
        if session is None:
            return False
        self._waits[channel] = _Wait(key, self._clock.monotonic() + WAIT_SECONDS)
        if session.confirmed(channel) is None:
            self._wanted[channel] = None
            if self._wanting is None or self._wanting.done():
                subscribing = self._subscribe(session)
                self._wanting = self._tasks.start(subscribing, name="tiercache-bus-follow")
            await asyncio.wait([self._wanting], timeout=_CONFIRM_LIMIT)
        confirmed = session.confirmed(channel)
        if confirmed is None or confirmed.cancelled():
            return False
        # As for a turn, real time counts: it is the server that is waited for.
        await asyncio.wait([confirmed], timeout=_CONFIRM_LIMIT)
        return session is self._session and confirmed.done() and not confirmed.cancelled()

    async def _subscribe(self, session: Session) -> None:
        """Subscribe to all that is wanted, together."""
        while self._wanted:
            wanted, self._wanted = self._wanted, {}
            try:
                await session.subscribe(wanted)
            except (RedisError, OSError):
                session.forget(wanted)

    async def _listen(self) -> None:
        """Listen until the connection breaks.

        Raises:
            Exception: Why it broke.
        """
        self.attempts += 1
        session = Session(self._make(), self._heard, self._answered)
        tasks, work = Tasks(), list[asyncio.Future[None]]()
        self._newest, self._resumed = None, False
        self._answered_at = self._vouched_at = float("-inf")
        try:
            async with self._clock.timeout(self._bound):
                run_id = await session.open([self._names.bus, *self._waits], self._written)
            self._told_run(run_id)
            self._deposed = asyncio.get_running_loop().create_future()
            work += [
                self._deposed,
                tasks.start(session.read(), name="tiercache-bus-read"),
                tasks.start(self._keep(session, run_id), name="tiercache-bus-ping"),
            ]
            if self._vouch is not None:
                vouching = self._be_vouched_for(session, self._vouch)
                work.append(tasks.start(vouching, name="tiercache-bus-vouch"))
            done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            self._session = self._deposed = None
            for task in work:
                task.cancel()
            await tasks.cancel()
            for task in work:
                # Two may fail at once, and nobody else asks what the second one has to say.
                _ = task.cancelled() or task.exception()
            await session.close()

    async def _keep(self, session: Session, run_id: bytes) -> None:
        """Say what was missed, and then ping; raise when there is silence."""
        await self._resume(run_id)
        self._session = session
        while True:
            if len(session.unanswered) >= PINGS:
                raise TimeoutError("pings were not answered")
            now = self._clock.monotonic()
            commands = [session.expect_pong(now)]
            if self._written is not None:
                commands.insert(0, session.expect_obedience(self._written))
            over = [channel for channel, wait in self._waits.items() if wait.deadline <= now]
            if over:
                for channel in over:
                    del self._waits[channel]
                commands.append(session.forget(over))
            await session.send(*commands)
            await self._clock.sleep(self._bound / PINGS)

    async def _resume(self, run_id: bytes) -> None:
        """Find out whether messages were missed since the one applied last, and say so."""
        known, self._run_id = self._run_id, run_id
        if not run_id or run_id != known:
            # What another server keeps, or one that has restarted, says nothing about this one.
            self._applied = None
        if not run_id and known is not None:
            # Nobody says whether it is the same.
            self._ear.replaced()
        held = mine = None
        if self._last is not None:
            mine = token_bytes(messages.MESSAGE_ID_BYTES)
            try:
                held = await self._last(mine)
            except TierError:
                mine = None
        if held is None or held != self._applied:
            self._ear.gap()
        # A message that came meanwhile is later than what was held.
        self._applied = self._newest or held or mine
        self._resumed = True
        for wait in self._waits.values():
            self._ear.wake(wait.key)

    async def _be_vouched_for(
        self, session: Session, vouch: Callable[[Any], Awaitable[bool]]
    ) -> None:
        """Ask again and again whether the server is the master; raise when it is not."""
        while True:
            asked_at = self._clock.monotonic()
            try:
                async with self._clock.timeout(self._bound):
                    named = await vouch(session.connection)
            except (RedisError, OSError, TimeoutError) as error:
                # Who cannot be asked says nothing: there is no proof, but no reason to hang up.
                _log.debug("Nobody says whether %s is the master: %s", self._where, error)
            else:
                if not named:
                    raise DeposedError("another server is the master")
                self._vouched_at = asked_at
                self._prove()
            await self._clock.sleep(self._bound / PINGS)

    def _answered(self, sent_at: float) -> None:
        """Take in an answer to a ping."""
        self._answered_at = sent_at
        self._prove()

    def _prove(self) -> None:
        proved_at = self._answered_at
        if self._vouch is not None:
            proved_at = min(proved_at, self._vouched_at)
        if proved_at > self._proved_at:
            self._proved_at = proved_at
            self._failures = 0
            self._ear.prove(proved_at + self._bound)
            if self._cut:
                self._cut = False
                _log.info("The bus of %s is heard again", self._where)

    def _heard(self, channel: bytes, message: bytes) -> None:
        """Take in a message."""
        if channel != self._bus:
            wait = self._waits.get(channel.decode())
            if wait is not None:
                wait.deadline = self._clock.monotonic()
                self._ear.wake(wait.key)
            return
        message_id = messages.message_id(message)
        if message_id is not None and self._resumed:
            self._applied = message_id
        else:
            self._newest = message_id or self._newest
        try:
            record = messages.decode(message)
        except DecodeError as error:
            _log.warning("A message on the bus of %s was not understood: %s", self._where, error)
            self._ear.gap()
        else:
            assert message_id is not None
            self._ear.apply(record, message_id)

    def _broke(self, error: BaseException) -> None:
        if not self._cut:
            self._cut = True
            text = str(error) or "it does not answer in time"
            _log.warning("The bus of %s is not heard: %s", self._where, text)
