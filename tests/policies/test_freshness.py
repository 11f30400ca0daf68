"""The lifetime of an entry: jitter, early expiration, states, and what L1 may keep."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache._entry import Header
from async_tiercache._options import Limits, Policy
from async_tiercache.policies.freshness import (
    Lifetime,
    early_at,
    jittered,
    keep_until,
    lifetime,
)

EPOCH = st.floats(1.6e9, 2.5e9)
TTL = st.floats(0.001, 1e7)
LOAD = st.floats(0, 1e4)
BETA = st.floats(0, 100)
UNIT = st.floats(0, 1, exclude_max=True)
ROUNDING = 1e-6  # a float near 2e9 has steps of 2.4e-7


def limits(**fields: object) -> Limits:
    return Limits.of(Policy().replace(**fields))


@given(ttl=TTL, jitter=UNIT, u=UNIT)
def test_jitter_only_shortens_and_never_to_nothing(ttl: float, jitter: float, u: float) -> None:
    """A jittered ttl is above 0 and at most the ttl."""
    assert 0 < jittered(ttl, jitter=jitter, u=u) <= ttl


@given(ttl=TTL, jitter=UNIT, u=UNIT)
def test_jitter_takes_off_at_most_its_share(ttl: float, jitter: float, u: float) -> None:
    """A jittered ttl keeps at least the share 1 - jitter."""
    assert jittered(ttl, jitter=jitter, u=u) >= ttl * (1 - jitter) * (1 - 1e-12)


@given(created_at=EPOCH, ttl=TTL, load=LOAD, beta=BETA, u=UNIT)
def test_early_lies_in_the_second_half_of_the_fresh_time(
    created_at: float, ttl: float, load: float, beta: float, u: float
) -> None:
    """However slow the loader, an early refresh begins after half of the fresh time."""
    fresh_until = created_at + ttl

    at = early_at(created_at=created_at, fresh_until=fresh_until, load_seconds=load, beta=beta, u=u)

    assert created_at + (fresh_until - created_at) / 2 - ROUNDING <= at <= fresh_until


@given(ttl=TTL, loads=st.tuples(LOAD, LOAD), betas=st.tuples(BETA, BETA), u=UNIT)
def test_slower_loaders_and_greater_eagerness_are_never_later(
    ttl: float, loads: tuple[float, float], betas: tuple[float, float], u: float
) -> None:
    """The early instant falls with load_seconds and with beta."""
    earlier = early_at(created_at=0, fresh_until=ttl, load_seconds=max(loads), beta=max(betas), u=u)
    later = early_at(created_at=0, fresh_until=ttl, load_seconds=min(loads), beta=min(betas), u=u)

    assert earlier <= later


@given(created_at=EPOCH, ttl=TTL, load=LOAD, u=UNIT)
def test_no_eagerness_means_never_early(
    created_at: float, ttl: float, load: float, u: float
) -> None:
    """With beta 0 the early instant is the end of the fresh time."""
    assert created_at + ttl == early_at(
        created_at=created_at, fresh_until=created_at + ttl, load_seconds=load, beta=0, u=u
    )


@given(now=st.floats(0, 100), load=st.floats(0.01, 20), beta=st.floats(0.1, 5), u=UNIT)
def test_the_folded_instant_decides_as_the_draw_of_xfetch(
    now: float, load: float, beta: float, u: float
) -> None:
    """In the second half, ``early_at <= now`` iff ``now - load*beta*ln(1-u) >= fresh_until``."""
    reach = now - load * beta * math.log(1 - u)

    folded = early_at(created_at=0, fresh_until=100, load_seconds=load, beta=beta, u=u) <= now

    if abs(reach - 100) > ROUNDING:
        assert folded == (now >= 50 and reach >= 100)


@pytest.mark.parametrize("ahead", [0.5, 1.0, 3.0], ids=lambda ahead: f"{ahead}-loads-ahead")
def test_the_share_of_early_copies_is_that_of_xfetch(ahead: float) -> None:
    """P(early_at <= fresh_until - x) = exp(-x / (load*beta)), counted over an even grid of u."""
    load, beta, grid = 2.0, 1.5, 10_000
    now = 1000 - ahead * load * beta

    early = sum(
        early_at(created_at=0, fresh_until=1000, load_seconds=load, beta=beta, u=i / grid) <= now
        for i in range(grid)
    )

    assert early / grid == pytest.approx(math.exp(-ahead), abs=2 / grid)


def test_a_lifetime_is_ttl_then_grace() -> None:
    """Fresh for `ttl` from the load's begin, then stale for `grace`."""
    life = lifetime(now=1000, limits=limits(ttl=60, grace=30, jitter=0), u=0.5, negative=False)

    assert life == Lifetime(created_at=1000, fresh_until=1060, stale_until=1090)


def test_grace_is_not_jittered() -> None:
    """Jitter moves the end of the fresh time; grace follows in full."""
    life = lifetime(now=0, limits=limits(ttl=60, grace=30, jitter=0.5), u=0.5, negative=False)

    assert life == Lifetime(created_at=0, fresh_until=45, stale_until=75)


def test_a_negative_value_without_a_ttl_of_its_own_is_a_value() -> None:
    """With no `negative_ttl` a `None` lives like anything else."""
    resolved = limits(ttl=60, grace=30, jitter=0.1)

    life = lifetime(now=0, limits=resolved, u=0.5, negative=True)

    assert life == lifetime(now=0, limits=resolved, u=0.5, negative=False)


def test_a_negative_ttl_comes_without_grace() -> None:
    """A `None` under `negative_ttl` is dead when it is no longer fresh."""
    life = lifetime(
        now=0, limits=limits(ttl=60, grace=30, negative_ttl=5, jitter=0), u=0.5, negative=True
    )

    assert life == Lifetime(created_at=0, fresh_until=5, stale_until=5)


def test_a_negative_ttl_of_zero_keeps_no_none() -> None:
    """`negative_ttl=0` stores no `None`."""
    assert lifetime(now=0, limits=limits(negative_ttl=0), u=0.5, negative=True) is None


def test_a_negative_ttl_leaves_values_alone() -> None:
    """`negative_ttl` does not touch what is not `None`."""
    life = lifetime(now=0, limits=limits(ttl=60, negative_ttl=0, jitter=0), u=0, negative=False)

    assert life is not None
    assert life.fresh_until == 60


HEADER = Header(
    entry_id=b"0123456789abcdef",
    created_at=1000,
    fresh_until=1060,
    stale_until=1090,
    load_seconds=1,
    fingerprint=b"01234567",
)


@pytest.mark.parametrize(
    ("l1_ttl", "early", "soft", "hard"),
    [(10, 1055, 1020, 1020), (50, 1055, 1055, 1060), (500, 1060, 1060, 1090)],
    ids=["l1-ttl", "early", "fresh-until"],
)
def test_l1_looks_again_at_the_first_of_its_reasons(
    l1_ttl: float, early: float, soft: float, hard: float
) -> None:
    """The soft instant is the first of l1_ttl, the early instant and the end of freshness."""
    assert keep_until(now=1010, header=HEADER, l1_ttl=l1_ttl, early_at=early) == (soft, hard)


@given(now=st.floats(0, 2000), l1_ttl=st.floats(0, 1e6), early=st.floats(1000, 1060))
def test_a_copy_is_never_served_unasked_past_its_freshness(
    now: float, l1_ttl: float, early: float
) -> None:
    """Whatever l1_ttl is, the soft instant is at most `fresh_until`, and the hard one later."""
    soft, hard = keep_until(now=now, header=HEADER, l1_ttl=l1_ttl, early_at=early)

    assert soft <= HEADER.fresh_until
    assert soft <= hard <= HEADER.stale_until
