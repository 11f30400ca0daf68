"""A peek past one value at another: what two peeks would find, and nothing else (G1)."""

from typing import Any, Final

import pytest

from async_tiercache import MISSING, TierCache
from async_tiercache.keys import KeyText
from async_tiercache.testing import FakeClock, settled
from tests.conftest import MakeCache

RECORD: Final = KeyText("page:record")
BEYOND: Final = KeyText("page:beyond")


async def _nothing(*_: object) -> None:
    """Leave all as it is."""


CHANGES: Final = [
    pytest.param(_nothing, True, id="nothing"),
    pytest.param(lambda cache, _: cache.invalidate(keys=[RECORD]), False, id="key of the record"),
    pytest.param(lambda cache, _: cache.invalidate(keys=[BEYOND]), False, id="key beyond"),
    pytest.param(lambda cache, _: cache.invalidate(tags=["record"]), False, id="tag of the record"),
    pytest.param(lambda cache, _: cache.invalidate(tags=["beyond"]), False, id="tag beyond"),
    pytest.param(lambda cache, _: cache.invalidate(tags=["other"]), True, id="another tag"),
    pytest.param(lambda cache, _: cache.set(RECORD, "another"), False, id="another record"),
    pytest.param(lambda cache, _: cache.clear(), False, id="all"),
    pytest.param(lambda _, clock: clock.advance(8), True, id="young"),
    pytest.param(lambda _, clock: clock.advance(11), False, id="an old record"),
]


async def _two(cache: TierCache, *, old: str = RECORD) -> Any:
    """Put a record and what it leads to, and return the function by whose keys they are found."""

    @cache.cached("page:{text}")
    async def page(text: KeyText) -> str:
        return text

    for key, tag in ((RECORD, "record"), (BEYOND, "beyond")):
        await cache.set(key, f"the {tag}", tags=[tag], ttl=10 if key == old else 20)
    await settled(cache)
    return page


@pytest.mark.parametrize("tiers", [1, 2])
@pytest.mark.parametrize(("change", "found"), CHANGES)
async def test_it_finds_what_two_peeks_find(
    make_cache: MakeCache, clock: FakeClock, tiers: int, change: Any, found: bool
) -> None:
    """Whatever has become of either since."""
    cache = await make_cache() if tiers == 2 else await make_cache(client=None)
    page = await _two(cache)
    peek_past, record = page.__tiercache__.path.peek_past, page.peek(RECORD)
    await change(cache, clock)

    for _ in range(2):  # The first may have moved what it finds to the present epoch.
        by_one = peek_past(RECORD, record, BEYOND)
        first = page.peek(RECORD)
        by_two = page.peek(BEYOND) if first is record else first

        assert by_one is by_two
        assert (by_one == "the beyond") is found
    assert peek_past(RECORD, object(), BEYOND) is page.peek(RECORD)


async def test_what_it_leads_to_may_be_the_older_one(cache: TierCache, clock: FakeClock) -> None:
    """Each has a lifetime of its own."""
    page = await _two(cache, old=BEYOND)
    peek_past, record = page.__tiercache__.path.peek_past, page.peek(RECORD)

    await clock.advance(11)

    assert page.peek(RECORD) is record
    assert peek_past(RECORD, record, BEYOND) is MISSING


async def test_a_load_finds_what_it_finds_by_two_peeks(cache: TierCache) -> None:
    """Nothing, if there are other servers: it would not know what its value rests on."""
    page = await _two(cache)
    peek_past, record = page.__tiercache__.path.peek_past, page.peek(RECORD)

    @cache.cached("whole:{number}")
    async def whole(number: int) -> Any:
        return peek_past(RECORD, record, BEYOND) is MISSING is page.peek(RECORD)

    assert await whole(1)
    assert peek_past(RECORD, record, BEYOND) == "the beyond"


async def test_it_counts_two_hits(cache: TierCache) -> None:
    """As two peeks do."""
    page = await _two(cache)
    peek_past, record = page.__tiercache__.path.peek_past, page.peek(RECORD)
    hits = cache.statistics().l1_hits

    peek_past(RECORD, record, BEYOND)

    assert cache.statistics().l1_hits == hits + 2


@pytest.mark.parametrize("options", [{"l1": None}, {"tenant": "acme"}], ids=["no L1", "a tenant"])
async def test_there_is_none_where_l1_is_not_looked_into_by_texts(
    make_cache: MakeCache, options: Any
) -> None:
    """Whoever wants it does with two peeks."""
    page = await _two(await make_cache(**options))

    assert page.__tiercache__.path.peek_past is None
