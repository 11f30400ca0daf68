"""Methods: whose object a load runs on (`via=`), and whose values are whose (`scope=`)."""

import asyncio
import gc
import sysconfig
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from async_tiercache import MISSING, TierCache
from async_tiercache._decorators import KEEP_AFTER
from async_tiercache.errors import ConfigurationError, UnkeyableError, UsageError
from async_tiercache.keys import MAX_CHARACTERS
from async_tiercache.testing import FakeClock, settled
from tests.core.source import soon, ticks


class Session:
    """A database session: it does one thing at a time, and nothing once it is closed.

    Attributes:
        gate: While it is not set, queries wait here.
        opened: Every session, in the order of their opening.
    """

    gate = asyncio.Event()
    opened: list["Session"] = []  # noqa: RUF012 - emptied by the fixture

    def __init__(self) -> None:
        self.closed = self.broken = self.busy = False
        self.queries = 0
        Session.opened.append(self)

    async def query(self, text: str) -> str:
        """Return the text."""
        assert not self.closed, "the session is closed"
        assert not self.busy, "the session is in use"
        self.busy = True
        self.queries += 1
        try:
            await Session.gate.wait()
            assert not self.closed, "the session was closed under a query"
            if self.broken:
                raise ConnectionResetError("this session is broken")
            return text
        finally:
            self.busy = False


@asynccontextmanager
async def session() -> AsyncIterator[Session]:
    """Open a session for the block."""
    opened = Session()
    try:
        yield opened
    finally:
        opened.closed = True


@pytest.fixture(autouse=True)
def _sessions() -> None:
    Session.gate = asyncio.Event()
    Session.gate.set()
    Session.opened = []


def repository_of(cache: TierCache, **options: Any) -> Any:
    """Return a repository class whose loads run on sessions of their own."""

    @asynccontextmanager
    async def opened() -> AsyncIterator["Repository"]:
        async with session() as own:
            yield Repository(own)

    class Repository:
        def __init__(self, own: Session, tenant: str = "acme") -> None:
            self.session = own
            self.tenant = tenant

        @cache.cached("user:{user_id}", via=opened, **options)
        async def user(self, user_id: int) -> str:
            return await self.session.query(f"user {user_id}")

        @user.batch
        async def users(self, user_ids: list[int]) -> dict[int, str]:
            text = await self.session.query("users")
            return {user_id: f"{text} {user_id}" for user_id in user_ids}

    return Repository


async def test_a_load_runs_on_an_object_of_its_own(cache: TierCache) -> None:
    """The caller's session is not touched."""
    repository = repository_of(cache)

    async with session() as mine:
        assert await repository(mine).user(1) == "user 1"

    assert [each.queries for each in Session.opened] == [0, 1]
    assert all(each.closed for each in Session.opened)


async def test_a_load_survives_its_first_caller_and_the_callers_session(cache: TierCache) -> None:
    """Who waits for it gets the value, of one load."""
    repository = repository_of(cache)
    Session.gate.clear()

    async def request() -> str:
        async with session() as mine:
            found: str = await repository(mine).user(1)
            return found

    first, second = asyncio.create_task(request()), asyncio.create_task(request())
    await ticks()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    Session.gate.set()

    assert await soon(second) == "user 1"
    assert sum(each.queries for each in Session.opened) == 1


async def test_a_refresh_runs_behind_its_caller(cache: TierCache, clock: FakeClock) -> None:
    """On an object of its own, long after the caller's is closed."""
    repository = repository_of(cache, ttl=10, grace=100, soft_timeout=0, early=0)
    async with session() as mine:
        await repository(mine).user(1)
    await settled(cache)
    await clock.advance(20)
    Session.gate.clear()

    async with session() as mine:
        assert await soon(repository(mine).user(1)) == "user 1"
    await ticks()
    await clock.advance(0.05)  # what nobody waits for is gathered for a moment
    Session.gate.set()
    await soon(settled(cache))

    assert cache.statistics().loads == 2
    assert all(each.closed for each in Session.opened)


async def test_without_via_a_stale_value_is_refreshed_in_the_callers_life(
    cache: TierCache, clock: FakeClock
) -> None:
    """There is nothing to refresh it on afterwards, so the caller waits."""

    class Repository:
        def __init__(self, own: Session) -> None:
            self.session = own

        @cache.cached("user:{user_id}", ttl=10, grace=100, soft_timeout=0, early=0)
        async def user(self, user_id: int) -> str:
            return await self.session.query(f"user {user_id}")

    for _ in range(2):
        async with session() as mine:
            assert await soon(Repository(mine).user(1)) == "user 1"
            assert mine.queries == 1
        await settled(cache)
        await clock.advance(20)


async def test_a_broken_session_is_nobody_elses_trouble(cache: TierCache) -> None:
    """Loads do not run on it."""
    repository = repository_of(cache)
    async with session() as mine:
        mine.broken = True

        assert await repository(mine).user(1) == "user 1"


async def test_a_batch_runs_on_an_object_of_its_own(cache: TierCache) -> None:
    """One for the whole load."""
    repository = repository_of(cache)

    async with session() as mine:
        assert await repository(mine).users([1, 2]) == {1: "users 1", 2: "users 2"}

    assert [each.queries for each in Session.opened] == [0, 1]


async def test_an_error_in_opening_reaches_the_caller(cache: TierCache) -> None:
    """As an error of the load."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[Any]:
        raise ConnectionRefusedError("no connection left")
        yield

    class Repository:
        @cache.cached("user:{user_id}", via=opened)
        async def user(self, user_id: int) -> str:
            raise AssertionError(user_id)

    with pytest.raises(ConnectionRefusedError):
        await soon(Repository().user(1))


async def test_an_object_with_other_keys_is_refused(cache: TierCache) -> None:
    """Its values would be stored under the keys of another tenant."""

    @asynccontextmanager
    async def opened() -> AsyncIterator["Repository"]:
        yield Repository("other")

    class Repository:
        def __init__(self, tenant: str) -> None:
            self.tenant = tenant

        @cache.cached("user:{user_id}", via=opened, scope=lambda self: self.tenant)
        async def user(self, user_id: int) -> str:
            return f"{self.tenant} {user_id}"

        @user.batch
        async def users(self, user_ids: list[int]) -> dict[int, str]:
            return {user_id: f"{self.tenant} {user_id}" for user_id in user_ids}

    for call in (Repository("acme").user(1), Repository("acme").users([1])):
        with pytest.raises(UsageError, match="other keys"):
            await soon(call)


async def nothing() -> None:
    """Open nothing."""


@pytest.mark.parametrize("via", [object, nothing], ids=["class", "coroutine function"])
async def test_via_must_open_something(cache: TierCache, via: Any) -> None:
    """The error says what it returned instead."""

    class Repository:
        @cache.cached("user:{user_id}", via=via)
        async def user(self, user_id: int) -> str:
            raise AssertionError(user_id)

    with pytest.raises(UsageError, match="no async context manager"):
        await soon(Repository().user(1))


@asynccontextmanager
async def session_without_repository() -> AsyncIterator[None]:
    """Open something and yield nothing."""
    yield


async def test_via_must_yield_an_object(cache: TierCache) -> None:
    """A bare yield is forgotten easily."""

    class Repository:
        tenant = "acme"

        @cache.cached(
            "user:{user_id}", via=session_without_repository, scope=lambda self: self.tenant
        )
        async def user(self, user_id: int) -> str:
            raise AssertionError(user_id)

    with pytest.raises(UsageError, match="opened nothing"):
        await soon(Repository().user(1))


def test_via_needs_a_method(alone: TierCache) -> None:
    """A function has no self."""
    with pytest.raises(ConfigurationError, match="via="):

        @alone.cached("user:{user_id}", via=session)
        async def user(user_id: int) -> str:
            raise AssertionError(user_id)


# Scope.


async def test_objects_of_different_scope_share_nothing(cache: TierCache, other: TierCache) -> None:
    """In either tier; the scope comes first in the key."""

    def repository(of: TierCache) -> Any:
        class Repository:
            def __init__(self, tenant: object) -> None:
                self.tenant = tenant

            @of.cached("user:{user_id}", scope=lambda self: self.tenant)
            async def user(self, user_id: int) -> str:
                return f"{self.tenant!r} {user_id}"

        return Repository

    mine, theirs = repository(cache), repository(other)

    for tenant in ("acme", "other", 1, "1", "a:b", None):
        assert await mine(tenant).user(1) == f"{tenant!r} 1"
        await settled(cache)
        assert await theirs(tenant).user(1) == f"{tenant!r} 1"
        assert await mine(tenant).user(1) == f"{tenant!r} 1"
    assert mine("acme").user.key(1) == "acme:user:1"
    assert cache.statistics().loads == 6
    assert other.statistics().loads == 0


async def test_invalidates_means_the_keys_of_the_same_scope(cache: TierCache) -> None:
    """The template is the same as in `cached`, wherever it stands."""

    class Repository:
        def __init__(self, tenant: str) -> None:
            self.tenant = tenant

        @cache.invalidates(keys=["user:{user_id}"])
        async def rename(self, user_id: int) -> None:
            """Change the source."""

        @cache.cached("user:{user_id}", scope=lambda self: self.tenant)
        async def user(self, user_id: int) -> str:
            return self.tenant

    acme, other = Repository("acme"), Repository("other")
    for each in (acme, other):
        await each.user(1)
    await settled(cache)

    await acme.rename(1)

    assert acme.user.peek(1) is MISSING
    assert other.user.peek(1) == "other"


async def test_invalidates_means_long_keys_of_the_same_scope(alone: TierCache) -> None:
    """What is too long is shortened with its scope, by whoever spells it."""

    class Repository:
        tenant = "acme"

        @alone.invalidates(keys=["user:{name}"])
        async def rename(self, name: str) -> None:
            """Change the source."""

        @alone.cached("user:{name}", scope=lambda self: self.tenant)
        async def user(self, name: str) -> str:
            return name

    repository = Repository()
    long = "x" * MAX_CHARACTERS
    await repository.user(long)

    await repository.rename(long)

    assert repository.user.peek(long) is MISSING


class Plans:
    """Two repositories whose families share a template, and not a scope.

    Attributes:
        Mine: Its keys begin with the tenant.
        Theirs: Its keys begin with the region.
        Other: Has no family.
    """

    def __init__(self, cache: TierCache) -> None:
        class Mine:
            tenant = "acme"

            @cache.cached("plan:{name}", scope=lambda self: self.tenant)
            async def plan(self, name: str) -> str:
                return name

            @cache.invalidates(keys=["plan:{name}"])
            async def change(self, name: str) -> None:
                """Change the source."""

        class Theirs:
            region = "north"

            @cache.cached("plan:{name}", scope=lambda self: self.region)
            async def plan(self, name: str) -> str:
                return name

        class Other:
            tenant, region = "acme", "north"

            @cache.invalidates(keys=["plan:{name}"])
            async def change(self, name: str) -> None:
                """Change the source."""

        self.Mine, self.Theirs, self.Other = Mine, Theirs, Other


async def test_invalidates_means_the_scope_of_its_own_class(alone: TierCache) -> None:
    """Whichever class shares the template, and was defined last."""
    plans = Plans(alone)
    mine, theirs = plans.Mine(), plans.Theirs()
    await mine.plan("basic")
    await theirs.plan("basic")

    await mine.change("basic")

    assert mine.plan.peek("basic") is MISSING
    assert theirs.plan.peek("basic") == "basic"


async def test_invalidates_elsewhere_means_all_scopes_of_a_template(alone: TierCache) -> None:
    """Nothing says which of the classes is meant, and none must keep what is old."""
    plans = Plans(alone)
    mine, theirs = plans.Mine(), plans.Theirs()
    await mine.plan("basic")
    await theirs.plan("basic")

    await plans.Other().change("basic")

    assert mine.plan.peek("basic") is MISSING
    assert theirs.plan.peek("basic") is MISSING


async def test_invalidates_means_the_scope_of_the_class_that_it_inherits_from(
    alone: TierCache,
) -> None:
    """An object of a subclass need not have what the others' scopes ask for."""
    plans = Plans(alone)
    inheriting: Any = type("Inheriting", (plans.Mine,), {})
    mine, theirs = plans.Mine(), plans.Theirs()
    await mine.plan("basic")
    await theirs.plan("basic")

    await inheriting().change("basic")

    assert mine.plan.peek("basic") is MISSING
    assert theirs.plan.peek("basic") == "basic"


async def test_an_object_without_what_a_scope_asks_for_fails_before_the_source_changes(
    alone: TierCache,
) -> None:
    """Whose keys are meant, nobody can tell; the error says what to write instead."""
    Plans(alone)
    changed: list[str] = []

    class Stranger:
        @alone.invalidates(keys=["plan:{name}"])
        async def change(self, name: str) -> None:
            changed.append(name)

    with pytest.raises(UnkeyableError, match=r"scope= finds nothing in a .*Stranger"):
        await Stranger().change("basic")

    assert changed == []


async def test_a_scope_that_is_no_key_is_refused(cache: TierCache) -> None:
    """As an argument would be."""

    class Repository:
        @cache.cached("user:{user_id}", scope=lambda self: object())
        async def user(self, user_id: int) -> str:
            raise AssertionError(user_id)

    with pytest.raises(TypeError, match="What scope= returns cannot stand in a key"):
        await Repository().user(1)


def rows_of(cache: TierCache) -> type[Any]:
    """Return a class whose objects read through a cache."""

    class Rows:
        @cache.cached("row:{row_id}", tags=["row:{row_id}"])
        async def row(self, row_id: int) -> str:
            await asyncio.sleep(0)
            return f"row {row_id}"

        @row.batch
        async def rows(self, row_ids: list[int]) -> dict[int, str]:
            return {each: f"row {each}" for each in row_ids}

        @cache.invalidates(tags=["row:{row_id}"])
        async def change(self, row_id: int) -> None:
            """Change a row."""

    return Rows


async def load_and_hit(rows: Any) -> None:
    """Read what is there and what is not."""
    await rows.row(1)
    await rows.row(1)


async def join(rows: Any) -> None:
    """Wait for a load together."""
    await asyncio.gather(rows.row(2), rows.row(2), rows.row(2))


async def be_cancelled(rows: Any) -> None:
    """Go while a load is under way."""
    caller = asyncio.ensure_future(rows.row(3))
    await ticks(2)
    caller.cancel()
    await asyncio.wait([caller])


async def use_helpers(rows: Any) -> None:
    """Use all that a form has, and what invalidates."""
    await rows.row.put("row 4", 4)
    assert rows.row.peek(4) == "row 4"
    await rows.row.refresh(4)
    await rows.row.explain(4)
    await rows.row.invalidate(4)
    await rows.change(4)
    await rows.rows([4, 5, 6])


@pytest.fixture
def no_collector() -> Iterator[None]:
    """Switch the garbage collector off."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("use", [load_and_hit, join, be_cancelled, use_helpers])
async def test_an_object_is_freed_when_its_caller_lets_it_go(
    cache: TierCache, alone: TierCache, use: Callable[[Any], Awaitable[None]], *, shared: bool
) -> None:
    """At once: it may hold a session, and no cycle waits for the collector."""
    used = cache if shared else alone
    rows = rows_of(used)()
    seen = weakref.ref(rows)

    await use(rows)
    del rows
    await settled(used)
    await ticks(3)

    assert seen() is None


@pytest.mark.usefixtures("no_collector")
async def test_one_object_that_is_called_again_and_again_is_kept(alone: TierCache) -> None:
    """Until the method of another one is looked up."""
    kind = rows_of(alone)
    rows = kind()
    seen = weakref.ref(rows)
    for _ in range(2 * KEEP_AFTER):
        await rows.row(1)
    del rows
    assert seen() is not None

    await kind().row(1)
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        gc.collect()  # Without the lock functions are left to it.

    assert seen() is None


def test_scope_needs_a_method(alone: TierCache) -> None:
    """A function has no self."""
    with pytest.raises(ConfigurationError, match="scope="):

        @alone.cached("user:{user_id}", scope=lambda self: 1)
        async def user(user_id: int) -> str:
            raise AssertionError(user_id)
