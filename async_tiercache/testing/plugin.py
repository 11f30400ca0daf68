"""Pytest fixtures; switch them on in your `conftest.py`.

    pytest_plugins = ["async_tiercache.testing.plugin"]

`tiercache` is an open cache over an L2 in memory, with the clock `tiercache_clock` and the observer
`tiercache_events`. A test that changes a value which the cache shares with others fails.
"""

import asyncio
from collections.abc import AsyncIterator

from async_tiercache._cache import TierCache
from async_tiercache._events import Mutated
from async_tiercache._options import Policy
from async_tiercache.errors import MissingExtraError
from async_tiercache.testing._clock import FakeClock
from async_tiercache.testing._recorder import Recorder
from async_tiercache.testing._server import MemoryServer

try:
    import pytest
    import pytest_asyncio
except ModuleNotFoundError as error:
    raise MissingExtraError(
        f"The fixtures need {error.name}", hint='pip install "async-tiercache[testing]"'
    ) from error


@pytest.fixture
def tiercache_clock() -> FakeClock:
    """Return a clock that moves by ``await clock.advance(seconds)`` only."""
    return FakeClock()


@pytest.fixture
def tiercache_server(tiercache_clock: FakeClock) -> MemoryServer:
    """Return an L2 in memory: ``connected = False`` takes it down, ``faults`` lets it fail."""
    return MemoryServer(tiercache_clock)


@pytest.fixture
def tiercache_events() -> Recorder:
    """Return the observer of the fixture `tiercache`."""
    return Recorder()


@pytest_asyncio.fixture
async def tiercache(
    tiercache_server: MemoryServer, tiercache_clock: FakeClock, tiercache_events: Recorder
) -> AsyncIterator[TierCache]:
    """Yield an open cache with both tiers, closed after the test, without faults."""
    cache = TierCache(
        namespace="test",
        client=tiercache_server.client(),
        policy=Policy(l1_ttl="30s", isolation="check"),
        clock=tiercache_clock,
        observers=[tiercache_events],
    )
    async with cache:
        yield cache
        if cache._core._loop is not asyncio.get_running_loop():  # noqa: SLF001 - same package
            # What the test has read is gone with its loop, so nothing can be said of it.
            pytest.fail(
                "The test ran on another event loop than its fixtures: give "
                "asyncio_default_fixture_loop_scope and asyncio_default_test_loop_scope one value."
            )
        tiercache_server.faults.clear()
        # What was read last is on its way into memory, where it is checked when the cache closes.
        await tiercache_clock.advance(0)
    changed = sorted({event.key for event in tiercache_events.of(Mutated)})
    if changed:
        pytest.fail(
            f"The test, or what it calls, changed cached values of {', '.join(changed)}: whoever "
            'reads them next gets the changed ones. Copy them first, or use isolation="copy".'
        )
