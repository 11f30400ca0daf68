"""The spans of a real driver, on a real database, nest in the load that made the query."""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio
from opentelemetry.instrumentation.asyncpg import AsyncPGInstrumentor

from async_tiercache import TierCache
from async_tiercache_integrations.cli.demo import _servers
from async_tiercache_integrations.cli.demo._sandbox import Sandbox
from tests.needs import missing
from tests.telemetry.exported import Spans, is_child, said

_AsyncPGInstrumentor: Any = AsyncPGInstrumentor  # it has no types
asyncpg: Any = pytest.importorskip("asyncpg", reason="needs the extra demo")
QUERY = "SELECT $1::int * 2"


@pytest.fixture
def instrumented(spans: Spans) -> Iterator[None]:
    """Let asyncpg make spans, as an application does."""
    instrumentor: Any = _AsyncPGInstrumentor()
    instrumentor.instrument(tracer_provider=spans.provider)
    yield
    instrumentor.uninstrument()


@pytest_asyncio.fixture
async def pool(instrumented: None) -> AsyncIterator[Any]:
    """Return connections to a PostgreSQL of the test's own."""
    async with Sandbox() as sandbox:
        try:
            postgres = _servers.Postgres(sandbox)
            await postgres.start()
        except _servers.ServerError as error:
            missing(str(error))
        async with asyncpg.create_pool(postgres.url("postgres"), min_size=1) as pool:
            yield pool


@pytest.mark.postgres
async def test_a_query_is_a_child_of_the_load_that_made_it(
    cache: TierCache, pool: Any, spans: Spans
) -> None:
    """Request, get, load, query: one trace, though the load runs as a task of its own."""
    before = len(spans.ended)

    @cache.cached("answer:{n}")
    async def answer(n: int) -> int:
        value: int = await pool.fetchval(QUERY, n)
        return value

    with spans.user("GET /answers/21"):
        assert await answer(21) == 42

    (query,) = [span for span in spans.ended[before:] if QUERY in said(span).values()]
    load = spans.one("cache.load")
    assert is_child(query, load)
    assert is_child(load, spans.get_of("GET /answers/21"))
