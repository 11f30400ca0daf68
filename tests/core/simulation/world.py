"""A simulated service of several processes, what happens to it step by step, and what must hold."""

import asyncio
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final
from zlib import crc32

from async_tiercache.abc import TAG_EPOCH
from async_tiercache.codecs.frame import (
    digest_key,
    is_block,
    is_lease,
    unpack,
)
from async_tiercache.errors import LoadCancelledError, LoadTimeoutError
from async_tiercache.testing import NEVER, Fate, Journey, SimulatedClock, Simulator, settled
from tests.core.simulation.model import PLAN, Claim, Model, Plan, SourceError
from tests.core.simulation.process import (
    BOUND,
    Process,
    covered,
    entry_id_of,
    everything,
)

PROCESSES: Final = 3
PATIENCE: Final = 60
"""Seconds in which everything must end once nothing goes wrong any more."""
ALLOWED: Final = (SourceError, LookupError, LoadCancelledError, LoadTimeoutError)
"""What a read may raise: errors of the loaders here, and that one was cancelled or late."""
BLOCK_SECONDS: Final = 10.0
_FRAME: Final = b"VT"

OPERATIONS: Final = {
    "reads": ("get_many",),
    "leases": ("take", "mark", "seize"),
    "commits": ("commit", "stamp"),
    "invalidations": ("invalidate",),
    "blocks": ("block", "unblock"),
    "renewals": ("renew", "release"),
    "states": ("ensure",),
    "messages": ("message",),
    "proofs": ("ping",),
    "connects": ("probe", "info", "subscribe", "last", "await_fill"),
}
FATES: Final = {
    "are slow": Fate(request=0.1, reply=0.1),
    "have slow replies": Fate(reply=0.2),
    "are lost": Fate(request=NEVER),
    "are not answered": Fate(reply=NEVER),
    "break": Fate(request=NEVER, broken=True),
    "break unheard": Fate(broken=True),
    "come late": Fate(request=0.3),
    "come very late": Fate(request=4.0),
    "come twice": Fate(again=0.0),
    "come again": Fate(again=0.5),
    "come again late": Fate(again=4.0),
    "are repeated": Fate(reply=NEVER, again=0.01),
    "are refused": Fate(refused="OOM command not allowed"),
    "kill before": Fate(kills="before"),
    "kill after": Fate(kills="after"),
}
_DELAYS: Final = (0.0, 0.0, 0.0, 0.001, 0.001, 0.005, 0.02, 0.08)


class World:
    """Processes over one simulated server.

    Args:
        network: From which delays are drawn; 0 for none.
        names: Which rows are read at the end.
    """

    def __init__(self, network: int, names: Sequence[str]) -> None:
        self.names = names
        self.clock = SimulatedClock()
        self.simulator = Simulator(self.clock)
        self.simulator.rule = self._fate
        self.model = Model(self.clock, BOUND)
        self.processes: list[Process] = []
        self.running: list[tuple[Process, asyncio.Task[None]]] = []
        self._network = network
        self._again = False
        self._counts: dict[Journey, int] = {}
        self._strikes: list[tuple[int | None, tuple[str, ...], Fate, list[int]]] = []
        self._token: tuple[str, dict[str, int], float] | None = None
        self._snapshot: tuple[float, Any] | None = None

    # Life.

    async def begin(self) -> None:
        """Start the processes."""
        asyncio.get_running_loop().set_exception_handler(self._raised)
        for index in range(PROCESSES):
            self.processes.append(self._born(index))
        await self.clock.settle()

    def _born(self, index: int) -> Process:
        client = self.simulator.client()
        client.when_killed = lambda: self._killed(index)
        # What the reply to TIME has taken.
        client.behind = _DELAYS[crc32(f"{self._network} {index}".encode()) % 8] * bool(
            self._network
        )
        process = Process(client, self.model, client.process)
        self._start(process, process.enter())
        return process

    def _killed(self, index: int) -> None:
        self.model.calm = False
        self.processes[index] = self._born(index)

    def _start(self, process: Process, work: Coroutine[Any, Any, None]) -> None:
        self.running.append((process, asyncio.ensure_future(work)))

    def _raised(self, _loop: Any, context: dict[str, Any]) -> None:
        self.model.problem(f"{context.get('message')}: {context.get('exception')!r}")

    def _fate(self, journey: Journey) -> Fate | None:
        for process, operations, fate, left in self._strikes:
            ours = process is None or self.processes[process].number == journey.process
            if left[0] and ours and journey.operation in operations:
                left[0] -= 1
                self.simulator.note("struck", (journey, fate))
                return fate
        if not self._network:
            return None
        number = self._counts[journey] = self._counts.get(journey, 0) + 1
        drawn = crc32(f"{self._network} {journey} {number}".encode())
        return Fate(request=_DELAYS[drawn % 8], reply=_DELAYS[drawn // 8 % 8])

    # Steps: calls.

    def read(self, process: int, name: str, how: str, takes: float, reads: str, ends: str) -> None:
        """Read a row, or several."""
        reader = self.processes[process]
        if reader.runs:
            PLAN.set(Plan(takes, reads, ends))
            self._start(reader, self._read(reader, name, how))

    async def _read(self, reader: Process, name: str, how: str, *, all_done: bool = False) -> None:
        begun = self.clock.monotonic()
        # Who does not believe the server is bound by what that has lost, too.
        around = begun < reader.cache._core.ledger.quarantine_deadline
        floors = {
            each: self.model.floors(reader.number, each, all_done=all_done, around=around)
            for each in everything()
        }
        with suppress(*ALLOWED), self.model.reading():
            # What is put without the tag is replaced, whoever is putting it.
            disturbs = how == "refresh" or name.startswith("label")
            with self.model.disturbing([name] if disturbs else []):
                found = await reader.read(name, how)
            for each, value in found.items():
                self.model.check(reader.number, each, value, floors[each], begun)

    def invalidate(
        self,
        process: int,
        keys: Sequence[str],
        tags: Sequence[str],
        soft: float | None,
        fate: str | None,
    ) -> None:
        """Change rows, then invalidate them."""
        writer = self.processes[process]
        if writer.runs:
            if fate == "is heard late":
                self.strike(None, "messages", "come very late", PROCESSES)
            elif fate is not None:
                self.strike(process, "invalidations", fate, 1)
            self._start(writer, self._invalidate(writer, keys, tags, soft))

    async def _invalidate(
        self, writer: Process, keys: Sequence[str], tags: Sequence[str], soft: float | None
    ) -> None:
        begun = self.clock.monotonic()
        rows = covered(keys, tags)
        with self.model.disturbing(rows):
            versions = self.model.change(rows)
            if soft is None:
                # This process has forgotten before it waits for anything.
                self._claim(writer, begun, versions, done=False)
            report = await writer.cache.invalidate(keys=keys, tags=tags, soft=soft)
        self._claim(writer, begun, versions, done=report.l2 == "done", soft=soft or 0.0)
        if soft is None:
            self._token = report.token, versions, begun

    def hand_over(self, process: int) -> None:
        """Let a process take in the latest token."""
        reader = self.processes[process]
        if reader.runs and self._token is not None:
            self._start(reader, self._hand_over(reader, *self._token))

    async def _hand_over(
        self, reader: Process, token: str, versions: dict[str, int], begun: float
    ) -> None:
        with self.model.disturbing(versions):
            if await reader.cache.apply(token):
                # What was put since the invalidation began has come after it here, too.
                self._claim(reader, begun, versions, done=False)
                # What L2 has not confirmed is repeated from here, also over what is put meanwhile.
                await settled(reader.cache)

    def clear(self, process: int) -> None:
        """Change all rows, then invalidate everything."""
        writer = self.processes[process]
        if writer.runs:
            self._start(writer, self._clear(writer))

    async def _clear(self, writer: Process) -> None:
        begun = self.clock.monotonic()
        versions = self.model.change(everything())
        with self.model.disturbing(versions):
            report = await writer.cache.clear()
        self._claim(writer, begun, versions, done=report.l2 == "done")

    def after_commit(
        self, process: int, keys: Sequence[str], tags: Sequence[str], takes: float, ends: str
    ) -> None:
        """Change rows in a transaction."""
        writer = self.processes[process]
        if writer.runs:
            self._start(writer, self._after_commit(writer, keys, tags, takes, ends))

    async def _after_commit(
        self, writer: Process, keys: Sequence[str], tags: Sequence[str], takes: float, ends: str
    ) -> None:
        begun, versions = 0.0, dict[str, int]()
        rows = covered(keys, tags)
        with suppress(SourceError), self.model.disturbing(rows):
            async with writer.cache.after_commit():
                await writer.cache.invalidate(keys=keys, tags=tags)
                await writer.client.clock.sleep(takes)
                if ends == "raises":
                    raise SourceError
                begun, versions = self.clock.monotonic(), self.model.change(rows)
        self._claim(writer, begun, versions, done=False)

    def invalidating(
        self, process: int, keys: Sequence[str], tags: Sequence[str], takes: float, ends: str
    ) -> None:
        """Change rows behind a block."""
        writer = self.processes[process]
        if writer.runs:
            self._start(writer, self._invalidating(writer, keys, tags, takes, ends))

    async def _invalidating(
        self, writer: Process, keys: Sequence[str], tags: Sequence[str], takes: float, ends: str
    ) -> None:
        rows, entered = covered(keys, tags), self.clock.monotonic()
        begun, versions = 0.0, dict[str, int]()
        with suppress(SourceError), self.model.disturbing(rows):
            async with writer.cache.invalidating(keys=keys, tags=tags):
                await writer.client.clock.sleep(takes)
                begun, versions = self.clock.monotonic(), self.model.change(rows)
                blocked = self._blocked(keys, tags)
                if self.model.calm and not blocked:
                    self.model.problem(f"process {writer.number} has blocked nothing: {rows}")
                if begun - entered < BLOCK_SECONDS / 2 and blocked:
                    # Whatever becomes of this process: at the latest when the block has ended.
                    ends_at = begun + takes + BLOCK_SECONDS + 1
                    self.model.claim(
                        Claim(writer.number, begun, ends_at, versions, done=True, blocked=True)
                    )
                await writer.client.clock.sleep(takes)
                if ends == "raises":
                    raise SourceError
        self._claim(writer, begun, versions, done=False)

    def _blocked(self, keys: Sequence[str], tags: Sequence[str]) -> bool:
        """Return whether the server holds a block on all of these."""
        get = self.simulator.server.get
        held = [*(get("key", key) for key in keys), *(get("tag", tag) for tag in tags)]
        return all(raw is not None and raw.startswith(b"B") for raw in held)

    def put(self, process: int, name: str) -> None:
        """Put what the source holds."""
        writer = self.processes[process]
        if writer.runs and name.startswith(("row", "met", "raw")):
            self._start(writer, self._put(writer, name))

    async def _put(self, writer: Process, name: str) -> None:
        begun = self.clock.monotonic()
        alone = self.model.is_quiet(name, since=begun)
        value = self.model.put(name)
        kind, _, rest = name.partition(":")
        try:
            with self.model.disturbing([name]):
                if kind == "raw":
                    await writer.cache.set(name, list(value))
                else:
                    await writer.single(kind).put(value, *(int(each) for each in rest.split(":")))
                alone = alone and self.model.is_quiet(name, since=begun, but=1)
        finally:
            self.model.put_ended(value)
        if alone and not (self.simulator.server.get("key", name) or b"").startswith(_FRAME):
            self.model.problem(f"process {writer.number} has put {name}, and it is not there")

    def write(self, process: int, name: str, takes: float, ends: str) -> None:
        """Change a row behind a fence, and put it if its family is that of calls by key."""
        writer = self.processes[process]
        if writer.runs:
            self._start(writer, self._write(writer, name.rpartition("/")[2], takes, ends))

    async def _write(self, writer: Process, name: str, takes: float, ends: str) -> None:
        begun, versions = 0.0, dict[str, int]()
        with suppress(SourceError), self.model.disturbing([name]):
            async with writer.cache.writing(name) as writing:
                await writer.client.clock.sleep(takes)
                begun, versions = self.clock.monotonic(), self.model.change([name])
                if ends == "raises":
                    raise SourceError
                if ends == "sets" and name.startswith("raw"):
                    writing.set([name, versions[name], ""])
        report = writing.report
        done = report is not None and report.l2 == "done"
        self._claim(writer, begun, versions, done=done)

    def _claim(
        self,
        writer: Process,
        begun: float,
        versions: dict[str, int],
        *,
        done: bool,
        soft: float = 0.0,
    ) -> None:
        at = self.clock.monotonic()
        self.simulator.note(f"process {writer.number} is told", (versions, done))
        # The server may have lost what was begun before it became an older copy.
        lost = begun <= self.model.replaced_at
        self.model.claim(Claim(writer.number, begun, at, versions, done, soft, lost=lost))

    def change(self, name: str) -> None:
        """Change a row, and tell nobody."""
        self.model.change([name])

    def cancel(self, which: int) -> None:
        """Cancel a call."""
        left = self._calls()
        if left:
            self.model.calm = False
            left[which % len(left)].cancel()

    # Steps: what goes wrong.

    def strike(self, process: int | None, what: str, fate: str, times: int) -> None:
        """Let the next commands or messages of a kind meet a fate."""
        self.model.calm = False
        self._again |= FATES[fate].again is not None
        self._strikes.append((process, OPERATIONS[what], FATES[fate], [times]))

    def server(self, what: str) -> None:
        """Let something happen to the server."""
        self.model.calm = False
        if what == "goes down":
            self.simulator.go_down()
        elif what == "hangs":
            self.simulator.hang()
        else:
            self._lose_blocks()
            self.simulator.restart()

    def remember(self) -> None:
        """Take the copy that may replace the server."""
        self._snapshot = self.clock.monotonic(), self.simulator.server.snapshot()

    def replace(self) -> None:
        """Let the older copy replace the server: what was acknowledged since is lost."""
        if self._snapshot is None:
            return
        taken_at, snapshot = self._snapshot
        self.model.calm = self.model.monotonic = False
        self.model.replaced_at = self.clock.monotonic()
        self._lose_blocks()
        for claim in self.model.claims:
            claim.lost |= claim.at >= taken_at
        self.simulator.restart(snapshot)

    def lose(self, what: str, name: str) -> None:
        """Let the server forget what a key holds, its mark, or what is of no key."""
        self.model.calm = False
        self.simulator.note("lost", (what, name))
        server, row = self.simulator.server, name.rpartition("/")[2]
        if what == "last":
            server.last = None
        elif what == "epoch":
            server.evict(("tag", TAG_EPOCH))
        else:
            server.evict((what, row))
            self._lose_blocks()

    def copy(self, name: str, to: str) -> None:
        """Let the server hold under a key what another one holds, as if a reply were mixed up."""
        self.model.calm = False
        held = self.simulator.server.held
        if ("key", name) in held:
            held["key", to] = held["key", name]

    def evict(self, which: int) -> None:
        """Let the server forget a thing."""
        names = self.simulator.server.names()
        if names:
            self.model.calm = False
            self.simulator.note("evicted", names[which % len(names)])
            self.simulator.server.evict(names[which % len(names)])
            self._lose_blocks()

    def _lose_blocks(self) -> None:
        """Note that a block of a process which then dies may not be there any more."""
        for claim in self.model.claims:
            claim.lost |= claim.blocked

    def cut(self, process: int, how: str) -> None:
        """Cut a process's connection to the bus."""
        self.model.calm = False
        number = self.processes[process].number
        self.simulator.cut(number, silently=how == "silently")

    def pause(self, process: int) -> None:
        """Stop a process for a while."""
        self.model.calm = False
        self.processes[process].client.pause()

    def resume(self, process: int) -> None:
        """Let a process go on; what has come meanwhile it sees a moment later."""
        self.processes[process].client.resume(late=0.01)

    def kill(self, process: int) -> None:
        """End a process, and start another in its place."""
        self.processes[process].client.kill()

    def lag(self, process: int, seconds: float) -> None:
        """Let a process believe that it is earlier on the server than it is."""
        self.model.calm = False
        self.processes[process].client.behind = seconds

    def heal(self) -> None:
        """Let nothing more go wrong."""
        self._strikes.clear()
        self.simulator.go_on()
        for process in self.processes:
            process.client.resume(late=0.01)

    async def pause_for(self, how: int | str) -> None:
        """Let everything come to rest, or so many ticks of the loop pass."""
        if isinstance(how, str):
            await self.clock.settle()
            self._look_at_leases()
            self._look_at_copies()
            return
        for _ in range(how):
            await asyncio.sleep(0)

    # The end.

    async def end(self) -> None:
        """Heal everything, let everything end, and look at what is left."""
        self.heal()
        for _ in range(2 * PATIENCE):
            await self.clock.advance(0.5)
            pending = sum(each.cache._core.ledger.pending for each in self.processes)
            if not pending and not self._calls():
                break
        self._look_at_calls()
        await self.clock.advance(3.0 + BOUND)
        self._promise_all()
        for process in self.processes:
            # One whose entering was cancelled is closed.
            for name in self.names if process.entered else ():
                PLAN.set(Plan())
                self._start(process, self._read(process, name, "one", all_done=True))
            await self.clock.advance(2.0)
        await self.clock.advance(1.5)
        if any(is_block(raw) for raw, _ in self.simulator.server.held.values()):
            # One that came after its end, for example.
            await self.clock.advance(BLOCK_SECONDS)
        self._look_at_calls()
        self._look_at_leftovers()
        if not self.model.problems:
            for process in self.processes:
                self._start(process, process.cache.aclose())
            await self.clock.advance(5.0)
            self._look_at_calls()

    def _calls(self) -> list["asyncio.Task[None]"]:
        """Return the calls that go on, those of ended processes left out."""
        return [task for process, task in self.running if not (task.done() or process.client.gone)]

    def _promise_all(self) -> None:
        """Bind every process by every claim whose process lives."""
        alive = {process.number for process in self.processes}
        for claim in self.model.claims:
            lives = claim.process in alive
            claim.lost = not (claim.done or lives) or (claim.lost and (claim.blocked or not lives))

    def _look_at_calls(self) -> None:
        for task in self._calls():
            self.model.problem(f"hangs: {task}")
        for _, task in self.running:
            if task.done() and not task.cancelled() and task.exception() is not None:
                self.model.problem(f"raised: {task.exception()!r}")

    def _look_at_leases(self) -> None:
        """While nothing goes wrong a lease ends with its load, well or not.

        The mark of a refresh that was overtaken stays for its second: it delays nobody's value.
        """
        if self._network or not self.model.calm or self._calls() or self.model.loads:
            return
        for name, (raw, _) in self.simulator.server.held.items():
            if name[0] == "key" and is_lease(raw):
                self.model.problem(f"nobody loads, and there is a lease: {name}")

    def _look_at_copies(self) -> None:
        """L1 must hold nothing that L2 has refused.

        What both know by one id must be one value, for they are compared by that alone.
        """
        for process in self.processes:
            store = process.cache._core.tiers.store
            for slot in store if store is not None else ():
                key = slot.key
                if slot.header.entry_id in process.refused:
                    self.model.problem(f"process {process.number} keeps what was refused: {key}")
                raw = self.simulator.server.get("key", key)
                if raw is None or entry_id_of(raw) != slot.header.entry_id:
                    continue
                header, body = unpack(raw, key_digest=digest_key("test", key))
                # What softens an entry, and is carried out again, gives the next one its id, too.
                told = header.created_at or not self._again
                if told and slot.family.codec.decode(body.payload) != slot.value:
                    self.model.problem(f"process {process.number} and L2 differ about {key}")

    def _look_at_leftovers(self) -> None:
        held = self.simulator.server.held
        now = self.clock.wall()
        for name, (raw, until) in held.items():
            if name[0] in {"key", "mark"} and raw[:1] in {b"L", b"B"} and until > now:
                self.model.problem(f"left in L2: {name} {raw!r}")
        for process in self.processes:
            core = process.cache._core
            rules = {
                "no flights": not len(core.flights),
                "nothing pending": not core.ledger.pending,
                "no loads": not len(core.loads),
                "no tasks": not [task for task in core.tasks._running if _ends(task)],
            }
            for rule, holds in rules.items():
                if not holds:
                    self.model.problem(f"process {process.number}, not so: {rule}")

    async def dispose(self) -> None:
        """End whatever is left."""
        self.simulator.close()
        ours = asyncio.current_task()
        for _ in range(20):
            left = [task for task in asyncio.all_tasks() if task is not ours]
            if not left:
                return
            for task in left:
                task.cancel()
            await self.clock.settle()
        raise AssertionError(f"cannot be ended: {left}")


def _ends(task: "asyncio.Task[Any]") -> bool:
    """Return whether a task of a cache ends by itself."""
    return not task.done() and task.get_name() not in {"tiercache-listen", "tiercache-bus"}
