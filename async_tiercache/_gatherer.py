"""The gatherer: loads of single ids that come together make one call of a batch loader.

Each id keeps its own flight, fence and waiters; only the call of the loader is shared, and the turn
in which it runs. A call is cancelled when all who wanted one of its ids are gone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from contextvars import Context, copy_context
from functools import partial
from typing import Any, TypeAlias, cast

from async_tiercache._context import LoadContext
from async_tiercache._flight import Flight, Loading
from async_tiercache._inside import CURRENT
from async_tiercache._options import MISSING
from async_tiercache._outcome import cancelled_load, copy_of
from async_tiercache._tasks import Tasks
from async_tiercache.abc import Clock
from async_tiercache.errors import UsageError

LoadMany: TypeAlias = Callable[[list[Any], LoadContext], Awaitable[Any]]
"""Fetches the values of several ids, as a mapping by id; what is not there is absent."""
Run: TypeAlias = Callable[[list[Flight], Callable[[], Awaitable[Any]]], Awaitable[Any]]
"""Runs a loader that has its turn, counted and traced."""
Turn: TypeAlias = Callable[[Sequence[Flight]], Awaitable[AbstractContextManager[None]]]
"""Waits for the turn of a loader, and holds it."""


class Part:
    """One id's part in a call of a batch loader."""

    __slots__ = ("_call", "_expected", "_gatherer", "id")

    def __init__(self, gatherer: "Gatherer", id_: Any, *, expected: bool) -> None:
        self._gatherer = gatherer
        self._expected = expected
        self._call: Call | None = None
        self.id = id_

    async def turn(self, flight: Flight) -> AbstractContextManager[object]:
        """Wait for the turn of the call into which the id gets.

        Args:
            flight: The id's flight.

        Returns:
            A context in which it is to be loaded; else it leaves the call at its end.
        """
        self._call = call = self._gatherer.join(self, flight)
        self.give_way()
        with ExitStack() as staying:
            staying.callback(self._leave, call)
            await call.has_turn.wait()
            return staying.pop_all()

    def _leave(self, call: "Call") -> None:
        self._call = None
        call.leave(self)

    async def load(self, context: LoadContext) -> Any:
        """Return the id's value, MISSING if it is absent."""
        return await self._gatherer.load(self, context, self._call)

    def give_way(self) -> None:
        """Let the others go ahead: this id is not to be loaded, or not yet."""
        if self._expected:
            self._expected = False
            self._gatherer.settle()


class Call:
    """One call of the batch loader, as long as it gathers its ids and while it runs.

    Attributes:
        open: The flights of those who are yet to get their fences in its turn, or to leave.
        has_turn: Is set when it has its turn, or will have none.
        complete: Is set when nobody is to get a fence any more.
        waiting: How many of its parts wait for their answers.
    """

    __slots__ = ("answers", "complete", "context", "contexts", "has_turn", "loading", "open",
                 "parts", "task", "waiting")  # fmt: skip

    def __init__(self) -> None:
        self.open: dict[Part, Flight] = {}
        self.has_turn = asyncio.Event()
        self.complete = asyncio.Event()
        self.waiting = 0
        self.parts: list[Part] = []
        self.answers: list[asyncio.Future[Any]] = []
        self.contexts: list[LoadContext] = []
        self.loading = Loading()
        # It belongs to whoever came first, as the load of a single id does.
        self.context: Context = copy_context()
        self.task: asyncio.Task[dict[Any, Any] | Exception] | None = None

    def expect(self, part: Part, flight: Flight, *, hurry: Callable[[], object] | None) -> None:
        """Let a part come in once the call has its turn.

        Args:
            part: The part.
            flight: Its flight.
            hurry: Is called when a loader begins to wait for the flight.
        """
        self.open[part] = flight
        self.complete.clear()
        flight.loading = self.loading
        flight.hurry = hurry

    def leave(self, part: Part) -> None:
        """Note that a part does not come in, unless it has."""
        flight = self.open.get(part)
        if flight is not None:
            flight.loading = flight.hurry = None
            self._close(part)
            self.give_up()

    def _close(self, part: Part) -> None:
        if self.open.pop(part, None) and not self.open:
            self.complete.set()

    def give_up(self) -> "asyncio.Task[Any] | None":
        """Cancel the call if nobody wants anything of it; return its task if so."""
        if self.task is None or self.task.done() or not self.unwanted:
            return None
        self.task.cancel()
        return self.task

    def add(
        self, part: Part, context: LoadContext, *, hurry: Callable[[], object] | None
    ) -> "asyncio.Future[Any]":
        """Take a part in and return the future of its answer.

        Args:
            part: The part.
            context: What its flight has for the loader.
            hurry: Is called when a loader begins to wait for the part's flight.
        """
        self._close(part)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.waiting += 1
        self.parts.append(part)
        self.answers.append(answer)
        self.contexts.append(context)
        mine = CURRENT.get()
        assert mine is not None
        for flight in mine.flights:
            self.loading.take_in(flight)
            flight.loading = self.loading
            flight.hurry = hurry
        return answer

    @property
    def flights(self) -> list[Flight]:
        """The flights of all who are in, or may come in."""
        return [*self.loading.flights, *self.open.values()]

    @property
    def unwanted(self) -> bool:
        """Whether nobody waits for it."""
        return not self.waiting and not self.open

    @property
    def wanted(self) -> list[Any]:
        """The ids whose answer somebody still waits for, each once."""
        pairs = zip(self.parts, self.answers, strict=True)
        return list(dict.fromkeys(part.id for part, answer in pairs if not answer.done()))

    def answer(self, found: dict[Any, Any] | Exception) -> None:
        """Give every part its answer: a value, MISSING for an absent one, or an error of its own.

        Args:
            found: The values by id, or the error of all.
        """
        self.loading.running = False
        self.has_turn.set()
        for part, answer in zip(self.parts, self.answers, strict=True):
            if not answer.done():
                # As a result, for an exception that nobody fetches would be complained about.
                if isinstance(found, Exception):
                    answer.set_result(copy_of(found))
                else:
                    answer.set_result(found.get(part.id, MISSING))


class Gatherer:
    """Gathers parts and calls the batch loader for them.

    Args:
        load_many: The batch loader, with all arguments but the ids bound.
        run: Runs it.
        turn: Waits for its turn.
        tasks: Owns the tasks.
        clock: Times the gathering.
        window: How long a call gathers when no part is expected, in seconds.
        serial: Whether a call must wait for the one before, because both use the caller's object.
    """

    __slots__ = ("_call", "_clock", "_expected", "_load_many", "_run", "_running", "_serial",
                 "_tasks", "_turn", "_window")  # fmt: skip

    def __init__(
        self,
        load_many: LoadMany,
        *,
        run: Run,
        turn: Turn,
        tasks: Tasks,
        clock: Clock,
        window: float = 0.0,
        serial: bool = False,
    ) -> None:
        self._load_many = load_many
        self._run = run
        self._turn = turn
        self._tasks = tasks
        self._clock = clock
        self._window = window
        self._serial = serial
        self._expected = 0
        self._running: set[Call] = set()
        self._call: Call | None = None

    def expect(self, id_: Any) -> Part:
        """Return a part that the next call waits for until it loads or gives way."""
        self._expected += 1
        return Part(self, id_, expected=True)

    def part(self, id_: Any) -> Part:
        """Return a part that joins the next call if it comes in time."""
        return Part(self, id_, expected=False)

    @property
    def idle(self) -> bool:
        """Whether no call runs or gathers its ids."""
        return self._call is None and not self._running

    def settle(self) -> None:
        """Note that an expected part has decided; the last one starts the call."""
        self._expected -= 1
        if not self._expected:
            asyncio.get_running_loop().call_soon(self._start)

    def join(self, part: Part, flight: Flight) -> Call:
        """Return the call that a part may come into once that has its turn."""
        call = self._gathering()
        call.expect(part, flight, hurry=self._start if self._serial else None)
        return call

    async def load(self, part: Part, context: LoadContext, call: Call | None) -> Any:
        """Return the value of a part.

        Args:
            part: The part.
            context: What its flight has for the loader.
            call: The call that it has joined; else it gets into the next.
        """
        hurry = self._start if self._serial and call is None else None
        call = call or self._gathering()
        if not call.loading.running:
            raise cancelled_load("The batch load")
        answer = call.add(part, context, hurry=hurry)
        part.give_way()
        try:
            value = await answer
        finally:
            call.waiting -= 1
            task = call.give_up()
            if task is not None:
                # Its loader may use what its caller is about to close.
                await asyncio.wait([task])
        if isinstance(value, Exception):
            raise value
        return value

    def _gathering(self) -> Call:
        """Return the call that gathers its parts, perhaps a new one."""
        call = self._call
        if call is None:
            call = self._call = Call()
            if not self._expected and self._window:
                self._tasks.start(self._start_later(), name="tiercache-gather")
            elif not self._expected:
                asyncio.get_running_loop().call_soon(self._start)
        elif self._serial:
            # Who comes may be in a hurry, and the others were not.
            asyncio.get_running_loop().call_soon(self._start)
        return call

    async def _start_later(self) -> None:
        await self._clock.sleep(self._window)
        self._start()

    def _start(self) -> None:
        call = self._call
        if call is None or self._expected:
            return
        if self._serial and self._in_use(call):
            if any(flight.urgent for flight in call.flights):
                self._urge()
            return
        self._call = None
        for flight in call.flights:
            flight.hurry = None
        if not call.unwanted:
            self._running.add(call)
            call.task = call.context.run(
                self._tasks.start, self._load_all(call), name="tiercache-load-many"
            )
            # Not by the task itself: cancelled before it has begun, it would do nothing.
            call.task.add_done_callback(partial(self._ended, call))

    async def _load_all(self, call: Call) -> dict[Any, Any] | Exception:
        CURRENT.set(call.loading)
        with await self._turn(call.flights):
            call.has_turn.set()
            if call.open:
                await call.complete.wait()
            return await self._load_wanted(call)

    async def _load_wanted(self, call: Call) -> dict[Any, Any] | Exception:
        ids = call.wanted
        if not ids:
            return {}
        context = LoadContext()
        try:
            found = await self._run(call.loading.flights, lambda: self._load_many(ids, context))
            values = answers_of(found, ids)
        except Exception as error:  # noqa: BLE001 - each part raises its own copy
            return error
        for each in call.contexts:
            each.adopt(context)
        return values

    def _ended(self, call: Call, task: "asyncio.Task[dict[Any, Any] | Exception]") -> None:
        failed = task.cancelled() or task.exception() is not None
        call.answer(cancelled_load("The batch load") if failed else task.result())
        self._running.discard(call)
        self._start()

    def _urge(self) -> None:
        """Let the calls ahead go without a turn: a loader that holds one waits for the next."""
        for running in self._running:
            for flight in running.flights:
                flight.urge()

    def _in_use(self, call: Call) -> bool:
        """Return whether a call that runs uses the object, instead of waiting for this one."""
        return not all(
            any(flight.leads_to(call.loading) for flight in running.flights)
            for running in self._running
        )


def found_of(found: object, ids: list[Any]) -> dict[Any, Any]:
    """Return the values of a batch load that was made for one caller, in the order of the ids.

    Raises:
        Exception: The error of the first id that has one.
        UsageError: See `answers_of`.
    """
    answers = answers_of(found, ids)
    for answer in answers.values():
        if isinstance(answer, Exception):
            raise answer
    return answers


def answers_of(found: object, ids: list[Any]) -> dict[Any, Any]:
    """Return what a batch load has found for the ids, in their order: values and errors.

    Raises:
        UsageError: It is no mapping, or its keys are none of the ids although it is not empty.
    """
    if not isinstance(found, Mapping):
        raise UsageError(
            f"The batch loader was asked for {ids[0]!r} and returned {type(found).__name__}, no "
            "mapping by id",
            hint="Return a dict such as {id: value}; leave out the ids that do not exist.",
        )
    answers = cast("Any", found)
    if answers and not any(each in answers for each in ids):
        raise UsageError(
            f"The batch loader was asked for {ids[0]!r} and answered for {next(iter(answers))!r}",
            hint="The keys of its result must equal the ids, their type included.",
        )
    return {each: answers[each] for each in ids if each in answers}
