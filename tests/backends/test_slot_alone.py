"""What a slot holds where there is no L2: less, and its times a ten-millionth shorter."""

import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache._entry import Entry, Header
from async_tiercache._options import L1
from async_tiercache.backends.memory import MemoryStore
from async_tiercache.backends.slot import Slot, Standing
from tests.backends.family import family_of
from tests.backends.sizes import HEAD_BEYOND

FAMILY = family_of(grace="1s")
LIVED = Header(b"", 1.0, 2.0, 3.0, 0.5, FAMILY.codec.fingerprint)


def kept_alone(header: Header, *, deadline: float = math.inf, total: int = 0) -> Slot:
    """Return the slot of an entry where there is no L2."""
    slot = MemoryStore(L1(), alone=True).put(
        "k",
        FAMILY,
        Entry(None, header, 42),
        soft_deadline=1,
        deadline=deadline,
        now=0,
        standing=Standing((), total),
    )
    assert slot is not None
    return slot


@pytest.mark.parametrize("etag", ["", "v1", 'W/"ž"', "\0\0"])
@pytest.mark.parametrize("absent", [False, True])
@pytest.mark.parametrize("stale_until", [2.0, 2.5, 3.0], ids=["none", "other", "usual"])
def test_a_slot_holds_what_is_asked_of_it(etag: str, absent: bool, stale_until: float) -> None:
    """That is all but the id, instead of which its times name an entry, and how long it took.

    Whatever grace it has: none, that of its family or another.
    """
    header = LIVED._replace(etag=etag, absent=absent, stale_until=stale_until)

    slot = kept_alone(header, total=2**39)

    held = slot.header
    assert held == header._replace(entry_id=held.entry_id, load_seconds=held.load_seconds)
    assert (slot.size, slot.total, slot.deadline) == (42, 2**39, stale_until)
    for in_main in (True, False):
        slot.in_main = in_main
        assert (slot.in_main, slot.header) == (in_main, held)
    assert held.entry_id != kept_alone(header._replace(created_at=0.5)).header.entry_id


def test_what_a_hit_does_not_read_takes_48_bytes() -> None:
    """One byte more would take sixteen."""
    assert sys.getsizeof(kept_alone(LIVED).cold) <= 48 + HEAD_BEYOND


def test_nothing_is_served_past_its_deadline() -> None:
    """Not as fresh either."""
    header = kept_alone(LIVED, deadline=1.5).header

    assert (header.fresh_until, header.stale_until) == (1.5, 1.5)


@given(
    st.floats(0, 1e9),
    st.floats(0, 1e12) | st.sampled_from([0.1, 3600.1, 5e-324, 1e300, math.inf]),
    st.floats(0, 1e9) | st.sampled_from([0.0, 1.0, math.inf]),
)
def test_times_are_rounded_down_by_a_ten_millionth(now: float, ttl: float, grace: float) -> None:
    """What a policy promises ends no later; a whole number of seconds ends just then."""
    fresh, stale = now + ttl, now + ttl + grace

    header = kept_alone(Header(b"", now, fresh, stale, 0.0, FAMILY.codec.fingerprint)).header

    assert fresh - min(ttl, 1e31) * 2e-7 - now * 1e-15 - 1e-37 <= header.fresh_until or fresh > 1e38
    assert header.fresh_until <= math.nextafter(fresh, math.inf)
    assert header.stale_until <= stale + 2e-6
    assert header.fresh_until <= header.stale_until
