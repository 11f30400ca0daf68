"""Codecs: how values become bytes, and how bytes with their header become a frame."""

from async_tiercache.codecs.typed import TypedCodec, codec_for

__all__ = ["TypedCodec", "codec_for"]
