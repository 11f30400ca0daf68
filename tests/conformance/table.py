"""What a run has found, as text and as a part of a page."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.conformance.suite import Case, Kind, Result
from tests.conformance.verdict import Expected, Row

_HEAD = ("section", "required", "optional", "checks, yes")
_KINDS: tuple[Kind, ...] = ("required", "optimal", "check")


def text_of(rows: Iterable[Row]) -> str:
    """Return the table for a terminal."""
    lines = [_HEAD, *map(_cells, rows)]
    width = max(len(first) for first, *_ in lines)
    return "\n".join(
        f"{first:{width}}" + "".join(f"{cell:>13}" for cell in rest) for first, *rest in lines
    )


def put_into(page: Path, of: str, part: str) -> None:
    """Replace what a page says of a profile and a state of the suite, between its two markers."""
    begin, end = f"<!-- {of} -->\n", f"<!-- end of {of} -->\n"
    before, _, rest = page.read_text().partition(begin)
    _, found, after = rest.partition(end)
    assert found, f"{page} has no {begin.strip()} with its end"
    page.write_text(f"{before}{begin}{part}{end}{after}")


def markdown_of(
    rows: Iterable[Row],
    cases: Iterable[Case],
    results: Mapping[str, Result],
    expected: Expected,
) -> str:
    """Return the table, and why some tests do not pass."""
    missed = {
        case.name: expected.missed.get(case.name, "")
        for case in cases
        if case.kind == "optimal" and results[case.name].outcome != "passed"
    }
    lines = [_line(_HEAD), "| --- | ---: | ---: | ---: |", *(_line(_cells(row)) for row in rows)]
    lines += ["", *_reasons("required tests that do not pass", expected.excused)]
    lines += ["", *_reasons("optional tests that do not pass", missed)]
    return "\n".join([*lines, ""])


def _reasons(head: str, by_name: Mapping[str, str]) -> list[str]:
    names: dict[str, list[str]] = {}
    for name, why in by_name.items():
        names.setdefault(why, []).append(f"`{name}`")
    told = [_line((", ".join(of), why)) for why, of in names.items()]
    return [_line((head, "why")), "| --- | --- |", *told]


def _cells(row: Row) -> tuple[str, ...]:
    counts = (
        f"{row.passed[kind]} / {row.there[kind]}" if row.there[kind] else "" for kind in _KINDS
    )
    return (row.section, *counts)


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
