"""Inside of a load: which loader this runs in, what that waits for, and what its value rests on."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from typing import Final

from async_tiercache._flight import Flight, Loading
from async_tiercache.abc import NAMESPACE, TAG_EPOCH
from async_tiercache.errors import RecursiveLoadError

CURRENT: Final[ContextVar[Loading | None]] = ContextVar("tiercache_loading", default=None)
"""The loader in which this runs."""


RUNNING: Final[list[Loading]] = []
"""The loaders at work in this process, of whatever cache: a hit is inside of none if there is none.

What one cache holds may be read inside of a load of another, so it is not for each cache to know.
A list, since each hit asks whether it is empty, which is fastest for one.
"""


def inside() -> Loading | None:
    """Return the loader in which this runs, while it runs."""
    loading = CURRENT.get()
    return loading if loading is not None and loading.running else None


def keep_nothing() -> None:
    """Let what the load around this brings be kept nowhere: it reads what may not be committed."""
    loading = inside()
    for flight in () if loading is None else loading.flights:
        flight.basis.sound = False


def tags_rested_on() -> frozenset[str]:
    """Return what the load around this stands under by now, by what was read inside of it."""
    loading = inside()
    flights = () if loading is None else loading.flights
    texts = {tag for flight in flights for tag in flight.basis.tags}
    return frozenset(texts - {NAMESPACE, TAG_EPOCH})


def begin_wait(flight: Flight) -> Loading | None:
    """Note that the loader from which this is called waits for `flight`, and return that loader.

    The caller ends the wait with `end_wait`.

    Raises:
        RecursiveLoadError: The flight waits for that loader, or is for a key that is being loaded
            further out, so it would never end.
    """
    current = CURRENT.get()
    if current is None or not current.running:
        return None
    if current.encloses(flight) or flight.leads_to(current):
        key = current.flights[0].key
        raise RecursiveLoadError(
            f"The load of {key!r} waits for {flight.key!r}, which waits for it",
            key=flight.key,
            hint="Let the loader read the source instead of its own cached function.",
        )
    current.begin_wait(flight)
    return current


async def proven(flights: Sequence[Flight]) -> None:
    """Inside of a load, return when flights rest on the tags that their loaders have named.

    Callers outside have the value before, and nothing of theirs rests on it.
    """
    loading = inside()
    proving = {each: each.proving for each in flights if each.proving is not None}
    if loading is None or not proving:
        return
    for flight in proving:
        # Until then it is their tags that tell whether this load may be joined.
        loading.begin_wait(flight)
    try:
        await asyncio.wait(proving.values())
    finally:
        for flight in proving:
            loading.end_wait(flight)
