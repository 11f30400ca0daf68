"""One cell: one adapter under one fault with one seed, from cold servers to a verdict."""

import asyncio
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from benchmarks._faults import crowd, source
from benchmarks._faults.adapters import BOUND
from benchmarks._faults.crowd import Stampedes
from benchmarks._faults.faults import FAULTS, Evidence, Fault, Scene
from benchmarks._faults.fleet import Fleet
from benchmarks._faults.record import Record
from benchmarks._faults.servers import TOPOLOGIES
from benchmarks._faults.tally import Tally
from benchmarks._faults.traffic import GRACE

HEAL_LIMIT = 1.0
"""How much longer reads may be old where Redis lost what it had acknowledged, in seconds."""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How much a cell does.

    Attributes:
        lead: How long the traffic runs before the fault strikes, in seconds.
        tail: And after it is healed.
        rounds: How many crowds there are.
        share: Which share of the full number of reads and races there must be.
    """

    lead: float = 2.0
    tail: float = 3.0
    rounds: int = 5
    share: float = 1.0


FULL = Pace()
QUICK = Pace(lead=0.6, tail=0.8, rounds=2, share=0.25)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What all cells of a run share.

    Attributes:
        sandbox: Ends all processes.
        dsn: Where PostgreSQL is.
        program: The Redis server program.
        pace: How much a cell does.
    """

    sandbox: Sandbox
    dsn: str
    program: Path
    pace: Pace


@dataclass(kw_only=True)
class Outcome:
    """What a cell gave.

    Attributes:
        adapter: Which cache.
        fault: What was broken.
        seed: Which schedule.
        tally: What the workers saw.
        evidence: What shows that the fault struck.
        struck: From when to when it did, monotonic.
        stampedes: What crowds cost.
        commands_per_read: How many commands Redis carried out for each read, where it could count.
    """

    adapter: str
    fault: str
    seed: int
    tally: Tally
    evidence: Evidence = field(default_factory=dict[str, int])
    struck: tuple[float, float] = (0.0, 0.0)
    stampedes: Stampedes = field(default_factory=Stampedes)
    commands_per_read: float | None = None

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


async def run_cell(stage: Stage, adapter: str, name: str, seed: int) -> Outcome:
    """Run one cell on servers and workers of its own."""
    fault = FAULTS[name]
    folder = stage.sandbox.folder(f"{adapter}-{name}-{seed}")
    shared = folder / "record"
    Record.create(shared)
    await source.reset(stage.dsn)
    topology = TOPOLOGIES[fault.topology](stage.sandbox, stage.program, folder)
    fleet: Fleet | None = None
    try:
        await topology.start()
        opening = {"adapter": adapter, "url": topology.url, "dsn": stage.dsn}
        fleet = Fleet(stage.sandbox, shared, {**opening, "seed": f"{name}:{seed}"})
        await fleet.start()
        scene = Scene(topology, fleet, Random(f"{name}:{seed}"))
        outcome = Outcome(adapter=adapter, fault=name, seed=seed, tally=Tally())
        run = _crowds if fault.crowd else _traffic
        await run(stage, fault, scene, outcome)
        outcome.tally = await fleet.tally()
        if outcome.commands_per_read is not None:
            outcome.commands_per_read /= max(1, outcome.tally.checked)
        return outcome
    finally:
        if fleet is not None:
            await fleet.end()
        await topology.end()


async def _traffic(stage: Stage, fault: Fault, scene: Scene, outcome: Outcome) -> None:
    """Let readers and writers run while the fault strikes, then look at what is left."""
    pace, fleet = stage.pace, scene.fleet
    if fault.error_rate:
        await _set_source(fleet, fault.error_rate)
    bound = BOUND + (HEAL_LIMIT if fault.loses_data else 0.0)
    commands = await scene.topology.commands()
    began = time.monotonic()
    until = began + pace.lead + fault.lasts + pace.tail
    async with asyncio.TaskGroup() as group:
        group.create_task(fleet.everywhere("run", until=until, bound=bound, **fault.plan))
        await asyncio.sleep(pace.lead)
        struck = time.monotonic()
        outcome.evidence = await fault.strike(scene)
        outcome.struck = (struck, time.monotonic())
    passed = await scene.topology.commands() - commands
    outcome.commands_per_read = passed if passed > 0 else None
    await _set_source(fleet, 0.0)
    await asyncio.sleep(bound + GRACE)
    await fleet.everywhere("check_all")


async def _set_source(fleet: Fleet, error_rate: float) -> None:
    await fleet.everywhere("set_source", seconds=source.LOAD_SECONDS, error_rate=error_rate)


async def _crowds(stage: Stage, fault: Fault, scene: Scene, outcome: Outcome) -> None:
    run = {"stampede": crowd.stampede, "holder_kill": crowd.holder_kill}[fault.crowd]
    outcome.stampedes = await run(scene.fleet, stage.pace.rounds)
