"""Many servers from one program: a master with replicas under Sentinels, and a Cluster."""

import contextlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import redis
from redis.crc import key_slot

from tests.servers.process import Server
from tests.servers.waiting import until

SLOTS: Final = 16384
SERVICE: Final = "shop"

_READY_LIMIT: Final = 20.0
_REPLICATION: Final = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
_CLUSTER: Final = (
    *_REPLICATION, "--cluster-enabled", "yes", "--cluster-node-timeout", "700",
    "--cluster-replica-validity-factor", "0", "--cluster-require-full-coverage", "no",
)  # fmt: skip


def ready(condition: Callable[[], bool], what: str) -> None:
    """Return once a condition of the servers holds.

    Raises:
        AssertionError: It does not in time.
    """
    until(lambda: _holds(condition), what, limit=_READY_LIMIT)


def _holds(condition: Callable[[], bool]) -> bool:
    # A server that is just coming up or going down answers nothing.
    with contextlib.suppress(redis.RedisError, OSError):
        return condition()
    return False


class SentinelGroup:
    """One master, two replicas and three Sentinels.

    Args:
        program: The server program, which is the Sentinel's too.
        folder: Where they write.
    """

    def __init__(self, program: Path, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.servers = [Server(program, folder) for _ in range(3)]
        self.sentinels: list[Server] = []
        for number in range(3):
            settings = folder / f"sentinel-{number}.conf"
            settings.touch()
            self.sentinels.append(Server(program, folder, str(settings), "--sentinel"))

    @property
    def url(self) -> str:
        """The URL of what the Sentinels watch."""
        hosts = ",".join(f"127.0.0.1:{sentinel.port}" for sentinel in self.sentinels)
        return f"redis+sentinel://{hosts}/{SERVICE}/0"

    @property
    def master(self) -> Server:
        """The server that most Sentinels name."""
        named = [each.command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE) for each in self._up]
        ports = [int(_text(address[1])) for address in named]
        port = max(set(ports), key=ports.count)
        return next(server for server in self.servers if server.port == port)

    @property
    def _up(self) -> list[Server]:
        return [each for each in self.sentinels if each.answers]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for server in [*self.sentinels, *self.servers]:
            server.kill()

    def command(self, *words: Any) -> Any:
        """Return the master's reply to a command."""
        return self.master.command(*words)

    def fail_over(self) -> None:
        """Let a replica take over in an orderly way; return once the Sentinels name it.

        The old master goes on as one for some ten seconds.
        """
        before = self.master
        ready(
            lambda: bool(self._up[0].command("SENTINEL", "FAILOVER", SERVICE)),
            "there is a replica that can take over",
        )
        self.taken_over(before)

    def taken_over(self, before: Server) -> None:
        """Return once another server is the master."""
        ready(
            lambda: self.master is not before and _role(self.master) == "master",
            "a replica has taken over",
        )

    def repair(self) -> None:
        """Let everything run again, and return when it does."""
        for server in [*self.sentinels, *self.servers]:
            if server.stopped:
                server.cont()
        for server in self.servers:
            if not server.answers:
                server.start(*_REPLICATION, "--replicaof", f"127.0.0.1 {self.master.port}")

    def _start(self) -> None:
        master, *replicas = self.servers
        master.start(*_REPLICATION)
        for replica in replicas:
            replica.start(*_REPLICATION, "--replicaof", f"127.0.0.1 {master.port}")
        for sentinel in self.sentinels:
            sentinel.start()
            sentinel.command("SENTINEL", "MONITOR", SERVICE, "127.0.0.1", master.port, 2)
            for name, value in (
                ("down-after-milliseconds", 500),
                ("failover-timeout", 2000),
                ("parallel-syncs", 2),
            ):
                sentinel.command("SENTINEL", "SET", SERVICE, name, value)
        ready(self._is_known, "the Sentinels know each other and the replicas")

    def _is_known(self) -> bool:
        for sentinel in self.sentinels:
            state = _fields(sentinel.command("SENTINEL", "MASTER", SERVICE))
            if state["num-other-sentinels"] != "2" or state["num-slaves"] != "2":
                return False
        return all(
            server.command("INFO", "replication")["master_link_status"] == "up"
            for server in self.servers[1:]
        )


class ClusterGroup:
    """A Cluster of three masters with a replica each.

    Args:
        program: The server program.
        folder: Where they write.
        replicas: Whether there are replicas.
    """

    def __init__(self, program: Path, folder: Path, *, replicas: bool = True) -> None:
        self.nodes: list[Server] = []
        for number in range(6 if replicas else 3):
            own = folder / f"node-{number}"
            own.mkdir(parents=True)
            self.nodes.append(Server(program, own))

    @property
    def url(self) -> str:
        """The URL of the Cluster, by two of its nodes."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:2])
        return f"redis+cluster://{hosts}"

    @property
    def masters(self) -> list[Server]:
        """The nodes that own slots."""
        ports = {owner for _, _, owner in self._ranges()}
        return [node for node in self.nodes if node.port in ports]

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        for node in self.nodes:
            node.kill()

    def owner(self, name: str) -> Server:
        """Return the master of a name, as the nodes that answer agree."""
        slot = key_slot(name.encode())
        for first, last, port in self._ranges():
            if first <= slot <= last:
                return next(node for node in self.nodes if node.port == port)
        raise AssertionError(f"nobody owns slot {slot}")

    def command(self, *words: Any) -> Any:
        """Return the reply of the node that owns the second word."""
        return self.owner(_text(words[1])).command(*words)

    def everywhere(self, *words: Any) -> list[Any]:
        """Return the replies of all masters."""
        return [master.command(*words) for master in self.masters]

    def migrate(self, slot: int, target: Server) -> None:
        """Move a slot with its keys, one after the other, to another master."""
        source = self._open(slot, target)
        while keys := source.command("CLUSTER", "GETKEYSINSLOT", slot, 10):
            for key in keys:
                source.command("MIGRATE", "127.0.0.1", target.port, key, 0, 1000)
        for node in (target, source):
            node.command("CLUSTER", "SETSLOT", slot, "NODE", _id(target))

    @contextmanager
    def half_moved(self, slot: int, target: Server) -> Generator[None]:
        """Let a slot be on its way to another master for as long as the context lasts."""
        source = self._open(slot, target)
        yield
        for node in (target, source):
            node.command("CLUSTER", "SETSLOT", slot, "STABLE")

    def _open(self, slot: int, target: Server) -> Server:
        source = self._by_slot(slot)
        target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", _id(source))
        source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", _id(target))
        return source

    def taken_over(self, before: Server) -> None:
        """Return once another node owns what a master owned, and the Cluster is whole."""
        others = [node for node in self.nodes if node.answers and node is not before]
        ready(
            lambda: all(
                b"cluster_state:ok" in node.command("CLUSTER", "INFO")
                and before.port not in {port for _, _, port in self._ranges(node)}
                for node in others
            ),
            "a replica has taken over",
        )

    def repair(self) -> None:
        """Let every node run again, and return when the Cluster is whole."""
        for node in self.nodes:
            if node.stopped:
                node.cont()
            if not node.answers:
                node.start(*_CLUSTER)
        self.healed()

    def replica_of(self, master: Server) -> Server:
        """Return the replica of a master."""
        name = _id(master)
        told = master.command("CLUSTER", "NODES").decode()
        line = next(line for line in told.splitlines() if f"slave {name} " in line)
        port = int(line.split()[1].partition("@")[0].rpartition(":")[2])
        return next(node for node in self.nodes if node.port == port)

    def healed(self) -> None:
        """Return once every node is reached by all others and all replicas follow."""
        ready(lambda: all(self._is_sound(node) for node in self.nodes), "the Cluster is whole")

    def _by_slot(self, slot: int) -> Server:
        port = next(port for first, last, port in self._ranges() if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def _ranges(self, node: Server | None = None) -> list[tuple[int, int, int]]:
        """Return first slot, last slot and the master's port, as a node knows them."""
        told = node or next(node for node in self.nodes if node.answers)
        return [
            (first, last, master[1]) for first, last, master, *_ in told.command("CLUSTER", "SLOTS")
        ]

    def _start(self) -> None:
        for node in self.nodes:
            node.start(*_CLUSTER)
        masters, replicas = self.nodes[:3], self.nodes[3:]
        bounds = [SLOTS * number // 3 for number in range(4)]
        for number, master in enumerate(masters):
            master.command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            master.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.nodes[1:]:
            node.command("CLUSTER", "MEET", "127.0.0.1", self.nodes[0].port)
        ready(lambda: all(self._knows_all(node) for node in self.nodes), "the nodes have met")
        for master, replica in zip(masters, replicas, strict=False):
            replica.command("CLUSTER", "REPLICATE", _id(master))
        self.healed()

    def _knows_all(self, node: Server) -> bool:
        return len(node.command("CLUSTER", "NODES").splitlines()) == len(self.nodes)

    def _is_sound(self, node: Server) -> bool:
        info = node.command("INFO", "replication")
        linked = info["role"] == "master" or info["master_link_status"] == "up"
        sound = b"cluster_state:ok" in node.command("CLUSTER", "INFO")
        known = node.command("CLUSTER", "NODES")
        whole = known.count(b"slave") == len(self.nodes) - 3
        return (
            linked
            and sound
            and whole
            and not any(word in known for word in (b"fail", b"handshake", b"disconnected"))
        )


def _fields(reply: Any) -> dict[str, str]:
    """Return the fields of a reply that is flat in RESP2 and a map in RESP3."""
    pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
    return {_text(name): _text(value) for name, value in pairs}


def _role(server: Server) -> str:
    return str(server.command("INFO", "replication")["role"])


def _id(node: Server) -> str:
    return _text(node.command("CLUSTER", "MYID"))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
