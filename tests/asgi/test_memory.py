"""What requests and responses take of memory."""

import gc
import weakref
from typing import Any

import pytest

from async_tiercache import TierCache
from async_tiercache.http.stored import StoredResponse
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations._http_records import Variants
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Origin, fetch, raw, scope_of
from tests.conftest import MakeCache

FRESH = ("cache-control", "max-age=60")


@pytest.mark.parametrize("vary", [(), (("vary", "accept"),)])
async def test_a_request_that_has_made_a_response_leaves_no_garbage(
    make_cache: MakeCache, clock: FakeClock, vary: tuple[tuple[str, str], ...]
) -> None:
    """What it has held is freed at its end: the parts of a content are as large as that."""
    # Where there is L2 the loop keeps the contexts of deadlines that were cancelled.
    cache = await make_cache(client=None)

    class State:
        pass

    async def origin(scope: Any, receive: Any, send: Any) -> None:
        fields = raw([FRESH, ("etag", '"1"'), *vary])
        status = 304 if (b"if-none-match", b'"1"') in scope["headers"] else 200
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if status == 304 else b"hello"})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        pass

    app = ResponseCache(origin, cache=cache, clock=clock)
    await fetch(app, path="/other")
    held: list[weakref.ref[State]] = []
    gc.disable()
    try:
        for _ in ("stored", "validated"):
            state = State()
            held.append(weakref.ref(state))
            scope = {**scope_of("/page", "GET", ()), "state": state}
            await app(scope, receive, send)
            await settled(cache)
            del scope, state
            await clock.advance(61)
        await clock.advance(301)  # The clock has kept the limits of loads.

        assert [ref() for ref in held] == [None, None]
    finally:
        gc.enable()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_responses_from_l2_hold_once_what_they_have_in_common(
    cache: TierCache, other: TierCache, clock: FakeClock, method: str
) -> None:
    """In the memory of another server, too: their fields, and the names in `Vary`."""
    origin = Origin(FRESH, ("vary", "accept"))
    for holder, asked in ((cache, "GET"), (other, method)):
        server = ResponseCache(origin, cache=holder, clock=clock)
        for path in ("/1", "/2"):
            await fetch(server, path=path, method=asked)
        await settled(holder)

    assert origin.calls == 2
    assert other._core.store is not None
    records = [slot.value for slot in other._core.store]
    first, second = (each for each in records if isinstance(each, StoredResponse))
    assert all(mine is its for mine, its in zip(first.fields, second.fields, strict=True))
    assert first.control is second.control
    one, two = (each for each in records if isinstance(each, Variants))
    assert one.names is two.names
