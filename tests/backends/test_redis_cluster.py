"""What a Cluster does with nodes that it meets while it is closed."""

import asyncio
from typing import Any

from redis.exceptions import MovedError

from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache.backends.redis.cluster import Cluster
from async_tiercache.backends.redis.directory import SLOTS, Address, Directory
from async_tiercache.backends.redis.runs import Runs
from tests.backends.test_redis_plain_wires import FakeConnection

OLD, OTHER, NEW = ("old", 1), ("other", 1), ("new", 1)
DEADLINE = 5.0
"""How long anything may take here; reached only by tests that fail."""


class FakeDirectory(Directory):
    """Names two masters, and makes connections that do not exist.

    Attributes:
        made: The connections, by the address of their node.
    """

    def __init__(self) -> None:
        self.seeds = [OLD]
        self.max_connections = 1
        self.made: dict[Address, FakeConnection] = {}

    def connection(self, address: Address) -> Any:
        """Return the only one to a node."""
        return self.made.setdefault(address, FakeConnection(len(self.made)))

    def outside(self, host: str, port: int) -> Address:
        """Return the address as it is."""
        return host, port

    async def masters(self, addresses: Any) -> list[Address | None]:
        """Return both."""
        return [OLD if slot < SLOTS // 2 else OTHER for slot in range(SLOTS)]


async def test_a_close_waits_for_what_is_moved_to_a_node_that_was_not_known() -> None:
    """And hangs up on that as well."""
    directory = FakeDirectory()
    cluster = Cluster(
        directory,
        clock=SYSTEM_CLOCK,
        limit=DEADLINE,
        told_time=lambda _seconds, _waited: None,
        runs=Runs(),
    )
    await cluster.prove(lambda number: f"k{number}")
    for address in (OLD, OTHER):
        directory.made[address].gate.clear()
        directory.made[address].replies.append(MovedError("0 new:1"))
    replies = [cluster.submit("GET", f"k{number}") for number in (1, 2)]
    await asyncio.sleep(0)

    closing = asyncio.create_task(cluster.aclose())
    await asyncio.sleep(0)
    for address in (OLD, OTHER):
        directory.made[address].gate.set()
    async with asyncio.timeout(DEADLINE):
        await closing

    assert await asyncio.gather(*replies) == [2, 2]
    assert [each.is_connected for each in directory.made.values()] == [False, False, False]
