"""An observer that logs: reads and loads at DEBUG, invalidations at INFO, failed loads at WARNING.

What the owner of a service must know without any set-up is logged by the cache itself: a tier that
stops or starts answering, advice, a value that was changed after it had been cached. Those events
are not logged here a second time.
"""

import asyncio
import logging
from typing import Any, Final

from async_tiercache import Event, Invalidated, Loaded, Read, Refused
from async_tiercache.abc import NAMESPACE
from async_tiercache.errors import TierCacheError
from async_tiercache_integrations._keys import Keys

LOGGER: Final = "async_tiercache.events"
"""The name of the logger, unless another is given."""

_REFUSED: Final[dict[str, tuple[int, str]]] = {
    "frame": (logging.WARNING, "damaged, or written by something else"),
    "key": (logging.WARNING, "it is the value of another key"),
    "payload": (logging.WARNING, "it cannot be decoded"),
    "schema": (logging.INFO, "its type has another shape, as between two releases"),
    "compression": (logging.WARNING, "the package that expands it is not installed here"),
    "dictionary": (logging.WARNING, "the dictionary that it was compressed with is not here"),
    "format": (logging.INFO, "another release of the cache wrote it"),
    "tag": (logging.DEBUG, "one of its tags was invalidated since, or Redis has lost its state"),
    "namespace": (logging.DEBUG, "everything was cleared since, or Redis has lost its state"),
}


class LoggingObserver:
    """Logs what a cache does; an L1 hit is no event and is never logged.

    Every record has what it says as attributes too, for structured logs: ``cache_event`` (the
    event's name in lower case), ``cache_key`` or ``cache_keys``, and the event's other fields as
    ``cache_`` and their name.

    Args:
        logger: Where to log; by default the logger ``async_tiercache.events``.
        show_keys: Whether keys are logged as they are, and not as digests. A message of your own
            loader's error is logged with only the key that was loaded replaced.

    Example:
        >>> from async_tiercache import TierCache
        >>> cache = TierCache(namespace="shop", observers=[LoggingObserver()])
    """

    __slots__ = ("_keys", "_logger")

    def __init__(self, logger: logging.Logger | None = None, *, show_keys: bool = False) -> None:
        self._logger = logger or logging.getLogger(LOGGER)
        self._keys = Keys(show=show_keys)

    def __call__(self, event: Event) -> None:
        """Log an event."""
        if isinstance(event, Read):
            self._read(event)
        elif isinstance(event, Loaded):
            self._loaded(event)
        elif isinstance(event, Refused):
            self._refused(event)
        elif isinstance(event, Invalidated):
            self._invalidated(event)

    def _read(self, event: Read) -> None:
        if self._logger.isEnabledFor(logging.DEBUG):
            key = self._keys.shown(event.key)
            self._logger.debug(
                "get %s: %s from %s after %.6f s%s",
                key,
                event.state,
                event.tier,
                event.seconds,
                ", with another call" if event.joined else "",
                extra=_extra(
                    "read",
                    family=event.family,
                    key=key,
                    tier=event.tier,
                    state=event.state,
                    joined=event.joined,
                    seconds=event.seconds,
                ),
            )

    def _loaded(self, event: Loaded) -> None:
        # A caller that went away is no failure of the loader.
        failed = not isinstance(event.error, asyncio.CancelledError | None)
        level = logging.WARNING if failed else logging.DEBUG
        if not self._logger.isEnabledFor(level):
            return
        key = self._keys.shown(event.key)
        extra = _extra(
            "loaded", family=event.family, key=key, stored=event.stored, seconds=event.seconds
        )
        if event.error is None:
            self._logger.debug(
                "load %s: %.6f s, stored: %s", key, event.seconds, event.stored, extra=extra
            )
            return
        extra["cache_error"] = type(event.error).__name__
        if not failed:
            self._logger.debug("load %s: cancelled after %.6f s", key, event.seconds, extra=extra)
            return
        extra["cache_hint"] = event.error.hint if isinstance(event.error, TierCacheError) else ""
        self._logger.warning(
            "load %s: failed after %.6f s: %s: %s",
            key,
            event.seconds,
            extra["cache_error"],
            self._keys.message_of(event.error, [event.key]),
            extra=extra,
        )

    def _refused(self, event: Refused) -> None:
        level, why = _REFUSED[event.cause]
        if self._logger.isEnabledFor(level):
            key = self._keys.shown(event.key)
            self._logger.log(
                level,
                "what L2 holds for %s is not used (%s): %s",
                key,
                event.cause,
                why,
                extra=_extra("refused", key=key, cause=event.cause),
            )

    def _invalidated(self, event: Invalidated) -> None:
        if self._logger.isEnabledFor(logging.INFO):
            keys, tags = self._keys.shown_of(event.keys), self._keys.shown_of(event.tags)
            named = [_listed(keys, len(event.keys))] if keys else []
            if NAMESPACE in event.tags:
                named.append("everything")
            elif event.tags:
                named.append(f"tags {_listed(tags, len(event.tags))}")
            self._logger.info(
                "invalidated %s, L2: %s",
                ", ".join(named),
                event.l2,
                extra=_extra(
                    "invalidated",
                    keys=keys,
                    count=len(event.keys),
                    tags=tags,
                    tag_count=len(event.tags),
                    l2=event.l2,
                ),
            )


def _listed(shown: list[str], count: int) -> str:
    """Return what is shown of some keys or tags, and how many there are besides."""
    more = f" and {count - len(shown)} more" if count > len(shown) else ""
    return ", ".join(shown) + more


def _extra(event: str, **fields: Any) -> dict[str, Any]:
    """Return the attributes of a record; the prefix keeps them apart from `logging`'s own."""
    return {"cache_event": event} | {f"cache_{name}": value for name, value in fields.items()}
