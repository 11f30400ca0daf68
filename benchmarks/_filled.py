"""Fills a cache's memory, or its Redis, at once with what takes minutes to load."""

import asyncio
from collections.abc import Iterable
from itertools import islice
from math import inf
from typing import Any, Final
from urllib.parse import urlsplit

import hiredis

from async_tiercache import TierCache
from async_tiercache._entry import Entry, Header
from async_tiercache.backends.redis.names import Names
from async_tiercache.codecs.frame import digest_key, pack, unpack
from benchmarks._server import client_of

_hiredis: Final[Any] = hiredis  # its types know no longer tuples
_TOGETHER: Final = 1_000
_OK: Final = b"+OK\r\n"


def fill(cache: TierCache, values: Iterable[tuple[str, Any, Any]]) -> None:
    """Put values beside the only one that has been loaded, as loads of the same function would.

    Args:
        cache: The cache, which holds one entry.
        values: Of each its key, the argument that the function takes for it, and the value.
    """
    store = cache._core.store
    assert store is not None
    (first,) = store
    aliases = first.group[1]
    header = Header(bytes(16), 0.0, inf, inf, 0.0, first.family.codec.fingerprint)
    for key, argument, value in values:
        slot = store.put(
            key,
            first.family,
            Entry(value, header, first.size),
            soft_deadline=first.soft_deadline,
            deadline=first.deadline,
            now=0.0,
        )
        assert slot is not None
        store.link(slot, aliases, argument)


async def store(url: str, namespace: str, first: str, keys: Iterable[str]) -> None:
    """Store under each of the keys what a load has stored under the first one, as it would be.

    Args:
        url: Where the Redis is.
        namespace: The cache's namespace.
        first: The key of what was loaded.
        keys: Those that get the same value, but a frame of their own.
    """
    names, where = Names(namespace), urlsplit(url)
    async with client_of(url) as client:
        await client.config_set("maxmemory", "4gb")
        loaded = await client.get(names.key(first))
        life = await client.pttl(names.key(first))
    header, body = unpack(loaded, key_digest=digest_key(namespace, first))

    def stored(key: str) -> bytes:
        frame = pack(header, body, key_digest=digest_key(namespace, key))
        packed: bytes = _hiredis.pack_command(("SET", names.key(key), frame, "PX", life))
        return packed

    # A pipeline of redis-py takes four times as long.
    reader, writer = await asyncio.open_connection(where.hostname, where.port)
    left = iter(keys)
    while some := [stored(key) for key in islice(left, _TOGETHER)]:
        writer.writelines(some)
        assert await reader.readexactly(len(some) * len(_OK)) == _OK * len(some)
    writer.close()
    await writer.wait_closed()
