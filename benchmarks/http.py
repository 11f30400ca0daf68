"""What does a cached HTTP response cost, in units of an application that answers with constants?

In process each request is a call of the application, in processor time. Over sockets uvicorn serves
on a core of its own, to wrk from another, and a row is what one request takes of a server that is
always busy; so are the caches of others, each in a process of its own, and nginx and Varnish where
they are installed. All answer with the same kilobyte to what a browser sends.
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import import_module
from typing import Any, Final

from async_tiercache import TierCache
from async_tiercache.testing import settled
from async_tiercache_integrations.asgi import ResponseCache
from async_tiercache_integrations.cli.demo._claims import Claim, spell
from benchmarks import _http_marks
from benchmarks._apart import Group, Question, SkipGroup, require
from benchmarks._harness import Case, Effort, Result, Sweep, measure
from benchmarks._http_apps import BODY, ETAG, FIELDS, App, Behind, fastapi, raw, starlette
from benchmarks._http_driver import BROWSER, driver_name
from benchmarks._http_memory import fields_of, held_by
from benchmarks._http_requests import nobody, receive, scope_of
from benchmarks._http_sockets import NoHitsError, hall
from benchmarks._server import POLICY

URLS: Final = 100
RESPONSES: Final = 10_000
RAW: Final = "the raw application: constants, two sends"
IN_PROCESS: Final = "A response of 1 KB, in process"

HIT: Final = "L1 hit"
HIT_MANY: Final = f"L1 hit, {URLS} URLs"
UNCHANGED: Final = "L1 hit, 304 for If-None-Match"
UNCHANGED_SINCE: Final = "L1 hit, 304 for If-Modified-Since"
CHANGED: Final = "L1 hit, whole for If-None-Match with another tag"
CONDITIONS: Final = {
    UNCHANGED: ((b"if-none-match", ETAG), 304),
    UNCHANGED_SINCE: ((b"if-modified-since", dict(FIELDS)[b"date"]), 304),
    CHANGED: ((b"if-none-match", b'"5bf444d2"'), 200),
}
"""By what is asked, the field that asks it, and the status that answers it."""
FROM_L1: Final = "from L1"
FROM_L1_304: Final = "from L1, 304 for If-None-Match"
OVER_SOCKETS: Final = "A response of 1 KB, over sockets"


# In process.


def over(app: App, scopes: Sequence[dict[str, Any]]) -> Sweep:
    """Return a sweep of requests, each with a scope of its own, as a server makes them."""

    async def sweep(keys: Sequence[int]) -> None:
        for key in keys:
            await app(scopes[key].copy(), receive, nobody)

    return sweep


async def answer(app: App, scope: dict[str, Any]) -> tuple[int, dict[bytes, bytes], bytes]:
    """Return status, fields and content of what answers a request."""
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    await app(scope, receive, send)
    start, *parts = messages
    return start["status"], dict(start["headers"]), b"".join(each["body"] for each in parts)


@asynccontextmanager
async def cases(effort: Effort) -> AsyncGenerator[list[Case]]:
    """Set the calls up: the cache holds what is asked for, and what answers is what was meant."""
    behind = Behind()
    async with TierCache(namespace="bench", policy=POLICY) as cache:
        cached = ResponseCache(behind.app, cache=cache)
        scopes = [scope_of(number) for number in range(URLS)]
        for scope in scopes:
            await cached(scope, receive, nobody)
        await settled(cache)
        status, fields, body = await answer(cached, scopes[0])
        assert (status, body) == (200, BODY)
        assert fields.keys() >= {b"age", b"cache-status", b"vary", b"etag"}
        assert b"hit" in fields[b"cache-status"]
        asking: dict[str, tuple[App, list[dict[str, Any]], list[int]]] = {}
        requests = int(20_000 * effort.scale)
        one, many = [7] * requests, [number % URLS for number in range(requests)]
        for name, (field, meant) in CONDITIONS.items():
            asked = [scope_of(number, field) for number in range(URLS)]
            status, _, body = await answer(cached, asked[0])
            assert (status, body) == (meant, BODY if meant == 200 else b"")
            asking[name] = cached, asked, one

        def check() -> None:
            assert behind.made == URLS

        subjects: dict[str, tuple[App, list[dict[str, Any]], list[int]]] = {
            HIT: (cached, scopes, one),
            HIT_MANY: (cached, scopes, many),
            **asking,
            "Starlette, uncached": (starlette(), scopes, one[: requests // 4]),
            "FastAPI, uncached": (fastapi(), scopes, one[: requests // 4]),
        }
        timed = [
            Case(
                name=name,
                subject=over(app, asked),
                floor=over(raw, asked),
                floor_name=RAW,
                keys=keys,
                bars={"cpu": None},
                check=check,
            )
            for name, (app, asked, keys) in subjects.items()
        ]
        # Next to each other: they differ by less than two rounds may. No bar: where nothing is sent
        # a content costs nothing, and the request for a 304 has a field more.
        over_whole = replace(
            timed[2],
            name="a 304 beside a hit with its content",
            floor=over(cached, scopes),
            floor_name="L1 hit",
        )
        yield [*timed, over_whole]


async def in_process(effort: Effort) -> list[Claim | Result]:
    """Time the calls."""
    async with cases(effort) as asked:
        timed = await measure(asked, effort)
    return [*timed, *call_claims({result.case: result for result in timed})]


def call_claims(timed: Mapping[str, Result]) -> list[Claim]:
    """Hold what hits take against bars, given each case's times."""

    return [
        Claim(
            classical=IN_PROCESS,
            restated=f"{case}, beyond the raw application",
            measured=(timed[case].subject_ns.median - timed[case].floor_ns.median) / 1e9,
            bar=5e-6,
            unit="seconds",
        )
        for case in (HIT, HIT_MANY, *CONDITIONS)
    ]


# Over sockets.


async def sockets(effort: Effort) -> list[Claim | Result]:
    """Drive servers of our cache, and of applications without one."""
    async with hall() as here:
        l1, *others = await asyncio.gather(
            here.serve(FROM_L1, "l1"),
            here.serve("from L2, without L1", "l2", from_l2=True),
            here.serve("Starlette, uncached", "starlette"),
            here.serve("FastAPI, uncached", "fastapi"),
        )
        asking = {**BROWSER, "If-None-Match": ETAG.decode()}
        # A bar is held against it that leaves less room than two rounds differ by.
        l1 = replace(l1, repeats=3)
        unchanged = replace(l1, case=FROM_L1_304, fields=asking)
        timed = await here.measure([l1, unchanged, *others], effort)
    hits = {result.clock: result for result in timed if result.case == FROM_L1}
    unmodified = {result.clock: result for result in timed if result.case == FROM_L1_304}
    return [
        *timed,
        rate_claim(hits["cpu"], hits["wall"]),
        unmodified_claim(unmodified["cpu"], hits["cpu"]),
    ]


def rate_claim(cpu: Result, wall: Result) -> Claim:
    """Hold the rate of hits against that of the raw application, by the server's own time."""
    ours, bare = (spell(1e9 / each.median, "a second") for each in (wall.subject_ns, wall.floor_ns))
    return Claim(
        classical=OVER_SOCKETS,
        restated="Requests from L1 in a second of the server, of the raw application's",
        measured=1 / cpu.ratio.median,
        bar=0.85,
        unit="share",
        at_least=True,
        beside=f"to {driver_name()}, by the clock on the wall, {ours} of {bare}",
    )


def unmodified_claim(unmodified: Result, hit: Result) -> Claim:
    """Hold a 304 against a hit with its content, by the server's own time."""
    return Claim(
        classical=OVER_SOCKETS,
        restated="What a 304 from L1 takes of the server, of a hit with its content",
        measured=unmodified.ratio.median / hit.ratio.median,
        bar=1.0,
        unit="share",
    )


def rival(package: str, module: str, *apps: str) -> Question:
    """Return the group of another cache.

    Args:
        package: What must be installed.
        module: What must go with all the others that are.
        apps: Its settings in `_http_apps`.
    """

    async def driven(effort: Effort) -> list[Result]:
        require(package)
        try:
            import_module(module)
        except ImportError as error:
            raise SkipGroup(f"{package.replace('_', '-')} cannot be imported: {error}") from error
        async with hall() as here:
            served = await asyncio.gather(*(here.serve(f"{app}, a hit", app) for app in apps))
            try:
                return await here.measure(served, effort)
            except NoHitsError as error:
                raise SkipGroup(str(error)) from error

    return driven


def mark(name: str, program: str, command: _http_marks.Command) -> Question:
    """Return the group of a server in front of the raw application."""

    async def driven(effort: Effort) -> list[Result]:
        async with hall() as here:
            origin = await here.serve(f"{name}, a hit", "counted")
            front = _http_marks.in_front(here.sandbox, program, command, origin.port, here.core)
            async with front as port:
                return await here.measure([replace(origin, port=port, apart=True)], effort)

    return driven


# Memory.


async def memory(effort: Effort) -> list[Claim]:
    """Weigh 10,000 responses, or as many as a quick look allows."""
    responses = int(RESPONSES * min(1, effort.scale))
    claims: list[Claim] = []
    for varied in (False, True):
        size = len(BODY) + sum(len(name) + len(value) for name, value in fields_of(varied=varied))
        claims.append(
            Claim(
                classical=f"{responses:,} responses of 1 KB in L1",
                restated=f"Bytes a response, with{'' if varied else 'out'} Vary",
                measured=held_by(responses, varied=varied) / responses,
                bar=1.3 * size + 1024,
                unit="bytes",
                beside=f"{size:,} of them are fields and content",
            )
        )
    return claims


GROUPS: Final[dict[str, Group | Question]] = {
    "in process": in_process,
    "sockets": sockets,
    "hishel, SQLite": rival("hishel", "hishel.asgi", "hishel, SQLite"),
    "hishel, Redis": rival("hishel", "hishel.asgi", "hishel, Redis"),
    "starlette-caches": rival(
        "starlette_caches", "starlette_caches.middleware", "starlette-caches"
    ),
    "cashews": rival("cashews", "cashews.contrib.fastapi", "cashews"),
    "fastapi-cache2": rival("fastapi_cache", "fastapi_cache.decorator", "fastapi-cache2"),
    "nginx": mark("nginx, proxy_cache", "nginx", _http_marks.nginx),
    "Varnish": mark("Varnish", "varnishd", _http_marks.varnish),
    "memory": memory,
}
