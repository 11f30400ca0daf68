"""The programs under docs/examples do what the pages say of them."""

import asyncio
import importlib.util
import re
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest
import pytest_asyncio
from sqlalchemy import event, text

from async_tiercache import Statistics
from async_tiercache.testing import settled
from tests.conftest import DEADLINE
from tests.core.source import ticks

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = DOCS / "examples" / "session_per_request.py"
PROFILE = "user:{user_id}:profile"


class Statements:
    """The statements that read users: counted, and held while the gate is shut.

    Attributes:
        count: How many there were.
        gate: Lets them through.
        held: Set when one has come to the gate.
        failing: How many of the next ones fail.
    """

    def __init__(self, engine: Any) -> None:
        self.count = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.held = asyncio.Event()
        self.failing = 0
        event.listen(engine.sync_engine, "before_cursor_execute", self._execute)

    def _execute(self, connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("SELECT users"):
            self.count += 1
            connection.connection.dbapi_connection.run_async(lambda _: self._pass())

    async def _pass(self) -> None:
        self.held.set()
        await self.gate.wait()
        if self.failing:
            self.failing -= 1
            raise ConnectionError("the database does not answer")


class Shop:
    """The running example.

    Attributes:
        module: The example.
        client: Sends it requests.
        statements: What reaches its database.
    """

    def __init__(self, module: ModuleType, client: httpx.AsyncClient) -> None:
        self.module = module
        self.client = client
        self.statements = Statements(module.engine)

    def statistics(self) -> Statistics:
        statistics: Statistics = self.module.cache.statistics(PROFILE)
        return statistics

    async def profile(self, user_id: int = 1) -> Any:
        response = await self.client.get(f"/users/{user_id}")
        return response.json() if response.is_success else response.status_code

    def begin(self, user_id: int = 1) -> "asyncio.Task[Any]":
        return asyncio.create_task(self.profile(user_id))

    async def waiting(self, number: int) -> None:
        """Return when so many requests wait for the load of one user."""
        flights = self.module.cache._core.flights
        await until(lambda: sum(len(each._waiters) for each in flights.by_key.values()) == number)


async def until(true: Callable[[], bool]) -> None:
    """Return when something has become true."""
    async with asyncio.timeout(DEADLINE):
        while not true():
            await ticks(1)


@pytest_asyncio.fixture
async def shop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Shop]:
    """Run the example over a database with one user, Ada."""
    monkeypatch.setenv("DATABASE_URL", f"sqlite+aiosqlite:///{tmp_path}/shop.db")
    monkeypatch.setenv("TIERCACHE_TTL", getattr(request, "param", "5m"))
    module = _imported(monkeypatch)
    async with module.engine.begin() as connection:
        await connection.run_sync(module.Table.metadata.create_all)
        await connection.execute(text("INSERT INTO users VALUES (1, 'Ada'), (2, 'Bob')"))
    async with _serving(module) as client:
        shop = Shop(module, client)
        yield shop
        shop.statements.gate.set()


def _imported(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("session_per_request", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@asynccontextmanager
async def _serving(module: ModuleType) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(module.app)
    async with (
        module.app.router.lifespan_context(module.app),
        httpx.AsyncClient(transport=transport, base_url="http://shop") as client,
    ):
        yield client


def test_page_shows_the_example_as_it_is() -> None:
    """What readers copy is what these tests run."""
    page = (DOCS / "concepts" / "methods.md").read_text(encoding="utf-8")

    assert f"```python\n{EXAMPLE.read_text(encoding='utf-8')}```\n" in page


async def test_hits_need_no_statement(shop: Shop) -> None:
    """One load serves both forms of the call."""
    profiles = [await shop.profile(), await shop.profile()]
    listed = await shop.client.get("/users?ids=1")

    assert profiles == [{"id": 1, "name": "Ada"}] * 2
    assert listed.json() == profiles[:1]
    assert shop.statements.count == 1


async def test_batch_loads_what_is_missing_by_one_statement(shop: Shop) -> None:
    """Users that do not exist are left out."""
    await shop.profile(1)

    listed = await shop.client.get("/users?ids=2,1,7,8")

    assert [user["name"] for user in listed.json()] == ["Bob", "Ada"]
    assert shop.statements.count == 2


async def test_absent_user_is_kept_as_absent(shop: Shop) -> None:
    """A 404 costs one statement."""
    assert [await shop.profile(7), await shop.profile(7)] == [404, 404]
    assert shop.statements.count == 1


async def test_rename_is_seen_by_the_next_request(shop: Shop) -> None:
    """The commit comes before the invalidation, and both before the response."""
    await shop.profile()

    await shop.client.put("/users/1/name", params={"name": "Grace"})

    assert (await shop.profile())["name"] == "Grace"


async def test_failed_rename_tells_the_cache_nothing(shop: Shop) -> None:
    """A transaction that was rolled back has changed nothing."""
    await shop.profile()

    @event.listens_for(shop.module.engine.sync_engine, "commit")
    def refuse(_connection: Any) -> None:
        raise ConnectionError("the database does not answer")

    with pytest.raises(ConnectionError):
        await shop.client.put("/users/1/name", params={"name": "Grace"})
    event.remove(shop.module.engine.sync_engine, "commit", refuse)

    assert (await shop.profile())["name"] == "Ada"
    assert shop.statements.count == 1


async def test_load_outlives_its_first_request(shop: Shop) -> None:
    """The first request goes, and its session with it; the second has the value of that load."""
    shop.statements.gate.clear()
    first = shop.begin()
    await shop.statements.held.wait()
    second = shop.begin()
    await shop.waiting(2)

    first.cancel()
    await asyncio.wait([first])
    shop.statements.gate.set()

    assert await second == {"id": 1, "name": "Ada"}
    assert first.cancelled()
    assert shop.statements.count == 1


async def test_load_ends_with_its_last_request(shop: Shop) -> None:
    """A cancelled load closes its own session, and the next request starts over."""
    shop.statements.gate.clear()
    only = shop.begin()
    await shop.statements.held.wait()

    only.cancel()
    await asyncio.wait([only])
    await settled(shop.module.cache)
    shop.statements.gate.set()

    assert shop.module.engine.pool.checkedout() == 0
    assert await shop.profile() == {"id": 1, "name": "Ada"}
    assert shop.statements.count == 2


async def test_request_that_only_reads_takes_no_connection(shop: Shop) -> None:
    """A hit takes none, and a load only its own."""
    shop.statements.gate.clear()
    reading = shop.begin()
    await shop.statements.held.wait()
    during = shop.module.engine.pool.checkedout()
    shop.statements.gate.set()
    await reading

    assert during == 1


@pytest.mark.parametrize("shop", ["1ms"], indirect=True)
async def test_refresh_behind_an_answered_request_has_a_session_of_its_own(shop: Shop) -> None:
    """The request has the stale value and is over while the refresh still reads the database."""
    await shop.profile()
    shop.statements.gate.clear()
    shop.statements.held.clear()

    answers: list[Any] = []
    async with asyncio.timeout(DEADLINE):
        while not shop.statistics().stale_reads:
            answers.append(await shop.profile())
        await shop.statements.held.wait()
    running = shop.statistics().loads_running
    shop.statements.gate.set()
    await settled(shop.module.cache)

    assert answers[-1] == {"id": 1, "name": "Ada"}
    assert running == 1
    assert shop.statements.count == 2
    assert shop.statistics().load_errors == 0


class Broken:
    """Stands for a session that its request has closed."""

    async def get(self, _kind: object, _id: int) -> Any:
        raise ConnectionError("this session is closed")


async def test_error_of_one_session_does_not_reach_others_with_via(shop: Shop) -> None:
    """No load runs on a session of a request, so one that is broken breaks none."""
    users = shop.module.Users(Broken())

    assert (await users.profile(1)).name == "Ada"


async def test_error_of_one_session_reaches_no_stranger_without_via(shop: Shop) -> None:
    """Who waited for a load on another's session tries once more, on its own."""
    module = shop.module

    class Owned:
        def __init__(self, session: Any) -> None:
            self.session = session

        @module.cache.cached("owned:{user_id}")  # type: ignore[untyped-decorator]
        async def name(self, user_id: int) -> str:
            shop.statements.held.set()
            await shop.statements.gate.wait()
            return str((await self.session.get(module.UserRow, user_id)).name)

    shop.statements.gate.clear()
    async with module.new_session() as session:
        broken = asyncio.create_task(Owned(Broken()).name(1))
        await shop.statements.held.wait()
        sound = asyncio.create_task(Owned(session).name(1))
        await shop.waiting(1)
        shop.statements.gate.set()
        ended: list[Any] = await asyncio.gather(*[broken, sound], return_exceptions=True)

    assert [type(ended[0]), ended[1]] == [ConnectionError, "Ada"]


async def test_error_of_the_database_reaches_who_waited(shop: Shop) -> None:
    """It is the same for all who share the load, and the next request tries again."""
    shop.statements.gate.clear()
    shop.statements.failing = 1
    both = [shop.begin(), shop.begin()]
    await shop.waiting(2)
    shop.statements.gate.set()

    failed = await asyncio.gather(*both, return_exceptions=True)

    assert [type(error) for error in failed] == [ConnectionError, ConnectionError]
    assert await shop.profile() == {"id": 1, "name": "Ada"}
    assert shop.statements.count == 2


def test_example_names_the_way_to_run_it() -> None:
    """Its docstring has the command, with the module's own name."""
    assert re.search(rf"uvicorn {EXAMPLE.stem}:app", EXAMPLE.read_text(encoding="utf-8"))
