"""A process whose readers want one row at one moment: `python -m benchmarks._crowd`."""

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any

from async_tiercache import TierCache
from benchmarks._child import serve
from benchmarks._server import POLICY

LOAD_SECONDS = 0.05


class Crowd:
    """Carries out the parent's orders."""

    _row: Any

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack
        self._loads: list[float] = []

    async def open(self, *, url: str) -> None:
        """Open a cache, with memory and bus, as a service has it."""
        cache = TierCache(url, namespace="bench", policy=POLICY)
        await self._stack.enter_async_context(cache)

        @cache.cached("row:{number}")
        async def row(number: int) -> int:
            began = time.monotonic()
            await asyncio.sleep(LOAD_SECONDS)
            self._loads.append(time.monotonic() - began)
            return number

        self._row = row

    async def read(self, *, number: int, readers: int, at: float) -> dict[str, Any]:
        """Let readers want a row; return how long loads took here, and when the last was served."""
        self._loads.clear()
        await asyncio.sleep(at - time.monotonic())
        found = await asyncio.gather(*(self._row(number) for _ in range(readers)))
        served = time.monotonic()
        assert found == [number] * readers
        return {"loads": self._loads, "served": served}


async def main() -> None:
    """Take orders until the parent's end of the pipe closes."""
    async with AsyncExitStack() as stack:
        crowd = Crowd(stack)
        await serve({"open": crowd.open, "read": crowd.read})


if __name__ == "__main__":
    asyncio.run(main())
