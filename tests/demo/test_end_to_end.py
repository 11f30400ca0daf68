"""The demo runs with real servers and finds what the cache promises."""

import tempfile
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from redis.asyncio import from_url as client_of

from async_tiercache_integrations.cli.demo import _servers
from async_tiercache_integrations.cli.demo._gates import broken
from async_tiercache_integrations.cli.demo._measure import Results
from async_tiercache_integrations.cli.demo._pages import CACHED, KILLED, PLAIN
from async_tiercache_integrations.cli.demo._run import Options, Run
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from async_tiercache_integrations.cli.demo._stores import own_database, own_redis
from async_tiercache_integrations.cli.demo._view import PlainView
from async_tiercache_integrations.cli.demo._workload import Sizes
from tests.needs import missing

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

SMALL = Options(
    seconds=0.6,
    users=5,
    readers=60,
    rounds=2,
    sizes=Sizes(users=50, products=20, orders=400),
    think_seconds=0.005,
)

WITH_PAGES = replace(SMALL, http=True, clients=6, askers=30, changes=4)


@pytest.fixture(autouse=True)
def _needs_both_servers() -> None:
    try:
        _servers.find_valkey()
        _servers.find_postgres()
    except _servers.ServerError as error:
        missing(str(error))


def folders() -> set[Path]:
    return set(Path(tempfile.gettempdir()).glob("tiercache-demo-*"))


def check(results: Results) -> None:
    """Check what holds on any machine, however slow."""
    warm = results.phase("Warm")
    assert warm is not None
    assert [stampede.loads for stampede in results.stampedes] == [1] * SMALL.rounds
    assert broken(results) == []
    assert results.cached.checked > 0
    assert warm.saved > 0.5
    assert warm.tally.latency["l1"].count > 0
    assert warm.tally.reports.count > 0
    # What was loaded once is not loaded again, but for what updates invalidated.
    assert warm.repeats_saved > 0.5
    assert 0 < results.cached.first < results.cached.reads


async def test_demo_finds_what_the_cache_promises() -> None:
    """No error even with Redis killed, one load per stampede, own writes seen, database spared."""
    before = folders()

    results = await Run(SMALL, PlainView())()

    assert [phase.name for phase in results.phases] == [
        "No cache",
        "Cold",
        "Warm",
        "Redis killed",
        "Redis back",
    ]
    check(results)
    killed = results.phase("Redis killed")
    assert killed is not None
    assert [what for _, what in results.marks] == ["SIGKILL", "restart"]
    assert killed.tally.queued > 0
    assert results.cached.bus_lags
    assert folders() <= before


async def test_pages_are_served_as_the_cache_promises() -> None:
    """Fewer runs of the application, one for a stampede, no old page of one's own, no error."""
    before = folders()

    results = await Run(replace(WITH_PAGES, seconds=1.2), PlainView())()

    pages = results.pages
    assert pages is not None
    assert [phase.name for phase in pages.phases] == [PLAIN, CACHED, KILLED]
    assert [what for _, what in pages.marks] == ["SIGKILL"]
    assert broken(results) == []
    assert [stampede.loads for stampede in pages.stampedes] == [1] * SMALL.rounds
    assert [len(change.others) for change in pages.changes] == [2] * 4
    # Charts show one right after the other, whatever was started between.
    for one, next_one in pairwise(pages.phases):
        assert next_one.began_at == pytest.approx(one.began_at + one.seconds)
    plain, cached, _ = (phase.tally for phase in pages.phases)
    assert plain.made == plain.reads == plain.latency["loader"].count > 0
    assert plain.not_modified == 0
    assert cached.made < cached.reads
    assert cached.latency["l1"].count > 0
    assert cached.not_modified > 0
    assert folders() <= before


async def test_given_servers_are_used_and_left_as_they_were() -> None:
    """With both addresses given nothing is killed, and schema and keys are gone afterwards."""
    async with (
        Sandbox() as sandbox,
        own_redis(sandbox) as redis,
        own_database(sandbox, Sizes(1, 1, 1), lambda *_: None) as database,
    ):
        await database.admin.execute("DROP EXTENSION pg_stat_statements")
        url = database.url.replace(database.role, "postgres")

        given = replace(WITH_PAGES, redis_url=redis.url, database_url=url)
        results = await Run(given, PlainView())()

        left = await database.admin.fetchval(
            "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'tiercache%'"
        )
        async with client_of(redis.url) as client:
            keys = await client.dbsize()
    assert [phase.name for phase in results.phases] == ["No cache", "Cold", "Warm"]
    check(results)
    assert results.pages is not None
    assert [phase.name for phase in results.pages.phases] == [PLAIN, CACHED]
    # Nobody but the servers themselves counts statements there.
    assert all(phase.statements > 0 for phase in results.pages.phases)
    assert (left, keys) == (0, 0)
