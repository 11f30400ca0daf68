"""The codecs that a cache knows, by fingerprint."""

import contextlib
from collections.abc import Iterator

from async_tiercache.abc import Codec
from async_tiercache.codecs.returned import DeferredCodec
from async_tiercache.errors import ConfigurationError


class KnownCodecs:
    """Every codec once, however often functions are decorated."""

    __slots__ = ("_by_fingerprint", "_deferred")

    def __init__(self) -> None:
        self._by_fingerprint: dict[bytes, Codec] = {}
        self._deferred: list[DeferredCodec] = []

    def __len__(self) -> int:
        return len(self._by_fingerprint) + len(self._deferred)

    def __iter__(self) -> Iterator[Codec]:
        """Yield the codecs whose annotations can be resolved by now."""
        waiting, self._deferred = self._deferred, []
        for codec in waiting:
            self.add(codec)
        return iter(self._by_fingerprint.values())

    def add(self, codec: Codec) -> None:
        """Know a codec."""
        with contextlib.suppress(ConfigurationError):
            self._by_fingerprint.setdefault(codec.fingerprint, codec)
            return
        if isinstance(codec, DeferredCodec):
            self._deferred.append(codec)
