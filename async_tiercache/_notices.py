"""Notices: what observers are told of, and what the owner of a cache is advised."""

import logging
from typing import Final

from async_tiercache._advisor import refusal
from async_tiercache._events import Advice, Event, Mutated
from async_tiercache.abc import Observer
from async_tiercache.errors import TierRefusedError

MAX_ADVISED: Final = 50
"""With more advice than this, no more is given about what L2 refuses."""

_log = logging.getLogger("async_tiercache")


class Notices:
    """Those of one cache.

    Args:
        observers: Are told of every event.
        has_remote: Whether there is an L2 that may refuse something.

    Attributes:
        observed: Whether anybody is told.
    """

    __slots__ = ("_advised", "_has_remote", "_observers", "observed")

    def __init__(self, observers: tuple[Observer, ...], *, has_remote: bool) -> None:
        self._observers = observers
        self._has_remote = has_remote
        self._advised: set[str] = set()
        self.observed = bool(observers)

    def notify(self, event: Event) -> None:
        """Tell the observers; one that raises is logged, and nothing else suffers."""
        for observer in self._observers:
            try:
                observer(event)
            except Exception:  # noqa: BLE001 - an observer is somebody else's code
                _log.exception("The observer %r raised", observer)

    def advise(self, name: str, message: str) -> None:
        """Tell the owner of the cache something about its set-up, once.

        Args:
            name: The last part of the logger's name, by which it is silenced.
            message: What it is, and which setting changes it.
        """
        if message not in self._advised:
            self._advised.add(message)
            logger = f"async_tiercache.advice.{name}"
            logging.getLogger(logger).warning("%s (logger %s)", message, logger)
            self.notify(Advice(name, message))

    def refused(self, error: TierRefusedError) -> None:
        """Say what nothing else would: L2 answers, so it is not down, and yet it is of no use."""
        # What it says may name a key, and there are many.
        if self._has_remote and len(self._advised) < MAX_ADVISED:
            self.advise("redis-refuses", refusal(error))

    def mutated(self, key: str) -> None:
        """Tell that somebody has changed a value that others share."""
        _log.error("The value of %r was changed after it had been cached", key)
        self.notify(Mutated(key))
