"""What Litestar keeps of its own, in the tiers of a cache."""

import json
from datetime import timedelta
from typing import Any

import pytest
from litestar import Litestar, Request, get, post
from litestar.config.response_cache import ResponseCacheConfig
from litestar.stores.registry import StoreRegistry

from async_tiercache import Policy, TierCache
from async_tiercache.errors import ConfigurationError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations.litestar import TierCacheStore
from tests.conftest import MakeCache
from tests.frameworks.shop import Shop, Site, living


@pytest.fixture
def store(cache: TierCache, clock: FakeClock) -> TierCacheStore:
    """Return a store."""
    return TierCacheStore(cache, clock=clock)


@pytest.fixture
def elsewhere(other: TierCache, clock: FakeClock) -> TierCacheStore:
    """Return the same store on another server."""
    return TierCacheStore(other, clock=clock)


@pytest.mark.parametrize("key", ["k", "GET/a?b=*&c={d}", "a:b", "", "ü" * 600], ids=repr)
async def test_a_value_is_found_on_all_servers(
    store: TierCacheStore, elsewhere: TierCacheStore, cache: TierCache, key: str
) -> None:
    """Under any key, as bytes."""
    await store.set(key, "text", 60)
    await store.set(f"{key}!", b"\xff")
    await settled(cache)

    assert await store.get(key) == await elsewhere.get(key) == b"text"
    assert await elsewhere.get(f"{key}!") == b"\xff"
    assert await elsewhere.exists(key)


async def test_what_is_not_there_is_nothing(store: TierCacheStore) -> None:
    """To delete it does nothing."""
    await store.delete("k")

    assert await store.get("k") is None
    assert not await store.exists("k")
    assert await store.expires_in("k") is None


async def test_nothing_but_an_empty_value_is_there(store: TierCacheStore) -> None:
    """It is no value that is absent."""
    await store.set("k", b"")

    assert await store.get("k") == b""
    assert await store.exists("k")


@pytest.mark.parametrize("expires_in", [90, timedelta(seconds=90)], ids=["seconds", "timedelta"])
async def test_a_value_ends(
    store: TierCacheStore, elsewhere: TierCacheStore, clock: FakeClock, expires_in: Any
) -> None:
    """When it was said to, on all servers."""
    await store.set("k", b"v", expires_in)
    await clock.advance(30)
    assert await elsewhere.expires_in("k") == 60
    await clock.advance(59)
    assert await store.get("k") == await elsewhere.get("k") == b"v"
    await clock.advance(2)

    assert await store.get("k") is None
    assert await elsewhere.get("k") is None


async def test_a_value_does_not_end_before_its_time() -> None:
    """Whatever the cache does with other values, lest they end together."""
    clock = FakeClock(draw=0.999)
    async with TierCache(namespace="test", clock=clock, policy=Policy(jitter=0.5)) as cache:
        store = TierCacheStore(cache, clock=clock)
        await store.set("k", b"v", 100)
        await clock.advance(99)

        assert await store.get("k") == b"v"


async def test_a_value_without_a_time_is_kept_for_the_longest(
    cache: TierCache, clock: FakeClock
) -> None:
    """A cache keeps nothing for ever."""
    store = TierCacheStore(cache, longest="1h", clock=clock)
    await store.set("k", b"v")
    await clock.advance(3599)

    assert await store.expires_in("k") is None
    assert await store.get("k", renew_for=7200) == b"v"
    await clock.advance(2)
    assert await store.get("k") is None


async def test_a_value_is_renewed(store: TierCacheStore, clock: FakeClock) -> None:
    """When it is read."""
    await store.set("k", b"v", 10)
    await clock.advance(9)
    assert await store.get("k", renew_for=20) == b"v"
    await clock.advance(19)

    assert await store.get("k") == b"v"
    assert await store.expires_in("k") == 1


async def test_a_value_is_deleted_everywhere(
    store: TierCacheStore, elsewhere: TierCacheStore, cache: TierCache, other: TierCache
) -> None:
    """And no other is."""
    for key in ("k", "l"):
        await store.set(key, b"v", 60)
        assert await elsewhere.get(key) == b"v"
    await store.delete("k")
    await settled(cache)
    await settled(other)

    assert await store.get("k") is None
    assert await elsewhere.get("k") is None
    assert await elsewhere.get("l") == b"v"


async def test_all_that_is_deleted_is_the_stores_own(
    store: TierCacheStore, cache: TierCache, clock: FakeClock
) -> None:
    """And that of the stores below it; nothing of its neighbours, and nothing of the cache."""
    below = store.with_namespace("below")
    stores = [store, below, below.with_namespace("deep"), TierCacheStore(cache, "st", clock=clock)]
    for number, each in enumerate(stores):
        await each.set("k", b"%d" % number, 60)
    await cache.set("k", "ours")
    assert [await each.get("k") for each in stores] == [b"0", b"1", b"2", b"3"]

    await below.delete_all()
    assert [await each.get("k") for each in stores] == [b"0", None, None, b"3"]
    await store.delete_all()
    assert [await each.get("k") for each in stores] == [None, None, None, b"3"]
    assert await cache.get("k") == "ours"


async def test_names_that_run_into_each_other_are_told_apart(cache: TierCache) -> None:
    """A key is no store's name, whatever is in it."""
    outer, inner = TierCacheStore(cache, "a"), TierCacheStore(cache, "a:b")
    await outer.with_namespace("b").set("c", b"1")
    await outer.set("b:c", b"2")
    await inner.set("c", b"3")

    assert await outer.with_namespace("b").get("c") == b"1"
    assert await outer.get("b:c") == b"2"
    assert await inner.get("c") == b"3"


@pytest.mark.parametrize("options", [{"namespace": ""}, {"longest": "soon"}])
async def test_what_cannot_be_used_is_refused(cache: TierCache, options: Any) -> None:
    """When the store is made."""
    with pytest.raises(ConfigurationError):
        TierCacheStore(cache, **options)


async def test_litestar_keeps_its_responses_in_it(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """On one server for all, until the store is emptied."""

    async def site() -> Site:
        shop = Shop(await make_cache(entered=False), clock)
        root = TierCacheStore(shop.cache, clock=clock)

        @get("/product", cache=60)
        async def product() -> dict[str, int]:
            return shop.product(7)

        @post("/product")
        async def change(request: Request[Any, Any, Any]) -> None:
            await request.app.stores.get("responses").delete_all()

        app = Litestar(
            [product, change],
            stores=StoreRegistry(default_factory=root.with_namespace),
            response_cache_config=ResponseCacheConfig(store="responses"),
            lifespan=[shop.cache],
        )
        return Site(app, shop)

    here, there = await site(), await site()
    async with living(here.app), living(there.app):
        await here.fetch("/product")
        await settled(here.shop.cache)
        answers = [await each.fetch("/product") for each in (here, there)]
        await there.fetch("/product", method="POST")
        await settled(here.shop.cache)
        anew = await here.fetch("/product")

    assert [json.loads(each.body) for each in answers] == [{"product": 7, "made": 1}] * 2
    assert json.loads(anew.body) == {"product": 7, "made": 2}
    assert there.shop.made["product"] == 0
