"""The command line of the demo: what it refuses, and what it shows wherever it is shown."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from async_tiercache.errors import ConfigurationError
from async_tiercache_integrations.cli import main
from async_tiercache_integrations.cli._output import show_what_can_be_shown, write
from async_tiercache_integrations.cli.demo._command import BROKEN, tell, view_on
from async_tiercache_integrations.cli.demo._live import LiveView
from async_tiercache_integrations.cli.demo._measure import Phase, Results

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@pytest.fixture
def results() -> Results:
    """Return what a run may find: a read that failed."""
    phase = Phase("Warm", "the same load goes on", seconds=1.0)
    phase.tally.errors["LookupError"] = 1
    return Results(bound=2.0, margin=0.5, phases=[phase])


def shown(width: int = 80) -> tuple[Console, io.StringIO]:
    """Return a console, and what is printed there."""
    page = io.StringIO()
    return Console(file=page, width=width), page


def test_a_place_without_a_folder_is_refused_before_anything_is_started(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report that cannot be written would be missed after a minute only."""
    monkeypatch.setattr(sys, "argv", ["tiercache", "demo", "--report", "no such folder/page.html"])

    with pytest.raises(SystemExit, match="2"):
        main()

    printed = capsys.readouterr()
    assert printed.out == ""
    assert "There is no folder no such folder\nHint: Make it" in printed.err


@needs_full
def test_a_full_disk_costs_the_report_and_not_the_figures(results: Results) -> None:
    """They are printed by then, and the error says what to do."""
    console, page = shown()

    with pytest.raises(ConfigurationError, match="/dev/full was not written: No space") as raised:
        tell(console, results, FULL)

    assert raised.value.hint.startswith("Make room")
    assert "Errors seen by callers: 1." in page.getvalue()
    assert "Broken: " in page.getvalue()


@needs_full
def test_a_file_that_was_written_in_part_is_removed(tmp_path: Path) -> None:
    """A page or a dictionary that ends in its middle is worse than none; a device stays."""
    resource = pytest.importorskip("resource")
    signal = pytest.importorskip("signal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        with pytest.raises(ConfigurationError, match=r"page\.html was not written: File too large"):
            write(tmp_path / "page.html", bytes(1_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    with pytest.raises(ConfigurationError):
        write(FULL, b"page")

    assert list(tmp_path.iterdir()) == []
    assert FULL.exists()


def test_a_report_may_be_anywhere(results: Results, tmp_path: Path) -> None:
    """With spaces and brackets in its name, which are no markup, and below another report."""
    report = tmp_path / "a page [bold] of mine.html"
    for _ in range(2):
        console, page = shown(width=20)

        assert tell(console, results, report) == BROKEN

        assert page.getvalue().endswith(f"Report: {report}\n")
        assert report.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


@pytest.mark.parametrize(
    ("terminal", "live", "drawn"),
    [("xterm", True, True), ("xterm", False, False), ("dumb", True, False)],
)
def test_a_live_view_is_drawn_where_that_can_be_done(
    terminal: str, live: bool, drawn: bool
) -> None:
    """Elsewhere plain lines tell of the run while it goes on."""
    console = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": terminal})

    assert isinstance(view_on(console, live=live), LiveView) is drawn


def test_what_an_encoding_has_not_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """It must not end a run whose figures are about to be shown."""
    page = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(page, encoding="ascii"))

    show_what_can_be_shown()

    sys.stdout.write("≤ 5 µs\n")
    sys.stdout.flush()
    assert page.getvalue() == b"? 5 ?s\n"
