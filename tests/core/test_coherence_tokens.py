"""Tokens: a reader in another process gets nothing older than what its token tells of."""

import asyncio
import base64
from typing import Any

import msgpack  # type: ignore[import-untyped]
import pytest

from async_tiercache import MISSING, Report, TierCache
from async_tiercache._tokens import MAX_BYTES, SECRET_SECONDS, _sign
from async_tiercache.testing import FakeClock, MemoryServer, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, all_of, function_of, soon, ticks
from tests.core.wire import MESSAGE, Wire

LONG: dict[str, Any] = {"ttl": 1000, "l1_ttl": 900}


class Deaf:
    """A process to which no message comes, with a value in its L1."""

    def __init__(self, wire: Wire, cache: TierCache) -> None:
        self.wire = wire
        self.cache = cache
        self.source = Source("old")
        self.value = function_of(cache, self.source, tags=["t"], **LONG)


@pytest.fixture
async def deaf(make_cache: MakeCache, server: MemoryServer) -> Deaf:
    """Return the process that has not heard."""
    wire = Wire(server)
    deaf = Deaf(wire, await make_cache(client=wire.client))
    await deaf.value(1)
    await settled(deaf.cache)
    wire.hold_reply(MESSAGE)
    deaf.source.value = "new"
    return deaf


@pytest.mark.parametrize("what", [{"keys": [KEY]}, {"tags": ["t"]}])
async def test_a_token_brings_what_the_bus_has_not(
    deaf: Deaf, other: TierCache, what: dict[str, list[str]]
) -> None:
    """By key or by tag; the message itself comes later, and changes nothing."""
    report = await other.invalidate(keys=what.get("keys", []), tags=what.get("tags", []))
    assert deaf.value.peek(1) == "old"

    assert await deaf.cache.apply(report.token)

    assert await soon(deaf.value(1)) == "new"
    await settled(deaf.cache)
    deaf.wire.let_pass(MESSAGE)
    await ticks()
    assert deaf.value.peek(1) == "new"


async def test_one_token_tells_of_all_that_a_block_has_changed(
    deaf: Deaf, cache: TierCache, other: TierCache
) -> None:
    """Also of what a block inside it has, or a task; not of another cache, and not of later."""
    with other.changes() as changes:
        assert changes.token == ""
        await cache.invalidate(keys=[KEY])
        assert changes.token == ""
        with other.changes() as inner:
            await asyncio.create_task(other.invalidate(tags=["t"]))
        async with other.after_commit():
            await other.invalidate(keys=["b"])
    await other.invalidate(keys=["c"])

    told = await other._core.tokens.opened(changes.token)
    assert told is not None
    assert (told[0].keys, told[0].tags, told[1]) == (("b",), ("t",), False)
    first = await other._core.tokens.opened(inner.token)
    assert first is not None
    assert (first[0].keys, first[0].tags) == ((), ("t",))
    assert await deaf.cache.apply(changes.token)
    assert await soon(deaf.value(1)) == "new"
    deaf.wire.let_pass(MESSAGE)


async def test_a_block_that_has_ended_notes_nothing_more(cache: TierCache) -> None:
    """A task that was begun inside may live as long as the process, and invalidate all the time."""
    going_on = asyncio.Event()

    async def outlive() -> None:
        await going_on.wait()
        await cache.invalidate(keys=["late"])

    with cache.changes() as outer:
        with cache.changes() as changes:
            outliving = asyncio.create_task(outlive())
            await cache.invalidate(keys=[KEY])
            await ticks()
        going_on.set()
        await soon(outliving)

    for block, keys in ((changes, (KEY,)), (outer, (KEY, "late"))):
        told = await cache._core.tokens.opened(block.token)
        assert told is not None
        assert told[0].keys == keys


async def test_a_token_of_ones_own_changes_nothing_here(
    cache: TierCache, server: MemoryServer
) -> None:
    """It comes back with each request of its user."""
    source = Source("a")
    value = function_of(cache, source, **LONG)
    with cache.changes() as changes:
        await cache.invalidate(keys=[KEY])
        await cache.invalidate(keys=["b"])
    token = changes.token
    await value(1)
    await settled(cache)

    assert await cache.apply(token)
    assert value.peek(1) == "a"


async def test_a_token_detaches_the_load_that_is_older(deaf: Deaf, other: TierCache) -> None:
    """Its reader must not join it."""
    await deaf.cache.invalidate(keys=[KEY])
    deaf.source.value = "old"
    deaf.source.close()
    before = asyncio.ensure_future(deaf.value(1))
    await soon(deaf.source.loading(2))
    deaf.source.value = "new"
    report = await other.invalidate(keys=[KEY])

    await deaf.cache.apply(report.token)
    after = asyncio.ensure_future(deaf.value(1))
    await ticks()
    deaf.source.gate.set()

    assert await all_of(before, after) == ["new", "new"]
    deaf.wire.let_pass(MESSAGE)


async def test_a_queued_token_lets_the_other_process_read_around_l2(
    cache: TierCache, other: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """L2 holds what was invalidated and answers again, and nobody has told it yet."""
    source = Source("old")
    value = function_of(other, source)
    await value(1)
    await settled(other)
    server.faults.drop("invalidate", times=1)
    source.value = "new"
    report = await cache.invalidate(keys=[KEY])
    assert report == Report("queued")

    assert await other.apply(report.token)

    assert await soon(value(1)) == "new"
    assert other.statistics().pending == 1
    await clock.advance(2)
    assert (cache.statistics().pending, other.statistics().pending) == (0, 0)
    assert await soon(value(1)) == "new"


async def test_the_same_token_counts_once(deaf: Deaf, other: TierCache) -> None:
    """It comes with each request of the user, and what was loaded since is kept."""
    report = await other.invalidate(keys=[KEY])
    await deaf.cache.apply(report.token)
    await deaf.value(1)
    await settled(deaf.cache)

    assert await deaf.cache.apply(report.token)

    assert deaf.value.peek(1) == "new"
    deaf.wire.let_pass(MESSAGE)


async def test_an_own_token_removes_nothing(cache: TierCache) -> None:
    """This process has forgotten long since."""
    value = function_of(cache, Source())
    report = await cache.invalidate(keys=[KEY])
    await value(1)
    await settled(cache)

    assert await cache.apply(report.token)

    assert value.peek(1) == "v1"


async def test_a_token_of_many_keys_is_short_and_reaches_all(deaf: Deaf, other: TierCache) -> None:
    """It fits into a cookie, and tells to forget everything."""
    report = await other.invalidate(keys=[KEY, *(f"key:{number}" for number in range(1000))])
    assert len(report.token) <= MAX_BYTES

    assert await deaf.cache.apply(report.token)

    assert deaf.value.peek(1) is MISSING
    deaf.wire.let_pass(MESSAGE)


def flipped(token: str, place: int) -> str:
    """Return a token of which one character differs."""
    index = place % len(token)
    return token[:index] + ("A" if token[index] != "A" else "B") + token[index + 1 :]


@pytest.mark.parametrize("place", [0, 1, 20, 40, -30, -22, -2])
async def test_a_token_that_was_changed_is_ignored(
    deaf: Deaf, other: TierCache, place: int
) -> None:
    """Whichever part of it."""
    report = await other.invalidate(keys=[KEY])

    assert not await deaf.cache.apply(flipped(report.token, place))

    assert deaf.value.peek(1) == "old"
    deaf.wire.let_pass(MESSAGE)


@pytest.mark.parametrize(
    "garbage",
    ["", "=", "====", "A", "\0", "ÄÖÜ", "\ud800", "x" * 24, "x" * 10_000, "-_" * 30, None, 5, b"x"],
)
async def test_garbage_is_no_token(cache: TierCache, garbage: Any) -> None:
    """It comes from outside, and is no error of the caller's."""
    assert not await cache.apply(garbage)


async def test_a_token_of_another_namespace_is_ignored(
    cache: TierCache, make_cache: MakeCache
) -> None:
    """Its secret is another one, even where the name begins alike."""
    foreign = await make_cache(namespace="test2")
    report = await foreign.invalidate(keys=[KEY])

    assert report.token
    assert not await cache.apply(report.token)


@pytest.mark.parametrize(
    "fields",
    [(2, "another form"), (2,), (), 7, "text", [1], (1, b"r" * 16, ["k"], [], 0.0, False, "more")],
)
async def test_a_token_of_another_release_is_ignored(cache: TierCache, fields: Any) -> None:
    """It is signed with the same secret, and says what this one cannot understand."""
    (secret,) = cache._core.tokens._secrets
    payload = msgpack.packb(fields)
    token = base64.urlsafe_b64encode(payload + _sign(secret, payload)).rstrip(b"=").decode()

    assert not await cache.apply(token)


async def test_a_token_is_made_without_l2_too(
    cache: TierCache, server: MemoryServer, clock: FakeClock
) -> None:
    """The secret is known from before."""
    server.connected = False

    assert (await cache.invalidate(keys=[KEY])).token

    server.connected = True
    await clock.advance(1)


async def test_a_cache_of_l1_alone_has_no_token(alone: TierCache) -> None:
    """There is nobody else to tell, and what comes is ignored."""
    assert (await alone.invalidate(keys=[KEY])).token == ""
    assert not await alone.apply("x" * 60)


async def test_a_secret_that_was_lost_is_put_back(
    cache: TierCache, make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """Redis evicts what is hardly asked for; processes that start later share it all the same."""
    await server.client().flushall()
    await clock.advance(SECRET_SECONDS + 0.1)
    report = await cache.invalidate(keys=[KEY])
    later = await make_cache()

    assert await later.apply(report.token)
    assert await cache.apply((await later.invalidate(keys=["another"])).token)


async def test_a_secret_that_was_replaced_is_learned(
    cache: TierCache, make_cache: MakeCache, server: MemoryServer, clock: FakeClock
) -> None:
    """A process that has started first after the loss has made another one."""
    earlier = await cache.invalidate(keys=[KEY])
    await server.client().flushall()
    later = await make_cache()
    await clock.advance(SECRET_SECONDS + 0.1)
    report = await cache.invalidate(keys=[KEY])

    assert await later.apply(report.token)
    assert await cache.apply(earlier.token)


async def test_a_write_has_a_token_too(
    cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """A process that is behind the bus does not serve what was written over."""
    await cache.set(KEY, "old")
    assert await other.get(KEY) == "old"
    server.faults.drop("listen")
    report = await cache.set(KEY, "new")
    assert await other.get(KEY) == "old"

    assert await other.apply(report.token)

    assert await other.get(KEY) == "new"
