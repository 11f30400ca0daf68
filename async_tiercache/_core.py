"""The core: the parts of one cache wired together, and when they may be used.

A cache is *new* until it is entered (with a URL it then reads L2 but keeps no L1), *open* inside
``async with``, *closed* after it. It works on one event loop at a time, and not in a forked child.
"""

import asyncio
import contextlib
import logging
import os
import weakref
from asyncio import get_running_loop
from functools import partial
from math import inf
from threading import Lock
from typing import Final, Literal

from async_tiercache._batch_reader import BatchReader
from async_tiercache._blocks import Blocks
from async_tiercache._bulkhead import Bulkhead
from async_tiercache._bus import Bus
from async_tiercache._commits import Commits
from async_tiercache._door import Door
from async_tiercache._events import Event, TierChanged
from async_tiercache._explain import Explainer
from async_tiercache._fence import Fences
from async_tiercache._filler import Filler
from async_tiercache._finder import STATE_SECONDS, Finder
from async_tiercache._flights import Flights
from async_tiercache._followers import Followers
from async_tiercache._getter import Getter
from async_tiercache._guard import Guard
from async_tiercache._inside import TOLD, keep_nothing, watch
from async_tiercache._invalidator import Invalidator
from async_tiercache._judge import Judge
from async_tiercache._ledger import Ledger
from async_tiercache._looks import Looks
from async_tiercache._notices import Notices
from async_tiercache._options import L1
from async_tiercache._pilot import Pilot
from async_tiercache._read_log import ReadLog
from async_tiercache._reader import Reader
from async_tiercache._recovery import Recovery
from async_tiercache._runner import Runner
from async_tiercache._selfcheck import SelfCheck
from async_tiercache._sourcecheck import SourceCheck
from async_tiercache._sweeper import Sweeper
from async_tiercache._tasks import Tasks
from async_tiercache._tenancy import Tenancy
from async_tiercache._tiers import Tiers
from async_tiercache._tokens import Tokens
from async_tiercache._tracing import Tracing
from async_tiercache._view import View
from async_tiercache._writer import Writer
from async_tiercache.abc import NAMESPACE, TAG_EPOCH, Clock, Observer, Remote, Tracer
from async_tiercache.backends.memory import MemoryStore
from async_tiercache.backends.null import NullRemote
from async_tiercache.codecs.compression import Compressor
from async_tiercache.errors import CacheClosedError, TierError, UsageError

FIRST_PROOF_SECONDS: Final = 0.25
"""How long entering a cache waits for the bus; until it is heard L1 serves hardly anything."""

_log = logging.getLogger("async_tiercache")


class Core:
    """The wired parts of one cache.

    Args:
        namespace: The first part of every key in L2.
        remote: The L2, or `None` for L1 alone.
        l1: The bounds of the memory tier, or `None` for none.
        clock: Time and chance.
        observers: Are told of every event.
        tracer: Sees the work that takes time.
        max_loads: How many loads may run at the same time, or `None`.
        bound: How old what L1 serves may be after an invalidation elsewhere, in seconds.
        tenancy: Whose keys and tags those of a call are.
        self_check: The pause between two comparisons of L1 with L2, in seconds; `None` for none.
        check_source: Whether L1 is compared with the source, too.
        enabled: Whether anything is cached at all.
    """

    def __init__(
        self,
        *,
        namespace: str,
        remote: Remote | None,
        l1: L1 | None,
        clock: Clock,
        observers: tuple[Observer, ...],
        tracer: Tracer | None,
        max_loads: int | None,
        bound: float,
        tenancy: Tenancy,
        self_check: float | None,
        check_source: bool,
        enabled: bool,
    ) -> None:
        self.clock = clock
        self.tenancy = tenancy
        self.enabled = enabled
        self.has_remote = remote is not None
        self.store = None if l1 is None or not enabled else MemoryStore(l1, alone=remote is None)
        self.state: Literal["new", "open", "closed", "forked"] = "new"
        self.notices = Notices(observers, has_remote=self.has_remote)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._door = Door()
        self._closing: asyncio.Task[None] | None = None
        self._remote = remote or NullRemote(clock)
        self.tasks = Tasks()
        self.loads = Tasks()
        self._listening = Tasks()
        self.bulkhead = Bulkhead(max_loads)
        self.compressor = Compressor(partial(self.notices.advise, "compression"))
        self.flights = Flights(self._remote.now)
        self.ledger = Ledger()
        watch(self.ledger)
        self.guard = Guard(self._remote.probe, clock, self._tier_changed, self.notices.refused)
        self._fences = Fences(self._remote, self.guard, self.tasks, clock)
        self.tokens = Tokens(remote, self.guard, clock)
        tracing = Tracing(tracer, namespace)
        self._wire_tiers(remote, namespace, bound)
        self._wire_bus(remote if enabled else None, bound, self_check)
        self._wire_loads(tracing, bound, self_check if check_source else None)
        self._wire_reads(namespace, tracing)
        self._wire_invalidations(remote, tracing)
        self._wire_writes(remote, tracing)
        if self.store is not None:
            self.store.mutated = self.notices.mutated
        if remote is None:
            # Nobody else writes what L1 alone holds, so it serves from the start.
            self.tiers.store = self.store
        _CORES.add(self)

    def _wire_tiers(self, remote: Remote | None, namespace: str, bound: float) -> None:
        """Make what holds values and what repeats invalidations."""
        self.finder = Finder(
            remote=self._remote,
            has_remote=self.has_remote,
            guard=self.guard,
            ledger=self.ledger,
            judge=Judge(
                namespace=namespace,
                remote=self._remote,
                ledger=self.ledger,
                compressor=self.compressor,
                clock=self.clock,
                notify=self.notices.notify,
            ),
            fences=self._fences,
            tasks=self.tasks,
            clock=self.clock,
        )
        self.tiers = Tiers(
            namespace=namespace,
            remote=self._remote,
            has_remote=self.has_remote,
            bound=bound,
            ledger=self.ledger,
            flights=self.flights,
            fences=self._fences,
            compressor=self.compressor,
            clock=self.clock,
        )
        self._recovery = Recovery(
            remote=remote,
            guard=self.guard,
            ledger=self.ledger,
            forget=self.tiers.forget,
            clock=self.clock,
            tasks=self.tasks,
            notify=self.notices.notify,
        )

    def _wire_bus(self, remote: Remote | None, bound: float, self_check: float | None) -> None:
        """Make what hears other servers, and what checks that it does."""
        self.bus = Bus(
            remote,
            bound=bound,
            ledger=self.ledger,
            forget=self.tiers.forget,
            replay=self._recovery.replay,
            clock=self.clock,
            tasks=self._listening,
        )
        if self.has_remote:
            # Nothing has been proven yet.
            self.ledger.proof_deadline = -inf
        self.self_check: SelfCheck | None = None
        if self_check is not None and remote is not None:
            self.self_check = SelfCheck(
                every=self_check,
                bound=bound,
                tiers=self.tiers,
                finder=self.finder,
                ledger=self.ledger,
                clock=self.clock,
            )

    def _wire_loads(self, tracing: Tracing, bound: float, source_check: float | None) -> None:
        """Make what loads, and what checks it against the source."""
        notify = self.notices.notify if self.notices.observed else _nobody
        self.runner = Runner(
            tiers=self.tiers,
            flights=self.flights,
            fences=self._fences,
            clock=self.clock,
            bulkhead=self.bulkhead,
            tenancy=self.tenancy,
            tracing=tracing,
            advise=self.notices.advise,
            notify=notify,
        )
        self._filler = Filler(
            tiers=self.tiers,
            finder=self.finder,
            flights=self.flights,
            fences=self._fences,
            tasks=self.tasks,
            clock=self.clock,
            runner=self.runner,
            tenancy=self.tenancy,
            tracing=tracing,
            doubt=self._recovery.doubt,
            notify=notify,
        )
        self.source_check: SourceCheck | None = None
        if source_check is not None:
            self.source_check = SourceCheck(
                every=source_check,
                bound=bound,
                tiers=self.tiers,
                runner=self.runner,
                clock=self.clock,
            )

    def _wire_reads(self, namespace: str, tracing: Tracing) -> None:
        """Make the path of reads."""
        log = ReadLog(
            clock=self.clock,
            advise=self.notices.advise,
            notify=self.notices.notify if self.notices.observed else None,
        )
        view = View(tiers=self.tiers, ledger=self.ledger, flights=self.flights, clock=self.clock)
        self._wire_looks(namespace, tracing, view, log)
        self.explainer = Explainer(
            tiers=self.tiers,
            finder=self.finder,
            log=log,
            ledger=self.ledger,
            guard=self.guard,
            clock=self.clock,
            loading=lambda key: self.flights.find(key) is not None,
        )
        self._wire_readers(tracing, view, log)

    def _wire_looks(self, namespace: str, tracing: Tracing, view: View, log: ReadLog) -> None:
        """Make what serves most reads that leave L1."""
        self.followers = Followers(
            view=view,
            ledger=self.ledger,
            flights=self.flights,
            log=log,
            clock=self.clock,
            door=self._door,
            admit=self.admit,
        )
        self.looks = Looks(
            namespace=namespace,
            on=self.has_remote and self.enabled and not tracing.on and self.source_check is None,
            tiers=self.tiers,
            finder=self.finder,
            ledger=self.ledger,
            flights=self.flights,
            followers=self.followers,
            fences=self._fences,
            log=log,
            clock=self.clock,
        )

    def _wire_readers(self, tracing: Tracing, view: View, log: ReadLog) -> None:
        """Make what reads one key, many keys, and without a load."""
        pilot = Pilot(
            tiers=self.tiers,
            finder=self.finder,
            bus=self.bus,
            ledger=self.ledger,
            looks=self.looks,
            flights=self.flights,
            fences=self._fences,
            runner=self.runner,
            filler=self._filler,
            tasks=self.tasks,
            loads=self.loads,
            clock=self.clock,
            tracing=tracing,
        )
        self.reader = Reader(
            tiers=self.tiers,
            ledger=self.ledger,
            view=view,
            flights=self.flights,
            followers=self.followers,
            runner=self.runner,
            pilot=pilot,
            clock=self.clock,
            tracing=tracing,
            log=log,
            sample=None if self.source_check is None else self.source_check.sample,
        )
        self.batch_reader = BatchReader(
            reader=self.reader,
            finder=self.finder,
            tiers=self.tiers,
            view=view,
            looks=self.looks,
            flights=self.flights,
            pilot=pilot,
            clock=self.clock,
            tracing=tracing,
            log=log,
        )
        self.getter = Getter(
            tiers=self.tiers,
            finder=self.finder,
            ledger=self.ledger,
            view=view,
            looks=self.looks,
            flights=self.flights,
            tracing=tracing,
            log=log,
        )

    def _wire_invalidations(self, remote: Remote | None, tracing: Tracing) -> None:
        """Make the path of invalidations."""
        self.invalidator = Invalidator(
            remote=remote,
            guard=self.guard,
            ledger=self.ledger,
            recovery=self._recovery,
            forget=self.tiers.forget,
            clock=self.clock,
            tracing=tracing,
            tokens=self.tokens,
            notify=self.notices.notify,
        )
        self.sweeper = Sweeper(
            remote=remote,
            guard=self.guard,
            ledger=self.ledger,
            invalidator=self.invalidator,
            forget=self.tiers.forget,
            here=self._keys,
            recovery=self._recovery,
        )

    def _wire_writes(self, remote: Remote | None, tracing: Tracing) -> None:
        """Make the path of the cache's own writes, and of blocks around those of others."""
        self.writer = Writer(
            tiers=self.tiers,
            flights=self.flights,
            invalidator=self.invalidator,
            fences=self._fences,
            finder=self.finder,
            ledger=self.ledger,
            clock=self.clock,
            tracing=tracing,
            enabled=self.enabled,
        )
        self.commits = Commits(self.invalidator, self.writer)
        self.blocks = Blocks(
            remote=remote,
            guard=self.guard,
            ledger=self.ledger,
            forget=self.tiers.forget,
            invalidator=self.invalidator,
            tasks=self.tasks,
            clock=self.clock,
        )

    def _keys(self) -> list[str]:
        """Return the keys that this process holds or loads."""
        held = () if self.store is None else (slot.key for slot in self.store)
        return list(dict.fromkeys((*held, *self.flights.keys())))

    def _tier_changed(self, event: TierChanged) -> None:
        if event.up:
            _log.info("L2 answers again")
        else:
            _log.warning("L2 is out of reach, reads go around it: %s", event.error)
            self.bus.wake_all()
        self.notices.notify(event)

    def admit(self) -> asyncio.AbstractEventLoop:
        """Let a call that leaves L1 through, and return the loop that it runs on.

        Raises:
            CacheClosedError: The cache was closed, or belongs to the parent of this process.
            UsageError: Another loop that is still running uses the cache.
        """
        loop = get_running_loop()
        if loop is self._door.loop:
            return loop
        if self.state in {"closed", "forked"}:
            raise self._over()
        if loop is not self._loop:
            self._bind(loop)
        if self.state == "new" and self.has_remote and self.enabled:
            self.notices.advise(
                "not-entered",
                "The cache is used before it was entered: it asks L2 each time and keeps "
                "nothing in memory. Use it inside `async with cache:`.",
            )
        return loop

    def goes_around(self, *, uncommitted: bool) -> bool:
        """Return whether a call goes around the tiers, straight to its loader.

        What is made of a value that may not be committed is not kept either.
        """
        if not self.enabled:
            return True
        if uncommitted:
            keep_nothing()
        return uncommitted

    def _over(self) -> CacheClosedError:
        return CacheClosedError(
            "The cache was closed"
            if self.state == "closed"
            else "The cache belongs to the parent of this forked process",
            hint="Make a TierCache per process, and use it inside `async with cache:`.",
        )

    async def settle(self) -> None:
        """Return when nothing runs in the background."""
        while len(self.loads) or len(self.tasks) or self.looks.asking:
            await self.looks.settle()
            await self.loads.settle()
            await self.tasks.settle()

    def _bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Belong to a loop; what an earlier one left behind is dropped."""
        if self._loop is not None:
            if self._loop.is_running():
                raise UsageError(
                    "The cache is in use on another running event loop",
                    hint="Make one TierCache per event loop.",
                )
            self.flights.forget()
            self.bulkhead.restart()
            self.runner.restart()
            self._fences.forget()
            self.looks.forget()
            self.loads.forget()
            self.tasks.forget()
            self._listening.forget()
            self._loop = loop
            self._recovery.restart()
            self.bus.restart()
            if self.state == "open" and self.enabled:
                self._look_after()
        self._loop = loop
        if self.state == "open":
            self._door.loop = loop

    async def open(self) -> None:
        """Connect and start serving from L1; a Redis that is down is no error."""
        if self.state == "forked":
            raise self._over()
        if self.state != "new":
            again = "was closed" if self.state == "closed" else "has been entered already"
            raise UsageError(f"The cache {again}", hint="Enter each TierCache once.")
        loop = asyncio.get_running_loop()
        self._bind(loop)
        self.state, self._door.loop = "open", loop
        try:
            if self.has_remote and self.enabled:
                await self._connect()
        except BaseException:
            # Nobody leaves what was not entered.
            await self.aclose()
            raise
        if self.enabled:
            self._look_after()
        self.tiers.store = self.store

    async def _connect(self) -> None:
        """Reach L2, if it can be reached, and hear of what others invalidate.

        Raises:
            CacheClosedError: The cache was closed meanwhile.
        """
        with contextlib.suppress(TierError):
            await self.guard.call(self._remote.probe)
            for name, message in await self.guard.call(self._remote.advice):
                self.notices.advise(name, message)
        self._check_open()
        self.bus.start()
        if self.guard.up:
            await asyncio.gather(self._learn_states(), self.tokens.learn())
            await self.bus.first_proof(FIRST_PROOF_SECONDS)
        self._check_open()

    def _check_open(self) -> None:
        if self.state != "open":
            raise self._over()

    def _look_after(self) -> None:
        """Start what goes on for as long as the cache is open."""
        if self.has_remote:
            self._listening.start(self.tokens.keep(), name="tiercache-secret")
        for check in (self.self_check, self.source_check):
            if check is not None:
                self._listening.start(check.run(), name="tiercache-self-check")

    async def _learn_states(self) -> None:
        """Let the states be there that every value rests on, so that no first miss has to."""
        with contextlib.suppress(TierError):
            await self.guard.call(self._remote.ensure, (NAMESPACE, TAG_EPOCH), STATE_SECONDS)

    async def aclose(self) -> None:
        """Stop: cancel loads, let stores and invalidations finish, close our connections.

        It goes on if its caller is cancelled; whoever calls again waits for its end.
        """
        loop = asyncio.get_running_loop()
        if self.state in {"new", "open"}:
            self.state, self._door.loop = "closed", None
            self.tiers.store = None
            if self.store is not None:
                self.store.clear()
            self._closing = asyncio.Task(self._close(), loop=loop, name="tiercache-close")
        if self._closing is not None and self._closing.get_loop() is loop:
            await asyncio.shield(self._closing)

    async def _close(self) -> None:
        try:
            if self._loop is asyncio.get_running_loop():
                await self.bus.stop()
                await self._listening.cancel()
                await self._recovery.stop()
                await self._recovery.flush()
                await self.loads.cancel()
                await self.tasks.finish()
                await self.looks.settle()
                await self._fences.aclose()
        finally:
            # Also where a loop that ends cancels all its tasks, this one too.
            if self.ledger.pending:
                _log.warning("Closed with %d keys that L2 has yet to remove", self.ledger.pending)
            await self._remote.aclose()

    def disown(self) -> None:
        """Be unusable in a forked child: connections, loop and tasks are the parent's.

        One that nobody has used has none yet; a server may import its application before it forks.
        """
        if self.state == "new" and self._loop is None:
            return
        self.state, self._door.loop = "forked", None
        self.tiers.store = None
        self.runner.restart()
        if self.store is not None:
            self.store.clear()


def _nobody(_event: Event) -> None:
    """Observe nothing."""


_CORES: "weakref.WeakSet[Core]" = weakref.WeakSet()


def _after_fork() -> None:
    TOLD.lock = Lock()  # A thread of the parent may hold the other.
    for core in list(_CORES):
        core.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
