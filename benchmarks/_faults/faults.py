"""What is broken on purpose, each fault as a function that strikes while the traffic runs."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import MappingProxyType
from typing import Any, Final, Literal, TypeAlias, cast

from benchmarks._faults.fleet import Fleet
from benchmarks._faults.servers import Cluster, Named, Proxied, Sentinels, Server, Single, Topology

OUTLASTING: Final = 4.0
"""Longer than the bound on staleness, so that L1 has to give up before Redis is back; seconds."""

Evidence: TypeAlias = dict[str, int]
"""What shows that a fault did strike; a cell with a zero in it is void."""


@dataclass
class Scene:
    """Where a fault strikes.

    Attributes:
        topology: The servers.
        fleet: The workers.
        chance: Draws moments and victims.
    """

    topology: Topology
    fleet: Fleet
    chance: Random

    @property
    def server(self) -> Server:
        """The only server."""
        return cast("Single", self.topology).server


Strike: TypeAlias = Callable[[Scene], Awaitable[Evidence]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One row of the bench.

    Attributes:
        strike: Breaks something, heals it, and says what shows that it did.
        topology: What it needs.
        lasts: How long it goes on at least, in seconds.
        plan: What traffic differs in.
        error_rate: Which share of the loads fails.
        loses_data: Whether Redis forgets invalidations that it has acknowledged: they are healed
            by the writers within 1 s, which the bound is longer by.
        hangs: Whether Redis hangs, which a read must not.
        expires_proof: Whether L1 must have been passed by for want of proof.
        crowd: ``"stampede"`` or ``"holder_kill"``: no traffic, but crowds of readers.
    """

    strike: Strike
    topology: str = "single"
    lasts: float = 3.0
    plan: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    error_rate: float = 0.0
    loses_data: bool = False
    hangs: bool = False
    expires_proof: bool = False
    crowd: Literal["", "stampede", "holder_kill"] = ""


async def nothing(_: Scene) -> Evidence:
    return {}


async def stop_redis(scene: Scene) -> Evidence:
    scene.server.stop()
    try:
        await asyncio.sleep(OUTLASTING)
    finally:
        scene.server.go_on()
    return {"stops": 1}


async def stop_worker(scene: Scene) -> Evidence:
    victim = scene.chance.choice(scene.fleet.workers)
    victim.send(signal.SIGSTOP)
    await asyncio.sleep(3.0)
    victim.send(signal.SIGCONT)
    return {"stops": 1}


async def kill_redis(scene: Scene) -> Evidence:
    await scene.server.kill()
    await asyncio.sleep(0.8)
    await scene.server.start()
    return {"kills": 1}


async def old_snapshot(scene: Scene) -> Evidence:
    """Restart with what Redis held a second before: newer invalidations are lost."""
    server = scene.server
    snapshot = await server.save_snapshot()
    keys = await server.command("DBSIZE")
    await asyncio.sleep(1.0)
    await server.kill()
    server.put_snapshot(snapshot)
    await server.start()
    server.forget_snapshot()
    return {"old keys": keys}


async def client_kill(scene: Scene) -> Evidence:
    killed = 0
    async for _ in _every(scene, 3.0, (0.1, 0.4)):
        killed += await scene.server.command("CLIENT", "KILL", "TYPE", "pubsub")
    return {"killed": killed}


def out_of_memory(policy: str) -> Strike:
    """Return a fault that takes memory away and gives it back, again and again."""

    async def strike(scene: Scene) -> Evidence:
        server = scene.server
        await server.configure(maxmemory_policy=policy)
        async for _ in _every(scene, 3.0, (0.05, 0.3)):
            used = (await server.information("memory"))["used_memory"]
            # Now nothing at all fits, now a few values less than there are.
            room = scene.chance.choice((1, used - 10_000, used - 20_000))
            await server.configure(maxmemory=room)
        await server.configure(maxmemory=0)
        errors = await server.information("errorstats")
        refused = errors.get("errorstat_OOM", {"count": 0})["count"]
        evicted = (await server.information("stats"))["evicted_keys"]
        return {"refused": refused} | ({} if policy == "noeviction" else {"evicted": evicted})

    return strike


def proxy_mode(mode: str, seconds: float = 0.0, *, lasts: float = 3.0) -> Strike:
    """Return a fault that lets the proxy behave badly for a while."""

    async def strike(scene: Scene) -> Evidence:
        proxy = cast("Proxied", scene.topology).proxy
        await proxy.order("set_mode", mode=mode, seconds=seconds)
        await asyncio.sleep(lasts)
        await proxy.order("set_mode", mode="pass")
        return {"hurt": await proxy.order("hurt")}

    return strike


async def proxy_drop(scene: Scene) -> Evidence:
    proxy = cast("Proxied", scene.topology).proxy
    async for _ in _every(scene, 3.0, (0.1, 0.5)):
        await proxy.order("drop")
    return {"hurt": await proxy.order("hurt")}


async def demotion(scene: Scene) -> Evidence:
    """Let another server take over the name; the old one keeps its connections, as a replica."""
    await cast("Named", scene.topology).hand_over()
    await asyncio.sleep(3.0)
    errors = await scene.server.information("errorstats")
    return {"refused": errors.get("errorstat_READONLY", {"count": 0})["count"]}


async def failover(scene: Scene) -> Evidence:
    """Kill the master after its replicas have missed what it acknowledged last."""
    sentinels = cast("Sentinels", scene.topology)
    master = await sentinels.named()
    lost = 0
    async for _ in _every(scene, 0.6, (0.005, 0.01)):
        await master.command("CLIENT", "KILL", "TYPE", "replica")
        lost = await sentinels.lag_behind(master)
    await master.kill()
    await sentinels.taken_over(master)
    return {"lost bytes": lost}


async def split_brain(scene: Scene) -> Evidence:
    """Let the master hang until another is named, then wake it: for a while there are two."""
    sentinels = cast("Sentinels", scene.topology)
    master = await sentinels.named()
    master.stop()
    try:
        await sentinels.taken_over(master)
    finally:
        master.go_on()
    await asyncio.sleep(2.0)
    return {"stops": 1}


async def switchover(scene: Scene) -> Evidence:
    """Name another while the master serves on, and let whoever hears it first be the bus."""
    sentinels = cast("Sentinels", scene.topology)
    master = await sentinels.named()
    await sentinels.fail_over()
    killed = 0
    async for _ in _every(scene, 3.0, (0.02, 0.05)):
        killed += await master.command("CLIENT", "KILL", "TYPE", "PUBSUB")
    await sentinels.taken_over(master)
    return {"killed": killed}


async def migration(scene: Scene) -> Evidence:
    cluster = cast("Cluster", scene.topology)
    moved = 0
    deadline = time.monotonic() + 3.0
    while time.monotonic() < deadline:
        owned = await cluster.owned()
        slot = scene.chance.choice(sorted(owned))
        target = scene.chance.choice([one for one in cluster.servers if one is not owned[slot]])
        moved += await cluster.migrate(slot, owned[slot], target)
    return {"moved": moved}


async def _every(scene: Scene, seconds: float, pause: tuple[float, float]) -> Any:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        yield
        await asyncio.sleep(scene.chance.uniform(*pause))


FAULTS: Final[dict[str, Fault]] = {
    "none": Fault(strike=nothing),
    "sigstop_redis": Fault(strike=stop_redis, lasts=OUTLASTING, hangs=True, expires_proof=True),
    "sigstop_worker": Fault(strike=stop_worker),
    "client_kill": Fault(strike=client_kill),
    "kill_redis": Fault(strike=kill_redis),
    "old_snapshot": Fault(strike=old_snapshot, loses_data=True),
    "oom_noeviction": Fault(strike=out_of_memory("noeviction")),
    "oom_allkeys": Fault(strike=out_of_memory("allkeys-lru")),
    "oom_volatile": Fault(strike=out_of_memory("volatile-lru")),
    "proxy_delay": Fault(strike=proxy_mode("delay", 0.080), topology="proxied"),
    "proxy_drop": Fault(strike=proxy_drop, topology="proxied"),
    "proxy_cut": Fault(strike=proxy_mode("cut"), topology="proxied"),
    "proxy_halfopen": Fault(
        strike=proxy_mode("half-open", lasts=OUTLASTING),
        topology="proxied",
        lasts=OUTLASTING,
        hangs=True,
        expires_proof=True,
    ),
    "demotion": Fault(strike=demotion, topology="named", lasts=5.0, loses_data=True),
    "loader_errors": Fault(strike=nothing, error_rate=0.2),
    "cancel": Fault(strike=nothing, plan={"cancel_rate": 0.3}),
    "failover": Fault(strike=failover, topology="sentinels", lasts=5.0, loses_data=True),
    "split_brain": Fault(strike=split_brain, topology="sentinels", lasts=5.0, loses_data=True),
    "switchover": Fault(strike=switchover, topology="sentinels", lasts=5.0, loses_data=True),
    "migration": Fault(strike=migration, topology="cluster"),
    "stampede": Fault(strike=nothing, crowd="stampede"),
    "holder_kill": Fault(strike=nothing, crowd="holder_kill"),
}
"""Every fault by its name on the command line, in the order of the table."""
