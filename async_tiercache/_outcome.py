"""The outcome: what a flight ends with, a value or an error.

An error goes to each waiter as a copy of its own.
"""

import copy
import math
from typing import Any, Final, NamedTuple

from async_tiercache._basis import Basis
from async_tiercache._entry import Tier
from async_tiercache._events import State
from async_tiercache.errors import LoadCancelledError, LoadTimeoutError


class Outcome(NamedTuple):
    """What a flight ends with.

    Attributes:
        value: The value, unless there is an error.
        tier: Which tier answered.
        state: How fresh the value is.
        error: What the loader raised.
        age: How long past its time a stale value is, in seconds.
        fresh_until: Until when the value is fresh, by the remote tier's clock.
        payload: The encoded value, from which callers that share nothing get their own.
        basis: What it rests on, if that is another thing than what is being loaded.
    """

    value: Any = None
    tier: Tier = "loader"
    state: State = "fresh"
    error: BaseException | None = None
    age: float = 0.0
    fresh_until: float = math.inf
    payload: bytes | memoryview = b""
    basis: Basis | None = None

    def at(self, now: float) -> "Outcome":
        """Return an old value as old as it is by now, on the remote tier's clock."""
        if self.state == "fresh" or (self.state == "early" and now < self.fresh_until):
            return self
        return self._replace(state="stale", age=now - self.fresh_until)

    @property
    def may_be_theirs(self) -> bool:
        """Whether it is an error that another caller's object or loader may have caused."""
        return not isinstance(self.error, LoadTimeoutError | None)


ABANDONED: Final = Outcome()
"""The caller in whose life the load ran was cancelled; who still wants the value starts over."""


def cancelled_load(what: str) -> LoadCancelledError:
    """Return the error of a load that was ended by none of its callers."""
    return LoadCancelledError(
        f"{what} was cancelled",
        hint="The cache was closed meanwhile; else the cause says what its loader raised.",
    )


def copy_of(error: BaseException) -> BaseException:
    """Return a copy with the same traceback, so that waiters do not write into each other's.

    An error whose class does not allow it is shared.
    """
    try:
        twin = copy.copy(error)
        if type(twin) is not type(error) or twin.args != error.args:
            return error
        twin.__cause__, twin.__context__ = error.__cause__, error.__context__
        twin.__suppress_context__ = error.__suppress_context__
        if hasattr(error, "__notes__"):
            twin.__notes__ = list(error.__notes__)
        return twin.with_traceback(error.__traceback__)
    except Exception:  # noqa: BLE001 - an error class may refuse to be looked at in any way
        return error
