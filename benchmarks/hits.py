"""What does a hit in memory cost, in units of the least it could cost?

The floor is awaiting a coroutine of the same signature that returns at once. async-lru, the usual
decorator for one process, is timed beside.

Every L1 is full, with 10,000 entries. The keys are drawn by Zipf's law beforehand: among 100 that
lie scattered in it, and in one case among all, where the processor's own caches miss as well. A
check after the last round makes sure that nothing but hits was timed. The least in Python is the
shortest code that could take the cache's place: for `f(x)` a coroutine that looks into a dict and
at a time, for the others one that does what a hit must, and nothing else.
"""

# ruff: noqa: ARG001, ARG002, ARG004 - what is timed takes parameters and does nothing with them

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import repeat
from types import MethodType
from typing import Any, Final

from async_tiercache import L1, Policy, TierCache
from async_tiercache.testing import settled
from benchmarks._apart import Group, require
from benchmarks._harness import Case, Effort, Sweep, zipf_keys
from benchmarks._server import server

L1_KEYS: Final = 10_000
HOT_KEYS: Final = 100

TRIVIAL: Final = "awaiting a trivial coroutine of the same signature"


@dataclass
class Profile:
    """What the loaders return: about 200 bytes of msgpack."""

    user_id: int
    name: str
    email: str
    street: str
    city: str
    score: float
    active: bool
    roles: list[str]


def a_profile(user_id: int) -> Profile:
    """Return the profile of a user."""
    return Profile(
        user_id=user_id,
        name=f"Ada Lovelace the {user_id}th",
        email=f"ada.{user_id}@example.org",
        street="St James's Square 12",
        city="London",
        score=0.5,
        active=True,
        roles=["reader", "author", "editor"],
    )


class Trivial:
    """The floors: what is left of a cached coroutine when there is nothing to do."""

    value = a_profile(0)

    @staticmethod
    async def one(user_id: int) -> Profile:
        return Trivial.value

    @staticmethod
    async def three(user_id: int, language: str, full: bool) -> Profile:
        return Trivial.value

    @staticmethod
    async def get(key: str) -> Profile:
        return Trivial.value

    async def method(self, user_id: int, *, full: bool) -> Profile:
        return Trivial.value


class Kept:
    """What is kept for a key by who promises nothing but its lifetime."""

    __slots__ = ("deadline", "value")

    def __init__(self, value: Profile) -> None:
        self.value = value
        self.deadline = time.monotonic() + 3600


def a_dict() -> Callable[[int], Awaitable[Profile]]:
    """Return what answers from a dict, where 1 and True are one key."""
    held = {key: Kept(a_profile(key)) for key in range(L1_KEYS)}

    async def least(user_id: int) -> Profile:
        kept = held[user_id]
        if time.monotonic() < kept.deadline:
            return kept.value
        raise KeyError(user_id)

    return least


class Standing:
    """Until when what a bus has proven may be served."""

    __slots__ = ("deadline",)

    def __init__(self) -> None:
        self.deadline = time.monotonic() + 3600


class Held(Kept):
    """What is kept for a key by who bounds memory and hears of invalidations."""

    __slots__ = ("standing", "visited")

    def __init__(self, value: Profile, standing: Standing) -> None:
        super().__init__(value)
        self.standing = standing
        self.visited = False


class Least:
    """What a hit must do, in as few words as possible: for the least in Python of each shape.

    It tells 1 and True apart by the class, looks into a dict, and at a time that is held against a
    lifetime and a proof, marks what it has found as used, and counts. It has no way to load.
    """

    def __init__(self, held: dict[Any, Held]) -> None:
        self._held = held
        self._left = repeat(True)

    def three(self) -> Callable[[int, str, bool], Awaitable[Profile]]:
        """Return a function of three arguments."""
        held, left, monotonic = self._held, self._left, time.monotonic

        async def least(user_id: int, language: str, full: bool) -> Profile:
            if user_id.__class__ is int and language.__class__ is str and full is True:
                found = held[user_id, language]
                if (now := monotonic()) < found.deadline and now < found.standing.deadline:
                    found.visited = next(left)
                    return found.value
            raise KeyError(user_id)

        return least

    async def get(self, key: str) -> Profile:
        """Return what is held for a text."""
        found = self._held[key]
        if (now := time.monotonic()) < found.deadline and now < found.standing.deadline:
            found.visited = next(self._left)
            return found.value
        raise KeyError(key)

    def users(self) -> Any:
        """Return an object with a method that is kept, bound, by a descriptor in Python."""
        held, left, monotonic = self._held, self._left, time.monotonic

        class Bound:
            """Without one the form would have no helpers that know their object."""

            __slots__ = ("kept", "kept_of")

            def __init__(self) -> None:
                self.kept: Any = None
                self.kept_of: Any = None

            def __get__(self, instance: Any, owner: type) -> Any:
                if instance is self.kept_of:
                    return self.kept
                self.kept_of, self.kept = instance, MethodType(least, instance)
                return self.kept

        class Users:
            method = Bound()

        async def least(_users: Users, user_id: int, *, full: bool) -> Profile:
            if user_id.__class__ is int and full is True:
                found = held[user_id]
                if (now := monotonic()) < found.deadline and now < found.standing.deadline:
                    found.visited = next(left)
                    return found.value
            raise KeyError(user_id)

        return Users()


def the_least(hot: Sequence[int], texts: Sequence[str]) -> list[Case]:
    """Return the least in Python of the shapes other than `f(x)`, for hits below a bus."""
    standing = Standing()

    def least(key_of: Callable[[int], Any]) -> Least:
        return Least({key_of(key): Held(a_profile(key), standing) for key in set(hot)})

    shapes = {
        "f(x, y, z)": (
            over_three(least(lambda key: (key, "en")).three()),
            over_three(Trivial.three),
        ),
        "users.method(x, y=y)": (over_method(least(int).users()), over_method(Trivial())),
        "cache.get(key)": (
            over_texts(least(texts.__getitem__).get, texts),
            over_texts(Trivial.get, texts),
        ),
    }
    return [
        Case(
            name=f"the least in Python, await {name}, with a tag",
            subject=subject,
            floor=floor,
            floor_name=TRIVIAL,
            keys=hot,
            bars={"cpu": None},
            check=lambda: None,
        )
        for name, (subject, floor) in shapes.items()
    ]


async def one(user_id: int) -> Profile:
    return a_profile(user_id)


async def three(user_id: int, language: str, full: bool) -> Profile:
    return a_profile(user_id)


# Sweeps: each expression stands in a loop of its own, since a call through a lambda costs as much
# as half a hit.


def over_one(function: Callable[[int], Awaitable[Any]]) -> Sweep:
    async def sweep(keys: Sequence[int]) -> None:
        for key in keys:
            await function(key)

    return sweep


def over_three(function: Callable[[int, str, bool], Awaitable[Any]]) -> Sweep:
    async def sweep(keys: Sequence[int]) -> None:
        for key in keys:
            await function(key, "en", True)

    return sweep


def over_method(users: Any) -> Sweep:
    async def sweep(keys: Sequence[int]) -> None:
        for key in keys:
            await users.method(key, full=True)

    return sweep


def over_texts(get: Callable[[str], Awaitable[Any]], texts: Sequence[str]) -> Sweep:
    async def sweep(keys: Sequence[int]) -> None:
        for key in keys:
            await get(texts[key])

    return sweep


def over_new_objects(make: Callable[[], Any]) -> Sweep:
    async def sweep(keys: Sequence[int]) -> None:
        for key in keys:
            await make().method(key, full=True)

    return sweep


def l1_cases(
    decorated: Callable[[str], Callable[[Any], Any]],
    check: Callable[[], None],
    *,
    awaits: int,
    bars: dict[str, float],
) -> list[Case]:
    """Return the cases of a decorator that keeps values in memory.

    Args:
        decorated: Makes a decorator, given a template of the key.
        check: Of every case.
        awaits: How many stand in a sweep.
        bars: By the name of the case.
    """
    hot = [key * (L1_KEYS // HOT_KEYS) for key in zipf_keys(awaits, among=HOT_KEYS)]
    every = zipf_keys(awaits, among=L1_KEYS)

    class Users:
        @decorated("method:{user_id}:{full}")
        async def method(self, user_id: int, *, full: bool) -> Profile:
            return a_profile(user_id)

    class Slotted:
        __slots__ = ()

        @decorated("method:{user_id}:{full}")
        async def method(self, user_id: int, *, full: bool) -> Profile:
            return a_profile(user_id)

    cached_one = decorated("one:{user_id}")(one)
    cached_three = decorated("three:{user_id}:{language}:{full}")(three)
    ones = (over_one(cached_one), over_one(Trivial.one))
    threes = (over_three(cached_three), over_three(Trivial.three))
    methods = (over_method(Users()), over_method(Trivial()))
    slotted = (over_method(Slotted()), over_method(Trivial()))
    shapes = {
        "f(x)": (*ones, hot),
        "f(x), any of 10,000 keys": (*ones, every),
        "f(x, y, z)": (*threes, hot),
        "users.method(x, y=y)": (*methods, hot),
        "the same, with __slots__": (*slotted, hot),
        "Users().method(x, y=y)": (over_new_objects(Users), over_new_objects(Trivial), hot),
    }
    return [
        Case(
            name=f"L1 hit, await {name}",
            subject=subject,
            floor=floor,
            floor_name=TRIVIAL,
            keys=keys,
            bars={"cpu": bars.get(name)},
            check=check,
        )
        for name, (subject, floor, keys) in shapes.items()
    ]


async def fill(cases: Sequence[Case], keys: int) -> None:
    """Load every key of every case."""
    for case in cases:
        await case.subject(range(keys))


@asynccontextmanager
async def l1(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up L1 hits: the cache of each case is full."""
    caches: list[TierCache] = []

    def decorated(template: str) -> Callable[[Any], Any]:
        # Each has a cache to itself, which its keys fill exactly.
        room = L1(max_entries=L1_KEYS)
        caches.append(TierCache(namespace="bench", l1=room, policy=Policy(ttl="1h")))
        return caches[-1].cached(template)

    def check() -> None:
        assert [cache.statistics().loads for cache in caches] == [L1_KEYS] * len(caches)

    bars = {"f(x)": 2.0, "f(x, y, z)": 2.7, "users.method(x, y=y)": 3.5}
    cases = l1_cases(decorated, check, awaits=int(100_000 * effort.scale), bars=bars)
    await fill(cases, L1_KEYS)
    bare = Case(
        name="the least in Python, await f(x)",
        subject=over_one(a_dict()),
        floor=over_one(Trivial.one),
        floor_name=TRIVIAL,
        keys=cases[0].keys,
        bars={"cpu": None},
        check=lambda: None,
    )
    yield [*cases, await by_text(awaits=len(cases[0].keys)), bare]
    for cache in caches:
        await cache.aclose()


async def by_text(*, awaits: int) -> Case:
    """Return the case of `get` without a bus: its cache is full, too."""
    cache = TierCache(namespace="bench", l1=L1(max_entries=L1_KEYS), policy=Policy(ttl="1h"))
    texts = [f"key:{key}" for key in range(L1_KEYS)]
    for key, text in enumerate(texts):
        await cache.set(text, vars(a_profile(key)))

    def check() -> None:
        found = cache.statistics()
        assert found.l1_entries == L1_KEYS
        assert found.l1_evictions == found.l1_expiries == 0

    return Case(
        name="L1 hit, await cache.get(key)",
        subject=over_texts(cache.get, texts),
        floor=over_texts(Trivial.get, texts),
        floor_name=TRIVIAL,
        keys=[key * (L1_KEYS // HOT_KEYS) for key in zipf_keys(awaits, among=HOT_KEYS)],
        bars={"cpu": None},
        check=check,
    )


@asynccontextmanager
async def bus(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up L1 hits below a live bus, under a tag, and those of `get`."""
    awaits = int(100_000 * effort.scale)
    hot = [key * 10 for key in zipf_keys(awaits, among=HOT_KEYS)]
    room, policy = L1(max_entries=4 * L1_KEYS), Policy(ttl="1h", l1_ttl="1h")
    async with server() as url, TierCache(url, namespace="bench", l1=room, policy=policy) as cache:

        class Users:
            @cache.cached("method:{user_id}:{full}", tags=["user:{user_id}"])
            async def method(self, user_id: int, *, full: bool) -> Profile:
                return a_profile(user_id)

        cached_one = cache.cached("one:{user_id}", tags=["user:{user_id}"])(one)
        cached_three = cache.cached("three:{user_id}:{language}:{full}", tags=["user:{user_id}"])
        texts = [f"key:{key}" for key in range(HOT_KEYS * 10)]
        for key, text in enumerate(texts):
            await cache.set(text, vars(a_profile(key)), tags=[f"user:{key}"])
        shapes = {
            "f(x)": (over_one(cached_one), over_one(Trivial.one), 2.6),
            "f(x, y, z)": (over_three(cached_three(three)), over_three(Trivial.three), 3.3),
            "users.method(x, y=y)": (over_method(Users()), over_method(Trivial()), 3.5),
            "cache.get(key)": (over_texts(cache.get, texts), over_texts(Trivial.get, texts), 2.6),
        }
        for subject, _, _ in shapes.values():
            await subject(range(HOT_KEYS * 10))
        await settled(cache)
        counted = cache.statistics()

        def check() -> None:
            now = cache.statistics()
            assert (now.loads, now.l2_hits) == (counted.loads, counted.l2_hits)
            assert now.bus_gaps == counted.bus_gaps

        cases = [
            Case(
                name=f"L1 hit, await {name}, with a tag",
                subject=subject,
                floor=floor,
                floor_name=TRIVIAL,
                keys=hot,
                bars={"cpu": bar},
                check=check,
            )
            for name, (subject, floor, bar) in shapes.items()
        ]
        yield [*cases, *the_least(hot, texts)]


@asynccontextmanager
async def async_lru(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set up hits of async-lru in the same shapes."""
    require("async_lru")
    from async_lru import alru_cache

    made: list[Any] = []

    def decorated(_template: str) -> Callable[[Any], Any]:
        def decorate(function: Any) -> Any:
            made.append(alru_cache(maxsize=L1_KEYS, ttl=3600)(function))
            return made[-1]

        return decorate

    def check() -> None:
        assert [each.cache_info().misses for each in made] == [L1_KEYS] * len(made)

    # It keys a method's values by the object too, so a new object could only miss.
    cases = l1_cases(decorated, check, awaits=int(50_000 * effort.scale), bars={})[:-1]
    await fill(cases, L1_KEYS)
    yield cases


GROUPS: Final[dict[str, Group]] = {"l1": l1, "bus": bus, "async-lru": async_lru}
