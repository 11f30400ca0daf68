"""What developers are told of pages that hold what only their first client has sent."""

import asyncio
from typing import Any

import pytest

from async_tiercache import Advice
from async_tiercache.testing import FakeClock, Recorder
from async_tiercache_integrations.asgi import ResponseCache, Rule
from tests.asgi.client import Pairs, fetch, raw
from tests.conftest import MakeCache

FRESH = ("cache-control", "max-age=60")
EVIL = ("origin", "https://evil.example")


@pytest.fixture
async def debugged() -> Any:
    """Have the loop in its debug mode, as `python -X dev` does."""
    loop = asyncio.get_running_loop()
    before = loop.get_debug()
    loop.set_debug(True)
    yield
    loop.set_debug(before)


class Reflecting:
    """An application that says again what it was sent.

    Args:
        within: Whether in a field of its own, not in its content.
        fields: What its responses say besides.
    """

    def __init__(self, *fields: tuple[str, str], within: bool = False) -> None:
        self._fields = fields
        self._within = within

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        """Answer."""
        sent = b" ".join(value for _, value in scope["headers"])
        fields = [*raw(self._fields), (b"x-sent", sent if self._within else b"")]
        await send({"type": "http.response.start", "status": 200, "headers": fields})
        await send({"type": "http.response.body", "body": b"" if self._within else sent})


async def advised(
    make_cache: MakeCache, clock: FakeClock, app: Any, sent: Pairs, **more: Any
) -> list[str]:
    """Return what is said of a response to a request with these fields."""
    seen = Recorder()
    cache = await make_cache(observers=[seen])
    await fetch(ResponseCache(app, cache=cache, clock=clock, **more), *sent)
    return [each.message for each in seen.events if isinstance(each, Advice)]


@pytest.mark.usefixtures("debugged")
@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("x-forwarded-host", "evil.example"),
        ("x-forwarded-host", "example.org.evil.example"),
        ("origin", "https://evil.example"),
        ("x-original-url", "/account"),
        ("x-http-method-override", "DELETE"),
        ("cookie", "theme=dark; session=0123456789"),
        ("authorization-info", "user:ada"),
    ],
)
async def test_a_page_that_holds_what_is_in_no_key_is_told_of(
    make_cache: MakeCache, clock: FakeClock, name: str, value: str, *, within: bool
) -> None:
    """In the content or in a field: the first client has put that there for all others."""
    app = Reflecting(FRESH, within=within)

    (said,) = await advised(make_cache, clock, app, [(name, value)])

    assert repr(name) in said


@pytest.mark.usefixtures("debugged")
@pytest.mark.parametrize(
    ("said", "sent", "more"),
    [
        pytest.param([FRESH, ("vary", "Origin")], EVIL, {}, id="named"),
        pytest.param([], EVIL, {}, id="not stored"),
        pytest.param(
            [], EVIL,
            {"rules": [Rule("/{page:path}", ttl=60, strict=True)]}, id="hidden",
        ),
        pytest.param([FRESH], ("x-forwarded-host", "example.org"), {}, id="the host itself"),
        pytest.param([FRESH], ("referer", "https://example.org/a"), {}, id="a link to the site"),
        pytest.param([FRESH], ("x-forwarded-proto", "https"), {}, id="too short to tell"),
        pytest.param([FRESH], ("accept", "application/json"), {}, id="a type"),
    ],
)  # fmt: skip
async def test_nothing_is_said_of_what_is_right(
    make_cache: MakeCache, clock: FakeClock, said: Any, sent: tuple[str, str], more: Any
) -> None:
    """Or of what stands in pages anyway."""
    assert await advised(make_cache, clock, Reflecting(*said), [sent], **more) == []


async def test_nothing_is_looked_for_unless_in_debug_mode(
    make_cache: MakeCache, clock: FakeClock
) -> None:
    """It would cost each response that is made."""
    asyncio.get_running_loop().set_debug(False)

    assert (
        await advised(make_cache, clock, Reflecting(FRESH), [("origin", "https://a.example")]) == []
    )
