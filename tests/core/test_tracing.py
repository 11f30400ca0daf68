"""Tracers: which operations they see, in which order, and that they harm nobody."""

import asyncio
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from async_tiercache import Operation, TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.rows import Rows, functions_of
from tests.core.source import Source, function_of, soon, ticks

SPAN: ContextVar[str] = ContextVar("span", default="")


class Spans:
    """Remembers operations as a tracer would: each inside the one in whose context it began.

    Attributes:
        seen: Names with those they are inside of, in the order of their ends.
        operations: The operations themselves, in the same order.
    """

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.operations: list[Operation] = []

    @contextmanager
    def around(self, operation: Operation) -> Iterator[None]:
        """Note an operation."""
        name = f"{SPAN.get()}/{operation.name}" if SPAN.get() else operation.name
        operation.span = name
        token = SPAN.set(name)
        try:
            yield
        except BaseException as error:
            name += f" {type(error).__name__}"
            raise
        finally:
            SPAN.reset(token)
            self.seen.append(name)
            self.operations.append(operation)


@pytest.fixture
def spans() -> Spans:
    return Spans()


@pytest.fixture
async def traced(make_cache: MakeCache, spans: Spans) -> TierCache:
    """Return a cache whose operations are remembered."""
    return await make_cache(tracer=spans)


async def test_a_miss_is_a_get_with_a_load_inside(traced: TierCache, spans: Spans) -> None:
    """The store behind the caller belongs to it as well."""
    value = function_of(traced, Source())

    await value(1)
    await settled(traced)

    assert spans.seen == ["get/load", "get", "get/put"]
    load, get, put = spans.operations
    assert (get.family, get.keys, get.tier, get.state) == (
        "value:{key}",
        ("value:1",),
        "loader",
        "fresh",
    )
    assert (load.keys, put.stored, get.loads) == (("value:1",), "l2", ())


async def test_an_l1_hit_is_no_operation(traced: TierCache, spans: Spans) -> None:
    """It would cost more than the hit."""
    value = function_of(traced, Source())
    await value(1)
    await settled(traced)
    spans.seen.clear()

    await value(1)
    await traced.get("value:1")

    assert spans.seen == []


async def test_an_l2_hit_is_a_get(traced: TierCache, other: TierCache, spans: Spans) -> None:
    """That says so."""
    await function_of(other, Source())(1)
    await settled(other)

    await function_of(traced, Source())(1)

    assert spans.seen == ["get"]
    assert spans.operations[0].tier == "l2"


async def test_the_loaders_own_work_is_inside_its_load(traced: TierCache) -> None:
    """So that the spans of a database driver nest."""
    seen: list[str] = []

    @traced.cached("value:{key}")
    async def value(key: int) -> int:
        seen.append(SPAN.get())
        return key

    await value(1)

    assert seen == ["get/load"]


async def test_who_joins_a_load_is_told_which(traced: TierCache, spans: Spans) -> None:
    """It is inside the get of its first caller; the others can link to it."""
    source = Source()
    source.close()
    value = function_of(traced, source)
    calls = [asyncio.create_task(value(1)) for _ in range(2)]
    await soon(source.loading())
    await ticks()
    source.gate.set()
    await soon(asyncio.gather(*calls))
    await settled(traced)

    [load] = [each for each in spans.operations if each.name == "load"]
    joined = [each.loads for each in spans.operations if each.name == "get"]
    assert sorted(joined, key=len) == [(), (load,)]
    assert load.span == "get/load"


async def test_a_batch_is_one_get_and_one_load(traced: TierCache, spans: Spans) -> None:
    """With the keys of all its ids."""
    _, many = functions_of(traced, Rows())

    await many([1, 2])
    await settled(traced)

    assert spans.seen == ["get/load", "get", "get/put", "get/put"]
    assert spans.operations[0].keys == spans.operations[1].keys == ("row:1", "row:2")


async def test_waiting_for_another_process_is_an_operation(
    traced: TierCache, server: MemoryServer, clock: FakeClock, spans: Spans
) -> None:
    """It may take as long as the other's load."""
    await server.client().set("test:{value:1}", b"L" + bytes(16))
    call = asyncio.create_task(function_of(traced, Source())(1))
    await ticks()
    await server.client().delete("test:{value:1}")
    await clock.advance(1)
    await soon(call)
    await settled(traced)

    assert spans.seen == ["get/wait", "get/load", "get", "get/put"]


async def test_invalidations_and_puts_are_operations(traced: TierCache, spans: Spans) -> None:
    """With what L2 said."""
    await traced.set("k", 1)
    await traced.invalidate(keys=["k", "l"])

    assert spans.seen == ["put", "invalidate"]
    put, invalidate = spans.operations
    assert (put.keys, put.stored) == (("k",), "done")
    assert (invalidate.keys, invalidate.stored) == (("k", "l"), "done")


async def test_an_error_passes_through(traced: TierCache, spans: Spans) -> None:
    """The load's and the get's."""
    source = Source()
    source.error = LookupError()

    with pytest.raises(LookupError):
        await function_of(traced, source)(1)

    assert spans.seen == ["get/load LookupError", "get LookupError"]


class Broken:
    """A tracer that raises."""

    def __init__(self, where: str) -> None:
        self.where = where

    def around(self, operation: Operation) -> AbstractContextManager[object]:
        """Raise here or later."""
        if self.where == "around":
            raise ValueError(self.where)
        return self

    def __enter__(self) -> None:
        if self.where == "enter":
            raise ValueError(self.where)

    def __exit__(self, *error: object) -> bool:
        if self.where == "exit":
            raise ValueError(self.where)
        return self.where == "swallow"


@pytest.mark.parametrize("where", ["around", "enter", "exit", "swallow"])
async def test_a_broken_tracer_harms_nobody(
    make_cache: MakeCache, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    """What it raises is logged; what it swallows is raised."""
    broken: Any = Broken(where)
    cache, source = await make_cache(tracer=broken), Source()
    value = function_of(cache, source)

    assert await value(1) == "v1"
    source.error = LookupError()
    with pytest.raises(LookupError):
        await value(2)
    await settled(cache)

    logged = [record for record in caplog.records if "tracer" in record.getMessage()]
    assert bool(logged) == (where != "swallow")
