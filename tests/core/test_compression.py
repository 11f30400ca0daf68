"""Compression in L2: what a cache stores, reads and counts, and fleets whose servers differ."""

import random
import sys
from typing import Any

import pytest
import zstandard

from async_tiercache import Advice, Compression, Dictionary, Loaded, Refused, TierCache
from async_tiercache._clock import SYSTEM_CLOCK
from async_tiercache._compression import Algorithm
from async_tiercache._entry import Header
from async_tiercache.codecs import codec_for
from async_tiercache.codecs.frame import HEADER_BYTES, Body, digest_key, pack
from async_tiercache.tags import PAIR_BYTES
from async_tiercache.testing import MemoryServer, Recorder, settled
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, namespace_state

RAW = "test:{value:1}"
TEXT = "a sentence that repeats itself, as text does. " * 100


def rows(count: int, *, seed: int) -> list[dict[str, Any]]:
    draw = random.Random(seed)
    return [
        {
            "id": n,
            "email": f"{draw.randbytes(4).hex()}@example.org",
            "plan": "monthly, paid by card",
        }
        for n in range(count)
    ]


def dictionary(seed: int) -> Dictionary:
    return Dictionary.train([repr(row).encode() for row in rows(1_000, seed=seed)], size=2_048)


NEWER, OLDER = dictionary(1), dictionary(2)


@pytest.mark.parametrize("algorithm", ["zstd", "lz4", "zlib"])
async def test_a_compressed_value_is_read_by_another_process(
    cache: TierCache, other: TierCache, server: MemoryServer, algorithm: Algorithm
) -> None:
    """Which need not be told: what it needs to know stands in the frame."""
    source = Source(TEXT)
    await function_of(cache, source, compression=algorithm)(1)
    await settled(cache)

    assert await function_of(other, source)(1) == TEXT
    assert source.loads == 1
    assert await server.client().strlen(RAW) < len(TEXT) / 10


async def test_a_compressing_process_reads_what_is_not_compressed(
    cache: TierCache, other: TierCache
) -> None:
    """The other end of the same fleet."""
    source = Source(TEXT)
    await function_of(cache, source)(1)
    await settled(cache)

    assert await function_of(other, source, compression="zstd")(1) == TEXT
    assert source.loads == 1


async def test_ratio_and_time_are_counted(cache: TierCache, other: TierCache) -> None:
    """By family; a frame's header is not part of the value."""
    value = function_of(cache, Source(TEXT), compression="zstd")
    await value(1)
    await value(2)
    await settled(cache)

    counted = cache.statistics("value:{key}")
    assert counted.plain_bytes == 2 * (len(TEXT) + 3)
    assert 0 < counted.stored_bytes < counted.plain_bytes / 10
    assert counted.compression_ratio == counted.plain_bytes / counted.stored_bytes


async def test_what_is_not_compressed_counts_as_it_is(
    cache: TierCache, server: MemoryServer
) -> None:
    """The ratio is that of the family, and not of its compressed values alone."""
    await function_of(cache, Source("small"), compression="zstd")(1)
    await settled(cache)

    counted = cache.statistics()
    assert counted.plain_bytes == counted.stored_bytes == len("small") + 1
    assert await server.client().strlen(RAW) == HEADER_BYTES + counted.stored_bytes
    assert counted.compression_ratio == 1.0


async def test_time_is_counted_where_it_is_spent(make_cache: MakeCache) -> None:
    """The one who stores compresses, the one who reads expands."""
    writer = await make_cache(clock=SYSTEM_CLOCK)
    reader = await make_cache(clock=SYSTEM_CLOCK)
    await function_of(writer, Source(TEXT), compression="zlib")(1)
    await settled(writer)
    await function_of(reader, Source(TEXT))(1)

    assert writer.statistics().compress_seconds > 0 == writer.statistics().decompress_seconds
    assert reader.statistics().decompress_seconds > 0 == reader.statistics().compress_seconds


async def test_a_value_put_by_hand_is_compressed(cache: TierCache, server: MemoryServer) -> None:
    """`set` takes the same option."""
    await cache.set(KEY, TEXT, compression="zlib")

    assert await server.client().strlen(RAW) < len(TEXT) / 10
    assert cache.statistics().stored_bytes < len(TEXT) / 10


async def test_a_key_is_read_by_name_with_any_dictionary_of_the_cache(
    make_cache: MakeCache, cache: TierCache
) -> None:
    """`get` does not know the family, and needs no option."""
    row = rows(1, seed=3)[0]
    await cache.set(KEY, row, compression=Compression(dictionary=OLDER, min_bytes=1))
    reader = await make_cache(l1=None)
    function_of(reader, Source(), compression=Compression(also_read=[OLDER]))

    assert await reader.get(KEY) == row
    assert cache.statistics().stored_bytes < cache.statistics().plain_bytes


async def test_a_dictionary_is_replaced_without_a_miss(cache: TierCache, other: TierCache) -> None:
    """What the old one compressed is read for as long as the old one is named."""
    source = Source(rows(1, seed=3)[0])
    await function_of(cache, source, compression=Compression(dictionary=OLDER, min_bytes=1))(1)
    await settled(cache)

    newer = Compression(dictionary=NEWER, also_read=[OLDER], min_bytes=1)
    assert await function_of(other, source, compression=newer)(1) == source.value
    assert source.loads == 1


async def test_an_unknown_dictionary_is_loaded_around(
    make_cache: MakeCache, cache: TierCache, server: MemoryServer
) -> None:
    """Servers that have it still read it, so the entry stays; the owner is told once."""
    source, told = Source(rows(1, seed=3)[0]), Recorder()
    with_dictionary = Compression(dictionary=NEWER, min_bytes=1)
    await function_of(cache, source, compression=with_dictionary)(1)
    await settled(cache)
    stored = await server.client().get(RAW)

    behind = function_of(await make_cache(observers=[told]), source, compression="zstd")
    assert [await behind(1), await behind(1)] == [source.value] * 2

    assert source.loads == 2
    assert await server.client().get(RAW) == stored
    assert told.of(Refused) == [Refused(KEY, "dictionary")]
    assert [event.stored for event in told.of(Loaded)] == ["l1"]
    assert [
        "also_read" in event.message for event in told.of(Advice) if event.name == "compression"
    ] == [True]


@pytest.mark.parametrize(("algorithm", "module"), [("zstd", "zstandard"), ("lz4", "lz4.block")])
async def test_a_server_without_the_package_loads_around(
    make_cache: MakeCache,
    cache: TierCache,
    server: MemoryServer,
    monkeypatch: pytest.MonkeyPatch,
    algorithm: Algorithm,
    module: str,
) -> None:
    """It neither fails nor overwrites for ever what the others read, and says what it lacks."""
    source, told = Source(TEXT), Recorder()
    await function_of(cache, source, compression=algorithm)(1)
    await settled(cache)
    stored = await server.client().get(RAW)
    monkeypatch.setitem(sys.modules, module, None)

    without = await make_cache(observers=[told])
    value = function_of(without, source)
    assert [await value(1), await value(1)] == [TEXT] * 2

    assert source.loads == 2
    assert await server.client().get(RAW) == stored
    assert told.of(Refused) == [Refused(KEY, "compression")]
    assert without.statistics().refused_frames == {"compression": 1}
    assert [
        f"async-tiercache[{algorithm}]" in event.message
        for event in told.of(Advice)
        if event.name == "compression"
    ] == [True]


async def test_a_compressed_value_that_is_damaged_is_replaced(
    make_cache: MakeCache, cache: TierCache, other: TierCache, server: MemoryServer
) -> None:
    """A miss, like any other damage."""
    await cache.set(KEY, TEXT, compression="zstd")
    raw: Any = await server.client().get(RAW)
    await server.client().set(RAW, raw[:-1] + bytes([raw[-1] ^ 1]))

    assert await function_of(other, Source("v2"))(1) == "v2"
    await settled(other)

    assert other.statistics().refused_frames == {"frame": 1}
    assert await (await make_cache()).get(KEY) == "v2"


HOSTILE: dict[str, tuple[bytes, int]] = {
    # What stands in the frame, and the size that the frame claims for it.
    "a bomb": (zstandard.compress(bytes(8 << 20)), 100),
    "a claim of 4 GiB": (zstandard.compress(b"x" * 100), 2**32 - 1),
    "a cut stream": (zstandard.compress(TEXT.encode())[:-9], len(TEXT)),
    "what is no value": (zstandard.compress(b"\x91" * 10**6), 10**6),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_a_hostile_frame_is_replaced(
    cache: TierCache, server: MemoryServer, events: Recorder, name: str
) -> None:
    """Its key, checksums and schema are right, and still it is only a miss."""
    payload, claim = HOSTILE[name]
    now = cache._core.tiers.now()
    ids = (await namespace_state(server))[:PAIR_BYTES]
    fingerprint = codec_for(Any).fingerprint
    header = Header(bytes(16), now, now + 60, now + 60, 0.0, fingerprint, namespace=ids)
    frame = pack(header, Body(payload, claim, 1), key_digest=digest_key("test", KEY))
    await server.client().set(RAW, frame)

    assert await function_of(cache, Source("v1"))(1) == "v1"
    await settled(cache)

    assert events.of(Refused) == [Refused(KEY, "payload")]
    stored: Any = await server.client().get(RAW)
    assert stored.endswith(codec_for(Any).encode("v1"))
