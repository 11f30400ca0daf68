"""Hits in L1: which calls share an entry."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from async_tiercache import L1, MISSING, TierCache
from async_tiercache._decorators import KEEP_AFTER
from async_tiercache.errors import UnkeyableError
from async_tiercache.keys import KeyText
from async_tiercache.testing import FakeClock, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, method_of, soon, ticks

# Arguments.


async def test_every_spelling_of_a_call_shares_an_entry(alone: TierCache) -> None:
    """Positional, keyword and default arguments are the same call."""
    loads: list[tuple[int, str]] = []

    @alone.cached("page:{number}:{order}")
    async def page(number: int, order: str = "asc") -> str:
        loads.append((number, order))
        return f"{number} {order}"

    for _ in range(3):
        assert {
            await page(1),
            await page(number=1),
            await page(1, "asc"),
            await page(1, order="asc"),
            await page(order="asc", number=1),
        } == {"1 asc"}
        await ticks()

    assert loads == [(1, "asc")]


async def test_every_kind_of_parameter_reaches_the_loader(alone: TierCache) -> None:
    """The compiled call has the signature of the original."""

    @alone.cached("all:{a}:{b}:{rest}:{c}:{more}")
    async def everything(a: int, /, b: int = 2, *rest: int, c: int, **more: int) -> list[Any]:
        return [a, b, list(rest), c, dict(more)]

    for _ in range(3):
        assert await everything(1, 3, 4, 5, c=6, d=7) == [1, 3, [4, 5], 6, {"d": 7}]
        assert await everything(1, c=6) == [1, 2, [], 6, {}]


@pytest.mark.parametrize("annotated", [True, False], ids=["annotated", "bare"])
async def test_equal_arguments_of_different_types_never_share(
    alone: TierCache, annotated: bool
) -> None:
    """1, True, 1.0 and "1" are different arguments, whatever the annotation says."""

    @alone.cached("bare:{x}")
    async def bare(x: Any) -> str:
        return repr(x)

    @alone.cached("int:{x}")
    async def whole(x: int) -> str:
        return repr(x)

    function: Any = whole if annotated else bare
    for _ in range(3):
        answers = [await function(x) for x in (1, True, 1.0, "1", b"1", None)]
        assert answers == ["1", "True", "1.0", "'1'", "b'1'", "None"]
        await ticks()


@pytest.mark.parametrize("alone_in_key", [True, False], ids=["alone", "with others"])
async def test_flags_choose_among_tables(alone: TierCache, alone_in_key: bool) -> None:
    """Each of two flags, and what is equal to one."""

    @alone.cached("flag:{x}")
    async def one(x: bool) -> str:
        return repr(x)

    @alone.cached("flags:{name}:{x}:{y}")
    async def several(x: bool, name: str = "n", y: bool = False) -> str:
        return repr((name, x, y))

    values: list[Any] = [True, False, 1, 0, 1.0, "True", None, b"", [], True]
    for _ in range(3):
        if alone_in_key:
            assert [await one(x) for x in values] == [repr(x) for x in values]
        else:
            for y in values:
                answers = [await several(x, y=y) for x in values]
                assert answers == [repr(("n", x, y)) for x in values]
        await ticks()

    assert alone_in_key or several.peek(True, "n", True) == repr(("n", True, True))


async def test_flags_of_methods_choose_among_tables(alone: TierCache) -> None:
    """So they do for the form that is kept for one object."""

    class Repository:
        @alone.cached("get:{full}")
        async def get(self, *, full: bool) -> bool:
            return full

    first, second = Repository(), Repository()
    for each in [first] * KEEP_AFTER * 2 + [first, second] * 3:
        assert [await each.get(full=full) for full in (True, False)] == [True, False]

    assert alone.statistics().loads == 2


async def test_zero_and_minus_zero_never_share(alone: TierCache) -> None:
    """They are equal and have one hash, but not one text."""

    @alone.cached("float:{x}")
    async def text(x: float) -> str:
        return repr(x)

    for _ in range(3):
        assert [await text(0.0), await text(-0.0)] == ["0.0", "-0.0"]
        await ticks()


class Number(int):
    """An int of another kind."""

    def __repr__(self) -> str:
        return f"Number({int(self)})"


async def test_a_subclass_is_not_taken_for_its_base(alone: TierCache) -> None:
    """It is refused or gets an entry of its own, but never that of its base."""

    @alone.cached("int:{x}")
    async def text(x: int) -> str:
        return repr(x)

    await text(1)
    await ticks()
    await text(1)

    try:
        answer = await text(Number(1))
    except UnkeyableError:
        answer = "refused"
    assert answer in {"Number(1)", "refused"}


@pytest.mark.parametrize("argument", [[1, 2], {"a": 1}, {3, 4}], ids=["list", "dict", "set"])
async def test_arguments_without_a_hash_are_cached(alone: TierCache, argument: Any) -> None:
    """The key is a text, so an argument need not be hashable."""
    loads: list[Any] = []

    @alone.cached("any:{x}")
    async def count(x: Any) -> int:
        loads.append(x)
        return len(x)

    for _ in range(3):
        await count(argument)
        await ticks()

    assert len(loads) == 1


async def test_an_argument_without_a_text_is_refused(alone: TierCache) -> None:
    """An object's address is no key; the error names the parameter."""

    @alone.cached("any:{x}")
    async def echo(x: Any) -> str:
        return repr(x)

    with pytest.raises(UnkeyableError) as caught:
        await echo(object())

    assert caught.value.parameter == "x"


async def test_a_wrong_call_is_a_type_error_of_the_function(alone: TierCache) -> None:
    """As without a cache."""
    value: Any = function_of(alone, Source())

    with pytest.raises(TypeError, match="argument"):
        await value()


# What is kept.


async def test_a_hit_is_the_object_that_was_loaded(alone: TierCache) -> None:
    """L1 shares values, it does not copy them."""
    row = {"name": "x"}
    value = function_of(alone, Source(row))
    await value(1)
    await ticks()

    assert await value(1) is row


async def test_hits_are_counted(alone: TierCache) -> None:
    """Those of the compiled path, and those before it is linked."""
    value = function_of(alone, Source())
    for _ in range(10):
        await value(1)
        await ticks()

    statistics = alone.statistics("value:{key}")

    assert (statistics.l1_hits, statistics.loads) == (9, 1)
    assert statistics.hit_ratio == 0.9


async def test_a_value_that_is_too_large_is_not_kept(make_cache: MakeCache) -> None:
    """It is answered, counted, and loaded again."""
    cache = await make_cache(client=None, l1=L1(max_bytes=800))
    source = Source(b"x" * 101)
    value = function_of(cache, source)

    for _ in range(2):
        assert await value(1) == b"x" * 101
        await ticks()

    assert source.loads == 2
    assert cache.statistics().l1_oversized == 2


async def test_an_evicted_entry_leaves_the_compiled_path(make_cache: MakeCache) -> None:
    """The table of bare arguments holds nothing that L1 does not."""
    cache = await make_cache(client=None, l1=L1(max_entries=5))
    value = function_of(cache, Source())
    for n in range(50):
        for _ in range(2):
            await value(n)
            await ticks()

    assert cache.statistics().l1_entries == 5
    assert sum(value.peek(n) is not MISSING for n in range(50)) == 5


async def test_peek_neither_loads_nor_asks(cache: TierCache, other: TierCache) -> None:
    """It answers from memory or not at all, and is not awaited."""
    source = Source()
    value = function_of(cache, source)
    await other.set(KEY, "elsewhere")

    assert value.peek(1) is MISSING
    assert source.loads == 0


async def test_a_peek_that_finds_something_is_a_hit(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """By the compiled path or by the key's text, and kept in mind as one."""
    cache = await make_cache(client=None, l1=L1(max_entries=10))
    source = Source("v")
    value = function_of(cache, source, ttl=100)
    assert value.peek(1) is MISSING
    await value(1)
    unchecked: Any = value
    assert [value.peek(1), unchecked.peek(key=1)] == ["v", "v"]
    assert cache.statistics().l1_hits == 2
    for key in range(2, 40):
        await value(key)
        assert value.peek(1) == "v"
    await clock.advance(101)
    assert value.peek(1) is MISSING
    with pytest.raises(TypeError, match="argument"):
        unchecked.peek(1, 2)


async def test_key_is_the_text_that_others_use(alone: TierCache) -> None:
    """`get`, `set` and `invalidate` of the cache take it."""
    value = function_of(alone, Source())
    await value(1)
    await ticks()

    assert value.key(1) == KEY
    assert await alone.get(value.key(1)) == "v1"


@pytest.mark.parametrize("helper", ["key", "peek", "invalidate"])
@pytest.mark.parametrize("make", [function_of, method_of], ids=["function", "method"])
async def test_wrong_arguments_are_told_by_the_name_of_the_original(
    alone: TierCache, make: Callable[..., Any], helper: str
) -> None:
    """Nothing that the cache has compiled stands in the error."""
    value = make(alone, Source())

    with pytest.raises(TypeError, match=r"value\(\) takes"):
        await getattr(value, helper)(1, 2)


@pytest.mark.parametrize("tenant", [None, "acme"])
async def test_a_function_of_the_texts_of_keys_has_them_once(
    make_cache: MakeCache, tenant: str | None
) -> None:
    """Its values are under the very text that was passed, and are found by no other name."""
    cache = await make_cache(tenant=tenant)

    @cache.cached("page:{text}")
    async def page(text: KeyText) -> bytes:
        return text.encode()

    text = KeyText("page:a:b")
    await page(text)
    await settled(cache)
    assert page.peek(text) == await cache.get("page:a:b") == b"page:a:b"
    assert page.key(text) == "page:a:b"
    assert cache.statistics("page:{text}").l1_hits == 1
    assert cache._core.store is not None
    (slot,) = cache._core.store
    assert (slot.key is text, slot.table is None) == (tenant is None,) * 2
    await page.invalidate(text)
    assert page.peek(text) is MISSING


async def test_what_another_function_keeps_under_a_text_is_not_taken_for_its_own(
    alone: TierCache,
) -> None:
    """A call by text asks for its own kind of value."""
    await alone.set("page:1", 1)

    @alone.cached("page:{text}")
    async def page(text: KeyText) -> bytes:
        return b"1"

    assert await page(KeyText("page:1")) == b"1"


async def test_a_long_key_is_found_by_its_text(alone: TierCache) -> None:
    """A text that is shortened for storage is shortened for every call."""
    key = "long:" + "x" * 600

    await alone.set(key, "v1")

    assert await alone.get(key, "nothing") == "v1"


# Methods.


class Users:
    """Two users of one cache differ by their class, not by their object."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.loads = 0


async def test_two_objects_of_a_class_share_entries(alone: TierCache) -> None:
    """`self` is not in the key."""

    class Repository(Users):
        @alone.cached("user:{user_id}")
        async def profile(self, user_id: int) -> str:
            self.loads += 1
            return f"{user_id} by {self.name}"

    first, second = Repository("first"), Repository("second")
    await first.profile(1)
    await ticks()

    assert await second.profile(1) == "1 by first"
    assert second.loads == 0


SHARED = TierCache(namespace="test")
"""Default keys hold the class, which must stand at the top of a module."""


class Base:
    """A generic repository."""

    @SHARED.cached()
    async def name(self, n: int) -> str:
        return f"{type(self).__name__} {n}"


class One(Base):
    """Inherits the method."""


class Two(Base):
    """Overrides the method and calls the inherited one."""

    @SHARED.cached()
    async def name(self, n: int) -> str:
        return "more than " + await super().name(n)


async def test_two_classes_of_a_generic_base_do_not_share() -> None:
    """Without a template the runtime class is in the key."""
    base, one = Base(), One()

    for _ in range(KEEP_AFTER + 3):
        assert [await base.name(1), await one.name(1)] == ["Base 1", "One 1"]
    for _ in range(KEEP_AFTER + 3):
        assert await one.name(1) == "One 1"
    assert await base.name(1) == "Base 1"


async def test_an_override_may_call_its_base() -> None:
    """`super()` reaches the cached method of the base, with keys of its own."""
    two = Two()

    for _ in range(KEEP_AFTER + 3):
        assert await soon(two.name(2)) == "more than Two 2"
        await ticks()


async def test_the_kept_bound_form_is_that_of_its_own_object(alone: TierCache) -> None:
    """However often one object's method was looked up, another's is its own."""

    class Repository(Users):
        @alone.cached("user:{user_id}")
        async def profile(self, user_id: int) -> str:
            return f"{user_id} by {self.name}"

    first, second = Repository("first"), Repository("second")
    for n in range(KEEP_AFTER * 2):
        assert await first.profile(n) == f"{n} by first"

    assert await second.profile(1000) == "1000 by second"
    assert await first.profile(1001) == "1001 by first"


@pytest.mark.parametrize("make", [copy.copy, copy.deepcopy], ids=["copy", "deepcopy"])
async def test_a_copy_of_an_object_calls_its_own_loader(alone: TierCache, make: Any) -> None:
    """Nothing is written into objects, so nothing is copied with them."""

    class Repository(Users):
        @alone.cached("user:{user_id}")
        async def profile(self, user_id: int) -> str:
            return f"{user_id} by {self.name}"

    original = Repository("original")
    for n in range(KEEP_AFTER * 2):
        await original.profile(n)
    twin = make(original)
    twin.name = "twin"

    assert await twin.profile(1000) == "1000 by twin"
    assert vars(original).keys() == {"name", "loads"}


async def test_classes_with_slots_are_cached(alone: TierCache) -> None:
    """Neither a dict nor a weak reference is needed."""

    class Slotted:
        __slots__ = ()

        @alone.cached("user:{user_id}")
        async def profile(self, user_id: int) -> int:
            return user_id

    users = Slotted()
    assert [await users.profile(n % 3) for n in range(40)] == [n % 3 for n in range(40)]


async def test_a_method_can_be_called_through_its_class(alone: TierCache) -> None:
    """With the object as first argument, helpers included."""

    class Repository(Users):
        @alone.cached("user:{user_id}")
        async def profile(self, user_id: int) -> str:
            self.loads += 1
            return self.name

    users = Repository("x")
    assert await Repository.profile(users, 1) == "x"
    await ticks()
    assert Repository.profile.peek(users, 1) == "x"
    assert Repository.profile.key(users, 1) == "user:1"
    await Repository.profile.invalidate(users, 1)
    await Repository.profile.put("put", users, 1)
    assert await users.profile(1) == "put"
    assert await Repository.profile.refresh(users, 1) == "x"
    assert users.loads == 2


async def test_every_helper_of_a_bound_form_knows_its_object(alone: TierCache) -> None:
    """Before the bound form is kept, and after."""
    source = Source()
    value = method_of(alone, source)
    for _ in range(2):
        await value(1)
        await ticks()
        assert value.peek(1) == "v1"
        await value.invalidate(1)
        await value.put("put", 1)
        assert await value(1) == "put"
        assert await value.refresh(1) == "v1"
        assert value.key(1) == KEY


async def test_helpers_of_a_kept_bound_form_work(alone: TierCache) -> None:
    """They are those of the kept object."""

    class Repository(Users):
        @alone.cached("user:{user_id}")
        async def profile(self, user_id: int) -> str:
            return self.name

    users = Repository("x")
    for _ in range(KEEP_AFTER * 2):
        await users.profile(1)

    assert users.profile.key(1) == "user:1"
    assert await users.profile.refresh(1) == "x"
    await users.profile.invalidate(1)
    assert users.profile.peek(1) is MISSING


async def test_a_static_method_is_cached_as_a_function(alone: TierCache) -> None:
    """With `@staticmethod` outermost."""

    class Repository:
        @staticmethod
        @alone.cached("static:{n}")
        async def value(n: int) -> int:
            return n

    one: Any = Repository()
    assert await Repository.value(1) == await one.value(1) == 1
    assert Repository.value.key(1) == "static:1"


async def test_an_early_answer_from_memory_is_a_hit(alone: TierCache, clock: FakeClock) -> None:
    """`l1_hits` counts calls answered from memory, those that start a refresh included."""
    clock.draw = 0.9

    @alone.cached("slow:{n}", ttl=100, jitter=0, early=10)
    async def slow(n: int) -> int:
        await clock.advance(1)
        return n

    await slow(1)
    await clock.advance(80)
    await slow(1)
    await settled(alone)

    statistics = alone.statistics()
    assert (statistics.l1_hits, statistics.early_reads) == (1, 1)
