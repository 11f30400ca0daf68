"""Runs: which run of each server was seen last, so that nobody takes a new one for the old.

A server that restarts, or that takes another's place, may hold what is older than what it had. It
has another run id. Every connection tells it before anything else, those for commands as well as
those that listen: whichever notices first says so, once.
"""

import re
from collections.abc import Callable, Hashable
from typing import Any, Final

from async_tiercache.abc import Listener

ASK: Final = ("INFO", "server")
"""What a server is asked for its run id."""

_RUN_ID: Final = re.compile(rb"run_id:(\w+)")


class Runs:
    """Compares run ids, and tells the listener when one is another than before.

    What is noticed while nobody listens is told to the next listener.
    """

    __slots__ = ("_hang_up", "_leave", "_listener", "_seen", "_untold")

    def __init__(self) -> None:
        self._seen: dict[Hashable, bytes] = {}
        self._leave: dict[Hashable, Callable[[], None]] = {}
        self._listener: Listener | None = None
        self._hang_up: Callable[[], None] | None = None
        self._untold = False

    def tell(self, listener: Listener, hang_up: Callable[[], None] | None = None) -> None:
        """Tell a listener from now on.

        Args:
            listener: The listener.
            hang_up: Ends the connection on which it listens to the only server there is, if that
                has not told of another one itself.
        """
        self._listener, self._hang_up = listener, hang_up
        if self._untold:
            self._untold = False
            listener.replaced()

    def hush(self, listener: Listener) -> None:
        """Tell a listener no more."""
        if self._listener is listener:
            self._listener = self._hang_up = None

    def hold(self, where: Hashable, leave: Callable[[], None]) -> None:
        """Say what ends the use of connections to the server of before, which may still answer.

        Args:
            where: What is one server at any time, as for `saw`.
            leave: Ends it at once.
        """
        self._leave[where] = leave

    def saw(self, where: Hashable, run_id: bytes) -> None:
        """Take in a run id; an empty one says nothing.

        Args:
            where: What is one server at any time: a node's address, or one thing for whatever is
                the only server now.
            run_id: The run id.
        """
        known = self._seen.get(where)
        if run_id and run_id != known:
            self._seen[where] = run_id
            if known:
                for leave in (self._leave.get(where), self._hang_up):
                    if leave is not None:
                        leave()
                self.replaced()

    def forget(self, where: Hashable) -> None:
        """Forget a server that serves no more."""
        self._seen.pop(where, None)
        leave = self._leave.pop(where, None)
        if leave is not None:
            leave()

    def replaced(self) -> None:
        """Say that a server is another one."""
        if self._listener is None:
            self._untold = True
        else:
            self._listener.replaced()


def run_id_of(told: Any) -> bytes:
    """Return the run id from an answer to ASK; empty if it is not there."""
    text = told.encode() if isinstance(told, str) else told
    found = _RUN_ID.search(text) if isinstance(text, bytes) else None
    return found[1] if found else b""
