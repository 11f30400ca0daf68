"""Origins that fail and clients that go: what is stored stays, and nothing runs on for nobody."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.errors import LoadTimeoutError, RecursiveLoadError
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations._http_lookup import LONGEST
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Exchange, Origin, begin, fetch, raw
from tests.conftest import MakeCache
from tests.core.source import DEADLINE, ticks
from tests.core.wire import Wire

ETAG = ("etag", '"a"')


@pytest.fixture
def origin() -> Origin:
    """Return an application whose responses say what a test says."""
    return Origin(("cache-control", "max-age=10"), ETAG)


async def _fail() -> None:
    raise ZeroDivisionError


async def _hang() -> None:
    await asyncio.Event().wait()


# Origins that fail.


@pytest.mark.parametrize("how", ["status", "error"])
@pytest.mark.parametrize("tiers", ["both", "memory"])
@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("stale-if-error=60", "fwd=stale; {}ttl=-"),
        ("stale-while-revalidate=60", "hit; ttl=-"),
        ("stale-while-revalidate=60, stale-if-error=60", "hit; ttl=-"),
    ],
)
async def test_a_stale_response_outlives_the_failures_of_its_origin(
    make_cache: MakeCache, origin: Origin, clock: FakeClock, more: str, told: str, *,
    tiers: str, how: str,
) -> None:  # fmt: skip
    """Each time, not once: a failure says nothing of what is stored (R12)."""
    cache = await make_cache() if tiers == "both" else await make_cache(client=None)
    origin.fields = [("cache-control", f"max-age=10, {more}"), ETAG]
    app = ResponseCache(origin, cache=cache, clock=clock)
    await fetch(app)
    await settled(cache)
    await clock.advance(11)
    origin.fields = []
    if how == "error":
        origin.within = _fail
    else:
        origin.status, origin.parts = 503, [b"down"]

    for _ in range(3):
        found = await fetch(app)
        await ticks()
        await settled(cache)
        assert (found.status, found.body) == (200, b"hello")
        answered = "fwd-status=503; " if how == "status" else ""
        assert told.format(answered) in found.fields["cache-status"]
        await clock.advance(1)
    await clock.advance(60)
    if how == "error":
        with pytest.raises(ZeroDivisionError):
            await fetch(app)
    else:
        assert (await fetch(app)).status == 503


@pytest.mark.parametrize(
    ("profile", "said", "ended", "covered"),
    [
        ("origin-safe", "max-age=10, stale-if-error=600", False, True),
        ("origin-safe", "max-age=10, stale-if-error=600", True, False),
        ("origin-safe", "max-age=10", False, False),
        ("rfc9111", "max-age=10", False, True),
        ("rfc9111", "max-age=10, must-revalidate", False, False),
    ],
)
async def test_a_stale_response_takes_the_place_of_one_that_does_not_come(
    origin: Origin, cache: TierCache, clock: FakeClock, profile: Any, said: str, *,
    ended: bool, covered: bool,
) -> None:  # fmt: skip
    """A time-out is a failure like others (R12); all who wait have it, unless it has ended."""
    origin.fields = [("cache-control", said), ETAG, ("surrogate-key", "page")]
    app = ResponseCache(origin, cache=cache, clock=clock, profile=profile)
    await fetch(app)
    await settled(cache)
    await clock.advance(11)
    origin.within = _hang
    clients = [begin(app) for _ in range(3)]
    await ticks()
    if ended:
        await cache.invalidate(tags=["page"])
    await clock.advance(LONGEST + 1)

    if not covered:
        assert {type(error) for error in await errors_of(clients)} == {LoadTimeoutError}
        return
    first, *others = [await each.done() for each in clients]
    assert first.fields["cache-status"].startswith("tiercache; fwd=stale; ttl=-")
    assert {(each.status, each.body) for each in (first, *others)} == {(200, b"hello")}
    assert origin.calls == 2


async def test_a_failure_that_its_client_gets_ends_nothing(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """What is fresh for the others is so still."""
    app = ResponseCache(origin, cache=cache, clock=clock, clients="honour")
    await fetch(app)
    await settled(cache)
    origin.fields, origin.status = [], 503

    assert (await fetch(app, ("cache-control", "no-cache"))).status == 503
    await settled(cache)
    found = await fetch(app)
    assert (found.hit, found.status) == (True, 200)


async def test_a_failure_with_a_lifetime_takes_the_place_of_what_was_stored(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """It is a response like others, if nothing says that the old one is better than an error."""
    app = ResponseCache(origin, cache=cache, clock=clock, profile="rfc9111")
    await fetch(app)
    await settled(cache)
    await clock.advance(11)
    origin.status, origin.fields = 503, [("cache-control", "max-age=10")]

    assert (await fetch(app)).status == 503
    await settled(cache)
    found = await fetch(app)
    assert (found.hit, found.status) == (True, 503)


async def test_what_was_ended_does_not_take_the_place_of_an_error(
    origin: Origin, make_cache: MakeCache, clock: FakeClock
) -> None:
    """Even if it was stale, and found, before."""
    here, there = await make_cache(), await make_cache()
    origin.fields = [("cache-control", "max-age=10, stale-if-error=60"), ETAG]
    app = ResponseCache(origin, cache=here, clock=clock)
    elsewhere = ResponseCache(origin, cache=there, clock=clock)
    await fetch(app)
    await settled(here)
    await clock.advance(11)
    gate, reached = asyncio.Event(), asyncio.Event()

    async def within() -> None:
        if origin.calls == 2:
            reached.set()
            await gate.wait()

    origin.within = within
    waiting = begin(app)
    await reached.wait()
    origin.status, origin.fields = 204, []
    await fetch(elsewhere, method="POST")
    origin.status, origin.parts = 503, [b"down"]
    gate.set()
    await waiting.done()
    await settled(here)

    assert (await fetch(app)).status == 503
    assert (await fetch(elsewhere)).status == 503


@pytest.mark.parametrize("stale", [False, True])
async def test_nothing_follows_an_error(
    origin: Origin, cache: TierCache, clock: FakeClock, *, stale: bool
) -> None:
    """Whoever is above has answered it by then."""
    app = ResponseCache(origin, cache=cache, clock=clock)
    if stale:
        await fetch(app)
        await settled(cache)
        await clock.advance(11)
    origin.fields = [("cache-control", "max-age=10"), ("etag", '"b"')]
    origin.error = ZeroDivisionError()
    slow = begin(app, reads=False)
    assert slow.task is not None
    with pytest.raises(ZeroDivisionError):
        await slow.task

    slow.reads.set()
    await ticks()
    assert slow.messages == []


# Applications that wait for themselves.


@pytest.mark.parametrize("stale", [False, True])
async def test_a_second_one_over_the_same_cache_is_told_of(
    origin: Origin, cache: TierCache, clock: FakeClock, *, stale: bool
) -> None:
    """Each would wait for the other's record; with a cache of its own it would not."""
    inner = ResponseCache(origin, cache=cache, clock=clock)
    app = ResponseCache(inner, cache=cache, clock=clock)
    if stale:
        await fetch(inner)
        await settled(cache)
        await clock.advance(11)

    with pytest.raises(RecursiveLoadError, match="The response to '/' waits for itself") as caught:
        await fetch(app)
    assert "one ResponseCache around an application" in caught.value.hint


async def test_one_over_another_cache_stores_too(
    origin: Origin, make_cache: MakeCache, cache: TierCache, clock: FakeClock
) -> None:
    """They have nothing in common."""
    within = await make_cache(namespace="within")
    app = ResponseCache(
        ResponseCache(origin, cache=within, clock=clock, name=None), cache=cache, clock=clock
    )

    assert not (await fetch(app)).hit
    assert (await fetch(app)).hit


# Clients that wait for what fails.


@pytest.fixture
def gate(origin: Origin) -> asyncio.Event:
    """Return what the application waits for, each time but the first; it fails then."""
    gate = asyncio.Event()

    async def within() -> None:
        if origin.calls > 1:
            await gate.wait()
            raise ZeroDivisionError

    origin.within = within
    return gate


async def errors_of(clients: list[Exchange]) -> list[BaseException | None]:
    """Return what was raised for each of some clients."""
    tasks = [each.task for each in clients if each.task is not None]
    async with asyncio.timeout(DEADLINE):
        await asyncio.wait(tasks)
    return [task.exception() for task in tasks]


@pytest.mark.parametrize("said", ["max-age=10", "no-cache"])
async def test_who_waits_for_a_validation_that_fails_has_its_error(
    origin: Origin, cache: TierCache, clock: FakeClock, gate: asyncio.Event, said: str
) -> None:
    """At once, as who waits for a first response has: nobody tries again in turn."""
    origin.fields = [("cache-control", said), ETAG]
    app = ResponseCache(origin, cache=cache, clock=clock)
    await fetch(app)
    await settled(cache)
    await clock.advance(11)
    clients = [begin(app) for _ in range(5)]
    await ticks()
    gate.set()

    errors = await errors_of(clients)

    assert [type(error) for error in errors] == [ZeroDivisionError] * 5
    assert len({id(error) for error in errors}) == 5
    assert origin.calls == 2


async def test_who_waits_on_another_server_tries_soon(
    origin: Origin, make_cache: MakeCache, clock: FakeClock, gate: asyncio.Event
) -> None:
    """One of them, for all who wait there."""
    caches = [await make_cache(), await make_cache()]
    apps = [ResponseCache(origin, cache=each, clock=clock) for each in caches]
    await fetch(apps[0])
    await settled(caches[0])
    await clock.advance(11)
    clients = [begin(app) for app in apps for _ in range(5)]
    await ticks()
    gate.set()
    await ticks()
    await clock.advance(0.1)

    errors = await errors_of(clients)

    assert [type(error) for error in errors] == [ZeroDivisionError] * 10
    assert origin.calls == 3


@pytest.mark.parametrize(
    ("profile", "said"),
    [("origin-safe", "max-age=10, stale-if-error=60"), ("rfc9111", "max-age=10")],
)
async def test_who_waits_for_a_validation_that_fails_has_what_is_stale_too(
    origin: Origin, cache: TierCache, clock: FakeClock, gate: asyncio.Event, *,
    profile: Any, said: str,
) -> None:  # fmt: skip
    """Not only the one that has asked: it may take the place of the error for all."""
    origin.fields = [("cache-control", said), ETAG]
    app = ResponseCache(origin, cache=cache, clock=clock, profile=profile)
    await fetch(app)
    await settled(cache)
    await clock.advance(11)
    clients = [begin(app) for _ in range(5)]
    await ticks()
    gate.set()

    for each in clients:
        assert (await each.done()).body == b"hello"
    assert origin.calls == 2


async def test_who_wants_a_validation_of_its_own_shares_the_next_one(
    origin: Origin, cache: TierCache, clock: FakeClock, gate: asyncio.Event
) -> None:
    """What had begun before it came is none of its own; but what begins then is one of all."""
    app = ResponseCache(origin, cache=cache, clock=clock, clients="honour")
    await fetch(app)
    await settled(cache)
    clients = [begin(app, ("cache-control", "no-cache")) for _ in range(5)]
    await ticks()
    gate.set()

    errors = await errors_of(clients)

    assert [type(error) for error in errors] == [ZeroDivisionError] * 5
    assert origin.calls == 3


async def test_a_failed_validation_leaves_nothing_fresh_for_who_wants_one_of_its_own(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """What is stored has been validated for nobody."""
    app = ResponseCache(origin, cache=cache, clock=clock, clients="honour")
    await fetch(app)
    await settled(cache)
    gate = asyncio.Event()
    origin.fields, origin.status, origin.parts = [], 503, [b"down"]
    origin.within = gate.wait  # type: ignore[assignment]
    clients = [begin(app, ("cache-control", "no-cache")) for _ in range(3)]
    await ticks()
    gate.set()

    assert [(await each.done()).status for each in clients] == [503] * 3


async def test_who_waits_goes_on_when_the_client_has_gone_that_validates(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """One of them, for all: it waits for what was begun."""
    app = ResponseCache(origin, cache=cache, clock=clock)
    await fetch(app)
    await settled(cache)
    await clock.advance(11)
    gate = asyncio.Event()
    origin.within = gate.wait  # type: ignore[assignment]
    first = begin(app)
    await ticks()
    waiting = [begin(app) for _ in range(5)]
    await ticks()
    assert first.task is not None
    first.task.cancel()
    await ticks()
    gate.set()
    await ticks()
    await clock.advance(0.1)

    for each in waiting:
        assert (await each.done()).body == b"hello"
    assert origin.calls == 2


# Clients that go.


async def gone(app: ResponseCache, begun: asyncio.Event, gate: asyncio.Event) -> Exchange:
    """Return a request whose client went once the application had begun, and before it goes on."""
    client = begin(app)
    await begun.wait()
    assert client.task is not None
    client.task.cancel()
    await ticks()
    gate.set()
    return client


@pytest.mark.parametrize("held", ["GET", "SET"])
async def test_an_application_ends_whose_client_went_before_it_began(
    origin: Origin, server: MemoryServer, make_cache: MakeCache, clock: FakeClock, held: str
) -> None:
    """Others get what it makes; it waits for nobody to see that."""
    wire, ended = Wire(server), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await origin(scope, receive, send)
        ended.set()

    cache = await make_cache(client=wire.client)
    app = ResponseCache(application, cache=cache, clock=clock)
    gate = wire.hold(held)
    gone = begin(app)
    await gate.reached.wait()
    waiting = begin(app)
    await ticks()
    assert gone.task is not None
    gone.task.cancel()
    await ticks()
    wire.let_pass(held)

    assert (await waiting.done()).body == b"hello"
    await ended.wait()
    assert gone.messages == []


async def test_a_stream_for_one_client_ends_with_its_client(
    cache: TierCache, clock: FakeClock
) -> None:
    """Although that went before it was known that nobody else can have it."""
    begun, gate, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await gate.wait()
        try:
            head = raw([("content-type", "text/event-stream")])
            await send({"type": "http.response.start", "status": 200, "headers": head})
            while True:
                await send({"type": "http.response.body", "body": b"data", "more_body": True})
                await asyncio.sleep(0)
        finally:
            ended.set()

    app = ResponseCache(application, cache=cache, clock=clock)
    client = await gone(app, begun, gate)

    await ended.wait()
    assert client.messages == []


async def test_a_validation_for_one_client_ends_with_its_client(
    origin: Origin, cache: TierCache, clock: FakeClock
) -> None:
    """As what was never stored does."""
    begun, gate, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def application(scope: Any, receive: Any, send: Any) -> None:
        if not origin.calls:
            await origin(scope, receive, send)
            return
        begun.set()
        await gate.wait()
        try:
            head = raw([("cache-control", "no-store")])
            await send({"type": "http.response.start", "status": 200, "headers": head})
            await asyncio.Event().wait()
        finally:
            ended.set()

    app = ResponseCache(application, cache=cache, clock=clock)
    await fetch(app)
    await settled(cache)
    await clock.advance(11)
    client = await gone(app, begun, gate)

    await ended.wait()
    assert client.messages == []


async def test_a_sender_that_never_waits_is_ended_too(cache: TierCache, clock: FakeClock) -> None:
    """It comes to know of it with its next message."""
    begun, gate, sent = asyncio.Event(), asyncio.Event(), [0]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await gate.wait()
        head = raw([("cache-control", "no-store")])
        await send({"type": "http.response.start", "status": 200, "headers": head})
        while sent[0] < 10_000:
            sent[0] += 1
            await send({"type": "http.response.body", "body": b"data", "more_body": True})

    app = ResponseCache(application, cache=cache, clock=clock)
    await gone(app, begun, gate)
    await ticks()

    assert sent[0] < 10


@pytest.mark.parametrize("said", ["max-age=10, must-revalidate", "no-cache"])
async def test_another_servers_failed_validation_is_no_answer(
    origin: Origin, server: MemoryServer, make_cache: MakeCache, clock: FakeClock, said: str
) -> None:
    """What must be validated is asked for by who has waited for that, too."""
    wire = Wire(server)
    here, there = await make_cache(), await make_cache(client=wire.client)
    origin.fields = [("cache-control", said), ETAG]
    apps = [ResponseCache(origin, cache=each, clock=clock) for each in (here, there)]
    for app in apps:
        await fetch(app)
        await settled(here)
    await clock.advance(11)
    gate = asyncio.Event()
    origin.fields, origin.status, origin.parts = [], 500, [b"down"]
    origin.within = gate.wait  # type: ignore[assignment]
    held = [wire.hold(name) for name in ("GET", "MGET")]
    waiting = begin(apps[1])
    await ticks()
    assert any(each.reached.is_set() for each in held)
    await clock.advance(0.01)
    asking = begin(apps[0])
    await ticks()
    for name in ("GET", "MGET"):
        wire.let_pass(name)
    await ticks()
    gate.set()
    await ticks()
    await clock.advance(1)
    await clock.advance(1)

    for each in (asking, waiting):
        await each.done()
        assert (each.status, each.body) == (500, b"down")
