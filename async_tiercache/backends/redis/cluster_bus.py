"""The bus of a Cluster: a line to each master, and the map of slots that says which those are.

A message is published where its key is, and every node passes it on, in its own time. So all
masters are listened to: what one of them proves is about the slots that it serves, and what holds
for all slots is what all have proved. Each message comes once from each, and is told once.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from redis.exceptions import RedisError

from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock, Invalidation, Listener
from async_tiercache.backends.redis.cluster import Cluster
from async_tiercache.backends.redis.directory import Address
from async_tiercache.backends.redis.line import Line
from async_tiercache.backends.redis.names import Names
from async_tiercache.backends.redis.runs import Runs

REMEMBERED: Final = 8192
"""Ids of messages that were told of, by which they are not told again."""

_log = logging.getLogger("async_tiercache")


class _Member:
    """A master, and what its line has proved; hears that line.

    Attributes:
        deadline: Until when to trust what it has told.
        line: The line to it.
        task: What runs the line.
    """

    line: Line
    task: "asyncio.Task[None]"

    __slots__ = ("_bus", "deadline", "gap", "line", "replaced", "task", "wake")

    def __init__(self, bus: "ClusterBus", listener: Listener) -> None:
        self.deadline = float("-inf")
        self._bus = bus
        self.gap = listener.gap
        self.replaced = listener.replaced
        self.wake = listener.wake

    def apply(self, record: Invalidation, message_id: bytes, /) -> None:
        """Hand a record on that did not come from another master."""
        self._bus.apply(record, message_id)

    def prove(self, deadline: float, /) -> None:
        """Take in a proof about its slots."""
        self.deadline = deadline
        self._bus.prove()


class ClusterBus:
    """Listens to all masters of a Cluster.

    Args:
        cluster: Knows the masters.
        listener: Who is told.
        names: The namespace's.
        clock: The clock of this process.
        bound: For how long a proof is good, in seconds.
        runs: Is told the run id of each master.
    """

    def __init__(
        self,
        cluster: Cluster,
        listener: Listener,
        names: Names,
        *,
        clock: Clock,
        bound: float,
        runs: Runs,
    ) -> None:
        self._cluster = cluster
        self._listener = listener
        self._names = names
        self._clock = clock
        self._bound = bound
        self._runs = runs
        self._members: dict[Address, _Member] = {}
        self._mapped_at = self._proved = float("-inf")
        self._told: deque[bytes] = deque()
        self._known: set[bytes] = set()
        self._tasks = Tasks()

    async def run(self) -> None:
        """Listen until cancelled."""
        try:
            while True:
                asked_at = self._clock.monotonic()
                try:
                    masters = await self._cluster.masters()
                    await self._join(masters)
                    self._mapped_at = asked_at
                    self.prove()
                except (RedisError, OSError, TimeoutError) as error:
                    _log.debug("No node of the Cluster says which are its masters: %s", error)
                except Exception:  # noqa: BLE001 - it must go on
                    _log.exception("Following the masters of the Cluster failed")
                    self._listener.gap()
                await self._clock.sleep(self._bound / 2)
        finally:
            await self._tasks.cancel()

    async def follow(self, key: str) -> bool:
        """Let the end of a load be told; return whether that is so by now."""
        owner = self._cluster.owner(self._names.key(key))
        member = None if owner is None else self._members.get(owner)
        # Any master passes on what is published, but the owner does so first.
        return member is not None and await member.line.follow(key)

    def apply(self, record: Invalidation, message_id: bytes) -> None:
        """Tell of a message, once."""
        if message_id in self._known:
            return
        self._known.add(message_id)
        self._told.append(message_id)
        if len(self._told) > REMEMBERED:
            self._known.discard(self._told.popleft())
        self._listener.apply(record)

    def prove(self) -> None:
        """Tell what all masters have proved, if that is more than before."""
        if not self._members:
            return
        proved = min(member.deadline for member in self._members.values())
        proved = min(proved, self._mapped_at + self._bound)
        if proved > self._proved:
            self._proved = proved
            self._listener.prove(proved)

    async def _join(self, masters: dict[Address, Callable[[], Any]]) -> None:
        """Listen to the masters there are by now, and no more to others."""
        gone = [address for address in self._members if address not in masters]
        leaving = [self._members.pop(address) for address in gone]
        for member in leaving:
            member.task.cancel()
        for address, make in masters.items():
            known = self._members.get(address)
            if known is None or known.task.done():
                self._members[address] = self._member(address, make)
        if leaving:
            await asyncio.wait([member.task for member in leaving])

    def _member(self, address: Address, make: Callable[[], Any]) -> _Member:
        member = _Member(self, self._listener)
        host, port = address
        member.line = Line(
            make,
            self._names,
            member,
            clock=self._clock,
            bound=self._bound,
            told_run=partial(self._runs.saw, address),
            where=f"{host}:{port}",
        )
        member.task = self._tasks.start(member.line.run(), name="tiercache-bus-line")
        return member
