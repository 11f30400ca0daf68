"""What is counted of the responses before a cache, in the words of `Cache-Status` (RFC 9211)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, get_args
from weakref import WeakKeyDictionary

from async_tiercache import TierCache
from async_tiercache.http.status import Forwarded


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpStatistics:
    """What has become of the requests to the applications before a cache, since it was made.

    Attributes:
        hits: Requests that were answered from what was stored.
        not_modified: Those of them whose answer was a 304.
        forwarded: Requests that the application answered, by why they went there (RFC 9211, 2.2):
            ``uri-miss`` and ``vary-miss``, nothing was stored for the URL, or for these fields;
            ``stale``, it had to be validated; ``miss``, another's response was not for it;
            ``bypass``, the request is none that may be answered from what is stored; ``request``,
            its client did not want that; ``method``, it is not a `GET` or `HEAD`.
        not_stored: Responses that were not stored, by the reason that ``detail=True`` tells, or
            that only their content has shown: ``size``, ``length``, ``pathsend``.
    """

    hits: int
    not_modified: int
    forwarded: Mapping[str, int]
    not_stored: Mapping[str, int]

    @property
    def hit_ratio(self) -> float:
        """The share of the `GET` and `HEAD` requests that were hits; 0.0 of none at all."""
        reads = self.hits + sum(self.forwarded.values()) - self.forwarded["method"]
        return self.hits / reads if reads else 0.0


class Counts:
    """Counts the responses before one cache.

    Attributes:
        whole: Requests that were answered from what was stored, but for those of the next kind.
        not_modified: Those whose answer was a 304.
        forwarded: The others, by why.
        not_stored: Responses that were not stored, by why.
    """

    __slots__ = ("forwarded", "not_modified", "not_stored", "whole")

    def __init__(self) -> None:
        self.whole = self.not_modified = 0
        self.forwarded: dict[str, int] = dict.fromkeys(get_args(Forwarded), 0)
        self.not_stored: dict[str, int] = {}

    def refuse(self, reason: str) -> None:
        """Count a response that is not stored."""
        self.not_stored[reason] = self.not_stored.get(reason, 0) + 1

    def read(self) -> HttpStatistics:
        """Return what was counted, which counts on."""
        return HttpStatistics(
            hits=self.whole + self.not_modified,
            not_modified=self.not_modified,
            forwarded=self.forwarded.copy(),
            not_stored=self.not_stored.copy(),
        )


_COUNTS: Final[WeakKeyDictionary[TierCache, Counts]] = WeakKeyDictionary()


def counts_of(cache: TierCache) -> Counts:
    """Return what counts the responses before a cache, whichever application they are of."""
    return _COUNTS.setdefault(cache, Counts())


def is_counted(cache: TierCache) -> bool:
    """Return whether there is a `ResponseCache` whose responses a cache keeps."""
    return cache in _COUNTS


def http_statistics(cache: TierCache) -> HttpStatistics:
    """Return what has become of the requests before a cache, nothing where no `ResponseCache` is.

    Example:
        >>> http_statistics(TierCache(namespace="shop")).hits
        0
    """
    counts = _COUNTS.get(cache)
    return (Counts() if counts is None else counts).read()
