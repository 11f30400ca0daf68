"""What ends a URL ends all of its parts, also those that others have made or are making."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Pairs, begin, fetch
from tests.asgi.parted import FRESH, OTHER, PART, Parted
from tests.core.source import ticks

GROUP = ("cache-groups", '"g"')


@pytest.fixture
def origin() -> Parted:
    """Return one whose responses are fresh for a minute."""
    return Parted()


@pytest.fixture
def app(origin: Parted, cache: TierCache, clock: FakeClock) -> ResponseCache:
    """Return it behind a cache."""
    return ResponseCache(origin, cache=cache, clock=clock, profile="rfc9111", clients="honour")


@pytest.fixture
def elsewhere(origin: Parted, other: TierCache, clock: FakeClock) -> ResponseCache:
    """Return the same on another server."""
    return ResponseCache(origin, cache=other, clock=clock, profile="rfc9111")


@pytest.mark.parametrize(
    ("path", "change"),
    [
        pytest.param("/", [], id="its url"),
        pytest.param("/other", [("location", "/")], id="location"),
        pytest.param("/other", [("content-location", "/")], id="content-location"),
        pytest.param("/other", [("cache-group-invalidation", '"g"')], id="its group"),
    ],
)
async def test_a_change_ends_all_parts(
    app: ResponseCache,
    elsewhere: ResponseCache,
    origin: Parted,
    cache: TierCache,
    other: TierCache,
    path: str,
    change: Pairs,
) -> None:
    """Those too that other servers have made."""
    origin.fields = [FRESH, GROUP, ("etag", '"a"')]
    await fetch(app, PART)
    await settled(cache)
    await fetch(elsewhere, OTHER)
    await settled(other)
    for asked in (PART, OTHER):
        assert (await fetch(app, asked)).hit
    origin.change, origin.content = change, b"abcdefghij"
    origin.fields = [FRESH, GROUP, ("etag", '"b"')]

    await fetch(app, path=path, method="POST")
    await ticks()

    for each in (app, elsewhere):
        assert (await fetch(each, PART)).body == b"part abcde"
        assert (await fetch(each, OTHER)).body == b"part fghij"
        await settled(each._cache)


async def test_a_change_of_another_url_ends_none(app: ResponseCache, origin: Parted) -> None:
    """Nor one that has failed."""
    await fetch(app, PART)
    await fetch(app, path="/other", method="POST")
    origin.follow, origin.status = (lambda _: []), 403
    await fetch(app, method="POST")

    assert (await fetch(app, PART)).hit


async def test_a_part_ends_with_its_tag(
    app: ResponseCache, origin: Parted, cache: TierCache
) -> None:
    """By its own fields."""
    await fetch(app, PART)
    origin.fields = [FRESH, ("surrogate-key", "a")]
    await fetch(app, OTHER)
    await settled(cache)
    await cache.invalidate(tags=["a"])

    assert (await fetch(app, PART)).hit
    assert not (await fetch(app, OTHER)).hit


async def test_a_head_that_tells_of_another_response_ends_the_parts(
    app: ResponseCache, origin: Parted, cache: TierCache, clock: FakeClock
) -> None:
    """They are as old as the whole that is stale (RFC 9111, 4.3.5)."""
    origin.fields = [("cache-control", "max-age=600"), ("etag", '"a"')]
    await fetch(app, PART)
    origin.fields = [("cache-control", "max-age=10"), ("etag", '"a"')]
    await fetch(app)
    await settled(cache)
    await clock.advance(11)
    origin.fields, origin.content = [FRESH, ("etag", '"b"')], b"abcdefghij"

    await fetch(app, method="HEAD")

    assert (await fetch(app, PART)).body == b"part abcde"


@pytest.mark.parametrize(
    "asked", [[[PART]] * 3, [[]]], ids=["some who ask for a part", "one who asks for the whole"]
)
async def test_where_urls_share_responses_no_parts_are_kept(
    app: ResponseCache, origin: Parted, cache: TierCache, asked: Any
) -> None:
    """A change of one of them would not end those of the others; whoever has shown that they do."""
    sharing = ("no-vary-search", 'params=("a")')
    origin.fields = [FRESH, sharing]
    reached, gate = asyncio.Event(), asyncio.Event()

    async def within() -> None:
        reached.set()
        await gate.wait()

    origin.within = within
    exchanges = [begin(app, *fields, query="a=1") for fields in asked]
    await reached.wait()
    await ticks()
    gate.set()
    for each in exchanges:
        await each.done()
    await settled(cache)

    for _ in range(2):
        assert not (await fetch(app, PART, query="a=1")).hit
    for query in ("a=1", "a=2"):
        whole = await fetch(app, query=query)
        assert (whole.status, whole.body) == (200, b"0123456789")


@pytest.mark.parametrize("by", ["its url", "location", "tag"])
@pytest.mark.parametrize("known", [False, True], ids=["first", "another"])
@pytest.mark.parametrize("where", ["here", "there"])
async def test_a_part_that_was_made_before_a_change_is_not_kept(
    app: ResponseCache,
    origin: Parted,
    cache: TierCache,
    other: TierCache,
    clock: FakeClock,
    by: str,
    known: bool,
    where: str,
) -> None:
    """Though it ends after it, and whichever server changes what."""
    later = Parted(FRESH, ("surrogate-key", "a"))
    origin.fields, later.content = later.fields, b"abcdefghij"
    servers = [
        ResponseCache(later, cache=each, clock=clock, profile="rfc9111") for each in (cache, other)
    ]
    if known:
        await fetch(app, OTHER)
        await settled(cache)
        assert all([(await fetch(each, OTHER)).hit for each in servers])
    origin.gate.clear()
    old = begin(app, PART)
    await old.begun(2)
    changing = servers[where == "there"]
    match by:
        case "tag":
            await changing._cache.invalidate(tags=["a"])
        case "location":
            later.change = [("location", "/")]
            await fetch(changing, method="POST", path="/other")
        case _:
            await fetch(changing, method="POST")
    await ticks()
    new = begin(changing, PART)
    if by != "tag":  # which nobody knows before the part is made
        await new.done()
    origin.gate.set()
    await old.done()
    await clock.advance(1)
    await new.done()
    await settled(cache)
    await settled(other)

    assert (old.body, new.body) == (b"part 01234", b"part abcde")
    for each in servers:
        assert (await fetch(each, PART)).body == b"part abcde"
        assert (await fetch(each, OTHER)).body == b"part fghij"


async def test_a_part_that_was_validated_before_a_change_does_not_live_on(
    app: ResponseCache, origin: Parted, cache: TierCache, clock: FakeClock
) -> None:
    """The application has called it current, and then changed it."""
    origin.fields = [("cache-control", "max-age=10"), ("etag", '"a"')]
    await fetch(app, PART)
    await settled(cache)
    await clock.advance(11)
    reached, gate = asyncio.Event(), asyncio.Event()

    async def within() -> None:
        if origin.seen[-1]["method"] == "GET":
            reached.set()
            await gate.wait()

    origin.within = within
    old = begin(app, PART)
    await reached.wait()
    await fetch(app, method="POST")
    gate.set()
    await old.done()
    await settled(cache)
    origin.within = None
    origin.fields, origin.content = [FRESH, ("etag", '"b"')], b"abcdefghij"

    assert (await fetch(app, PART)).body == b"part abcde"
