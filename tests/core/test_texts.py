"""L1 holds no text of a key that the arguments of a call tell; what has the text finds it still."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest

from async_tiercache import MISSING, TierCache
from async_tiercache.backends.slot import Slot
from async_tiercache.testing import settled
from tests.conftest import MakeCache
from tests.core.source import Source, function_of

VALUES: tuple[Any, ...] = (
    0,
    -7,
    10**40,
    True,
    None,
    "a",
    "a:b%",
    "42",
    "",
    "ž",
    b"\x00",
    UUID(int=3),
)
"""Of all classes whose equal values have equal texts."""


def slots_of(cache: TierCache) -> list[Slot]:
    assert cache._core.store is not None
    return list(cache._core.store)


def bare(cache: TierCache) -> Any:
    @cache.cached("bare:{x}")
    async def function(x: Any) -> str:
        return repr(x)

    return function


def turned(cache: TierCache) -> Any:
    """Its text has the parameters in another order, one of them twice, and one that is guarded."""

    @cache.cached("100:{y}:{x}:{y}:end")
    async def other(x: Any, y: int = 5) -> str:
        return repr((x, y))

    return other


def without_template(cache: TierCache) -> Any:
    return cache.cached()(untold)


async def untold(x: Any) -> str:
    return repr(x)


def method(cache: TierCache) -> Any:
    class Rows:
        @cache.cached("rows:{x}")
        async def get(self, x: Any) -> str:
            return repr(x)

    return Rows().get


def flagged(cache: TierCache) -> Any:
    """Its second argument stands in no key of its tables, but in the text."""

    @cache.cached("{full}:rows:{x}:{full}")
    async def function(x: Any, full: bool = True) -> str:
        return repr((x, full))

    return function


@pytest.mark.parametrize("tenant", [None, "acme"])
@pytest.mark.parametrize("function_in", [bare, turned, without_template, method, flagged])
async def test_each_is_found_by_the_text_of_its_key(
    make_cache: MakeCache, function_in: Callable[[TierCache], Any], tenant: str | None
) -> None:
    """By `get`, and by an invalidation of the key, whatever the arguments are."""
    cache = await make_cache(tenant=tenant)
    function = function_in(cache)
    for value in VALUES:
        await function(value)
    await settled(cache)
    slots, told = slots_of(cache), {function.key(value): await function(value) for value in VALUES}

    assert [slot.named for slot in slots] == [False] * len(VALUES)
    assert {slot.key.rpartition("?")[2] for slot in slots} == set(told)
    assert {key: await cache.get(key) for key in told} == told
    assert [slot.named for slot in slots_of(cache)] == [True] * len(VALUES)
    for value in VALUES[::2]:
        await cache.invalidate(keys=[function.key(value)])
    assert [function.peek(value) is MISSING for value in VALUES] == [True, False] * 6


async def test_a_key_that_was_shortened_is_found(alone: TierCache) -> None:
    """Its text cannot be made of the arguments again, so L1 holds it."""
    function = bare(alone)
    long = "x" * 600

    await function(long)
    await settled(alone)

    (slot,) = slots_of(alone)
    assert slot.named
    assert await alone.get(function.key(long)) == function.peek(long) == repr(long)


async def test_an_invalidation_elsewhere_reaches_it(make_cache: MakeCache) -> None:
    """The message has the text of the key."""
    cache, other = await make_cache(), await make_cache()
    source = Source("old")
    value = function_of(cache, source)
    for _ in range(2):
        await value(1)
        await settled(cache)
    (slot,) = slots_of(cache)
    assert not slot.named

    source.value = "new"
    await other.invalidate(keys=[value.key(1)])
    await settled(cache)

    assert slots_of(cache) == []
    assert await value(1) == "new"


async def test_what_another_function_stores_takes_its_place(alone: TierCache) -> None:
    """Two functions with one template have one entry, which one of them finds by its arguments."""
    one, other = bare(alone), bare(alone)
    await one(1)
    await settled(alone)

    await other.put("put", 1)

    assert len(slots_of(alone)) == 1
    assert await one(1) == await other(1) == await alone.get("bare:1") == "put"


async def test_a_batch_is_answered_from_entries_that_calls_have_left(alone: TierCache) -> None:
    """It asks by texts; the next one finds them at once."""
    loads = list[list[int]]()

    @alone.cached("row:{number}")
    async def row(number: int) -> str:
        return f"row {number}"

    @row.batch
    async def rows(numbers: list[int]) -> dict[int, str]:
        loads.append(numbers)
        return {each: f"row {each}" for each in numbers}

    await row(1)
    await settled(alone)

    for _ in range(2):
        assert await rows([1]) == {1: "row 1"}
        assert [slot.named for slot in slots_of(alone)] == [True]
    assert loads == []


@pytest.mark.parametrize("flag", [True, False])
async def test_a_flag_that_no_table_holds_is_in_the_text(alone: TierCache, flag: bool) -> None:
    """Whether it is the only parameter of the key, one of two or one of several."""

    @alone.cached("only:{flag}")
    async def only(*, flag: bool) -> bool:
        return flag

    @alone.cached("two:{x}:{flag}")
    async def two(x: int, *, flag: bool) -> bool:
        return flag

    @alone.cached("three:{flag}:{y}:{x}")
    async def three(x: int, y: str, *, flag: bool) -> bool:
        return flag

    for call in (only(flag=flag), two(1, flag=flag), three(1, "b", flag=flag)):
        assert await call is flag
    assert not any(slot.named for slot in slots_of(alone))

    for key in (only.key(flag=flag), two.key(1, flag=flag), three.key(1, "b", flag=flag)):
        assert await alone.get(key) is flag
        assert await alone.get(key.replace(str(flag), str(not flag)), "nothing") == "nothing"


async def test_nothing_of_a_key_outlives_its_entry(make_cache: MakeCache) -> None:
    """Once all have expired no row has a slot, no dict a text, no alias table arguments."""
    cache = await make_cache(client=None)
    function = bare(cache)
    for number in range(100):
        await function(number)
    await settled(cache)
    store = cache._core.store
    assert store is not None
    assert store.index.length == 100

    for slot in slots_of(cache):
        assert store.get(slot.key, slot.deadline) is None

    table = function.__tiercache__._table.alias(None, (0,))[0].slots
    assert (len(store), store.index.length, store.slots, table) == (0, 0, {}, {})
    assert set(store.index._rows) == {None}
