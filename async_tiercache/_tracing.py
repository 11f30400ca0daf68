"""Tracing: enters the tracer's context around a piece of work, if there is a tracer."""

import logging
from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Final

from async_tiercache._entry import Tier
from async_tiercache._events import Operation, State
from async_tiercache._flight import Flight
from async_tiercache._outcome import Outcome
from async_tiercache.abc import Tracer

_log = logging.getLogger("async_tiercache")
_UNTRACED: Final[AbstractContextManager[object]] = nullcontext()
_TIERS: Final[tuple[Tier, ...]] = ("l1", "l2", "loader")
_STATES: Final[tuple[State, ...]] = ("fresh", "early", "stale")


class Tracing:
    """The tracer of one cache, or none.

    Args:
        tracer: Somebody else's code: what it raises is logged and harms no work.
        namespace: The cache's namespace, for one tracer may serve several.

    Attributes:
        on: Whether anybody looks at what operations hold.
    """

    __slots__ = ("_namespace", "_tracer", "on")

    def __init__(self, tracer: Tracer | None, namespace: str) -> None:
        self._tracer = tracer
        self._namespace = namespace
        self.on = tracer is not None

    def around(self, operation: Operation) -> AbstractContextManager[object]:
        """Return the context of an operation."""
        if self._tracer is None:
            return _UNTRACED
        operation.namespace = self._namespace
        return _Traced(self._tracer, operation)


class _Traced:
    """The tracer's context, with its own errors kept in."""

    __slots__ = ("_context", "_operation", "_tracer")

    def __init__(self, tracer: Tracer, operation: Operation) -> None:
        self._tracer = tracer
        self._operation = operation
        self._context: AbstractContextManager[object] | None = None

    def __enter__(self) -> None:
        try:
            context = self._tracer.around(self._operation)
            context.__enter__()
        except Exception:  # noqa: BLE001
            _log.exception("The tracer %r raised", self._tracer)
        else:
            self._context = context

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._context is None:
            return
        try:
            self._context.__exit__(kind, error, traceback)
        except Exception as raised:  # noqa: BLE001
            if raised is not error:
                _log.exception("The tracer %r raised", self._tracer)


def note_answers(
    operation: Operation, outcomes: Collection[Outcome], joined: Collection[Flight]
) -> None:
    """Write down for the tracer how a get was answered.

    Args:
        operation: The get.
        outcomes: The answers of all its keys.
        joined: The flights of other calls that it waited for.
    """
    operation.tier = _TIERS[max(_TIERS.index(each.tier) for each in outcomes)]
    operation.state = _STATES[max(_STATES.index(each.state) for each in outcomes)]
    operation.stale_ages = tuple(each.age for each in outcomes if each.state == "stale")
    operation.size = sum(len(each.payload) for each in outcomes) or None
    loads = [flight.operation for flight in joined if flight.operation is not None]
    operation.loads = tuple(dict.fromkeys(loads))
