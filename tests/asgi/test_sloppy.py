"""Applications that speak ASGI sloppily: what is meant is heeded, and what breaks is not kept."""

import asyncio
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock
from async_tiercache_integrations.asgi import ResponseCache, Rule
from tests.asgi.client import begin, fetch

START, BODY = "http.response.start", "http.response.body"
RULES = [Rule("/{page:path}", ttl=60)]
FRESH = (b"cache-control", b"max-age=60")


class Sloppy:
    """An application that sends these messages.

    Attributes:
        calls: How many requests there were.
    """

    def __init__(self, *messages: dict[str, Any]) -> None:
        self._messages = messages
        self.calls = 0

    async def __call__(self, _: Any, __: Any, send: Any) -> None:
        """Answer."""
        self.calls += 1
        for message in self._messages:
            await send(message)


def start(*fields: Any, status: int = 200) -> dict[str, Any]:
    """Return the beginning of a response."""
    return {"type": START, "status": status, "headers": fields}


def part(body: Any = b"x", **more: Any) -> dict[str, Any]:
    """Return a part of its content."""
    return {"type": BODY, "body": body, **more}


@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
@pytest.mark.parametrize(
    "field",
    [
        pytest.param(("cache-control", "private"), id="texts"),
        pytest.param((b"Cache-Control", "no-store"), id="a text"),
        pytest.param((bytearray(b"CACHE-CONTROL"), memoryview(b"private")), id="buffers"),
        pytest.param(["Cache-Control", "private"], id="a list"),
    ],
)
async def test_what_forbids_to_store_is_seen_in_whatever_it_comes(
    cache: TierCache, clock: FakeClock, profile: Any, field: Any
) -> None:
    """Some servers take texts, and send them to clients as they were meant."""
    origin = Sloppy(start(field), part())
    app = ResponseCache(origin, cache=cache, clock=clock, profile=profile, rules=RULES)

    for _ in range(2):
        found = await fetch(app)
        assert (found.status, found.hit, found.body) == (200, False, b"x")
    assert origin.calls == 2


async def test_texts_are_stored_as_what_they_are(cache: TierCache, clock: FakeClock) -> None:
    """No server would take them from the cache again."""
    origin = Sloppy(start(("Cache-Control", "max-age=60"), ("X-Name", "a")), part())
    app = ResponseCache(origin, cache=cache, clock=clock)
    await fetch(app)

    found = await fetch(app)

    assert found.hit
    assert (b"x-name", b"a") in found.messages[0]["headers"]


@pytest.mark.parametrize("profile", ["origin-safe", "rfc9111"])
@pytest.mark.parametrize(
    "field",
    [
        pytest.param((b"cache-control ", b"private"), id="a name that servers mend"),
        pytest.param((b"", b"a"), id="no name"),
        pytest.param((b"x: a\r\nset-cookie", b"a=1"), id="a field in a name"),
        pytest.param((b"x", b"a\r\nset-cookie: session=1"), id="a field in a value"),
        pytest.param((b"x", b"a\ncache-control: private"), id="a bare line feed"),
        pytest.param((b"x", b"a\rb"), id="a bare carriage return"),
        pytest.param((b"x", b"a\x00b"), id="a null"),
    ],
)
async def test_what_may_be_read_as_another_field_is_not_stored(
    cache: TierCache, clock: FakeClock, profile: Any, field: Any
) -> None:
    """Else one request poisons a page: with a cookie, or with what its server refuses to send."""
    origin = Sloppy(start(FRESH, field), part())
    app = ResponseCache(origin, cache=cache, clock=clock, profile=profile, detail=True)

    first, second = await fetch(app), await fetch(app)

    assert first.fields["cache-status"] == "tiercache; fwd=uri-miss; detail=malformed"
    assert not second.hit


@pytest.mark.parametrize(
    ("messages", "kept"),
    [
        pytest.param([start(FRESH), {"type": BODY}], True, id="neither body nor more_body"),
        pytest.param(
            [start(FRESH), part(b"", more_body=True), part(more_body=True), part(b"")],
            True,
            id="empty parts",
        ),
        pytest.param([start(FRESH), part(), part(b"more")], True, id="more after the end"),
        pytest.param([start(FRESH), start(FRESH), part()], False, id="two beginnings"),
        pytest.param(
            [start(FRESH, status=103), start(FRESH), part()], False, id="hints as a beginning"
        ),
        pytest.param(
            [{"type": "http.response.early_hint", "links": list[bytes]()}, start(FRESH), part()],
            True,
            id="early hints",
        ),
        pytest.param(
            [start(FRESH), part(more_body=True), {"type": "http.response.trailers"}],
            False,
            id="trailers that were not announced",
        ),
        pytest.param([part(), start(FRESH), part()], True, id="content ahead of its beginning"),
        pytest.param([start(FRESH, status=204), part()], False, id="content that none may have"),
        pytest.param([start(FRESH, status=304), part(b"")], False, id="304 unasked"),
        pytest.param([start(FRESH, status=206), part()], False, id="a part unasked"),
        pytest.param([start(FRESH), part(more_body=True)], False, id="no end"),
        pytest.param([start(FRESH)], False, id="no content"),
        pytest.param([], False, id="nothing"),
        pytest.param(
            [start(FRESH, (b"content-length", b"1"), (b"content-length", b"2")), part()],
            False,
            id="two lengths",
        ),
        pytest.param(
            [start(FRESH, (b"content-length", b"+1")), part()], False, id="a length that is none"
        ),
    ],
)
async def test_messages_in_an_odd_order_are_passed_on(
    cache: TierCache, clock: FakeClock, messages: list[Any], *, kept: bool
) -> None:
    """What follows the end of what is kept has no place any more; the rest is the server's."""
    origin = Sloppy(*messages)
    app = ResponseCache(origin, cache=cache, clock=clock)

    sent = await begin(app).done()
    await begin(app).done()

    expected = [each["type"] for each in messages]
    if kept and messages[-1].get("body") == b"more":
        del expected[-1]
    assert [each["type"] for each in sent.messages] == expected
    assert origin.calls == (1 if kept else 2)


async def test_what_was_sent_may_be_written_into(cache: TierCache, clock: FakeClock) -> None:
    """An application has one message and one buffer; its client is slow, and gets what was sent."""
    written = asyncio.Event()

    async def application(_: Any, __: Any, send: Any) -> None:
        buffer = bytearray(2)
        await send(start(FRESH))
        message = part(memoryview(buffer), more_body=True)
        for text in (b"aa", b"bb", b"cc"):
            buffer[:] = text
            await send(message)
        message["more_body"] = False
        await send(message)
        message.clear()
        buffer[:] = b"??"
        written.set()

    app = ResponseCache(application, cache=cache, clock=clock)
    slow = begin(app, reads=False)
    await written.wait()
    slow.reads.set()

    assert (await slow.done()).body == b"aabbcccc"
    found = await fetch(app)
    assert (found.hit, found.body) == (True, b"aabbcccc")


@pytest.mark.parametrize("condition", [(), (("if-none-match", '"a"'),)])
async def test_early_hints_to_who_does_not_read_hold_nobody_up(
    cache: TierCache, clock: FakeClock, condition: Any
) -> None:
    """What comes ahead of a response is its first client's; the others wait for the response."""
    hints = {"type": "http.response.early_hint", "links": list[bytes]()}
    origin = Sloppy(hints, start(FRESH, (b"etag", b'"b"')), part())
    app = ResponseCache(origin, cache=cache, clock=clock)
    slow = begin(app, *condition, reads=False)
    other = begin(app)

    assert (await other.done()).body == b"x"
    slow.reads.set()
    await slow.done()
    assert [each["type"] for each in slow.messages] == [hints["type"], START, BODY]
    assert origin.calls == 1
