"""A multi-tier cache for database-backed async services: L1 in memory, L2 in Redis or Valkey."""

from async_tiercache._cache import TierCache
from async_tiercache._changes import Changes
from async_tiercache._compression import Compression, Dictionary
from async_tiercache._context import LoadContext
from async_tiercache._decorators import BoundBatch, BoundCached, Cached, CachedBatch
from async_tiercache._events import (
    Advice,
    Event,
    Invalidated,
    Loaded,
    Mutated,
    Operation,
    Read,
    Refused,
    TierChanged,
)
from async_tiercache._explain import Explanation
from async_tiercache._options import (
    COLD,
    HOT,
    L1,
    MISSING,
    STATIC,
    UNSET,
    WARM,
    Missing,
    Policy,
    Unset,
)
from async_tiercache._report import Report
from async_tiercache._statistics import Histogram, Statistics
from async_tiercache._tenancy import Tenant
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
    "BoundBatch",
    "BoundCached",
    "Cached",
    "CachedBatch",
    "Changes",
    "Compression",
    "Dictionary",
    "Event",
    "Explanation",
    "Histogram",
    "Invalidated",
    "LoadContext",
    "Loaded",
    "Missing",
    "Mutated",
    "Operation",
    "Policy",
    "Read",
    "Refused",
    "Report",
    "Statistics",
    "Tenant",
    "TierCache",
    "TierChanged",
    "Unset",
    "Writing",
    "__version__",
]
