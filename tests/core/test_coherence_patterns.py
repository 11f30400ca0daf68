"""Invalidation by pattern: as far as keys can be found, in both tiers of every process."""

import asyncio
from contextvars import ContextVar

import pytest
from redis.exceptions import ResponseError

from async_tiercache import MISSING, TierCache
from async_tiercache._recovery import PAUSE_SECONDS
from async_tiercache.abc import Invalidation
from async_tiercache.backends.redis import RedisRemote
from async_tiercache.errors import TierRefusedError, UnkeyableError, UsageError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, soon, ticks
from tests.core.wire import Wire


async def put(cache: TierCache, *keys: str) -> None:
    """Put keys with their own names as values."""
    for key in keys:
        await cache.set(key, key)


async def left(cache: TierCache, *keys: str) -> list[str]:
    """Return which of the keys a cache finds."""
    return list(await soon(cache.get_many(keys)))


async def test_a_pattern_reaches_both_tiers_of_every_process(
    cache: TierCache, other: TierCache
) -> None:
    """Whoever holds them, and wherever; other keys stay in L2."""
    await put(cache, "user:1", "user:2", "team:1")
    mine, theirs = ["user:1", "user:2", "team:1"], ["user:1", "team:1"]
    await left(cache, *mine)
    await left(other, *theirs)

    report = await cache.invalidate_pattern("user:*")
    await ticks()

    assert report.l2 == "done"
    assert await left(cache, *mine) == ["team:1"]
    assert await left(other, *theirs) == ["team:1"]


@pytest.mark.parametrize(
    ("pattern", "hit"),
    [
        ("user:?", ["user:1", "user:2"]),
        ("user:??", ["user:10"]),
        ("*:1", ["user:1", "team:1"]),
        ("*", ["user:1", "user:2", "user:10", "team:1", "user"]),
        ("user", ["user"]),
        ("USER:*", []),
    ],
)
async def test_a_pattern_matches_whole_keys(cache: TierCache, pattern: str, hit: list[str]) -> None:
    """A star is anything, a question mark one character."""
    keys = ["user:1", "user:2", "user:10", "team:1", "user"]
    await put(cache, *keys)

    await cache.invalidate_pattern(pattern)

    assert await left(cache, *keys) == [key for key in keys if key not in hit]


@pytest.mark.parametrize(
    "special", ["[ab]", "a*b", "a?b", "{a}", "a\\b", "a^b", "a\nb", "ä-ü", "%41"]
)
async def test_arguments_with_special_characters_are_reached(
    cache: TierCache, other: TierCache, special: str
) -> None:
    """They stand escaped in the key, and mean themselves in Redis's globs."""
    source = Source("old")

    @cache.cached("name:{name}:{suffix}")
    async def value(name: str, suffix: str) -> str:
        return str(await source.load())

    await value(special, "end")
    await settled(cache)
    source.value = "new"
    await cache.invalidate_pattern("name:*:end")

    assert await soon(value(special, "end")) == "new"
    assert await soon(value(special, "end")) == "new"


@pytest.mark.parametrize("key", ["a-b", "a^b", "a.b", "a+b(c)$", "a|b", "a%5Bx%5D", "ü:ß", "a b"])
async def test_what_looks_like_a_rule_stands_for_itself(cache: TierCache, key: str) -> None:
    """In Redis's globs and in ours."""
    await put(cache, key, "axb", "b")

    await cache.invalidate_pattern(f"{key[0]}{key[1:]}")

    assert await left(cache, key, "axb", "b") == ["axb", "b"]


@pytest.mark.parametrize("pattern", ["", "a{b", "a\\*", "a\nb", "a\ud83d*", 5, None, b"x"])
async def test_what_is_no_pattern_is_refused(cache: TierCache, pattern: object) -> None:
    """Before anything is removed."""
    with pytest.raises(UnkeyableError):
        await cache.invalidate_pattern(pattern)  # type: ignore[arg-type]


@pytest.mark.parametrize("namespace", ["tes", "test2", "test:sub", "tXst", "t.st"])
async def test_a_pattern_does_not_reach_another_namespace(
    cache: TierCache, make_cache: MakeCache, namespace: str
) -> None:
    """Also not one whose name begins alike, or that a rule in it would match."""
    foreign = await make_cache(namespace=namespace)
    await put(foreign, "user:1")
    await put(cache, "user:1")

    await cache.invalidate_pattern("*")
    await ticks()
    assert await left(foreign, "user:1") == ["user:1"]

    await put(cache, "user:1")
    await foreign.invalidate_pattern("*")
    await ticks()

    assert await left(cache, "user:1") == ["user:1"]


async def test_a_pattern_reaches_its_tenant_only(make_cache: MakeCache) -> None:
    """Nor can it name another one, and a cache without tenants reaches none."""
    tenant: ContextVar[str] = ContextVar("tenant")
    cache, without = await make_cache(tenant=tenant.get), await make_cache()
    for name in ("a", "ab", "b"):
        tenant.set(name)
        await put(cache, "user:1")
    await put(without, "user:1")

    tenant.set("a")
    for pattern in ("*", "?ab?*", "??ab??*", "*user:1"):
        await cache.invalidate_pattern(pattern)
    found = {}
    for name in ("a", "ab", "b"):
        tenant.set(name)
        found[name] = await left(cache, "user:1")
    assert found == {"a": [], "ab": ["user:1"], "b": ["user:1"]}
    assert await left(without, "user:1") == ["user:1"]

    await without.invalidate_pattern("*")

    assert await left(cache, "user:1") == ["user:1"]


async def test_progress_is_told(cache: TierCache) -> None:
    """The number of keys so far; the last one is of all."""
    await put(cache, *(f"user:{number}" for number in range(30)))
    told: list[int] = []

    await cache.invalidate_pattern("user:*", progress=told.append)

    assert told == sorted(told)
    assert told[-1] >= 30


async def test_l1_alone_is_searched(alone: TierCache) -> None:
    """Loads in progress count as well."""
    source = Source("old")
    source.close()
    value = function_of(alone, source)
    await put(alone, "user:1", "team:1")
    before = asyncio.ensure_future(value(1))
    await soon(source.loading())

    await alone.invalidate_pattern("user:*")
    await alone.invalidate_pattern("value:*")
    source.gate.set()
    await soon(before)
    await settled(alone)

    assert await left(alone, "user:1", "team:1", KEY) == ["team:1"]


async def test_a_load_in_progress_is_overtaken_by_a_pattern(
    cache: TierCache, other: TierCache
) -> None:
    """Here and elsewhere: its lease is one of the keys that are found."""
    sources = [Source("old"), Source("old")]
    mine, theirs = function_of(cache, sources[0]), function_of(other, sources[1])
    for source in sources:
        source.close()
    loading = [asyncio.ensure_future(mine(1)), asyncio.ensure_future(theirs(2))]
    await soon(sources[0].loading())
    await soon(sources[1].loading())

    await cache.invalidate_pattern("value:*")
    await ticks()
    for source in sources:
        source.gate.set()
    await soon(asyncio.gather(*loading))
    await settled(cache)
    await settled(other)

    assert (mine.peek(1), theirs.peek(2)) == (MISSING, MISSING)
    assert await left(other, "value:1", "value:2") == []


async def test_it_is_refused_inside_a_transaction(cache: TierCache) -> None:
    """It would run before the commit."""
    async with cache.after_commit():
        with pytest.raises(UsageError, match="after_commit"):
            await cache.invalidate_pattern("*")


# L2 does not answer.


async def test_a_pattern_that_l2_does_not_hear_is_queued(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """This process reads around L2 whatever matches, and it is carried out later."""
    await put(other, KEY, "team:1")
    value = function_of(cache, Source("new"))
    server.connected = False
    assert (await cache.invalidate_pattern("value:*")).l2 == "queued"
    server.connected = True
    clock._now += 1  # the breaker's period
    assert cache.statistics().pending == 1

    assert await soon(value(1)) == "new"
    assert await left(cache, "team:1") == ["team:1"]

    await clock.advance(2)
    assert cache.statistics().pending == 0
    assert await left(other, KEY, "team:1") == ["team:1"]


@pytest.mark.parametrize("what", ["scan", "invalidate"])
async def test_a_pattern_that_breaks_off_is_repeated(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock, what: str
) -> None:
    """Nobody knows how far it came."""
    await put(other, "user:1", "user:2")
    server.faults.drop(what, times=1)  # type: ignore[arg-type]

    assert (await cache.invalidate_pattern("user:*")).l2 == "queued"
    await clock.advance(2)

    assert cache.statistics().pending == 0
    assert await left(other, "user:1", "user:2") == []


async def test_a_cancelled_pattern_is_carried_out(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """What is no longer true stays untrue."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await put(other, "user:1")
    scanning = wire.hold("SCAN")
    sweeping = asyncio.ensure_future(cache.invalidate_pattern("user:*"))
    await soon(scanning.reached.wait())

    sweeping.cancel()
    await ticks()
    wire.let_pass("SCAN")
    await clock.advance(2)

    assert await left(other, "user:1") == []
    assert cache.statistics().pending == 0


async def test_the_end_of_one_pattern_is_not_that_of_another_call(
    make_cache: MakeCache, server: MemoryServer, other: TierCache, clock: FakeClock
) -> None:
    """The first call has done its part; what the second was about is still to be told."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await put(other, "user:1")
    reply = wire.hold_reply("SCAN")
    first = asyncio.ensure_future(cache.invalidate_pattern("user:*"))
    await soon(reply.reached.wait())
    await put(other, "user:2")
    server.faults.drop("invalidate", times=1)
    second = await soon(cache.invalidate_pattern("user:*"))
    assert second.l2 == "queued"
    clock._now += 1  # the breaker's period
    wire.let_pass("SCAN")
    await soon(first)

    await clock.advance(2)

    assert await left(other, "user:1", "user:2") == []


async def test_a_server_that_refuses_to_invalidate_is_not_taken_for_down(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Reads go on to be answered by it, though a pattern cannot be carried out."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await put(cache, "user:1")
    reply = wire.hold_reply("SCAN")
    sweeping = asyncio.ensure_future(cache.invalidate_pattern("user:*"))
    await soon(reply.reached.wait())
    wire.refuse("INVALIDATE", ResponseError("NOPERM no right"))

    wire.let_pass("SCAN")

    assert (await soon(sweeping)).l2 == "queued"
    assert cache.l2 == "up"
    await clock.advance(1)
    assert await left(cache, "user:1") == []


async def test_a_pattern_that_is_refused_does_not_hold_up_the_next(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Nor for ever, if it is refused each time."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await put(cache, "user:1", "order:1")
    refused = ResponseError("NOPERM no right")
    for pattern in ("user:*", "order:*"):
        wire.refuse("SCAN", refused)
        assert (await cache.invalidate_pattern(pattern)).l2 == "queued"
    wire.refuse("SCAN", refused)

    await clock.advance(PAUSE_SECONDS)

    assert list(cache._core.ledger.owed) == [("", "user:*")]
    await clock.advance(PAUSE_SECONDS)


async def test_what_no_command_can_be_made_of_says_nothing_about_the_server(
    server: MemoryServer,
) -> None:
    """It would be taken for down each time that this is tried again."""
    remote = RedisRemote(None, namespace="test", client=server.client())

    with pytest.raises(TierRefusedError, match="surrogates"):
        await remote.invalidate(Invalidation(bytes(16), pattern="\ud83d*"))
    await remote.aclose()


async def test_a_pattern_is_obeyed_here_although_l2_is_not_asked(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """It did not answer a moment ago; the bus still lets L1 serve."""
    value = function_of(cache, Source("old"))
    await value(1)
    await settled(cache)
    server.faults.drop("get_many", times=1)
    await cache.get("another")
    assert cache.l2 == "down"

    await cache.invalidate_pattern("value:*")

    assert value.peek(1) is MISSING
    await clock.advance(1)


async def test_a_pattern_that_takes_long_is_not_carried_out_twice(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """What is under way need not be repeated."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    await put(cache, "user:1")
    reply = wire.hold_reply("SCAN")
    sweeping = asyncio.ensure_future(cache.invalidate_pattern("user:*"))
    await soon(reply.reached.wait())
    await cache.invalidate(keys=["another"])

    await clock.advance(1)

    assert wire.sent.count("SCAN") == 1
    wire.let_pass("SCAN")
    assert (await soon(sweeping)).l2 == "done"
