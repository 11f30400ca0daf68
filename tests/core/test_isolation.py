"""Isolation: who may change a value that the cache has handed out."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from async_tiercache import Mutated, TierCache
from async_tiercache.errors import ConfigurationError
from async_tiercache.testing import FakeClock, Recorder, settled
from tests.core.rows import Rows, functions_of
from tests.core.source import Source, function_of, method_of, soon, ticks

Form = Callable[..., Any]


async def test_a_shared_value_is_one_object(cache: TierCache) -> None:
    """The default, and the cheapest."""
    value = function_of(cache, Source({"a": 1}))
    await value(1)
    await settled(cache)

    assert await value(1) is await value(1)


@pytest.mark.parametrize("form", [function_of, method_of], ids=["function", "method"])
@pytest.mark.parametrize("tiers", ["both", "L1 alone"])
async def test_each_caller_gets_a_copy(
    cache: TierCache, alone: TierCache, form: Form, tiers: str
) -> None:
    """By whichever way it reads, whoever it shares a load with."""
    used = cache if tiers == "both" else alone
    source = Source({"a": [1]})
    source.close()
    value = form(used, source, isolation="copy")
    calls = [asyncio.create_task(value(1)) for _ in range(3)]
    await soon(source.loading())
    await ticks()
    source.gate.set()

    for found in await soon(asyncio.gather(*calls)):
        assert found == {"a": [1]}
        found["a"].append(2)
    await settled(used)
    for read in (lambda: value(1), lambda: used.get("value:1")):
        found = await read()
        assert found == {"a": [1]}
        found["a"].append(2)
    value.peek(1)["a"].append(2)
    assert await value(1) == {"a": [1]}
    assert source.loads == 1


async def test_a_batch_gives_copies_too(cache: TierCache) -> None:
    """From a load, from another call's load, and from L1."""
    rows = Rows()
    rows.rows = {1: [1]}
    rows.gate.clear()
    _, many = functions_of(cache, rows, isolation="copy")
    calls = [asyncio.create_task(many([1])) for _ in range(2)]
    await soon(rows.called())
    await ticks()
    rows.gate.set()

    for found in await soon(asyncio.gather(*calls)):
        found[1].append(2)
    await settled(cache)
    (await many([1]))[1].append(2)

    assert await many([1]) == {1: [1]}


async def test_a_stale_value_is_copied_for_each(cache: TierCache, clock: FakeClock) -> None:
    """Also what is offered while a refresh goes on."""
    source = Source([1])
    value = function_of(cache, source, isolation="copy", ttl=10, grace=100, l1_ttl=100, early=0)
    await value(1)
    await settled(cache)
    await clock.advance(20)
    source.error = ConnectionResetError()
    source.close()
    calls = [asyncio.create_task(value(1)) for _ in range(3)]
    await soon(source.loading())
    source.gate.set()

    found = await soon(asyncio.gather(*calls))

    assert found == [[1]] * 3
    assert len({id(each) for each in found}) == 3


async def change(cache: TierCache, **options: Any) -> Any:
    value = function_of(cache, Source([1]), isolation="check", **options)
    found = await value(1)
    await settled(cache)
    found.append(2)
    return value


@pytest.mark.parametrize("ending", ["close", "invalidate", "replace", "expire"])
async def test_a_changed_value_is_told_of_when_it_leaves(
    cache: TierCache,
    clock: FakeClock,
    events: Recorder,
    caplog: pytest.LogCaptureFixture,
    ending: str,
) -> None:
    """However it leaves L1."""
    value = await change(cache)
    if ending == "invalidate":
        await value.invalidate(1)
    elif ending == "replace":
        await value.put([3], 1)
    elif ending == "expire":
        await clock.advance(1000)
        await value(1)
    else:
        await cache.aclose()

    assert events.of(Mutated) == [Mutated("value:1")]
    assert any("'value:1' was changed" in record.getMessage() for record in caplog.records)


async def test_a_value_that_nobody_changed_is_not_told_of(
    cache: TierCache, events: Recorder
) -> None:
    """Nor one that is not checked."""
    for isolation in ("check", "share"):
        value = function_of(cache, Source([1]), isolation=isolation)
        await value(1)
        await settled(cache)
        if isolation == "share":
            (await value(1)).append(2)
        await value.invalidate(1)

    assert events.of(Mutated) == []


def test_isolation_is_one_of_three(alone: TierCache) -> None:
    """Nothing else."""
    options: Any = {"isolation": "deep"}
    with pytest.raises(ConfigurationError, match="isolation"):
        alone.cached("v", **options)


@pytest.mark.parametrize("isolation", ["copy", "check"])
async def test_what_is_absent_is_remembered_in_isolation(
    cache: TierCache, events: Recorder, isolation: Any
) -> None:
    """It has no value to copy or to check."""
    rows = Rows()
    rows.absent = {1}
    row, many = functions_of(cache, rows, isolation=isolation, negative_ttl=60)
    for _ in range(2):
        assert await soon(many([1, 2])) == {2: "row 2"}
        await soon(settled(cache))
    await row.invalidate(1)

    assert rows.calls == [[1, 2]]
    assert events.of(Mutated) == []


async def test_a_get_by_key_that_joins_a_load_gets_a_copy(cache: TierCache) -> None:
    """The isolation is the family's."""
    source = Source([1])
    source.close()
    calling = asyncio.create_task(function_of(cache, source, isolation="copy")(1))
    await soon(source.loading())
    getting = asyncio.create_task(cache.get("value:1"))
    await ticks()
    source.gate.set()
    called, got = await soon(asyncio.gather(calling, getting))

    assert called == got == [1]
    assert called is not got


async def test_what_a_get_by_key_keeps_is_copied_for_each_caller(
    cache: TierCache, other: TierCache
) -> None:
    """It knows of no function, so what any function of the same schema wants counts."""
    value = function_of(cache, Source([1]), isolation="copy")
    await value(1)
    await settled(cache)
    value = function_of(other, Source([2]), isolation="copy")

    assert await other.get("value:1") == [1]
    (await value(1)).append(2)
    assert await value(1) == [1]


async def test_a_set_in_another_order_is_not_taken_for_a_changed_one(
    cache: TierCache, other: TierCache, events: Recorder
) -> None:
    """Another process stores it in the order that it has there."""
    stored = set()
    for number in (0, 9, 8):
        stored.add(number)
    # What was in the way of 8 is not there any more when the others are read back.
    stored.remove(0)
    assert list(stored) != list(set(iter(stored)))
    await function_of(other, Source(stored), isolation="check")(1)
    await settled(other)
    value = function_of(cache, Source(), isolation="check")
    assert await value(1) == {8, 9}
    await value.invalidate(1)

    assert events.of(Mutated) == []


async def test_a_type_that_is_defined_later_can_be_checked(
    cache: TierCache, events: Recorder
) -> None:
    """Its codec is not known yet when the function is decorated."""

    @cache.cached("later:{key}", isolation="check")
    async def later(key: int) -> "list[Later]":
        return [Later(key)]

    found = await later(1)
    await settled(cache)
    found.append(Later(2))
    await later.invalidate(1)

    assert [event.key for event in events.of(Mutated)] == ["later:1"]


@dataclass
class Later:
    number: int
