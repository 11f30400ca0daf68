"""Single flight: callers that miss one key share one load, and nobody pays for another's end."""

import asyncio
import traceback
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest

from async_tiercache import BoundCached, Loaded, TierCache
from async_tiercache.errors import (
    LoadCancelledError,
    LoadTimeoutError,
    UsageError,
)
from async_tiercache.testing import FakeClock, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, method_of, soon, ticks

Form = Callable[..., BoundCached[[int], Any]]

both_forms = pytest.mark.parametrize(
    "form",
    [pytest.param(function_of, id="function"), pytest.param(method_of, id="method")],
)


async def callers(value: BoundCached[[int], Any], count: int) -> list[asyncio.Task[Any]]:
    """Return tasks that all wait for the value."""
    tasks = [asyncio.create_task(value(1)) for _ in range(count)]
    await ticks()
    return tasks


async def results(tasks: list[asyncio.Task[Any]]) -> list[Any]:
    return await soon(asyncio.gather(*tasks, return_exceptions=True))


@both_forms
async def test_a_hundred_callers_share_one_load(cache: TierCache, form: Form) -> None:
    """Callers that miss one key at the same time run its loader once."""
    source = Source()
    source.close()
    tasks = await callers(form(cache, source), 100)

    source.gate.set()

    assert await results(tasks) == ["v1"] * 100
    assert source.loads == 1


async def test_callers_of_get_or_load_share_one_load(cache: TierCache) -> None:
    """The single flight is per key, not per loader object."""
    first, second = Source("first"), Source("second")
    first.close()
    one = asyncio.create_task(cache.get_or_load("k", first.load))
    await first.loading()
    two = asyncio.create_task(cache.get_or_load("k", second.load))
    await ticks()

    first.gate.set()

    assert await results([one, two]) == ["first", "first"]
    assert second.loads == 0


@pytest.mark.parametrize("leaving", [0, 2, 4], ids=["first", "middle", "last"])
async def test_a_cancelled_caller_of_a_function_touches_nobody(
    cache: TierCache, leaving: int
) -> None:
    """Whichever caller goes, the others have the value of the one load."""
    source = Source()
    source.close()
    tasks = await callers(function_of(cache, source), 5)

    tasks[leaving].cancel()
    await ticks()
    source.gate.set()

    outcomes = await results(tasks)
    assert isinstance(outcomes.pop(leaving), asyncio.CancelledError)
    assert outcomes == ["v1"] * 4
    assert source.loads == 1


@pytest.mark.parametrize("leaving", [2, 4], ids=["middle", "last"])
async def test_a_cancelled_waiter_of_a_method_touches_nobody(
    cache: TierCache, leaving: int
) -> None:
    """A caller in whose life the load does not run may go at any time."""
    source = Source()
    source.close()
    tasks = await callers(method_of(cache, source), 5)

    tasks[leaving].cancel()
    await ticks()
    source.gate.set()

    outcomes = await results(tasks)
    assert isinstance(outcomes.pop(leaving), asyncio.CancelledError)
    assert outcomes == ["v1"] * 4
    assert source.loads == 1


async def test_the_last_caller_takes_the_load_of_a_function_with_it(cache: TierCache) -> None:
    """With on_abandon="cancel" nobody loads for nobody."""
    source = Source()
    source.close()
    tasks = await callers(function_of(cache, source), 3)

    for task in tasks:
        task.cancel()
    await results(tasks)
    await soon(settled(cache))

    assert source.ended == 1
    assert not source.gate.is_set()


async def test_an_abandoned_load_is_finished_when_so_wished(cache: TierCache) -> None:
    """With on_abandon="finish" the value is there for the next caller."""
    source = Source()
    source.close()
    value = function_of(cache, source, on_abandon="finish")
    tasks = await callers(value, 3)

    for task in tasks:
        task.cancel()
    await results(tasks)
    source.gate.set()
    await soon(settled(cache))

    assert value.peek(1) == "v1"


async def test_a_caller_after_an_abandoned_load_starts_its_own(cache: TierCache) -> None:
    """A load that is being cancelled is joined by nobody."""
    source = Source()
    source.close()
    value = function_of(cache, source)
    (task,) = await callers(value, 1)

    task.cancel()
    await ticks()
    source.gate.set()

    assert await soon(value(1)) == "v1"
    assert source.loads == 2


async def test_the_next_waiter_takes_over_when_the_leader_of_a_method_goes(
    alone: TierCache,
) -> None:
    """A method's load lives in its caller's life; the next waiter restarts it."""
    source = Source()
    source.close()
    tasks = await callers(method_of(alone, source), 5)

    tasks[0].cancel()
    await source.loading(2)
    source.gate.set()

    outcomes = await results(tasks)
    assert isinstance(outcomes[0], asyncio.CancelledError)
    assert outcomes[1:] == ["v1"] * 4
    assert source.loads == 2


async def test_each_waiter_that_takes_over_may_go_in_its_turn(alone: TierCache) -> None:
    """A row of cancelled leaders leaves the last caller with its value."""
    source = Source()
    source.close()
    tasks = await callers(method_of(alone, source), 4)

    for turn, task in enumerate(tasks[:3]):
        task.cancel()
        await soon(source.loading(turn + 2))
    source.gate.set()

    assert (await results(tasks))[3] == "v1"
    assert source.loads == source.ended == 4


async def test_the_load_of_a_method_has_ended_when_its_caller_is_told(cache: TierCache) -> None:
    """A session that ends with its caller is not used after that caller's CancelledError."""
    source = Source()
    source.close()
    ended: list[int] = []
    value = method_of(cache, source)

    async def request() -> None:
        try:
            await value(1)
        finally:
            ended.append(source.ended)

    task = asyncio.create_task(request())
    await soon(source.loading())
    task.cancel()
    await results([task])

    assert ended == [1]


async def test_a_timeout_around_the_leader_of_a_method_is_its_own(cache: TierCache) -> None:
    """`asyncio.timeout` around a call ends that call, and it stays a TimeoutError."""
    source = Source()
    source.close()
    value = method_of(cache, source)
    limit = asyncio.timeout(None)

    async def request() -> None:
        async with limit:
            await value(1)

    task = asyncio.create_task(request())
    await soon(source.loading())
    limit.reschedule(0)

    assert [type(error) for error in await results([task])] == [TimeoutError]


# Errors.


@both_forms
async def test_the_error_of_a_load_reaches_each_waiter(cache: TierCache, form: Form) -> None:
    """All waiters of a failed load get its error, and the loader ran once."""
    source = Source()
    source.error = LookupError("no such user")
    source.close()
    tasks = await callers(form(cache, source), 5)

    source.gate.set()

    assert [repr(error) for error in await results(tasks)] == ["LookupError('no such user')"] * 5
    assert source.loads == (1 if form is function_of else 2)


async def test_the_error_of_another_callers_object_does_not_reach_strangers(
    cache: TierCache,
) -> None:
    """It may be a session in a failed transaction; who waits tries once with its own."""
    gate = asyncio.Event()

    class Repository:
        def __init__(self, session: str) -> None:
            self.session = session

        @cache.cached("row:{row_id}")
        async def row(self, row_id: int) -> str:
            await gate.wait()
            if self.session == "broken":
                raise ConnectionResetError(self.session)
            return f"{row_id} by {self.session}"

    sessions = ["broken", "first", "second"]
    tasks = [asyncio.create_task(Repository(session).row(1)) for session in sessions]
    await ticks()

    gate.set()
    error, *values = await results(tasks)

    assert isinstance(error, ConnectionResetError)
    assert values == ["1 by first", "1 by first"]


async def test_each_waiter_gets_an_error_object_of_its_own(cache: TierCache) -> None:
    """What one waiter does to its error is not seen by another."""
    source = Source()
    source.error = LookupError("no such user")
    source.close()
    tasks = await callers(function_of(cache, source), 5)

    source.gate.set()
    errors = await results(tasks)

    assert len({id(error) for error in errors}) == 5


async def raised(value: BoundCached[[int], Any], name: str) -> BaseException:
    """Return the error of a call, raised through a frame called `name`."""
    space: dict[str, Any] = {"value": value}
    exec(f"async def {name}(): return await value(1)", space)
    try:
        await space[name]()
    except Exception as error:
        return error
    raise AssertionError


def frames(error: Any) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


async def test_tracebacks_of_waiters_do_not_run_into_each_other(cache: TierCache) -> None:
    """A waiter's traceback shows its own way to the loader and nobody else's."""
    source = Source()
    source.error = LookupError("no such user")
    source.close()
    value = function_of(cache, source)
    tasks = [asyncio.create_task(raised(value, f"caller_{n}")) for n in range(3)]
    await ticks()

    source.gate.set()
    errors = await results(tasks)

    ways = [[name for name in frames(error) if name.startswith("caller")] for error in errors]
    assert ways == [["caller_0"], ["caller_1"], ["caller_2"]]
    assert all("load" in frames(error) for error in errors)


class NotCopyableError(Exception):
    """Needs an argument that `copy` does not know of."""

    def __init__(self, *, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


async def test_an_error_that_cannot_be_copied_reaches_each_waiter(cache: TierCache) -> None:
    """An awkward error class costs nobody the error."""
    source = Source()
    source.error = NotCopyableError(code=7)
    source.close()
    tasks = await callers(function_of(cache, source), 3)

    source.gate.set()
    errors = await results(tasks)

    assert [getattr(error, "code", None) for error in errors] == [7, 7, 7]


async def test_the_traceback_of_an_error_that_cannot_be_copied_does_not_grow(
    cache: TierCache,
) -> None:
    """A shared error object does not gather the frames of waiter after waiter."""
    source = Source()
    source.error = NotCopyableError(code=7)
    source.close()
    value = function_of(cache, source)
    tasks = [asyncio.create_task(raised(value, f"caller_{n}")) for n in range(4)]
    await ticks()

    source.gate.set()
    errors = await results(tasks)

    assert sum(name.startswith("caller") for name in frames(errors[3])) == 1


async def test_cause_and_notes_of_an_error_are_kept(cache: TierCache) -> None:
    """Each waiter sees why, not only what."""
    source, cause = Source(), KeyError("row")
    source.error = LookupError("no such user")
    source.error.__cause__ = cause
    source.error.add_note("while reading users")
    source.close()
    tasks = await callers(function_of(cache, source), 3)

    source.gate.set()
    errors = await results(tasks)

    assert [error.__cause__ for error in errors] == [cause] * 3
    assert [error.__notes__ for error in errors] == [["while reading users"]] * 3


async def test_a_note_of_one_waiter_is_not_seen_by_another(cache: TierCache) -> None:
    """`add_note` writes to the waiter's own error."""
    source = Source()
    source.error = LookupError("no such user")
    source.error.add_note("while reading users")
    source.close()
    tasks = await callers(function_of(cache, source), 3)
    source.gate.set()
    errors = await results(tasks)

    errors[1].add_note("in request 1")

    assert errors[0].__notes__ == errors[2].__notes__ == ["while reading users"]


async def test_a_failed_load_is_tried_again_by_the_next_caller(cache: TierCache) -> None:
    """Errors are not cached."""
    source = Source()
    source.error = LookupError("no such user")
    value = function_of(cache, source)
    with pytest.raises(LookupError):
        await value(1)
    await settled(cache)

    source.error = None

    assert await soon(value(1)) == "v1"


@both_forms
async def test_a_retry_does_not_wait_for_the_lease_of_the_failed_load(
    cache: TierCache, form: Form
) -> None:
    """The lease that stands there is our own, on its way out; no time need pass."""
    source = Source()
    source.error = LookupError("no such user")
    value = form(cache, source)
    with pytest.raises(LookupError):
        await value(1)

    source.error = None

    assert await soon(value(1)) == "v1"


@both_forms
async def test_a_loader_that_cancels_itself_raises_an_error_of_its_own(
    cache: TierCache, form: Form
) -> None:
    """A CancelledError from inside the loader is no cancellation of its callers."""
    source = Source()
    source.error = asyncio.CancelledError()
    source.close()
    tasks = await callers(form(cache, source), 3)

    source.gate.set()

    errors: list[Any] = await results(tasks)
    assert [type(error) for error in errors] == [LoadCancelledError] * 3
    assert "what it awaits" in errors[0].hint


class Stop(BaseException):
    """Not an Exception."""


async def test_a_base_exception_in_a_function_becomes_a_load_error(cache: TierCache) -> None:
    """Waiters get an error that `except Exception` sees; the loop's own are not theirs."""
    source = Source()
    source.error = Stop()
    source.close()
    tasks = await callers(function_of(cache, source), 3)

    source.gate.set()

    errors = await results(tasks)
    assert [type(error) for error in errors] == [LoadCancelledError] * 3
    assert [type(error.__cause__) for error in errors] == [Stop] * 3


async def test_a_base_exception_in_a_method_reaches_its_caller_and_the_next_takes_over(
    alone: TierCache,
) -> None:
    """It ends the life that the load ran in, as it would without a cache."""
    source = Source()
    source.error = Stop()
    source.close()
    tasks = await callers(method_of(alone, source), 2)

    source.error = None
    source.gate.set()

    outcomes = await results(tasks)
    assert [type(outcomes[0]), outcomes[1]] == [Stop, "v1"]


@both_forms
async def test_a_load_that_takes_too_long_is_given_up(
    cache: TierCache, clock: FakeClock, form: Form
) -> None:
    """`load_limit` ends the loader; its waiters get a LoadTimeoutError each."""
    source = Source()
    source.close()
    tasks = await callers(form(cache, source, load_limit=5), 2)

    await clock.advance(5)

    assert [type(error) for error in await results(tasks)] == [LoadTimeoutError] * 2
    assert source.ended == 1


@both_forms
async def test_the_timeout_error_of_a_loader_passes_unchanged(cache: TierCache, form: Form) -> None:
    """A TimeoutError that the loader raises itself is the source's, not ours."""
    source = Source()
    source.error = TimeoutError("the database")

    with pytest.raises(TimeoutError, match="the database") as caught:
        await form(cache, source)(1)

    assert type(caught.value) is TimeoutError


async def test_a_loader_that_is_not_async_is_refused(cache: TierCache) -> None:
    """`get_or_load` says what it needs instead of failing in `await`."""
    not_async: Any = lambda: "v1"  # noqa: E731

    with pytest.raises(UsageError, match="no awaitable"):
        await cache.get_or_load("k", not_async)


async def test_a_loader_that_is_not_async_is_refused_by_a_disabled_cache(
    make_cache: MakeCache,
) -> None:
    """The mistake shows in the same way where caching is switched off."""
    cache = await make_cache(enabled=False)
    not_async: Any = lambda: "v1"  # noqa: E731

    with pytest.raises(UsageError, match="no awaitable"):
        await cache.get_or_load("k", not_async)


# Context.


REQUEST: ContextVar[str] = ContextVar("REQUEST", default="none")


@both_forms
async def test_the_loader_sees_the_context_of_the_first_caller(
    cache: TierCache, form: Form
) -> None:
    """Trace ids and tenants reach the loader as if there were no cache."""

    class Contextual(Source):
        async def load(self) -> str:
            await super().load()
            return REQUEST.get()

    source = Contextual()
    source.close()
    value = form(cache, source)
    tasks = []
    for name in ("first", "second"):
        REQUEST.set(name)
        tasks.append(asyncio.create_task(value(1)))
    await ticks()

    source.gate.set()

    assert await results(tasks) == ["first", "first"]


EAGER: Any = getattr(asyncio, "eager_task_factory", None)
needs_eager_tasks = pytest.mark.skipif(EAGER is None, reason="needs Python 3.12")


@needs_eager_tasks
@both_forms
async def test_eager_tasks_share_one_load(cache: TierCache, form: Form) -> None:
    """With the eager task factory a load may have ended before its caller waits for it."""
    asyncio.get_running_loop().set_task_factory(EAGER)
    source = Source()
    source.close()
    value = form(cache, source)
    tasks = await callers(value, 10)

    source.gate.set()

    assert await results(tasks) == ["v1"] * 10
    await soon(settled(cache))
    assert value.peek(1) == "v1"
    assert source.loads == 1


@needs_eager_tasks
@both_forms
async def test_eager_loads_that_never_wait_are_kept(alone: TierCache, form: Form) -> None:
    """Without L2 an eager load ends before anything else has run."""
    asyncio.get_running_loop().set_task_factory(EAGER)
    source = Source()
    value = form(alone, source)

    assert [await value(1), await value(1)] == ["v1", "v1"]
    assert source.loads == 1


async def test_a_loaded_value_that_cannot_be_stored_is_an_error(
    cache: TierCache, events: Recorder
) -> None:
    """What would work by accident in one tier is refused in all."""
    source = Source(object())

    with pytest.raises(TypeError):
        await function_of(cache, source)(1)

    assert [event.stored for event in events.of(Loaded)] == ["error"]
    assert cache._core.flights.find(KEY) is None
