"""The benchmarks' harness: what its figures mean, and what makes a run fail."""

import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from async_tiercache.codecs.msgpack import quick_unpack, unpack
from benchmarks import (
    batches,
    codecs,
    end_to_end,
    growth,
    hits,
    l2,
    misses,
    record,
    stampedes,
    telemetry,
)
from benchmarks.__main__ import main
from benchmarks._against import losses
from benchmarks._apart import GroupError, SkipGroup, measure_apart
from benchmarks._files import write
from benchmarks._harness import Case, Effort, Sweep, measure, zipf_keys
from benchmarks._machine import describe
from benchmarks._page import page
from benchmarks._service import Arrival
from benchmarks._suite import SUITE
from benchmarks.end_to_end import least
from tests.servers.waiting import until

ROOT = Path(__file__).parents[1]
FEWER_KEYS: dict[Any, dict[str, Any]] = {
    hits: {"L1_KEYS": 1_000},
    l2: {"KEYS": 100},
    growth: {"KEYS": (1_000, 2_000)},
}
"""By benchmark, what takes long to fill and is as good when it is small."""
EFFORT = Effort(rounds=3, scale=1.0)


def work(amount: int, swept: list[Sequence[int]] | None = None) -> Sweep:
    """Return a sweep that counts to `amount` for each key."""

    async def sweep(keys: Sequence[int]) -> None:
        for _key in keys:
            sum(range(amount))
        if swept is not None:
            swept.append(keys)

    return sweep


def fine() -> None:
    """Find nothing wrong."""


def case(subject: Sweep, *, bar: float | None = None, check: Callable[[], None] = fine) -> Case:
    """Return a case over a floor that does some work."""
    return Case(
        name="case",
        subject=subject,
        floor=work(2_000),
        floor_name="some work",
        keys=range(20),
        bars={"cpu": bar},
        check=check,
    )


@pytest.mark.parametrize(
    ("bar", "passed"), [(None, None), (1.5, False), (50.0, True)], ids=["no bar", "low", "high"]
)
async def test_bar_is_held_against_the_middle_ratio(bar: float | None, passed: bool | None) -> None:
    """A subject that does four times the floor's work passes a bar above its ratio only."""
    (result,) = await measure([case(work(8_000), bar=bar)], EFFORT)

    assert result.ratio.min <= result.ratio.median <= result.ratio.max
    assert result.ratio.median > 1.5
    assert result.passed is passed


async def test_each_round_sweeps_every_case_once_after_a_warm_up() -> None:
    """Cases take turns: none has the machine to itself for longer than a round."""
    swept: list[Sequence[int]] = []
    cases = [case(work(1, swept)) for _ in range(2)]

    results = await measure(cases, EFFORT)

    assert len(results) == 2
    assert len(swept) == 2 * (1 + EFFORT.rounds)


@pytest.mark.parametrize(("scale", "keys"), [(0.0, 125), (1e6, 1_000)], ids=["slow", "fast"])
async def test_a_sweep_takes_as_many_keys_as_there_is_time_for(scale: float, keys: int) -> None:
    """A slow library must not run for longer than a fast one, and is warmed up with an eighth."""
    swept: list[Sequence[int]] = []
    slow = replace(case(work(1, swept)), keys=range(1_000))

    await measure([slow], Effort(rounds=2, scale=scale))

    assert [len(each) for each in swept] == [125, keys, keys]


async def test_run_fails_when_something_else_was_timed() -> None:
    """A case whose check does not hold gives no figure."""

    def check() -> None:
        raise AssertionError("a loader ran")

    with pytest.raises(AssertionError, match="a loader ran"):
        await measure([case(work(1), check=check)], EFFORT)


async def test_telemetry_is_timed_on_hits_and_on_nothing_else() -> None:
    """Its own check counts the loads on both sides, and reads them from a scrape."""
    async with telemetry.l1(Effort(rounds=3, scale=0.01)) as cases:
        results = await measure(cases, EFFORT)

    assert {(result.clock, result.bar) for result in results} == {("cpu", 1.15)}


@pytest.mark.redis
@pytest.mark.parametrize("bench", [hits, l2, batches, misses, stampedes, growth, codecs])
async def test_each_case_can_be_swept(bench: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both of its sides; whether nothing else was timed is for a machine that is not busy."""
    for name, fewer in FEWER_KEYS.get(bench, {}).items():
        monkeypatch.setattr(bench, name, fewer)
    for group in bench.GROUPS.values():
        with suppress(SkipGroup):
            await swept(group)


async def swept(group: Any) -> None:
    """Sweep each side of each case of a group once.

    Raises:
        SkipGroup: It needs another library.
    """
    asked = group(Effort(rounds=1, scale=0.01))
    if not isinstance(asked, AbstractAsyncContextManager):
        assert all(math.isfinite(claim.measured) for claim in await asked)
        return
    async with asked as cases:
        for case in cases:
            await case.floor(case.keys)
            await case.subject(case.keys)

    assert len({case.name for case in cases}) == len(cases) > 0


def test_each_group_of_l2_unpacks_by_what_it_is_named_after() -> None:
    """And leaves things as they were."""
    assert quick_unpack() is not unpack
    with l2.by_msgpack():
        assert quick_unpack() is unpack
    with l2.by_msgspec():
        assert quick_unpack() is not unpack


async def test_a_service_sends_postgresql_what_it_must() -> None:
    """Its processes read what arrives, and no read fails."""
    statements, failed, median = await end_to_end.shop(Effort(rounds=1, scale=0.01))

    assert statements.measured > 0.5
    assert failed.measured == 0
    assert 0 < median.measured < 1


def test_the_least_is_a_read_after_each_end_of_a_value() -> None:
    """A row's first one, the first after its TTL, and the first after it was written."""
    item, other = ("item", 1), ("item", 2)

    def at(row: Any, *times: float) -> list[Any]:
        return [Arrival(time, row) for time in times]

    assert least(at(item, 0.0, 1.0, 2.0), [], ttl=5.0) == 1
    assert least(at(item, 0.0, 4.9, 5.0, 9.9), [], ttl=5.0) == 2
    assert least(at(item, 0.0, 2.0, 3.0) + at(other, 2.0), at(item, 1.0), ttl=5.0) == 3
    assert least(at(item, 0.0), at(item, 1.0, 2.0), ttl=5.0) == 1


@pytest.mark.parametrize(
    ("loads", "beyond", "holds"),
    [([1, 1, 1], [0.01, 0.02, 0.5], [True, True]), ([1, 2, 1], [0.03, 0.03, 0.0], [False, False])],
)
def test_a_crowd_is_judged_by_its_worst_load_and_its_middle_wait(
    loads: list[int], beyond: list[float], holds: list[bool]
) -> None:
    """One crowd with two loads is one too many."""
    assert [claim.holds for claim in stampedes.crowd_claims(loads, beyond)] == holds


def a_report(ratio: float, share: float, size: float, *, quick: bool = False) -> dict[str, Any]:
    """Return what a run writes: a ratio by two clocks, a share and a figure."""
    case = {"case": "L1 hit", "group": "l1", "ratio": {"median": ratio}}
    figure = {"classical": "L1", "restated": "Bytes an entry", "at_least": False}
    return {
        "quick": quick,
        "benches": {
            "hits": [case | {"clock": "cpu"}, case | {"clock": "wall"}],
            "ratios": [{"trace": "loop", "size": 10, "shares": {"ours": share}}],
            "memory": [figure | {"measured": size, "unit": "bytes"}],
        },
    }


def test_what_became_much_worse_is_told() -> None:
    """By more than machines and versions differ: each figure for itself, by processor time."""
    before = a_report(2.0, 0.6, 300.0)

    assert list(losses(before, before)) == []
    assert list(losses(a_report(3.5, 0.59, 350.0), before)) == []
    worse = list(losses(a_report(3.7, 0.57, 370.0), before))
    assert [line.split(":")[0] for line in worse] == ["hits", "ratios", "memory"]
    assert "3.70, was 2.00" in worse[0]
    assert list(losses(a_report(2.0, 0.1, 300.0, quick=True), before)) == []
    assert list(losses(a_report(9.0, 0.6, 300.0), {"quick": False, "benches": {}})) == []


def test_zipf_keys_are_the_same_in_every_run() -> None:
    """Two runs ask for the same keys, the most popular about twice as often as the next."""
    keys = zipf_keys(10_000, among=100)
    times = sorted((keys.count(key) for key in set(keys)), reverse=True)

    assert keys == zipf_keys(10_000, among=100)
    assert set(keys) <= set(range(100))
    assert 1.6 < times[0] / times[1] < 2.4


def test_command_lists_the_benchmarks() -> None:
    """It names each benchmark and the question it asks."""
    command = [sys.executable, "-m", "benchmarks", "--list"]
    output = subprocess.check_output(command, cwd=ROOT, text=True)

    lines = output.splitlines()
    names = {line.split()[0] for line in lines}
    assert names >= {"claims", "faults", *SUITE}
    assert all(line.endswith("?") for line in lines)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["hits", "--only", "l2"], "suite"),
        (["l2", "--html", "page.html"], "suite"),
        (["l2", "--against", str(record.FIGURES)], "suite"),
        (["--only", "speed"], "suite"),
        (["l2", "--group", "writes"], "no group of l2: msgpack, msgspec"),
        (["--json", "no such folder/figures.json"], "make it first"),
        (["--html", "."], "name a file in it"),
        (["--against", "no such file"], "a file that the suite has written"),
        (["record", "no such file"], "a file that the suite has written"),
        (["record", "pyproject.toml"], "is no JSON"),
        (["record", "tests/wire/manifest.json"], "no run of the whole suite"),
        (["ratios", "--traces", "no such folder"], "no folder"),
        (["ratios", "--json", "no such folder/figures.json"], "make it first"),
        (["behaviour", "--json", "no such folder/figures.json"], "make it first"),
        (["faults", "--json", "no such folder/figures.json"], "make it first"),
        (["faults", "--seeds", "0"], "1 or more"),
        (["faults", "--server", "no such program"], "no program"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_asked_is_refused(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything is measured, with what can be."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["benchmarks", *arguments])

    with pytest.raises(SystemExit) as ended:
        main()

    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_disk_is_told() -> None:
    """In a line, without the places in our code where it was found."""
    with pytest.raises(SystemExit, match="/dev/full was not written: No space left on device"):
        write(Path("/dev/full"), "figures")


def test_a_group_that_fails_is_told() -> None:
    """The suite goes on without its benchmark, and ends with 1."""
    with pytest.raises(GroupError, match="'no such group' failed"):
        measure_apart("hits", "no such group", quick=True)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="there is no /proc")
def test_ctrl_c_ends_a_run_and_what_it_has_started() -> None:
    """At once, without a traceback, with what shells report."""
    command = [sys.executable, "-m", "benchmarks", "--only", "memory"]
    run = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    with run:
        until(lambda: len(started_by(run.pid)) >= 2, "a group weighs something", limit=60)
        started = started_by(run.pid)

        run.send_signal(signal.SIGINT)
        _, errors = run.communicate()

    assert (run.returncode, errors) == (130, b"")
    until(lambda: not any(map(runs, started)), "both have ended")


def runs(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def started_by(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, children) for each in (child, *started_by(child))]


def test_the_suite_writes_figures_and_draws_them(tmp_path: Path) -> None:
    """Those that were asked for, each in a process of its own."""
    figures, drawn = tmp_path / "figures.json", tmp_path / "page.html"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--only", "batches,misses"]
    output = subprocess.check_output(
        [*command, "--json", str(figures), "--html", str(drawn)], cwd=ROOT, text=True
    )

    benches = json.loads(figures.read_text())["benches"]
    assert list(benches) == ["batches", "misses"]
    assert "==== misses" in output
    assert "in all; by benchmark, in seconds: batches " in output.splitlines()[-1]
    html = drawn.read_text()
    assert html.count("<svg") >= 1
    names = [result.get("case") or result["restated"] for result in benches["misses"]]
    assert all(name in html for name in names)


def test_the_page_draws_shares_and_tells_claims() -> None:
    """What is no ratio has its place, and no name is markup."""
    share = {"trace": "<loop>", "size": 10, "best": 0.5, "shares": {"ours": 0.25, "LRU": 0.1}}
    claim = {"restated": "so fast", "measured": 2.0, "bar": 1.0, "unit": "ms", "passed": False}

    drawn = page(describe(), {"x": ("Why?", [share, claim])})

    assert "&lt;loop&gt;, 10 entries" in drawn
    assert "25.0 %" in drawn
    assert "so fast: 2 ms, bar 1; fails" in drawn


def test_a_part_of_the_suite_is_put_on_record_beside_the_rest() -> None:
    """With what it was measured on; a whole run takes the place of everything."""
    one, other, later = ({"python": version} for version in ("3.11.0", "3.12.0", "3.13.0"))
    before = {"machine": one, "quick": False, "benches": {"hits": [1], "http": [2]}}
    part = {"machine": other, "quick": False, "benches": {"http": [3]}}
    whole = {"machine": later, "quick": False, "benches": {"http": [5], "hits": [4]}}

    mixed = record.beside(before, part)
    assert mixed["benches"] == {"hits": [1], "http": [3]}
    assert (mixed["machine"], mixed["apart"]) == (one, {"http": other})
    assert record.beside(mixed, whole) == whole
    for run in (part, whole):
        with pytest.raises(SystemExit, match="quick"):
            record.beside(before, {**run, "quick": True})


def test_the_page_shows_what_is_on_record() -> None:
    """Tables and picture are those that are written from it, and nobody has changed a figure."""
    report = record.recorded()
    page = record.PAGE.read_text(encoding="utf-8")

    assert record.page_with(page, report) == page
    assert record.picture_of(report) == record.PICTURE.read_text(encoding="utf-8")
    assert set(report["benches"]) == set(SUITE)
    assert report["quick"] is False
