"""The invalidation path: what is no longer true is gone when the call returns.

First this process forgets: generations rise, L1 drops, flights are detached. Then L2 is told. Then
this process forgets once more, because a reader may have fetched the old value from L2 in between.
Until L2 confirms, the record stays pending: this process reads around L2, and the recovery repeats.
"""

from collections.abc import Callable, Iterable
from secrets import token_bytes
from typing import Literal

from async_tiercache._events import Invalidated, Operation
from async_tiercache._guard import Guard
from async_tiercache._ledger import Ledger
from async_tiercache._recovery import Recovery
from async_tiercache._report import Report
from async_tiercache._tracing import Tracing
from async_tiercache.abc import Invalidation, Observer, Remote
from async_tiercache.errors import TierError, TierPartError


class Invalidator:
    """Invalidates keys in this process and in L2."""

    def __init__(
        self,
        *,
        remote: Remote | None,
        guard: Guard,
        ledger: Ledger,
        recovery: Recovery,
        forget: Callable[[Invalidation], None],
        tracing: Tracing,
        notify: Observer,
    ) -> None:
        self._remote = remote
        self._guard = guard
        self._ledger = ledger
        self._recovery = recovery
        self._forget = forget
        self._tracing = tracing
        self._notify = notify

    async def invalidate(self, keys: Iterable[str]) -> Report:
        """Remove keys from every tier; a reader that begins afterwards gets nothing older."""
        record = Invalidation(token_bytes(16), tuple(dict.fromkeys(keys)))
        if not record.keys:
            return self.confirmed()
        self._forget(record)
        l2: Literal["done", "queued", "off"] = "off"
        if self._remote is not None:
            operation = Operation("invalidate", "", record.keys)
            with self._tracing.around(operation):
                l2 = operation.stored = await self._tell(self._remote, record)
            self._forget(record)
        self._notify(Invalidated(record.keys, l2))
        return Report(l2)

    def confirmed(self) -> Report:
        """Return the report of an invalidation that L2, if there is one, has confirmed."""
        return Report("off" if self._remote is None else "done")

    async def _tell(self, remote: Remote, record: Invalidation) -> Literal["done", "queued"]:
        self._ledger.hold(record)
        try:
            await self._guard.call(remote.invalidate, record)
        except TierPartError as error:
            self._ledger.confirm(record.without(error.keys))
            return "queued"
        except TierError:
            return "queued"
        else:
            self._ledger.confirm(record)
            return "done"
        finally:
            # Also when the caller was cancelled: a record that is not confirmed is repeated.
            self._recovery.wake()
