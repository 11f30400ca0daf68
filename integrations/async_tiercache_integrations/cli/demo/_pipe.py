"""How a process of the demo is commanded: one JSON object a line on stdin, answered on stdout.

The end of stdin ends it.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Any, Protocol

from async_tiercache_integrations.cli.demo._measure import Tally


class Servant(Protocol):
    """Does what it is told, and counts."""

    async def obey(self, command: Mapping[str, Any]) -> float:
        """Do one command; return how long its part of a stampede took."""
        ...

    def take(self) -> Tally:
        """Return what was counted since the last call."""
        ...


async def obey(servant: Servant, counter: list[int] | None = None, *, port: int = 0) -> None:
    """Do one command after the other; each answers with what was counted since the one before.

    Args:
        servant: Does them.
        counter: Counts the statements of this process, if anybody does.
        port: Where it listens, if it does.
    """
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    _send(Tally(), port=port)  # it is ready
    while line := await reader.readline():
        seconds = await servant.obey(json.loads(line))
        tally = servant.take()
        if counter is not None:
            tally.statements, counter[0] = counter[0], 0
        _send(tally, seconds=seconds)


def _send(tally: Tally, *, seconds: float = 0.0, port: int = 0) -> None:
    print(json.dumps({"tally": tally.as_json(), "seconds": seconds, "port": port}), flush=True)
