"""A multi-tier cache for database-backed async services: L1 in memory, L2 in Redis or Valkey."""

from async_tiercache._cache import TierCache
from async_tiercache._decorators import BoundCached, Cached
from async_tiercache._events import (
    Advice,
    Event,
    Invalidated,
    Loaded,
    Read,
    Refused,
    TierChanged,
)
from async_tiercache._options import (
    COLD,
    HOT,
    L1,
    MISSING,
    STATIC,
    UNSET,
    WARM,
    Policy,
)
from async_tiercache._report import Report
from async_tiercache._statistics import Statistics
from async_tiercache._version import __version__
from async_tiercache._writer import Writing

__all__ = [
    "COLD",
    "HOT",
    "L1",
    "MISSING",
    "STATIC",
    "UNSET",
    "WARM",
    "Advice",
    "BoundCached",
    "Cached",
    "Event",
    "Invalidated",
    "Loaded",
    "Policy",
    "Read",
    "Refused",
    "Report",
    "Statistics",
    "TierCache",
    "TierChanged",
    "Writing",
    "__version__",
]
