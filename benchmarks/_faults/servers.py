"""Redis servers of a cell: one, one behind a proxy, a replica set under Sentinels, a Cluster."""

import asyncio
import contextlib
import shutil
import signal
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from benchmarks._child import Child

_redis: Final[Any] = Redis
_SERVICE: Final = "shop"
_SLOTS: Final = 16_384
_START_LIMIT: Final = 20.0
_OPTIONS: Final = ("--bind", "127.0.0.1", "--save", "", "--appendonly", "no")
_REPLICATION: Final = ("--repl-diskless-sync-delay", "0", "--repl-ping-replica-period", "1")
_CLUSTER: Final = ("--cluster-enabled", "yes", "--cluster-node-timeout", "2000")


class Server:
    """One server process, to be ill-treated.

    Args:
        sandbox: Ends it whatever happens to us.
        program: The server program.
        folder: Where it writes; a ``dump.rdb`` there is what it starts with.
        options: What it is started with beside the port.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        program: Path,
        folder: Path,
        *options: str,
        config: Path | None = None,
    ) -> None:
        self.port = 0
        self._sandbox = sandbox
        self._program = program
        self._config = (str(config), "--sentinel") if config else ()
        self._options = options
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, *more: str) -> None:
        """Start it, on the port it had, and return once it answers."""
        self._folder.mkdir(parents=True, exist_ok=True)
        own = () if self._config else _OPTIONS
        for _ in range(5):
            port = self.port or _free_port()
            words = (*self._config, "--port", str(port), *own, *self._options, *more)
            self._process = await self._sandbox.spawn(
                str(self._program), *words, cwd=self._folder, stdout=asyncio.subprocess.DEVNULL
            )
            if await self._answers(self._process, port):
                self.port = port
                return
            await self.kill()
        raise RuntimeError(f"{self._program} does not start")

    async def kill(self) -> None:
        """End it at once, by SIGKILL."""
        if self._process is not None:
            await self._sandbox.stop(self._process)
            self._process = None

    def stop(self) -> None:
        """Let it hang, by SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on, by SIGCONT."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    async def command(self, *words: Any) -> Any:
        """Return the reply to a command."""
        async with _redis(port=self.port, socket_timeout=5) as client:
            return await client.execute_command(*words)

    async def configure(self, **options: Any) -> None:
        """Set configuration parameters, spelled with ``_`` for ``-``."""
        for name, value in options.items():
            await self.command("CONFIG", "SET", name.replace("_", "-"), value)

    async def information(self, section: str) -> dict[str, Any]:
        """Return a section of INFO."""
        told: dict[str, Any] = await self.command("INFO", section)
        return told

    async def save_snapshot(self) -> Path:
        """Write what it holds to a file, and return a copy that later saves leave alone."""
        await self.command("SAVE")
        return Path(shutil.copy(self._folder / "dump.rdb", self._folder / "old.rdb"))

    def put_snapshot(self, snapshot: Path) -> None:
        """Let it begin with a snapshot when it is started."""
        shutil.copy(snapshot, self._folder / "dump.rdb")

    def forget_snapshot(self) -> None:
        """Let it begin empty when it is started."""
        (self._folder / "dump.rdb").unlink(missing_ok=True)

    async def _answers(self, process: asyncio.subprocess.Process, port: int) -> bool:
        deadline = time.monotonic() + _START_LIMIT
        while process.returncode is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(b"PING\r\n")
                answer = await reader.readline()
                writer.close()
                if answer == b"+PONG\r\n":
                    return process.returncode is None
            await asyncio.sleep(0.01)
        return False


class Topology(ABC):
    """The servers of one cell.

    Attributes:
        servers: Those that hold data, in any order.
    """

    servers: list[Server]

    @property
    @abstractmethod
    def url(self) -> str:
        """What the workers connect to."""

    @abstractmethod
    async def start(self) -> None:
        """Start all, empty."""

    async def commands(self) -> int:
        """Return how many commands the servers have carried out."""
        told = [await server.information("stats") for server in self.servers]
        return sum(int(one["total_commands_processed"]) for one in told)

    async def end(self) -> None:
        """End all."""
        for server in self.servers:
            await server.kill()


class Single(Topology):
    """One server."""

    def __init__(self, sandbox: Sandbox, program: Path, folder: Path) -> None:
        self.server = Server(sandbox, program, folder)
        self.servers = [self.server]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.server.port}/0"

    async def start(self) -> None:
        await self.server.start()


class Proxied(Single):
    """One server behind a proxy."""

    def __init__(self, sandbox: Sandbox, program: Path, folder: Path) -> None:
        super().__init__(sandbox, program, folder)
        self._sandbox = sandbox
        self._port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._port}/0"

    async def start(self) -> None:
        await super().start()
        port = str(self.server.port)
        self.proxy = Child(self._sandbox, "benchmarks._faults.proxy", port, "proxy")
        await self.proxy.start()
        self._port = await self.proxy.order("listen")

    async def end(self) -> None:
        await self.proxy.kill()
        await super().end()


class Named(Proxied):
    """A master behind a name, which is the proxy, and the replica that will take its place."""

    def __init__(self, sandbox: Sandbox, program: Path, folder: Path) -> None:
        super().__init__(sandbox, program, folder)
        self._successor = Server(sandbox, program, folder / "successor", *_REPLICATION)
        self.servers.append(self._successor)

    async def start(self) -> None:
        await super().start()
        await self._successor.start("--replicaof", f"127.0.0.1 {self.server.port}")
        await ready(self._is_linked, "the replica has a copy")

    async def hand_over(self) -> None:
        """Let the replica be the master; the old one serves on, as a replica without a link."""
        await self._successor.command("REPLICAOF", "NO", "ONE")
        await self.proxy.order("lead_to", port=self._successor.port)
        await self.server.command("REPLICAOF", "127.0.0.1", 1)

    async def _is_linked(self) -> bool:
        told = await self._successor.information("replication")
        return bool(told["master_link_status"] == "up")


class Sentinels(Topology):
    """A master, two replicas, and three Sentinels that watch them."""

    def __init__(self, sandbox: Sandbox, program: Path, folder: Path) -> None:
        self.servers = [
            Server(sandbox, program, folder / f"server-{number}", *_REPLICATION)
            for number in range(3)
        ]
        self._sentinels: list[Server] = []
        for number in range(3):
            own = folder / f"sentinel-{number}"
            own.mkdir(parents=True)
            config = own / "sentinel.conf"
            config.touch()
            self._sentinels.append(Server(sandbox, program, own, config=config))

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self._sentinels)
        return f"redis+sentinel://{hosts}/{_SERVICE}/0"

    async def start(self) -> None:
        master, *replicas = self.servers
        await master.start()
        for replica in replicas:
            await replica.start("--replicaof", f"127.0.0.1 {master.port}")
        for sentinel in self._sentinels:
            await sentinel.start()
            await sentinel.command("SENTINEL", "MONITOR", _SERVICE, "127.0.0.1", master.port, 2)
            for name, value in (("down-after-milliseconds", 500), ("failover-timeout", 2000)):
                await sentinel.command("SENTINEL", "SET", _SERVICE, name, value)
        await ready(self._is_known, "the Sentinels know each other and the replicas")

    async def end(self) -> None:
        for sentinel in self._sentinels:
            await sentinel.kill()
        await super().end()

    async def named(self) -> Server:
        """Return the server that the first Sentinel names as the master."""
        words = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", _SERVICE)
        _, port = await self._sentinels[0].command(*words)
        return next(server for server in self.servers if server.port == int(port))

    async def fail_over(self) -> None:
        """Let a replica be made the master; for seconds the old one does not hear of it."""
        await self._sentinels[0].command("SENTINEL", "FAILOVER", _SERVICE)

    async def taken_over(self, before: Server) -> None:
        """Return once another server than before is named and is a master."""

        async def is_other() -> bool:
            master = await self.named()
            role = (await master.information("replication"))["role"] if master != before else ""
            return bool(role == "master")

        await ready(is_other, "a replica has taken over")

    async def lag_behind(self, master: Server) -> int:
        """Return how many bytes of what the master wrote its best replica does not have."""
        told = [await one.information("replication") for one in self.servers if one is not master]
        has = max(int(one["slave_repl_offset"]) for one in told)
        return int((await master.information("replication"))["master_repl_offset"]) - has

    async def commands(self) -> int:
        return 0

    async def _is_known(self) -> bool:
        for sentinel in self._sentinels:
            state = await sentinel.command("SENTINEL", "MASTER", _SERVICE)
            if (_field(state, "num-other-sentinels"), _field(state, "num-slaves")) != ("2", "2"):
                return False
        links = [(await one.information("replication")) for one in self.servers[1:]]
        return all(link["master_link_status"] == "up" for link in links)


class Cluster(Topology):
    """A Cluster of three masters."""

    def __init__(self, sandbox: Sandbox, program: Path, folder: Path) -> None:
        self.servers = [
            Server(sandbox, program, folder / f"node-{number}", *_CLUSTER) for number in range(3)
        ]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.servers)
        return f"redis+cluster://{hosts}"

    async def start(self) -> None:
        bounds = [_SLOTS * number // 3 for number in range(4)]
        for number, node in enumerate(self.servers):
            await node.start()
            await node.command("CLUSTER", "ADDSLOTSRANGE", bounds[number], bounds[number + 1] - 1)
            await node.command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node in self.servers[1:]:
            await node.command("CLUSTER", "MEET", "127.0.0.1", self.servers[0].port)
        await ready(self._is_whole, "the nodes have met")

    async def owned(self) -> dict[int, Server]:
        """Return the slots that hold keys, with their masters."""
        return {
            key_slot(name): node
            for node in self.servers
            for name in await node.command("KEYS", "*")
        }

    async def migrate(self, slot: int, source: Server, target: Server) -> int:
        """Move a slot, key by key, to another master; return how many keys it held."""
        ids = {node: _text(await node.command("CLUSTER", "MYID")) for node in (source, target)}
        await target.command("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[source])
        await source.command("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[target])
        moved = 0
        while keys := await source.command("CLUSTER", "GETKEYSINSLOT", slot, 1):
            await source.command("MIGRATE", "127.0.0.1", target.port, keys[0], 0, 1000)
            moved += 1
            await asyncio.sleep(0.02)  # so that there is an ASK now and then
        for node in (target, source, *self.servers):
            await node.command("CLUSTER", "SETSLOT", slot, "NODE", ids[target])
        return moved

    async def _is_whole(self) -> bool:
        states = [_text(await node.command("CLUSTER", "INFO")) for node in self.servers]
        known = [_text(await node.command("CLUSTER", "NODES")) for node in self.servers]
        return all("cluster_state:ok" in state for state in states) and all(
            len(one.splitlines()) == 3 and "handshake" not in one for one in known
        )


TOPOLOGIES: Final[dict[str, type[Single] | type[Sentinels] | type[Cluster]]] = {
    "single": Single,
    "proxied": Proxied,
    "named": Named,
    "sentinels": Sentinels,
    "cluster": Cluster,
}


async def ready(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Return once a condition of servers holds, some of which may be coming up or going down."""
    deadline = time.monotonic() + _START_LIMIT
    while time.monotonic() < deadline:
        with contextlib.suppress(RedisError, OSError, KeyError):
            if await condition():
                return
        await asyncio.sleep(0.05)
    raise RuntimeError(f"not in time: {what}")


def _free_port() -> int:
    """Return a free port that has a partner 10,000 higher, as a Cluster's nodes need."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = int(probe.getsockname()[1])
        if port <= 55_535:
            return port


def _field(reply: Any, name: str) -> str:
    """Return a field of a reply that is flat in RESP2 and a map in RESP3."""
    flat = [part for pair in reply.items() for part in pair] if isinstance(reply, dict) else reply
    words = [_text(word) for word in flat]
    return words[words.index(name) + 1]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
