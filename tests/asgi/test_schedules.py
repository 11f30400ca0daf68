"""Clients and an application that do whatever comes: drawn schedules, the same each time."""

import asyncio
from contextlib import suppress
from random import Random
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import settled
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Exchange, Pairs, begin
from tests.core.source import DEADLINE

START, BODY = "http.response.start", "http.response.body"
SHARED = [b"max-age=60", b"public, max-age=60", b"public, max-age=0", b"max-age=0"]
CONTROLS = [*SHARED, b"no-cache", b"private", b"no-store"]
SCHEDULES = 150
CLIENTS = 8


class Erratic:
    """An application whose answers are drawn.

    Args:
        draw: Where they come from.

    Attributes:
        contents: What it has begun to send, as a whole.
    """

    def __init__(self, draw: Random) -> None:
        self._draw = draw
        self.contents: set[bytes] = {b""}

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        """Answer, break off or raise, after a while."""
        draw = self._draw
        current = b"if-none-match" in dict(scope["headers"]) and draw.random() < 0.5
        parts = [] if current else [b"%d" % draw.randrange(10) * draw.randrange(400) for _ in "123"]
        self.contents.add(b"".join(parts))
        status = 304 if current else draw.choice([200, 200, 200, 404, 503])
        if status == 200 and b"range" in dict(scope["headers"]):
            status = draw.choice([200, 206])
        messages = [self._start(status, parts)]
        messages += [{"type": BODY, "body": part, "more_body": True} for part in parts]
        messages.append({"type": BODY})
        if draw.random() < 0.3:
            messages.insert(draw.randrange(2), {"type": "http.response.debug", "info": {}})
        fails = draw.random() < 0.2
        for message in messages[: draw.randrange(len(messages)) if fails else None]:
            await pause(draw)
            await send(message)
        if fails and draw.random() < 0.5:
            raise ZeroDivisionError

    def _start(self, status: int, parts: list[bytes]) -> dict[str, Any]:
        draw, fields = self._draw, [(b"cache-control", self._draw.choice(CONTROLS))]
        optional = [
            (b"etag", b'"a"'),
            (b"vary", draw.choice([b"accept", b"*", b"accept, cookie"])),
            (b"set-cookie", b"a=1"),
            (b"content-length", b"%d" % (sum(map(len, parts)) + draw.choice([0, 0, 1]))),
        ]
        fields += [each for each in optional if draw.random() < 0.3]
        if status == 206:
            fields.append((b"content-range", b"bytes 0-3/9"))
        return {"type": START, "status": status, "headers": fields}


async def pause(draw: Random) -> None:
    """Let others go on for some turns of the loop."""
    for _ in range(draw.randrange(4)):
        await asyncio.sleep(0)


async def visit(app: ResponseCache, draw: Random) -> tuple[Exchange, Pairs]:
    """Be a client: slow, gone early, or only for a part."""
    await pause(draw)
    optional = [
        ("accept", draw.choice("ab")),
        ("if-none-match", '"a"'),
        ("range", "bytes=0-3"),
        ("authorization", "x"),
    ]
    fields = [each for each in optional if draw.random() < 0.2]
    method = draw.choice(["GET", "GET", "GET", "GET", "HEAD", "POST"])
    reads, stays = draw.random() < 0.5, draw.random() < 0.8
    exchange = begin(app, *fields, method=method, reads=reads, stays=stays)
    assert exchange.task is not None
    await pause(draw)
    if draw.random() < 0.2:
        exchange.task.cancel()  # and whoever has not read by now never does
    else:
        await pause(draw)
        exchange.reads.set()
    with suppress(ZeroDivisionError, asyncio.CancelledError):
        async with asyncio.timeout(DEADLINE):
            await exchange.task
    return exchange, fields


def check(exchange: Exchange, fields: Pairs, contents: set[bytes]) -> None:
    """Hold what a client got against what the application has sent to anybody."""
    starts = [each for each in exchange.messages if each["type"] == START]
    assert len(starts) <= 1
    if not starts or not exchange.ended or starts[0]["status"] not in {200, 206}:
        return
    body = b"".join(each.get("body", b"") for each in exchange.messages)
    told = dict(starts[0]["headers"])
    if starts[0]["status"] == 206:
        assert ("range", "bytes=0-3") in fields
        assert b"content-range" in told
        contents = {*contents, *(each[:4] for each in contents)}
    if b"; hit" in told[b"cache-status"]:
        assert body in contents
        assert not body or told[b"content-length"] == b"%d" % len(body)
        assert b"private" not in told[b"cache-control"]
    elif ("range", "bytes=0-3") not in fields:
        assert any(each.startswith(body) for each in contents)


@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
async def test_whatever_clients_do_each_has_a_whole_response_and_nothing_is_left(
    profile: Any,
) -> None:
    """Nobody waits for one who has gone, gets another one's half, or leaves a task behind."""
    for schedule in range(SCHEDULES):
        draw = Random(schedule)
        origin = Erratic(draw)
        async with TierCache(namespace="schedules") as cache:
            app = ResponseCache(
                origin, cache=cache, max_body=1000, profile=profile, etags=draw.random() < 0.3
            )
            visits = await asyncio.gather(*(visit(app, draw) for _ in range(CLIENTS)))
            for exchange, fields in visits:
                check(exchange, fields, origin.contents)
            async with asyncio.timeout(DEADLINE):
                await settled(cache)
