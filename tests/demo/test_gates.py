"""The demo fails when a caller saw an error, or anything older than it may be."""

from collections.abc import Callable
from pathlib import Path

import pytest

from async_tiercache_integrations.cli.demo import _command, shop
from async_tiercache_integrations.cli.demo._gates import broken
from async_tiercache_integrations.cli.demo._measure import (
    Change,
    Pages,
    Phase,
    Results,
    Stampede,
)
from async_tiercache_integrations.cli.demo._run import STALENESS_BOUND, Options


def run() -> Results:
    """Return a run with reads that were old, but not too old."""
    killed = Phase("Redis killed", "", seconds=10.0)
    for answerer, seconds in (("l1", 2e-6), ("loader", 3e-3)):
        killed.tally.latency[answerer].add(seconds)  # type: ignore[index]
    killed.tally.checked = 2
    killed.tally.old_other.add(1.9)
    killed.tally.old_queued.add(60.0)
    return Results(phases=[killed], marks=[(1.0, "SIGKILL")], bound=2.0, margin=0.5)


def raised(results: Results) -> None:
    """Let a call raise."""
    results.phases[0].tally.fail(OSError())


def raised_in_a_stampede(results: Results) -> None:
    """Let a reader of a stampede see an error."""
    results.stampedes.append(Stampede(readers=10, loads=1, seconds=0.1, errors=1))


def own(results: Results) -> None:
    """Let a process read what is older than its own update."""
    results.phases[0].tally.old_own += 1


def late(results: Results) -> None:
    """Let a read be past the bound."""
    results.phases[0].tally.past_bound += 1


def test_what_is_old_within_the_bound_breaks_nothing() -> None:
    """Nor does what was read while Redis could not confirm."""
    assert broken(run()) == []


def page_failed(results: Results) -> None:
    """Let a request for a page fail."""
    pages_of(results).phases[0].tally.fail(OSError())


def page_failed_in_a_stampede(results: Results) -> None:
    """Let a client of a stampede see an error."""
    pages_of(results).stampedes.append(Stampede(readers=10, loads=1, seconds=0.1, errors=1))


def own_page(results: Results) -> None:
    """Let a server send what is older than a change that it had answered, under load."""
    pages_of(results).phases[0].tally.old_own += 1


def own_page_alone(results: Results) -> None:
    """Let it do so where nothing else happens."""
    pages_of(results).changes.append(Change(own=0.1, others=(0.1,), own_old=1, others_old=0))


def late_page(results: Results) -> None:
    """Let a page be past the bound, under load."""
    pages_of(results).phases[0].tally.past_bound += 1


def late_change(results: Results) -> None:
    """Let one of two other servers show a change too late."""
    pages_of(results).changes.append(Change(own=0.1, others=(2.4, 2.6), own_old=0, others_old=9))


def pages_of(results: Results) -> Pages:
    """Return the chapter about HTTP, made if it is missing."""
    results.pages = results.pages or Pages(phases=[Phase("Pages", "")], bound=2.0, margin=0.5)
    return results.pages


@pytest.mark.parametrize(
    "change",
    [
        raised,
        raised_in_a_stampede,
        own,
        late,
        page_failed,
        page_failed_in_a_stampede,
        own_page,
        own_page_alone,
        late_page,
        late_change,
    ],
)
def test_each_gate_is_broken_by_one(change: Callable[[Results], None]) -> None:
    """And is told with the number."""
    results = run()
    change(results)

    (words,) = broken(results)

    assert words.startswith("1 ")


def test_pages_that_are_old_within_the_bound_break_nothing() -> None:
    """Other servers have until then."""
    results = run()
    pages = pages_of(results)
    pages.changes.append(Change(own=0.01, others=(2.4,), own_old=0, others_old=9))
    pages.phases[0].tally.old_other.add(1.9)

    assert broken(results) == []


def test_reads_without_a_cache_are_no_part_of_it() -> None:
    """Whoever reads the database is as old as the snapshot that it got."""
    results = run()
    uncached = Phase("No cache", "", seconds=1.0)
    uncached.tally.latency["database"].add(0.05)
    uncached.tally.past_bound = 1
    results.phases.append(uncached)

    assert broken(results) == []


@pytest.mark.parametrize(("change", "code"), [(None, 0), (late, 1)])
def test_broken_gate_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    change: Callable[[Results], None] | None,
    code: int,
) -> None:
    """The report is written in any case."""
    results = run()
    if change is not None:
        change(results)

    async def done(*_: object) -> Results:
        return results

    monkeypatch.setattr(_command, "_until_signalled", done)
    report = tmp_path / "report.html"

    assert _command.run(Options(), report=report, live=False) == code
    assert report.exists()
    assert ("Broken" in capsys.readouterr().out) == bool(code)


def test_the_shop_has_the_bound_that_it_is_held_against() -> None:
    """The shop states it as users would, so it is said twice."""
    assert shop.cache._core.bus._bound == STALENESS_BOUND
