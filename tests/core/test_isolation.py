"""Isolation: who may change a value that the cache has handed out."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from async_tiercache import Mutated, Policy, TierCache
from async_tiercache._entry import Entry, Header
from async_tiercache._family import Family
from async_tiercache._options import Limits
from async_tiercache.backends.memory import CheckedSlot
from async_tiercache.codecs.typed import codec_for
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


def test_a_set_from_another_process_is_not_taken_for_changed() -> None:
    """Its items may stand in another order there; what is checked is this process's object."""
    codec = codec_for(set[str])
    payload = codec.encode({"a"})
    value = {f"item {n}" for n in range(50)}
    family = Family("family", Limits.of(Policy(isolation="check")), codec)
    slot = CheckedSlot("k")
    header = Header(bytes(16), 0, 1, 1, 0, codec.fingerprint)

    slot.fill(family, Entry(value, header, 1, payload), soft_deadline=1, deadline=1)

    assert slot.is_sound()
    value.add("another")
    assert not slot.is_sound()
