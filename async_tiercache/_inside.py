"""Inside of a load: which loader this runs in, what that waits for, and what its value rests on."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from threading import Lock
from typing import Final
from weakref import ref

from async_tiercache._flight import Flight, Loading
from async_tiercache._ledger import Ledger
from async_tiercache.abc import NAMESPACE, TAG_EPOCH
from async_tiercache.errors import RecursiveLoadError

CURRENT: Final[ContextVar[Loading | None]] = ContextVar("tiercache_loading", default=None)
"""The loader in which this runs."""


RUNNING: Final[list[Loading]] = []
"""The loaders at work in this process, of whatever cache: if there is none, no read is inside.

What one cache holds may be read inside of a load of another, so it is not for each cache to know.
A list, since with a bus each hit asks whether it is empty, which is fastest for one.
"""


class Told:
    """Who is told whether there is any: without a bus a hit asks no more than its epoch.

    Attributes:
        ledgers: Those whose epochs are told.
        lock: Held meanwhile, for other threads have loaders, too: the end of the last one must not
            meet the begin of the next.
    """

    def __init__(self) -> None:
        self.ledgers: list[ref[Ledger]] = []
        self.lock = Lock()

    def tell(self, *, over: bool | None) -> None:
        """Let the present epochs say so."""
        # A copy: one of them may go meanwhile.
        for each in self.ledgers.copy():
            ledger = each()
            if ledger is not None:
                ledger.epoch.over = over


TOLD: Final = Told()


def watch(ledger: Ledger) -> None:
    """Let the epochs of a ledger say from now on whether loaders are at work."""
    with TOLD.lock:
        TOLD.ledgers.append(ref(ledger, TOLD.ledgers.remove))
        ledger.epoch.over = False if RUNNING else None


def begin_loading(loading: Loading) -> None:
    """Note that a loader is at work."""
    with TOLD.lock:
        RUNNING.append(loading)
        if len(RUNNING) == 1:
            TOLD.tell(over=False)


def end_loading(loading: Loading) -> None:
    """Note that a loader is not at work any more; it may have been noted before."""
    with TOLD.lock:
        if loading in RUNNING:
            RUNNING.remove(loading)
            if not RUNNING:
                TOLD.tell(over=None)


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
