"""What every test stands on: caches that are closed, and checked for what a test left behind."""

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol, cast

import pytest
import pytest_asyncio
from hypothesis import HealthCheck, settings

from async_tiercache import TierCache, _core
from async_tiercache.backends.redis import remote
from async_tiercache.testing import FakeClock, MemoryServer, Recorder, settled

DEADLINE = 5.0
"""How long anything in a test may take; reached only by tests that fail."""


# A busy machine is no failure.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_configure(config: pytest.Config) -> None:
    """Describe the markers."""
    config.addinivalue_line(
        "markers", "leaves_pending: the test ends with invalidations that L2 has not confirmed"
    )


@pytest.fixture(scope="module", autouse=True)
def swept() -> None:
    """Spare the collector what earlier modules have left, at which it would look time and again."""
    gc.collect()
    gc.freeze()


class MakeCache(Protocol):
    """Makes and enters a cache like another process of the test's service."""

    async def __call__(self, *, entered: bool = True, **options: Any) -> TierCache: ...


@pytest.fixture
def server(clock: FakeClock) -> MemoryServer:
    """Return the L2 of the test, whose time is that of the caches."""
    return MemoryServer(clock)


@pytest.fixture
def clock() -> FakeClock:
    """Return the clock of all the test's caches."""
    return FakeClock()


@pytest.fixture
def events() -> Recorder:
    """Return the observer of the fixtures `cache` and `alone`."""
    return Recorder()


@pytest_asyncio.fixture
async def make_cache(
    server: MemoryServer, clock: FakeClock, request: pytest.FixtureRequest
) -> AsyncIterator[MakeCache]:
    """Return a factory of caches over the test's server; ``client=None`` makes one of L1 alone."""
    made: list[TierCache] = []

    async def make(*, entered: bool = True, **options: Any) -> TierCache:
        if "client" not in options and "url" not in options:
            options["client"] = server.client()
        arguments: dict[str, Any] = {"namespace": "test", "clock": clock} | options
        cache = TierCache(**arguments)
        made.append(cache)
        return await cache.__aenter__() if entered else cache

    yield make

    problems: list[str] = []
    for cache in made:
        if cache._core.state != "closed":
            problems += await _left_behind(cache, request)
            await cache.aclose()
    assert not problems


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a server in memory take its time, as for a thousand scripts on a busy machine."""
    monkeypatch.setattr(remote, "OPERATION_LIMIT", 50.0)


@pytest_asyncio.fixture
async def cache(make_cache: MakeCache, events: Recorder) -> TierCache:
    """Return an entered cache with both tiers."""
    return await make_cache(observers=[events])


@pytest_asyncio.fixture
async def other(make_cache: MakeCache) -> TierCache:
    """Return a second cache over the same server: another process."""
    return await make_cache()


@pytest_asyncio.fixture
async def alone(make_cache: MakeCache, events: Recorder) -> TierCache:
    """Return a cache of L1 alone."""
    return await make_cache(client=None, observers=[events])


async def _left_behind(cache: TierCache, request: pytest.FixtureRequest) -> list[str]:
    """Return what is wrong with a cache that has nothing left to do."""
    core = cache._core
    pending = request.node.get_closest_marker("leaves_pending") is not None
    problems: list[str] = []
    if not pending:
        # Recovery waits for the clock, and a breaker for its period.
        for _ in range(3 if core.ledger.pending else 0):
            await cast("FakeClock", core.clock).advance(1)
        try:
            async with asyncio.timeout(DEADLINE / 5):
                await settled(cache)
        except TimeoutError:
            left = sorted(task.get_name() for task in _running(core))
            problems.append(f"tasks were left: {left}")
        if core.ledger.pending:
            problems.append(f"invalidations were left: {core.ledger.pending}")
    if len(core.flights):
        problems.append(f"flights were left: {list(core.flights.by_key)}")
    return problems + _broken(core)


def _running(core: _core.Core) -> list[asyncio.Task[Any]]:
    return [*core.tasks._running, *core.loads._running]


def _broken(core: _core.Core) -> list[str]:
    """Return which invariants of L1 do not hold."""
    store = core.store
    if store is None:
        return []
    slots = list(store)
    rules = {
        "the slots are counted": len(slots) == len(store._queues),
        "the bytes are summed": store.bytes == sum(slot.size for slot in slots),
        "the entries are bounded": len(slots) <= store.bounds.max_entries,
        "the bytes are bounded": store.bytes <= store.bounds.max_bytes,
        "each slot has its own key": all(key == slot.key for key, slot in store.slots.items()),
        "each slot is found": all(store.find(slot.key) is slot for slot in slots),
        "no other is": len(store.slots) + store.index.length == len(slots),
        "each alias leads to its slot": all(
            slot.table is None or slot.table.get(slot.table_key) is slot for slot in slots
        ),
    }
    return [f"not so: {rule}" for rule, holds in rules.items() if not holds]


@pytest.fixture(autouse=True)
def sound() -> Iterator[None]:
    """Fail a test that leaves tasks of ours running, or a cache whose invariants are broken."""
    before = set(_core._CORES)
    yield
    for core in set(_core._CORES) - before:
        assert _broken(core) == []
        left = [task for task in _running(core) if not task.done()]
        live = [task for task in left if not task.get_loop().is_closed()]
        assert not live, f"tasks were left: {live}"
