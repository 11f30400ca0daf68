"""How a cache is set up: switched off, refused, configured from the environment, by policies."""

import enum
import os
from contextlib import asynccontextmanager
from typing import Any

import pytest
from redis.exceptions import NoPermissionError, OutOfMemoryError, ResponseError

from async_tiercache import L1, MISSING, Advice, Event, Policy, TierCache
from async_tiercache.errors import ConfigurationError, UnkeyableError, UsageError
from async_tiercache.testing import FakeClock, MemoryServer, Recorder
from tests.conftest import MakeCache
from tests.core.source import KEY, Source, function_of, ticks
from tests.core.wire import Wire

# Disabled.


async def test_a_disabled_cache_calls_every_loader(make_cache: MakeCache, other: TierCache) -> None:
    """In no tier anything is looked up or kept."""
    cache = await make_cache(enabled=False)
    source = Source()
    value = function_of(cache, source)

    for _ in range(3):
        await value(1)
        await value.refresh(1)
        await cache.get_or_load(KEY, source.load)

    assert source.loads == 9
    assert value.peek(1) is MISSING
    assert await other.get(KEY, "nothing") == "nothing"


async def test_a_disabled_cache_needs_no_tier(make_cache: MakeCache) -> None:
    """One that has L2 alone is switched off where there is no Redis."""
    cache = await make_cache(client=None, l1=None, enabled=False)
    source = Source()

    assert await function_of(cache, source)(1) == source.value
    assert (await cache.invalidate(keys=[KEY])).l2 == "off"
    assert (await cache.set(KEY, 1)).l2 == "off"


async def test_invalidations_of_a_disabled_cache_reach_l2(
    make_cache: MakeCache, other: TierCache
) -> None:
    """Other processes may still be caching."""
    cache = await make_cache(enabled=False)
    await other.set(KEY, "old", l1_ttl=0)

    report = await cache.invalidate(keys=[KEY])

    assert report.l2 == "done"
    assert await other.get(KEY, "nothing") == "nothing"


@pytest.mark.parametrize("how", ["set", "put", "writing"])
async def test_writes_of_a_disabled_cache_only_invalidate(
    make_cache: MakeCache, other: TierCache, how: str
) -> None:
    """It keeps nothing, and what others hold is no longer true."""
    cache = await make_cache(enabled=False)
    await other.set(KEY, "old", l1_ttl=0)

    if how == "set":
        await cache.set(KEY, "new")
    elif how == "put":
        await function_of(cache, Source()).put("new", 1)
    else:
        async with cache.writing(KEY) as writing:
            writing.set("new")

    assert await other.get(KEY, "nothing") == "nothing"


async def test_a_disabled_cache_says_so_once(
    make_cache: MakeCache, events: Recorder, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody wonders in production why nothing is cached."""
    cache = await make_cache(enabled=False, observers=[events])
    for _ in range(3):
        await function_of(cache, Source())(1)

    assert len(events.of(Advice)) == 1
    assert caplog.text.count("is disabled") == 1


async def test_what_l2_refuses_is_told_once(
    make_cache: MakeCache, server: MemoryServer, events: Recorder
) -> None:
    """Not of each key again, though the server may name them."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client, observers=[events])
    for key in ("a", "b"):
        said = f"unknown command 'MGET', with args beginning with: 'test:{{{key}}}'"
        wire.refuse("GET", ResponseError(said))
        await cache.get(key)

    (advice,) = [each for each in events.of(Advice) if each.name == "redis-refuses"]
    assert advice.message.startswith("Redis refused: unknown command 'MGET'. ")
    assert cache.l2 == "up"


@pytest.mark.parametrize(
    ("error", "next_step"),
    [
        (OutOfMemoryError("command not allowed when used memory > 'maxmemory'."), "allkeys-lru"),
        (NoPermissionError("this user has no permissions to run 'mget'"), "docs/concepts/redis.md"),
    ],
    ids=["full", "user"],
)
async def test_what_l2_refuses_is_told_with_what_to_do(
    make_cache: MakeCache, server: MemoryServer, events: Recorder, error: Any, next_step: str
) -> None:
    """In whole sentences."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client, observers=[events])
    wire.refuse("GET", error)
    await cache.get("a")

    (advice,) = [each for each in events.of(Advice) if each.name == "redis-refuses"]
    assert next_step in advice.message
    assert ".." not in advice.message


async def test_without_l2_nobody_is_told_that_it_refuses(
    alone: TierCache, events: Recorder
) -> None:
    """There is none on purpose."""
    await function_of(alone, Source())(1)

    assert events.of(Advice) == []


# What is refused at once.


async def watch(event: Event) -> None:
    """Do what nobody waits for."""


class Watch:
    """Does the same."""

    async def __call__(self, event: Event) -> None:
        """Do what nobody waits for."""


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"namespace": ""}, id="empty namespace"),
        pytest.param({"namespace": "a b"}, id="space in the namespace"),
        pytest.param({"namespace": "shop{1}"}, id="brace in the namespace"),
        pytest.param({"url": "http://localhost"}, id="unknown scheme"),
        pytest.param({"url": "localhost:6379"}, id="no scheme"),
        pytest.param({"url": "redis://"}, id="no host"),
        pytest.param({"url": "redis+memcached://a:1"}, id="unknown topology"),
        pytest.param({"url": "redis://a:b"}, id="port that is no number"),
        pytest.param({"url": "redis://a?ssl_ca_cert=ca.pem"}, id="misspelt parameter"),
        pytest.param({"url": "redis://a?max_connections=few"}, id="parameter that is no number"),
        pytest.param({"url": "redis+sentinel://a"}, id="no service"),
        pytest.param({"url": "redis+sentinel:///shop"}, id="no Sentinel"),
        pytest.param({"url": "redis+sentinel://a/shop/b"}, id="database that is no number"),
        pytest.param({"url": "redis+cluster://"}, id="no node"),
        pytest.param({"url": "redis+cluster://a/1"}, id="database of a Cluster"),
        pytest.param({"url": "redis+cluster://a?db=1"}, id="database of a Cluster, a parameter"),
        pytest.param({"url": "redis+cluster://a?sslcerts=b"}, id="misspelt parameter, Cluster"),
        pytest.param({"url": "redis://a?decode_responses=false"}, id="decoding"),
        pytest.param({"url": "unix:///a?decode_responses=true"}, id="decoding, a socket"),
        pytest.param({"url": "redis+sentinel://a/b?decode_responses=1"}, id="decoding, Sentinels"),
        pytest.param({"url": "redis+cluster://a?decode_responses=1"}, id="decoding, Cluster"),
        pytest.param({"url": "redis://a?credential_provider=b"}, id="parameter that is no text"),
        pytest.param({"url": "redis://a?maint_notifications_config=b"}, id="another one"),
        pytest.param({"url": "redis+cluster://a?path=b"}, id="parameter of no Cluster"),
        pytest.param({"url": "redis://a:70000"}, id="port out of range"),
        pytest.param({"url": "redis://a/shop"}, id="database that is no number, one server"),
        pytest.param({"url": "unix://"}, id="no socket"),
        pytest.param({"namespace": 7}, id="namespace that is no text"),
        pytest.param({"l1": None}, id="nothing to keep values in"),
        pytest.param({"l1": 10_000}, id="a number for L1"),
        pytest.param({"policy": {"ttl": 5}}, id="a dict for a policy"),
        pytest.param({"max_loads": -1}, id="a negative number of loads"),
        pytest.param({"max_loads": "8"}, id="a text for a number of loads"),
        pytest.param({"self_check": 0}, id="a self-check without a pause"),
        pytest.param({"observers": print}, id="an observer alone"),
        pytest.param({"observers": [7]}, id="an observer that cannot be called"),
        pytest.param({"observers": [watch]}, id="an observer that nobody would await"),
        pytest.param({"observers": [Watch()]}, id="an object that nobody would await"),
        pytest.param({"tracer": print}, id="a tracer that is no tracer"),
        pytest.param({"clock": None}, id="no clock"),
        pytest.param({"enabled": "no"}, id="a text for a switch"),
    ],
)
def test_an_argument_that_cannot_be_used_is_refused_with_a_hint(options: dict[str, Any]) -> None:
    """By the constructor, not by the first request."""
    with pytest.raises(ConfigurationError) as caught:
        TierCache(**({"namespace": "test"} | options))

    assert caught.value.hint


@pytest.mark.parametrize("sign", "/?#@:")
@pytest.mark.parametrize("scheme", ["redis", "redis+sentinel", "redis+cluster"])
def test_no_half_of_a_password_is_in_an_error(scheme: str, sign: str) -> None:
    """Where it is not escaped, it may read like a port or a database."""
    said = ""
    try:
        TierCache(f"{scheme}://user:12{sign}secret@host:6379/0", namespace="test")
    except ConfigurationError as error:
        said = str(error)

    assert "secret" not in said


class Service(str, enum.Enum):  # noqa: UP042 - this one formats as its name
    """Names of services, as many programs keep them."""

    SHOP = "shop"


async def test_a_namespace_from_an_enum_is_its_text(
    make_cache: MakeCache, server: MemoryServer
) -> None:
    """Who reads the same name from the environment shares it."""
    cache, other = await make_cache(namespace=Service.SHOP), await make_cache(namespace="shop")
    await cache.set(KEY, "shared")

    assert await other.get(KEY, None) == "shared"
    assert cache.namespace == "shop"


def test_no_policy_is_the_built_in_one() -> None:
    """As in decorators and calls."""
    cache = TierCache(namespace="test", policy=None)  # type: ignore[arg-type]

    assert cache._families.direct.limits == TierCache(namespace="test")._families.direct.limits


@pytest.mark.parametrize(
    "url",
    [
        "redis://localhost:6379/0",
        "rediss://user:pw@host:6380?ssl_ca_certs=ca.pem&ssl_certfile=a.pem&ssl_keyfile=b.pem",
        "unix:///tmp/redis.sock",
        "redis+sentinel://user:pw@host,host:26380/shop/1?sentinel_password=pw",
        "rediss+sentinel://host/shop",
        "redis+cluster://user:pw@host,host:6380/0?max_connections=2",
        "rediss+cluster://host",
    ],
)
async def test_a_url_opens_nothing(url: str) -> None:
    """Constructing is free; the repr shows no secret."""
    cache = TierCache(url, namespace="test")

    assert repr(cache) == "<TierCache new [L1 0/10000 | L2 up | 0 loads in flight]>"


def _sync() -> int:
    return 1


_any: Any = _sync


async def _generator() -> Any:
    yield 1


async def _coroutine() -> int:
    return 1


class _Class:
    pass


@pytest.mark.parametrize(
    "target",
    [
        pytest.param(_sync, id="function"),
        pytest.param(_generator, id="async generator"),
        pytest.param(_Class, id="class"),
        pytest.param(property(_any), id="property"),
        pytest.param(staticmethod(_any), id="staticmethod"),
        pytest.param(classmethod(_any), id="classmethod"),
        pytest.param(lambda: None, id="lambda"),
        pytest.param(7, id="number"),
    ],
)
@pytest.mark.parametrize("decorator", ["cached", "invalidates"])
async def test_what_is_no_coroutine_function_is_refused_at_decoration(
    alone: TierCache, decorator: str, target: Any
) -> None:
    """With a hint what to do instead."""
    decorate = alone.cached("k") if decorator == "cached" else alone.invalidates(keys=["k"])

    with pytest.raises(ConfigurationError) as caught:
        decorate(target)

    assert caught.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"ttl": -1},
        {"ttl": 0},
        {"ttl": 1e12},
        {"ttl": "5 minutes"},
        {"ttl": None},
        {"ttl": 10**400},
        {"load_limit": 0},
        {"soft_timeout": float("nan")},
        {"negative_ttl": "-5s"},
        {"max_value_bytes": -1},
        {"jitter": 1},
        {"early": -0.5},
        {"isolation": "copied"},
        {"on_abandon": "stop"},
        {"schema_version": None},
        {"schema_version": 1.5},
        {"compression": "brotli"},
    ],
    ids=lambda fields: str(fields)[:40],
)
def test_a_field_that_cannot_be_used_is_refused_with_a_hint(fields: dict[str, Any]) -> None:
    """Where the policy is made."""
    with pytest.raises(ConfigurationError) as caught:
        Policy(**fields)

    assert caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        {"policy": {"ttl": 5}},
        {"scope": "tenant"},
        {"via": "session"},
        {"via": asynccontextmanager(_generator)()},
        {"ttl": -1},
    ],
    ids=["policy", "scope", "via", "via that was called", "field"],
)
def test_an_option_of_a_decorator_that_cannot_be_used_is_refused_with_a_hint(
    alone: TierCache, options: dict[str, Any]
) -> None:
    """Before the first call."""
    with pytest.raises(ConfigurationError) as caught:
        alone.cached("k", **options)

    assert caught.value.hint


async def test_a_loader_that_was_called_already_is_refused(alone: TierCache) -> None:
    """The coroutine is closed, so that nobody is warned that it was never awaited."""
    calls: list[Any] = [
        lambda loader: alone.get_or_load("k", loader),
        lambda loader: alone.get_or_load_many(["k"], loader),
    ]
    for call in calls:
        with pytest.raises(UsageError, match="not `load\\(\\)`"):
            await call(_coroutine())
        with pytest.raises(UsageError, match="is a int, no function"):
            await call(7)


async def test_an_empty_key_is_called_empty(alone: TierCache) -> None:
    """Its type is right."""
    with pytest.raises(UnkeyableError, match="not an empty one"):
        await alone.get("")


async def test_a_decorator_without_parentheses_is_refused(alone: TierCache) -> None:
    """The first argument would be taken for a template."""
    decorator: Any = alone.cached

    with pytest.raises(ConfigurationError, match="needs parentheses"):
        decorator(_coroutine)


async def test_a_pattern_of_options_that_does_not_exist_is_refused(alone: TierCache) -> None:
    """A misspelt option must not be silently ignored."""
    options: Any = {"tll": 5}

    with pytest.raises(ConfigurationError, match="tll"):
        alone.cached("k", **options)


# From the environment.


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in os.environ:
        if name.startswith("TIERCACHE_"):
            monkeypatch.delenv(name)
    return monkeypatch


def test_every_variable_is_read(environment: pytest.MonkeyPatch) -> None:
    """What the constructor can be told, deployment can say."""
    for name, text in {
        "URL": "redis://localhost:6379/0",
        "NAMESPACE": "shop",
        "ENABLED": "1",
        "L1_MAX_ENTRIES": "123",
        "L1_MAX_BYTES": "1MiB",
        "TTL": "10m",
        "L1_TTL": "5s",
        "GRACE": "1h",
    }.items():
        environment.setenv(f"TIERCACHE_{name}", text)

    cache = TierCache.from_env()

    assert repr(cache) == "<TierCache new [L1 0/123 | L2 up | 0 loads in flight]>"
    assert cache._namespace == "shop"
    assert cache._policy == Policy(ttl="10m", l1_ttl="5s", grace="1h")
    assert cache._core.store is not None
    assert cache._core.store.bounds == L1(123, "1MiB")


@pytest.mark.parametrize(("text", "seconds"), [("300", 300), ("0.5", 0.5)])
def test_a_number_is_a_duration_in_seconds(
    environment: pytest.MonkeyPatch, text: str, seconds: float
) -> None:
    """A variable cannot say it but by a text."""
    environment.setenv("TIERCACHE_NAMESPACE", "shop")
    environment.setenv("TIERCACHE_TTL", text)
    environment.setenv("TIERCACHE_GRACE", "0")

    assert TierCache.from_env()._policy == Policy(ttl=seconds, grace=0)


def test_arguments_win_over_variables(environment: pytest.MonkeyPatch) -> None:
    """A test can override what the deployment says."""
    environment.setenv("TIERCACHE_NAMESPACE", "shop")

    assert TierCache.from_env(namespace="mine")._namespace == "mine"


def test_the_prefix_can_be_chosen(environment: pytest.MonkeyPatch) -> None:
    """Two caches of one service read different variables."""
    environment.setenv("SECOND_NAMESPACE", "second")
    environment.setenv("TIERCACHE_UNKNOWN", "x")

    assert TierCache.from_env(prefix="SECOND_")._namespace == "second"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TLL", "5s"),
        ("TTL", "soon"),
        ("TTL", "0"),
        ("L1_TTL", "-1s"),
        ("GRACE", ""),
        ("L1_MAX_ENTRIES", "many"),
        ("L1_MAX_ENTRIES", "0"),
        ("L1_MAX_BYTES", "64 parsecs"),
        ("ENABLED", "perhaps"),
        ("URL", "ftp://host"),
        ("NAMESPACE", ""),
    ],
)
def test_a_variable_that_cannot_be_used_is_refused(
    environment: pytest.MonkeyPatch, name: str, text: str
) -> None:
    """A misspelt variable must not be silently ignored."""
    environment.setenv("TIERCACHE_NAMESPACE", "shop")
    environment.setenv(f"TIERCACHE_{name}", text)

    with pytest.raises(ConfigurationError) as caught:
        TierCache.from_env()

    assert caught.value.hint
    if name not in {"URL", "NAMESPACE"}:  # which the constructor names
        assert f"TIERCACHE_{name}" in str(caught.value)


def test_a_missing_namespace_is_a_configuration_error(environment: pytest.MonkeyPatch) -> None:
    """Whoever deploys is told the variable, not a constructor's parameter."""
    with pytest.raises(ConfigurationError, match="TIERCACHE_NAMESPACE"):
        TierCache.from_env()


# Policies.


async def ttl_of(cache: TierCache, clock: FakeClock, **options: Any) -> float:
    """Return for how long a value is fresh."""
    source = Source()
    await cache.get_or_load("k", source.load, **options)
    await ticks()
    assert cache._core.store is not None
    (slot,) = cache._core.store
    return slot.header.fresh_until - clock.monotonic()


async def test_the_built_in_policy_is_five_minutes(alone: TierCache, clock: FakeClock) -> None:
    """With no jitter drawn."""
    assert await ttl_of(alone, clock) == 300


async def test_the_policy_of_the_cache_wins_over_the_built_in(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """What a call does not say is inherited."""
    cache = await make_cache(client=None, policy=Policy(ttl=10))

    assert await ttl_of(cache, clock) == 10


async def test_the_policy_of_a_call_wins_over_the_cache(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """Field by field."""
    cache = await make_cache(client=None, policy=Policy(ttl=10, jitter=0))

    assert await ttl_of(cache, clock, policy=Policy(ttl=20)) == 20


async def test_a_keyword_wins_over_the_policy_beside_it(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """The nearest word counts."""
    cache = await make_cache(client=None, policy=Policy(ttl=10))

    assert await ttl_of(cache, clock, policy=Policy(ttl=20), ttl=30) == 30


async def test_a_decorator_inherits_like_a_call(make_cache: MakeCache, clock: FakeClock) -> None:
    """Keyword, then its policy, then the cache's, then the built-in."""
    cache = await make_cache(client=None, policy=Policy(ttl=10, grace=5, early=2))
    value: Any = function_of(cache, Source(), policy=Policy(ttl=20, grace=7), ttl=30)

    limits = value.__tiercache__.family.limits

    assert (limits.ttl, limits.grace, limits.early, limits.load_limit) == (30, 7, 2, 30)


async def test_zero_counts_as_given(make_cache: MakeCache) -> None:
    """A literal 0 is no "unset"."""
    cache = await make_cache(client=None, policy=Policy(grace=5, early=2, jitter=0.5))
    value: Any = function_of(cache, Source(), grace=0, early=0, jitter=0)

    limits = value.__tiercache__.family.limits

    assert (limits.grace, limits.early, limits.jitter) == (0, 0, 0)


async def test_calls_with_many_policies_leave_nothing_behind(alone: TierCache) -> None:
    """A ttl that is computed per call must not grow the process."""
    for n in range(2000):
        await alone.set("k", 1, ttl=60 + n)

    assert len(alone._families._direct) <= 256
    assert len(alone._families.understood) <= 300
