"""What the contract of `abc.Remote` stores, and how it looks at it."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from async_tiercache.abc import Content, Remote
from async_tiercache.codecs.frame import ENTRY_ID_OFFSET

LEASE: Final = b"L" + b"\x00\r\n\xff" * 4
OTHER_LEASE: Final = b"L" + b"b" * 16
ID: Final = b"\x01" * 16


def frame(entry_id: bytes, payload: bytes = b"payload") -> bytes:
    """Return bytes that carry an entry id as frames do."""
    return b"V" + bytes(ENTRY_ID_OFFSET - 1) + entry_id + payload


FRAME: Final = frame(ID)
OTHER_FRAME: Final = frame(b"\x02" * 16)
NEW_FRAME: Final = frame(b"\x03" * 16)

NEW_STAMP: Final = NEW_FRAME[ENTRY_ID_OFFSET : ENTRY_ID_OFFSET + 16]

LONG: Final = 100.0
"""Seconds that do not end within a test."""
SHORT: Final = 0.5
"""Seconds in which the next command reaches the server."""
BRIEF: Final = 0.05
"""Seconds that a test waits out."""

_SET_UP: Final = b"L" + b"s" * 16


async def put(remote: Remote, key: str, held: bytes | None) -> None:
    """Let a key hold something: nothing, a lease, or a frame."""
    if held is None:
        return
    if held.startswith(b"L"):
        await remote.seize(key, held, LONG)
        return
    await remote.seize(key, _SET_UP, LONG)
    assert await remote.commit(key, held, LONG, fence=_SET_UP)


async def contents(remote: Remote, keys: Sequence[str]) -> list[Content]:
    """Return what keys hold."""
    return list((await remote.get_many(keys)).contents)


class Waiting:
    """What the tests of a contract wait for, each look a command of its own.

    Attributes:
        deadline: Seconds after which whatever should have happened has failed to.
    """

    deadline: float = 5.0

    async def _becomes(self, remote: Remote, key: str, expected: bytes | None) -> None:
        async def reached() -> bool:
            return await contents(remote, [key]) == [expected]

        await self._until(reached)

    async def _until(self, reached: Callable[[], Awaitable[bool]]) -> None:
        """Return once something is so."""
        async with asyncio.timeout(self.deadline):
            while not await reached():  # noqa: ASYNC110 - the server is asked
                await asyncio.sleep(0)
