"""What users say about compression: the algorithm, from which size on, and trained dictionaries.

How payloads are compressed and what is believed of compressed ones is `codecs.compression`.
"""

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any, Final, Literal, Self, TypeAlias, get_args

from async_tiercache.errors import ConfigurationError, MissingExtraError

Algorithm: TypeAlias = Literal["zstd", "lz4", "zlib"]

MODULES: Final[dict[Algorithm, str]] = {"zstd": "zstandard", "lz4": "lz4.block", "zlib": "zlib"}
"""What does the work; each is an extra of the algorithm's name, but for zlib."""
DICTIONARY_BYTES: Final = 16_384
"""The usual size of a trained dictionary."""

# Level unless given, lowest and highest.
_LEVELS: Final[dict[Algorithm, tuple[int, int, int]]] = {
    "zstd": (3, 1, 22),
    "lz4": (0, 0, 12),
    "zlib": (1, 1, 9),
}
_MIN_BYTES: Final = 1_024
_MIN_BYTES_WITH_DICTIONARY: Final = 64
_DICTIONARY_MAGIC: Final = b"\x37\xa4\x30\xec"


def module_of(algorithm: Algorithm) -> ModuleType:
    """Return the module that does an algorithm's work.

    Raises:
        MissingExtraError: Its package is not installed.
    """
    try:
        return importlib.import_module(MODULES[algorithm])
    except ImportError as error:
        raise MissingExtraError(
            f"compression={algorithm!r} needs the package {MODULES[algorithm].split('.')[0]!r}, "
            "which is not installed",
            hint=f'pip install "async-tiercache[{algorithm}]"',
        ) from error


@dataclass(frozen=True, slots=True, init=False)
class Dictionary:
    """What the values of some families have in common, trained from samples of them for zstd.

    Attributes:
        id: A digest of its bytes, from 1 to 2**32 - 1; it stands in every frame that needs it.
        data: The dictionary as zstd knows it.
    """

    id: int
    data: bytes = field(repr=False)

    def __init__(self, data: bytes) -> None:
        """Take the bytes of a trained dictionary.

        Raises:
            ConfigurationError: They are none.
        """
        if not isinstance(data, bytes) or not data.startswith(_DICTIONARY_MAGIC):
            raise ConfigurationError(
                "the bytes are not a trained zstd dictionary",
                hint="Make one with `tiercache train-dictionary`, or `zstd --train`, and read its "
                "file with Dictionary.load(path).",
            )
        # Not zstd's own id, which whoever trains may choose: two contents never share this one.
        digest = int.from_bytes(blake2b(data, digest_size=4, person=b"tiercache.dict").digest())
        object.__setattr__(self, "id", digest or 1)
        object.__setattr__(self, "data", data)

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Return the dictionary of a file, as `tiercache train-dictionary` writes it.

        Raises:
            ConfigurationError: The file holds none.
            OSError: It cannot be read.
        """
        data = Path(path).read_bytes()
        try:
            return cls(data)
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error.args[0]}", hint=error.hint) from None

    @classmethod
    def train(cls, payloads: Sequence[bytes], *, size: int = DICTIONARY_BYTES) -> Self:
        """Return a dictionary for what resembles some samples; needs the extra ``zstd``.

        Args:
            payloads: Encoded values, some hundreds at least, of the families that will use it.
            size: The most that it may take, in bytes.

        Raises:
            ConfigurationError: The samples are too few or too small.
            MissingExtraError: zstandard is not installed.
        """
        zstandard: Any = module_of("zstd")
        try:
            trained = zstandard.train_dictionary(size, list(payloads))
        except zstandard.ZstdError as error:
            raise ConfigurationError(
                f"no dictionary can be trained from {len(payloads)} samples "
                f"of {sum(map(len, payloads))} bytes in all: {error}",
                hint="Take more samples, about a hundred times the dictionary's size in all, "
                "or a smaller dictionary.",
            ) from error
        return cls(trained.as_bytes())


@dataclass(frozen=True, slots=True, init=False)
class Compression:
    """How the values of a family are compressed in L2.

    A value is compressed if it has `min_bytes` encoded and gets at least a tenth smaller. Any
    process can read it that has the algorithm's package, and the dictionary if there is one,
    whatever its own policies say.

    Attributes:
        algorithm: ``"zstd"`` (extra ``zstd``), ``"lz4"`` (extra ``lz4``) or ``"zlib"``.
        level: How hard to try: zstd 1 to 22, by default 3; zlib 1 to 9, by default 1; lz4 0, the
            default, or 1 to 12, which is slower.
        min_bytes: From which encoded size on a value is compressed: 1024, with a dictionary 64.
        dictionary: What small values are compressed with; zstd only.
        also_read: Other dictionaries, with which stored values may be compressed.

    Raises:
        ConfigurationError: One of them cannot be used.
        MissingExtraError: The algorithm's package is not installed.
    """

    algorithm: Algorithm
    level: int
    min_bytes: int
    dictionary: Dictionary | None
    also_read: tuple[Dictionary, ...]

    def __init__(
        self,
        algorithm: Algorithm = "zstd",
        *,
        level: int | None = None,
        min_bytes: int | None = None,
        dictionary: Dictionary | None = None,
        also_read: Iterable[Dictionary] = (),
    ) -> None:
        if algorithm not in get_args(Algorithm):
            raise ConfigurationError(
                f"compression={algorithm!r} is unknown",
                hint='Pass "zstd", "lz4", "zlib", a Compression, or None for none.',
            )
        usual, lowest, highest = _LEVELS[algorithm]
        level = usual if level is None else level
        if not _whole(level) or not lowest <= level <= highest:
            raise ConfigurationError(
                f"level={level!r} is no level of {algorithm}",
                hint=f"Pass a whole number from {lowest} to {highest}.",
            )
        if min_bytes is None:
            min_bytes = _MIN_BYTES_WITH_DICTIONARY if dictionary else _MIN_BYTES
        if not _whole(min_bytes) or min_bytes < 1:
            raise ConfigurationError(
                f"min_bytes={min_bytes!r} is no whole number above 0",
                hint=f"Leave it out for {_MIN_BYTES}, with a dictionary "
                f"{_MIN_BYTES_WITH_DICTIONARY}.",
            )
        values = (algorithm, level, min_bytes, dictionary, tuple(also_read))
        for name, value in zip(self.__slots__, values, strict=True):
            object.__setattr__(self, name, value)
        for each in self.dictionaries:
            _check_dictionary(each, algorithm)
        module_of(algorithm)

    @property
    def dictionaries(self) -> tuple[Dictionary, ...]:
        """Every dictionary with which stored values may be compressed."""
        return self.also_read if self.dictionary is None else (self.dictionary, *self.also_read)


def compression_of(value: Any) -> Compression | None:
    """Return what a policy's `compression` means.

    Raises:
        ConfigurationError: It is unknown, or its package is not installed.
    """
    if value is None or isinstance(value, Compression):
        return value
    return Compression(value)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_dictionary(dictionary: Any, algorithm: Algorithm) -> None:
    if not isinstance(dictionary, Dictionary):
        raise ConfigurationError(
            f"{dictionary!r} is no dictionary", hint="Pass Dictionary.load(path)."
        )
    if algorithm != "zstd":
        raise ConfigurationError(
            f"{algorithm} takes no dictionary", hint='Dictionaries are for Compression("zstd").'
        )
