"""The report: one HTML file with nothing outside it, in light and dark, wide and narrow.

It is written so that it parses as XML too, and needs no script.
"""

from collections.abc import Iterable
from html import escape
from importlib.resources import files
from typing import Final

from async_tiercache_integrations.cli.demo import _charts
from async_tiercache_integrations.cli.demo._charts import LABELS, tag
from async_tiercache_integrations.cli.demo._claims import COMMAND, ELSEWHERE, Claim, claims
from async_tiercache_integrations.cli.demo._measure import ANSWERERS, Results
from async_tiercache_integrations.cli.demo._method import NOT_PROMISED
from async_tiercache_integrations.cli.demo._pages_section import section
from async_tiercache_integrations.cli.demo._parts import card, keys, table, tile
from async_tiercache_integrations.cli.demo._summary import cells, sentences
from async_tiercache_integrations.cli.demo._wording import duration, percent

_COLUMNS: Final = (
    "Phase",
    "requests/s",
    "from L1",
    "from L2",
    "L1, p50 / p99",
    "L2, p50 / p99",
    "database, p50 / p99",
    "statements/s",
    "saved",
    "errors",
)


def render(results: Results) -> str:
    """Return the whole page."""
    style = (
        files("async_tiercache_integrations.cli.demo")
        .joinpath("report.css")
        .read_text(encoding="utf-8")
    )
    head = tag(
        "head",
        '<meta charset="utf-8"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        '<meta name="color-scheme" content="light dark"/>',
        tag("title", "tiercache demo"),
        tag("style", style),
    )
    body = tag("body", _header(results), tag("main", *_sections(results)), _footer(results))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _header(results: Results) -> str:
    machine = next((value for name, value in results.setting if name == "Machine"), "")
    return tag(
        "header",
        tag("p", "tiercache demo", class_="eyebrow"),
        tag("h1", "The same shop, without and with the cache"),
        tag("p", escape(f"{results.finished} · {machine}"), class_="muted"),
    )


def _sections(results: Results) -> Iterable[str]:
    yield tag("section", *_headlines(results), class_="tiles", aria_label="Headline figures")
    yield tag("section", *_cards(results), class_="cards", aria_label="Charts")
    yield tag(
        "section",
        tag("h2", "All phases"),
        table("All phases", _COLUMNS, map(cells, results.phases)),
        tag("ul", *(tag("li", escape(line)) for line in sentences(results))),
    )  # fmt: skip
    if results.pages is not None:
        yield section(results.pages)
    if restated := claims(results):
        yield tag("section", *_restated(restated))
    yield tag("section", *_method(results))


def _headlines(results: Results) -> Iterable[str]:
    warm, uncached = results.phase("Warm"), results.phase("No cache")
    if warm is not None:
        if (saved := results.database_time_saved) is not None:
            yield tile(percent(saved), "less database time per request",
                        f"and {percent(warm.saved)} of the statements saved, warm")  # fmt: skip
        else:
            yield tile(percent(warm.saved), "of the statements saved", "warm, against no cache")
    if warm is not None and uncached is not None:
        before, after = (phase.tally.requests / phase.seconds for phase in (uncached, warm))
        yield tile(f"{after / before:.1f}\N{MULTIPLICATION SIGN}", "the requests served",
                    f"{before:,.0f} → {after:,.0f} a second, same users")  # fmt: skip
        medians = [
            duration(histogram.quantile(0.5))
            for histogram in (warm.tally.latency["l1"], warm.tally.latency["l2"])
        ]
        slow = duration(uncached.tally.latency["database"].quantile(0.5))
        yield tile(
            medians[0], "a read from L1, median", f"{medians[1]} from L2, {slow} without a cache"
        )
    if results.stampedes:
        most = max(stampede.loads for stampede in results.stampedes)
        slowest = max(stampede.seconds for stampede in results.stampedes)
        yield tile(f"{most}", "load per stampede" if most == 1 else "loads per stampede",
                    f"of {results.stampedes[0].readers:,} readers; all served in"
                    f" {duration(slowest)}")  # fmt: skip
    yield tile(f"{results.errors:,}", "errors seen by callers",
                "while Redis was killed, too" if results.marks else "in all phases")  # fmt: skip
    old = results.cached
    ages = f", by {duration(old.old_other.highest)} at most" if old.old_other.count else ""
    yield tile(f"{old.past_bound:,}", f"reads past the bound of {results.bound:g} s",
                f"{percent(old.old_share)} of reads older than an update{ages}")  # fmt: skip


def _cards(results: Results) -> Iterable[str]:
    yield card(
        "Requests per second",
        "What users got. The number of users and their pauses are the same in all phases.",
        _charts.time_chart(
            results.phases,
            results.marks,
            "Requests per second",
            lambda point: point.requests,
            "requests",
        ),
    )
    yield card(
        "Statements per second",
        "What the database had to do for it.",
        _charts.time_chart(
            results.phases,
            results.marks,
            "Statements per second",
            lambda point: point.statements,
            "statements",
        ),
    )
    compared = [phase for name in ("No cache", "Warm") if (phase := results.phase(name))]
    yield card(
        "Latency by the tier that answered",
        "From the median (large dot) to the 99th percentile (small dot), warm; logarithmic.",
        _charts.latency_chart(compared),
    )
    yield card("Who answered", _legend(), _charts.share_chart(results.phases), raw=True)
    if results.stampedes:
        first = results.stampedes[0]
        most = max(stampede.loads for stampede in results.stampedes)
        yield card(
            "A stampede on one cold key",
            f"{first.readers:,} readers at the same moment in three processes, each a dot."
            f" The filled ones reached the database: {most}.",
            _charts.stampede_chart(first.readers, most),
        )
    total = results.cached
    if total.checked:
        yield card(
            "How old the old reads were",
            keys(
                ("old", f"missed what was acknowledged: {total.old_other.count:,}"),
                ("queued", f"missed what Redis had not confirmed: {total.old_queued.count:,}"),
            ),
            _charts.age_chart(total.old_other, total.old_queued, results.bound),
            raw=True,
        )


def _legend() -> str:
    return keys(*((name, LABELS[name]) for name in ANSWERERS))


def _restated(restated: Iterable[Claim]) -> Iterable[str]:
    yield tag("h2", "The classical figures, restated")
    yield tag(
        "p", "What caching tutorials promise, and what this run measured of it, each against a bar"
        " that it can miss.", class_="muted",
    )  # fmt: skip
    columns = ("Claim", "bar", "measured", "")
    head = tag("tr", *(tag("th", name, scope="col") for name in columns))
    body = tag("tbody", *map(_claim, restated))
    yield tag("div", tag("table", tag("thead", head), body, class_="claims"), class_="scroll")
    yield tag("p", escape(ELSEWHERE), " ", tag("code", COMMAND), ".", class_="muted")


def _claim(claim: Claim) -> str:
    return tag(
        "tr",
        tag("th", escape(claim.classical), tag("span", escape(claim.words)), scope="row"),
        tag("td", escape(claim.requirement)),
        tag("td", escape(claim.figure)),
        tag("td", claim.verdict, class_="held" if claim.holds else "failed"),
    )


def _method(results: Results) -> Iterable[str]:
    yield tag("h2", "How it was measured")
    yield tag(
        "dl",
        *(tag("dt", escape(name)) + tag("dd", escape(value)) for name, value in results.setting),
    )
    yield tag("h3", "Read the figures with care")
    yield tag("ul", *(tag("li", escape(line)) for line in results.caveats))
    yield tag("h3", "What is not promised yet")
    yield tag("ul", *(tag("li", escape(line)) for line in NOT_PROMISED))


def _footer(results: Results) -> str:
    words = f"Made by tiercache demo, {results.finished}. This file needs nothing but itself."
    return tag("footer", tag("p", escape(words), class_="muted"))
