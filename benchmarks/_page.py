"""The figures of a run as one HTML page with charts, which needs nothing beside it."""

import math
from collections.abc import Iterable, Mapping
from html import escape
from itertools import groupby
from typing import Any, Final

from async_tiercache_integrations.cli.demo._charts import tag, text
from benchmarks import _table

WIDTH: Final = 760
_LEFT: Final = 330
_RIGHT: Final = WIDTH - 60
_ROW: Final = 30

_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --quiet: #68707c; --line: #d9dee5;
  --paper: #fff; --good: #1f7a8c; --bad: #b5452c; --best: #9aa3ae; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --quiet: #9aa3ae; --line: #39414d;
  --paper: #14181f; --good: #58b5c9; --bad: #e2795f; --best: #68707c; } }
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 800px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.1rem; margin: 2.5rem 0 0; }
p, figcaption { color: var(--quiet); margin: .2rem 0 .6rem; }
figure { margin: 0; overflow-x: auto; }
svg { width: 100%; min-width: 560px; height: auto; display: block; }
text { font: 12px system-ui, sans-serif; fill: var(--ink); }
.quiet { fill: var(--quiet); } .grid { stroke: var(--line); } .bar { stroke: var(--ink);
  stroke-width: 2; } .within { stroke: var(--good); fill: var(--good); }
.beyond { stroke: var(--bad); fill: var(--bad); } .other { fill: var(--best); stroke: var(--best); }
.span { stroke-width: 3; }
"""


def page(
    machine: Mapping[str, Any], benches: Mapping[str, tuple[str, list[dict[str, Any]]]]
) -> str:
    """Return the page.

    Args:
        machine: What was measured on.
        benches: By name, the question and the results.
    """
    parts = [f"<h1>Benchmarks</h1><p>{'<br>'.join(map(escape, _lines(machine)))}</p>"]
    for name, (question, results) in benches.items():
        parts.append(f"<h2>{escape(name)}</h2><p>{escape(question)}</p>")
        parts += _figures(results)
    head = '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
    title = f"<title>Benchmarks of async-tiercache</title><style>{_STYLE}</style>"
    body = "".join(parts)
    return f'<!doctype html><html lang="en"><head>{head}{title}</head><body>{body}</body></html>\n'


def picture(results: list[dict[str, Any]]) -> str:
    """Return a chart of ratios that stands by itself."""
    drawn, space = _ratios(results), 'xmlns="http://www.w3.org/2000/svg" '
    style = tag("style", _STYLE)
    inside = drawn.index(">") + 1
    return f"<svg {space}{drawn[5:inside]}{style}{drawn[inside:]}\n"


def _lines(machine: Mapping[str, Any]) -> list[str]:
    return _table.machine_line(dict(machine)).splitlines()


def _figures(results: list[dict[str, Any]]) -> Iterable[str]:
    """Yield a chart for each kind of results that there is."""
    timed = [result for result in results if isinstance(result.get("ratio"), dict)]
    for floor, group in groupby(timed, key=lambda result: result["floor_name"]):
        yield _figure(_ratios(list(group)), f"Times the floor: {floor}. Less is better.")
    if shares := [result for result in results if "shares" in result]:
        yield _figure(
            _shares(shares), "Reads that memory answers; ours, LRU, and the best there is."
        )
    if claims := [result for result in results if "restated" in result]:
        yield "<ul>" + "".join(f"<li>{escape(_claim(claim))}</li>" for claim in claims) + "</ul>"


def _figure(drawn: str, caption: str) -> str:
    return f"<figure>{drawn}<figcaption>{escape(caption)}</figcaption></figure>"


def _ratios(results: list[dict[str, Any]]) -> str:
    """Draw each ratio with its ends on a logarithmic axis, and the bar it is held against."""
    ends = [value for each in results for value in (each["ratio"]["min"], each["ratio"]["max"])]
    ends += [each["bar"] for each in results if each["bar"]]
    low = min(0, math.floor(math.log10(max(min(ends), 1e-3))))
    high = max(1, math.ceil(math.log10(max(ends))))

    def x(ratio: float) -> float:
        share = (math.log10(max(ratio, 10.0**low)) - low) / (high - low)
        return _LEFT + share * (_RIGHT - _LEFT)

    grouped = len({result["group"] for result in results}) > 1
    bottom = 24 + _ROW * len(results)
    parts = [_upright(x(10.0**power), f"{10.0**power:g}", bottom) for power in range(low, high + 1)]
    for number, result in enumerate(results):
        y, ratio = 34 + _ROW * number, result["ratio"]
        kind = {True: "within", False: "beyond", None: "other"}[result["passed"]]
        parts.append(text(_label(result, grouped=grouped), _LEFT - 12, y + 4, "end"))
        spread = {"x1": x(ratio["min"]), "x2": x(ratio["max"]), "y1": y, "y2": y}
        parts.append(tag("line", **spread, class_=f"span {kind}"))
        parts.append(tag("circle", cx=x(ratio["median"]), cy=y, r=5, class_=kind))
        if result["bar"] is not None:
            at = x(result["bar"])
            parts.append(tag("line", x1=at, x2=at, y1=y - 9, y2=y + 9, class_="bar"))
        parts.append(text(f"{ratio['median']:.2f}", _RIGHT + 14, y + 4))
    return _svg(bottom + 22, parts)


def _label(result: Mapping[str, Any], *, grouped: bool) -> str:
    """Return what a row is called: with its group, where there are several."""
    label: str = result.get("label") or f"{result['case']} ({result['clock']})"
    return f"{result['group']}: {label}" if grouped and "label" not in result else label


def _shares(rows: list[dict[str, Any]]) -> str:
    """Draw what share of the reads is answered, between LRU and the best."""

    def x(share: float) -> float:
        return _LEFT + share * (_RIGHT - _LEFT)

    bottom = 24 + _ROW * len(rows)
    parts = [_upright(x(share / 4), f"{25 * share} %", bottom) for share in range(5)]
    for number, row in enumerate(rows):
        y, ours = 34 + _ROW * number, row["shares"]["ours"]
        parts.append(text(f"{row['trace']}, {row['size']:,} entries", _LEFT - 12, y + 4, "end"))
        ends = {"x1": x(row["shares"]["LRU"]), "x2": x(row["best"]), "y1": y, "y2": y}
        parts.append(tag("line", **ends, class_="span other"))
        parts.append(tag("circle", cx=x(ours), cy=y, r=5, class_="within"))
        parts.append(text(f"{100 * ours:.1f} %", _RIGHT + 14, y + 4))
    return _svg(bottom + 22, parts)


def _upright(x: float, label: str, bottom: float) -> str:
    line = tag("line", x1=x, x2=x, y1=16, y2=bottom, class_="grid")
    return line + text(label, x, bottom + 16, "middle", "quiet")


def _svg(height: float, parts: Iterable[str]) -> str:
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {height:.0f}", role="img")


def _claim(claim: Mapping[str, Any]) -> str:
    verdict = "holds" if claim["passed"] else "fails"
    figures = f"{claim['measured']:.3g} {claim['unit']}, bar {claim['bar']:g}"
    return f"{claim['restated']}: {figures}; {verdict}"
