"""The logging observer: what is logged at which level, and what a record carries."""

import asyncio
import logging
from typing import Any

import pytest

from async_tiercache import Mutated, Read, TierCache, TierChanged
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations.logging import LOGGER, LoggingObserver
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, SpeechlessError, function_of, soon

DIGEST = "a3d98ceb07e7f25d"


@pytest.fixture(autouse=True)
def _everything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "async_tiercache")
    caplog.set_level(logging.DEBUG, LOGGER)


@pytest.fixture
async def cache(make_cache: MakeCache) -> TierCache:
    """Return a cache that logs."""
    return await make_cache(observers=[LoggingObserver()])


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    """Return level and message of each record of the observer."""
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == LOGGER
    ]


def carried(record: logging.LogRecord) -> dict[str, Any]:
    """Return what a record carries for structured logs."""
    return {name: value for name, value in vars(record).items() if name.startswith("cache_")}


async def test_reads_and_loads_are_debug_and_a_hit_in_memory_is_nothing(
    cache: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    """A service at INFO says nothing of them."""
    value = function_of(cache, Source())
    for _ in range(3):
        await value(1)
        await settled(cache)

    assert logged(caplog) == [
        ("DEBUG", f"get {DIGEST}: fresh from loader after 0.000000 s"),
        ("DEBUG", f"load {DIGEST}: 0.000000 s, stored: l2"),
    ]


async def test_an_invalidation_is_info(cache: TierCache, caplog: pytest.LogCaptureFixture) -> None:
    """With what L2 said."""
    await cache.invalidate(keys=[KEY])

    assert logged(caplog) == [("INFO", f"invalidated {DIGEST}, L2: done")]


async def test_of_many_keys_only_some_are_named(
    cache: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    """A line has an end."""
    await cache.invalidate(keys=[f"k{n}" for n in range(25)])

    ((_, message),) = logged(caplog)
    assert message.endswith(" and 15 more, L2: done")
    assert len(message) < 250


async def test_a_loader_that_fails_is_a_warning(
    cache: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    """With the error's text; the caller gets the error itself."""
    source = Source()
    source.error = OSError("database is down")
    with pytest.raises(OSError, match="database is down"):
        await function_of(cache, source)(1)

    assert logged(caplog) == [
        ("WARNING", f"load {DIGEST}: failed after 0.000000 s: OSError: database is down")
    ]


async def test_a_loader_whose_error_cannot_be_spelled_is_a_warning(
    cache: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named by its class, and nothing else is logged."""
    source = Source()
    source.error = SpeechlessError()
    with pytest.raises(SpeechlessError):
        await function_of(cache, source)(1)

    failed = f"load {DIGEST}: failed after 0.000000 s"
    assert logged(caplog) == [
        ("WARNING", f"{failed}: SpeechlessError: <exception str() failed>"),
    ]


async def test_an_error_of_ours_is_logged_with_its_hint_and_without_the_key(
    cache: TierCache, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its message names the key; the log has what stands for it."""
    source = Source()
    source.close()
    reading = asyncio.ensure_future(function_of(cache, source, load_limit=5)(1))
    await soon(source.loading())
    await clock.advance(6)
    await soon(asyncio.wait([reading]))

    assert reading.exception() is not None
    ((level, message),) = logged(caplog)
    (record,) = [each for each in caplog.records if each.name == LOGGER]
    assert level == "WARNING"
    assert KEY not in message
    assert f"The load of '{DIGEST}' took longer than 5.0 s" in message
    assert message.endswith(f"Hint: {carried(record)['cache_hint']}")


async def test_a_load_that_nobody_waits_for_any_more_is_no_warning(
    cache: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients hang up all day."""
    source = Source()
    source.close()
    reading = asyncio.ensure_future(function_of(cache, source)(1))
    await soon(source.loading())
    reading.cancel()
    await soon(asyncio.wait([reading]))
    await settled(cache)

    assert logged(caplog) == [("DEBUG", f"load {DIGEST}: cancelled after 0.000000 s")]


async def test_bytes_that_are_not_used_are_a_warning(
    cache: TierCache, server: MemoryServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Damaged ones, that is."""
    await server.client().set(f"test:{{{KEY}}}", b"damaged")
    await function_of(cache, Source())(1)
    await settled(cache)

    level, message = logged(caplog)[0]
    assert level == "WARNING"
    assert message.startswith(f"what L2 holds for {DIGEST} is not used (frame)")


async def test_the_entry_of_another_release_is_no_warning(
    cache: TierCache, other: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    """While two releases run, each read would be one."""
    await function_of(other, Source(), schema_version=2)(1)
    await settled(other)
    await function_of(cache, Source())(1)

    assert [level for level, message in logged(caplog) if "(schema)" in message] == ["INFO"]


async def test_a_record_carries_what_it_says(
    cache: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    """For logs that are searched by field."""
    await function_of(cache, Source())(1)
    await settled(cache)
    await cache.invalidate(keys=[KEY])

    assert [carried(record) for record in caplog.records if record.name == LOGGER] == [
        {
            "cache_event": "read",
            "cache_family": "value:{key}",
            "cache_key": DIGEST,
            "cache_tier": "loader",
            "cache_state": "fresh",
            "cache_joined": False,
            "cache_seconds": 0.0,
        },
        {
            "cache_event": "loaded",
            "cache_family": "value:{key}",
            "cache_key": DIGEST,
            "cache_stored": "l2",
            "cache_seconds": 0.0,
        },
        {
            "cache_event": "invalidated",
            "cache_keys": [DIGEST],
            "cache_count": 1,
            "cache_tags": [],
            "cache_tag_count": 0,
            "cache_l2": "done",
        },
    ]


async def test_invalidated_tags_are_named(
    cache: TierCache, caplog: pytest.LogCaptureFixture
) -> None:
    """As digests like keys; to clear is to invalidate everything."""
    await cache.invalidate(keys=[KEY], tags=[KEY, "b"])
    await cache.clear()

    assert logged(caplog) == [
        ("INFO", f"invalidated {DIGEST}, tags {DIGEST}, 8472c2e34d854f75, L2: done"),
        ("INFO", "invalidated everything, L2: done"),
    ]
    assert carried(caplog.records[-2])["cache_tag_count"] == 2


async def test_what_an_invalidation_has_ended_is_debug(
    make_cache: MakeCache, caplog: pytest.LogCaptureFixture
) -> None:
    """It is what invalidations are for."""
    cache = await make_cache(observers=[LoggingObserver()])
    for end in (cache.invalidate(tags=["t"]), cache.clear()):
        await cache.get_or_load(KEY, Source().load, tags=["t"])
        await settled(cache)
        await end
    await cache.get_or_load(KEY, Source().load, tags=["t"])

    refused = [line for line in logged(caplog) if "is not used" in line[1]]
    assert [(level, text.partition(": ")[0]) for level, text in refused] == [
        ("DEBUG", f"what L2 holds for {DIGEST} is not used (tag)"),
        ("DEBUG", f"what L2 holds for {DIGEST} is not used (namespace)"),
    ]


async def test_keys_are_shown_when_asked_for_and_another_logger_may_be_given(
    make_cache: MakeCache, caplog: pytest.LogCaptureFixture
) -> None:
    """By default they are digests in the logger `async_tiercache.events`."""
    logger = logging.getLogger("shop.cache")
    caplog.set_level(logging.INFO, logger.name)
    cache = await make_cache(observers=[LoggingObserver(logger, show_keys=True)])
    await cache.invalidate(keys=[KEY])

    lines = [(record.name, record.getMessage()) for record in caplog.records]
    assert ("shop.cache", f"invalidated {KEY}, L2: done") in lines
    assert LOGGER not in [name for name, _ in lines]


async def test_what_the_cache_logs_itself_is_not_logged_twice(
    cache: TierCache, server: MemoryServer, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A tier that goes and comes is one line each, with or without the observer."""
    server.connected = False
    await function_of(cache, Source())(1)
    server.connected = True
    await clock.advance(1)

    lines = [record for record in caplog.records if "L2" in record.getMessage()]
    assert [record.name for record in lines if record.name != LOGGER] == ["async_tiercache"] * 2
    LoggingObserver()(TierChanged("l2", up=True))
    LoggingObserver()(Mutated(KEY))
    assert [
        message for _, message in logged(caplog) if "answers" in message or KEY in message
    ] == []


def test_nothing_is_made_for_a_level_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    """Not even the digest of a key."""

    class Untouched(str):
        __slots__ = ()

        def encode(self, *_arguments: Any, **_options: Any) -> bytes:
            raise AssertionError("a key was digested for a line that nobody reads")

    caplog.set_level(logging.INFO, LOGGER)

    LoggingObserver()(Read("f", Untouched("k"), "l2", "fresh", joined=False, seconds=0.1))

    assert logged(caplog) == []
