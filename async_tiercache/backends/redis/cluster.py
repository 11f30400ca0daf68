"""A Cluster: each command goes to the node that serves the slot of its key.

Has the face of `turns.Turns`, and one `Turns` per master. A node that fails is left alone for a
while, by a breaker of its own: only what it serves fails meanwhile, and at once. The map of slots
is asked for again whenever it turns out to be wrong or a node fails, by one task and not too often.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MovedError
from redis.exceptions import ConnectionError as RedisConnectionError

from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock
from async_tiercache.backends.redis.deadlines import watch
from async_tiercache.backends.redis.directory import SLOTS, Address, Directory
from async_tiercache.backends.redis.failures import NodeDownError, is_down
from async_tiercache.backends.redis.runs import Runs
from async_tiercache.backends.redis.turns import Turns
from async_tiercache.backends.redis.wire import Asking, Command
from async_tiercache.backends.redis.wires import Wires, seconds_of
from async_tiercache.policies.breaker import Breaker

MAX_REDIRECTS: Final = 5
REFRESH_SECONDS: Final = 0.25
"""The map is asked for that long after the last time, or up to three times that, by chance."""

_MAX_NAMES: Final = 4096

_log = logging.getLogger("async_tiercache")


class _Node:
    """A master: its turns, and whether it is asked."""

    __slots__ = ("address", "breaker", "turns")

    turns: Turns

    def __init__(self, address: Address) -> None:
        self.address = address
        self.breaker = Breaker()

    def __repr__(self) -> str:
        return "{}:{}".format(*self.address)


class Cluster:
    """Gathers commands for the nodes of a Cluster and follows the slots.

    Args:
        directory: Knows who serves which slot.
        clock: The clock of this process.
        limit: How long one turn may take, in seconds.
        told_time: Is told the time of one node, in seconds since the epoch: that of slot 0, so that
            all processes go by the same clock.
        runs: Is told the run id of each node, and which nodes serve no more.
    """

    def __init__(
        self,
        directory: Directory,
        *,
        clock: Clock,
        limit: float,
        told_time: Callable[[float, float], None],
        runs: Runs,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._limit = limit
        self._told_time = told_time
        self._runs = runs
        self._nodes: dict[Address, _Node] = {}
        self._owners: list[_Node | None] = [None] * SLOTS
        self._mapped = False
        self._mapping: asyncio.Task[None] | None = None
        self._map_deadline = 0.0
        self._map_error: BaseException | None = None
        self._waiting: list[tuple[Command, asyncio.Future[Any]]] = []
        self._redirects: dict[asyncio.Future[Any], int] = {}
        self._tasks = Tasks()
        self._leaving = Tasks()

    def submit(self, *command: Any) -> asyncio.Future[Any]:
        """Queue a command for the next turn to its node and return the future of its reply."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._route(command, reply)
        return reply

    @property
    def whole(self) -> bool:
        """Each slot is a matter of its own, and may be on its way to another node."""
        return False

    async def servers(self) -> Sequence[Callable[..., asyncio.Future[Any]]]:
        """Return what queues a command for each master."""
        await self._map_known()
        return [partial(self._on, node) for node in self._nodes.values()]

    async def masters(self) -> "dict[Address, Callable[[], Any]]":
        """Return the masters that serve slots, by a map that one of them has just confirmed.

        Each comes with what makes a connection to it.

        Raises:
            RedisError: Nobody confirms it.
        """
        await self._map_known()
        serving = [node for node in self._nodes.values() if node.breaker.state == "closed"]
        nodes = serving or list(self._nodes.values())
        if not nodes:
            raise ClusterDownError("no node serves")
        node = nodes[int(self._clock.random() * len(nodes))]
        if not self._agrees(node, await self._on(node, "CLUSTER", "SLOTS")):
            await asyncio.wait([self._refresh()])
            if self._map_error is not None:
                raise self._map_error
        owners = {node.address for node in set(self._owners) if node is not None}
        return {address: partial(self._directory.connection, address) for address in owners}

    def owner(self, name: str) -> Address | None:
        """Return the master of a name, if it is known."""
        node = self._owners[key_slot(name.encode())]
        return None if node is None else node.address

    def connections(self) -> list[Any]:
        """Return the open connections."""
        return [wire for node in self._nodes.values() for wire in node.turns.connections()]

    async def prove(self, name: Callable[[int], str]) -> None:
        """Let each master be written; return when one was and all have answered or failed."""
        await self._map_known()
        names = self._names(name)
        proofs = [node.turns.submit("SET", key, b"", "PX", 1) for node, key in names.items()]
        results = await asyncio.gather(*proofs, return_exceptions=True)
        for node, result in zip(names, results, strict=True):
            if not isinstance(result, BaseException):
                self._succeeded(node)
        failures = [result for result in results if isinstance(result, BaseException)]
        if len(failures) == len(results):
            for failure in failures:
                if not is_down(failure):
                    raise failure
            raise ClusterDownError(f"no node serves: {failures[-1] if failures else 'no slots'}")

    async def aclose(self) -> None:
        """Wait for the turns on the wire, each of which ends, and hang up."""
        while True:
            # Turns that fail ask for the map, and what is redirected goes to another node, which
            # may not have been known.
            await self._tasks.cancel()
            await self._leaving.settle()
            self._resolve(RedisConnectionError("The connection was closed"))
            busy = [node.turns for node in self._nodes.values() if node.turns.busy]
            if not busy:
                break
            for turns in busy:
                await turns.settle()
        for node in list(self._nodes.values()):
            await node.turns.aclose()

    def _agrees(self, asked: _Node, told: Any) -> bool:
        """Return whether the map is what a node has told by CLUSTER SLOTS."""
        known = 0
        for first, last, (host, port, *_), *_ in told:
            name = host.decode() if isinstance(host, bytes) else host
            address = self._directory.outside(name or asked.address[0], int(port))
            if set(self._owners[first : last + 1]) != {self._nodes.get(address)}:
                return False
            known += last + 1 - first
        return known == SLOTS - self._owners.count(None)

    async def _map_known(self) -> None:
        if not self._mapped:
            await asyncio.wait([self._refresh()])
        if not self._mapped and self._map_error is not None:
            raise self._map_error

    def _on(self, node: _Node, *command: Any) -> asyncio.Future[Any]:
        """Queue a command for a node, whatever it serves."""
        reply: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._give(node, command, reply)
        return reply

    def _route(self, command: Command, reply: asyncio.Future[Any]) -> None:
        node = self._owners[_slot(command)]
        if node is not None:
            self._give(node, command, reply)
        elif self._mapped:
            self._refresh()
            reply.set_exception(self._named("The Cluster", ClusterDownError("no node of a slot")))
        else:
            self._waiting.append((command, reply))
            self._refresh()

    def _give(self, node: _Node, command: Command, reply: asyncio.Future[Any]) -> None:
        """Hand a command to a node, unless it has failed a moment ago."""
        if node.breaker.state != "closed":
            if not node.breaker.allow(self._clock.monotonic()):
                reply.set_exception(self._named(node, TimeoutError("not a moment ago either")))
                return
            reply.add_done_callback(partial(self._probed, node))
        node.turns.enqueue(command, reply)

    def _rejected(
        self, node: _Node, command: Command, reply: asyncio.Future[Any], error: Exception
    ) -> bool:
        """Follow a redirection, or leave a node alone; return whether the reply is seen to."""
        if isinstance(error, AskError):
            self._redirect(node, tuple(command), reply, error)
            return True
        if not is_down(error):
            return False
        if node.breaker.failure(self._clock.monotonic()):
            why = str(error) or "it did not answer in time"
            _log.warning("The Cluster's %r does not serve, reads go around it: %s", node, why)
        self._refresh()
        if not reply.done():
            reply.set_exception(self._named(node, error))
        return True

    def _redirect(
        self, node: _Node, command: Command, reply: asyncio.Future[Any], error: AskError
    ) -> None:
        host: str = cast("Any", error).host or node.address[0]
        address = self._directory.outside(host, error.port)
        target = self._node(address)
        moved = isinstance(error, MovedError)
        if moved:
            self._owners[error.slot_id] = target
            self._refresh()
        if reply.done():
            return
        redirects = self._redirects.get(reply, 0) + 1
        if redirects > MAX_REDIRECTS:
            reply.set_exception(self._named(node, RedisConnectionError("redirected in a circle")))
            return
        if redirects == 1:
            reply.add_done_callback(self._redirects.pop)
        self._redirects[reply] = redirects
        self._give(target, command if moved else Asking(command), reply)

    def _probed(self, node: _Node, reply: asyncio.Future[Any]) -> None:
        if not reply.cancelled():
            error = reply.exception()
            if error is None or not is_down(error):
                self._succeeded(node)

    def _succeeded(self, node: _Node) -> None:
        if node.breaker.success():
            _log.info("The Cluster's %r serves again", node)

    def _named(self, node: "_Node | str", error: Exception) -> Exception:
        """Return the error, and if other nodes serve, one that says that it is this one's."""
        if not any(other.breaker.state == "closed" for other in self._nodes.values()):
            return error
        down = NodeDownError(f"{node!s} does not serve: {str(error) or 'no answer in time'}")
        down.__cause__ = error
        return down

    def _names(self, name: Callable[[int], str]) -> dict[_Node, str]:
        """Return a name in a slot of each master; one that has hardly a slot may be left out."""
        names: dict[_Node, str] = {}
        wanted = len(set(self._owners) - {None})
        for number in range(_MAX_NAMES):
            if len(names) == wanted:
                break
            text = name(number)
            node = self._owners[key_slot(text.encode())]
            if node is not None:
                names.setdefault(node, text)
        return names

    def _node(self, address: Address) -> _Node:
        node = self._nodes.get(address)
        if node is None:
            node = _Node(address)
            if self._mapped:
                # It may have been a replica that lacks what its master had taken in last.
                self._runs.replaced()
            wires = Wires(
                partial(self._directory.connection, address),
                clock=self._clock,
                told_time=partial(self._told, address),
                told_run=partial(self._runs.saw, address),
                single=self._directory.max_connections == 1,
            )
            self._runs.hold(address, wires.leave)
            node.turns = Turns(
                wires,
                limit=self._limit,
                merging=False,
                rejected=partial(self._rejected, node),
            )
            self._nodes[address] = node
        return node

    def _told(self, address: Address, seconds: float, waited: float) -> None:
        keeper = self._owners[0]
        if keeper is None or keeper.address == address:
            self._told_time(seconds, waited)

    def _refresh(self) -> "asyncio.Task[None]":
        """Let the map be asked for, once for all who wish it."""
        if self._mapping is None or self._mapping.done():
            self._mapping = self._tasks.start(self._map(), name="tiercache-map")
        return self._mapping

    async def _map(self) -> None:
        if self._mapped:
            pause = self._map_deadline - self._clock.monotonic()
            if pause > 0:
                await self._clock.sleep(pause)
        asking = self._tasks.start(self._directory.masters(self._order()), name="tiercache-ask")
        watch(asking, self._limit)
        await asyncio.wait([asking])
        pause = REFRESH_SECONDS * (1 + 2 * self._clock.random())
        self._map_deadline = self._clock.monotonic() + pause
        error = TimeoutError() if asking.cancelled() else asking.exception()
        self._map_error = error
        if error is None:
            self._apply(asking.result())
        self._resolve(error)

    def _order(self) -> list[Address]:
        """Return who is asked for the map: those that serve, the first ones of all, the others."""
        nodes = sorted(self._nodes.values(), key=lambda _: self._clock.random())
        nodes.sort(key=lambda node: node.breaker.state != "closed")
        serving = [node.address for node in nodes if node.breaker.state == "closed"]
        seeds = sorted(self._directory.seeds, key=lambda _: self._clock.random())
        return list(dict.fromkeys([*serving, *seeds, *(node.address for node in nodes)]))

    def _apply(self, masters: list[Address | None]) -> None:
        """Go by a map; nodes that are no masters any more are let go."""
        keeper = self._owners[0]
        nodes = {address: self._node(address) for address in dict.fromkeys(masters) if address}
        gone = [node for address, node in self._nodes.items() if address not in nodes]
        self._nodes = nodes
        self._owners = [nodes[address] if address else None for address in masters]
        self._mapped = True
        for node in gone:
            self._runs.forget(node.address)
            self._leaving.start(node.turns.aclose(), name="tiercache-leave")
        if self._owners[0] is not None and self._owners[0] is not keeper:
            time = self._owners[0].turns.submit("TIME")
            asked = self._owners[0].address, self._clock.monotonic()
            time.add_done_callback(partial(self._answered, *asked))

    def _answered(self, address: Address, asked_at: float, time: asyncio.Future[Any]) -> None:
        if not time.cancelled() and time.exception() is None:
            waited = self._clock.monotonic() - asked_at
            self._told(address, seconds_of(time.result()), waited)

    def _resolve(self, error: BaseException | None) -> None:
        """Let those go on who wait for the map."""
        waiting, self._waiting = self._waiting, []
        for command, reply in waiting:
            if reply.done():
                continue
            if error is None:
                self._route(command, reply)
            else:
                reply.set_exception(error)


def _slot(command: Command) -> int:
    key: str = command[3] if command[0] in {"EVALSHA", "EVAL"} else command[1]
    return key_slot(key.encode())
