"""`LoadContext`: what a loader says about its value."""

from collections.abc import Callable
from typing import Any

import pytest

from async_tiercache import MISSING, LoadContext, Loaded, TierCache
from async_tiercache.errors import ConfigurationError, UsageError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import soon
from tests.core.wire import Wire

Say = Callable[[LoadContext], Any]


def speaking(cache: TierCache, say: Say, **options: Any) -> Any:
    """Return a cached function whose loader speaks to its context; it counts its loads."""
    options = {"ttl": 100, "l1_ttl": 1000, "jitter": 0, "early": 0} | options

    @cache.cached("value:{key}", **options)
    async def value(key: int, context: LoadContext = LoadContext()) -> Any:
        value.loads += 1  # type: ignore[attr-defined]
        return say(context)

    value.loads = 0  # type: ignore[attr-defined]
    return value


async def test_a_ttl_of_the_loader_wins(cache: TierCache, clock: FakeClock) -> None:
    """Over the policy's, shorter or longer."""

    def short(context: LoadContext) -> str:
        context.ttl = "10s"
        return "v"

    value = speaking(cache, short)
    await value(1)
    await settled(cache)
    await clock.advance(9)
    await value(1)
    assert value.loads == 1

    await clock.advance(2)
    await value(1)

    assert value.loads == 2


async def test_a_skipped_value_reaches_its_waiters_only(cache: TierCache, other: TierCache) -> None:
    """No tier keeps it."""

    def skip(context: LoadContext) -> str:
        context.skip()
        return "v"

    value = speaking(cache, skip)

    assert [await value(1), await value(1)] == ["v", "v"]
    await settled(cache)

    assert value.loads == 2
    assert await other.get("value:1", None) is None
    assert cache.statistics().not_stored == {"skipped": 2}


async def test_a_skipped_refresh_leaves_nothing_older(cache: TierCache, clock: FakeClock) -> None:
    """Its caller has seen the new value."""
    skipping = False

    def say(context: LoadContext) -> str:
        if skipping:
            context.skip()
        return "new" if skipping else "old"

    value = speaking(cache, say, grace=1000)
    await value(1)
    await settled(cache)
    await clock.advance(150)
    skipping = True

    assert await value(1) == "new"
    await clock.advance(1)
    await settled(cache)

    assert await cache.get("value:1", None, stale=True) is None


async def test_a_negative_value_is_kept_as_a_none_would_be(
    cache: TierCache, clock: FakeClock
) -> None:
    """For an empty list that is as good as nothing."""

    def nothing(context: LoadContext) -> list[int]:
        context.negative()
        return []

    value = speaking(cache, nothing, negative_ttl=5)
    await value(1)
    await settled(cache)
    await clock.advance(6)

    assert await value(1) == []
    assert value.loads == 2


async def test_a_first_load_has_nothing_stale(cache: TierCache) -> None:
    """And nothing to leave as it is."""
    seen: list[Any] = []

    def look(context: LoadContext) -> str:
        seen.append((context.stale_value, context.etag, context.ttl))
        return str(context.not_modified())

    value = speaking(cache, look)

    with pytest.raises(UsageError, match="without a stale value"):
        await value(1)

    assert seen == [(MISSING, "", None)]


@pytest.mark.parametrize("l1_ttl", [1000, 1], ids=["in L1", "in L2 alone"])
async def test_what_is_not_modified_is_fresh_again_without_being_sent(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, other: TierCache, l1_ttl: float
) -> None:
    """The loader sees the stale value and its etag; L2 gets new times and no value."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    seen: list[Any] = []

    def conditional(context: LoadContext) -> Any:
        seen.append((context.stale_value, context.etag))
        if context.etag:
            return context.not_modified()
        context.etag = 'W/"1"'
        return "v"

    value = speaking(cache, conditional, grace=1000, l1_ttl=l1_ttl)
    await value(1)
    await settled(cache)
    for _ in range(3):
        await clock.advance(150)
        wire.sent.clear()
        assert await soon(value(1)) == "v"
        await settled(cache)
        assert "COMMIT" not in wire.sent
        assert wire.sent[-1] == "STAMP"

    assert seen == [(MISSING, ""), *[("v", 'W/"1"')] * 3]
    await clock.advance(50)
    assert await other.get("value:1") == "v"
    assert value.loads == 4


@pytest.mark.parametrize("age", [0, 50, 150])
async def test_a_refresh_that_was_asked_for_may_find_that_nothing_has_changed(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, other: TierCache, age: float
) -> None:
    """It shows the loader what L2 holds, and sends new times; after an invalidation, nothing."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    seen: list[Any] = []

    def conditional(context: LoadContext) -> Any:
        seen.append((context.stale_value, context.etag))
        if context.etag:
            return context.not_modified()
        context.etag = "1"
        return "v"

    value = speaking(cache, conditional, grace=1000)
    await value(1)
    await settled(cache)
    await clock.advance(age)
    wire.sent.clear()
    assert await soon(value.refresh(1)) == "v"
    await settled(cache)

    assert wire.sent[-1] == "STAMP"
    await clock.advance(99)
    assert (await value(1), len(seen)) == ("v", 2)
    assert await other.get("value:1") == "v"
    await other.invalidate(keys=["value:1"])
    await value.refresh(1)
    assert seen == [(MISSING, ""), ("v", "1"), (MISSING, "")]


async def test_a_refresh_without_l2_shows_what_memory_holds(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """Nothing else can tell its loader what there is; after an invalidation there is nothing."""
    cache = await make_cache(client=None)
    seen: list[Any] = []

    def conditional(context: LoadContext) -> Any:
        seen.append((context.stale_value, context.etag))
        context.etag = "1"
        return "v" if context.stale_value is MISSING else context.not_modified()

    value = speaking(cache, conditional)
    await value(1)
    await settled(cache)
    await clock.advance(50)
    assert await value.refresh(1) == "v"
    await clock.advance(99)
    assert (await value(1), len(seen)) == ("v", 2)
    await cache.invalidate(keys=["value:1"])
    await value.refresh(1)
    assert seen == [(MISSING, ""), ("v", "1"), (MISSING, "")]


async def test_a_new_etag_is_stored(cache: TierCache, other: TierCache, clock: FakeClock) -> None:
    """With not_modified or with a new value."""
    etags: list[str] = []

    def counting(context: LoadContext) -> Any:
        etags.append(context.etag)
        context.etag = str(len(etags))
        return "v" if context.stale_value is MISSING else context.not_modified()

    for used in (cache, other, cache):
        await speaking(used, counting, grace=1000)(1)
        await settled(used)
        await clock.advance(150)

    assert etags == ["", "1", "2"]


async def test_a_new_value_does_not_inherit_the_etag_of_the_old_one(
    cache: TierCache, clock: FakeClock
) -> None:
    """The source may come back to the state that it names, and would say "not modified"."""
    etags: list[str] = []

    def forgetful(context: LoadContext) -> str:
        etags.append(context.etag)
        if context.stale_value is MISSING:
            context.etag = "1"
        return f"v{len(etags)}"

    value = speaking(cache, forgetful, grace=1000)
    for _ in range(3):
        await value(1)
        await settled(cache)
        await clock.advance(150)

    assert etags == ["", "1", ""]


async def test_not_modified_after_an_invalidation_elsewhere_is_overtaken(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """New times are a write like any other: the id of the entry is compared."""

    class Source:
        async def ask(self, context: LoadContext) -> Any:
            if context.stale_value is MISSING:
                return "old"
            await other.invalidate(keys=["value:1"])
            return context.not_modified()

    source = Source()

    @cache.cached("value:{key}", ttl=100, grace=1000, early=0)
    async def value(key: int, context: LoadContext = LoadContext()) -> Any:
        return await source.ask(context)

    await value(1)
    await settled(cache)
    await clock.advance(150)
    await value(1)
    await settled(cache)

    assert await other.get("value:1", None, stale=True) is None
    assert await cache.get("value:1", None, stale=True) is None


async def test_another_value_than_the_stale_one_is_refused(
    cache: TierCache, clock: FakeClock, events: Recorder
) -> None:
    """not_modified() says that it is the same."""

    def confused(context: LoadContext) -> str:
        if context.stale_value is not MISSING:
            context.not_modified()
            return "other"
        return "v"

    value = speaking(cache, confused, grace=1000)
    await value(1)
    await settled(cache)
    await clock.advance(150)

    assert await value(1) == "v"
    assert "another value" in str(events.of(Loaded)[-1].error)


async def test_direct_loads_may_take_a_context(cache: TierCache, clock: FakeClock) -> None:
    """By position."""
    loads = 0

    async def load(context: LoadContext) -> str:
        nonlocal loads
        loads += 1
        context.ttl = 5
        return "v"

    for _ in range(2):
        assert await cache.get_or_load("k", load) == "v"
        await settled(cache)
        await clock.advance(6)

    assert loads == 2


async def test_callers_do_not_pass_it_and_it_is_no_part_of_the_key(cache: TierCache) -> None:
    """In methods, among keywords, with annotations as text."""

    class Repository:
        @cache.cached("row:{row_id}:{deep}")
        async def row(
            self,
            row_id: int,
            *,
            context: "LoadContext" = LoadContext(),
            deep: bool = False,
        ) -> str:
            assert isinstance(context, LoadContext)
            return f"{row_id} {deep}"

    repository = Repository()

    assert await repository.row(1, deep=True) == "1 True"
    assert repository.row.key(1, deep=True) == "row:1:True"
    with pytest.raises(TypeError):
        await repository.row(1, context=LoadContext())


async def test_the_context_may_stand_anywhere(cache: TierCache) -> None:
    """Callers pass the others as if it were not there."""

    class Repository:
        @cache.cached("row:{row_id}:{rest}")
        async def row(self, context: LoadContext, row_id: int, *rest: int) -> str:
            assert isinstance(context, LoadContext)
            return f"{row_id} {rest}"

    @cache.cached("order:{order_id}:{lang}:{options}")
    async def order(
        order_id: int,
        context: LoadContext = LoadContext(),
        lang: str = "en",
        **options: int,
    ) -> str:
        assert isinstance(context, LoadContext)
        return f"{order_id} {lang} {options}"

    row: Any = Repository().row

    assert await row(1, 2, 3) == "1 (2, 3)"
    assert await row(row_id=1) == "1 ()"
    assert await order(1, lang="fr", page=2) == "1 fr {'page': 2}"
    assert row.key(1, 2) == "row:1:t[2]"


async def test_the_default_may_be_none(cache: TierCache, clock: FakeClock) -> None:
    """For those whose linter wants no call there; the cache always passes one."""
    seen: list[Any] = []

    @cache.cached("value:{key}")
    async def value(key: int, context: LoadContext | None = None) -> int:
        seen.append(context)
        return key

    assert await value(1) == 1
    assert isinstance(seen[0], LoadContext)


def test_a_context_must_have_a_name(alone: TierCache) -> None:
    """And be the only one."""
    with pytest.raises(ConfigurationError, match="one name"):

        @alone.cached("v")
        async def value(context: LoadContext, /) -> None:
            raise AssertionError


@pytest.mark.parametrize("ttl", [0, -1, "soon", 1_790_000_000_000])
def test_a_ttl_must_be_one(ttl: Any) -> None:
    """Zero is `skip`; what a policy refuses is refused here."""
    with pytest.raises(ConfigurationError):
        LoadContext().ttl = ttl


@pytest.mark.parametrize("etag", ["x" * 256, 1, None, "\ud800"], ids=ascii)
def test_an_etag_must_be_short(etag: Any) -> None:
    """It is stored beside each value."""
    with pytest.raises(ConfigurationError):
        LoadContext().etag = etag
