"""The fault bench, in short: ours keeps its promises, and the bench sees when a cache does not."""

import asyncio
from pathlib import Path

import pytest

pytest.importorskip("asyncpg", reason="needs the extra demo")

from async_tiercache_integrations.cli.demo._servers import ServerError
from benchmarks import faults
from benchmarks._faults.cell import Outcome, Pace
from benchmarks._faults.crowd import Stampedes
from benchmarks._faults.faults import FAULTS
from benchmarks._faults.record import Record
from benchmarks._faults.table import line
from benchmarks._faults.tally import Tally, Violation
from benchmarks._faults.verdict import missed, void
from tests.needs import missing

PACE = Pace(lead=0.4, tail=0.4, rounds=1, share=0.05)
CELLS = [("ours", "client_kill", 0), ("ours", "stampede", 0), ("naive", "none", 0)]


@pytest.fixture(scope="module")
def outcomes() -> dict[tuple[str, str], Outcome]:
    """Return what three cells gave, by adapter and fault."""
    try:
        measured = asyncio.run(faults.measure(CELLS, PACE))
    except ServerError as error:
        missing(f"{error}: {error.hint}")
    return {(one.adapter, one.fault): one for one in measured}


@pytest.mark.redis
@pytest.mark.postgres
def test_ours_keeps_its_promises_while_its_bus_is_cut(
    outcomes: dict[tuple[str, str], Outcome],
) -> None:
    """Nothing late, nothing for ever, nothing back in time, no error: with loads that raced."""
    outcome = outcomes["ours", "client_kill"]

    assert missed(outcome) == []
    assert void(outcome, PACE) == []


@pytest.mark.redis
@pytest.mark.postgres
def test_ours_loads_once_for_a_crowd(outcomes: dict[tuple[str, str], Outcome]) -> None:
    """120 readers in three processes cost one load, cold and right after an invalidation."""
    outcome = outcomes["ours", "stampede"]

    assert outcome.stampedes == Stampedes(cold=[1], invalidated=[1])
    assert outcome.tally.errors == {}


@pytest.mark.redis
@pytest.mark.postgres
def test_bench_sees_what_a_cache_without_a_protocol_breaks(
    outcomes: dict[tuple[str, str], Outcome],
) -> None:
    """A dict, SETEX and a channel: stale stores, reads of what the process itself invalidated."""
    tally = outcomes["naive", "none"].tally

    assert tally.checked > 500
    assert tally.forever > 0
    assert tally.ryw > 0
    assert tally.nonmonotonic > 0


def an_outcome(fault: str, tally: Tally) -> Outcome:
    """Return an outcome of ours."""
    return Outcome(adapter="ours", fault=fault, seed=0, tally=tally)


@pytest.mark.parametrize(
    ("tally", "expected"),
    [
        (Tally(stale=7), []),
        (Tally(late=1, forever=2, ryw=3), ["late 1", "forever 2", "ryw 3"]),
        (Tally(hung=1, collateral=2), ["hung 1", "collateral 2"]),
        (Tally(errors={"ValueError: a": 1, "ValueError: b": 2}), ["errors 3"]),
    ],
    ids=["within the bound", "old", "lost", "errors"],
)
def test_verdict_names_each_bar_that_was_missed(tally: Tally, expected: list[str]) -> None:
    """Old within the bound is what was promised; anything else is not."""
    assert missed(an_outcome("none", tally)) == expected


def test_longest_read_counts_where_redis_hangs_only() -> None:
    """A read may wait for a load and half a second, and as long as it must for a dead holder."""
    tally = Tally(longest_read=0.7, longest_load=0.1)

    assert missed(an_outcome("none", tally)) == []
    assert missed(an_outcome("sigstop_redis", tally)) == ["longest read 0.70 s"]


def test_read_goes_back_in_time_by_right_only_while_redis_has_lost_something() -> None:
    """What the servers forgot is healed within a second, and must not show after it."""
    tally = Tally(nonmonotonic=2)
    for began in (11.5, 12.5):
        tally.violate(Violation("nonmonotonic", 0, 0, 1, 2, began))
    lost, kept = an_outcome("old_snapshot", tally), an_outcome("kill_redis", tally)
    lost.struck = kept.struck = (10.0, 11.0)

    assert missed(lost) == ["nonmonotonic 1"]
    assert missed(kept) == ["nonmonotonic 2"]


def test_cell_that_did_not_race_is_void() -> None:
    """Few reads, few races, or a fault that did not strike: no promise was put to the test."""
    counts = {"overtaken": 500, "detached": 500, "bypassed": 500}
    tally = Tally(checked=50_000, raced=500, counts=counts)
    full = Pace()

    assert void(an_outcome("sigstop_redis", tally), full) == []
    struck = an_outcome("client_kill", tally)
    struck.evidence = {"killed": 0}
    assert void(struck, full) == ["no killed"]
    quiet = void(an_outcome("sigstop_redis", Tally(checked=50_000)), full)
    assert [reason.split()[0] for reason in quiet] == ["raced", "overtaken", "detached", "bypassed"]


def test_tallies_of_processes_add_up_and_travel_as_json() -> None:
    """Counts are summed, of lengths the longest counts."""
    total = Tally(checked=1, longest_read=0.2, errors={"a": 1})
    total.add(Tally(checked=2, longest_read=0.1, errors={"a": 1, "b": 1}))
    total.violate(Violation("ryw", 0, 1, 2, 3, 4.0))

    assert (total.checked, total.longest_read, total.errors) == (3, 0.2, {"a": 2, "b": 1})
    assert Tally.from_json(total.as_json()) == total


def test_record_knows_across_processes_how_long_a_version_has_been_old(tmp_path: Path) -> None:
    """A version is old from the first moment that any newer one was acknowledged."""
    path = tmp_path / "record"
    Record.create(path)
    writer, reader = Record(path, 0), Record(path, 1)
    for version in (1, 2):
        writer.commit(5, version)
        writer.give_back(5, version, acknowledged=True)
    writer.give_back(5, 3, acknowledged=False)

    assert (reader.floor(5), reader.returned(5), reader.own_floor(5)) == (2, 3, 0)
    assert writer.own_floor(5) == 3
    assert reader.age(5, 0, 2, now=1e9) > reader.age(5, 1, 2, now=1e9)


def test_every_fault_has_a_line_in_the_table() -> None:
    """Names are short enough for their column, and every verdict can be spelled."""
    crowds = Stampedes(cold=[1], invalidated=[1], killed=[2], served=[1.0])
    for name in FAULTS:
        outcome = an_outcome(name, Tally())
        outcome.stampedes = crowds

        assert line(outcome, Pace()).startswith(f"ours {name} 0 ")
