"""The seam between one server and a Cluster: who carries a command to where its keys are."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Protocol


class Route(Protocol):
    """Carries commands: `turns.Turns` to one server, `cluster.Cluster` to many.

    Futures raise what redis-py raises, `TimeoutError`, or `NodeDownError` where one node does not
    serve and others do.
    """

    def submit(self, *command: Any) -> "asyncio.Future[Any]":
        """Queue a command for the next turn and return the future of its reply."""
        ...

    @property
    def whole(self) -> bool:
        """Whether all names are on one server, so that one script may be about many."""
        ...

    async def servers(self) -> Sequence[Callable[..., "asyncio.Future[Any]"]]:
        """Return what queues a command for each of the servers that hold keys."""
        ...

    def connections(self) -> list[Any]:
        """Return the connections of redis-py that are open."""
        ...

    async def prove(self, name: Callable[[int], str]) -> None:
        """Connect if need be; return once a server has been written, or raise if none can be.

        Args:
            name: Returns names that no cached key has, one for each number.
        """
        ...

    async def aclose(self) -> None:
        """Wait for the turns on the wire, each of which ends, and hang up."""
        ...
