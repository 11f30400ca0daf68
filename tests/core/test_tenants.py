"""Tenants share nothing, and none can name anything of another's."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import pytest

from async_tiercache import LoadContext, TierCache
from async_tiercache.errors import ConfigurationError, UnkeyableError, UsageError
from async_tiercache.tags import MAX_TAGS
from async_tiercache.testing import MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon, ticks
from tests.core.wire import Wire

TENANT: ContextVar[str] = ContextVar("TENANT")


class Tenants:
    """The same service as two tenants see it.

    Attributes:
        caches: By tenant, the cache that it calls.
    """

    def __init__(self, **caches: TierCache) -> None:
        self.caches = caches
        self.loads: list[str] = []
        self.functions = {name: Functions(self, each) for name, each in caches.items()}

    async def run(self, tenant: str, call: Callable[["Functions"], Awaitable[Any]]) -> Any:
        """Run a call as a tenant, and return what it returns."""

        async def calling() -> Any:
            TENANT.set(tenant)
            value = await call(self.functions[tenant])
            await settled(self.caches[tenant])
            return value

        return await soon(asyncio.create_task(calling()))

    async def load(self) -> str:
        """Load what tells whose it is."""
        self.loads.append(TENANT.get())
        return TENANT.get()


class Functions:
    """All ways to reach ``row:1`` in one cache."""

    def __init__(self, tenants: Tenants, cache: TierCache) -> None:
        self.cache = cache
        load = self.load = tenants.load

        @cache.cached("row:{key}", tags=["t"])
        async def row(key: int) -> Any:
            return await load()

        @row.batch
        async def rows(keys: list[int]) -> dict[int, Any]:
            return dict.fromkeys(keys, await load())

        @cache.cached("named")
        async def named(context: LoadContext = LoadContext()) -> Any:
            context.tags = ["t"]
            return await load()

        class Repository:
            @cache.cached("row:{key}", tags=["t"])
            async def row(self, key: int) -> Any:
                return await load()

        @cache.invalidates(keys=["row:{key}"])
        async def by_key(key: int) -> None: ...

        @cache.invalidates(tags=["t"])
        async def by_tag() -> None: ...

        @cache.invalidates(keys=["row:{key}"], tags=["t"], crash_safe=True)
        async def safely(key: int) -> None: ...

        self.row, self.rows, self.named = row, rows, named
        self.method = Repository().row
        self.by_key, self.by_tag, self.safely = by_key, by_tag, safely

    async def load_many(self, keys: list[str]) -> dict[str, str]:
        """Load several."""
        return dict.fromkeys(keys, await self.load())

    @asynccontextmanager
    async def writing(self, value: str) -> AsyncIterator[None]:
        """Write a value."""
        async with self.cache.writing("row:1", tags=["t"]) as writing:
            writing.set(value)
            yield


@pytest.fixture(params=["names", "function", "alone"])
async def tenants(request: pytest.FixtureRequest, make_cache: MakeCache) -> Tenants:
    """Return two tenants: of caches with a name each, or of one that asks for the name."""
    if request.param == "names":
        return Tenants(a=await make_cache(tenant="a"), b=await make_cache(tenant="b"))
    only = {"client": None} if request.param == "alone" else {}
    cache = await make_cache(tenant=TENANT.get, **only)  # type: ignore[arg-type]
    tenants = Tenants(a=cache)
    tenants.caches["b"], tenants.functions["b"] = cache, tenants.functions["a"]
    return tenants


async def writes(functions: Functions) -> None:
    """Write by ``writing()``."""
    async with functions.writing(TENANT.get()):
        pass


async def commits(functions: Functions) -> None:
    """Put a value at the end of a transaction."""
    async with functions.cache.after_commit():
        await functions.cache.set("row:1", TENANT.get())


FILLS: dict[str, Callable[[Functions], Awaitable[Any]]] = {
    "function": lambda f: f.row(1),
    "method": lambda f: f.method(1),
    "batch": lambda f: f.rows([1]),
    "refresh": lambda f: f.row.refresh(1),
    "get_or_load": lambda f: f.cache.get_or_load("row:1", f.load, tags=["t"]),
    "get_or_load_many": lambda f: f.cache.get_or_load_many(["row:1"], f.load_many, tags=["t"]),
    "set": lambda f: f.cache.set("row:1", TENANT.get(), tags=["t"]),
    "put": lambda f: f.row.put(TENANT.get(), 1),
    "writing": writes,
    "after_commit": commits,
}


async def peeked(functions: Functions) -> Any:
    """Return what L1 has."""
    return functions.row.peek(1) or None


READS: dict[str, Callable[[Functions], Awaitable[Any]]] = {
    "function": lambda f: f.row(1),
    "method": lambda f: f.method(1),
    "batch": lambda f: f.rows([1]),
    "get": lambda f: f.cache.get("row:1", None),
    "get_many": lambda f: f.cache.get_many(["row:1"]),
    "get_or_load": lambda f: f.cache.get_or_load("row:1", f.load),
    "get_or_load_many": lambda f: f.cache.get_or_load_many(["row:1"], f.load_many),
    "peek": peeked,
}


@pytest.mark.parametrize("fill", FILLS)
async def test_a_tenant_sees_nothing_of_another_s(tenants: Tenants, fill: str) -> None:
    """Whichever way it was stored, and whichever way it is read."""
    await tenants.run("a", FILLS[fill])

    for name, read in READS.items():
        assert await tenants.run("b", read) in ("b", None, {}, {1: "b"}, {"row:1": "b"}), name
    for name, read in READS.items():
        assert await tenants.run("a", read) in ("a", None, {1: "a"}, {"row:1": "a"}), name


async def in_block(functions: Functions) -> None:
    """Invalidate at the end of a block."""
    async with functions.cache.invalidating(keys=["row:1"], tags=["t"]):
        await ticks()


async def in_transaction(functions: Functions) -> None:
    """Invalidate at the end of a transaction."""
    async with functions.cache.after_commit():
        await functions.cache.invalidate(keys=["row:1"], tags=["t"])
        await functions.row.invalidate(1)


REMOVALS: dict[str, Callable[[Functions], Awaitable[Any]]] = {
    "keys": lambda f: f.cache.invalidate(keys=["row:1"]),
    "tags": lambda f: f.cache.invalidate(tags=["t"]),
    "soft": lambda f: f.cache.invalidate(keys=["row:1"], tags=["t"], soft="1m"),
    "function": lambda f: f.row.invalidate(1),
    "method": lambda f: f.method.invalidate(1),
    "batch": lambda f: f.rows.invalidate([1]),
    "decorated key": lambda f: f.by_key(1),
    "decorated tag": lambda f: f.by_tag(),
    "crash safe": lambda f: f.safely(1),
    "invalidating": in_block,
    "after_commit": in_transaction,
    "pattern": lambda f: f.cache.invalidate_pattern("row:*"),
    "any pattern": lambda f: f.cache.invalidate_pattern("*"),
    "clear": lambda f: f.cache.clear(),
}


@pytest.mark.parametrize("removal", REMOVALS)
async def test_a_tenant_removes_its_own_and_nothing_of_another_s(
    tenants: Tenants, removal: str
) -> None:
    """The other one's is served as before, without a load."""
    await tenants.run("a", FILLS["function"])
    await tenants.run("b", FILLS["function"])
    await tenants.run("a", REMOVALS[removal])
    await ticks()
    tenants.loads.clear()

    assert await tenants.run("b", READS["get"]) == "b"
    assert await tenants.run("b", READS["function"]) == "b"
    assert await tenants.run("a", READS["get"]) is None
    assert tenants.loads == []


async def test_a_tag_that_a_loader_names_is_its_tenant_s(tenants: Tenants) -> None:
    """As one that is declared."""
    for tenant in ("a", "b"):
        assert await tenants.run(tenant, lambda f: f.named()) == tenant
    await tenants.run("a", REMOVALS["tags"])
    await ticks()

    assert await tenants.run("a", lambda f: f.cache.get("named", None)) is None
    assert await tenants.run("b", lambda f: f.cache.get("named", None)) == "b"


async def test_a_value_of_a_tenant_may_have_as_many_tags_as_any(make_cache: MakeCache) -> None:
    """The tag of the tenant itself is not counted."""
    cache = await make_cache(tenant="acme")
    source, tags = Source(), [f"tag:{number}" for number in range(MAX_TAGS)]
    value = function_of(cache, source, tags=tags)

    for _ in range(2):
        assert await value(1) == "v1"
        await settled(cache)
    await cache.set("put", "v2", tags=tags)

    other = await make_cache(tenant="acme")
    assert await other.get_many([KEY, "put"]) == {KEY: "v1", "put": "v2"}
    assert cache.statistics().loads == source.loads == 1


async def test_one_tag_too_many_is_one_for_a_tenant_too(make_cache: MakeCache) -> None:
    """Those of the decorator and of the loader together."""
    cache = await make_cache(tenant="acme")

    @cache.cached("row", tags=[f"declared:{number}" for number in range(MAX_TAGS)])
    async def row(context: LoadContext = LoadContext()) -> int:
        context.tags = ["named"]
        return 1

    await row()
    await settled(cache)

    assert cache.statistics().not_stored == {"unsound": 1}


async def test_two_tenants_load_the_same_key_at_once(tenants: Tenants) -> None:
    """Neither joins the other's load."""
    first, second = await asyncio.gather(
        tenants.run("a", FILLS["function"]), tenants.run("b", FILLS["function"])
    )

    assert (first, second) == ("a", "b")


async def test_the_text_of_a_key_is_what_its_tenant_writes(tenants: Tenants) -> None:
    """Where a text is asked for, it may be given."""

    async def roundtrip(functions: Functions) -> Any:
        await functions.row(1)
        assert functions.row.key(1) == functions.method.key(1) == "row:1"
        return await functions.cache.get(functions.row.key(1))

    assert await tenants.run("a", roundtrip) == "a"


@pytest.mark.parametrize("text", ["?a?row:1", "?b?", "?"])
async def test_no_text_names_another_tenant_s(tenants: Tenants, text: str) -> None:
    """The sign between is refused in all of them."""
    calls: list[Callable[[Functions], Awaitable[Any]]] = [
        lambda f: f.cache.get_many([text]),
        lambda f: f.cache.set(text, 1),
        lambda f: f.cache.set("row:1", 1, tags=[text]),
        lambda f: f.cache.invalidate(keys=[text]),
        lambda f: f.cache.invalidate(tags=[text]),
        lambda f: f.cache.get_or_load(text, f.load),
    ]
    for call in calls:
        with pytest.raises(UnkeyableError):
            await tenants.run("b", call)


@pytest.mark.parametrize("one", ["a?b", "a%3Fb", "a:b", "*", "é", "a b"])
async def test_names_of_tenants_are_told_apart(make_cache: MakeCache, one: str) -> None:
    """Whatever signs are in them."""
    here, there = await make_cache(tenant=one), await make_cache(tenant="a")
    third = await make_cache(tenant=one + "?")
    await here.set("k", "here")
    await third.set("k", "third")

    assert await there.get("k", None) is None
    assert await third.get("k") == "third"
    await here.clear()
    await ticks()
    assert await third.get("k") == "third"


async def test_a_cache_without_tenants_sees_nothing_of_theirs(
    make_cache: MakeCache, cache: TierCache
) -> None:
    """Nor they of it; a clear of the whole namespace is for all."""
    tenant = await make_cache(tenant="a")
    await tenant.set("k", "theirs")
    assert await cache.get("k", None) is None
    await cache.set("k", "ours")
    await cache.invalidate_pattern("*")

    assert await tenant.get("k") == "theirs"
    await cache.clear()
    await ticks()
    assert await tenant.get("k", None) is None


# Clearing.


async def test_a_tenant_is_cleared_by_one_command(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Whatever the number of its keys."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client, tenant="a")
    for number in range(50):
        await cache.set(f"key:{number}", number)
    wire.sent.clear()
    await cache.clear()

    assert wire.sent == ["INVALIDATE"]
    assert await cache.get_many([f"key:{number}" for number in range(50)]) == {}


@pytest.mark.parametrize("fill", FILLS)
async def test_a_tenant_is_cleared_of_whatever_was_stored(tenants: Tenants, fill: str) -> None:
    """All of it stands under the tenant's tag."""
    await tenants.run("a", FILLS[fill])
    await tenants.run("a", REMOVALS["clear"])

    assert await tenants.run("a", READS["get"]) is None


async def test_a_load_during_the_tenant_s_clear_is_not_kept(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """In another process, which has not heard of it."""
    cache, other = await make_cache(tenant="a"), await make_cache(tenant="a")
    source = Source("old")
    source.close()
    loading = asyncio.ensure_future(cache.get_or_load("k", source.load))
    await soon(source.loading())
    server.faults.hang("listen")
    await other.clear()
    source.gate.set()
    assert await soon(loading) == "old"
    await settled(cache)

    assert await other.get("k", None) is None
    server.faults.clear()


# None.


CALLS: dict[str, Callable[[Functions], Awaitable[Any]]] = {
    **{f"fill by {name}": call for name, call in FILLS.items() if name != "after_commit"},
    **{f"read by {name}": call for name, call in READS.items()},
    **{f"remove by {name}": call for name, call in REMOVALS.items()},
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("answer", ["unset", "", None, 7], ids=repr)
async def test_a_call_without_a_tenant_is_refused(
    make_cache: MakeCache, call: str, answer: Any
) -> None:
    """Before anything is loaded, changed or stored."""
    given: ContextVar[Any] = ContextVar("given")
    token = TENANT.set("nobody")
    if answer != "unset":
        given.set(answer)
    functions = Tenants(a=await make_cache(tenant=given.get)).functions["a"]

    with pytest.raises(UsageError, match="tenant"):
        await CALLS[call](functions)
    assert functions.cache.statistics().loads == 0
    TENANT.reset(token)


@pytest.mark.parametrize("tenant", ["", 7, b"a"], ids=repr)
def test_what_can_be_no_tenant_is_refused(tenant: Any) -> None:
    """When the cache is made."""
    with pytest.raises(ConfigurationError, match="tenant"):
        TierCache(namespace="test", tenant=tenant)


# Behind a caller.


async def test_a_refresh_behind_a_caller_is_its_tenant_s(make_cache: MakeCache, clock: Any) -> None:
    """It runs in a copy of the caller's context."""
    tenants = Tenants(a=await make_cache(tenant=TENANT.get))
    tenants.functions["b"] = tenants.functions["a"]
    tenants.caches["b"] = tenants.caches["a"]
    cache = tenants.caches["a"]

    @cache.cached("due", ttl=10, grace=100, soft_timeout=0)
    async def due() -> str:
        return await tenants.load()

    for tenant in ("a", "b"):
        assert await tenants.run(tenant, lambda _: due()) == tenant
    await clock.advance(11)
    for tenant in ("a", "b"):
        await tenants.run(tenant, lambda _: due())

    assert tenants.loads == ["a", "b", "a", "b"]
    assert [await tenants.run(each, lambda _: due()) for each in ("a", "b")] == ["a", "b"]
