"""The directory of a Cluster: which node serves which slot, as redis-py's discovery tells it.

The one place that uses redis-py's `NodesManager`; tests/servers/test_cluster.py would notice if it
changed.
"""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any, Final, TypeAlias, cast

from redis.asyncio.cluster import ClusterNode, NodesManager, RedisCluster
from redis.crc import REDIS_CLUSTER_HASH_SLOTS
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisClusterException

from async_tiercache.backends.redis.connections import no_retry
from async_tiercache.backends.redis.hedging import hedged

Address: TypeAlias = tuple[str, int]

SLOTS: Final[int] = REDIS_CLUSTER_HASH_SLOTS

_NOT_OURS: Final = (
    # Would let a connection read from a replica, or rearrange the client it was made by.
    "redis_connect_func",
    "maint_notifications_config",
    "oss_cluster_maint_notifications_handler",
)


class Directory:
    """Asks nodes of a Cluster for its map.

    Args:
        client: Whose settings connections have, and whose nodes are asked at first.
    """

    def __init__(self, client: RedisCluster) -> None:
        manager: Any = client.nodes_manager
        self._settings: dict[str, Any] = {
            name: value for name, value in client.connection_kwargs.items() if name not in _NOT_OURS
        } | {
            "socket_timeout": None,
            "socket_connect_timeout": None,
            "retry": no_retry(),
        }
        self._remap: Any = manager.address_remap
        self.seeds: list[Address] = [
            (node.host, int(node.port)) for node in manager.startup_nodes.values()
        ]
        self.max_connections: int = client.connection_kwargs["max_connections"] or 1

    def connection(self, address: Address) -> Any:
        """Return a connection to a node, not open yet."""
        node = self._node(address)
        return node.connection_class(**node.connection_kwargs)

    def outside(self, host: str, port: int) -> Address:
        """Return where a node is reached that the Cluster names so."""
        return self._remap((host, port)) if self._remap else (host, port)

    async def masters(self, addresses: Sequence[Address]) -> list[Address | None]:
        """Return the master of each slot as the first node that answers knows it.

        Args:
            addresses: Who is asked, in this order.

        Raises:
            Exception: What one of them failed with.
        """
        try:
            return await hedged([partial(self._ask, address) for address in addresses])
        except RedisClusterException as error:
            # It is none of redis-py's other errors, whatever it tells of.
            raise RedisConnectionError(str(error)) from error

    async def _ask(self, address: Address) -> list[Address | None]:
        seed = self._node(address)
        manager: Any = cast("Any", NodesManager)(
            [seed], False, self._settings, address_remap=self._remap
        )
        try:
            await manager.initialize()
            known: dict[int, tuple[Any, Address]] = {}
            masters: list[Address | None] = [None] * SLOTS
            for slot, nodes in manager.slots_cache.items():
                found = known.get(id(nodes))
                if found is None:
                    found = known[id(nodes)] = (nodes, (nodes[0].host, int(nodes[0].port)))
                masters[slot] = found[1]
            return masters
        finally:
            # Whoever breaks this off twice leaves no connection open.
            await asyncio.shield(seed.disconnect())

    def _node(self, address: Address) -> Any:
        return cast("Any", ClusterNode)(*address, **self._settings)
