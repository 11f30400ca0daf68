"""A server in a process of its own: `python -m benchmarks._http_server`.

uvicorn with the event loop and the parser that its extra `standard` brings, on one core.
"""

import asyncio
import os
import socket
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import uvicorn
import uvloop

from benchmarks._child import serve
from benchmarks._http_apps import SETTINGS, Serving


class Service:
    """Carries out the parent's orders."""

    _serving: Serving

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def open(self, *, app: str, url: str, folder: str, core: int | None) -> int:
        """Serve an application; return the port."""
        if core is not None:
            os.sched_setaffinity(0, {core})
        self._serving = await self._stack.enter_async_context(SETTINGS[app](url, Path(folder)))
        # The responses have a Date of their own.
        config = uvicorn.Config(
            self._serving.app,
            interface="asgi3",
            http="httptools",
            lifespan="off",
            access_log=False,
            log_level="error",
            date_header=False,
            server_header=False,
        )
        # Clients wait in its backlog until it has started.
        listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
        port = int(listening.getsockname()[1])
        serving = uvicorn.Server(config).serve([listening])
        self._running = asyncio.create_task(serving, name="bench: uvicorn")
        return port

    async def spent(self) -> dict[str, Any]:
        """Return the processor time so far in nanoseconds, and what requests have come to."""
        behind, cache = self._serving.behind, self._serving.cache
        return {
            "cpu": time.process_time_ns(),
            "made": None if behind is None else behind.made,
            "l2_hits": None if cache is None else cache.statistics().l2_hits,
        }


async def main() -> None:
    """Take orders until the parent's end of the pipe closes."""
    async with AsyncExitStack() as stack:
        service = Service(stack)
        await serve({"open": service.open, "spent": service.spent})


if __name__ == "__main__":
    uvloop.run(main())
