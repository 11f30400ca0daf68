"""Whatever a response says of itself, its client gets it."""

import asyncio
from typing import Final, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache import TierCache
from async_tiercache_integrations.asgi import Edge, ResponseCache
from tests.asgi.client import Origin, Pairs, fetch

_NUMBERS: Final = st.sampled_from(["0", "1", "2147483648", "9" * 20, "-1", "1.5", "a", ""])
_DATES: Final = st.sampled_from(
    [
        "Sun, 21 Nov 2286 04:46:39 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "Mon, 01 Jan 1900 00:00:00 GMT",
        "Thu, 01 Jan 0001 00:00:00 GMT",
        "Thursday, 18-Aug-50 02:01:18 gmt",
        "Sun Nov  6 08:49:37 1994",
        "0",
    ]
)
_TIMES: Final = st.sampled_from(
    ["max-age", "s-maxage", "stale-while-revalidate", "stale-if-error", "no-cache", "public"]
)
_DIRECTIVES: Final = st.lists(st.builds("{}={}".format, _TIMES, _NUMBERS), max_size=3).map(
    ", ".join
)
_TEXTS: Final = st.text(' \t",;=\\*?()/:ab\x80', max_size=12)
_LONG: Final = st.sampled_from([" ".join(map(str, range(300))), ",".join(map(str, range(300)))])
_VALUES: Final = {
    **dict.fromkeys(["cache-control", "tiercache-cache-control", "cdn-cache-control"], _DIRECTIVES),
    **dict.fromkeys(["age", "content-length"], _NUMBERS),
    **dict.fromkeys(["date", "expires", "last-modified"], _DATES),
    **dict.fromkeys(["surrogate-key", "cache-tag", "cache-groups", "vary"], _LONG),
    **dict.fromkeys(["etag", "no-vary-search", "connection", "location", "link"], _TEXTS),
}
_FIELDS: Final = st.lists(
    st.sampled_from(sorted(_VALUES)).flatmap(
        lambda name: st.tuples(st.just(name), st.one_of(*3 * [_VALUES[name]], _TEXTS))
    ),
    min_size=1,
    max_size=3,
)


@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
@given(said=st.lists(_FIELDS, min_size=3, max_size=6), behind=st.booleans())
def test_no_field_keeps_a_response_from_its_client(
    profile: Literal["origin-safe", "rfc9111"], *, said: list[Pairs], behind: bool
) -> None:
    """Stored or not, from the cache or not, with a CDN in front or none."""

    async def ask() -> None:
        origin, edge = Origin(), Edge(tags="Cache-Tag", ttl="1h") if behind else None
        async with TierCache(namespace="shop") as cache:
            app = ResponseCache(origin, cache=cache, profile=profile, edge=edge)
            for fields in said:
                origin.fields = fields
                for _ in range(2):
                    found = await fetch(app)
                    assert (found.status, found.body) == (200, b"hello")

    asyncio.run(ask())
