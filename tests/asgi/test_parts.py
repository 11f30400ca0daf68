"""Parts that the application has made: kept with `profile="rfc9111"`, for who asks for the same."""

from typing import Any

import pytest

from async_tiercache import L1, TierCache
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import ResponseCache, Rule
from tests.asgi.client import Pairs, begin, fetch
from tests.asgi.parted import FRESH, OTHER, PART, Parted
from tests.conftest import MakeCache
from tests.core.source import ticks

CREDENTIALS = ("authorization", "Basic YTpi")


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


# What is kept, and who gets it.


async def test_a_part_is_sent_again_to_who_asks_for_the_same(
    app: ResponseCache, elsewhere: ResponseCache, origin: Parted, cache: TierCache, clock: FakeClock
) -> None:
    """As it came, on all servers."""
    first = await fetch(app, PART)
    await settled(cache)
    await clock.advance(7)
    again = [await fetch(app, PART), await fetch(elsewhere, PART)]

    assert first.fields["cache-status"] == "tiercache; fwd=miss; stored"
    for each in again:
        assert (each.status, each.body) == (206, b"part 01234")
        assert each.fields == {
            "cache-control": "max-age=60",
            "content-range": "bytes 0-4/10",
            "content-length": "10",
            "age": "7",
            "cache-status": "tiercache; hit; ttl=53",
        }
    assert origin.calls == 1
    await clock.advance(60)
    assert not (await fetch(app, PART)).hit


async def test_a_part_answers_nothing_else(app: ResponseCache, origin: Parted) -> None:
    """Neither other parts, though it has all of them, nor those who ask for the whole."""
    await fetch(app, ("range", "bytes=0-9"))

    for asked in ([PART], [OTHER], []):
        assert not (await fetch(app, *asked)).hit
    assert origin.asked == [("bytes=0-9", None), (PART[1], None), (OTHER[1], None), (None, None)]


async def test_the_whole_answers_before_a_part(app: ResponseCache, origin: Parted) -> None:
    """It is made although there is one."""
    await fetch(app, PART)
    await fetch(app)

    found = await fetch(app, PART)

    assert (found.status, found.body, found.hit) == (206, b"01234", True)
    assert origin.calls == 2


@pytest.mark.parametrize(
    ("method", "asked"),
    [
        pytest.param("GET", [("range", "bytes=0-4,6-7")], id="several"),
        pytest.param("GET", [PART, OTHER], id="several lines"),
        pytest.param("GET", [("range", "bytes= 0-4")], id="another spelling"),
        pytest.param("GET", [("range", "Bytes=0-4")], id="another case"),
        pytest.param("GET", [("range", "bytes=00-4")], id="zeros in front"),
        pytest.param("GET", [("range", "lines=0-4")], id="no bytes"),
        pytest.param("GET", [PART, ("if-range", '"a"')], id="conditional"),
        pytest.param("GET", [("if-range", '"a"')], id="a condition alone"),
        pytest.param("HEAD", [PART], id="a head"),
    ],
)
async def test_other_requests_for_parts_pass_by(
    app: ResponseCache, origin: Parted, method: str, asked: Any
) -> None:
    """The application may read more in them, or less."""
    await fetch(app, PART)
    part = [*origin.fields, ("content-range", "bytes 0-4/10")]
    origin.follow, origin.status = (lambda _: part), 206

    for _ in range(2):
        assert not (await fetch(app, *asked, method=method)).hit
    assert origin.calls == 3
    assert (await fetch(app, PART)).hit


async def test_by_default_no_part_is_kept(
    origin: Parted, cache: TierCache, clock: FakeClock
) -> None:
    """Whatever it says."""
    app = ResponseCache(origin, cache=cache, clock=clock)

    for _ in range(2):
        assert (await fetch(app, PART)).fields["cache-status"] == "tiercache; fwd=miss"


@pytest.mark.parametrize(
    ("status", "more"),
    [(200, []), (404, []), (416, [("content-range", "bytes */10")]), (206, [])],
    ids=["a whole", "an error", "a refusal", "no range"],
)
async def test_what_is_no_part_is_not_kept_for_those_who_ask_for_one(
    app: ResponseCache, origin: Parted, status: int, more: Pairs
) -> None:
    """Nobody waits for it again; the next who asks for the whole is asked for it."""
    origin.follow, origin.status = (lambda _: [FRESH, *more]), status
    origin.gate.clear()
    exchanges = [begin(app, PART) for _ in range(3)]
    for each in exchanges:
        await each.begun()
    exchanges += [begin(app, OTHER)]
    await exchanges[-1].begun()
    origin.gate.set()

    for each in exchanges:
        assert (await each.done()).status == status
    assert origin.calls == 4
    origin.follow = origin.answer
    assert not (await fetch(app)).hit
    assert (await fetch(app)).status == 200


async def test_a_part_that_nobody_has_asked_for_is_kept_for_nobody(
    app: ResponseCache, origin: Parted
) -> None:
    """Some send one although no range was named."""
    origin.follow = lambda _: [FRESH, ("content-range", "bytes 0-4/10")]
    origin.status = 206

    for asked in ([], [], [PART]):
        assert not (await fetch(app, *asked)).hit


@pytest.mark.parametrize("length", ["4", "6"])
async def test_a_part_of_another_length_than_it_says_is_not_kept(
    app: ResponseCache, origin: Parted, length: str
) -> None:
    """Half of it may have been lost."""
    origin.fields = [FRESH, ("content-length", length)]

    for _ in range(2):
        assert not (await fetch(app, PART)).hit


async def test_a_part_may_fit_into_no_whole(app: ResponseCache, origin: Parted) -> None:
    """It is neither cut nor put together with another one."""
    said = [FRESH, ("content-range", "bytes 4-9/10"), ("content-length", "5")]
    origin.follow, origin.status = (lambda _: said), 206
    asked = ("range", "bytes=-5")

    first, second = await fetch(app, asked), await fetch(app, asked)

    assert (first.hit, second.hit) == (False, True)
    assert (second.status, second.body) == (206, b"hello")
    assert second.fields["content-range"] == "bytes 4-9/10"


async def test_a_part_without_a_lifetime_has_a_tenth_of_its_age(
    app: ResponseCache, origin: Parted, cache: TierCache, clock: FakeClock
) -> None:
    """Its status may be given one (RFC 9110, 15.1)."""
    modified = "Mon, 30 Nov 2026 06:00:00 GMT"
    origin.fields = [("last-modified", modified), ("date", "Mon, 30 Nov 2026 06:10:00 GMT")]
    await fetch(app, PART)
    await settled(cache)

    await clock.advance(59)
    assert (await fetch(app, PART)).hit
    await clock.advance(2)
    assert not (await fetch(app, PART)).hit


async def test_all_who_ask_for_a_part_meanwhile_wait_for_it(
    app: ResponseCache, elsewhere: ResponseCache, origin: Parted, clock: FakeClock
) -> None:
    """On all servers; those who ask for another part then make theirs together."""
    origin.gate.clear()
    exchanges = [begin(app, PART)]
    await exchanges[0].begun(2)
    exchanges += [begin(each, PART) for each in (app, elsewhere)]
    exchanges += [begin(app, OTHER) for _ in range(2)]
    await ticks()
    assert origin.calls == 1
    origin.gate.set()
    await clock.advance(1)

    bodies = [(await each.done()).body for each in exchanges]

    assert bodies == [b"part 01234"] * 3 + [b"part 56789"] * 2
    assert origin.calls == 2


async def test_the_whole_does_not_wait_for_a_part(app: ResponseCache, origin: Parted) -> None:
    """Nor a part for one whose client reads slowly."""
    origin.gate.clear()
    part = begin(app, PART)
    await part.begun(2)
    whole = begin(app)
    await ticks()
    assert origin.calls == 2
    origin.gate.set()

    assert (await whole.done()).body == b"0123456789"
    assert (await part.done()).body == b"part 01234"


async def test_parts_have_variants(app: ResponseCache, origin: Parted, cache: TierCache) -> None:
    """By what each says; `Vary` may come late."""
    await fetch(app, PART, ("accept", "a"))
    origin.fields = [FRESH, ("vary", "accept")]
    for _ in range(2):
        await fetch(app, OTHER, ("accept", "a"))
        await settled(cache)

    assert (await fetch(app, OTHER, ("accept", "a"))).hit
    assert not (await fetch(app, OTHER, ("accept", "b"))).hit
    assert not (await fetch(app, PART, ("accept", "a"))).hit
    for accept in "ab":
        assert (await fetch(app, OTHER, ("accept", accept))).hit


async def test_only_what_is_stored_is_a_part_too(app: ResponseCache, origin: Parted) -> None:
    """`only-if-cached` asks no application."""
    only = ("cache-control", "only-if-cached")
    assert (await fetch(app, PART, only)).status == 504
    await fetch(app, PART)

    assert (await fetch(app, PART, only)).body == b"part 01234"
    assert (await fetch(app, OTHER, only)).status == 504
    assert origin.calls == 1


# Validation.


async def test_a_client_that_has_a_part_gets_a_304(app: ResponseCache, origin: Parted) -> None:
    """The application is not shown the condition, so that others get the part (RFC 9111, 4.3.2)."""
    origin.fields = [FRESH, ("etag", '"a"')]
    condition = ("if-none-match", '"a"')

    for _ in range(2):
        assert (await fetch(app, PART, condition)).status == 304
    assert (await fetch(app, PART, ("if-none-match", '"b"'))).body == b"part 01234"
    assert origin.asked == [(PART[1], None)]


@pytest.mark.parametrize("behind", [False, True], ids=["waiting", "behind"])
@pytest.mark.parametrize("current", [False, True], ids=["changed", "current"])
async def test_a_stale_part_is_validated_as_the_part_that_it_is(
    app: ResponseCache,
    origin: Parted,
    cache: TierCache,
    clock: FakeClock,
    behind: bool,
    current: bool,
) -> None:
    """With its range, and what has come takes its place."""
    said = "max-age=10, stale-while-revalidate=60" if behind else "max-age=10"
    origin.fields = [("cache-control", said), ("etag", '"a"')]
    await fetch(app, PART)
    await settled(cache)
    await clock.advance(11)
    if not current:
        origin.fields, origin.content = [("cache-control", said), ("etag", '"b"')], b"abcdefghij"

    stale = await fetch(app, PART)
    await ticks()
    await settled(cache)
    found = await fetch(app, PART)

    new = b"part 01234" if current else b"part abcde"
    assert (stale.status, stale.body) == (206, b"part 01234" if behind else new)
    assert (found.status, found.body, found.hit) == (206, new, True)
    assert found.fields["content-range"] == "bytes 0-4/10"
    assert origin.asked == [(PART[1], None), (PART[1], '"a"')]


async def test_the_same_part_of_another_variant_may_be_named_as_current(
    app: ResponseCache, origin: Parted, cache: TierCache, clock: FakeClock
) -> None:
    """It answers, and lives on for those who had it; no other part is asked about."""
    german, english = ("accept-language", "de"), ("accept-language", "en")
    for tag, *asked in (('"d"', PART, german), ('"o"', OTHER, english), ('"e"', PART, english)):
        origin.fields = [("cache-control", "max-age=10"), ("vary", german[0]), ("etag", tag)]
        origin.content = tag.encode() * 4
        await fetch(app, *asked)
    await settled(cache)
    await clock.advance(11)

    found = await fetch(app, PART, german)
    await ticks()
    await settled(cache)

    assert origin.asked[-1] == (PART[1], '"d", "e"')
    assert (found.status, found.body) == (206, b'part "e""e')
    for language in (german, english):
        again = await fetch(app, PART, language)
        assert (again.body, again.hit) == (found.body, True)


@pytest.mark.parametrize("status", [200, 416])
async def test_what_is_no_part_ends_one_behind_and_takes_no_place_of_it(
    origin: Parted, alone: TierCache, clock: FakeClock, status: int
) -> None:
    """It is for nobody who asks for a part."""
    app = ResponseCache(origin, cache=alone, clock=clock, profile="rfc9111")
    origin.fields = [("cache-control", "max-age=10, stale-while-revalidate=60"), ("etag", '"a"')]
    await fetch(app, PART)
    await clock.advance(11)
    origin.follow, origin.status = (lambda _: [FRESH]), status
    assert (await fetch(app, PART)).hit
    await ticks()

    found = await fetch(app, PART)

    assert (found.status, found.hit) == (status, False)
    assert not (await fetch(app)).hit


async def test_a_stale_part_takes_the_place_of_an_error(
    app: ResponseCache, origin: Parted, cache: TierCache, clock: FakeClock
) -> None:
    """Where it says so."""
    origin.fields = [("cache-control", "max-age=10, stale-if-error=60")]
    await fetch(app, PART)
    await settled(cache)
    await clock.advance(11)
    origin.follow, origin.status = (lambda _: []), 503

    for asked, status in ((PART, 206), (OTHER, 503)):
        assert (await fetch(app, asked)).status == status


# Who must not get them, and floods.


@pytest.mark.parametrize(
    ("asked", "said", "kept"),
    [
        pytest.param([CREDENTIALS], [FRESH], False, id="credentials"),
        pytest.param([CREDENTIALS], [("cache-control", "public, max-age=60")], True, id="public"),
        pytest.param([], [("cache-control", "private, max-age=60")], False, id="private"),
        pytest.param([], [("cache-control", "no-store, max-age=60")], False, id="no-store"),
        pytest.param([], [FRESH, ("vary", "*")], False, id="depends on anything"),
        pytest.param([], [FRESH, ("content-range", "bytes 0-4/9")], False, id="two ranges"),
        pytest.param([], [FRESH, ("x y", "1")], False, id="no field"),
    ],
)
async def test_a_part_is_shared_on_the_terms_of_all_responses(
    app: ResponseCache, origin: Parted, asked: Pairs, said: Pairs, kept: bool
) -> None:
    """Whoever was first."""
    origin.fields = said
    await fetch(app, PART, *asked)

    found = await fetch(app, PART)

    assert (found.messages[0]["status"], origin.calls) == (206, 1 if kept else 2)


async def test_what_was_stored_for_all_without_saying_so_is_for_no_credentials(
    app: ResponseCache, origin: Parted
) -> None:
    """RFC 9111, 3.5."""
    await fetch(app, PART)

    assert not (await fetch(app, PART, CREDENTIALS)).hit


async def test_an_application_that_is_shown_no_range_sends_the_whole(
    origin: Parted, cache: TierCache, clock: FakeClock
) -> None:
    """By a strict rule; it is kept for none of those who have named one."""
    rules = [Rule("/", ttl=60, strict=True)]
    app = ResponseCache(origin, cache=cache, clock=clock, profile="rfc9111", rules=rules)

    for _ in range(2):
        found = await fetch(app, PART)
        assert (found.status, found.hit) == (200, False)


async def test_made_up_ranges_keep_nobody_from_the_whole_and_fill_no_memory(
    make_cache: MakeCache, origin: Parted, clock: FakeClock
) -> None:
    """So many parts of a URL are stored as variants of one would be."""
    cache = await make_cache(client=None, l1=L1(max_entries=100))
    app = ResponseCache(origin, cache=cache, clock=clock, profile="rfc9111", max_variants=8)
    for _ in range(3):
        await fetch(app, path="/wanted")
    for number in range(1000):
        found = await fetch(app, ("range", f"bytes={number}-{number}"))
        assert (found.status, found.hit) == (206, False)
    assert cache.statistics().l1_entries <= 10

    assert (await fetch(app, path="/wanted")).hit
    assert not (await fetch(app)).hit
    assert (await fetch(app)).hit


async def test_made_up_ranges_of_made_up_urls_drive_out_nothing(
    make_cache: MakeCache, origin: Parted, clock: FakeClock
) -> None:
    """They are asked for once; memory is bounded."""
    cache = await make_cache(client=None, l1=L1(max_entries=100))
    app = ResponseCache(origin, cache=cache, clock=clock, profile="rfc9111")
    for _ in range(3):
        await fetch(app, PART, path="/wanted")
    for number in range(500):
        await fetch(app, ("range", f"bytes={number}-{number}"), query=f"q={number}")
        if number % 10 == 0:
            assert (await fetch(app, PART, path="/wanted")).hit

    assert cache.statistics().l1_entries <= 100
