"""Fills a cache's memory at once with what takes minutes to load."""

from collections.abc import Iterable
from math import inf
from typing import Any

from async_tiercache import TierCache
from async_tiercache._entry import Entry, Header


def fill(cache: TierCache, values: Iterable[tuple[str, Any, Any]]) -> None:
    """Put values beside the only one that has been loaded, as loads of the same function would.

    Args:
        cache: The cache, which holds one entry.
        values: Of each its key, the argument that the function takes for it, and the value.
    """
    store = cache._core.store
    assert store is not None
    (first,) = store
    aliases = first.group[1]
    header = Header(bytes(16), 0.0, inf, inf, 0.0, first.family.codec.fingerprint)
    for key, argument, value in values:
        slot = store.put(
            key,
            first.family,
            Entry(value, header, first.size),
            soft_deadline=first.soft_deadline,
            deadline=first.deadline,
            now=0.0,
        )
        assert slot is not None
        store.link(slot, aliases, argument)
