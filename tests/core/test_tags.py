"""What stands under a tag is gone when the tag is invalidated (P4)."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from async_tiercache import MISSING, LoadContext, TierCache
from async_tiercache.errors import (
    ConfigurationError,
    KeyTemplateError,
    UnkeyableError,
    UsageError,
)
from async_tiercache.keys import MAX_CHARACTERS
from async_tiercache.tags import MAX_TAGS
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, method_of, soon, ticks
from tests.core.wire import Wire

TAGGED: dict[str, Any] = {"tags": ["all", "one:{key}"]}


async def put_in(cache: TierCache, way: str, source: Source) -> Callable[[], Awaitable[Any]]:
    """Put the source's value under ``value:1`` and two tags; return what reads it."""
    tags = ["all", "one:1"]
    reading: Callable[[], Awaitable[Any]] = lambda: cache.get(KEY, None)  # noqa: E731
    if way == "function":
        value = function_of(cache, source, **TAGGED)
        reading = lambda: value(1)  # noqa: E731
    elif way == "method":
        method = method_of(cache, source, **TAGGED)
        reading = lambda: method(1)  # noqa: E731
    elif way == "batch":
        reading = batch_of(cache, source)
    elif way == "get_or_load":
        reading = lambda: cache.get_or_load(KEY, source.load, tags=tags)  # noqa: E731
    elif way == "get_or_load_many":

        async def load(keys: list[str]) -> dict[str, Any]:
            return dict.fromkeys(keys, await source.load())

        reading = lambda: cache.get_or_load_many([KEY], load, tags=tags)  # noqa: E731
    elif way == "set":
        await cache.set(KEY, source.value, tags=tags)
    elif way == "put":
        await function_of(cache, source, **TAGGED).put(source.value, 1)
    else:
        async with cache.writing(KEY, tags=tags) as writing:
            writing.set(source.value)
    await reading()
    await settled(cache)
    return reading


def batch_of(cache: TierCache, source: Source) -> Callable[[], Awaitable[Any]]:
    """Return what reads ``value:1`` by a batch."""

    @cache.cached("value:{key}", **TAGGED)
    async def value(key: int) -> Any:
        return await source.load()

    @value.batch
    async def many(keys: list[int]) -> dict[int, Any]:
        return dict.fromkeys(keys, await source.load())

    return lambda: many([1])


WAYS = [
    "function",
    "method",
    "batch",
    "get_or_load",
    "get_or_load_many",
    "set",
    "put",
    "writing",
]


@pytest.mark.parametrize("tags", [["all"], ["one:1"], ["none", "all"]], ids=str)
@pytest.mark.parametrize("way", WAYS)
async def test_a_tag_removes_what_stands_under_it_from_both_tiers_everywhere(
    cache: TierCache, other: TierCache, way: str, tags: list[str]
) -> None:
    """Whichever way it got there, and by one of its tags or several."""
    await put_in(cache, way, Source("old"))
    assert await other.get(KEY) == "old"

    await other.invalidate(tags=tags)
    await ticks()

    assert await cache.get_many([KEY]) == await other.get_many([KEY]) == {}


@pytest.mark.parametrize("how", ["invalidate", "invalidating"])
async def test_more_tags_than_a_value_may_have_are_invalidated_at_once(
    cache: TierCache, other: TierCache, how: str
) -> None:
    """As many rows as a change may concern, the first and the last of them."""
    tags = [f"row:{number}" for number in range(MAX_TAGS + 1)]
    keys = ["first", "last"]
    for key, tag in zip(keys, [tags[0], tags[-1]], strict=True):
        await cache.set(key, "old", tags=[tag])
    assert len(await other.get_many(keys)) == len(keys)

    if how == "invalidate":
        await other.invalidate(tags=tags)
    else:
        async with other.invalidating(tags=tags):
            pass
    await ticks()

    assert await cache.get_many(keys) == await other.get_many(keys) == {}


@pytest.mark.parametrize("way", WAYS[:5])
async def test_a_tag_removes_what_stands_under_it_from_l1_alone(alone: TierCache, way: str) -> None:
    """Generations do there what ids do in L2."""
    reading = await put_in(alone, way, Source("old"))
    source = Source("new")

    await alone.invalidate(tags=["one:1"])

    assert await alone.get(KEY, "nothing") == "nothing"
    assert source.loads == 0
    assert await reading()


@pytest.mark.parametrize("way", WAYS)
async def test_another_tag_removes_nothing(cache: TierCache, other: TierCache, way: str) -> None:
    """Neither one that is like it."""
    await put_in(cache, way, Source("v"))

    await other.invalidate(tags=["one:10", "one", "al", "value:1"])
    await ticks()

    assert await cache.get(KEY) == await other.get(KEY) == "v"


async def test_a_decorated_change_invalidates_tags(cache: TierCache, other: TierCache) -> None:
    """Its templates make the same texts."""
    await put_in(other, "function", Source("old"))
    assert await cache.get(KEY) == "old"

    @cache.invalidates(tags=["one:{key}"])
    async def rename(key: str) -> None: ...

    await rename("1")

    assert await cache.get(KEY, None) is None


# Turns.


@pytest.fixture
async def wire(server: MemoryServer) -> Wire:
    """Return the wire of `wired`."""
    return Wire(server)


async def wired(make_cache: MakeCache, wire: Wire) -> TierCache:
    """Return a cache whose commands since now are counted."""
    cache = await make_cache(client=wire.client)
    await settled(cache)
    wire.sent.clear()
    return cache


async def test_a_hit_in_l1_takes_no_turn(make_cache: MakeCache, wire: Wire) -> None:
    """However many tags it has."""
    cache = await wired(make_cache, wire)
    value = function_of(cache, Source(), **TAGGED)
    await value(1)
    await settled(cache)
    wire.sent.clear()

    await value(1)
    await cache.get(KEY)

    assert wire.sent == []


async def test_a_hit_in_l2_takes_one_turn(
    make_cache: MakeCache, wire: Wire, other: TierCache
) -> None:
    """The states of the declared tags are asked for with the key."""
    await put_in(other, "function", Source())
    cache = await wired(make_cache, wire)

    await function_of(cache, Source(), **TAGGED)(1)

    assert wire.sent == ["GET"]


async def test_a_hit_whose_tags_are_unknown_takes_two_turns_once(
    make_cache: MakeCache, wire: Wire, other: TierCache
) -> None:
    """Only the frame names them; the next time they are known."""
    await put_in(other, "set", Source())
    await other.set("value:2", 2, tags=["all"])
    cache = await wired(make_cache, wire)

    await cache.get(KEY)
    assert len(wire.sent) == 2
    wire.sent.clear()
    await cache.get("value:2")

    assert wire.sent == ["GET"]


async def test_a_miss_takes_three_turns(make_cache: MakeCache, wire: Wire) -> None:
    """Two before the loader runs; the ids of new tags are made together with the lease."""
    cache = await wired(make_cache, wire)
    sent: list[list[str]] = []

    async def load() -> None:
        sent.append(list(wire.sent))

    await cache.get_or_load(KEY, load, tags=["all", "one"])
    await settled(cache)

    assert sent == [["GET", "SET", "ENSURE"]]
    assert [name for name in wire.sent if name != "PEXPIRE"] == ["GET", "SET", "ENSURE", "COMMIT"]


async def test_an_invalidation_takes_one_turn(make_cache: MakeCache, wire: Wire) -> None:
    """Also of many tags and keys."""
    cache = await wired(make_cache, wire)

    await cache.invalidate(keys=["a", "b"], tags=[f"tag:{number}" for number in range(50)])

    assert wire.sent == ["INVALIDATE"]


# Families that declare a tag, and others with the same key.


async def test_what_was_put_without_a_tag_is_not_served_where_it_is_declared(
    cache: TierCache, other: TierCache
) -> None:
    """Invalidating the tag would not remove it."""
    source = Source("tagged")
    value, elsewhere = (function_of(each, source, tags=["t"]) for each in (cache, other))
    await cache.set(KEY, "bare")

    assert await value(1) == "tagged"
    await settled(cache)
    await other.set(KEY, "bare")
    await ticks()

    assert await elsewhere(1) == "tagged"


@pytest.mark.parametrize("of_self", [False, True], ids=["argument", "self"])
async def test_a_hit_stands_under_a_tag_that_the_key_does_not_tell(
    cache: TierCache, *, of_self: bool
) -> None:
    """Each call has the tag of its own, though equal arguments have one key."""
    loads = 0

    class Pages:
        def __init__(self, viewer: int) -> None:
            self.viewer = viewer

        @cache.cached(
            "page:{page_id}",
            exclude=["viewer"],
            tags=["viewer:{self.viewer}" if of_self else "viewer:{viewer}"],
        )
        async def page(self, page_id: int, viewer: int) -> int:
            nonlocal loads
            loads += 1
            return loads

    async def seen_by(viewer: int) -> int:
        return await soon(Pages(viewer).page(1, viewer))

    for viewer in (1, 2, 1, 1):
        before = await seen_by(viewer)
        await settled(cache)
    assert await seen_by(1) == before
    shown = await seen_by(2)
    await settled(cache)
    await cache.invalidate(tags=["viewer:2"])

    assert await seen_by(2) > shown > before


async def test_a_value_put_without_the_tag_during_a_load_is_not_served_as_its_own(
    cache: TierCache,
) -> None:
    """The compiled call path finds what the call before has left."""
    source = Source("tagged")
    source.close()
    value = function_of(cache, source, tags=["t"])
    loading = asyncio.ensure_future(value(1))
    await soon(source.loading())
    await cache.set(KEY, "bare")
    source.gate.set()
    assert await soon(loading) == "tagged"
    await settled(cache)

    assert await soon(value(1)) == "tagged"


async def test_a_copy_is_not_replaced_under_the_feet_of_a_family_with_a_tag(
    alone: TierCache, clock: Any
) -> None:
    """A family without the tag loads the same key anew."""
    source, bare = Source("tagged"), Source("bare")
    value = function_of(alone, source, tags=["t"], ttl=10, grace=0)
    await value(1)
    assert await value(1) == "tagged"
    await clock.advance(11)
    assert await alone.get_or_load(KEY, bare.load) == "bare"
    source.value = "new"

    assert await value(1) == "new"


async def test_a_load_without_the_tag_is_not_joined_where_it_is_declared(cache: TierCache) -> None:
    """It may have begun before an invalidation of that tag."""
    bare, source = Source("old"), Source("new")
    bare.close()
    value = function_of(cache, source, tags=["t"])
    before = asyncio.ensure_future(cache.get_or_load(KEY, bare.load))
    await soon(bare.loading())
    await cache.invalidate(tags=["t"])

    after = asyncio.ensure_future(value(1))
    await ticks()
    bare.gate.set()

    # Of two loads at once only the later one is shown.
    assert (await soon(before), await soon(after)) == ("new", "new")


async def test_a_batch_does_not_join_a_load_without_its_tag(cache: TierCache) -> None:
    """Nor does a call for many."""
    bare, source = Source("old"), Source("new")
    bare.close()
    many = batch_of(cache, source)
    before = asyncio.ensure_future(cache.get_or_load(KEY, bare.load))
    await soon(bare.loading())
    await cache.invalidate(tags=["all"])

    after = asyncio.ensure_future(many())
    await ticks()
    bare.gate.set()

    assert (await soon(before), await soon(after)) == ("new", {1: "new"})


async def test_a_long_tag_without_placeholders_is_found_by_its_text(alone: TierCache) -> None:
    """It is shortened wherever it is written."""
    tag = "t" * (MAX_CHARACTERS + 1)
    value = function_of(alone, Source(), tags=[tag])
    await value(1)

    await alone.invalidate(tags=[tag])

    assert value.peek(1) is MISSING


# What is refused.


def test_too_many_templates_are_refused(alone: TierCache) -> None:
    """Where the function is decorated."""
    with pytest.raises(ConfigurationError, match=str(MAX_TAGS)):
        function_of(alone, Source(), tags=[f"tag:{number}" for number in range(MAX_TAGS + 1)])


@pytest.mark.parametrize("tags", ["all", 7], ids=repr)
def test_templates_are_a_list(alone: TierCache, tags: Any) -> None:
    """A str would be many tags of one letter."""
    with pytest.raises(ConfigurationError, match="list"):
        function_of(alone, Source(), tags=tags)


@pytest.mark.parametrize("tag", ["user:{nobody}", "user:{key", "", "a*b"])
def test_a_template_that_does_not_fit_is_refused(alone: TierCache, tag: str) -> None:
    """A parameter that is not there, or a sign that has a meaning."""
    with pytest.raises((KeyTemplateError, UnkeyableError)):
        function_of(alone, Source(), tags=[tag])


def test_a_tag_of_the_load_context_is_refused(alone: TierCache) -> None:
    """Callers do not pass it, so there would be no tag when they call."""
    with pytest.raises(KeyTemplateError, match=r"uses \{context\}, which is no parameter"):

        @alone.cached("row:{row_id}", tags=["row:{context}"])
        async def row(row_id: int, context: LoadContext) -> int:
            del context
            return row_id


@pytest.mark.parametrize("tags", ["all", ["*"], ["*te"], ["a?b"], [""], [7], None], ids=repr)
async def test_texts_that_can_be_no_tags_are_refused(cache: TierCache, tags: Any) -> None:
    """By every call that takes tags; nothing has changed then."""
    await cache.set(KEY, "v")

    async def load() -> None: ...

    calls: list[Callable[[], Awaitable[Any]]] = [
        lambda: cache.invalidate(tags=tags),
        lambda: cache.set(KEY, 1, tags=tags),
        lambda: cache.get_or_load(KEY, load, tags=tags),
        lambda: cache.get_or_load_many([KEY], load, tags=tags),  # type: ignore[arg-type]
    ]
    for call in calls:
        with pytest.raises((UsageError, UnkeyableError)):
            await call()
    assert await cache.get(KEY) == "v"


async def test_a_loader_cannot_name_too_many_tags(cache: TierCache) -> None:
    """The error is its own, at the place."""

    @cache.cached("row")
    async def row(context: LoadContext = LoadContext()) -> None:
        context.tags = [f"tag:{number}" for number in range(MAX_TAGS + 1)]

    with pytest.raises(UsageError, match=str(MAX_TAGS)):
        await row()


async def test_declared_and_named_tags_together_may_be_too_many(cache: TierCache) -> None:
    """Then the value goes to its callers only, and that is counted."""

    @cache.cached("row", tags=[f"declared:{number}" for number in range(MAX_TAGS)])
    async def row(context: LoadContext = LoadContext()) -> int:
        context.tags = ["named"]
        return 1

    assert await row() == 1
    await settled(cache)

    assert await cache.get("row", None) is None
    assert cache.statistics().not_stored["unsound"] == 1


async def test_as_many_tags_as_may_be_are_kept(cache: TierCache, other: TierCache) -> None:
    """Also when they are named for the second time."""
    loads: list[int] = []

    @cache.cached("row")
    async def row(context: LoadContext = LoadContext()) -> Any:
        loads.append(1)
        context.tags = [f"tag:{number}" for number in range(MAX_TAGS)]
        return len(loads)

    for expected in (1, 2):
        await row()
        await settled(cache)
        assert await other.get("row") == await row() == expected
        await cache.invalidate(tags=[f"tag:{MAX_TAGS - 1}"])
        await ticks()


@pytest.mark.parametrize("make", [function_of, method_of])
async def test_hit_after_another_tag_was_invalidated_needs_no_reader(
    make_cache: MakeCache, monkeypatch: pytest.MonkeyPatch, make: Callable[..., Any]
) -> None:
    """The compiled call looks at the entry's tags itself, and leaves it when one is concerned."""
    source = Source()
    asked: list[str] = []
    cache = await make_cache()
    value = make(cache, source, **TAGGED)
    await value(1)
    await settled(cache)
    await value(1)
    read = cache._core.reader.read

    async def counted(family: Any, key: str, *args: Any, **kwargs: Any) -> Any:
        asked.append(key)
        return await read(family, key, *args, **kwargs)

    monkeypatch.setattr(cache._core.reader, "read", counted)
    await cache.invalidate(tags=["another"])
    await value(1)
    assert asked == []

    await cache.invalidate(tags=["one:1"])
    await value(1)
    assert asked == [KEY]
    assert source.loads == 2


async def test_a_tag_of_a_part_ends_what_is_offered_while_it_is_made_anew(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Also where L2 does not tell what that stands under: memory knows it."""
    gate, source = asyncio.Event(), ["old"]
    gate.set()
    options: dict[str, Any] = {"ttl": 100, "grace": 1000, "soft_timeout": 0, "l1_ttl": 1000}

    @cache.cached("part:{key}", tags=["user:{key}"], **options)
    async def part(key: int) -> str:
        return source[0]

    @cache.cached("page:{key}", **options)
    async def page(key: int) -> str:
        await gate.wait()
        return await part(key)

    await page(1)
    await settled(cache)
    await clock.advance(120)
    gate.clear()
    server.faults.refuse("get_many")
    assert await soon(page(1)) == "old"
    source[0] = "new"
    assert (await soon(cache.invalidate(tags=["user:1"]))).l2 == "done"
    later = asyncio.ensure_future(page(1))
    await ticks()

    assert not later.done()
    gate.set()
    assert await soon(later) == "new"


async def test_what_is_made_of_the_old_value_stands_under_its_tags(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """A loader that adds to it reads no more what that was made from."""

    @cache.cached("part", tags=["parts"], ttl=1000)
    async def part() -> int:
        return 1

    @cache.cached("sum", ttl=100, grace=1000, early=0, jitter=0)
    async def total(context: LoadContext = LoadContext()) -> int:
        if context.stale_value is MISSING:
            return await part()
        context.renews = True
        return int(context.stale_value) + 1

    await total()
    await settled(cache)
    await clock.advance(101)
    assert await total.refresh() == 2
    await settled(cache)
    assert await total() == 2

    await other.invalidate(tags=["parts"])
    await ticks()
    assert await total() == 1
