"""Batches: many ids of a family in one call."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from async_tiercache import LoadContext, Read, TierCache
from async_tiercache.errors import ConfigurationError, UsageError
from async_tiercache.keys import MAX_CHARACTERS, check_text
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.rows import Rows, functions_of, methods_of, named
from tests.core.source import soon, ticks
from tests.core.wire import Wire

both_forms = pytest.mark.parametrize("form", [functions_of, methods_of], ids=["function", "method"])
Form = Callable[..., Any]


@pytest.fixture
def rows() -> Rows:
    return Rows()


# What a call returns.


@both_forms
async def test_a_cold_batch_is_one_load(cache: TierCache, rows: Rows, form: Form) -> None:
    """In the order of the ids, each once."""
    _, many = form(cache, rows)

    found = await soon(many([3, 1, 2, 1]))

    assert list(found.items()) == list(named(3, 1, 2).items())
    assert rows.calls == [[3, 1, 2]]


@both_forms
async def test_only_what_is_missing_is_loaded(cache: TierCache, rows: Rows, form: Form) -> None:
    """What a call for one has stored serves a call for many, and the other way round."""
    row, many = form(cache, rows)
    await row(1)

    assert await soon(many([1, 2])) == named(1, 2)
    assert await row(2) == "row 2"

    assert rows.calls == [[2]]
    assert rows.singles == [1]


@pytest.mark.usefixtures("patient")
async def test_a_warm_batch_is_one_turn(make_cache: MakeCache, server: MemoryServer) -> None:
    """However many keys it has."""
    rows, wire = Rows(), Wire(server)
    _, many = functions_of(await make_cache(), rows)
    await many(list(range(100)))
    reader = await make_cache(client=wire.client)
    await settled(reader)
    _, again = functions_of(reader, rows)

    found = await soon(again(list(range(100))))

    assert found == named(*range(100))
    assert wire.sent.count("MGET") == 1
    assert "GET" not in wire.sent
    assert len(rows.calls) == 1


@pytest.mark.parametrize("max_loads", [None, 1])
async def test_fences_of_a_batch_are_one_turn(
    make_cache: MakeCache, server: MemoryServer, max_loads: int | None
) -> None:
    """They are pipelined, as are the commits behind the callers."""
    rows, wire = Rows(), Wire(server)
    cache = await make_cache(client=wire.client, max_loads=max_loads)
    _, many = functions_of(cache, rows)
    wire.sent.clear()

    await soon(many([1, 2, 3]))
    await settled(cache)

    assert wire.sent == ["MGET", "SET", "SET", "SET", "COMMIT", "COMMIT", "COMMIT"]


async def test_no_ids_ask_nobody(cache: TierCache, rows: Rows) -> None:
    """An empty list is an empty dict."""
    _, many = functions_of(cache, rows)

    assert await soon(many([])) == {}
    assert rows.calls == []


async def test_without_l2_it_is_the_same(alone: TierCache, rows: Rows) -> None:
    """L1 alone serves batches, too."""
    _, many = functions_of(alone, rows)

    assert [await soon(many([1, 2])), await soon(many([2, 1]))] == [named(1, 2), named(2, 1)]
    assert rows.calls == [[1, 2]]


async def test_a_disabled_cache_loads_each_time(make_cache: MakeCache, rows: Rows) -> None:
    """Each id still once per call."""
    _, many = functions_of(await make_cache(enabled=False), rows)

    assert await many([1, 1, 2]) == named(1, 2)
    assert rows.calls == [[1, 2]]


# Absent ids and errors.


@pytest.mark.parametrize("two_tiers", [True, False])
async def test_an_absent_id_is_left_out_and_remembered(
    cache: TierCache, alone: TierCache, rows: Rows, two_tiers: bool
) -> None:
    """For `negative_ttl`; a warm call loads nothing."""
    rows.absent = {2}
    used = cache if two_tiers else alone
    _, many = functions_of(used, rows, negative_ttl=10)

    assert [await soon(many([1, 2])), await soon(many([2, 1]))] == [named(1), named(1)]
    await settled(used)

    assert rows.calls == [[1, 2]]
    assert await used.get("row:2", "nothing") == "nothing"


async def test_an_absent_id_is_known_to_other_processes(
    cache: TierCache, other: TierCache, rows: Rows
) -> None:
    """Through L2."""
    rows.absent = {2}
    await functions_of(cache, rows, negative_ttl=10)[1]([2])
    await settled(cache)

    assert await soon(functions_of(other, rows, negative_ttl=10)[1]([2])) == {}
    assert rows.calls == [[2]]


async def test_without_a_negative_ttl_an_absent_id_is_asked_for_again(
    cache: TierCache, rows: Rows
) -> None:
    """Nothing is kept that nobody asked to be kept."""
    rows.absent = {2}
    _, many = functions_of(cache, rows)

    assert [await soon(many([2])), await soon(many([2]))] == [{}, {}]

    assert rows.calls == [[2], [2]]
    assert cache.statistics("row:{row_id}").not_stored == {"negative": 2}


@both_forms
async def test_a_call_for_one_does_not_take_absence_for_a_value(
    cache: TierCache, rows: Rows, form: Form
) -> None:
    """Its own loader says what an absent id is: an error here. Its answer replaces the absence."""
    rows.absent = {2}
    row, many = form(cache, rows, negative_ttl=10)
    await many([2])
    await settled(cache)

    with pytest.raises(LookupError):
        await soon(row(2))
    rows.absent.clear()

    assert await soon(row(2)) == "row 2"
    await settled(cache)
    assert await soon(many([2])) == named(2)


async def test_a_call_for_one_that_joins_a_batch_with_its_id_absent_loads_itself(
    cache: TierCache, rows: Rows
) -> None:
    """It does not wait for ever either."""
    rows.absent = {2}
    rows.gate.clear()
    row, many = functions_of(cache, rows)
    batch = asyncio.create_task(many([1, 2]))
    await soon(rows.called())
    single = asyncio.create_task(row(2))
    await ticks()

    rows.gate.set()

    assert await soon(batch) == named(1)
    with pytest.raises(LookupError):
        await soon(single)
    assert rows.singles == [2]


async def test_none_is_a_value(cache: TierCache, rows: Rows) -> None:
    """An id that is there with None is there."""
    rows.rows[1] = None
    _, many = functions_of(cache, rows)

    assert [await soon(many([1])), await soon(many([1]))] == [{1: None}, {1: None}]
    assert len(rows.calls) == 1


async def test_a_batch_that_promises_values_leaves_out_the_none_of_a_single_call(
    cache: TierCache,
) -> None:
    """What a batch returns must not depend on who asked first."""

    @cache.cached("row:{row_id}")
    async def row(row_id: int) -> str | None:
        return None

    @row.batch
    async def many(row_ids: list[int]) -> dict[int, str]:
        return {}

    assert await row(1) is None
    await settled(cache)

    assert await many([1]) == {}


@both_forms
async def test_the_error_of_an_id_is_its_own(cache: TierCache, rows: Rows, form: Form) -> None:
    """The others are stored."""
    rows.rows[2] = LookupError("row 2 is locked")
    _, many = form(cache, rows)

    with pytest.raises(LookupError, match="locked"):
        await soon(many([1, 2, 3]))

    assert await soon(many([1, 3])) == named(1, 3)
    assert rows.calls == [[1, 2, 3]]


async def test_the_error_of_an_id_is_raised_where_nothing_is_kept(make_cache: MakeCache) -> None:
    """A cache that is turned off, or a block whose data are not committed, returns no errors."""
    off, on, rows = await make_cache(enabled=False), await make_cache(), Rows()
    rows.rows[2] = LookupError("row 2 is locked")
    _, disabled = methods_of(off, rows)
    _, uncommitted = methods_of(on, rows)

    async def by_key(keys: list[str]) -> dict[str, Any]:
        return {key: rows.rows.get(int(key), "row") for key in keys}

    async with on.after_commit():
        for call in (
            disabled([1, 2, 3]),
            uncommitted([1, 2, 3]),
            off.get_or_load_many(["1", "2"], by_key),
            on.get_or_load_many(["1", "2"], by_key),
        ):
            with pytest.raises(LookupError, match="locked"):
                await call


async def test_calls_by_key_have_what_was_asked_for_where_nothing_is_kept(
    make_cache: MakeCache,
) -> None:
    """In the order of the keys, as at any other time."""
    off, on = await make_cache(enabled=False), await make_cache()

    async def load(keys: list[str]) -> dict[str, int]:
        return {"another": 0, "c": 3, "a": 1}

    async with on.after_commit():
        found = [await cache.get_or_load_many(["a", "b", "c"], load) for cache in (off, on)]
        none = [await cache.get_or_load_many([], load) for cache in (off, on)]

    assert [list(each.items()) for each in found] == [[("a", 1), ("c", 3)]] * 2
    assert none == [{}, {}]


@pytest.mark.parametrize("enabled", [True, False], ids=["enabled", "disabled"])
async def test_a_loader_may_empty_the_list_that_it_is_given(
    make_cache: MakeCache, enabled: bool
) -> None:
    """It is the loader's own, so that what it has loaded is not taken for absent."""
    cache = await make_cache(enabled=enabled)

    async def load(keys: list[str]) -> dict[str, str]:
        found = {}
        while keys:
            key = keys.pop()
            found[key] = key.upper()
        return found

    assert await cache.get_or_load_many(["a", "b"], load) == {"a": "A", "b": "B"}


@both_forms
async def test_the_error_of_a_load_is_raised(cache: TierCache, rows: Rows, form: Form) -> None:
    """Once, as the loader raised it; nothing is left behind."""
    rows.error = ConnectionResetError("gone")
    _, many = form(cache, rows)

    with pytest.raises(ConnectionResetError):
        await soon(many([1, 2]))

    rows.error = None
    assert await soon(many([1, 2])) == named(1, 2)


@pytest.mark.parametrize(
    ("answer", "match"),
    [
        pytest.param([("1", "row")], "list, no mapping", id="list"),
        pytest.param(None, "NoneType, no mapping", id="none"),
        pytest.param({"1": "row 1"}, "asked for 1 and answered for '1'", id="other type of id"),
    ],
)
async def test_what_is_no_answer_is_refused(cache: TierCache, answer: Any, match: str) -> None:
    """Above all ids of another type, which would look absent for ever."""

    @cache.cached("row:{row_id}")
    async def row(row_id: int) -> str:
        raise AssertionError(row_id)

    @row.batch
    async def many(row_ids: list[int]) -> Any:
        return answer

    with pytest.raises(UsageError, match=match):
        await soon(many([1]))


async def test_other_ids_in_the_answer_are_ignored(cache: TierCache) -> None:
    """A loader may know more than it was asked."""

    @cache.cached("row:{row_id}")
    async def row(row_id: int) -> str:
        return f"row {row_id}"

    @row.batch
    async def many(row_ids: list[int]) -> dict[int, str]:
        return named(1, 2, 3)

    assert await many([2]) == named(2)


@pytest.mark.parametrize("ids", ["12", b"12", 12, {1: 2}, [[1]]])
async def test_what_are_no_ids_is_refused(cache: TierCache, rows: Rows, ids: Any) -> None:
    """With a clear error."""
    _, many = functions_of(cache, rows)

    with pytest.raises(UsageError):
        await many(ids)


# What is told.


async def test_a_batch_is_counted_by_id_and_by_load(
    cache: TierCache, events: Recorder, rows: Rows
) -> None:
    """One load, as many misses as ids."""
    _, many = functions_of(cache, rows)

    await many([1, 2])
    await settled(cache)
    await many([1, 2])

    statistics = cache.statistics("row:{row_id}")
    assert (statistics.loads, statistics.misses, statistics.l1_hits) == (1, 2, 2)
    assert [(event.key, event.tier) for event in events.of(Read)] == [
        ("row:1", "loader"),
        ("row:2", "loader"),
    ]


async def test_invalidate_removes_all_ids(cache: TierCache, rows: Rows) -> None:
    """In one turn."""
    _, many = functions_of(cache, rows)
    await many([1, 2, 3])

    report = await many.invalidate([1, 2])

    assert report.l2 == "done"
    await many([1, 2, 3])
    assert rows.calls == [[1, 2, 3], [1, 2]]


# Parameters.


async def test_other_parameters_pass_through(cache: TierCache) -> None:
    """They stand in the key as they do for one id."""
    calls: list[Any] = []

    @cache.cached("name:{user_id}:{language}")
    async def name(user_id: int, *, language: str = "en") -> str:
        raise AssertionError(user_id)

    @name.batch
    async def names(user_ids: set[int], *, language: str = "en") -> dict[int, str]:
        calls.append((user_ids, language))
        return {user_id: f"{user_id} in {language}" for user_id in user_ids}

    assert await names({1}, language="de") == {1: "1 in de"}
    assert await names({1}) == {1: "1 in en"}
    assert await name(1, language="de") == "1 in de"
    assert calls == [({1}, "de"), ({1}, "en")]


async def test_over_names_the_parameter(cache: TierCache) -> None:
    """Where it cannot be told from the names."""

    @cache.cached("{a}:{b}")
    async def pair(a: int, b: int) -> str:
        raise AssertionError(a, b)

    @pair.batch(over="b")
    async def pairs(a: int, many: list[int]) -> dict[int, str]:
        return {b: f"{a}-{b}" for b in many}

    assert await pairs(1, [2, 3]) == {2: "1-2", 3: "1-3"}
    assert await pair(1, 2) == "1-2"


async def test_a_batch_loader_may_take_a_context(cache: TierCache, clock: FakeClock) -> None:
    """What it says holds for all of its values."""
    calls: list[list[int]] = []

    @cache.cached("row:{row_id}", ttl=100, jitter=0)
    async def row(row_id: int) -> str:
        raise AssertionError(row_id)

    @row.batch
    async def many(row_ids: list[int], context: LoadContext = LoadContext()) -> dict[int, str]:
        calls.append(row_ids)
        context.ttl = 5
        return named(*row_ids)

    await many([1, 2])
    await settled(cache)
    await clock.advance(6)
    await many([1, 2])

    assert calls == [[1, 2], [1, 2]]


async def test_the_context_of_a_batch_may_stand_anywhere(cache: TierCache) -> None:
    """With a default or without: callers do not pass it."""

    class Repository:
        @cache.cached("row:{row_id}:{lang}")
        async def row(self, row_id: int, lang: str = "en") -> str:
            raise AssertionError(row_id)

        @row.batch
        async def rows(
            self, context: LoadContext, row_ids: list[int], lang: str = "en"
        ) -> dict[int, str]:
            assert isinstance(context, LoadContext)
            return {row_id: f"{row_id} {lang}" for row_id in row_ids}

    rows: Any = Repository().rows

    assert await rows([1, 2], lang="fr") == {1: "1 fr", 2: "2 fr"}
    assert await rows(row_ids=[1]) == {1: "1 en"}
    assert (await rows.invalidate([1])).l1 == "done"


@pytest.mark.parametrize("enabled", [True, False], ids=["on", "off"])
async def test_a_loader_by_key_gets_the_keys_that_were_given(
    make_cache: MakeCache, enabled: bool
) -> None:
    """Also those that the tiers know by a shorter text, and two that have one text in common."""
    cache = await make_cache(enabled=enabled)
    long = "x" * (MAX_CHARACTERS + 1)
    asked: list[list[str]] = []

    async def load(keys: list[str]) -> dict[str, int]:
        asked.append(keys)
        return {key: 1 for key in keys if key != "none"}

    assert await cache.get_or_load_many([long, "none", "a"], load) == {long: 1, "a": 1}
    assert await cache.get_or_load_many([check_text(long), long], load) == {
        check_text(long): 1,
        long: 1,
    }
    assert asked[0] == [long, "none", "a"]
    assert asked[1:] == ([] if enabled else [[long]])


def test_loaders_that_do_not_fit_are_refused() -> None:
    """When they are decorated, with what to write instead."""
    cache = TierCache(namespace="test")

    @cache.cached("{a}:{b}")
    async def pair(a: int, b: int) -> str:
        raise AssertionError(a, b)

    async def same(a: int, b: int) -> dict[int, str]:
        raise AssertionError

    async def wrong(a: int, many: list[str]) -> dict[int, str]:
        raise AssertionError

    async def one(a: int, many: int) -> dict[int, str]:
        raise AssertionError

    async def a_list(a: int, many: list[int]) -> list[str]:
        raise AssertionError

    def waits_for_nothing(a: int, many: list[int]) -> dict[int, str]:
        raise AssertionError

    async def method(self: Any, a: int, many: list[int]) -> dict[int, str]:
        raise AssertionError

    async def fits(a: int, many: list[int]) -> dict[int, str]:
        raise AssertionError

    decorate: Any = pair.batch
    for loader in (same, wrong, one, a_list, waits_for_nothing, method):
        with pytest.raises(ConfigurationError) as caught:
            decorate(loader)
        assert caught.value.hint
    with pytest.raises(ConfigurationError, match=r"@pair\.batch"):
        decorate("a")
    with pytest.raises(ConfigurationError, match="no parameter"):
        pair.batch(over="c")(fits)
    pair.batch(fits)
    with pytest.raises(ConfigurationError, match="already"):
        pair.batch(fits)
