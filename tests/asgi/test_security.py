"""Nobody gets what was made for somebody else, and nobody fills the memory."""

import asyncio
import itertools
from contextvars import ContextVar
from typing import Any

import pytest

from async_tiercache import L1, TierCache
from async_tiercache.http.negotiation import encodings
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations._http_keys import _REMEMBERED, Bounded
from async_tiercache_integrations.asgi import ResponseCache, Rule
from tests.asgi.client import Origin, Pairs, begin, fetch, raw
from tests.conftest import MakeCache
from tests.core.source import ticks

USERS = ("ada", "bob")
HOSTS = ("one.example", "two.example")
FRESH = ("cache-control", "max-age=60")
PUBLIC = ("cache-control", "max-age=60, public")


class Echo:
    """An application that answers with all that it is shown of its client.

    Attributes:
        fields: What its responses say.
    """

    def __init__(self, *fields: tuple[str, str]) -> None:
        self.fields = fields

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer."""
        fields, status = [*self.fields], 200
        if b"range" in dict(scope["headers"]):
            fields, status = [*fields, ("content-range", "bytes 0-8/9")], 206
        await send({"type": "http.response.start", "status": status, "headers": raw(fields)})
        await send({"type": "http.response.body", "body": echoed(scope["headers"])})


def echoed(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return what is made of some fields."""
    return b"\n".join(b": ".join(field) for field in sorted(headers))


async def answers(
    app: ResponseCache, names: tuple[str, ...], *more: tuple[str, str], **options: Any
) -> list[tuple[bytes, bytes]]:
    """Return what each client got, and what it should have got; each asks twice, in turn."""
    clients = [
        [(name, f"{name}-of-{user}") for name in names] + [("host", host), *more]
        for user, host in itertools.product(USERS, HOSTS)
    ]
    found: list[tuple[bytes, bytes]] = []
    for fields in clients + clients[::-1]:
        exchange = await fetch(app, *fields, host=None, **options)
        found.append((exchange.body, echoed(raw(fields))))
    return found


@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
@pytest.mark.parametrize(
    ("names", "said"),
    [
        pytest.param((), [FRESH], id="hosts"),
        pytest.param(("authorization",), [FRESH], id="credentials"),
        pytest.param(("authorization", "cookie"), [FRESH], id="credentials and cookies"),
        pytest.param(("cookie",), [FRESH, ("vary", "cookie")], id="cookies that are named"),
        pytest.param(("cookie",), [("cache-control", "private, max-age=60")], id="private"),
        pytest.param(("cookie",), [("cache-control", "Private=x, max-age=60")], id="Private=x"),
        pytest.param(("cookie",), [("cache-control", "no-store")], id="no-store"),
        pytest.param(("cookie",), [FRESH, ("vary", " * ")], id="depends on anything"),
        pytest.param(("x-forwarded-host",), [FRESH, ("vary", "X-Forwarded-Host")], id="forwarded"),
        pytest.param(("x-forwarded-host", "cookie"), [], id="silent"),
    ],
)
async def test_clients_are_told_apart(
    cache: TierCache, clock: FakeClock, profile: Any, names: tuple[str, ...], said: Any
) -> None:
    """Two users of two hosts, whose responses say what they must; parts of them, too."""
    app = ResponseCache(Echo(*said), cache=cache, clock=clock, profile=profile)

    for more in ([("range", "bytes=0-8")], []):
        for got, meant in await answers(app, names, *more):
            assert got == meant


@pytest.mark.parametrize(
    ("names", "said"),
    [
        pytest.param(("authorization",), [PUBLIC], id="credentials, although it is public"),
        pytest.param(("cookie",), [PUBLIC, ("set-cookie", "a=1")], id="a new cookie"),
        pytest.param(("cookie",), [("cache-control", 'max-age=60, private="x"')], id="a field"),
        pytest.param(("cookie",), [("cdn-cache-control", "max-age=60")], id="another cache's"),
        pytest.param(
            ("cookie",),
            [("tiercache-cache-control", "max-age=60"), ("cache-control", "private")],
            id="private for others",
        ),
    ],
)
async def test_clients_are_told_apart_on_doubt(
    cache: TierCache, clock: FakeClock, names: tuple[str, ...], said: Any
) -> None:
    """By default, where the RFCs allow more."""
    app = ResponseCache(Echo(*said), cache=cache, clock=clock)

    for got, meant in await answers(app, names):
        assert got == meant


async def test_what_is_not_in_the_key_is_not_in_the_page(
    cache: TierCache, clock: FakeClock
) -> None:
    """With a strict rule (4.2: X-Forwarded-Host, X-Original-URL, a method override, a cookie)."""
    names = ("x-forwarded-host", "x-original-url", "x-http-method-override", "cookie", "origin")
    app = ResponseCache(
        Echo(), cache=cache, clock=clock, rules=[Rule("/{page:path}", ttl=60, strict=True)]
    )

    for got, _ in await answers(app, names):
        assert got in {b"host: one.example", b"host: two.example"}


@pytest.mark.parametrize("hosts", [("one.example", "evil"), ("evil", "one.example")])
async def test_two_hosts_are_not_one_of_them(
    cache: TierCache, clock: FakeClock, hosts: tuple[str, str]
) -> None:
    """The application may take the one for which the response is not stored."""
    app = ResponseCache(Echo(FRESH), cache=cache, clock=clock)
    await fetch(app, *[("host", host) for host in hosts], host=None)

    for host in hosts:
        found = await fetch(app, ("host", host), host=None)
        assert found.body == echoed(raw([("host", host)]))


async def test_hosts_that_are_made_up_have_no_pages(cache: TierCache, clock: FakeClock) -> None:
    """Where those that are meant are named; they are answered all the same."""
    app = ResponseCache(
        Echo(FRESH), cache=cache, clock=clock, detail=True,
        hosts=["Shop.example", "shop.example:8443", "[::1]:8000"],
    )  # fmt: skip

    for host in ("shop.example", "SHOP.example:443", "shop.example:8443", "[::1]:8000"):
        await fetch(app, host=host)
        assert (await fetch(app, host=host)).hit
    for other in ("evil.example", "shop.example:8000", "shop.example.", "", None):
        for _ in range(2):
            passed = await fetch(app, host=other)
            assert passed.fields["cache-status"] == "tiercache; fwd=bypass; detail=host"


@pytest.mark.parametrize("path", ["/account/a.css", "/account;a.css", "/account/%2f..%2fa.css"])
async def test_what_looks_like_a_file_is_a_page(
    cache: TierCache, clock: FakeClock, path: str
) -> None:
    """No path makes a silent response shared: web cache deception."""
    rules = [Rule("/assets/{name}", ttl=60), Rule("/{name}.css", ttl=60)]
    app = ResponseCache(Echo(), cache=cache, clock=clock, rules=rules)

    for got, meant in await answers(app, ("cookie",), path=path):
        assert got == meant


class Pages:
    """An application that has another content for who asks for data, not for the page."""

    def __init__(self, *fields: tuple[str, str]) -> None:
        self.fields = fields

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer."""
        data = (
            dict(scope["headers"]).get(b"rsc") == b"1" or b"_payload.json" in scope["query_string"]
        )
        start = {"type": "http.response.start", "status": 200, "headers": raw(self.fields)}
        await send(start)
        await send({"type": "http.response.body", "body": b"data" if data else b"page"})


@pytest.mark.parametrize(
    ("said", "rules", "attacked"),
    [
        pytest.param([FRESH, ("vary", "RSC")], [], b"data", id="it is named"),
        pytest.param([], [Rule("/{page:path}", ttl=60, strict=True)], b"page", id="it is hidden"),
        pytest.param(
            [], [Rule("/{page:path}", ttl=60, strict=True, vary=["rsc"])], b"data", id="it is both"
        ),
    ],
)
async def test_a_field_that_chooses_other_content_does_not_poison_the_page(
    cache: TierCache, clock: FakeClock, said: Any, rules: list[Rule], attacked: bytes
) -> None:
    """CVE-2024-46982, CVE-2026-44576: the attacker's variant was stored under the page's key."""
    app = ResponseCache(Pages(*said), cache=cache, clock=clock, rules=rules)

    for _ in range(2):
        assert (await fetch(app, ("rsc", "1"))).body == attacked
        assert (await fetch(app)).body == b"page"
    assert (await fetch(app)).hit


async def test_a_query_that_chooses_other_content_does_not_poison_the_page(
    cache: TierCache, clock: FakeClock
) -> None:
    """CVE-2025-27415: `/?/_payload.json` was stored for `/` by a cache that ignored queries."""
    app = ResponseCache(Pages(FRESH), cache=cache, clock=clock)

    for _ in range(2):
        assert (await fetch(app, query="/_payload.json")).body == b"data"
        assert (await fetch(app)).body == b"page"


@pytest.mark.parametrize("vary", [(), (("vary", "accept-encoding"),)])
@pytest.mark.parametrize("asked", ["gzip;q=", ";;;", "\\", '"', "gzip;q=9;q=1", "x" * 9000])
async def test_no_malformed_field_leads_around_what_is_stored(
    cache: TierCache, clock: FakeClock, asked: str, vary: Any
) -> None:
    """CVE-2024-35296: a malformed `Accept-Encoding` had each request sent to the origin."""
    app = ResponseCache(
        Pages(FRESH, *vary), cache=cache, clock=clock,
        normalise={"accept-encoding": encodings("gzip")},
    )  # fmt: skip
    await fetch(app)

    assert (await fetch(app, ("accept-encoding", asked))).hit


async def test_who_waits_for_a_validation_gets_nothing_of_another_client(
    cache: TierCache, clock: FakeClock
) -> None:
    """Although what is asked about was for all."""
    gate = asyncio.Event()
    gate.set()
    said = [FRESH, ("etag", '"a"')]

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await gate.wait()
        await send({"type": "http.response.start", "status": 200, "headers": raw(said)})
        await send({"type": "http.response.body", "body": dict(scope["headers"])[b"x-user"]})

    app = ResponseCache(application, cache=cache, clock=clock)
    await fetch(app, ("x-user", "all"))
    await settled(cache)
    await clock.advance(61)
    gate.clear()
    said[0] = ("cache-control", "private, max-age=60")
    clients = [begin(app, ("x-user", user)) for user in USERS]
    await ticks()
    gate.set()

    assert [(await each.done()).body.decode() for each in clients] == list(USERS)


async def test_tenants_share_no_response(make_cache: MakeCache, clock: FakeClock) -> None:
    """Of one URL, on one host; and what one of them changes ends nothing of the others."""
    tenant: ContextVar[str] = ContextVar("tenant")

    async def page(_: Any, __: Any, send: Any) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": raw([FRESH])}
        await send(start)
        await send({"type": "http.response.body", "body": tenant.get().encode()})

    cache = await make_cache(tenant=tenant.get)
    app = ResponseCache(page, cache=cache, clock=clock)
    for name in ("acme", "initech", "acme", "initech"):
        tenant.set(name)
        assert (await fetch(app)).body == name.encode()
    await settled(cache)
    await fetch(app, method="POST")
    assert not (await fetch(app)).hit
    tenant.set("acme")
    assert (await fetch(app)).hit


# Floods.


async def test_made_up_queries_do_not_drive_out_what_is_asked_for(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """They are asked for once; memory is bounded."""
    cache = await make_cache(client=None, l1=L1(max_entries=100))
    app = ResponseCache(Echo(FRESH), cache=cache, clock=clock)
    for _ in range(3):
        await fetch(app, path="/wanted")
    for number in range(1000):
        await fetch(app, query=f"q={number}")
        if number % 10 == 0:
            assert (await fetch(app, path="/wanted")).hit

    assert cache.statistics().l1_entries <= 100


def test_what_is_remembered_of_keys_is_bounded() -> None:
    """The oldest is forgotten."""
    bounded: Bounded[int, int] = Bounded()
    for number in range(_REMEMBERED + 5):
        bounded.add(number, number)

    assert len(bounded) == _REMEMBERED
    assert next(iter(bounded)) == 5


@pytest.mark.parametrize("names", ["cookie", "cookie, accept"])
async def test_long_texts_of_clients_are_not_remembered(
    cache: TierCache, clock: FakeClock, names: str
) -> None:
    """They are found all the same, and no more variants than were allowed."""
    app = ResponseCache(Echo(FRESH, ("vary", names)), cache=cache, clock=clock, max_variants=2)
    keys, long = app._origin.keys, "x" * 600

    for number in range(4):
        for again in (False, True):
            found = await fetch(app, ("cookie", f"{number}{long}"), query=long)
            assert found.hit is (again and number < 2)
    assert not (await fetch(app, ("cookie", "short"), query=long)).hit
    assert not (await fetch(app, ("cookie", "short"), query=long)).hit

    assert not keys.of_urls
    (known,) = keys.of_variants.values()
    assert len(known) == 2
    assert len(repr((known.first, known.others))) < 300

    for _ in range(2):
        await fetch(app, ("cookie", f"0{long}"))
        await settled(cache)
    assert (await fetch(app, ("cookie", f"0{long}"))).hit
    (way,) = keys.of_urls.values()
    assert not way.value


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param([("expires", "Sun, 21 Nov 2286 04:46:39 GMT")], id="a far end"),
        pytest.param(
            [
                ("date", "Mon, 01 Jan 1900 00:00:00 GMT"),
                ("expires", "Fri, 01 Jan 2038 00:00:00 GMT"),
            ],
            id="a far beginning",
        ),
        pytest.param(
            [("cache-control", "max-age=2147483648, stale-while-revalidate=2147483648")],
            id="two longest times",
        ),
    ],
)
async def test_no_lifetime_is_too_long(cache: TierCache, fields: Pairs) -> None:
    """More than an entry may last: the response is stored for as long as one may."""
    app = ResponseCache(Origin(*fields), cache=cache)

    first = await fetch(app)
    await settled(cache)

    assert (first.status, first.body) == (200, b"hello")
    assert (await fetch(app)).hit
