"""What is counted of the responses before a cache."""

import pytest

from async_tiercache import Policy, TierCache
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations.asgi import HttpStatistics, ResponseCache, http_statistics
from tests.asgi.client import Origin, fetch


def forwarded(statistics: HttpStatistics) -> dict[str, int]:
    """Return how many requests went on, by why, but for those that none did."""
    return {why: count for why, count in statistics.forwarded.items() if count}


async def test_each_request_is_a_hit_or_went_on_for_a_reason(
    cache: TierCache, clock: FakeClock
) -> None:
    """In the words of its own `Cache-Status`."""
    origin = Origin(("cache-control", "max-age=60"), ("etag", '"1"'))
    app = ResponseCache(origin, cache=cache, clock=clock, clients="honour")
    for _ in range(3):
        await fetch(app)
        await settled(cache)
    await fetch(app, ("if-none-match", '"1"'))
    await fetch(app, ("if-none-match", '"0", "1"'))
    await fetch(app, method="HEAD")
    await fetch(app, method="POST")
    await fetch(app, method="OPTIONS")
    await fetch(app, ("authorization", "mine"))
    await fetch(app, ("cache-control", "no-store"))
    await settled(cache)
    await fetch(app)
    await settled(cache)
    await clock.advance(61)
    await fetch(app)

    counted = http_statistics(cache)

    assert (counted.hits, counted.not_modified) == (5, 2)
    assert forwarded(counted) == {
        "uri-miss": 2, "method": 2, "bypass": 1, "request": 1, "stale": 1,
    }  # fmt: skip
    assert counted.hit_ratio == pytest.approx(5 / 10)
    assert len(origin.seen) == 7


async def test_variants_that_are_made_are_counted(cache: TierCache, clock: FakeClock) -> None:
    """Apart from URLs that are not."""
    origin = Origin(("cache-control", "max-age=60"), ("vary", "accept-language"))
    app = ResponseCache(origin, cache=cache, clock=clock)
    for language in ("de", "en", "de"):
        await fetch(app, ("accept-language", language))
        await settled(cache)

    assert forwarded(http_statistics(cache)) == {"uri-miss": 1, "vary-miss": 1}
    assert http_statistics(cache).hits == 1


@pytest.mark.parametrize(
    ("fields", "parts", "reason"),
    [
        ((("cache-control", "no-store"),), [b"x"], "no-store"),
        ((("cache-control", "private"),), [b"x"], "private"),
        ((("cache-control", "max-age=60"), ("set-cookie", "a=b")), [b"x"], "set-cookie"),
        ((("cache-control", "max-age=60"),), [b"x" * 40, b"y" * 40], "size"),
        ((("cache-control", "max-age=60"), ("content-length", "9")), [b"short"], "length"),
    ],
)
async def test_what_is_not_stored_is_counted_by_why(
    cache: TierCache,
    clock: FakeClock,
    fields: tuple[tuple[str, str], ...],
    parts: list[bytes],
    reason: str,
) -> None:
    """Whether or not that is told to clients."""
    app = ResponseCache(Origin(*fields, parts=parts), cache=cache, clock=clock, max_body=64)

    await fetch(app)

    assert http_statistics(cache).not_stored == {reason: 1}


async def test_one_cache_counts_for_all_applications_before_it(
    cache: TierCache, other: TierCache, clock: FakeClock
) -> None:
    """As it does for functions; and a snapshot stays as it is."""
    before = http_statistics(cache)
    for _ in range(2):
        await fetch(ResponseCache(Origin(), cache=cache, clock=clock))

    assert forwarded(before) == {}
    assert before.hit_ratio == 0.0
    assert sum(forwarded(http_statistics(cache)).values()) == 2
    assert forwarded(http_statistics(other)) == {}


async def test_a_limit_of_values_is_one_of_contents(clock: FakeClock) -> None:
    """Who asks is not told that a response is stored that is too large for that."""
    fields = ("cache-control", "max-age=60"), ("content-length", "30")
    for most, stored in ((29, False), (30, True)):
        policy = Policy(max_value_bytes=most)
        async with TierCache(namespace="limited", policy=policy, clock=clock) as cache:
            origin = Origin(*fields, parts=[b"x" * 30])
            app = ResponseCache(origin, cache=cache, clock=clock)

            made = await fetch(app)

            await settled(cache)
            assert made.fields["cache-status"] == "tiercache; fwd=uri-miss" + "; stored" * stored
            assert (await fetch(app)).hit is stored
            assert http_statistics(cache).not_stored == ({} if stored else {"size": 1})
