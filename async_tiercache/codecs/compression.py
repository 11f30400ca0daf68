"""Compression of payloads, between the codec and the frame.

What is compressed is small print in the frame: the algorithm, the id of the dictionary and the
plain size. What comes from L2 is believed as far as it can be checked: the plain size is bounded
before anything is expanded, nothing expands beyond it, and less is refused as well.
"""

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, Final, TypeAlias

from async_tiercache._compression import Algorithm, Compression, Dictionary, module_of
from async_tiercache.codecs.frame import Body, FrameError
from async_tiercache.errors import DecodeError, MissingExtraError

MAX_PLAIN_BYTES: Final = 64 * 1024 * 1024
"""Nothing larger is compressed, and nothing is expanded to more."""
_WORTH: Final = 0.9  # a compressed value is stored if it is no larger than this share
_NUMBERS: Final[dict[Algorithm, int]] = {"zstd": 1, "lz4": 2, "zlib": 3}
_ALGORITHMS: Final[dict[int, Algorithm]] = {
    number: algorithm for algorithm, number in _NUMBERS.items()
}
_RAW_DEFLATE: Final = -15

_Pack: TypeAlias = Callable[[bytes | memoryview], bytes]
_Expand: TypeAlias = Callable[[bytes | memoryview, int], bytes]


class Compressor:
    """Compresses and expands the payloads of one cache.

    It keeps the objects that do the work, which no two threads may use at once: one cache has one,
    as it has one event loop.

    Args:
        advise: Is told once what is missing here to read what other servers store.
    """

    def __init__(self, advise: Callable[[str], None]) -> None:
        self._advise = advise
        self._dictionaries: dict[int, Dictionary] = {}
        self._packers: dict[tuple[Algorithm, int, int], _Pack] = {}
        self._expanders: dict[tuple[int, int], _Expand] = {}
        self._missing: set[Algorithm] = set()

    def learn(self, compression: Compression | None) -> None:
        """Be able to read what was compressed with a policy's dictionaries."""
        if compression is not None:
            self._dictionaries |= {each.id: each for each in compression.dictionaries}

    def compress(self, payload: bytes | memoryview, compression: Compression | None) -> Body:
        """Return the body of a payload: compressed if that is wanted, and worth it."""
        size = len(payload)
        if compression is None or not compression.min_bytes <= size <= MAX_PLAIN_BYTES:
            return Body.plain(payload)
        packed = self._packer(compression)(payload)
        if len(packed) > size * _WORTH:
            return Body.plain(payload)
        dictionary = compression.dictionary
        number = _NUMBERS[compression.algorithm]
        return Body(packed, size, number, 0 if dictionary is None else dictionary.id)

    def expand(self, body: Body) -> bytes | memoryview:
        """Return the plain payload.

        Raises:
            FrameError: This process cannot read it, others may: the algorithm or its package is
                missing here, or the dictionary.
            DecodeError: The bytes are damaged, or expand to more than they may.
        """
        if not body.compression:
            return body.payload
        size = body.plain_bytes
        if not 0 < size <= MAX_PLAIN_BYTES:
            raise DecodeError(f"the payload claims {size} bytes, which no value has")
        which = body.compression, body.dictionary_id
        expand = self._expanders.get(which)
        if expand is None:
            expand = self._expanders[which] = self._expander(*which)
        try:
            plain = expand(body.payload, size)
        except Exception as error:
            raise DecodeError(f"the payload cannot be expanded: {error}") from error
        if len(plain) != size:
            raise DecodeError(f"the payload has {len(plain)} bytes, not {size}")
        return plain

    def _packer(self, compression: Compression) -> _Pack:
        algorithm, level, dictionary = (
            compression.algorithm,
            compression.level,
            compression.dictionary,
        )
        which = algorithm, level, 0 if dictionary is None else dictionary.id
        packer = self._packers.get(which)
        if packer is None:
            make = _PACKERS[algorithm]
            packer = self._packers[which] = make(module_of(algorithm), level, dictionary)
        return packer

    def _expander(self, number: int, dictionary_id: int) -> _Expand:
        algorithm = _ALGORITHMS.get(number)
        if algorithm is None or (dictionary_id and algorithm != "zstd"):
            raise FrameError("the payload is compressed in a way unknown here", cause="format")
        if algorithm in self._missing:
            raise FrameError(f"{algorithm} is not installed", cause="compression")
        dictionary = self._dictionaries.get(dictionary_id)
        if dictionary_id and dictionary is None:
            self._advise(
                "L2 holds values compressed with a dictionary that this process does not have: "
                "they are loaded around. Name it in also_read of a Compression."
            )
            raise FrameError(f"the dictionary {dictionary_id:08x} is unknown", cause="dictionary")
        try:
            module = module_of(algorithm)
        except MissingExtraError as error:
            self._missing.add(algorithm)
            self._advise(
                f"L2 holds values compressed by {algorithm}, which is not installed here: they "
                f"are loaded around. {error.hint}"
            )
            raise FrameError(f"{algorithm} is not installed", cause="compression") from error
        return _EXPANDERS[algorithm](module, dictionary)


def _zstd_packer(zstandard: Any, level: int, dictionary: Dictionary | None) -> _Pack:
    given = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary.data)
    # The frame has the dictionary's id already; the size is what bounds the reader.
    compressor = zstandard.ZstdCompressor(
        level=level, dict_data=given, write_dict_id=False, write_content_size=True
    )
    pack: _Pack = compressor.compress
    return pack


def _zstd_expander(zstandard: Any, dictionary: Dictionary | None) -> _Expand:
    given = None if dictionary is None else zstandard.ZstdCompressionDict(dictionary.data)
    decompressor = zstandard.ZstdDecompressor(dict_data=given)

    def expand(payload: bytes | memoryview, size: int) -> bytes:
        # zstandard allocates what the stream itself claims, whatever limit it is given.
        if zstandard.frame_content_size(payload) != size:
            raise DecodeError("the stream claims another size than its frame")
        plain: bytes = decompressor.decompress(payload, allow_extra_data=False)
        return plain

    return expand


def _lz4_packer(block: Any, level: int, _dictionary: Dictionary | None) -> _Pack:
    mode: dict[str, Any] = {"mode": "high_compression", "compression": level} if level else {}
    return partial(block.compress, store_size=False, **mode)


def _lz4_expander(block: Any, _dictionary: Dictionary | None) -> _Expand:
    def expand(payload: bytes | memoryview, size: int) -> bytes:
        plain: bytes = block.decompress(payload, uncompressed_size=size)
        return plain

    return expand


def _zlib_packer(zlib: Any, level: int, _dictionary: Dictionary | None) -> _Pack:
    # Without zlib's own header and checksum: the frame has them.
    return partial(zlib.compress, level=level, wbits=_RAW_DEFLATE)


def _zlib_expander(zlib: Any, _dictionary: Dictionary | None) -> _Expand:
    def expand(payload: bytes | memoryview, size: int) -> bytes:
        stream = zlib.decompressobj(_RAW_DEFLATE)
        # With room for a byte more the stream comes to its end, or shows that it has another.
        plain: bytes = stream.decompress(payload, size + 1)
        if not stream.eof or stream.unused_data:
            raise DecodeError("the stream does not end where its frame does")
        return plain

    return expand


_PACKERS: Final[dict[Algorithm, Callable[[ModuleType, int, Dictionary | None], _Pack]]] = {
    "zstd": _zstd_packer,
    "lz4": _lz4_packer,
    "zlib": _zlib_packer,
}
_EXPANDERS: Final[dict[Algorithm, Callable[[ModuleType, Dictionary | None], _Expand]]] = {
    "zstd": _zstd_expander,
    "lz4": _lz4_expander,
    "zlib": _zlib_expander,
}
