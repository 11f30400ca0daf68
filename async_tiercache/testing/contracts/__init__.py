"""Contracts: what every backend and every codec promises, as tests that you inherit.

Subclass one in a test module of yours and give it what its docstring names; docs/testing.md shows
it. They need the extra ``testing``: pytest, pytest-asyncio, and Hypothesis for codecs.
"""

from async_tiercache.errors import MissingExtraError

try:
    import pytest

    # Before they are imported, so that a failing assert shows its values in your session too.
    pytest.register_assert_rewrite(f"{__name__}._codec", f"{__name__}._remote")
    from async_tiercache.testing.contracts._codec import CodecContract
    from async_tiercache.testing.contracts._remote import RemoteContract
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"The contracts need {error.name}", hint='pip install "async-tiercache[testing]"'
    ) from error

__all__ = ["CodecContract", "RemoteContract"]
