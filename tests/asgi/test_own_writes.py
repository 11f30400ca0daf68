"""A client that has changed something is answered with nothing older, by no server."""

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal

import pytest

from async_tiercache import TierCache
from async_tiercache.testing import FakeClock, MemoryServer, settled
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Exchange, Origin, fetch
from tests.conftest import MakeCache
from tests.core.wire import MESSAGE, Wire

FRESH = ("cache-control", "max-age=60")
COOKIE = re.compile(r"tiercache-token=([\w-]+); Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure")


@dataclass
class Deaf:
    """A server to which no message comes, with a page in its memory."""

    cache: TierCache
    app: ResponseCache
    origin: Origin


@pytest.fixture(params=["cookie", "header"])
def by(request: pytest.FixtureRequest) -> Any:
    """Return how tokens are carried."""
    return request.param


@pytest.fixture
async def deaf(
    make_cache: MakeCache, server: MemoryServer, clock: FakeClock, by: Literal["cookie", "header"]
) -> AsyncIterator[Deaf]:
    """Return the server that has not heard."""
    wire = Wire(server)
    cache = await make_cache(client=wire.client)
    origin = Origin(FRESH, ("surrogate-key", "price"))
    app = ResponseCache(origin, cache=cache, clock=clock, read_your_writes=by)
    await fetch(app, path="/tea")
    await settled(cache)
    wire.hold_reply(MESSAGE)
    origin.parts = [b"new"]
    yield Deaf(cache, app, origin)
    wire.let_pass(MESSAGE)


def carried(answer: Exchange, by: str) -> tuple[str, str]:
    """Return what the client's next request brings along."""
    if by == "header":
        return "tiercache-token", answer.fields["tiercache-token"]
    found = COOKIE.fullmatch(answer.fields["set-cookie"])
    assert found is not None
    return "cookie", f"a=1; tiercache-token={found[1]}; b=2"


@pytest.mark.parametrize("where", ["url", "repository"])
async def test_a_client_finds_what_it_has_changed(
    deaf: Deaf, other: TierCache, clock: FakeClock, by: Any, where: str
) -> None:
    """Whether the middleware has ended it, or the application; others wait for the message."""
    shop = Origin()
    app = ResponseCache(shop, cache=other, clock=clock, read_your_writes=by)

    async def change() -> None:
        await other.invalidate(tags=["price"])

    shop.within = change if where == "repository" else None
    path = "/tea" if where == "url" else "/prices"
    changed = await fetch(app, path=path, method="POST")

    assert (await fetch(deaf.app, path="/tea")).body == b"hello"
    own = await fetch(deaf.app, carried(changed, by), path="/tea")
    assert (own.body, own.hit) == (b"new", False)


async def test_a_failed_change_of_which_a_part_was_made_is_told_as_well(
    deaf: Deaf, other: TierCache, clock: FakeClock, by: Any
) -> None:
    """What was invalidated was invalidated."""
    shop = Origin()
    shop.status = 500
    app = ResponseCache(shop, cache=other, clock=clock, read_your_writes=by)
    assert not {"set-cookie", "tiercache-token"} & {*(await fetch(app, method="POST")).fields}

    async def change() -> None:
        await other.invalidate(tags=["price"])

    shop.within = change
    changed = await fetch(app, method="POST")
    assert (await fetch(deaf.app, carried(changed, by), path="/tea")).body == b"new"


@pytest.mark.parametrize("text", ["", "nonsense", "A" * 3000, "a b", "\xff"])
async def test_what_is_no_token_says_nothing(deaf: Deaf, by: Any, text: str) -> None:
    """Anybody can send it."""
    field = ("cookie", f"tiercache-token={text}") if by == "cookie" else ("tiercache-token", text)

    assert (await fetch(deaf.app, field, path="/tea")).hit


async def test_no_token_is_given_unless_that_is_asked_for(
    deaf: Deaf, other: TierCache, clock: FakeClock
) -> None:
    """And none to those who only read."""
    app = ResponseCache(Origin(FRESH), cache=other, clock=clock)
    assert "set-cookie" not in (await fetch(app, method="POST")).fields
    for method in ("GET", "HEAD", "OPTIONS"):
        fields = (await fetch(deaf.app, method=method)).fields
        assert not {"set-cookie", "tiercache-token"} & {*fields}
