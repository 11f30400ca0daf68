"""Decide how long an entry is fresh, early, stale, and from when on it is dead.

Pure: no clock, no chance, no I/O. Every instant is on the remote tier's clock, in epoch seconds.
Early expiration is XFetch (Vattani, Chierichetti, Lowenstein, VLDB 2015) with its draw folded into
one instant per copy of an entry. Called by the read and the write path; the rules for users are
in docs/concepts/freshness.md.
"""

import math
from dataclasses import dataclass
from typing import Final

from async_tiercache._entry import Header
from async_tiercache._options import Limits

MAX_DRAW: Final = 53 * math.log(2)
"""No head start is longer than so many load times: `random` draws multiples of 2**-53."""


@dataclass(frozen=True, slots=True)
class Lifetime:
    """The three instants of an entry, in epoch seconds.

    Attributes:
        created_at: When the load that made the value began.
        fresh_until: From here on the entry is stale.
        stale_until: From here on the entry is dead.
    """

    created_at: float
    fresh_until: float
    stale_until: float

    def until(self, fresh_until: float) -> "Lifetime":
        """Return a lifetime that ends earlier, with the same grace."""
        grace = self.stale_until - self.fresh_until
        return Lifetime(self.created_at, fresh_until, fresh_until + grace)


def lifetime(
    *, now: float, limits: Limits, u: float, negative: bool, ttl: float | None = None
) -> Lifetime | None:
    """Return the lifetime of a value, or `None` if it is not to be stored.

    A `None` under its own `negative_ttl` gets no grace: an absence worth asking about again so soon
    is not worth serving late.

    Args:
        now: When the load that made the value began.
        limits: What the policies resolve to.
        u: A number drawn from [0, 1), for the jitter.
        negative: Whether the value is `None`.
        ttl: What the loader said instead of the policy, in seconds.
    """
    grace, given = limits.grace, limits.ttl
    if negative and limits.negative_ttl is not None:
        given, grace = limits.negative_ttl, 0.0
    fresh_for = given if ttl is None else ttl
    if fresh_for == 0:
        return None
    fresh_until = now + jittered(fresh_for, jitter=limits.jitter, u=u)
    return Lifetime(now, fresh_until, fresh_until + grace)


def jittered(ttl: float, *, jitter: float, u: float) -> float:
    """Return `ttl` shortened by up to its share `jitter`; never longer, never 0.

    Args:
        ttl: Seconds.
        jitter: The largest share to take off, from 0 to below 1.
        u: A number drawn from [0, 1).

    Example:
        >>> jittered(100.0, jitter=0.1, u=0.5)
        95.0
    """
    return ttl * (1 - jitter * u)


def early_at(
    *, created_at: float, fresh_until: float, load_seconds: float, beta: float, u: float
) -> float:
    """Return the instant from which a copy of an entry is due for an early refresh.

    XFetch draws at every read and refreshes once ``now - load_seconds * beta * ln(u)`` has reached
    `fresh_until`. Solved for `now` that is one instant, so a read only compares. The head start is
    at most half of the fresh time, however slow the loader.

    Args:
        created_at: When the load that made the value began.
        fresh_until: When the entry becomes stale.
        load_seconds: How long the loader took.
        beta: Eagerness; 0 means never early.
        u: A number drawn from [0, 1).

    Example:
        >>> early_at(created_at=0.0, fresh_until=60.0, load_seconds=2.0, beta=0.0, u=0.5)
        60.0
    """
    head_start = load_seconds * beta * -math.log1p(-u)
    return fresh_until - min(head_start, (fresh_until - created_at) / 2)


def keep_until(
    *, now: float, header: Header, l1_ttl: float, early_at: float
) -> tuple[float, float]:
    """Return until when this process may serve its own copy, unasked and at all.

    Returns:
        The first instant at which this process must look again, and the instant from which the
        copy must not be served for any reason. Either may have passed already.
    """
    asked = now + l1_ttl
    return min(asked, early_at, header.fresh_until), min(asked, header.stale_until)
