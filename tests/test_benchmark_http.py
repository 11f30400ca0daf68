"""The benchmark of HTTP responses: what is asked, what is driven, and from figures to verdicts."""

import asyncio
import math
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from benchmarks import _http_apps, _table, http
from benchmarks._apart import SkipGroup, measure_here
from benchmarks._harness import ClockName, Effort, Result, Spread
from benchmarks._http_driver import CONNECTIONS, DriverError, answered_of, ask, drive
from benchmarks._http_requests import scope_of

LOOK = Effort(rounds=1, scale=0.01)
PRINTED = """Running 1s test @ http://127.0.0.1:8000/products/7
  1 threads and 32 connections
  2101 requests in 0.10s, 2.61MB read
Requests/sec:  20795.38
Transfer/sec:     25.84MB
"""


def a_result(case: str, floor: float, subject: float, clock: ClockName = "cpu") -> Result:
    """Return a figure whose rounds were all alike."""
    ratio = subject / floor
    return Result(
        case=case,
        clock=clock,
        floor_name="floor",
        floor_ns=Spread(floor, floor, floor),
        subject_ns=Spread(subject, subject, subject),
        ratio=Spread(ratio, ratio, ratio),
        bar=None,
        passed=None,
    )


@pytest.mark.redis
@pytest.mark.parametrize("name", http.GROUPS)
async def test_each_group_finds_figures(name: str) -> None:
    """Its own checks see that nothing but hits was driven; what is missing is left out."""
    with suppress(SkipGroup):
        asked = http.GROUPS[name](LOOK)
        assert not hasattr(asked, "__aenter__")
        for found in await asked:
            figure = found.ratio.median if isinstance(found, Result) else found.measured
            assert math.isfinite(figure)
            assert figure > 0


async def test_calls_are_answered_from_the_cache_and_by_frameworks() -> None:
    """With the same kilobyte, of which a client that has it gets nothing."""
    async with http.cases(LOOK) as cases:
        for case in cases:
            await case.floor(case.keys)
            await case.subject(case.keys)
            case.check()

    assert len({case.name for case in cases}) == 8
    answers = [
        await http.answer(app, scope_of(7))
        for app in (_http_apps.raw, _http_apps.starlette(), _http_apps.fastapi())
    ]
    assert {(status, body) for status, _, body in answers} == {(200, _http_apps.BODY)}
    assert len(_http_apps.BODY) == 1024


@pytest.mark.parametrize(
    ("hit", "unchanged", "holds"),
    [(5_400.0, 5_000.0, [True] * 5), (5_600.0, 5_400.0, [False, False, True, True, True])],
    ids=["below", "above"],
)
def test_calls_are_judged_by_what_they_take_beyond_the_floor(
    hit: float, unchanged: float, holds: list[bool]
) -> None:
    """Each for itself."""
    timed = {
        http.HIT: a_result(http.HIT, 500, hit),
        http.HIT_MANY: a_result(http.HIT_MANY, 500, hit),
        **{case: a_result(case, 500, unchanged) for case in http.CONDITIONS},
    }

    assert [claim.holds for claim in http.call_claims(timed)] == holds


@pytest.mark.parametrize(("subject", "holds"), [(40.0, True), (48.0, False)])
def test_servers_are_judged_by_their_own_time(subject: float, holds: bool) -> None:
    """The clock on the wall stands beside it."""
    cpu, wall = a_result("l1", 40, subject), a_result("l1", 50_000, 200_000, "wall")

    claim = http.rate_claim(cpu, wall)

    assert claim.holds is holds
    assert "5,000/s of 20,000/s" in claim.beside


@pytest.mark.parametrize(("unmodified", "holds"), [(27.0, True), (49.0, False)])
def test_a_304_is_held_against_a_hit(unmodified: float, holds: bool) -> None:
    """Each was timed beside a floor of its own."""
    claim = http.unmodified_claim(a_result("304", 30, unmodified), a_result("hit", 60, 96))

    assert claim.holds is holds


def test_what_wrk_prints_is_read() -> None:
    """The rate comes from there: its time of the run has two digits only."""
    assert answered_of(PRINTED) == (2101, 20795.38)


@pytest.mark.parametrize(
    "printed",
    [
        "",
        PRINTED + "  Non-2xx or 3xx responses: 7\n",
        PRINTED + "  Socket errors: connect 0, read 3, write 0, timeout 0\n",
    ],
    ids=["nothing", "errors", "no answers"],
)
def test_what_was_not_answered_gives_no_figure(printed: str) -> None:
    """An error is answered faster than a response."""
    with pytest.raises(DriverError, match="wrk has said"):
        answered_of(printed)


@asynccontextmanager
async def answering(answer: bytes) -> AsyncGenerator[tuple[int, list[bytes]]]:
    """Yield the port of a server that knows one answer, and what it has been asked."""
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                writer.write(answer)
                await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1], asked


async def test_without_wrk_a_client_of_our_own_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Over as many connections, each with one request at a time."""
    pytest.importorskip("httptools")
    monkeypatch.setenv("PATH", "")
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"

    async with answering(answer) as (port, asked):
        answered = await drive(port, 0.01, {"Accept": "text/plain"})
        assert answered.requests == len(asked) >= CONNECTIONS

    assert answered.rate > 0
    assert all(b"\r\nAccept: text/plain\r\n" in request for request in asked)


async def test_an_error_is_no_answer() -> None:
    """Neither to the client of our own."""
    pytest.importorskip("httptools")
    answer = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"

    async with answering(answer) as (port, _):
        with pytest.raises(DriverError, match="lost"):
            await ask(port, {})


def test_ratios_stand_above_claims_in_one_table() -> None:
    """A group may have both."""

    async def both(_: Effort) -> list[Any]:
        return [a_result(http.FROM_L1, 50, 75), http.rate_claim(*[a_result("l1", 50, 75)] * 2)]

    shown = _table.group("sockets", measure_here(both, LOOK)).splitlines()

    assert "floor: floor" in shown[0]
    assert shown[2].startswith("from L1 ")
    assert "1.50 [1.50 .. 1.50]" in shown[2]
    assert shown[3] == "A response of 1 KB, over sockets:"
    assert "FAILS" in shown[4]
