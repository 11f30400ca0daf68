"""Clients of pages read what a server sends, and the chapter finds what is old."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from async_tiercache import Read
from async_tiercache.errors import MissingExtraError
from async_tiercache_integrations.cli.demo import _server, _visitors
from async_tiercache_integrations.cli.demo._answers import Answer, current, note
from async_tiercache_integrations.cli.demo._connection import Connection, PageError
from async_tiercache_integrations.cli.demo._measure import Pages
from async_tiercache_integrations.cli.demo._pages import changed, check_packages
from async_tiercache_integrations.cli.demo._setting import Setting
from async_tiercache_integrations.cli.demo._visitors import Visitors, reserved
from async_tiercache_integrations.cli.demo._workload import Sizes

SIZES = Sizes(users=10, products=20, orders=10)


def answer(body: bytes = b"", *, status: str = "200 OK", version: int = 1) -> bytes:
    """Return a response as a server sends it."""
    fields = f'ETag: "{version}.abc"\r\nX-Tier: l1\r\nContent-Length: {len(body) or 7}\r\n'
    return f"HTTP/1.1 {status}\r\n{fields}\r\n".encode() + body


class Shop:
    """A server of pages that a test rules.

    Attributes:
        answers: Makes the response to a request; nothing hangs up.
        requests: The requests that came.
        connections: How many connections were made.
    """

    def __init__(self, answers: Callable[[bytes], bytes]) -> None:
        self.answers = answers
        self.requests: list[bytes] = []
        self.connections = 0
        self.enough = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        self.connections += 1
        try:
            while request := await _request(reader):
                self.requests.append(request)
                if len(self.requests) >= 60:
                    self.enough.set()
                if not (response := self.answers(request)):
                    return
                writer.write(response)
        finally:
            writer.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
    _, found, length = head.partition(b"Content-Length: ")
    return head + (await reader.readexactly(int(length.split(b"\r\n")[0])) if found else b"")


@asynccontextmanager
async def serving(answers: Callable[[bytes], bytes]) -> AsyncIterator[tuple[Shop, int]]:
    """Run such a server; yield it and its port."""
    shop = Shop(answers)
    server = await asyncio.start_server(shop.serve, "127.0.0.1", 0)
    async with server:
        yield shop, server.sockets[0].getsockname()[1]


def versioned(*, truthful: bool) -> Callable[[bytes], bytes]:
    """Return what answers pages and changes of them; untruthful, pages never change."""
    versions: dict[bytes, int] = {}

    def answers(request: bytes) -> bytes:
        product = request.split(b" ")[1].split(b"/")[2]
        if request.startswith(b"POST"):
            versions[product] = versions.get(product, 1) + 1
            return answer(b'{"version": %d}' % versions[product])
        version = versions.get(product, 1) if truthful else 1
        if b"If-None-Match" in request:
            return answer(status="304 Not Modified", version=version)
        return answer(b'{"a": 1}', version=version)

    return answers


# The connection.


async def test_a_connection_is_kept_for_the_next_request() -> None:
    """A 304 has no content, whatever length it tells."""
    responses = iter([answer(status="304 Not Modified"), answer(b"page", version=3)])
    async with serving(lambda _: next(responses)) as (shop, port), Connection(port) as client:
        first = await client.get("/products/1", b'"1.abc"')
        second = await client.get("/products/1")

    assert (first.status, first.body) == (304, b"")
    assert (second.status, second.body, second.version) == (200, b"page", 3)
    assert b'If-None-Match: "1.abc"' in shop.requests[0]
    assert b"If-None-Match" not in shop.requests[1]
    assert shop.connections == 1


@pytest.mark.parametrize(
    "broken",
    [b"", b"HTTP/1.1 200 OK\r\n\r\n", b"nonsense\r\n\r\n", answer(b"x", status="500 No")],
    ids=["hangs up", "no length", "no HTTP", "an error"],
)
async def test_what_is_no_page_is_an_error_and_the_next_request_connects_anew(
    broken: bytes,
) -> None:
    """What may still come on a connection is no answer to the next request."""
    responses = iter([broken, answer(b"page")])
    async with serving(lambda _: next(responses)) as (shop, port), Connection(port) as client:
        with pytest.raises(PageError):
            await client.get("/products/1")
        response = await client.get("/products/1")

    assert response.body == b"page"
    assert shop.connections == 2


def test_servers_send_the_parts_of_a_response_at_once() -> None:
    """Asyncio turns Nagle's algorithm off only for a socket that names its protocol."""
    with _server._listening() as listening:
        assert listening.proto == socket.IPPROTO_TCP


# What clients count.


@pytest.mark.parametrize("truthful", [True, False])
async def test_visitors_find_pages_older_than_an_answered_change(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, truthful: bool
) -> None:
    """A server that has answered a change must show it."""
    monkeypatch.setattr(_visitors, "CHANGES", 0.5)
    async with serving(versioned(truthful=truthful)) as (shop, port):
        visitors = Visitors(setting(tmp_path, port))
        await visitors.obey({"do": "start", "users": 4})
        await asyncio.wait_for(shop.enough.wait(), 10)
        await visitors.obey({"do": "stop"})
        tally = visitors.take()
        visitors.close()

    assert tally.errors == {}
    assert tally.requests == len(shop.requests)
    assert (tally.old_own > 0) == (not truthful)
    assert tally.latency["l1"].count == tally.checked == tally.reads
    assert 0 < tally.not_modified < tally.reads


async def test_visitors_count_what_fails_and_go_on(tmp_path: Path) -> None:
    """An error ends no visit."""
    async with serving(lambda _: answer(b"x", status="503 No")) as (shop, port):
        visitors = Visitors(setting(tmp_path, port))
        await visitors.obey({"do": "start", "users": 30})
        await asyncio.wait_for(shop.enough.wait(), 10)
        await visitors.obey({"do": "stop"})
        tally = visitors.take()
        visitors.close()

    assert tally.errors == {"PageError": len(shop.requests)}
    assert tally.reads == 0


async def test_clients_of_a_stampede_ask_for_one_report_on_all_servers(tmp_path: Path) -> None:
    """Those who see an error are counted."""
    bad = b"HTTP/1.1 500 No\r\nContent-Length: 1\r\n\r\nx"
    async with (
        serving(lambda _: answer(b"x")) as (good, one),
        serving(lambda _: bad) as (failing, two),
    ):
        visitors = Visitors(setting(tmp_path, one, two))
        seconds = await visitors.obey({"do": "stampede", "readers": 9, "region": 2, "at": 0.0})
        tally = visitors.take()
        visitors.close()

    asked = {request.split(b" ")[1] for request in good.requests + failing.requests}
    assert len(asked) == 1
    assert (len(good.requests), len(failing.requests)) == (5, 4)
    assert tally.errors == {"PageError": 4}
    assert seconds > 0


def setting(folder: Path, *ports: int) -> Setting:
    """Return what clients of these servers are told."""
    return Setting(
        number=0, database_url="", boards=str(folder / "boards"), seen="", sizes=SIZES,
        oldest=2.5, ports=ports,
    )  # fmt: skip


def test_a_setting_survives_json(tmp_path: Path) -> None:
    """It is an argument of a process."""
    told = setting(tmp_path, 1, 2)

    assert Setting.from_json(told.as_json()) == told


# Price changes.


def late_by(asked: int) -> Callable[[bytes], bytes]:
    """Return what answers with the old page so many times after a page of before."""
    pages = iter([1] * (1 + asked))

    def answers(request: bytes) -> bytes:
        if request.startswith(b"POST"):
            return answer(b'{"version": 2}')
        return answer(b"page", version=next(pages, 2))

    return answers


async def test_a_change_counts_the_old_pages_of_each_server() -> None:
    """Those of the server that made it apart."""
    async with (
        serving(late_by(2)) as (_, own),
        serving(late_by(3)) as (_, late),
        serving(late_by(0)) as (_, soon),
        Connection(own) as one,
        Connection(late) as two,
        Connection(soon) as three,
    ):
        pages = Pages(bound=2.0, margin=0.5)
        change = await changed([two, one, three], 1, reserved(SIZES, 0), b"{}", pages)

    assert (change.own_old, change.others_old) == (2, 3)
    assert len(change.others) == 2


async def test_a_server_that_never_shows_a_change_is_given_up() -> None:
    """It is then past the bound."""
    never = versioned(truthful=False)
    async with serving(never) as (_, port), Connection(port) as one, Connection(port) as two:
        pages = Pages(bound=0.0, margin=0.0)
        pages.changes.append(await changed([one, two], 0, reserved(SIZES, 0), b"{}", pages))

    assert pages.past_bound == 1
    assert pages.old_own == 1


def test_reserved_articles_are_drawn_by_nobody() -> None:
    """A price change finds its article as the last one left it."""
    ids = {reserved(SIZES, number) for number in range(50)}

    assert ids == set(range(SIZES.products - _visitors.RESERVED + 1, SIZES.products + 1))


# What is imported, and when.


def test_who_answered_a_page_is_not_who_answered_what_it_shows() -> None:
    """Only reads of responses are noted for it."""
    token = current.set(Answer(about="http:"))
    try:
        for key in ("http:1", "article:7"):
            note(Read("f", key, "l2", "fresh", joined=False, seconds=0.1))
        noted = current.get()
    finally:
        current.reset(token)

    assert noted is not None
    assert noted.read is not None
    assert noted.read.key == "http:1"


@pytest.mark.parametrize("package", ["fastapi", "uvicorn"])
def test_a_missing_package_is_told_with_the_extra_that_has_it(
    monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    """Before anything is started."""
    monkeypatch.setitem(sys.modules, package, None)

    with pytest.raises(MissingExtraError, match=rf"--http.*'{package}'") as missing:
        check_packages()

    assert "async-tiercache[demo]" in missing.value.hint


def test_the_demo_itself_imports_no_framework() -> None:
    """Only the servers of pages do."""
    program = (
        "import sys\n"
        "from async_tiercache_integrations.cli.demo import _command, _worker, _visitors\n"
        "print({'fastapi', 'starlette', 'uvicorn', 'pydantic'} & set(sys.modules))"
    )

    assert subprocess.check_output([sys.executable, "-c", program], text=True) == "set()\n"
