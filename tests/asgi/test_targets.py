"""What a request is for, as servers tell it, and what else of its origin a change names."""

from typing import Any
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from async_tiercache import TierCache
from async_tiercache.tags import checked_tags
from async_tiercache.testing import FakeClock, settled
from async_tiercache_integrations._http_records import group_tag
from async_tiercache_integrations.asgi import ResponseCache
from tests.asgi.client import Origin, fetch

FRESH = ("cache-control", "max-age=60")
TEXT = st.text(st.characters(max_codepoint=255) | st.sampled_from(":/%"), max_size=5)


@pytest.fixture
def origin() -> Origin:
    """Return an application whose responses are fresh for a minute."""
    return Origin(FRESH)


@pytest.fixture
def app(origin: Origin, cache: TierCache, clock: FakeClock) -> ResponseCache:
    """Return it behind a cache."""
    return ResponseCache(origin, cache=cache, clock=clock)


@pytest.mark.parametrize("raw_path", [{}, {"raw_path": None}, {"raw_path": b""}])
async def test_paths_are_told_apart_though_no_server_says_how_they_were_sent(
    app: ResponseCache, raw_path: dict[str, Any]
) -> None:
    """`raw_path` is optional in ASGI, and a decoded path may hold what ends one that was sent."""

    async def server(scope: Any, receive: Any, send: Any) -> None:
        del scope["raw_path"]
        await app({**scope, **raw_path}, receive, send)

    paths = ["/a", "/a?b", "/a?c", "/a%3Fb", "/é", "/%C3%A9"]
    for path in paths:
        assert not (await fetch(server, path=path)).hit
    for path in paths:
        assert (await fetch(server, path=path)).hit
    await fetch(server, path="/a?b", method="POST")

    assert [path for path in paths if not (await fetch(server, path=path)).hit] == ["/a?b"]


@pytest.mark.parametrize(
    ("host", "changed", "location", "path"),
    [
        ("example.org", "/items", "https://example.org:443/items/7", "/items/7"),
        ("example.org:443", "/items", "https://example.org/items/7", "/items/7"),
        ("example.org:443", "/items", "7", "/7"),
        ("example.org:8080", "/items", "HTTPS://EXAMPLE.org:8080/items/7#top", "/items/7"),
        ("example.org", "/caf%C3%A9/", "7", "/caf%C3%A9/7"),
        ("example.org", "/%E6%97%A5/", "7", "/%E6%97%A5/7"),
        ("example.org", "/a%2Fb/", "7", "/a%2Fb/7"),
        ("example.org", "/a%3Fb/", "./7", "/a%3Fb/7"),
    ],
)
async def test_a_change_names_a_url_in_any_spelling_of_its_origin(
    app: ResponseCache, origin: Origin, host: str, changed: str, location: str, path: str
) -> None:
    """With the port of its scheme or without; relative to the path as it was sent."""

    async def server(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "path": unquote(scope["path"])}, receive, send)

    await fetch(server, path=path, host=host)
    assert (await fetch(server, path=path, host=host)).hit
    origin.fields = [("location", location)]
    await fetch(server, path=changed, host=host, method="POST")

    assert not (await fetch(server, path=path, host=host)).hit


@pytest.mark.parametrize(
    ("sent", "seen", "other"),
    [
        pytest.param("/a", "/de/a", "/en/a", id="something is put in front"),
        pytest.param("/a", "/a", "/beta/a", id="for some clients only"),
        pytest.param("/shop/a", "/a", "/shop/a", id="something is taken away"),
        pytest.param("/a", "/b", "/c", id="another path"),
        pytest.param("/a%2Fb", "/de/a/b", "/en/a/b", id="encoded"),
    ],
)
async def test_paths_that_were_rewritten_outside_are_told_apart(
    app: ResponseCache, sent: str, seen: str, other: str
) -> None:
    """`raw_path` stays as it was sent, as ASGI has it; the application answers by `path`."""

    async def rewriting(scope: Any, receive: Any, send: Any) -> None:
        path = other if (b"x-other", b"1") in scope["headers"] else seen
        await app({**scope, "path": path}, receive, send)

    for fields in ([], [("x-other", "1")]):
        assert not (await fetch(rewriting, *fields, path=sent)).hit
        assert (await fetch(rewriting, *fields, path=sent)).hit
    await fetch(rewriting, path=sent, method="POST")

    assert not (await fetch(rewriting, path=sent)).hit


@pytest.mark.parametrize(
    ("add", "cut"),
    [("/de", ""), ("", "/shop"), ("", "")],
)
async def test_a_change_names_a_url_whose_path_is_rewritten(
    app: ResponseCache, origin: Origin, add: str, cut: str
) -> None:
    """By what it is to clients."""

    async def rewriting(scope: Any, receive: Any, send: Any) -> None:
        path = add + unquote(scope["path"]).removeprefix(cut)
        await app({**scope, "path": path}, receive, send)

    named = f"{cut}/items/caf%C3%A9"
    await fetch(rewriting, path=named)
    assert (await fetch(rewriting, path=named)).hit
    origin.fields = [("location", named)]
    await fetch(rewriting, path=f"{cut}/items", method="POST")

    assert not (await fetch(rewriting, path=named)).hit


async def test_a_path_that_no_server_sends_has_a_response(app: ResponseCache) -> None:
    """Of what no encoding has, where nothing tells how it was sent."""
    paths = {"/a": "/\udcff", "/b": "/\ud800"}

    async def server(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "path": paths[scope["path"]], "raw_path": None}, receive, send)

    for path in ("/a", "/b"):
        assert not (await fetch(server, path=path)).hit
        assert (await fetch(server, path=path)).hit


@pytest.mark.parametrize("location", ["https://example.org:8443/a", "http://example.org:443/a"])
async def test_a_change_of_another_origin_is_nobodys_to_name(
    app: ResponseCache, origin: Origin, location: str
) -> None:
    """Only the port of the scheme is no difference."""
    await fetch(app, path="/a")
    origin.fields = [("location", location)]
    await fetch(app, path="/change", method="POST")

    assert (await fetch(app, path="/a")).hit


async def test_a_change_may_name_more_groups_than_a_value_may_have_tags(
    app: ResponseCache, origin: Origin, cache: TierCache
) -> None:
    """All of them end, and the URL itself."""
    for number in (0, 99):
        origin.fields = [FRESH, ("cache-groups", f'"g{number}"')]
        await fetch(app, path=f"/{number}")
    await settled(cache)
    groups = ", ".join(f'"g{number}"' for number in range(100))
    origin.fields = [("cache-group-invalidation", groups)]
    assert (await fetch(app, path="/0", method="POST")).status == 200

    assert not (await fetch(app, path="/0")).hit
    assert not (await fetch(app, path="/99")).hit


@pytest.mark.parametrize(
    ("scheme", "host", "group", "ends"),
    [
        ("https", "example.org", "g", True),
        ("https", "EXAMPLE.org:443", "g", True),
        ("https", "example.org", "G", False),
        ("https", "example.org:8443", "g", False),
        ("https", "example.com", "g", False),
        ("http", "example.org", "g", False),
        ("http", "example.org:443", "g", False),
    ],
)
async def test_a_change_ends_the_groups_of_its_origin_only(
    app: ResponseCache, origin: Origin, scheme: str, host: str, group: str, *, ends: bool
) -> None:
    """Which is scheme, host and port (RFC 9875, 2), in any spelling."""

    async def server(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "scheme": scheme}, receive, send)

    origin.fields = [FRESH, ("cache-groups", '"g"')]
    await fetch(app, path="/list")
    origin.fields = [("cache-group-invalidation", f'"{group}"')]
    await fetch(server, path="/item", method="PUT", host=host)

    assert (await fetch(app, path="/list")).hit is not ends


@given(TEXT, TEXT, TEXT, TEXT)
def test_no_two_groups_share_a_tag(origin: str, group: str, other: str, another: str) -> None:
    """Wherever the origin ends and the group begins; and all of them can be a tag."""
    first, second = group_tag(origin, group), group_tag(other, another)

    assert (first == second) is ((origin, group) == (other, another))
    assert checked_tags([first]) == (first,)
    assert group_tag("a/b", "c") != group_tag("a", "b/c")
    assert group_tag("a:1", "x") != group_tag("a", "1:x")
