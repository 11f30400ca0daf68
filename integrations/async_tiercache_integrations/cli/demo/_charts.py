"""The charts of the report as inline SVG, without script; colours come from the page's style.

All are drawn 480 units wide: in two columns on a desk, in one on a phone, the text stays legible.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Final, TypeAlias

from async_tiercache_integrations.cli.demo._measure import (
    ANSWERERS,
    Answerer,
    Histogram,
    Phase,
    Point,
)
from async_tiercache_integrations.cli.demo._wording import duration, percent, quantiles

WIDTH: Final = 480.0
_LEFT: Final = 44.0
_RIGHT: Final = 468.0

LABELS: Final[dict[Answerer, str]] = {
    "l1": "L1, this process",
    "l2": "L2, Redis",
    "loader": "loader, database",
    "database": "no cache, database",
}

Scale: TypeAlias = Callable[[float], float]


def tag(name: str, *inside: str, **attributes: str | float) -> str:
    """Return an element; an underscore in an attribute's name stands for a hyphen or nothing."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for key, value in attributes.items()
    )
    return f"<{name}{given}>{''.join(inside)}</{name}>" if inside else f"<{name}{given}/>"


def text(words: str, x: float, y: float, anchor: str = "start", class_: str = "label") -> str:
    """Return words at a place."""
    return tag("text", escape(words), x=x, y=y, text_anchor=anchor, class_=class_)


def linear(low: float, high: float, start: float, end: float) -> Scale:
    """Return the scale that maps low..high to start..end."""
    span = (high - low) or 1
    return lambda value: start + (value - low) / span * (end - start)


def ticks(highest: float, count: int = 4) -> list[float]:
    """Return round numbers from 0 to at least `highest`, about `count` steps.

    Example:
        >>> ticks(5_600)
        [0.0, 2000.0, 4000.0, 6000.0]
    """
    rough = max(highest, 1e-9) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    return [step * number for number in range(math.ceil(max(highest, 1e-9) / step) + 1)]


def time_chart(
    phases: Sequence[Phase],
    marks: Sequence[tuple[float, str]],
    title: str,
    value: Callable[[Point], float],
    kind: str,
) -> str:
    """Draw a rate over the course of phases, with a band for each of them and a line per mark."""
    top = max((value(point) for phase in phases for point in phase.points), default=1.0)
    grid = ticks(top)
    end = max((phase.began_at + phase.seconds for phase in phases), default=1.0)
    x, y = linear(0, end, _LEFT, _RIGHT), linear(0, grid[-1], 190, 24)
    parts = [_band(phase, number, x) for number, phase in enumerate(phases)]
    parts += [_row(y(tick), short(tick)) for tick in grid]
    for phase in phases:
        if phase.points:
            parts.append(_course(phase, x, y, value, kind))
    for at, what in marks:
        parts.append(tag("line", x1=x(at), x2=x(at), y1=24, y2=190, class_="mark"))
        parts.append(text(what, x(at) + 4, 34, class_="label strong"))
    means = ", ".join(f"{phase.name} {_mean(phase, value):,.0f}" for phase in phases)
    return _svg(220, title, f"Mean per phase: {means}.", parts)


def latency_chart(phases: Sequence[Phase]) -> str:
    """Draw median and 99th percentile of each tier on a logarithmic axis."""
    rows: list[tuple[Answerer, str, Histogram]] = [
        (name, LABELS[name], phase.tally.latency[name])
        for name in ANSWERERS
        for phase in phases
        if phase.tally.latency[name].count
    ]
    return spans_chart("Latency by the tier that answered", rows)


def spans_chart(title: str, rows: Sequence[tuple[Answerer, str, Histogram]]) -> str:
    """Draw median and 99th percentile of durations on a logarithmic axis.

    Args:
        title: What it shows.
        rows: For each line its colour, its name and its durations.
    """
    x = linear(-6, 0, _LEFT - 20, _RIGHT - 16)
    bottom = 22 + 46 * len(rows)
    parts: list[str] = []
    for power, words in zip(range(-6, 1), _POWERS, strict=True):
        parts.append(tag("line", x1=x(power), x2=x(power), y1=10, y2=bottom, class_="grid"))
        parts.append(text(words, x(power), bottom + 16, "middle"))
    for number, (name, label, histogram) in enumerate(rows):
        parts.append(_span(name, label, histogram, 28 + 46 * number, x))
    words = "; ".join(f"{label} {quantiles(histogram)}" for _, label, histogram in rows)
    return _svg(bottom + 26, title, f"p50 and p99: {words}.", parts)


def share_chart(
    phases: Sequence[Phase],
    labels: Mapping[Answerer, str] = LABELS,
    title: str = "Who answered",
) -> str:
    """Draw for each phase which tiers answered its reads."""
    x = linear(0, 1, 112, _RIGHT)
    parts: list[str] = []
    words: list[str] = []
    for number, phase in enumerate(phases):
        y, start = 14 + 36 * number, 0.0
        parts.append(text(phase.name, 104, y + 17, "end"))
        for name in ANSWERERS:
            share = phase.tally.share(name)
            if share:
                parts.append(_piece(name, share, x(start), x(start + share), y))
                words.append(f"{phase.name}: {labels[name]} {percent(share)}")
            start += share
    return _svg(16 + 36 * len(phases), title, f"{'; '.join(words)}.", parts)


def stampede_chart(readers: int, loads: int) -> str:
    """Draw one dot for each reader and fill those that reached the database."""
    columns = 50
    rows = math.ceil(readers / columns)
    step = (WIDTH - 16) / columns
    height = rows * step + 8
    # One pattern instead of a thousand circles.
    pattern = tag(
        "pattern",
        tag("circle", cx=step / 2, cy=step / 2, r=2.6, class_="reader"),
        id="readers", x=8, y=4, width=step, height=step, patternUnits="userSpaceOnUse",
    )  # fmt: skip
    full, rest = divmod(readers, columns)
    parts = [tag("defs", pattern)]
    parts.append(tag("rect", x=8, y=4, width=columns * step, height=full * step, class_="dots"))
    if rest:
        y = 4 + full * step
        parts.append(tag("rect", x=8, y=y, width=rest * step, height=step, class_="dots"))
    for number in range(min(loads, readers)):
        row, column = divmod(number, columns)
        x, y = 8 + (column + 0.5) * step, 4 + (row + 0.5) * step
        parts.append(tag("circle", cx=x, cy=y, r=4.4, class_="fill-loader"))
    words = f"{readers:,} readers, of which {loads} reached the database."
    return _svg(height, "A stampede on one cold key", words, parts)


def age_chart(ages: Histogram, queued: Histogram, bound: float) -> str:
    """Draw how old the old reads were, with the bound.

    Args:
        ages: By what was acknowledged.
        queued: By what was queued only; drawn on top.
        bound: The bound, in seconds.
    """
    highest = max(ages.highest, queued.highest)
    end = max(bound, highest) * 1.1
    below, above = _columns(ages, end), _columns(queued, end)
    grid = ticks(max(map(sum, zip(below, above, strict=True))) or 1.0)
    x, y = linear(0, end, _LEFT, _RIGHT), linear(0, grid[-1], 190, 24)
    parts = [_row(y(tick), short(tick)) for tick in grid]
    width = (x(end) - x(0)) / _AGE_COLUMNS
    for number, (low, high) in enumerate(zip(below, above, strict=True)):
        left = x(number * end / _AGE_COLUMNS) + 1
        for kind, start, value in (("old", 0.0, low), ("queued", low, high)):
            top, foot = y(start + value), y(start)
            if value:
                parts.append(
                    tag("rect", x=left, y=min(top, foot - 1), width=width - 2,
                        height=max(foot - top, 1.0), class_=f"fill-{kind}")
                )  # fmt: skip
    marks = (tick for tick in ticks(end) if tick <= end)
    parts += [text(f"{tick:g} s", x(tick), 208, "middle") for tick in marks]
    parts.append(tag("line", x1=x(bound), x2=x(bound), y1=24, y2=190, class_="mark"))
    side, anchor = (-5, "end") if x(bound) > WIDTH / 2 else (5, "start")
    words = f"staleness_bound {bound:g} s"
    parts.append(text(words, x(bound) + side, 18, anchor, "label strong"))
    words = (
        f"{ages.count:,} reads missed what was acknowledged, by {duration(ages.highest)} at most;"
        f" {queued.count:,} what was queued, by {duration(queued.highest)} at most; the bound is"
        f" {bound:g} s."
    )
    return _svg(216, "How old the old reads were", words, parts)


_AGE_COLUMNS: Final = 20


def _columns(ages: Histogram, end: float) -> list[float]:
    counts = [0.0] * _AGE_COLUMNS
    for low, high, count in ages:
        middle = min(math.sqrt(low * high), ages.highest)
        counts[min(int(middle / end * _AGE_COLUMNS), _AGE_COLUMNS - 1)] += count
    return counts


_POWERS: Final = ("1 µs", "10 µs", "100 µs", "1 ms", "10 ms", "100 ms", "1 s")


def short(value: float) -> str:
    """Return a number in few characters.

    Example:
        >>> short(1_500), short(250), short(2_000_000)
        ('1.5k', '250', '2M')
    """
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:g}"


def _svg(height: float, title: str, description: str, parts: Iterable[str]) -> str:
    return tag(
        "svg", tag("title", escape(title)), tag("desc", escape(description)), *parts,
        viewBox=f"0 0 {WIDTH} {_number(height)}", role="img",
        aria_label=f"{title}. {description}",
    )  # fmt: skip


def _band(phase: Phase, number: int, x: Scale) -> str:
    left, right = x(phase.began_at), x(phase.began_at + phase.seconds)
    middle = (left + right) / 2
    return tag(
        "rect", x=left, y=24, width=right - left, height=166, class_=f"band band-{number % 2}"
    ) + text(phase.name, middle, 208, "middle")


def _row(y: float, words: str) -> str:
    line = tag("line", x1=_LEFT, x2=_RIGHT, y1=y, y2=y, class_="grid")
    return line + text(words, _LEFT - 6, y + 4, "end")


def _course(phase: Phase, x: Scale, y: Scale, value: Callable[[Point], float], kind: str) -> str:
    # The first and the last sample stand for the edges of the phase as well.
    first, last = phase.points[0], phase.points[-1]
    corners = [(phase.began_at, value(first))]
    corners += [(point.at, value(point)) for point in phase.points]
    corners.append((max(phase.began_at + phase.seconds, last.at), value(last)))
    path = " ".join(f"{_number(x(at))},{_number(y(rate))}" for at, rate in corners)
    left, right = _number(x(corners[0][0])), _number(x(corners[-1][0]))
    area = tag("polygon", points=f"{left},190 {path} {right},190", class_=f"area fill-{kind}")
    return area + tag("polyline", points=path, class_=f"line stroke-{kind}")


def _mean(phase: Phase, value: Callable[[Point], float]) -> float:
    return sum(map(value, phase.points)) / len(phase.points) if phase.points else 0.0


def _span(name: Answerer, label: str, histogram: Histogram, y: float, x: Scale) -> str:
    median, high = histogram.quantile(0.5), histogram.quantile(0.99)
    left, right = (x(max(-6.0, min(0.0, math.log10(value)))) for value in (median, high))
    words = f"{label}: p50 {duration(median)}, p99 {duration(high)}"
    # The words begin above the dot, or further left where they would not fit.
    return (
        text(words, min(left - 4, WIDTH - 350), y, class_="label strong")
        + tag("line", x1=left, x2=right, y1=y + 14, y2=y + 14, class_=f"span stroke-{name}")
        + tag("circle", cx=left, cy=y + 14, r=6, class_=f"fill-{name}")
        + tag("circle", cx=right, cy=y + 14, r=3.5, class_=f"fill-{name}")
    )


def _piece(name: Answerer, share: float, left: float, right: float, y: float) -> str:
    piece = tag("rect", x=left, y=y, width=max(0.0, right - left - 1), height=26, rx=2,
                class_=f"fill-{name}")  # fmt: skip
    if right - left < 44:
        return piece
    return piece + text(percent(share), (left + right) / 2, y + 17, "middle", f"on on-{name}")


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
