"""The report shows what was measured, alone, on any screen, and without running anything."""

import re
from html.parser import HTMLParser
from io import StringIO
from typing import ClassVar
from xml.etree import ElementTree as ET

import pytest
from rich.console import Console

from async_tiercache_integrations.cli.demo import _pages_words, _report
from async_tiercache_integrations.cli.demo._claims import claims
from async_tiercache_integrations.cli.demo._measure import (
    Answerer,
    Change,
    Pages,
    Phase,
    Point,
    Results,
    Stampede,
    Tally,
)
from async_tiercache_integrations.cli.demo._pages import CACHED, KILLED, PLAIN
from async_tiercache_integrations.cli.demo._summary import sentences, summary
from async_tiercache_integrations.cli.demo._wording import duration, percent


def phase(name: str, number: int, **reads: tuple[int, float]) -> Phase:
    """Return a phase of ten seconds with (count, seconds) reads for each tier."""
    made = Phase(name, f"about {name}", began_at=number * 10.0, seconds=10.0)
    answerers: tuple[Answerer, ...] = ("l1", "l2", "loader", "database")
    for answerer in answerers:
        count, seconds = reads.get(answerer, (0, 0.0))
        for _ in range(count):
            made.tally.latency[answerer].add(seconds)
    made.tally.checked = made.tally.reads
    made.statements = made.tally.latency["loader"].count + made.tally.latency["database"].count
    made.database_seconds = made.statements * 0.01
    made.points = [Point(made.began_at + at, 100.0 * number + at, 50.0) for at in range(1, 10)]
    return made


@pytest.fixture
def results() -> Results:
    """A small run with a figure for everything."""
    warm = phase("Warm", 1, l1=(80, 2e-6), l2=(10, 4e-4), loader=(10, 3e-3))
    warm.tally.first = 10
    warm.tally.old_other.add(1.25)
    warm.tally.old_queued.add(1.5)
    warm.tally.queued = 7
    warm.tally.bus_lags = {"0.005": 9, "inf": 1}
    return Results(
        phases=[
            phase("No cache", 0, database=(100, 0.05)),
            warm,
            phase("Redis killed", 2, l1=(50, 2e-6), loader=(50, 0.02)),
        ],
        stampedes=[Stampede(readers=1_000, loads=1, seconds=0.04, errors=0)],
        marks=[(22.0, "SIGKILL")],
        bound=2.0,
        margin=0.5,
        setting=[("Machine", "2 cores <& more>")],
        caveats=["One machine runs everything."],
        finished="2026-11-23 05:38 UTC",
    )


@pytest.fixture
def with_pages(results: Results) -> Results:
    """The same run with the chapter about HTTP."""
    cached = phase(CACHED, 1, l1=(150, 2e-4), l2=(30, 8e-4), loader=(20, 3e-3))
    cached.tally.not_modified = 50
    cached.tally.busy_ms = 2_500
    killed = phase(KILLED, 2, l1=(90, 2e-4))
    cached.tally.old_other.add(0.01)
    killed.tally.old_other.add(1.5)
    results.pages = Pages(
        phases=[phase(PLAIN, 0, loader=(100, 2e-3)), cached, killed],
        stampedes=[Stampede(readers=300, loads=1, seconds=0.04, errors=0)],
        changes=[Change(own=0.001, others=(0.002, 0.012), own_old=0, others_old=7)],
        marks=[(21.0, "SIGKILL")],
        bound=2.0,
        margin=0.5,
    )
    return results


def test_report_is_well_formed_with_one_chart_of_each_kind(results: Results) -> None:
    """The page parses as XML, and its structure is the one the documentation describes."""
    page = ET.fromstring(_report.render(results))

    assert [heading.text for heading in page.iter("h2")] == [
        "Requests per second",
        "Statements per second",
        "Latency by the tier that answered",
        "Who answered",
        "A stampede on one cold key",
        "How old the old reads were",
        "All phases",
        "The classical figures, restated",
        "How it was measured",
    ]
    assert len(list(page.iter("svg"))) == 6
    phases, restated = (len(list(table.iter("tr"))) for table in page.iter("table"))
    assert phases == 1 + len(results.phases)
    assert restated == 1 + len(claims(results))


def test_report_headlines_are_the_measured_figures(results: Results) -> None:
    """The figures on top are those of the run."""
    page = ET.fromstring(_report.render(results))

    figures = [item.text for item in page.iter("p") if item.get("class") == "figure"]

    assert figures == ["90 %", "1.0\N{MULTIPLICATION SIGN}", "2 µs", "1", "0", "0"]


def test_chapter_about_http_has_figures_pictures_and_a_table(with_pages: Results) -> None:
    """All in a section of its own, each figure that of the run."""
    page = ET.fromstring(_report.render(with_pages))

    (chapter,) = (each for each in page.iter("section") if each.get("class") == "chapter")

    figures = [item.text for item in chapter.iter("p") if item.get("class") == "figure"]
    rows = [
        [cell.text for cell in row]
        for row in chapter.iter("tr")
        if row.findtext("th") in (PLAIN, CACHED)
    ]
    assert figures == ["2.0\N{MULTIPLICATION SIGN}", "90 %", "0.10", "1", "2.04 ms", "0"]
    assert [chart.findtext("title") for chart in chapter.iter("svg")] == [
        "Pages per second",
        "Latency of pages",
        "Who answered with a page",
    ]
    assert [[row[1], *row[3:]] for row in rows] == [
        ["10", "\N{EN DASH}", "\N{EN DASH}", "100 %", "0 %", "1.00", "0"],
        ["20", "75 %", "15 %", "10 %", "25 %", "0.10", "0"],
    ]


def test_terminal_tells_the_same_as_the_chapter(with_pages: Results) -> None:
    """Its sentences and its rows."""
    page = ET.fromstring(_report.render(with_pages))
    console = Console(file=StringIO(), width=400, record=True)
    console.print(summary(with_pages))
    printed = console.export_text()

    (chapter,) = (each for each in page.iter("section") if each.get("class") == "chapter")
    told = [line.text or "" for line in chapter.iter("li")]

    assert [line for line in told if line not in printed] == []
    assert "sent 0 old pages; the others showed it within 2.04 ms" in " ".join(told)
    assert "1 of 300, by 10 ms at most, with Redis killed 1 of 90, by 1.5 s at most." in " ".join(
        told
    )
    assert "and sent 7 old ones until then" in " ".join(told)
    assert "The clients took 25 % of the one core" in " ".join(told)
    for name in (PLAIN, CACHED, KILLED):
        assert printed.count(name) == 2


@pytest.mark.parametrize(
    ("loads", "words"),
    [([1, 1], "ran once each time;"), ([1, 3], "ran once, 3 times;")],
)
def test_runs_of_the_application_are_told(
    with_pages: Results, loads: list[int], words: str
) -> None:
    """Rounds that differ are told one by one."""
    assert with_pages.pages is not None
    with_pages.pages.stampedes = [Stampede(9, loads=each, seconds=0.1, errors=0) for each in loads]

    assert words in _pages_words.sentences(with_pages.pages)[0]


def test_chapter_without_a_kill_has_no_stray_parts() -> None:
    """Nor is anything divided by what was not measured."""
    results = Results(pages=Pages(phases=[phase(PLAIN, 0, loader=(3, 2e-3))]))

    page = _report.render(results)

    assert "SIGKILL" not in page
    assert "Pages over HTTP" in page
    assert "Pages over HTTP" not in _report.render(Results())


def test_report_needs_nothing_from_outside_and_runs_nothing(with_pages: Results) -> None:
    """No script, no handler, no address: the file can be opened anywhere."""

    class Reader(HTMLParser):
        names: ClassVar[set[str]] = set()

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            Reader.names.update({tag}, (name for name, _ in attrs))

    page = _report.render(with_pages)
    Reader().feed(page)

    assert not Reader.names & {"script", "link", "img", "iframe", "href", "src", "object"}
    assert not [name for name in Reader.names if name.startswith("on")]
    assert not re.search(r"https?:|//|@import|url\((?!#)", page)


def test_every_chart_is_described_in_words(with_pages: Results) -> None:
    """Who cannot see a chart can hear its figures."""
    page = ET.fromstring(_report.render(with_pages))

    for chart in page.iter("svg"):
        assert chart.get("role") == "img"
        assert re.search(r"\d", chart.findtext("desc") or "")


def test_report_and_terminal_show_each_verdict(results: Results) -> None:
    """The small run has no reports, so the claim about them fails, where everybody sees it."""
    page = ET.fromstring(_report.render(results))
    console = Console(file=StringIO(), width=80, record=True)
    console.print(summary(results))

    rows = [row for table in list(page.iter("table"))[1:] for row in table.iter("tr")][1:]
    shown = [[cell.text for cell in row.iter("td")] for row in rows]
    printed = console.export_text()

    assert shown == [[c.requirement, c.figure, c.verdict] for c in claims(results)]
    assert [verdict for _, _, verdict in shown].count("FAILS") == 1
    assert printed.count(" holds ") == len(shown) - 1
    assert printed.count(" FAILS ") == 1


def test_text_from_outside_is_escaped(results: Results) -> None:
    """A machine's name cannot become markup."""
    assert "2 cores &lt;&amp; more&gt;" in _report.render(results)


def test_report_of_a_run_without_a_kill_has_no_stray_charts() -> None:
    """Phases that did not run leave no empty card and break nothing."""
    uncached = phase("No cache", 0, database=(3, 0.05))
    page = _report.render(Results(phases=[uncached], bound=2.0, margin=0.5))

    assert "SIGKILL" not in page
    assert len(list(ET.fromstring(page).iter("svg"))) == 4


def test_errors_are_summed_over_phases_and_stampedes(results: Results) -> None:
    """An error that any caller saw is in the sentence below the table."""
    results.phases[0].tally.fail(OSError())
    results.stampedes.append(Stampede(readers=10, loads=1, seconds=0.1, errors=2))

    assert "Errors seen by callers: 3." in sentences(results)


def test_bound_is_marked_among_the_ages(results: Results) -> None:
    """What was queued stands in the same chart, in a colour of its own."""
    page = ET.fromstring(_report.render(results))

    (chart,) = (
        each for each in page.iter("svg") if each.findtext("title") == "How old the old reads were"
    )

    assert "staleness_bound 2 s" in [text.text for text in chart.iter("text")]
    assert sorted(bar.get("class", "") for bar in chart.iter("rect")) == ["fill-old", "fill-queued"]


def test_sentences_tell_of_the_bound_the_queue_and_the_bus(results: Results) -> None:
    """Each has its line."""
    told = " ".join(sentences(results))

    assert "past the bound of 2 s, with 0.5 s for a busy machine: 0." in told
    assert "queued, Redis being down: 7." in told
    assert "up to 5 ms at the median and more than 2.5 s at most" in told


@pytest.mark.parametrize(
    ("loads", "words"),
    [
        ([1], "cost 1 load;"),
        ([1, 1, 1], "cost 1 load in each of 3 rounds;"),
        ([1, 2], "cost 1, 2 loads in 2 rounds;"),
    ],
)
def test_cost_of_stampedes_is_told_in_words(results: Results, loads: list[int], words: str) -> None:
    """Rounds that cost the same are told together, others one by one."""
    results.stampedes = [Stampede(10, loads=each, seconds=0.1, errors=0) for each in loads]

    assert words in sentences(results)[0]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "\N{EN DASH}"),
        (1.9e-6, "1.9 µs"),
        (4.68e-4, "468 µs"),
        (0.0513, "51.3 ms"),
        (2.0, "2 s"),
    ],
)
def test_durations_have_the_unit_that_fits(seconds: float, words: str) -> None:
    """Durations are read, not calculated with."""
    assert duration(seconds) == words


def test_only_all_is_a_hundred_per_cent() -> None:
    """A share is never rounded up to something that was not reached."""
    assert [percent(share) for share in (0.0, 0.99999, 1.0)] == ["0 %", "99.9 %", "100 %"]


def test_nothing_measured_is_not_an_error() -> None:
    """An empty tally has shares and quantiles of nothing."""
    assert (Tally().share("l1"), Tally().old_share) == (0.0, 0.0)
